# Trajectories are taken up in chunks, and a chunk advances from one saved time to the
# next in groups of lanes. The largest chunk stays in the second cache.
const CHUNK = 1024
const NEVER = typemax(Int64)
# Steps whose noise is drawn at a time: it stays in the first cache.
const BLOCK_NUMBERS = 256

"""
    EnsembleRun(T, states, motions, steps, t0, t1)

What is to be run, and where its results go; the host fills it in by [`share_array!`](@ref).
Arrays of the host are shared, not copied.

  - `indices`: the trajectories' numbers, from which their noise follows;
  - `start` of `states` numbers, or `starts` with a column a trajectory;
  - `parameters` of the drift, `diffusion_parameters` of the diffusion;
  - `chunk`: how many trajectories are taken up together, at most $(CHUNK);
  - `save_steps`: after how many steps to save or reduce, ascending;
  - `increments`, `areas`: motions × steps × trajectories, in place of random numbers;
  - `saved`: states × times × trajectories, where states are to be saved;
  - `counts`, with an element a chunk, where chunks are to be reduced to moments of the
    trajectories that stay finite: their number; then `means`: states × times × chunks;
    `powers`, centred sums of the powers from two on: states × times × powers × chunks;
    and `products` of all pairs of deviations, if requested: states × states × times ×
    chunks;
  - `failed_step`: the step of the first state that is not finite, −1 for none;
  - `outcomes`, `ends`, `with_areas`: of [`run_solves!`](@ref) alone.
"""
mutable struct EnsembleRun{T}
    const states::Int
    const motions::Int
    const steps::Int
    const t0::T
    const t1::T
    const h::T
    key::NTuple{2, UInt32}
    indices::Vector{Int64}
    start::Vector{T}
    starts::Matrix{T}
    parameters::Vector{T}
    diffusion_parameters::Vector{T}
    chunk::Int
    save_steps::Vector{Int64}
    increments::Array{T, 3}
    areas::Array{T, 3}
    saved::Array{T, 3}
    counts::Vector{Int64}
    means::Array{Float64, 3}
    powers::Array{Float64, 4}
    products::Array{Float64, 4}
    failed_step::Vector{Int64}
    outcomes::Vector{Int64}
    ends::Vector{T}
    with_areas::Bool
    const stop::Threads.Atomic{Bool}
    const next::Threads.Atomic{Int}
    const done::Threads.Atomic{Int}
end
function EnsembleRun(::Type{T}, states::Integer, motions::Integer, steps::Integer,
        t0::Real, t1::Real) where {T}
    h = (t1 - t0) / steps
    none = zeros(T, 0, 0, 0)
    return EnsembleRun{T}(states, motions, steps, t0, t1, h, (0, 0), Int64[], zeros(T, states),
        zeros(T, states, 0), T[], T[], CHUNK, Int64[], none, none, none, Int64[],
        zeros(0, 0, 0), zeros(0, 0, 0, 0), zeros(0, 0, 0, 0), Int64[], Int64[], T[], false,
        Threads.Atomic{Bool}(false), Threads.Atomic{Int}(0), Threads.Atomic{Int}(0))
end

chunks(run::EnsembleRun) = cld(length(run.indices), run.chunk)

"""
    LeanKernel(scheme, noise, drift, diffusion)

All that a step needs to know at compile time.
"""
struct LeanKernel{S <: Scheme, W <: Noise, F, G}
    scheme::S
    noise::W
    drift::F
    diffusion::G
end

"""
    Workspace{N, T}

The trajectories of one chunk, and the noise of one block of one group. `failed` has the
step at which each failed so far, `lost` that of those known to fail from the start.
"""
struct Workspace{N, T}
    groups::Matrix{Vec{LANES, T}}
    numbers::Vector{Words}
    failed::Vector{Vec{LANES, Int64}}
    lost::Vector{Vec{LANES, Int64}}
    noise::Vector{Vec{LANES, T}}
    areas::Vector{Vec{LANES, T}}
