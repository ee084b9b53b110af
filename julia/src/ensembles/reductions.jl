# A chunk of trajectories is reduced to sums that its host merges in the order of chunks:
# no number depends on how many threads there are, or on which runs share an ensemble.

reduces(run::EnsembleRun) = !isempty(run.counts)
highest_power(run::EnsembleRun) = size(run.powers, 3) + 1

"""
    chunk_moments!(run, work, chunk, count, time)

Count, mean and centred sums of the trajectories of a chunk that are not lost, in double
precision and two passes (Chan, Golub & LeVeque 1983).
"""
function chunk_moments!(run::EnsembleRun, work, chunk::Int, count::Int, time::Int)
    run.counts[chunk] = counted_lanes(work, count)
    for i in axes(run.means, 1)
        run.means[i, time, chunk] = chunk_mean(run, work, chunk, count, i)
    end
    for power in 2:highest_power(run), i in axes(run.means, 1)

        run.powers[i, time, power - 1, chunk] = over_groups(work, count) do group
            whole_power(deviation(run, work, chunk, count, time, i, group), power)
        end
    end
    isempty(run.products) || chunk_products!(run, work, chunk, count, time)
    return nothing
end

function chunk_products!(run::EnsembleRun, work, chunk::Int, count::Int, time::Int)
    for j in axes(run.products, 2), i in axes(run.products, 1)

        run.products[i, j, time, chunk] = over_groups(work, count) do group
            deviation(run, work, chunk, count, time, i, group) *
            deviation(run, work, chunk, count, time, j, group)
        end
    end
    return nothing
end

const Doubles = Vec{LANES, Float64}

function chunk_mean(run::EnsembleRun, work, chunk::Int, count::Int, i::Int)
    n = run.counts[chunk]
    n == 0 && return 0.0
    total = over_groups(work, count) do group
        vifelse(counted(work, count, group), doubles(work, i, group), zero(Doubles))
    end
    return total / n
end

@inline doubles(work, i::Int, group::Int) = convert(Doubles, work.groups[i, group])

@inline function deviation(run::EnsembleRun, work, chunk, count, time, i, group)
    apart = doubles(work, i, group) - run.means[i, time, chunk]
    return vifelse(counted(work, count, group), apart, zero(Doubles))
end

@inline whole_power(x, power::Int) = power == 2 ? x * x :
                                     power == 3 ? x * x * x : (x * x) * (x * x)

# The sum of `f(group)` over the groups of a chunk, and over their lanes.
@inline function over_groups(f::F, work, count::Int) where {F}
    total = zero(Doubles)
    for group in 1:cld(count, LANES)
        total += f(group)
    end
    return sum(total)
end

# Which lanes of a group hold a trajectory of the chunk that is not lost.
@inline function counted(work, count::Int, group::Int)
    first = (group - 1) * LANES
    inside = Vec{LANES, Int64}(ntuple(k -> first + k, Val(LANES))) <= count
    return inside & (work.lost[group] == NEVER)
end

function counted_lanes(work, count::Int)
    return sum(1:cld(count, LANES)) do group
        count_ones(SIMD.bitmask(counted(work, count, group)))
    end
end
