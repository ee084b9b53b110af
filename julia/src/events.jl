"""
    Crossing{T}(condition, parameters)

The condition of a terminal event, with as many parameters of its own; the host fills
them in through `parameters`.
"""
struct Crossing{T} <: Function
    condition::VectorFunction{T}
    parameters::Vector{T}
    value::Vector{T}
end
function Crossing{T}(condition, parameters::Integer) where {T}
    return Crossing{T}(VectorFunction{T}(condition), zeros(T, parameters), zeros(T, 1))
end
function (crossing::Crossing)(u, t, integrator)
    crossing.condition(crossing.value, u, crossing.parameters, t)
    return crossing.value[1]
end

"""
    Rest{T}(states)

Whether the field has died out: |fᵢ| ≤ atol + rtol |uᵢ| in every component, with
`parameters` the vector of `rtol` and `atol`.
"""
struct Rest{T} <: Function
    parameters::Vector{T}
    slope::Vector{T}
end
Rest{T}(states::Integer) where {T} = Rest{T}(zeros(T, 2), zeros(T, states))

function (rest::Rest)(u, t, integrator)
    slope!(rest.slope, integrator.f, u, integrator.p, t)
    rtol, atol = rest.parameters
    return all(i -> abs(rest.slope[i]) <= atol + rtol * abs(u[i]), eachindex(u))
end

slope!(slope, f, u::Vector, p, t) = f(slope, u, p, t)
slope!(slope, f, u, p, t) = copyto!(slope, f(u, p, t))

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
    terminal(crossing, direction, stop)
    terminal(rest, direction, stop)

The callback of a terminal event. `direction` is +1 where the condition must rise along
the solve, −1 where it must fall, 0 for both; a state of rest has none.
"""
function terminal(crossing::Crossing, direction::Integer, stop::Stop)
    rising = direction >= 0 ? stop : nothing
    falling = direction <= 0 ? stop : nothing
    return ContinuousCallback(crossing, rising, falling; save_positions = (false, false))
end
function terminal(rest::Rest, direction::Integer, stop::Stop)
    return DiscreteCallback(rest, stop; save_positions = (false, false))
end
