# The codes of hybrid_nds.Outcome, in its order.
const SUCCESS, EVENT, MAX_STEPS, STEP_TOO_SMALL, NONLINEAR, UNSTABLE, INTERRUPTED,
FAILURE = 0:7

# What a solve keeps beside its end.
const KEEP_END, KEEP_TIMES, KEEP_STOPS, KEEP_STEPS, KEEP_DENSE = 0:4

# What goes wrong is the outcome's to say: nothing is printed.
const SILENT = DEVerbosity(SciMLLogging.None())

"""
    Prepared(T, model, states, parameters)

A problem ready to be solved many times, from other states, with other parameters, over
other spans.

The host sees `start`, `parameters`, `times` and `report` without copying: it writes
the first three before a solve and reads the last after it. `report` holds, after a
solve: the outcome's code, the event that fired (−1 for none), steps tried, accepted
and rejected, evaluations of the field and of its Jacobian, linear solves, how many
times were kept, and the addresses of these times and their states.
"""
mutable struct Prepared{T, F, S}
    const model::F
    const start::Vector{T}
    const parameters::Vector{T}
    times::Vector{T}
    const report::Vector{Int}
    const events::Vector{Any}
    const fired::Base.RefValue{Int}
    callback::Union{Nothing, CallbackSet}
    kept_times::Vector{T}
    kept_states::Matrix{T}
    message::String
    solution::Any
end
function Prepared(::Type{T}, model::F, states::Integer, parameters::Integer) where {T, F}
    S = SciMLBase.isinplace(model) ? Vector{T} : SVector{Int(states), T}
    return Prepared{T, F, S}(model, zeros(T, states), zeros(T, parameters), T[],
        zeros(Int, 11), Any[], Ref(-1), nothing, T[], zeros(T, states, 0), "", nothing)
end

"""
    add_event!(prepared, event, both)

Let `event`, a [`Crossing`](@ref) or a [`Rest`](@ref), end the solves to come; returns
the vector of its parameters. `both` is whether falling through zero counts, too.
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
    solve!(prepared, alg, t0, t1, rtol, atol, dt, keep, max_steps, report = nothing)

Solve from `prepared.start` and leave the results in `prepared`: a solve that fails
does not throw, its outcome says so.

`atol` is one number, or one for each component. Both tolerances zero mean fixed steps
of length `dt`; otherwise `dt` is the first step,
zero for an automatic one. `keep` is 0 for the end alone, 1 for `prepared.times` by
interpolation, 2 for these times with a step ending at each, 3 for the start and every
step, 4 for dense output. The end of the solve is always the last column of the states
kept.
"""
function solve!(prepared::Prepared{T}, alg, t0::Real, t1::Real, rtol::Real,
        atol::Union{Real, AbstractVector}, dt::Real, keep::Integer, max_steps::Integer,
        report = nothing) where {T}
    watch = Watch(report)
    prepared.fired[] = -1
    # Later solves overwrite these, while lazy interpolants of this one still need them.
    problem = ODEProblem{SciMLBase.isinplace(prepared.model)}(prepared.model,
        start(prepared), (T(t0), T(t1)), copy(prepared.parameters))
    saveat = keep in (KEEP_TIMES, KEEP_STOPS) ? copy(prepared.times) : T[]
    settings = (; callback = prepared.callback, maxiters = Int(max_steps),
        unstable_check = StepCheck(watch), saveat,
        tstops = keep == KEEP_STOPS ? saveat : T[],
        save_everystep = keep >= KEEP_STEPS, dense = keep == KEEP_DENSE,
        verbose = SILENT)
    try
        # One call an option set, so that the compiler sees the types of each.
        integrator = if rtol == 0 && iszero(atol)
            # The tolerances are those of Newton's iteration.
            SciMLBase.init(problem, alg; settings..., adaptive = false, dt = T(dt),
                reltol = stage_tolerance(T), abstol = stage_floor(problem, T(dt)))
        elseif dt == 0
            SciMLBase.init(problem, alg; settings..., reltol = T(rtol),
                abstol = absolute(prepared, atol))
        else
            SciMLBase.init(problem, alg; settings..., reltol = T(rtol),
                abstol = absolute(prepared, atol), dt = T(dt))
        end
        correct_stage_times!(integrator, alg)
        run!(prepared, integrator, Int(keep), watch)
    catch error
        error isa SciMLBase.CheckInitFailureError || rethrow()
        inconsistent!(prepared, T(t0), error)
    end
    return nothing
end

# OrdinaryDiffEqSDIRK 2.9 evaluates the second stage of the Kvaerno methods at c₂ = γ in
# place of 2γ, the sum of its row: fields that depend on time lose the method's order.
correct_stage_times!(integrator, alg) = nothing
function correct_stage_times!(integrator, alg::Union{Kvaerno3, Kvaerno4, Kvaerno5})
    tableau = integrator.cache.tab
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

function run!(prepared::Prepared, integrator, keep::Int, watch::Watch)
    SciMLBase.solve!(integrator)
    solution = integrator.sol
    stats, report = solution.stats, prepared.report
    code = outcome(solution.retcode, prepared.fired[], watch)
    checked = code == UNSTABLE
    report[1] = code = unstable_at_end(code, integrator)
    report[2] = prepared.fired[]
    report[3] = stats.naccept + stats.nreject
    report[4] = stats.naccept
    report[5] = stats.nreject
    report[6] = stats.nf
    report[7] = stats.njacs
    report[8] = stats.nsolve
    asked = keep in (KEEP_TIMES, KEEP_STOPS, KEEP_STEPS)
    lost = checked && !all(isfinite, integrator.u)
    # The time is then still that of the state before.
    keep!(prepared, asked ? length(solution.t) : 0, solution, integrator.t,
        lost ? integrator.uprev : integrator.u)
    prepared.message = message(code, solution.retcode)
    prepared.solution = keep == KEEP_DENSE ? solution : nothing
    return nothing
end

# The check runs before a step, and so not after the last one.
function unstable_at_end(code::Int, integrator)
    return code == SUCCESS && !all(isfinite, integrator.u) ? UNSTABLE : code
end

function message(code::Int, retcode)
    code == SUCCESS && return ""
    return string(code == UNSTABLE ? ReturnCode.Unstable : retcode)
end

function keep!(prepared, count::Int, solution, t, u)
    T = eltype(prepared.start)
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

function publish!(prepared, times::Vector, states::Matrix)
    prepared.kept_times, prepared.kept_states = times, states
    prepared.report[9] = length(times)
    prepared.report[10] = address(times)
    prepared.report[11] = address(states)
    return nothing
end

function inconsistent!(prepared::Prepared, t, error)
    fill!(prepared.report, 0)
    prepared.report[1] = NONLINEAR
    prepared.report[2] = -1
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

"""
    address(array)

Where the array's memory starts, for the host to view it.
"""
address(array::Array) = Int(pointer(array))
