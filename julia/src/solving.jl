# What goes wrong is the outcome's to say: nothing is printed.
const SILENT = DEVerbosity(SciMLLogging.None())

"""
    Prepared(T, model, states, parameters, motions = 0, columns = 0)

A problem ready to be solved many times, from other states, with other parameters, over
other spans; that of an `SDEFunction` along other Brownian paths, too: see
[`NoisePath`](@ref), which `motions` and `columns` are for.

The host sees `start`, `parameters`, `times`, `path` and `report` without copying: it
writes the first four before a solve and reads the last after it.
"""
mutable struct Prepared{T, F, S, P}
    const model::F
    const start::Vector{T}
    const parameters::Vector{T}
    const path::P
    times::Vector{T}
    const report::Report
    const events::Vector{Any}
    const fired::Base.RefValue{Int}
    callback::Union{Nothing, CallbackSet}
    saved_times::Vector{T}
    saved_states::Matrix{T}
    message::String
    solution::Any
    const steps::StepRecord{T}
end
function Prepared(::Type{T}, model::F, states::Integer, parameters::Integer,
        motions::Integer = 0, columns::Integer = 0) where {T, F}
    S = SciMLBase.isinplace(model) ? Vector{T} : SVector{Int(states), T}
    path = followed_path(T, model, states, motions, columns)
    return Prepared{T, F, S, typeof(path)}(model, zeros(T, states), zeros(T, parameters),
        path, T[], Report(), Any[], Ref(-1), nothing, T[], zeros(T, states, 0), "", nothing,
        StepRecord{T}(states))
end

"""
    add_event!(prepared, event, both)

Let `event`, a [`Crossing`](@ref) or a [`SteadyStateCondition`](@ref), end the solves
to come; returns the vector of its parameters. `both` is whether falling through zero
counts, too.
"""
function add_event!(prepared::Prepared, event, both::Bool)
    stop = Stop(length(prepared.events), prepared.fired)
    push!(prepared.events, terminal(event, both, stop))
    prepared.callback = CallbackSet(prepared.events...)
    return event.parameters
end

"""
    resize_times!(prepared, count)

Make room for `count` times to save; returns the vector for the host to fill.
"""
resize_times!(prepared::Prepared, count::Integer) = resize!(prepared.times, count)

"""
    outcome(code, fired, watch)

The outcome that a return code of SciML stands for:

  - interrupted: whatever the code, where the watch saw the interrupt;
  - event: `Terminated`, where an event fired;
  - success: any other successful code;
  - out of steps: `MaxIters`;
  - an equation not solved: `ConvergenceFailure`, `InitialFailure`;
  - step too small: `DtLessThanMin`;
  - unstable: `Unstable` and `DtNaN`: a state or an error estimate that is not finite, or
    no step was short enough for the error control;
  - failure: everything else.
"""
function outcome(code::ReturnCode.T, fired::Int, watch::Watch)
    watch.interrupted && return INTERRUPTED
    fired >= 0 && return EVENT
    SciMLBase.successful_retcode(code) && return SUCCESS
    code == ReturnCode.MaxIters && return MAX_STEPS
    code in (ReturnCode.ConvergenceFailure, ReturnCode.InitialFailure) && return NONLINEAR
    code == ReturnCode.DtLessThanMin && return STEP_TOO_SMALL
    code in (ReturnCode.Unstable, ReturnCode.DtNaN) && return UNSTABLE
    return FAILURE
end

"""
    solve!(prepared, algorithm, t0, t1, rtol, atol, dt, keep, max_steps, report = nothing)

Solve from `prepared.start`, along `prepared.path` where there is one, and leave the
results in `prepared`: a solve that fails does not throw, its outcome says so.

`atol` is one number, or one for each component. Both tolerances zero mean fixed steps: of
length `dt`, or those of the path's grid; otherwise `dt` is the first step, zero for an
automatic one. `keep` is a [`Keep`](@ref), and `report` is called with the time reached.
The end of the solve is always the last column of the states saved.
"""
function solve!(prepared::Prepared{T}, algorithm, t0::Real, t1::Real, rtol::Real,
        atol::Union{Real, AbstractVector}, dt::Real, keep::Keep, max_steps::Integer,
        report = nothing) where {T}
    prepared.fired[] = -1
    algorithm = with_tolerances(adapted(algorithm, prepared, T(rtol)), rtol, atol)
    solve_until!(prepared, prepared.callback, algorithm,
        (T(t0), T(t1)), T(rtol), atol, T(dt), keep, Int(max_steps), Watch(report))
    return nothing
