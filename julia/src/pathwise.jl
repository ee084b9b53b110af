# Steps along a Brownian path, taken again with the solver's own coefficients.

# What a stage of the diffusion is multiplied with in a step of length h: the increment ΔW,
# I₍₁,₀₎/h, √h, I₍₁,₁₎/√h and I₍₁,₁,₁₎/h (Rößler 2010). Methods that treat the columns of a
# matrix one by one have two integrals more for each, √h eⱼ and (I₍ᵢ,ⱼ₎)ᵢ/√h.
const INCREMENT, TIME_INTEGRAL, ROOT, SECOND, THIRD = 1:5
root(j) = THIRD + 2j - 1
second(j) = THIRD + 2j

"""
    PathScheme{T}(drift, c, A, terms, columns, ito)

A Runge–Kutta method along a Brownian path. Stage `i` is the drift, where `drift[i]`, or the
diffusion at

    uᵢ = u + h Σⱼ aᵢⱼ fⱼ + Σ w gⱼ I,  tᵢ = t + cᵢ h,

where the second sum is over the `terms` (i, j, I, w), and I the number of an integral. The
state at the end is one row more. Only drifts may have aᵢᵢ. `columns` is the number of
columns that are treated one by one, and `ito` whether I₍₁,₁₎ is Itô's.
"""
struct PathScheme{T}
    drift::Vector{Bool}
    c::Vector{T}
    A::Matrix{T}
    terms::Vector{Tuple{Int, Int, Int, T}}
    columns::Int
    ito::Bool
end
function PathScheme{T}(drift, c, A::Vector, terms::Vector; columns = 0,
        ito = true) where {T}
    A = [(i, j, T(a)) for (i, j, a) in A if !iszero(a)]
    terms = [(i, j, integral, T(weight)) for (i, j, integral, weight) in terms
             if !iszero(weight)]
    # Without the stages that nothing depends on.
    end_row = length(c) + 1
    used_rows = [end_row]
    for j in length(c):-1:1
        depends = any(entry -> entry[2] == j && entry[1] in used_rows, [A; terms])
        depends && pushfirst!(used_rows, j)
    end
    index_of = Dict(row => k for (k, row) in enumerate(used_rows))
    stages = used_rows[1:(end - 1)]
    matrix = zeros(T, length(used_rows), length(stages))
    for (i, j, a) in A
        i in used_rows && (matrix[index_of[i], index_of[j]] = a)
    end
    terms = [(index_of[i], index_of[j], integral, weight)
             for (i, j, integral, weight) in terms if i in used_rows]
    return PathScheme{T}(drift[stages], c[stages], matrix, terms, columns, ito)
end

stages(scheme::PathScheme) = length(scheme.c)

"""
    path_scheme(T, algorithm, columns)

The scheme that an algorithm of StochasticDiffEq steps by, with a diffusion of so many
columns; zero for a vector.
"""
path_scheme(::Type, algorithm, columns) = throw(ArgumentError(
    "no derivative of a step of $(nameof(typeof(algorithm))) is known"))

"""
    PathField{T, O}(drift, jacobian, diffusion, drift_product, diffusion_product, states,
        columns, parameters)

Drift and diffusion, with what the derivative of a step needs of them; `columns` is zero
for a diffusion that is a vector. The products are lowered functions of a longer vector in
the place of the state: for tangents of (u, δu, δp), J δu + f_p δp of either function; for
adjoints of (u, v), the gradient of vᵀf in (u, p).
"""
struct PathField{T, O} <: StepField{T}
    field::VectorFunction{T}
    jacobian::MatrixFunction{T}
    diffusion::InPlaceFunction{T, O}
    drift_product::VectorFunction{T}
    diffusion_product::VectorFunction{T}
    states::Int
    columns::Int
    parameters::Int
end
mass_of(::PathField) = nothing
fixed_operands(::PathField) = LEVY_AREAS

# How many numbers the diffusion has, and how many Brownian motions multiply them.
noise_size(field::PathField) = field.states * max(field.columns, 1)
motions(field::PathField) = field.columns == 0 ? field.states : field.columns

"""
    PathStages{T, O}

Memory for one step at a time: the `values` of its stages, a column each, their `points`
and times, the factors of the matrices of its linear equations, and the `weights` that
a stage of the diffusion has in a later one; the rest is scratch.
"""
struct PathStages{T, O} <: StepMemory{T}
    method::PathScheme{T}
    values::Matrix{T}
    points::Matrix{T}
    times::Vector{T}
    weights::Array{T, 3}
    used::Matrix{Bool}
    integrals::Matrix{T}
    increments::Vector{T}
    areas::Vector{T}
    output::O
    slope::Vector{T}
    jacobian::Matrix{T}
    rest::Vector{T}
    base::Vector{T}
    change::Vector{T}
    factors::Vector{LU{T, Matrix{T}, Vector{Int64}}}
    factor_of::Vector{Int}
