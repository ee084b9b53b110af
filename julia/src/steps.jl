# The steps of a solve, taken again for their derivatives with the solver's own coefficients.

"""
    RungeKutta{S, T}(A, b, c)

A Runge–Kutta method of stages M kᵢ = f(u + dt Σⱼ aᵢⱼ kⱼ, t + cᵢ dt) by its Butcher tableau:
`S` is `:explicit`, `:diagonal` where A is lower triangular, or `:coupled`.
"""
struct RungeKutta{S, T}
    A::Matrix{T}
    b::Vector{T}
    c::Vector{T}
end

"""
    Rosenbrock{T}(A, C, b, c, d, gamma)

A Rosenbrock method of stages
(M/(γ dt) − J) kᵢ = f(u + Σⱼ aᵢⱼ kⱼ, t + cᵢ dt) + M Σⱼ cᵢⱼ/dt kⱼ + dt dᵢ f_t
(Hairer & Wanner 1996, section IV.7).
"""
struct Rosenbrock{T}
    A::Matrix{T}
    C::Matrix{T}
    b::Vector{T}
    c::Vector{T}
    d::Vector{T}
    gamma::T
end

stages(method::Union{RungeKutta, Rosenbrock}) = length(method.b)

"""
    coefficients(T, algorithm)

The coefficients of the method that an algorithm of Julia's steps by.
"""
function coefficients(::Type{T},
        alg::Union{Rodas4, Rodas42, Rodas4P, Rodas4P2, Rodas5, Rodas5P, Rodas5Pe, Rodas5Pr,
            Rodas6P}) where {T}
    tableau = tabtype(alg)(T, T)
    s = length(tableau.b)
    C = zeros(T, s, s)
    C[:, axes(tableau.C, 2)] .= tableau.C
    return Rosenbrock{T}(tableau.A, C, tableau.b, tableau.c, tableau.d, tableau.gamma)
end

# Shampine and Reichelt 1997, in the form of the others.
function coefficients(::Type{T}, ::Rosenbrock23) where {T}
    γ = T(1 / (2 + sqrt(2)))
    return Rosenbrock{T}([0 0; 1/2γ 0], [0 0; -1/γ 0], [1/γ, 1/γ], [0, 1/2], [γ, 0], γ)
end

function coefficients(::Type{T}, alg::Union{ImplicitEuler, ImplicitMidpoint, KenCarp3,
        KenCarp4, KenCarp5, Kvaerno3, Kvaerno4, Kvaerno5, TRBDF2, Trapezoid}) where {T}
    tableau = ESDIRKIMEXTableau(alg, T, T)
    correct_stage_time!(tableau, alg)
    return RungeKutta{:diagonal, T}(tableau.Ai, tableau.bi, tableau.c)
end

