const STEPS_AT_A_TIME = 64

"""
    first_exits!(times, through, map, starts, boundaries, t0, step, most, first, key_high,
        key_low, bridge)

Follow trajectories until they first leave a region: trajectory `first` + i − 1 of a key
leaves after `times[i]`, infinite for one that stays for `most` steps and NaN for one
that fails, by the boundary `through[i]`, counted from zero; −1 where there is none.

The state of the `map` is the trajectory's, followed by the level of each boundary
there, positive inside, and by what a root of time moves that level in the step that led
there. `starts` has such a column for each trajectory. With `bridge`, the Brownian bridge
between the ends of a step crosses a boundary with probability exp(−2ab/v) (Gobet 2000,
section 2), at h ξ/(1 + ξ) with ξ inverse Gaussian of mean a/|b| and shape a²/v.

Returns the number of steps taken, negative after an interrupt.
"""
function first_exits!(times::AbstractVector, through::AbstractVector, map::StepMap{T},
        starts::AbstractMatrix, boundaries::Int, t0::Real, step::Real, most::Int,
        first::Int, key_high::Int, key_low::Int, bridge::Bool) where {T}
    # The host's arrays are of types that the loop is not compiled for.
    own_times, own_through = zeros(length(times)), zeros(Int, length(times))
    key = (key_high % UInt32, key_low % UInt32)
    total = first_exits!(own_times, own_through, map, Matrix{T}(starts), boundaries,
        T(t0), T(step), most, first, key, bridge)
    copyto!(times, own_times)
    copyto!(through, own_through)
    return total
end

function first_exits!(times::Vector{Float64}, through::Vector{Int}, map::StepMap{T},
        starts::Matrix{T}, boundaries::Int, t0::T, step::T, most::Int, first::Int,
        key::NTuple{2, UInt32}, bridge::Bool) where {T}
    numbers = zeros(T, map.motions, STEPS_AT_A_TIME)
    u, next = similar(map.start), similar(map.start)
    map.parameters[end - map.motions] = step
    watch, total, random = Watch(), 0, Xoshiro(0)
    for i in eachindex(times)
        copyto!(u, @view starts[:, i])
        index = first + i - 1
        source = Increments{T}(key, UInt64(index), map.increments, map.increments)
        # For what the path does between the ends of steps.
        Random.seed!(random, UInt32[key[1], key[2], index % UInt32, index >> 32])
        times[i], through[i], taken = first_exit!(u, next, map, numbers, source, random,
            boundaries, t0, step, most, bridge, watch)
        total += taken
        watch.interrupted && return -total - 1
    end
    return total
end

function first_exit!(u::Vector{T}, next::Vector{T}, map::StepMap{T}, numbers::Matrix{T},
        source::Increments{T}, random::Xoshiro, boundaries::Int, t0::T, step::T,
        most::Int, bridge::Bool, watch::Watch) where {T}
    p, offset = map.parameters, length(map.parameters) - map.motions
    root = sqrt(step)
    no_areas = source.stored_areas
    for done in 0:(most - 1)
        column = done % STEPS_AT_A_TIME
        if column == 0
            poll!(watch, t0) && return NaN, -1, done
            read_interval!(numbers, no_areas, source, done ÷ STEPS_AT_A_TIME, step)
        end
        @inbounds for j in 1:(map.motions)
            p[offset + j] = numbers[j, column + 1]
        end
        map.f(next, u, p, t0 + done * step)
        share, boundary = crossing(u, next, root, boundaries, bridge, random)
        boundary >= 0 && return (done + share) * Float64(step), boundary, done + 1
        all(isfinite, next) || return NaN, -1, done + 1
        u, next = next, u
    end
    return Inf, -1, most
end

# The first boundary that a step crosses, and when, as a share of the step.
@inline function crossing(u::Vector{T}, next::Vector{T}, root::T, boundaries::Int,
        bridge::Bool, random::Xoshiro) where {T}
    share, boundary = Inf, -1
    first = length(u) - 2 * boundaries
    @inbounds for j in 1:boundaries
        before, after = Float64(u[first + j]), Float64(next[first + j])
        width = Float64(next[first + boundaries + j] * root)
        if after > 0
            bridge && width > 0 || continue
            # Beyond 40 the probability is below 1e-17.
            exponent = 2 * before * after / width^2
            exponent < 40 && rand(random) < exp(-exponent) || continue
        elseif !(after <= 0)
            continue
        end
        own = bridge ? share_of_step(before, after, width, random) : 1.0
        if own < share
            share, boundary = own, j - 1
        end
    end
    return share, boundary
end

# Inverse Gaussian numbers: Michael, Schucany & Haas (1976), the smaller root without
# cancellation.
function share_of_step(before::Float64, after::Float64, width::Float64, random::Xoshiro)
    size = max(abs(after), 1e-9 * before)
    width > 1e-9 * before || return before / (before + size)
    mean, shape = before / size, (before / width)^2
    r = mean * randn(random)^2 / (2 * shape)
    smaller = mean / (1 + r + sqrt(r * (2 + r)))
    ξ = rand(random) * (mean + smaller) <= mean ? smaller : mean^2 / smaller
    return isfinite(ξ) ? ξ / (1 + ξ) : 1.0
end
