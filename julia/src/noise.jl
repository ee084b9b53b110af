"""
    PathNoise{T}

A Brownian path on a grid, as the noise of a stochastic problem; one for a solve.

Steps of the grid get the increments of the path, to the last bit, and with them
the space-time Lévy areas H as dZ = 2√3 H. Other steps, of adaptive solves, follow the
path's mean given its increments and areas, W(tₖ + θh) = Wₖ + θ dWₖ + 6θ(1 − θ) Hₖ, and
get the increment and the area H of that curve: dZ is no process of its own, so that
both belong to the same path whatever the steps.

Where the problem has one Brownian motion and `dW` is longer, it drives every
component. `drawn` is for methods that want random numbers beside the path: `dZ` then
holds standard normal ones, of the path's own stream.
"""
mutable struct PathNoise{T} <: SciMLBase.AbstractNoiseProcess{T, 2, Vector{Vector{T}}, true}
    const times::Vector{T}
    const increments::Matrix{T}
    const areas::Matrix{T}
    const values::Matrix{T}
    const integrals::Matrix{T}
    const dW::Vector{T}
    const dZ::Vector{T}
    const W::Vector{Vector{T}} # where solvers look for the number of Brownian motions
    const drawn::Bool
    const rng::Xoshiro
    const reset::Bool
    position::Int
    curt::T
    dt::T
end

"""
    PathNoise(times, increments, areas; motions, extra, drawn, between, seed)

`increments` and `areas` have a row for each Brownian motion and a column for each step;
`areas` has no columns where they are not known. `motions` is the length of `dW`,
`extra` that of `dZ`; `between` is whether steps may end between grid times.
"""
function PathNoise(times::Vector{T}, increments::Matrix{T}, areas::Matrix{T};
        motions::Int, extra::Int, drawn::Bool, between::Bool, seed::UInt64) where {T}
    values, integrals = between ? cumulative(times, increments, areas) :
                        (zeros(T, 0, 0), zeros(T, 0, 0))
    dW = zeros(T, motions)
    return PathNoise{T}(times, increments, areas, values, integrals, dW, zeros(T, extra),
        [dW], drawn, Xoshiro(seed), false, 1, times[1], zero(T))
end

# The path and its time integral at the grid's times.
function cumulative(times::Vector{T}, increments::Matrix{T}, areas::Matrix{T}) where {T}
    m, steps = size(increments)
    values, integrals = zeros(T, m, steps + 1), zeros(T, m, steps + 1)
    for k in 1:steps
        h = times[k + 1] - times[k]
        for j in 1:m
            area = isempty(areas) ? zero(T) : areas[j, k]
            mean = values[j, k] + increments[j, k] / 2 + area
            values[j, k + 1] = values[j, k] + increments[j, k]
            integrals[j, k + 1] = integrals[j, k] + h * mean
        end
    end
    return values, integrals
end

"""
    path_value(noise, j, t)

Brownian motion `j` and its integral over time, from the start of the path to `t`.
"""
function path_value(noise::PathNoise{T}, j::Int, t::T) where {T}
    times = noise.times
    k = clamp(searchsortedlast(times, t), 1, length(times) - 1)
    h = times[k + 1] - times[k]
    θ = clamp((t - times[k]) / h, zero(T), one(T))
    start, increment = noise.values[j, k], noise.increments[j, k]
    area = isempty(noise.areas) ? zero(T) : noise.areas[j, k]
    value = start + θ * increment + 6 * θ * (1 - θ) * area
    mean = start + θ * increment / 2 + θ * (3 - 2 * θ) * area
    return value, noise.integrals[j, k] + θ * h * mean
end

"""
    take_step!(noise, dt)

Set `dW` and `dZ` to what the path does from its current time over `dt`.
"""
function take_step!(noise::PathNoise{T}, dt) where {T}
    noise.dt = dt
    if noise.drawn
        randn!(noise.rng, noise.dZ)
    end
    k = noise.position
    if k >= length(noise.times)
        fill!(noise.dW, zero(T))
    elseif whole_step(noise, dt)
        noise.dW .= @view noise.increments[:, k]
        if !noise.drawn && !isempty(noise.areas)
            noise.dZ .= (2 * sqrt(T(3))) .* @view(noise.areas[:, k])
        end
    else
        step_between!(noise, dt)
    end
    return nothing
end

# Rounding of times moves no step off the grid.
function whole_step(noise::PathNoise{T}, dt) where {T}
    start, stop = noise.times[noise.position], noise.times[noise.position + 1]
    return noise.curt == start && abs(start + dt - stop) <= sqrt(eps(T)) * (stop - start)
end

function step_between!(noise::PathNoise{T}, dt) where {T}
    isempty(noise.values) && throw(ArgumentError(
        "a step of $dt at t = $(noise.curt) leaves the grid of the Brownian path"))
    last_time = noise.times[end]
    start, stop = noise.curt, min(noise.curt + dt, last_time)
    single = size(noise.increments, 1) == 1
    for i in eachindex(noise.dW)
        j = single ? 1 : i
        before, integral_before = path_value(noise, j, start)
        after, integral_after = path_value(noise, j, stop)
        noise.dW[i] = after - before
        if !noise.drawn && i <= length(noise.dZ)
            h = stop - start
            mean = h > 0 ? (integral_after - integral_before) / h - before : zero(T)
            noise.dZ[i] = 2 * sqrt(T(3)) * (mean - noise.dW[i] / 2)
        end
    end
    return nothing
end

"""
    advance!(noise, dt, setup)

Accept the step taken, and set up the next one of length `dt` where `setup` holds.
"""
function advance!(noise::PathNoise{T}, dt, setup::Bool) where {T}
    times, count = noise.times, length(noise.times)
    if noise.position < count && whole_step(noise, noise.dt)
        noise.position += 1
        noise.curt = times[noise.position]
    else
        noise.curt = min(noise.curt + noise.dt, times[end])
        slack = sqrt(eps(T))
        # Past a point of the grid, but for what round-off may be off by.
        passed(k) = noise.curt >= times[k + 1] - slack * (times[k + 1] - times[k])
        while noise.position < count && passed(noise.position)
            noise.position += 1
        end
        near = times[noise.position]
        width = noise.position < count ? times[noise.position + 1] - near :
                near - times[end - 1]
        abs(noise.curt - near) <= slack * width && (noise.curt = near)
    end
    noise.dt = dt
    setup && take_step!(noise, dt)
    return nothing
end