end
function step_memory(field::PathField{T, O}, scheme::PathScheme{T}) where {T, O}
    n, s, m = field.states, stages(scheme), motions(field)
    used = falses(s + 1, s)
    for (i, j, _, _) in scheme.terms
        used[i, j] = true
    end
    output = O === Vector{T} ? zeros(T, n) : zeros(T, n, m)
    return PathStages{T, O}(scheme, zeros(T, noise_size(field), s), zeros(T, n, s),
        zeros(T, s), zeros(T, m, s + 1, s), used, zeros(T, m, THIRD + 2scheme.columns),
        zeros(T, m), zeros(T, m), output, zeros(T, n), zeros(T, n, n), zeros(T, n),
        zeros(T, n), zeros(T, n), LU{T, Matrix{T}, Vector{Int64}}[], zeros(Int, s))
end

# The increments and areas of step `m`; one Brownian motion may drive all components.
function load_step!(w::PathStages{T}, batch, index, m) where {T}
    grid = columns(batch.inputs[STEPS], batch, index, 1)
    m < length(grid) || throw(DerivativeError(
        "solve: derivatives go along the steps of the path's grid, of which there are " *
        "$(length(grid) - 1); the solve took more."))
    steps = length(grid) - 1
    w.increments .= view(columns(batch.inputs[NOISE], batch, index, steps), :, m)
    areas = batch.inputs[LEVY_AREAS]
    if areas.count > 0
        w.areas .= view(columns(areas, batch, index, steps), :, m)
    end
    return nothing
end

function weigh!(w::PathStages{T}, h) where {T}
    scheme, integrals, dW = w.method, w.integrals, w.increments
    one_of = scheme.ito ? h : zero(T)
    for i in eachindex(dW)
        integrals[i, INCREMENT] = dW[i]
        integrals[i, TIME_INTEGRAL] = dW[i] / 2 + w.areas[i]
        integrals[i, ROOT] = sqrt(h)
        integrals[i, SECOND] = (dW[i]^2 - one_of) / (2 * sqrt(h))
        integrals[i, THIRD] = (dW[i]^3 - 3 * h * dW[i]) / (6 * h)
        for j in 1:(scheme.columns)
            integrals[i, root(j)] = (i == j) * sqrt(h)
            integrals[i, second(j)] = (dW[i] * dW[j] - (i == j) * one_of) / (2 * sqrt(h))
        end
    end
    fill!(w.weights, zero(T))
    for (i, j, integral, weight) in scheme.terms
        for l in axes(integrals, 1)
            w.weights[l, i, j] += weight * integrals[l, integral]
        end
    end
    return nothing
end

# `add(l, k, j, a)` for each number `a` that number `k` of stage `j` has in component `l` of
# the point of a row.
@inline function each_weight(add::F, w::PathStages, n::Int, row::Int, h) where {F}
    scheme = w.method
    for j in 1:min(row - 1, stages(scheme))
        if scheme.drift[j]
            a = h * scheme.A[row, j]
            iszero(a) && continue
            for l in 1:n
                add(l, l, j, a)
            end
        elseif w.used[row, j]
            # The numbers of a vector have a weight each; a column of a matrix has one.
            single = w.output isa Vector
            for q in (single ? (1:1) : axes(w.weights, 1)), l in 1:n

                add(l, (q - 1) * n + l, j, w.weights[single ? l : q, row, j])
            end
        end
    end
    return nothing
end

# Add what the stages before a row give to its point, of their values or the tangents of
# these.
function add_stages!(x, values, w::PathStages, row::Int, h)
    each_weight(w, length(x), row, h) do l, k, j, a
        x[l] += a * values[k, j]
    end
    return x
end

function take_step!(w::PathStages{T}, field::PathField{T}, u, p, t, h) where {T}
    scheme, n, point = w.method, field.states, w.rest
    weigh!(w, h)
    empty!(w.factors)
    fill!(w.factor_of, 0)
    for i in 1:stages(scheme)
        w.times[i] = t + scheme.c[i] * h
        copyto!(w.base, u)
        add_stages!(w.base, w.values, w, i, h)
        copyto!(point, w.base)
        value = view(w.values, 1:n, i)
        if !scheme.drift[i]
            field.diffusion(w.output, point, p, w.times[i])
            copyto!(view(w.values, :, i), w.output)
        elseif iszero(scheme.A[i, i])
            field.field(w.slope, point, p, w.times[i])
            copyto!(value, w.slope)
        else
            field.field(w.slope, point, p, w.times[i])
            copyto!(value, w.slope)
            solve_stages!(w, field, value, u, p, t, h * scheme.A[i, i], i)
            w.factor_of[i] = length(w.factors)
        end
        copyto!(view(w.points, :, i), point)
    end
    return nothing
end

function end_state!(out, w::PathStages, u, h)
    copyto!(out, u)
    return add_stages!(out, w.values, w, stages(w.method) + 1, h)
