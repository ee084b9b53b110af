"""
    grow!(prepared, algorithm, count, t0, interval, first, intervals, rtol, atol, dt,
        max_steps)

Carry the state and the `count` tangent vectors in `prepared.start` over intervals, the
`first` of them counted from zero at `t0`; leave them there at the end, and a
[`GrowthRates`](@ref) for the host to read.

Each interval is a solve of its own, so that results do not depend on how a run is cut.
Both tolerances zero mean fixed steps of length `dt`.
"""
function grow!(prepared::Prepared{T}, algorithm, count::Int, t0::Real, interval::Real,
        first::Int, intervals::Int, rtol::Real, atol::Real, dt::Real,
        max_steps::Int) where {T}
    watch = Watch()
    u = copy(prepared.start)
    qr = QRWorkspace{T}(length(u) ÷ (count + 1), count)
    growth = GrowthRates{T}(count, intervals)
    # As the host computes them.
    start(index) = T(t0) + T(index) * T(interval)
    span(index) = (start(index), start(index) + T(interval))
    problem = SciMLBase.ODEProblem{true}(
        prepared.model, u, span(first), copy(prepared.parameters))
    settings = (; maxiters = max_steps, unstable_check = StepCheck(watch),
        save_everystep = false, save_start = false, save_end = false, dense = false,
        verbose = SILENT)
    integrator = if rtol == 0 && atol == 0
        SciMLBase.init(problem, algorithm; settings..., adaptive = false, dt = T(dt),
            reltol = stage_tolerance(T), abstol = stage_floor(problem, dt))
    else
        SciMLBase.init(problem, algorithm; settings..., reltol = T(rtol), abstol = T(atol))
    end
    correct_stage_times!(integrator, algorithm)
    for index in first:(first + intervals - 1)
        if index > first
            t0_of, tf_of = span(index)
            SciMLBase.reinit!(integrator, u; t0 = t0_of, tf = tf_of)
        end
        before = integrator.stats.naccept + integrator.stats.nreject
        SciMLBase.solve!(integrator)
        growth.steps += integrator.stats.naccept + integrator.stats.nreject - before
        growth.code = outcome(integrator.sol.retcode, -1, watch)
        growth.code == INTERRUPTED && break
        copyto!(u, integrator.u)
        close_interval!(growth, qr, u) || break
    end
    copyto!(prepared.start, u)
    report!(prepared.report, growth)
    prepared.solution = growth
    return nothing
end