end

# Behind a barrier: the compiler sees the type of the callback.
function solve_until!(prepared::Prepared{T}, callback, algorithm, span, rtol::T, atol,
        dt::T, keep::Keep, max_steps::Int, watch::Watch) where {T}
    path, fixed = prepared.path, rtol == 0 && iszero(atol)
    problem = sciml_problem(prepared, path, algorithm, span, fixed)
    saveat = keep in (KEEP_TIMES, KEEP_STOPS) ? copy(prepared.times) : T[]
    stops = keep == KEEP_STOPS || path !== nothing ? saveat : T[]
    settings = (; callback, maxiters = max_steps, unstable_check = StepCheck(watch), saveat,
        save_everystep = keep in (KEEP_STEPS, KEEP_DENSE), dense = keep == KEEP_DENSE,
        verbose = SILENT)
    try
        # One call an option set, so that the compiler sees the types of each.
        integrator = if fixed
            # The tolerances are those of Newton's iteration.
            step = step_length(path, dt)
            SciMLBase.init(problem, algorithm; settings..., adaptive = false,
                fixed_steps(path, step, stops)..., reltol = stage_tolerance(T),
                abstol = stage_floor(problem, step))
        elseif path === nothing && dt == 0
            SciMLBase.init(problem, algorithm; settings..., tstops = stops,
                reltol = rtol, abstol = absolute(prepared, atol))
        else
            SciMLBase.init(problem, algorithm; settings..., adaptive = true,
                first_step(path, dt, span, stops)..., reltol = rtol,
                abstol = absolute(prepared, atol))
        end
        correct_stage_times!(integrator, algorithm)
        run!(prepared, integrator, keep, watch)
    catch error
        error isa SciMLBase.CheckInitFailureError || rethrow()
        inconsistent!(prepared, span[1], error)
    end
    return nothing
end

# How a solve without a path goes; see `NoisePath` for those along one.
followed_path(::Type, ::ODEFunction, states, motions, columns) = nothing
function sciml_problem(prepared::Prepared, ::Nothing, algorithm, span, fixed::Bool)
    # Later solves overwrite these, while lazy interpolants of this one still need them.
    return ODEProblem{SciMLBase.isinplace(prepared.model)}(
        prepared.model, start(prepared), span, copy(prepared.parameters))
end
step_length(::Nothing, dt) = dt
fixed_steps(::Nothing, dt, stops) = (; dt, tstops = stops)
first_step(::Nothing, dt, span, stops) = (; dt, tstops = stops)

# OrdinaryDiffEqSDIRK 2.9 evaluates the second stage of the Kvaerno methods at c₂ = γ in
# place of 2γ, the sum of its row: fields that depend on time lose the method's order.
correct_stage_times!(integrator, alg) = nothing
correct_stage_time!(tableau, alg) = nothing
function correct_stage_times!(integrator, alg::Union{Kvaerno3, Kvaerno4, Kvaerno5})
    correct_stage_time!(integrator.cache.tab, alg)
    return nothing
end

function correct_stage_time!(tableau, alg::Union{Kvaerno3, Kvaerno4, Kvaerno5})
    tableau.c[2] = tableau.Ai[2, 1] + tableau.Ai[2, 2]
    return nothing
end

# In fixed steps, what Newton's iteration multiplies by κ: loose enough for the tightest
# κ to stay above round-off, where the iteration would never end.
stage_tolerance(::Type{T}) where {T} = 64 * sqrt(eps(T))

