# Any other method: StochasticDiffEq's own solver for each trajectory, on threads. They
# are taken up in groups of lanes, since their noise is drawn together.

"""
    Settings(t1, rtol, atol, dt, max_steps)

Of every solve; see [`HybridNDS.solve!`](@ref).
"""
struct Settings
    t1::Float64
    rtol::Float64
    atol::Float64
    dt::Float64
    max_steps::Int
end

"""
    run_solves!(run, prepared, method, settings, threads, report = nothing)

Solve the trajectories of `run` by `method`, each along its own path on the grid of
`run`; returns whether an interrupt stopped it. `prepared` is the problem with its
parameters; `run.outcomes` and `run.ends` get the code of each outcome and the time at
which the solve ended. Functions of the host must not be among those of the problem
where there is more than one thread.
"""
function run_solves!(run::EnsembleRun{T}, prepared::Prepared{T}, method,
        settings::Settings, threads::Integer, report = nothing) where {T}
    run.stop[] = false
    run.next[] = run.done[] = 0
    watch = Watch(report)
    on_threads(run, Int(threads), watch) do watch
        solve_off!(run, prepared, method, settings, watch)
    end
    return watch.interrupted
end

function solve_off!(run::EnsembleRun{T}, prepared::Prepared{T}, method,
        settings::Settings, watch) where {T}
    own = worker_copy(prepared, run)
    m, steps = run.motions, run.steps
    path = own.path
    noise = Vector{Vec{LANES, T}}(undef, m * steps + 2)
    areas = similar(noise)
    total = length(run.indices)
    while !run.stop[]
        group = Threads.atomic_add!(run.next, 1) + 1
        first = (group - 1) * LANES
        first < total || break
        count = min(LANES, total - first)
        positions = ntuple(k -> first + min(k, count), Val(LANES))
        numbers = Words(map(k -> run.indices[k] % UInt64, positions))
        draw!(noise, run, 0, steps, numbers, UInt64(0), run.increments,
            sqrt(run.h), positions)
        if !isempty(path.areas)
            draw!(areas, run, 0, steps, numbers, UInt64(1), run.areas,
                sqrt(run.h / 12), positions)
        end
        for lane in 1:count
            run.stop[] && return nothing
            position = first + lane
            for k in eachindex(path.increments)
                path.increments[k] = noise[k][lane]
                isempty(path.areas) || (path.areas[k] = areas[k][lane])
            end
            own.start .= size(run.starts, 2) > 0 ? view(run.starts, :, position) : run.start
            path.seed = own_seed(run, numbers[lane])
            solve!(own, method, run.t0, settings.t1, settings.rtol, settings.atol,
                settings.dt, HybridNDS.KEEP_TIMES, settings.max_steps)
            save_solve!(run, own, position)
            Threads.atomic_add!(run.done, 1)
            watch === nothing || attend!(watch, run)
        end
    end
    return nothing
end

# A problem of its own for each worker: solves write to it.
function worker_copy(prepared::Prepared{T}, run::EnsembleRun{T}) where {T}
    rate = prepared.path.rate
    own = Prepared(T, prepared.model, run.states, length(prepared.parameters),
        run.motions, rate === nothing ? 0 : size(rate, 2))
    copyto!(own.parameters, prepared.parameters)
    grid = resize_path!(own, run.steps, run.with_areas).grid
    grid .= run.t0 .+ run.h .* (0:run.steps)
    grid[end] = run.t1
    resize_times!(own, length(run.save_steps)) .= grid[run.save_steps .+ 1]
    return own
end

# For methods that draw numbers of their own beside the path: a third sequence.
function own_seed(run::EnsembleRun, number::UInt64)
    words = philox(UInt64(0), UInt64(2), number & LOW_WORD, number >> 32, run.key)
    return words[1] | words[2] << 32
end

function save_solve!(run::EnsembleRun{T}, own::Prepared{T}, position::Int) where {T}
    run.outcomes[position] = Int(own.report.outcome)
    own.report.outcome == HybridNDS.INTERRUPTED && (run.stop[] = true)
    run.ends[position] = own.saved_times[end]
    # The last column is where the solve ended, asked for or not.
    saved = size(own.saved_states, 2) - 1
    for time in axes(run.saved, 2), i in axes(run.saved, 1)

        run.saved[i, time, position] = time <= saved ? own.saved_states[i, time] : T(NaN)
    end
    return nothing
end
