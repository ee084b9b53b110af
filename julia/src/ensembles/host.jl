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
    share_array!(run, name, address, dims...)

Let `run` use an array of the host, which keeps it alive and does not move it.
"""
function share_array!(run::EnsembleRun, name::AbstractString, address::Integer,
        dims::Integer...)
    field = Symbol(name)
    type = fieldtype(typeof(run), field)
    memory = Ptr{eltype(type)}(UInt(address))
    setfield!(run, field, unsafe_wrap(Array, memory, Int.(dims)))
    return nothing
end

"""
    set_chunk!(run, trajectories)

How many trajectories are taken up, and reduced, together.
"""
function set_chunk!(run::EnsembleRun, trajectories::Integer)
    run.chunk = trajectories
    return nothing
end

"""
    use_areas!(run)

Give the solves the space-time Lévy areas of their paths.
"""
function use_areas!(run::EnsembleRun)
    run.with_areas = true
    return nothing
end

"""
    trajectories_done(run)

How many trajectories are finished.
"""
trajectories_done(run::EnsembleRun) = run.done[]