# Collocation at the Radau points (Hairer & Wanner 1996, section IV.5).
radau_points(::RadauIIA3) = big.([1 // 3, 1])
radau_points(::RadauIIA5) = [(4 - sqrt(big(6))) / 10, (4 + sqrt(big(6))) / 10, big(1)]
function coefficients(::Type{T}, alg::Union{RadauIIA3, RadauIIA5}) where {T}
    c = radau_points(alg)
    s = length(c)
    # Σⱼ aᵢⱼ cⱼᵏ⁻¹ = cᵢᵏ / k
    powers = [point^(k - 1) for point in c, k in 1:s]
    A = [c[i]^k / k for i in 1:s, k in 1:s] / powers
    return RungeKutta{:coupled, T}(A, A[end, :], c)
end

const MOST_STAGES = 40

# Explicit methods: what one step does to a field whose value at its j-th call is the j-th
# unit vector is their tableau, to the last bit.
function coefficients(::Type{T}, alg::Union{BS3, DP5, DP8, Euler, Heun, Midpoint, RK4,
        Ralston, Tsit5, Vern6, Vern7, Vern8, Vern9}) where {T}
    points, times = Vector{T}[], T[]
    function probe!(out, u, p, t)
        push!(points, copy(u))
        push!(times, t)
        fill!(out, zero(T))
        out[min(length(points), MOST_STAGES)] = one(T)
        return nothing
    end
    unused!(out, u, p, t) = nothing
    prepared = Prepared(T, model(T, probe!, unused!, unused!), MOST_STAGES, 0)
    solve!(prepared, alg, 0, 1, 0, 0, 1, KEEP_END, 2)
    length(points) < MOST_STAGES || error("$(nameof(typeof(alg))) has too many stages")
    b = prepared.saved_states[:, end]
    # Not the calls that the solution does not depend on.
    used = falses(MOST_STAGES)
    for j in length(points):-1:1
        used[j] = !iszero(b[j]) ||
                  any(i -> used[i] && !iszero(points[i][j]), 1:length(points))
    end
    kept = findall(used)
    A = T[points[i][j] for i in kept, j in kept]
    return RungeKutta{:explicit, T}(A, b[kept], times[kept])
end

function coefficients(::Type, alg)
    throw(ArgumentError("no derivative of a step of $(nameof(typeof(alg))) is known"))
end

"""
    StepField{T}

The functions of an equation, with what the derivative of a step needs of them.
"""
abstract type StepField{T} end

"""
    StepMemory{T}

Memory for the stages of one step at a time.
"""
abstract type StepMemory{T} end

"""
    DifferentiatedField{T, J}(field, jacobian, time_gradient, first, second, mass, states,
        parameters, contracted)

A field with what the derivative of a step needs of it. `first` and `second` are lowered
functions of a longer vector in the place of the state:

  - for tangents, `first` of (u, δu, δp) is J δu + f_p δp, and `second` of
    (u, k, s, δu, δp) the derivative of J k + s f_t along (δu, δp);
  - for adjoints, `first` of (u, v) is the gradient of vᵀf in (u, p), and `second` that of
    Σᵢ vᵢᵀ J kᵢ + gᵀf_t: of (u, V, K, g), or of (u, Σᵢ kᵢ vᵢᵀ, g) where it is `contracted`.

Only Rosenbrock methods need the second ones. The Jacobian is a [`PatternJacobian`](@ref)
where it is sparse, and `nothing` for explicit methods that do without.
"""
struct DifferentiatedField{T, J} <: StepField{T}
    field::VectorFunction{T}
    jacobian::J
    time_gradient::VectorFunction{T}
    first::VectorFunction{T}
    second::Union{Nothing, VectorFunction{T}}
    mass::Union{Nothing, Matrix{T}, SparseMatrixCSC{T, Int}}
    states::Int
    parameters::Int
    contracted::Bool
end
function DifferentiatedField{T}(field, jacobian::J, others...) where {T, J}
    return DifferentiatedField{T, J}(field, jacobian, others...)
end

"""
    Stages(field, method)

Memory for one step at a time: its stages `k`, a column each, the points of the field
`points` and their times, and the factors of the matrices of its linear equations; `spare`
are factors of no use any more, and the rest is scratch.
"""
struct Stages{T, C, J, F} <: StepMemory{T}
    method::C
    k::Matrix{T}
    points::Matrix{T}
    times::Vector{T}
    slope::Vector{T}
    time_slope::Vector{T}
    jacobian::J
    rest::Vector{T}
    base::Vector{T}
    change::Vector{T}
    factors::Vector{F}
    spare::Vector{F}
end
function Stages(field::DifferentiatedField{T}, method::C) where {T, C}
    n, s = field.states, stages(method)
    jacobian, F = matrix_memory(field, field.jacobian)
    return Stages{T, C, typeof(jacobian), F}(method, zeros(T, n, s), zeros(T, n, s),
        zeros(T, s), zeros(T, n), zeros(T, n), jacobian, zeros(T, n), zeros(T, n),
        zeros(T, n), F[], F[])
end

# Memory for a Jacobian, and the type of the factors that are made of it.
function matrix_memory(field::DifferentiatedField{T}, ::MatrixFunction{T}) where {T}
    return zeros(T, field.states, field.states), LU{T, Matrix{T}, Vector{Int64}}
end
matrix_memory(::DifferentiatedField, jacobian::PatternJacobian) = copy(jacobian.pattern),
SparseFactors
matrix_memory(::DifferentiatedField, ::Nothing) = nothing, Nothing

step_memory(field::DifferentiatedField, method) = Stages(field, method)
mass_of(field::DifferentiatedField) = field.mass

# M x, into `out`, which is not x.
times_mass!(out, mass::Nothing, x) = copyto!(out, x)
times_mass!(out, mass::AbstractMatrix, x) = mul!(out, mass, x)
times_mass_transposed!(out, mass::Nothing, x) = copyto!(out, x)
times_mass_transposed!(out, mass::AbstractMatrix, x) = mul!(out, transpose(mass), x)

# The inverse of M times x, in x.
divide_by_mass!(x, mass::Nothing) = x
divide_by_mass!(x, mass::Matrix) = ldiv!(lu(mass), x)
divide_by_mass!(x, mass::SparseMatrixCSC) = solve_linear!(
    SparseFactors(SparseMatrixCSC{Float64, Int}(mass)), x)

# scale M − share J, factored, with the Jacobian that is in `w`.
factored(w::StepMemory, field::StepField, scale, share) = factored(
    field, w.jacobian, scale, share)
function factored(w::Stages{T, C, <:SparseMatrixCSC}, field::DifferentiatedField{T}, scale,
        share) where {T, C}
    reused = !isempty(w.spare)
    factors = reused ? pop!(w.spare) : nothing
    matrix = reused ? factors.matrix : SparseMatrixCSC{Float64, Int}(w.jacobian)
    W, J, M = nonzeros(matrix), nonzeros(w.jacobian), field.jacobian.mass
    @inbounds @simd for k in eachindex(W, J, M)
        W[k] = scale * M[k] - share * J[k]
    end
    return reused ? factor_again!(factors) : SparseFactors(matrix)
end

# Let factors go that are of no use any more, to be taken over by the next ones.
retire!(w::StepMemory, factors) = nothing
retire!(w::Stages{T, C, <:SparseMatrixCSC}, factors) where {T, C} = push!(w.spare, factors)
function retire_all!(w::StepMemory)
    foreach(factors -> retire!(w, factors), w.factors)
    empty!(w.factors)
    return nothing
end

# Of a dense Jacobian.
function factored(field::StepField{T}, jacobian::Matrix{T}, scale, share) where {T}
    W, mass = Matrix{T}(undef, size(jacobian)), mass_of(field)
    if mass === nothing
        for i in eachindex(W)
            W[i] = -share * jacobian[i]
        end
        for i in axes(W, 1)
            W[i, i] += scale
        end
    else
        W .= scale .* mass .- share .* jacobian
    end
    return lu!(W)
end

function add_columns!(out, columns::Matrix, weights, count::Int, scale)
    for j in 1:count
        weight = scale * weights[j]
        iszero(weight) && continue
        for i in eachindex(out)
            out[i] += weight * columns[i, j]
        end
    end
    return out
end

"""
    load_step!(stages, batch, index, m)

Get ready for step `m` of a trajectory: along a Brownian path by its increments.
"""
load_step!(w::Stages, batch, index, m) = nothing

"""
    take_step!(stages, field, u, p, t, dt)

Compute the stages of a step again, and what linear equations their derivatives solve.
"""
function take_step!(w::Stages{T, Rosenbrock{T}}, field::DifferentiatedField{T}, u, p, t,
        dt) where {T}
    method = w.method
    field.jacobian(w.jacobian, u, p, t)
    field.time_gradient(w.time_slope, u, p, t)
    retire_all!(w)
    push!(w.factors, factored(w, field, inv(method.gamma * dt), one(T)))
    for i in 1:stages(method)
        point, k = view(w.points, :, i), view(w.k, :, i)
        copyto!(point, u)
        add_columns!(point, w.k, view(method.A, i, :), i - 1, one(T))
        w.times[i] = t + method.c[i] * dt
        copyto!(w.rest, point)
        field.field(w.slope, w.rest, p, w.times[i])
        fill!(w.rest, zero(T))
        add_columns!(w.rest, w.k, view(method.C, i, :), i - 1, inv(dt))
        times_mass!(k, field.mass, w.rest)
        for l in eachindex(k)
            k[l] += w.slope[l] + dt * method.d[i] * w.time_slope[l]
        end
        solve_linear!(w.factors[1], k)
    end
    return nothing
end

function take_step!(w::Stages{T, RungeKutta{:explicit, T}}, field::DifferentiatedField{T},
        u, p, t, dt) where {T}
    method = w.method
    for i in 1:stages(method)
        copyto!(w.rest, u)
        add_columns!(w.rest, w.k, view(method.A, i, :), i - 1, dt)
        copyto!(view(w.points, :, i), w.rest)
        w.times[i] = t + method.c[i] * dt
        field.field(w.slope, w.rest, p, w.times[i])
        copyto!(view(w.k, :, i), w.slope)
    end
    return nothing
end

"""
    end_state!(out, stages, u, dt)

The state at the end of the step whose stages were computed.
"""
function end_state!(out, w::Stages{T, C}, u, dt) where {T, C}
    copyto!(out, u)
    scale = C <: Rosenbrock ? one(T) : dt
    return add_columns!(out, w.k, w.method.b, stages(w.method), scale)
end