# κ in fixed steps, as the host asks for it.
newton_share(::Type{T}) where {T} = T === Float32 ? T(1.0e-4) : T(1.0e-6)

"""
    stage_floor(problem, step)

The absolute tolerance of stages in fixed steps: κ times it is 16 units in the last place
of the largest component at the start, or of its first change where it starts at zero, so
that the unit of the state changes nothing.
"""
function stage_floor(problem::SciMLBase.AbstractDEProblem, step::Real)
    u = problem.u0
    T = eltype(u)
    largest = maximum(abs, u; init = zero(T))
    if iszero(largest)
        t = problem.tspan[1]
        rate = if SciMLBase.isinplace(problem)
            out = similar(u)
            problem.f(out, u, problem.p, t)
            out
        else
            problem.f(u, problem.p, t)
        end
        largest = abs(T(step)) * maximum(abs, rate; init = zero(T))
    end
    floor = 16 * eps(T) / newton_share(T) * largest
    return isfinite(floor) && floor > 0 ? floor : floatmin(T)
end

absolute(prepared::Prepared{T}, atol::Real) where {T} = T(atol)
absolute(prepared::Prepared{T, F, S}, atol::AbstractVector) where {T, F, S} = S(atol)

start(prepared::Prepared{T, F, Vector{T}}) where {T, F} = copy(prepared.start)
start(prepared::Prepared{T, F, S}) where {T, F, S <: SVector} = S(prepared.start)

function run!(prepared::Prepared, integrator, keep::Keep, watch::Watch)
    advance!(integrator, prepared.steps)
    end_record!(prepared.steps, prepared.fired[])
    solution, report = integrator.sol, prepared.report
    code = outcome(solution.retcode, prepared.fired[], watch)
    finite = all(isfinite, integrator.u)
    # A step that was not taken leaves the time at that of the state before.
    state = code == UNSTABLE && !finite ? integrator.uprev : integrator.u
    # The check runs before a step, and so not after the last one.
    report.outcome = code == SUCCESS && !finite ? UNSTABLE : code
    report.event = prepared.fired[]
    statistics!(report, solution.stats)
    asked = keep in (KEEP_TIMES, KEEP_STOPS, KEEP_STEPS)
    save!(prepared, asked ? length(solution.t) : 0, solution, integrator.t, state)
    prepared.message = message(report.outcome, solution.retcode)
    prepared.solution = keep == KEEP_DENSE ? solution : nothing
    return nothing
end

function message(code::Outcome, retcode)
    code == SUCCESS && return ""
    return string(code == UNSTABLE ? ReturnCode.Unstable : retcode)
end

function save!(prepared::Prepared{T}, count::Int, solution, t, u) where {T}
    times = Vector{T}(undef, count + 1)
    states = Matrix{T}(undef, length(prepared.start), count + 1)
    for k in 1:count
        times[k] = solution.t[k]
        states[:, k] .= solution.u[k]
    end
    times[end] = t
    states[:, end] .= u
    publish!(prepared, times, states)
    return nothing
end

function publish!(prepared::Prepared, times::Vector, states::Matrix)
    prepared.saved_times, prepared.saved_states = times, states
    report = prepared.report
    report.count = length(times)
    report.times, report.states = pointer(times), pointer(states)
    return nothing
end

function inconsistent!(prepared::Prepared, t, error)
    report = prepared.report
    report.outcome, report.event = NONLINEAR, -1
    statistics!(report, SciMLBase.DEStats(0))
    publish!(prepared, [t], reshape(copy(prepared.start), :, 1))
    prepared.message = "The initial state does not satisfy the algebraic equations of " *
                       "the mass-matrix form: their residual is $(error.normresid), " *
                       "above the tolerance $(error.abstol)."
    prepared.solution = nothing
    return nothing
end

"""
    interpolate(solution, times)

Dense output at many times, as a matrix of a column a time.
"""
function interpolate(solution, times)
    values = [solution(t) for t in times]
    return reduce(hcat, values)
end
