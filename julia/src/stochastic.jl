"""
    PreparedStochastic(T, model, states, parameters, motions, columns)

A stochastic problem ready to be solved many times, as [`Prepared`](@ref) is.

The host also writes `grid`, `increments` and `areas`, the Brownian path; `motions` is
how many Brownian motions it has. The diffusion is a vector where `columns` is zero,
otherwise a matrix of that many columns.
"""
mutable struct PreparedStochastic{T, F, R}
    const model::F
    const rate::R
    const start::Vector{T}
    const parameters::Vector{T}
    const report::Vector{Int}
    const motions::Int
    times::Vector{T}
    grid::Vector{T}
    increments::Matrix{T}
    areas::Matrix{T}
    kept_times::Vector{T}
    kept_states::Matrix{T}
    message::String
end
function PreparedStochastic(::Type{T}, model::F, states::Integer, parameters::Integer,
        motions::Integer, columns::Integer) where {T, F}
    rate = columns == 0 ? nothing : zeros(T, states, columns)
    empty = zeros(T, motions, 0)
    return PreparedStochastic{T, F, typeof(rate)}(model, rate, zeros(T, states),
        zeros(T, parameters), zeros(Int, 11), motions, T[], T[], empty, empty, T[],
        zeros(T, states, 0), "")
end

resize_times!(prepared::PreparedStochastic, count::Integer) = resize!(prepared.times, count)

"""
    resize_path!(prepared, steps, with_areas)

Make room for a path of so many steps; the host fills `grid`, `increments` and `areas`.
"""
function resize_path!(prepared::PreparedStochastic{T}, steps::Integer,
        with_areas::Bool) where {T}
    prepared.grid = zeros(T, steps + 1)
    prepared.increments = zeros(T, prepared.motions, steps)
    prepared.areas = zeros(T, prepared.motions, with_areas ? steps : 0)
    return nothing
end

"""
    stochastic_model(T, drift, jacobian, diffusion, matrix)

The `SDEFunction` of a drift with its Jacobian and a diffusion, on types that every
model shares; `matrix` is whether the diffusion writes a matrix.
"""
function stochastic_model(::Type{T}, drift, jacobian, diffusion, matrix::Bool) where {T}
    noise = matrix ? MatrixFunction{T}(diffusion) : VectorFunction{T}(diffusion)
    return SDEFunction{true, SciMLBase.FullSpecialize}(
        VectorFunction{T}(drift), noise; jac = MatrixFunction{T}(jacobian))
end

"""
    solve_stochastic!(prepared, method, t0, t1, rtol, atol, dt, keep, max_steps, seed,
        report = nothing)

Solve along the path in `prepared` and leave the results there, as [`solve!`](@ref)
does.

`method` is a [`StochasticMethod`](@ref). Both tolerances zero mean the steps of the
path's grid; otherwise `dt` is the first step, zero for one the solver chooses.
`seed` is for methods that draw random numbers of their own.
"""
function solve_stochastic!(prepared::PreparedStochastic{T}, method, t0::Real, t1::Real,
        rtol::Real, atol::Union{Real, AbstractVector}, dt::Real, keep::Integer,
        max_steps::Integer, seed::Integer, report = nothing) where {T}
    watch = Watch(report)
    fixed = rtol == 0 && iszero(atol)
    grid = prepared.grid
    step = (grid[end] - grid[1]) / (length(grid) - 1)
    saveat = keep == KEEP_TIMES ? copy(prepared.times) : T[]
    noise = path_noise(prepared, method, step, !fixed, UInt64(seed))
    problem = SDEProblem{true}(prepared.model, copy(prepared.start), (T(t0), T(t1)),
        copy(prepared.parameters); noise, noise_rate_prototype = prepared.rate)
    settings = (; maxiters = Int(max_steps), unstable_check = StepCheck(watch), saveat,
        save_everystep = keep == KEEP_STEPS, verbose = SILENT)
    integrator = if fixed
        # Each step ends at a time of the grid: the nominal one is never the shorter.
        SciMLBase.init(problem, method.algorithm; settings..., adaptive = false,
            dt = step * (1 + sqrt(eps(T))), tstops = grid, reltol = stage_tolerance(T),
            abstol = stage_floor(problem, step))
    else
        # Below the grid's steps the path is not known.
        SciMLBase.init(problem, method.algorithm; settings..., adaptive = true,
            dt = dt == 0 ? max(step, (T(t1) - T(t0)) / 1000) : T(dt), dtmin = step,
            tstops = saveat, reltol = T(rtol), abstol = scalar_or_vector(T, atol))
    end
    run_stochastic!(prepared, integrator, Int(keep), watch)
    return nothing
