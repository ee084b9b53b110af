"""
    StepMap(T, f, states, parameters, motions)

The step of a scheme as one function: `f(out, u, p, t)` writes the state, and the tangent
vectors along it, one step after `u`. The last `motions` + 1 parameters are the length
of the step and the Brownian increments.

The host writes `start`, `parameters` and, for a path of its own, `increments`.
"""
mutable struct StepMap{T}
    const f::VectorFunction{T}
    const start::Vector{T}
    const parameters::Vector{T}
    const report::Report
    const motions::Int
    increments::Matrix{T}
    growth::Union{Nothing, GrowthRates{T}}
end
function StepMap(::Type{T}, f, states::Integer, parameters::Integer,
        motions::Integer) where {T}
    return StepMap{T}(VectorFunction{T}(f), zeros(T, states), zeros(T, parameters),
        Report(), motions, zeros(T, motions, 0), nothing)
end

"""
    resize_increments!(map, steps)

Make room for a path of so many steps; returns the matrix for the host to fill, with a
column a step.
"""
function resize_increments!(map::StepMap{T}, steps::Integer) where {T}
    return map.increments = zeros(T, map.motions, steps)
end

"""
    grow_map!(map, count, t0, interval, steps, first, intervals, key_high, key_low, chain)

As [`grow!`](@ref), in `steps` steps of the map an interval, along the path of the host
where there is one, else along that of a key and a chain.
"""
function grow_map!(map::StepMap{T}, count::Int, t0::Real, interval::Real, steps::Int,
        first::Int, intervals::Int, key_high::Int, key_low::Int, chain::Int) where {T}
    growth = GrowthRates{T}(count, intervals)
    key = (key_high % UInt32, key_low % UInt32)
    source = Increments{T}(key, UInt64(chain), map.increments, zeros(T, 0, 0))
    u, qr = copy(map.start), QRWorkspace{T}(length(map.start) ÷ (count + 1), count)
    u = grow_map!(growth, qr, u, map, source, T(t0), T(interval), steps, first)
    copyto!(map.start, u)
    report!(map.report, growth)
    map.growth = growth
    return nothing
end

function grow_map!(growth::GrowthRates{T}, qr::QRWorkspace{T}, u::Vector{T},
        map::StepMap{T}, source::Increments{T}, t0::T, interval::T, steps::Int, first::Int) where {T}
    watch, next, p, f = Watch(), similar(u), map.parameters, map.f
    step = interval / steps
    numbers, areas = zeros(T, map.motions, steps), zeros(T, 0, 0)
    offset = length(p) - map.motions
    p[offset] = step
    for index in first:(first + size(growth.logs, 2) - 1)
        read_interval!(numbers, areas, source, index, step)
        start = t0 + T(index) * interval
        for s in 1:steps
            @inbounds for j in 1:(map.motions)
                p[offset + j] = numbers[j, s]
            end
            f(next, u, p, start + (s - 1) * step)
            u, next = next, u
        end
        growth.steps += steps
        if poll!(watch, start)
            growth.code = INTERRUPTED
            break
        end
        close_interval!(growth, qr, u) || break
    end
    return u
end
