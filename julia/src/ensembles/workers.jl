"""
    run_ensemble!(run, scheme, noise, drift, diffusion, threads, report = nothing)

Run the trajectories on so many threads; returns whether an interrupt stopped it.
`report` is called now and then, on this thread, with the number of those done.
"""
function run_ensemble!(run::EnsembleRun{T}, scheme::AbstractString, noise::AbstractString,
        drift, diffusion, threads::Integer, report = nothing) where {T}
    kernel = lean_kernel(run, scheme, noise, drift, diffusion)
    run.stop[] = false
    run.next[] = run.done[] = 0
    watch = Watch(report)
    states = Val(run.states)
    on_threads(run, Int(threads), watch) do watch
        work_off!(run, kernel, states, watch)
    end
    return watch.interrupted
end

function lean_kernel(run::EnsembleRun{T}, scheme, noise, drift, diffusion) where {T}
    action = noise == "scalar" ? ScalarNoise() :
             noise == "diagonal" ? DiagonalNoise() : MatrixNoise{run.motions}()
    u = SVector{run.states, T}(run.start)
    # The compiler is to see the functions' types.
    f = vectorized(drift, u, run.parameters, run.t0)
    g = vectorized(diffusion, u, run.diffusion_parameters, run.t0)
    return LeanKernel(SCHEMES[scheme], action, f, g)
end

"""
    on_threads(work, run, threads, watch)

Call `work(watch)` on so many threads; all but this one, which may call the host, get
`nothing` for the watch.
"""
function on_threads(work::F, run::EnsembleRun, threads::Int, watch::Watch) where {F}
    if threads == 1
        work(watch)
        return nothing
    end
    failures = Channel{Any}(Inf)
    # Static: the first share is this thread's.
    Threads.@threads :static for worker in 1:Threads.nthreads()
        if worker <= threads
            try
                work(worker == 1 ? watch : nothing)
            catch error
                run.stop[] = true
                put!(failures, error)
            end
        end
    end
    isready(failures) && throw(take!(failures))
    return nothing
end

function work_off!(run::EnsembleRun{T}, kernel::LeanKernel, ::Val{N}, watch) where {T, N}
    work = Workspace{N, T}(run.motions)
    while !run.stop[]
        chunk = Threads.atomic_add!(run.next, 1) + 1
        chunk <= chunks(run) || break
        run_chunk!(work, kernel, run, chunk, watch)
        run.stop[] && break
        Threads.atomic_add!(
            run.done, min(run.chunk, length(run.indices) - (chunk - 1) * run.chunk))
        # Threads that allocate nothing must still let the garbage collector in.
        GC.safepoint()
    end
    return nothing
end

function attend!(watch::Watch, run::EnsembleRun)
    poll!(watch, run.done[]) && (run.stop[] = true)
    return nothing
end