end

scalar_or_vector(::Type{T}, atol::Real) where {T} = T(atol)
scalar_or_vector(::Type{T}, atol::AbstractVector) where {T} = Vector{T}(atol)

"""
    path_seed(prepared)

A seed for methods that draw numbers of their own: another one for another path.
"""
function path_seed(prepared::PreparedStochastic)
    # FNV-1a, on the words of the increments.
    seed = 0xcbf29ce484222325
    for increment in prepared.increments
        seed = (seed ⊻ reinterpret(UInt64, Float64(increment))) * 0x00000100000001b3
    end
    return Int(seed >> 1)
end

"""
    StochasticMethod(algorithm, drawn)

An algorithm of StochasticDiffEq; `drawn(motions, step)` is how many random numbers it
draws in a step beside the path, `nothing` where it draws none.
"""
struct StochasticMethod{A}
    algorithm::A
    drawn::Any
end

function path_noise(prepared::PreparedStochastic{T}, method::StochasticMethod, step::T,
        between::Bool, seed::UInt64) where {T}
    motions = prepared.rate === nothing ? length(prepared.start) : size(prepared.rate, 2)
    drawn = prepared.rate === nothing || method.drawn === nothing ? nothing :
            method.drawn(motions, step)::Int
    return PathNoise(copy(prepared.grid), copy(prepared.increments), copy(prepared.areas);
        motions, extra = something(drawn, motions), drawn = drawn !== nothing, between,
        seed)
end

function run_stochastic!(prepared::PreparedStochastic, integrator, keep::Int,
        watch::Watch)
    SciMLBase.solve!(integrator)
    solution = integrator.sol
    stats, report = solution.stats, prepared.report
    code = unstable_at_end(outcome(solution.retcode, -1, watch), integrator)
    report[1] = code
    report[2] = -1
    report[3] = stats.naccept + stats.nreject
    report[4] = stats.naccept
    report[5] = stats.nreject
    report[6] = stats.nf
    report[7] = stats.njacs
    report[8] = stats.nsolve
    asked = keep in (KEEP_TIMES, KEEP_STEPS)
    keep!(prepared, asked ? length(solution.t) : 0, solution, integrator.t, integrator.u)
    prepared.message = message(code, solution.retcode)
    return nothing
end

"""
    load_stochastic()

Load StochasticDiffEq, and with it the part of this package that knows its methods.
Only stochastic problems pay for it: it takes seconds.

Returns what stands in the way: `"package"` where the environment has no
StochasticDiffEq, `"extension"` where it does not know that the two work together, and
the empty string where nothing does.
"""
function load_stochastic()
    id = Base.PkgId(Base.UUID("789caeaf-c7a9-5a7d-9973-96adeb23e2a0"), "StochasticDiffEq")
    Base.locate_package(id) === nothing && return "package"
    Base.require(id)
    found = Base.get_extension(@__MODULE__, :HybridNDSStochasticExt)
    return found === nothing ? "extension" : ""
end

"""
    stochastic_method(name, stratonovich, newton_tolerance = nothing, theta = nothing)

The [`StochasticMethod`](@ref) of this name; see [`load_stochastic`](@ref). `theta` is
the weight of the drift at the end of a step, for implicit methods that have one.
"""
function stochastic_method end

"""
    stochastic_method_names()

The names that [`stochastic_method`](@ref) takes, sorted.
"""
function stochastic_method_names end

"""
    stochastic_version()

The version of StochasticDiffEq.
"""
function stochastic_version end
