"""
    Crossing{T}(condition, parameters, sign)

The condition of a terminal event, times `sign`, with as many parameters of its own;
the host fills them in through `parameters`.
"""
struct Crossing{T} <: Function
    condition::VectorFunction{T}
    parameters::Vector{T}
    value::Vector{T}
    sign::T
end
function Crossing{T}(condition, parameters::Integer, sign::Integer) where {T}
    return Crossing{T}(
        VectorFunction{T}(condition), zeros(T, parameters), zeros(T, 1), T(sign))
end
function (crossing::Crossing)(u, t, integrator)
    crossing.condition(crossing.value, u, crossing.parameters, t)
    return crossing.sign * crossing.value[1]
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
    derivative!(rest.slope, integrator.f, u, integrator.p, t)
    rtol, atol = rest.parameters
    return all(i -> abs(rest.slope[i]) <= atol + rtol * abs(u[i]), eachindex(u))
end

derivative!(slope, f, u::Vector, p, t) = f(slope, u, p, t)
derivative!(slope, f, u, p, t) = copyto!(slope, f(u, p, t))

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
    terminal(event, both, stop)

The callback of a terminal event: where a [`Crossing`](@ref) rises, or with `both` also
where it falls. (What must fall comes with its sign changed: one type the less to
compile the solvers for.)
"""
function terminal(crossing::Crossing, both::Bool, stop::Stop)
    return ContinuousCallback(
        crossing, stop, both ? stop : nothing; save_positions = (false, false))
end
function terminal(rest::Rest, both::Bool, stop::Stop)
    return DiscreteCallback(rest, stop; save_positions = (false, false))
end
