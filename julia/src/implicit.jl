# Implicit Runge–Kutta steps: their stages by Newton's iteration, to round-off, and the
# derivatives of these by the implicit function theorem.

# The stages that have no equation to solve come first: they have no factors.
function solve_stage!(w::Stages, i::Int, x)
    implicit = i - stages(w.method) + length(w.factors)
    implicit > 0 && solve_linear!(w.factors[implicit], x)
    return x
end
function solve_transposed_stage!(w::Stages, i::Int, x)
    implicit = i - stages(w.method) + length(w.factors)
    implicit > 0 && solve_transposed!(w.factors[implicit], x)
    return x
end

const MOST_ITERATIONS = 50

# Newton's error after a change is of the order of its square.
function converged(change, scale, point, u)
    T = eltype(point)
    floor = sqrt(eps(T)) * maximum(abs, point)
    tolerance = sqrt(eps(T)) / 10
    return all(eachindex(point)) do i
        abs(scale * change[i]) <= tolerance * (abs(point[i]) + abs(u[i]) + floor)
    end
end

unsolved(t) = throw(DerivativeError(
    "solve: Newton's iteration does not solve the stages of the step from t = $t again, " *
    "as its derivative needs; take a tighter `rtol`, or Rodas5P."))

function take_step!(w::Stages{T, RungeKutta{:diagonal, T}}, field::DifferentiatedField{T},
        u, p, t, dt) where {T}
    method, base, point = w.method, w.base, w.rest
    retire_all!(w)
    for i in 1:stages(method)
        k = view(w.k, :, i)
        w.times[i] = t + method.c[i] * dt
        share = dt * method.A[i, i]
        copyto!(base, u)
        add_columns!(base, w.k, view(method.A, i, :), i - 1, dt)
        copyto!(point, base)
        if iszero(share)
            field.field(w.slope, point, p, w.times[i])
            copyto!(k, w.slope)
        else
            i == 1 ? fill!(k, zero(T)) : copyto!(k, view(w.k, :, i - 1))
            solve_stages!(w, field, k, u, p, t, share, i)
        end
        copyto!(view(w.points, :, i), point)
    end
    return nothing
end

# M k = f(base + share k): leaves the point of the field in `w.rest`.
function solve_stages!(
        w::StepMemory{T}, field::StepField{T}, k, u, p, t, share, i::Int) where {T}
    base, point, change = w.base, w.rest, w.change
    for _ in 1:MOST_ITERATIONS
        point .= base .+ share .* k
        field.field(w.slope, point, p, w.times[i])
        field.jacobian(w.jacobian, point, p, w.times[i])
        times_mass!(change, mass_of(field), k)
        change .= w.slope .- change
        factors = factored(w, field, one(T), share)
        solve_linear!(factors, change)
        retire!(w, factors)
        k .+= change
        if converged(change, share, point, u)
            point .= base .+ share .* k
            field.jacobian(w.jacobian, point, p, w.times[i])
            push!(w.factors, factored(w, field, one(T), share))
            return nothing
        end
    end
    return unsolved(t)
end

function take_step!(w::Stages{T, RungeKutta{:coupled, T}}, field::DifferentiatedField{T},
        u, p, t, dt) where {T}
    method, n, s = w.method, field.states, stages(w.method)
    fill!(w.k, zero(T))
    for i in 1:s
        w.times[i] = t + method.c[i] * dt
    end
    change = zeros(T, n, s)
    retire_all!(w)
    for _ in 1:MOST_ITERATIONS
        factors = factored_stages(w, field, u, p, dt)
        for i in 1:s
            copyto!(w.rest, view(w.points, :, i))
            field.field(w.slope, w.rest, p, w.times[i])
            times_mass!(w.rest, field.mass, view(w.k, :, i))
            view(change, :, i) .= w.slope .- w.rest
        end
        solve_linear!(factors, vec(change))
        retire!(w, factors)
        w.k .+= change
        if all(i -> converged(view(change, :, i), dt, view(w.points, :, i), u), 1:s)
            push!(w.factors, factored_stages(w, field, u, p, dt))
            return nothing
        end
    end
    return unsolved(t)
