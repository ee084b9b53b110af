"""
    Crossing{T}(condition, parameters)

The condition of a terminal event, with parameters of its own.
"""
struct Crossing{T} <: Function
    condition::VectorFunction{T}
    parameters::Vector{T}
    value::Vector{T}
end
function Crossing{T}(condition, parameters) where {T}
    return Crossing{T}(VectorFunction{T}(condition), Vector{T}(parameters), zeros(T, 1))
end
function (crossing::Crossing)(u, t, integrator)
    crossing.condition(crossing.value, u, crossing.parameters, t)
    return crossing.value[1]
end

"""
    Stop(index, fired)

Ends the solve and notes which event did it, counted from zero.
"""
struct Stop <: Function
    index::Int
    fired::Base.RefValue{Int}
end
function (stop::Stop)(integrator)
    stop.fired[] = stop.index
    terminate!(integrator)
    return nothing
end

"""
    Rest{T}(rtol, atol)

Whether the field has died out: |fᵢ| ≤ atol + rtol |uᵢ| in every component.
"""
struct Rest{T} <: Function
    rtol::T
    atol::T
    slope::Vector{T}
end
function (rest::Rest)(u, t, integrator)
    integrator.f(rest.slope, u, integrator.p, t)
    return all(i -> abs(rest.slope[i]) <= rest.atol + rest.rtol * abs(u[i]), eachindex(u))
end

"""
    callbacks(T, events, n, fired)

The callback set of a solve. An event is `(:crossing, condition, parameters, direction)`
with direction +1, −1 or 0 for both, or `(:rest, rtol, atol)`.
"""
function callbacks(::Type{T}, events, n::Int, fired::Base.RefValue{Int}) where {T}
    isempty(events) && return nothing
    made = map(enumerate(events)) do (k, event)
        stop = Stop(k - 1, fired)
        if event[1] === :rest
            rest = Rest{T}(event[2], event[3], zeros(T, n))
            return DiscreteCallback(rest, stop; save_positions = (false, false))
        end
        crossing = Crossing{T}(event[2], event[3])
        up = event[4] >= 0 ? stop : nothing
        down = event[4] <= 0 ? stop : nothing
        return ContinuousCallback(crossing, up, down; save_positions = (false, false))
    end
    return CallbackSet(made...)
end