end
function Workspace{N, T}(motions::Int) where {N, T}
    groups = CHUNK ÷ LANES
    never = fill(Vec{LANES, Int64}(NEVER), groups)
    room = block_steps(motions) * motions + 2
    buffer = fill(zero(Vec{LANES, T}), room)
    return Workspace{N, T}(fill(zero(Vec{LANES, T}), N, groups), fill(zero(Words), groups),
        never, copy(never), buffer, copy(buffer))
end

block_steps(motions::Int) = max(1, BLOCK_NUMBERS ÷ motions)

# Lanes beyond the last trajectory repeat it, and are in no result.
@inline lane_position(first, group, lane, count) = first +
                                                   min((group - 1) * LANES + lane, count)

function load!(work::Workspace{N, T}, run::EnsembleRun{T}, first::Int, count::Int) where {N, T}
    own = size(run.starts, 2) > 0
    for group in 1:cld(count, LANES)
        positions = ntuple(k -> lane_position(first, group, k, count), Val(LANES))
        work.numbers[group] = Words(map(k -> run.indices[k] % UInt64, positions))
        for i in 1:N
            work.groups[i, group] = Vec{LANES, T}(map(
                k -> own ? run.starts[i, k] : run.start[i], positions))
        end
        work.failed[group] = Vec{LANES, Int64}(NEVER)
    end
    return nothing
end

@inline state(work::Workspace{N, T}, group::Int) where {N, T} = SVector{N, SIMDBatch{T}}(
    ntuple(i -> (@inbounds SIMDBatch(work.groups[i, group])), Val(N)))

@inline finite(u::SVector) = mapreduce(isfinite, &, u)

"""
    draw!(buffer, run, group, first, count, numbers, kind, stored, scale, positions)

The noise of steps `first` + 1 to `first` + `count` of a group; returns how many numbers
of `buffer` precede it.
"""
function draw!(buffer::Vector{Vec{LANES, T}}, run::EnsembleRun{T}, first::Int, count::Int,
        numbers::Words, kind::UInt64, stored::Array{T, 3}, scale::T,
        positions::NTuple{LANES, Int}) where {T}
    m = run.motions
    if !isempty(stored)
        @inbounds for step in 1:count, j in 1:m

            buffer[(step - 1) * m + j] = Vec{LANES, T}(map(
                k -> stored[j, first + step, k], positions))
        end
        return 0
    end
    start, stop = (first * m) >> 1, ((first + count) * m - 1) >> 1
    wide = Float64(scale)
    @inbounds for pair in start:stop
        a, b = normal_pair(run.key, numbers, kind, pair % UInt64)
        offset = 2 * (pair - start)
        buffer[offset + 1] = convert(Vec{LANES, T}, a * wide)
        buffer[offset + 2] = convert(Vec{LANES, T}, b * wide)
    end
    return first * m - 2 * start
end

function advance!(work::Workspace{N, T}, kernel::LeanKernel, run::EnsembleRun{T},
        group::Int, from::Int, to::Int, positions::NTuple{LANES, Int},
        watch) where {N, T}
    size = block_steps(run.motions)
    at = from
    while at < to
        count = min(size, to - at)
        shift = draw!(work.noise, run, at, count, work.numbers[group], UInt64(0),
            run.increments, sqrt(abs(run.h)), positions)
        if needs_area(kernel.scheme)
            draw!(work.areas, run, at, count, work.numbers[group], UInt64(1), run.areas,
                sqrt(abs(run.h) / 12), positions)
        end
        u = state(work, group)
        after = steps(kernel, work, run, u, at, count, shift)
        ok = finite(after)
        all(ok) || (after = fail!(work, kernel, run, u, after, group, at, count, shift))
        for i in 1:N
            work.groups[i, group] = after[i].vector
        end
        at += count
        run.stop[] && return nothing
        watch === nothing || attend!(watch, run)
    end
    return nothing
end

