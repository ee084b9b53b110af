"""
    QRWorkspace{T}(n, k)

Work arrays to make `k` tangent vectors of `n` components orthonormal.
"""
struct QRWorkspace{T}
    vectors::Matrix{T}
    factors::Vector{T}
end
QRWorkspace{T}(n::Int, k::Int) where {T} = QRWorkspace{T}(zeros(T, n, k), zeros(T, k))

"""
    orthonormalize!(qr, u, logs)

Replace the tangent vectors in `u`, which follow the state, by Q of their QR
decomposition, and write the logarithms of the diagonal of R to `logs`.
"""
function orthonormalize!(
        qr::QRWorkspace{T}, u::Vector{T}, logs::AbstractVector{T}) where {T}
    V = qr.vectors
    count = length(V)
    first = length(u) - count + 1
    copyto!(V, 1, u, first, count)
    if size(V, 2) == 1
        size_of = norm(V)
        logs[1] = log(size_of)
        V ./= size_of
    elseif all(isfinite, V)
        LAPACK.geqrf!(V, qr.factors)
        for i in axes(V, 2)
            logs[i] = log(abs(V[i, i]))
        end
        LAPACK.orgqr!(V, qr.factors)
    else
        fill!(logs, T(NaN))
    end
    copyto!(u, first, V, 1, count)
    return nothing
end

"""
    GrowthRates{T}(count, intervals)

What a segment of intervals leaves: the logarithms of growth, a column an interval, and
how many intervals there are.
"""
mutable struct GrowthRates{T}
    const logs::Matrix{T}
    done::Int
    steps::Int
    code::Outcome
end
function GrowthRates{T}(count::Int, intervals::Int) where {T}
    return GrowthRates{T}(Matrix{T}(undef, count, intervals), 0, 0, SUCCESS)
end

# One more interval, whose end must be finite for the next.
function close_interval!(growth::GrowthRates{T}, qr::QRWorkspace{T}, u::Vector{T}) where {T}
    growth.done += 1
    logs = @view growth.logs[:, growth.done]
    orthonormalize!(qr, u, logs)
    if growth.code == SUCCESS && !(all(isfinite, u) && all(isfinite, logs))
        growth.code = UNSTABLE
    end
    return growth.code == SUCCESS
end

"""
    report!(report, growth)

Tell the host: the outcome, steps, how many intervals were begun and ended, and where
their logarithms are, in place of states.
"""
function report!(report::Report, growth::GrowthRates)
    report.outcome, report.steps = growth.code, growth.steps
    report.count, report.states = growth.done, pointer(growth.logs)
    return nothing
end

"""
    unavailable(out, u, p, t)

In place of a derivative that an explicit solver never asks for.
"""
function unavailable(out, u, p, t)
    throw(ArgumentError("this solver was not to need derivatives of the field"))
end
