# What the host language calls: plain arguments in, arrays by their addresses.

"""
    ensemble_run(T, states, motions, steps, t0, t1, key0, key1)

An [`EnsembleRun`](@ref) with the two words of its key.
"""
function ensemble_run(::Type{T}, states::Integer, motions::Integer, steps::Integer,
        t0::Real, t1::Real, key0::Integer, key1::Integer) where {T}
    run = EnsembleRun(T, states, motions, steps, t0, t1)
    run.key = (key0 % UInt32, key1 % UInt32)
    return run
end

"""
    give!(run, name, address, dims...)

Let `run` use an array of the host, which keeps it alive and does not move it.
"""
function give!(run::EnsembleRun, name::AbstractString, address::Integer, dims::Integer...)
    field = Symbol(name)
    type = fieldtype(typeof(run), field)
    memory = Ptr{eltype(type)}(UInt(address))
    setfield!(run, field, unsafe_wrap(Array, memory, Int.(dims)))
    return nothing
end

"""
    set_radius!(run, radius)

The distance from the origin beyond which a trajectory is outside.
"""
function set_radius!(run::EnsembleRun{T}, radius::Real) where {T}
    run.radius = T(radius)
    return nothing
end

"""
    want_areas!(run)

Give the solves the space-time Lévy areas of their paths.
"""
function want_areas!(run::EnsembleRun)
    run.with_areas = true
    return nothing
end

"""
    reduce!(run, moments, covariance, higher, extrema)

What to reduce the trajectories to, beside histograms.
"""
function reduce!(run::EnsembleRun{T}, moments::Bool, covariance::Bool, higher::Bool,
        extrema::Bool) where {T}
    run.reductions.has_moments = moments
    run.reductions.has_extrema = extrema
    run.reductions.moments = Moments{T}(run.states, 0, covariance, higher)
    return nothing
end

"""
    add_edges!(run, edges)

Count the next component in a histogram with these edges, ascending.
"""
function add_edges!(run::EnsembleRun{T}, edges) where {T}
    push!(run.reductions.edges, Vector{T}(edges))
    return nothing
end

"""
    trajectories_done(run)

How many trajectories are finished.
"""
trajectories_done(run::EnsembleRun) = run.done[]
