# Sparse linear equations by GMRES with a preconditioner, for large systems whose factors
# fill in.

"""
    PreconditionedGMRES(make, rtol = 1.0e-8, atol = [0.0])

GMRES for the sparse matrices of an implicit method, preconditioned from the right by
`make(B)`, of which `ldiv!` of a vector is all that is asked. `rtol` and `atol` are the
tolerances of the solve, `atol` one number or one a state.

`B` is the matrix in units of its own: the unknowns in those of the tolerances at the
present state, each equation divided by its largest entry, with the sign that makes the
diagonal positive. So neither iteration nor preconditioner depends on the units of the
states, and residuals are errors as the solve weighs them.
"""
struct PreconditionedGMRES{F} <: SciMLLinearSolveAlgorithm
    make::F
    rtol::Float64
    atol::Vector{Float64}
end
PreconditionedGMRES(make) = PreconditionedGMRES(make, 1.0e-8, [0.0])

LinearSolve.needs_concrete_A(::PreconditionedGMRES) = true

# How far the residual falls, as a share of the relative tolerance of the solve; between
# these. Beyond some two hundred iterations, the vectors take more than the factors would.
const RESIDUAL_SHARE, TIGHTEST_RESIDUAL, LOOSEST_RESIDUAL = 0.1, 1.0e-12, 1.0e-3
const GMRES_ITERATIONS = 200

"""
    EquilibratedSystem(A)

A sparse matrix in units of its own, see [`PreconditionedGMRES`](@ref), and the cache of
the iteration on it, which there is from the first solve on.
"""
mutable struct EquilibratedSystem{T}
    matrix::SparseMatrixCSC{T, Int}
    rows::Vector{T}
    columns::Vector{T}
    iteration::Any
end
function EquilibratedSystem(A::SparseMatrixCSC{T}) where {T}
    n = size(A, 1)
    return EquilibratedSystem{T}(copy(A), ones(T, n), ones(T, n), nothing)
end

function LinearSolve.init_cacheval(::PreconditionedGMRES, A, b, u, Pl, Pr, maxiters::Int,
        abstol, reltol, verbose, assumptions)
    return EquilibratedSystem(A)
end

function SciMLBase.solve!(cache::LinearCache, method::PreconditionedGMRES; kwargs...)
    system = cache.cacheval
    if cache.isfresh
        state = cache.p isa Tuple ? cache.p[2] : cache.u
        equilibrate!(system, cache.A, state, method)
        cache.isfresh = false
        solved = all(isfinite, nonzeros(system.matrix)) && (renew!(system, method); true)
    else
        solved = system.iteration !== nothing
    end
    solved = solved && iterate!(cache.u, system, system.iteration, cache.b)
    # A step of which a stage is not solved fails the error control, and is taken shorter.
    solved || fill!(cache.u, convert(eltype(cache.u), NaN))
    code = solved ? ReturnCode.Success : ReturnCode.MaxIters
    return SciMLBase.build_linear_solution(
        method, cache.u, nothing, nothing; retcode = code)
end

function equilibrate!(system::EquilibratedSystem{T}, A, state, method) where {T}
    (; matrix, rows, columns) = system
    size(matrix) == size(A) && nnz(matrix) == nnz(A) ||
        throw(ArgumentError("the matrix has another pattern than that of the first solve"))
    # After a step that failed it is no state: the units before will do.
    all(isfinite, state) && units!(columns, state, method)
    entries, given = nonzeros(matrix), nonzeros(A)
    fill!(rows, zero(T))
    for j in axes(matrix, 2), k in nzrange(matrix, j)
        entries[k] = given[k] * columns[j]
        i = rowvals(matrix)[k]
        rows[i] = max(rows[i], abs(entries[k]))
    end
    rows .= ifelse.(rows .> 0, inv.(rows), one(T))
    for j in axes(matrix, 2), k in nzrange(matrix, j)
        i = rowvals(matrix)[k]
        i == j && entries[k] < 0 && (rows[i] = -rows[i])
    end
    for j in axes(matrix, 2), k in nzrange(matrix, j)
        entries[k] *= rows[rowvals(matrix)[k]]
    end
    return nothing
end

function units!(columns::Vector{T}, state, method) where {T}
    several = length(method.atol) > 1
    # In fixed steps both are zero: units are then those of the state itself.
    fixed = method.rtol == 0 && all(iszero, method.atol)
    rtol = fixed ? 1.0 : method.rtol
    for j in eachindex(columns)
        atol = method.atol[several ? j : 1]
        columns[j] = T(atol + rtol * abs(state[j]))
    end
    # Nothing says what is small of a state that is zero, and may have any relative error.
    typical = maximum(columns; init = zero(T))
    replace!(columns, zero(T) => typical > 0 ? typical : one(T))
    return nothing
end

# Make the preconditioner of a matrix that has changed.
function renew!(system::EquilibratedSystem{T}, method) where {T}
    if system.iteration === nothing
        precs = (B, p) -> (LinearAlgebra.I, Preconditioner{T}(method.make, B))
        n = size(system.matrix, 1)
        share = RESIDUAL_SHARE * method.rtol
        reltol = clamp(share, max(TIGHTEST_RESIDUAL, 4 * eps(T)), LOOSEST_RESIDUAL)
        system.iteration = SciMLBase.init(
            SciMLBase.LinearProblem(system.matrix, zeros(T, n); u0 = zeros(T, n)),
            KrylovJL_GMRES(; precs); abstol = zero(T), reltol = T(reltol),
            maxiters = min(GMRES_ITERATIONS, n),
            alias = SciMLBase.LinearAliasSpecifier(; alias_A = true, alias_b = true),
            verbose = false)
    else
        system.iteration.A = system.matrix
    end
    return nothing