end

"""
    PathTangents{T}

Memory for tangents: the longer vector of the products with the tangent of the parameters
in it, and the tangents of the stages.
"""
struct PathTangents{T} <: Tangents{T}
    input::Vector{T}
    drift::Vector{T}
    diffusion::Vector{T}
    direction::Vector{T}
    values::Matrix{T}
end
function tangent_work(field::PathField{T}, s::Int) where {T}
    n = field.states
    return PathTangents{T}(zeros(T, 2n + field.parameters), zeros(T, n),
        zeros(T, noise_size(field)), zeros(T, n), zeros(T, noise_size(field), s))
end

function along_parameters!(work::PathTangents, δp)
    copyto!(work.input, length(work.input) - length(δp) + 1, δp, 1, length(δp))
    return nothing
end

function push_step!(δ, work::PathTangents{T}, w::PathStages{T}, field::PathField{T}, u, p,
        t, h) where {T}
    scheme, n, input = w.method, field.states, work.input
    for i in 1:stages(scheme)
        copyto!(work.direction, δ)
        add_stages!(work.direction, work.values, w, i, h)
        copyto!(view(input, 1:n), view(w.points, :, i))
        copyto!(view(input, (n + 1):(2n)), work.direction)
        if scheme.drift[i]
            field.drift_product(work.drift, input, p, w.times[i])
            w.factor_of[i] == 0 || ldiv!(w.factors[w.factor_of[i]], work.drift)
            copyto!(view(work.values, 1:n, i), work.drift)
        else
            field.diffusion_product(work.diffusion, input, p, w.times[i])
            copyto!(view(work.values, :, i), work.diffusion)
        end
    end
    add_stages!(δ, work.values, w, stages(scheme) + 1, h)
    return nothing
end

"""
    PathAdjoints{T}

Memory for adjoints: the longer vectors of the products, their values, and the cotangents
of the stages.
"""
struct PathAdjoints{T} <: Adjoints{T}
    drift_input::Vector{T}
    diffusion_input::Vector{T}
    value::Vector{T}
    cotangent::Vector{T}
    values::Matrix{T}
end
function adjoint_work(field::PathField{T}, s::Int) where {T}
    n, size = field.states, noise_size(field)
    return PathAdjoints{T}(zeros(T, 2n), zeros(T, n + size),
        zeros(T, n + field.parameters), zeros(T, n), zeros(T, size, s))
end

# The transpose of `add_stages!`.
function share_stages!(values, λ, w::PathStages, row::Int, h)
    each_weight(w, length(λ), row, h) do l, k, j, a
        values[k, j] += a * λ[l]
    end
    return nothing
end

function pull_step!(λ, p̄, work::PathAdjoints{T}, w::PathStages{T}, field::PathField{T}, u,
        p, t, h) where {T}
    scheme, n, s = w.method, field.states, stages(w.method)
    fill!(work.values, zero(T))
    share_stages!(work.values, λ, w, s + 1, h)
    for i in s:-1:1
        input = scheme.drift[i] ? work.drift_input : work.diffusion_input
        copyto!(view(input, 1:n), view(w.points, :, i))
        v = view(input, (n + 1):length(input))
        copyto!(v, view(work.values, eachindex(v), i))
        if scheme.drift[i]
            w.factor_of[i] == 0 || ldiv!(transpose(w.factors[w.factor_of[i]]), v)
            field.drift_product(work.value, input, p, w.times[i])
        else
            field.diffusion_product(work.value, input, p, w.times[i])
        end
        add_parameters!(p̄, work.value, n)
        copyto!(work.cotangent, view(work.value, 1:n))
        λ .+= work.cotangent
        share_stages!(work.values, work.cotangent, w, i, h)
    end
    return nothing
end

"""
    shared_path_derivative(element, reverse, drift, jacobian, diffusion, drift_product,
        diffusion_product, states, columns, parameters, algorithm, strict)

The [`SharedDerivative`](@ref) of solves with an algorithm in fixed steps along a Brownian
path: the adjoint with `reverse`, else the tangent.
"""
function shared_path_derivative(element::AbstractString, reverse::Bool, drift, jacobian,
        diffusion, drift_product, diffusion_product, states::Integer, columns::Integer,
        parameters::Integer, algorithm, strict::Bool)
    T = element_type(element)
    O = columns == 0 ? Vector{T} : Matrix{T}
    field = PathField{T, O}(VectorFunction{T}(drift), MatrixFunction{T}(jacobian),
        InPlaceFunction{T, O}(diffusion), VectorFunction{T}(drift_product),
        VectorFunction{T}(diffusion_product), Int(states), Int(columns), Int(parameters))
    return SharedDerivative(reverse ? adjoint_work : tangent_work, field,
        path_scheme(T, algorithm, Int(columns)), DifferentiatedEvent{T}[], strict)
end

HOST_FUNCTIONS["shared_path_derivative"] = shared_path_derivative
