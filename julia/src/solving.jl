"""
    Prepared(T, model, events)

A problem ready to be solved many times, with other states, parameters and spans.
"""
struct Prepared{T, F}
    model::F
    events::Vector{Any}
end
Prepared{T}(model::F, events) where {T, F} = Prepared{T, F}(model, events)

# The codes of hybrid_nds.Outcome, in its order.
const SUCCESS, EVENT, MAX_STEPS, STEP_TOO_SMALL, NONLINEAR, UNSTABLE, INTERRUPTED,
FAILURE = 0:7

function outcome(code, fired::Int, watch::Watch)
    watch.interrupted && return INTERRUPTED
    fired >= 0 && return EVENT
    SciMLBase.successful_retcode(code) && return SUCCESS
    code == ReturnCode.MaxIters && return MAX_STEPS
    code in (ReturnCode.DtLessThanMin, ReturnCode.DtNaN) && return STEP_TOO_SMALL
    code in (ReturnCode.ConvergenceFailure, ReturnCode.InitialFailure) && return NONLINEAR
    code == ReturnCode.Unstable && return UNSTABLE
    return FAILURE
end

"""
    Result

What a solve hands back: times, states as one matrix of a column a time, the end, counts
(steps, accepted, rejected, field evaluations, Jacobians, linear solves), the outcome's
code, the event that fired (−1 for none), the solver's own word, and the solution itself
where dense output was asked for.
"""
struct Result{T}
    times::Vector{T}
    states::Matrix{T}
    end_time::T
    end_state::Vector{T}
    numbers::Vector{Int}
    code::String
    solution::Any
end

function stack(states::Vector{Vector{T}}, n::Int) where {T}
    matrix = Matrix{T}(undef, n, length(states))
    for (k, state) in enumerate(states)
        copyto!(matrix, (k - 1) * n + 1, state, 1, n)
    end
    return matrix
end

"""
    solve_prepared(prepared, alg, u0, p, span, tolerances, dt, times, mode, max_steps,
        report)

Solve. `tolerances` is `(rtol, atol)` with `atol` a number or a vector, or `nothing` for
steps of length `dt`; `dt` is zero for an automatic first step. `mode` is `"end"`,
`"times"`, `"steps"` or `"dense"`.
"""
function solve_prepared(prepared::Prepared{T}, alg, u0, p, t0, t1, tolerances, dt, times,
        mode::AbstractString, max_steps::Int, report = nothing) where {T}
    start = Vector{T}(u0)
    problem = ODEProblem{true}(prepared.model, start, (T(t0), T(t1)), Vector{T}(p))
    fired, watch = Ref(-1), Watch(report)
    callback = callbacks(T, prepared.events, length(start), fired)
    settings = (; callback, maxiters = max_steps, unstable_check = StepCheck(watch),
        saveat = mode == "times" ? Vector{T}(times) : T[],
        save_everystep = mode in ("steps", "dense"), dense = mode == "dense",
        verbose = false)
    solution = if tolerances === nothing
        run_fixed(problem, alg, settings, T(dt))
    else
        run_adaptive(problem, alg, settings, T(tolerances[1]),
            tolerance(T, tolerances[2]), T(dt))
    end
    return result(solution, fired[], watch, mode)
end

tolerance(::Type{T}, value::Number) where {T} = T(value)
tolerance(::Type{T}, values) where {T} = Vector{T}(values)

function run_fixed(problem, alg, settings, dt)
    return SciMLBase.solve(problem, alg; settings..., adaptive = false, dt)
end
function run_adaptive(problem, alg, settings, reltol, abstol, dt)
    return SciMLBase.solve(problem, alg; settings..., reltol, abstol, dt)
end

function result(solution, fired::Int, watch::Watch, mode)
    stats = solution.stats
    code = outcome(solution.retcode, fired, watch)
    numbers = [stats.naccept + stats.nreject, stats.naccept, stats.nreject, stats.nf,
        stats.njacs, stats.nsolve, code, fired]
    n = length(solution.prob.u0)
    times, states = solution.t, solution.u
    end_time, end_state = times[end], states[end]
    if mode in ("end", "dense")
        times, states = [end_time], [end_state]
    end
    return Result(collect(times), stack(states, n), end_time, copy(end_state), numbers,
        string(solution.retcode), mode == "dense" ? solution : nothing)
end

"""
    interpolate(solution, times)

Dense output at many times, as a matrix of a column a time.
"""
function interpolate(solution, times)
    values = [solution(t) for t in times]
    return stack(values, length(values[1]))
end
