# Adjoints through a step: cotangents at its start from that of the state at its end.

"""
    Adjoints{T}

Memory for adjoints through steps.
"""
abstract type Adjoints{T} end

"""
    AdjointWork{T}(field, stages)

Memory for adjoints: the longer vectors of `first` and `second`, their values, and the
cotangents of the stages.
"""
struct AdjointWork{T} <: Adjoints{T}
    first_input::Vector{T}
    second_input::Vector{T}
    value::Vector{T}
    k::Matrix{T}
    v::Matrix{T}
end
adjoint_work(field::DifferentiatedField{T}, s::Int) where {T} = AdjointWork{T}(field, s)
function AdjointWork{T}(field::DifferentiatedField{T}, s::Int) where {T}
    n, m = field.states, field.parameters
    second = field.second === nothing ? 0 : field.contracted ? 2n + n^2 : 2n + 2n * s
    return AdjointWork{T}(
        zeros(T, 2n), zeros(T, second), zeros(T, n + m), zeros(T, n, s), zeros(T, n, s))
end

# The gradient of vᵀf in (u, p): its part in u is returned, that in p added.
function first_gradient!(
        work::AdjointWork, field::DifferentiatedField, point, v, p̄, p, t)
    n = field.states
    copyto!(view(work.first_input, 1:n), point)
    copyto!(view(work.first_input, (n + 1):(2n)), v)
    field.first(work.value, work.first_input, p, t)
    add_parameters!(p̄, work.value, n)
    return view(work.value, 1:n)
end

function add_parameters!(p̄, value, n::Int)
    @inbounds @simd for i in eachindex(p̄)
        p̄[i] += value[n + i]
    end
    return nothing
end

# A column of each weight times λ.
function share_out!(columns::Matrix, weights, λ, scale)
    for j in axes(columns, 2), i in axes(columns, 1)
        columns[i, j] = scale * weights[j] * λ[i]
    end
    return nothing
end

function add_to_column!(columns::Matrix, j::Int, weight, x)
    iszero(weight) && return nothing
    for i in axes(columns, 1)
        columns[i, j] += weight * x[i]
    end
    return nothing
end

"""
    pull_step!(λ, p̄, work, stages, field, u, p, t, dt)

From the cotangent `λ` of the state at the end of a step to that at its start; that of the
parameters is added to `p̄`.
"""
function pull_step!(λ, p̄, work::AdjointWork{T}, w::Stages{T, Rosenbrock{T}},
        field::DifferentiatedField{T}, u, p, t, dt) where {T}
    method, n, s = w.method, field.states, stages(w.method)
    share_out!(work.k, method.b, λ, one(T))
    for i in s:-1:1
        v = view(work.v, :, i)
        copyto!(v, view(work.k, :, i))
        solve_transposed!(w.factors[1], v)
        g = first_gradient!(work, field, view(w.points, :, i), v, p̄, p, w.times[i])
        λ .+= g
        times_mass_transposed!(w.rest, field.mass, v)
        for j in 1:(i - 1)
            add_to_column!(work.k, j, method.A[i, j], g)
            add_to_column!(work.k, j, method.C[i, j] / dt, w.rest)
        end
    end
    second_gradient_input!(work, w, field, u, dt)
    field.second(work.value, work.second_input, p, t)
    λ .+= view(work.value, 1:n)
    add_parameters!(p̄, work.value, n)
    return nothing
end

function second_gradient_input!(work::AdjointWork{T}, w::Stages{T},
        field::DifferentiatedField{T}, u, dt) where {T}
    input, n, s = work.second_input, field.states, stages(w.method)
    copyto!(input, 1, u, 1, n)
    if field.contracted
        # Row-major there: G[a, b] = Σᵢ v[a] k[b].
        G = reshape(view(input, (n + 1):(n + n^2)), n, n)
        mul!(G, w.k, transpose(work.v))
    else
        copyto!(input, n + 1, work.v, 1, n * s)
        copyto!(input, n + n * s + 1, w.k, 1, n * s)
    end
    g = view(input, (length(input) - n + 1):length(input))
    fill!(g, zero(T))
    add_columns!(g, work.v, w.method.d, s, dt)
    return nothing
end

function pull_step!(λ, p̄, work::AdjointWork{T}, w::Stages{T, RungeKutta{S, T}},
        field::DifferentiatedField{T}, u, p, t, dt) where {T, S}
    method, s = w.method, stages(w.method)
    share_out!(work.k, method.b, λ, dt)
    for i in s:-1:1
        v = solve_transposed_stage!(w, i, view(work.k, :, i))
        g = first_gradient!(work, field, view(w.points, :, i), v, p̄, p, w.times[i])
        λ .+= g
        for j in 1:(i - 1)
            add_to_column!(work.k, j, dt * method.A[i, j], g)
        end
    end
    return nothing
end
