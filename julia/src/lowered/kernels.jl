# Dense kernels of lowered code. A row-major JAX matrix of shape (m, n) is a Julia matrix
# of size (n, m): element (r, c) of the former is [c, r] of the latter.

"""
    product!(out, A, B, Val(turn_A), Val(turn_B))

`out = op(A) * op(B)` where `op` transposes if asked; BLAS where the number type has it.
"""
@inline function product!(out::AbstractMatrix{T}, A::AbstractMatrix{T}, B::AbstractMatrix{T},
        ::Val{a}, ::Val{b}) where {T <: LinearAlgebra.BlasFloat, a, b}
    LinearAlgebra.BLAS.gemm!(a ? 'T' : 'N', b ? 'T' : 'N', one(T), A, B, zero(T), out)
    return nothing
end

@inline function product!(out, A, B, ::Val{a}, ::Val{b}) where {a, b}
    @inbounds for j in axes(out, 2), i in axes(out, 1)
        total = zero(eltype(out))
        for k in axes(A, a ? 1 : 2)
            total += (a ? A[k, i] : A[i, k]) * (b ? B[j, k] : B[k, j])
        end
        out[i, j] = total
    end
    return nothing
end

"""
    cholesky_lower!(A)

The lower Cholesky factor in place, zeros above; NaN throughout if `A` is not positive
definite, as in XLA.
"""
@inline function cholesky_lower!(A)
    n = size(A, 1)
    @inbounds for j in 1:n
        pivot = A[j, j]
        for k in 1:(j - 1)
            pivot -= A[k, j] * A[k, j]
        end
        if !(pivot > zero(pivot))
            fill!(A, not_a_number(pivot))
            return nothing
        end
        root = sqrt(pivot)
        A[j, j] = root
        for i in (j + 1):n
            entry = A[j, i]
            for k in 1:(j - 1)
                entry -= A[k, i] * A[k, j]
            end
            A[j, i] = entry / root
            A[i, j] = zero(root)
        end
    end
    return nothing
end

"""
    lu_factors!(A, pivots, permutation)

Partially pivoted LU factors in place; `pivots` and `permutation` count from zero.
"""
@inline function lu_factors!(A, pivots, permutation)
    n, m = size(A)
    @inbounds for r in 1:m
        permutation[r] = r - 1
    end
    @inbounds for k in 1:min(m, n)
        best = k
        for r in (k + 1):m
            abs(A[k, r]) > abs(A[k, best]) && (best = r)
        end
        pivots[k] = best - 1
        if best != k
            for c in 1:n
                A[c, k], A[c, best] = A[c, best], A[c, k]
            end
            permutation[k], permutation[best] = permutation[best], permutation[k]
        end
        for r in (k + 1):m
            factor = A[k, r] / A[k, k]
            A[k, r] = factor
            for c in (k + 1):n
                A[c, r] -= factor * A[c, k]
            end
        end
    end
    return nothing
end

"""
    pivots_to_permutation!(permutation, pivots)

The row permutation that a sequence of row exchanges makes, counted from zero.
"""
@inline function pivots_to_permutation!(permutation, pivots)
    @inbounds for r in eachindex(permutation)
        permutation[r] = r - 1
    end
    @inbounds for k in eachindex(pivots)
        other = Int(pivots[k]) + 1
        permutation[k], permutation[other] = permutation[other], permutation[k]
    end
    return nothing
end

"""
    triangular_solve!(X, A, Val(left), Val(lower), Val(turned), Val(unit))

Overwrite the right-hand sides `X` with the solution of `op(A) X = B`, or of
`X op(A) = B` if not `left`; `turned` transposes `A`, `unit` takes its diagonal as one.
"""
@inline function triangular_solve!(X, A, ::Val{left}, ::Val{lower}, ::Val{turned},
        ::Val{unit}) where {left, lower, turned, unit}
    # X op(A) = B is op(A)ᵀ Xᵀ = Bᵀ.
    turn = left ? turned : !turned
    forward = lower != turn
    n = size(A, 1)
    @inbounds for s in axes(X, left ? 1 : 2)
        for step in 1:n
            r = forward ? step : n + 1 - step
            entry = left ? X[s, r] : X[r, s]
            for c in (forward ? (1:(r - 1)) : ((r + 1):n))
                known = left ? X[s, c] : X[c, s]
                entry -= (turn ? A[r, c] : A[c, r]) * known
            end
            unit || (entry /= A[r, r])
            left ? (X[s, r] = entry) : (X[r, s] = entry)
        end
    end
    return nothing
end

"""
    sort_lines!(Val(keys), arrays, starts, step, n)

Stable sort of one line of each array by the first `keys` of them, lexicographically.
Lines are short in a vector field: insertion needs no memory.
"""
@inline function sort_lines!(::Val{keys}, arrays::Tuple, starts::Tuple, step, n) where {keys}
    for i in 2:n
        for j in i:-1:2
            here = map(start -> start + (j - 1) * step, starts)
            before = map(start -> start + (j - 2) * step, starts)
            precedes(Val(keys), arrays, here, before) || break
            exchange!(arrays, here, before)
        end
    end
    return nothing
end

@inline precedes(::Val{0}, arrays, here, before) = false
@inline function precedes(::Val{k}, arrays, here, before) where {k}
    x, y = @inbounds arrays[1][here[1]], arrays[1][before[1]]
    isless(x, y) && return true
    isless(y, x) && return false
    k == 1 && return false
    return precedes(Val(k - 1), Base.tail(arrays), Base.tail(here), Base.tail(before))
end

@inline exchange!(::Tuple{}, here, before) = nothing
@inline function exchange!(arrays::Tuple, here, before)
    a, i, j = arrays[1], here[1], before[1]
    @inbounds a[i], a[j] = a[j], a[i]
    return exchange!(Base.tail(arrays), Base.tail(here), Base.tail(before))
end
