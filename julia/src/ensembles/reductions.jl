"""
    Moments{T}(states, times, covariance, higher)

Count, mean and centred sums of products of trajectories, for each time: what
[`merge!`](@ref) adds up without loss.
"""
struct Moments{T}
    covariance::Bool
    higher::Bool
    count::Vector{Int64}
    mean::Matrix{T}
    second::Array{T, 3}
    third::Matrix{T}
    fourth::Matrix{T}
end
function Moments{T}(states::Int, times::Int, covariance::Bool, higher::Bool) where {T}
    rows = higher ? states : 0
    return Moments{T}(covariance, higher, zeros(Int64, times), zeros(T, states, times),
        zeros(T, states, covariance ? states : 1, times), zeros(T, rows, times),
        zeros(T, rows, times))
end

"""
    merge!(a, b)

Add the trajectories of `b` to those of `a`: Chan, Golub & LeVeque (1983), and Pébay
(2008, SAND2008-6212) for the third and fourth powers.
"""
function Base.merge!(a::Moments{T}, b::Moments{T}) where {T}
    for time in eachindex(a.count)
        na, nb = T(a.count[time]), T(b.count[time])
        nb == 0 && continue
        n = na + nb
        for i in axes(a.mean, 1)
            δ = b.mean[i, time] - a.mean[i, time]
            if a.higher
                sa, sb = second_power(a, i, time), second_power(b, i, time)
                a.fourth[i, time] += b.fourth[i, time] +
                                     δ^4 * na * nb * (na^2 - na * nb + nb^2) / n^3 +
                                     6δ^2 * (na^2 * sb + nb^2 * sa) / n^2 +
                                     4δ * (na * b.third[i, time] - nb * a.third[i, time]) / n
                a.third[i, time] += b.third[i, time] + δ^3 * na * nb * (na - nb) / n^2 +
                                    3δ * (na * sb - nb * sa) / n
            end
        end
        for j in axes(a.second, 2), i in axes(a.second, 1)

            other = a.covariance ? j : i
            δi = b.mean[i, time] - a.mean[i, time]
            δj = b.mean[other, time] - a.mean[other, time]
            a.second[i, j, time] += b.second[i, j, time] + δi * δj * na * nb / n
        end
        for i in axes(a.mean, 1)
            a.mean[i, time] += (b.mean[i, time] - a.mean[i, time]) * nb / n
        end
        a.count[time] += b.count[time]
    end
    return a
end

second_power(a::Moments, i, time) = a.second[i, a.covariance ? i : 1, time]

"""
    Reductions{T}(states)

What to reduce trajectories to, and the totals.
"""
mutable struct Reductions{T}
    const states::Int
    has_moments::Bool
    has_extrema::Bool
    moments::Moments{T}
    edges::Vector{Vector{T}}
    minimum::Matrix{T}
    maximum::Matrix{T}
    histograms::Vector{Matrix{Int64}}
    pending::Dict{Int, Moments{T}}
    spare::Vector{Moments{T}}
    merged::Int
    const lock::ReentrantLock
end
function Reductions{T}(states::Int) where {T}
    return Reductions{T}(states, false, false, Moments{T}(states, 0, false, false),
        Vector{T}[], zeros(T, states, 0), zeros(T, states, 0), Matrix{Int64}[],
        Dict{Int, Moments{T}}(), Moments{T}[], 0, ReentrantLock())
end

"""
    WorkerTotals(reductions, times)

The totals of one worker that do not depend on the order of adding up.
"""
struct WorkerTotals{T}
    minimum::Matrix{T}
    maximum::Matrix{T}
    histograms::Vector{Matrix{Int64}}
end
function WorkerTotals(reductions::Reductions{T}, times::Int) where {T}
    rows = reductions.has_extrema ? reductions.states : 0
    # Below the first edge, the bins, and above the last edge.
    histograms = [zeros(Int64, length(edges) + 1, times) for edges in reductions.edges]
    return WorkerTotals{T}(
        fill(T(Inf), rows, times), fill(T(-Inf), rows, times), histograms)
