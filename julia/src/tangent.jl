# Tangents through a step: the derivative of the state at its end along one at its start.

"""
    Tangents{T}

Memory for tangents through steps.
"""
abstract type Tangents{T} end

"""
    TangentWork{T}(field, stages)

Memory for tangents: the longer vectors of `first` and `second`, with the tangent of the
parameters in them, and the tangents of the stages.
"""
struct TangentWork{T} <: Tangents{T}
    first_input::Vector{T}
    second_input::Vector{T}
    value::Vector{T}
    direction::Vector{T}
    k::Matrix{T}
end
tangent_work(field::DifferentiatedField{T}, s::Int) where {T} = TangentWork{T}(field, s)
function TangentWork{T}(field::DifferentiatedField{T}, s::Int) where {T}
    n, m = field.states, field.parameters
    return TangentWork{T}(zeros(T, 2n + m), zeros(T, 3n + 1 + m), zeros(T, n),
        zeros(T, n), zeros(T, n, s))
end

# The tangent of the parameters stays the same from step to step.
function along_parameters!(work::TangentWork, δp)
    copyto!(work.first_input, length(work.first_input) - length(δp) + 1, δp, 1, length(δp))
    copyto!(work.second_input, length(work.second_input) - length(δp) + 1, δp, 1,
        length(δp))
    return nothing
end

function first_product!(work::TangentWork, field::DifferentiatedField, point, δ, p, t)
    n = field.states
    copyto!(view(work.first_input, 1:n), point)
    copyto!(view(work.first_input, (n + 1):(2n)), δ)
    field.first(work.value, work.first_input, p, t)
    return work.value
end

"""
    push_step!(δ, work, stages, field, u, p, t, dt)

From the tangent `δ` of the state at the start of a step to that at its end; its stages
were computed by [`take_step!`](@ref).
"""
function push_step!(δ, work::TangentWork{T}, w::Stages{T, Rosenbrock{T}},
        field::DifferentiatedField{T}, u, p, t, dt) where {T}
    method, n = w.method, field.states
    second, direction = work.second_input, work.direction
    copyto!(second, 1, u, 1, n)
    copyto!(second, 2n + 2, δ, 1, n)
    for i in 1:stages(method)
        copyto!(direction, δ)
        add_columns!(direction, work.k, view(method.A, i, :), i - 1, one(T))
        k = view(work.k, :, i)
        fill!(w.rest, zero(T))
        add_columns!(w.rest, work.k, view(method.C, i, :), i - 1, inv(dt))
        times_mass!(k, field.mass, w.rest)
        k .+= first_product!(work, field, view(w.points, :, i), direction, p, w.times[i])
        copyto!(view(second, (n + 1):(2n)), view(w.k, :, i))
        second[2n + 1] = dt * method.d[i]
        field.second(work.value, second, p, t)
        k .+= work.value
        solve_linear!(w.factors[1], k)
    end
    add_columns!(δ, work.k, method.b, stages(method), one(T))
    return nothing
end

function push_step!(δ, work::TangentWork{T}, w::Stages{T, RungeKutta{S, T}},
        field::DifferentiatedField{T}, u, p, t, dt) where {T, S}
    method = w.method
    for i in 1:stages(method)
        k = view(work.k, :, i)
        copyto!(work.direction, δ)
        add_columns!(work.direction, work.k, view(method.A, i, :), i - 1, dt)
        point = view(w.points, :, i)
        copyto!(k, first_product!(work, field, point, work.direction, p, w.times[i]))
        solve_stage!(w, i, k)
    end
    add_columns!(δ, work.k, method.b, stages(method), dt)
    return nothing
end