# The hot loop.
@noinline function steps(kernel::LeanKernel, work::Workspace{N, T}, run::EnsembleRun{T},
        u::SVector{N, SIMDBatch{T}}, at::Int, count::Int, shift::Int) where {N, T}
    f, g = bound(kernel, run)
    h, t0 = run.h, run.t0
    noise, areas = work.noise, work.areas
    m = Val(motions(kernel.noise, N))
    for k in 1:count
        t = t0 + (at + k - 1) * h
        u = one_step(kernel, f, g, u, t, h, noise, areas, shift, k, m)
    end
    return u
end

# Drift and diffusion as functions of state and time alone.
@inline function bound(kernel::LeanKernel, run::EnsembleRun)
    p, q = run.parameters, run.diffusion_parameters
    return (u, t) -> kernel.drift(u, p, t), (u, t) -> kernel.diffusion(u, q, t)
end

@inline function one_step(kernel::LeanKernel, f::F, g::G, u, t, h, noise, areas, shift,
        k, ::Val{M}) where {F, G, M}
    offset = shift + (k - 1) * M
    w = SVector(ntuple(j -> (@inbounds SIMDBatch(noise[offset + j])), Val(M)))
    a = needs_area(kernel.scheme) ?
        SVector(ntuple(j -> (@inbounds SIMDBatch(areas[offset + j])), Val(M))) : nothing
    return take_step(kernel.scheme, f, g, kernel.noise, u, t, h, w, a)
end

# Some lane is not finite at the end of the block. Since increments are added to the
# state, none comes back: go through the block again to find the first step.
@noinline function fail!(work::Workspace{N, T}, kernel, run, u, after, group, at, count,
        shift) where {N, T}
    m = motions(kernel.noise, N)
    failed = work.failed[group]
    for k in 1:count
        u = steps(kernel, work, run, u, at + k - 1, 1, shift + (k - 1) * m)
        new = (!finite(u)).vector & (failed == NEVER)
        failed = vifelse(new, Vec{LANES, Int64}(at + k), failed)
    end
    work.failed[group] = failed
    bad = SIMDMask(failed != NEVER)
    return map(x -> choose(bad, SIMDBatch{T}(T(NaN)), x), after)
end

function run_chunk!(work::Workspace, kernel::LeanKernel, run::EnsembleRun, chunk::Int,
        watch)
    first = (chunk - 1) * run.chunk
    count = min(run.chunk, length(run.indices) - first)
    fill!(work.lost, Vec{LANES, Int64}(NEVER))
    follow!(work, kernel, run, chunk, first, count, watch)
    run.stop[] && return nothing
    note!(run.failed_step, work.failed, first, count)
    if reduces(run) && any(>=(0), view(run.failed_step, (first + 1):(first + count)))
        # Those that fail count at no time, also before: once more without them.
        copyto!(work.lost, work.failed)
        follow!(work, kernel, run, chunk, first, count, watch)
    end
    return nothing
end

# From the start to the end, with what is saved and reduced on the way.
function follow!(work::Workspace, kernel::LeanKernel, run::EnsembleRun, chunk::Int,
        first::Int, count::Int, watch)
    load!(work, run, first, count)
    at = 0
    for time in 1:(length(run.save_steps) + 1)
        saving = time <= length(run.save_steps)
        to = saving ? run.save_steps[time] : run.steps
        for group in 1:cld(count, LANES)
            positions = ntuple(k -> lane_position(first, group, k, count), Val(LANES))
            advance!(work, kernel, run, group, at, to, positions, watch)
            run.stop[] && return nothing
        end
        at = to
        saving || break
        isempty(run.saved) || save_states!(run.saved, work, first, count, time)
        reduces(run) && chunk_moments!(run, work, chunk, count, time)
    end
    return nothing
end

function save_states!(
        saved::Array{T, 3}, work::Workspace{N, T}, first, count, time) where {N, T}
    for position in 1:count
        group, lane = fldmod1(position, LANES)
        for i in 1:N
            @inbounds saved[i, time, first + position] = work.groups[i, group][lane]
        end
    end
    return nothing
end

function note!(target::Vector{Int64}, source, first::Int, count::Int)
    for position in 1:count
        group, lane = fldmod1(position, LANES)
        step = source[group][lane]
        target[first + position] = step == NEVER ? -1 : step
    end
    return nothing
end