end

# The Jacobian at the point of a stage, which follows from all stages.
function jacobian_of_stage!(w::Stages, field::DifferentiatedField, u, p, dt, i::Int)
    copyto!(w.rest, u)
    add_columns!(w.rest, w.k, view(w.method.A, i, :), stages(w.method), dt)
    copyto!(view(w.points, :, i), w.rest)
    field.jacobian(w.jacobian, w.rest, p, w.times[i])
    return nothing
end

# The factors of the blocks δᵢⱼ M − dt aᵢⱼ Jᵢ.
function factored_stages(w::Stages{T}, field::DifferentiatedField{T}, u, p, dt) where {T}
    method, n, s = w.method, field.states, stages(w.method)
    matrix = zeros(T, n * s, n * s)
    for i in 1:s
        jacobian_of_stage!(w, field, u, p, dt, i)
        rows = ((i - 1) * n + 1):(i * n)
        for j in 1:s
            block = view(matrix, rows, ((j - 1) * n + 1):(j * n))
            block .= (-dt * method.A[i, j]) .* w.jacobian
            i == j || continue
            if field.mass === nothing
                for l in 1:n
                    block[l, l] += one(T)
                end
            else
                block .+= field.mass
            end
        end
    end
    return lu!(matrix)
end

function factored_stages(w::Stages{T, C, <:SparseMatrixCSC}, field::DifferentiatedField{T},
        u, p, dt) where {T, C}
    method, n, s = w.method, field.states, stages(w.method)
    reused = !isempty(w.spare)
    factors = reused ? pop!(w.spare) : nothing
    matrix = reused ? factors.matrix : stage_pattern(field.jacobian.pattern, s)
    W, J, M = nonzeros(matrix), nonzeros(w.jacobian), field.jacobian.mass
    for i in 1:s
        jacobian_of_stage!(w, field, u, p, dt, i)
        for j in 1:s, column in 1:n
            own = nzrange(w.jacobian, column)
            # Of a column of blocks that of the first comes first.
            before = first(nzrange(matrix, (j - 1) * n + column)) + (i - 1) * length(own) -
                     first(own)
            for k in own
                W[before + k] = (i == j) * M[k] - dt * method.A[i, j] * J[k]
            end
        end
    end
    return reused ? factor_again!(factors) : SparseFactors(matrix)
end

# A pattern in each of s × s blocks.
stage_pattern(pattern::SparseMatrixCSC, s::Int) = kron(
    sparse(ones(s, s)), SparseMatrixCSC{Float64, Int}(pattern))

function push_step!(δ, work::TangentWork{T}, w::Stages{T, RungeKutta{:coupled, T}},
        field::DifferentiatedField{T}, u, p, t, dt) where {T}
    method, s = w.method, stages(w.method)
    for i in 1:s
        point = view(w.points, :, i)
        copyto!(view(work.k, :, i), first_product!(work, field, point, δ, p, w.times[i]))
    end
    solve_linear!(w.factors[1], vec(work.k))
    add_columns!(δ, work.k, method.b, s, dt)
    return nothing
end

function pull_step!(λ, p̄, work::AdjointWork{T}, w::Stages{T, RungeKutta{:coupled, T}},
        field::DifferentiatedField{T}, u, p, t, dt) where {T}
    method, s = w.method, stages(w.method)
    share_out!(work.k, method.b, λ, dt)
    solve_transposed!(w.factors[1], vec(work.k))
    for i in 1:s
        v, point = view(work.k, :, i), view(w.points, :, i)
        λ .+= first_gradient!(work, field, point, v, p̄, p, w.times[i])
    end
    return nothing
end