end

# Behind a barrier: the compiler sees the type of the iteration.
function iterate!(u, system, iteration, b)
    (; rows, columns) = system
    iteration.b .= rows .* b
    fill!(iteration.u, false)
    solution = SciMLBase.solve!(iteration)
    u .= columns .* solution.u
    return SciMLBase.successful_retcode(solution.retcode) && all(isfinite, u)
end

"""
    Preconditioner{T}(make, B)

A preconditioner of any type, that all have one type here. Made of `B`, and tried on a
vector of ones.
"""
struct Preconditioner{T}
    inverse::Any
    function Preconditioner{T}(make, B) where {T}
        inverse, trial = tried(make, B, ones(T, size(B, 1)))
        all(isfinite, trial) || throw(ArgumentError(broken_down("it is not finite")))
        return new{T}(inverse)
    end
end

function tried(make, B, trial)
    try
        inverse = make(B)
        return inverse, divided!(trial, inverse)
    catch error
        error isa LinearAlgebra.SingularException ||
            error isa LinearAlgebra.ZeroPivotException || rethrow()
        throw(ArgumentError(broken_down(sprint(showerror, error))))
    end
end

broken_down(reason) = "the preconditioner broke down: $reason; take another one, or " *
                      "leave `preconditioner` out for a factorization"

Base.eltype(::Preconditioner{T}) where {T} = T
LinearAlgebra.ldiv!(y, P::Preconditioner, x) = (copyto!(y, x); divided!(y, P.inverse))
LinearAlgebra.ldiv!(P::Preconditioner, x) = divided!(x, P.inverse)
divided!(x, inverse) = (ldiv!(inverse, x); x)

"""
    SubdomainFactors(B, size = 32)

Block Jacobi: the factors of dense diagonal blocks of `B`, each of states that are
neighbours in its graph, up to `size` of them.
"""
struct SubdomainFactors{T}
    blocks::Vector{Vector{Int}}
    factors::Vector{LU{T, Matrix{T}, Vector{Int}}}
    part::Vector{T}
end
function SubdomainFactors(B::SparseMatrixCSC{T}, size::Integer = 32) where {T}
    blocks = subdomains(B, Int(size))
    within = zeros(Int, Base.size(B, 1))
    factors = map(blocks) do block
        within[block] .= eachindex(block)
        dense = zeros(T, length(block), length(block))
        for (column, j) in enumerate(block), k in nzrange(B, j)
            row = within[rowvals(B)[k]]
            row > 0 && (dense[row, column] = nonzeros(B)[k])
        end
        within[block] .= 0
        lu!(dense)
    end
    return SubdomainFactors{T}(blocks, factors, zeros(T, Int(size)))
end
function LinearAlgebra.ldiv!(P::SubdomainFactors, x::AbstractVector)
    for (block, factors) in zip(P.blocks, P.factors)
        part = view(P.part, eachindex(block))
        copyto!(part, view(x, block))
        ldiv!(factors, part)
        x[block] .= part
    end
    return x
end

# States gathered by breadth-first searches, each until a block is full.
function subdomains(B::SparseMatrixCSC, size::Int)
    n = Base.size(B, 1)
    taken, blocks = falses(n), Vector{Int}[]
    for seed in 1:n
        taken[seed] && continue
        block, next = [seed], 1
        taken[seed] = true
        while next <= length(block) && length(block) < size
            for k in nzrange(B, block[next])
                i = rowvals(B)[k]
                (taken[i] || length(block) == size) && continue
                taken[i] = true
                push!(block, i)
            end
            next += 1
        end
        push!(blocks, block)
    end
    return blocks
end

"""
    preconditioner(name, parameter)

What makes the preconditioner of a matrix: `"ilu"`, an incomplete factorization that drops
entries below `parameter`, by IncompleteLU; `"multigrid"`, a cycle of algebraic multigrid
(Ruge & Stüben), by AlgebraicMultigrid; `"block-jacobi"`, see [`SubdomainFactors`](@ref),
with blocks of `parameter` states; `"#12"`, the function that the host refers to.
"""
function preconditioner(name::AbstractString, parameter::Real)
    startswith(name, '#') && return referred(parse(Int, name[2:end]))
    name == "block-jacobi" && return B -> SubdomainFactors(B, round(Int, parameter))
    if name == "ilu"
        incomplete = packaged("IncompleteLU", :ilu)
        return B -> Base.invokelatest(incomplete, B; τ = parameter)
    elseif name == "multigrid"
        levels = packaged("AlgebraicMultigrid", :ruge_stuben)
        cycle = packaged("AlgebraicMultigrid", :aspreconditioner)
        return B -> Base.invokelatest(cycle, Base.invokelatest(levels, B))
    end
    throw(ArgumentError("no preconditioner $name; there are ilu, multigrid, block-jacobi"))
end

packaged(package, name) = Base.invokelatest(getfield, required(package), name)

"""
    with_tolerances(algorithm, rtol, atol)

The algorithm, whose linear solver knows the tolerances of the solve.
"""
function with_tolerances(algorithm, rtol, atol)
    hasfield(typeof(algorithm), :linsolve) || return algorithm
    return retoleranced(algorithm, algorithm.linsolve, rtol, atol)
end
retoleranced(algorithm, linear, rtol, atol) = algorithm
function retoleranced(algorithm, linear::PreconditionedGMRES, rtol, atol)
    tolerances = atol isa Real ? [Float64(atol)] : Vector{Float64}(atol)
    linsolve = PreconditionedGMRES(linear.make, Float64(rtol), tolerances)
    return SciMLBase.remake(algorithm; linsolve)
end
