# Large systems: Jacobians of which only some entries are not zero, and products with
# Jacobians that nobody writes down.

"""
    SparseJacobian(entries)

A Jacobian `f(J, u, p, t)` of whose entries those that `J` stores are written, in its order,
by `entries(values, u, p, t)`.
"""
struct SparseJacobian{F} <: Function
    entries::F
end
function (f::SparseJacobian)(J::SparseMatrixCSC, u, p, t)
    f.entries(nonzeros(J), u, p, t)
    return nothing
end

"""
    JacobianProduct{T}(product)

The product `f(Jv, v, u, p, t)` of a Jacobian with a vector, from `product(Jv, w, p, t)` of
the state and the vector behind it. Threads never share that vector.
"""
struct JacobianProduct{T, F} <: Function
    product::F
    owner::Task
    own::Vector{T}
end
function JacobianProduct{T}(product::F) where {T, F}
    return JacobianProduct{T, F}(product, current_task(), T[])
end
function (f::JacobianProduct{T})(Jv, v, u, p, t) where {T}
    both = if current_task() === f.owner
        f.own
    else
        get!(() -> T[], task_local_storage(), f.own)::Vector{T}
    end
    n = length(u)
    length(both) == 2n || resize!(both, 2n)
    copyto!(both, 1, u, 1, n)
    copyto!(both, n + 1, v, 1, n)
    f.product(Jv, both, p, t)
    return nothing
end

"""
    sparsity_pattern(T, starts, rows)

A matrix that stores the entries of a pattern: those of column `j` are in the rows
`rows[starts[j]:(starts[j + 1] - 1)]`, all counted from zero.
"""
function sparsity_pattern(::Type{T}, starts, rows) where {T}
    n = length(starts) - 1
    return SparseMatrixCSC(n, n, Vector{Int}(starts) .+ 1, Vector{Int}(rows) .+ 1,
        ones(T, length(rows)))
end

"""
    mass_entries(T, n, rows, columns, values)

A mass matrix by its entries, counted from zero.
"""
function mass_entries(::Type{T}, n::Integer, rows, columns, values) where {T}
    return sparse(Vector{Int}(rows) .+ 1, Vector{Int}(columns) .+ 1, Vector{T}(values), n, n)
end

"""
    sparse_model(T, drift, entries, time_gradient, pattern, mass_matrix = nothing;
        specialize = false)

Like [`model`](@ref), of a Jacobian by its entries: see [`sparsity_pattern`](@ref). A mass
matrix is sparse, and stores entries that the pattern has.
"""
function sparse_model(::Type{T}, drift, entries, time_gradient,
        pattern::SparseMatrixCSC{T}, mass_matrix = nothing;
        specialize::Bool = false) where {T}
    wrap = specialize ? identity : VectorFunction{T}
    mass = mass_matrix === nothing ? LinearAlgebra.I : aligned(mass_matrix, pattern)
    return ODEFunction{true, SciMLBase.FullSpecialize}(
        wrap(drift); jac = SparseJacobian(wrap(entries)), tgrad = wrap(time_gradient),
        jac_prototype = pattern, mass_matrix = mass)
end

# The entries of a matrix where a pattern stores them, zeros too: sums with matrices of the
# pattern then keep it.
function aligned(matrix::SparseMatrixCSC{T}, pattern::SparseMatrixCSC{T}) where {T}
    found = copy(pattern)
    fill!(nonzeros(found), zero(T))
    for column in axes(matrix, 2), k in nzrange(matrix, column)
        found[rowvals(matrix)[k], column] = nonzeros(matrix)[k]
    end
    nnz(found) == nnz(pattern) ||
        throw(ArgumentError("the mass matrix has entries that the pattern has not"))
    return found
end

"""
    PatternJacobian{T}(entries, pattern, mass_matrix = nothing)

A Jacobian `f(J, u, p, t)` with the pattern that `J` is to have, and the entries of the mass
matrix, by default the identity, in the order of that pattern.
"""
struct PatternJacobian{T} <: Function
    entries::VectorFunction{T}
    pattern::SparseMatrixCSC{T, Int}
    mass::Vector{T}
    function PatternJacobian{T}(entries, pattern::SparseMatrixCSC{T, Int},
            mass_matrix = nothing) where {T}
        mass = something(mass_matrix, sparse(one(T) * LinearAlgebra.I, size(pattern)...))
        return new{T}(VectorFunction{T}(entries), pattern, nonzeros(aligned(mass, pattern)))
    end
end
function (f::PatternJacobian)(J::SparseMatrixCSC, u, p, t)
    f.entries(nonzeros(J), u, p, t)
    return nothing
end

"""
    SparseFactors(matrix)

The factors of a sparse matrix and of its transpose, by UMFPACK, which computes in double
precision; [`factor_again!`](@ref) takes over memory and symbolic analysis.
"""
struct SparseFactors
    matrix::SparseMatrixCSC{Float64, Int}
    lu::UmfpackLU{Float64, Int}
    given::Vector{Float64}
    found::Vector{Float64}
end
function SparseFactors(matrix::SparseMatrixCSC{Float64, Int})
    n = size(matrix, 1)
    return SparseFactors(matrix, lu(matrix), zeros(n), zeros(n))
end

"""
    factor_again!(factors)

Factor the matrix of factors, whose values have changed.
"""
factor_again!(factors::SparseFactors) = (lu!(factors.lu, factors.matrix); factors)

"""
    solve_linear!(factors, x)
    solve_transposed!(factors, x)

Solve the linear system with these factors, or that of the transposed matrix, in `x`.
"""
solve_linear!(factors::LU, x) = ldiv!(factors, x)
solve_transposed!(factors::LU, x) = ldiv!(transpose(factors), x)
solve_linear!(factors::SparseFactors, x) = divide!(x, factors, factors.lu)
solve_transposed!(factors::SparseFactors, x) = divide!(x, factors, transpose(factors.lu))

function divide!(x, factors::SparseFactors, by)
    copyto!(factors.given, x)
    ldiv!(factors.found, by, factors.given)
    return copyto!(x, factors.found)
end

"""
    matrix_free_model(T, drift, product, time_gradient, mass_matrix = nothing;
        specialize = false)

Like [`model`](@ref), of a Jacobian of which there are only products with vectors.
"""
function matrix_free_model(::Type{T}, drift, product, time_gradient,
        mass_matrix = nothing; specialize::Bool = false) where {T}
    wrap = specialize ? identity : VectorFunction{T}
    mass = mass_matrix === nothing ? LinearAlgebra.I : mass_matrix
    return ODEFunction{true, SciMLBase.FullSpecialize}(
        wrap(drift); jvp = JacobianProduct{T}(wrap(product)), tgrad = wrap(time_gradient),
        mass_matrix = mass)
end

"""
    no_jacobian(J, u, p, t)

In place of a Jacobian, for methods that ask for none.
"""
no_jacobian(J, u, p, t) = throw(ArgumentError("an explicit method has no use for a Jacobian"))