end

function absorb!(reductions::Reductions, own::WorkerTotals)
    lock(reductions.lock) do
        reductions.minimum .= min.(reductions.minimum, own.minimum)
        reductions.maximum .= max.(reductions.maximum, own.maximum)
        for (total, part) in zip(reductions.histograms, own.histograms)
            total .+= part
        end
    end
    return nothing
end

"""
    spare_moments!(reductions)

Empty moments for one chunk, used again when merged.
"""
function spare_moments!(reductions::Reductions{T}) where {T}
    all = reductions.moments
    reductions.has_moments || return all
    return lock(reductions.lock) do
        isempty(reductions.spare) || return pop!(reductions.spare)
        return Moments{T}(
            reductions.states, length(all.count), all.covariance, all.higher)
    end
end

"""
    merge_in_order!(reductions, chunk, partial)

Merge the moments of a chunk when all chunks before it are merged.
"""
function merge_in_order!(reductions::Reductions, chunk::Int, partial::Moments)
    reductions.has_moments || return nothing
    lock(reductions.lock) do
        reductions.pending[chunk] = partial
        while haskey(reductions.pending, reductions.merged + 1)
            reductions.merged += 1
            ready = pop!(reductions.pending, reductions.merged)
            merge!(reductions.moments, ready)
            push!(reductions.spare, ready)
        end
    end
    return nothing
end

function reduce_chunk!(reductions::Reductions{T}, own::WorkerTotals{T},
        partial::Moments{T}, work, count::Int, time::Int) where {T}
    reductions.has_moments && chunk_moments!(partial, work, count, time)
    if reductions.has_extrema
        over_counted(work, count) do i, x
            own.minimum[i, time] = min(own.minimum[i, time], x)
            own.maximum[i, time] = max(own.maximum[i, time], x)
        end
    end
    if !isempty(reductions.edges)
        over_counted(work, count) do i, x
            edges = reductions.edges[i]
            # Bins are closed on the left, the last one on both sides.
            bin = x == edges[end] ? length(edges) - 1 : searchsortedlast(edges, x)
            own.histograms[i][bin + 1, time] += 1
        end
    end
    return nothing
end

# `f(i, x)` for every component of every trajectory that did not fail.
@inline function over_counted(f::F, work, count::Int) where {F}
    for position in 1:count
        group, lane = fldmod1(position, LANES)
        work.failed[group][lane] == NEVER || continue
        for i in axes(work.groups, 1)
            f(i, work.groups[i, group][lane])
        end
    end
    return nothing
end

function chunk_moments!(partial::Moments{T}, work, count::Int, time::Int) where {T}
    last = cld(count, LANES)
    none = zero(Vec{LANES, T})
    inside(group) = Vec{LANES, Int64}(ntuple(k -> (group - 1) * LANES + k, Val(LANES))) <=
                    count
    counted(group) = inside(group) & (work.failed[group] == NEVER)
    n = 0
    for group in 1:last
        n += count_ones(SIMD.bitmask(counted(group)))
    end
    partial.count[time] = n
    mean(i) = partial.mean[i, time]
    for i in axes(partial.mean, 1)
        total = none
        for group in 1:last
            total += vifelse(counted(group), work.groups[i, group], none)
        end
        partial.mean[i, time] = n == 0 ? zero(T) : sum(total) / n
    end
    deviation(i, group) = vifelse(
        counted(group), work.groups[i, group] - mean(i), none)
    for j in axes(partial.second, 2), i in axes(partial.second, 1)

        other = partial.covariance ? j : i
        total = none
        for group in 1:last
            total += deviation(i, group) * deviation(other, group)
        end
        partial.second[i, j, time] = sum(total)
    end
    if partial.higher
        for i in axes(partial.mean, 1)
            cubes = fourths = none
            for group in 1:last
                d = deviation(i, group)
                cubes += d * d * d
                fourths += (d * d) * (d * d)
            end
            partial.third[i, time] = sum(cubes)
            partial.fourth[i, time] = sum(fourths)
        end
    end
    return nothing
end
