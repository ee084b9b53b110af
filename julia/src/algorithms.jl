# The derivative is always given, so no algorithm differentiates on its own; finite
# differences are named only to keep dual numbers out of the compiled code.
const NO_AUTODIFF = (; autodiff = AutoFiniteDiff())

const ALGORITHMS = Dict{String, Any}(
    "Euler" => () -> Euler(),
    "Heun" => () -> Heun(),
    "Midpoint" => () -> Midpoint(),
    "Ralston" => () -> Ralston(),
    "BS3" => () -> BS3(),
    "RK4" => () -> RK4(),
    "DP5" => () -> DP5(),
    "Tsit5" => () -> Tsit5(),
    "DP8" => () -> DP8(),
    "Vern6" => () -> Vern6(),
    "Vern7" => () -> Vern7(),
    "Vern8" => () -> Vern8(),
    "Vern9" => () -> Vern9(),
    "ROCK2" => () -> ROCK2(),
    "ROCK4" => () -> ROCK4())

# Methods that solve linear equations in a step, and the choice among methods.
const LINEAR_ALGORITHMS = Dict{String, Any}(
    "DefaultODEAlgorithm" => DefaultODEAlgorithm, "Rosenbrock23" => Rosenbrock23,
    "Rodas4" => Rodas4, "Rodas5P" => Rodas5P)

# Methods whose stage equations are solved by Newton's iteration.
const NEWTON_ALGORITHMS = Dict{String, Any}(
    "FBDF" => FBDF, "ImplicitEuler" => ImplicitEuler,
    "ImplicitMidpoint" => ImplicitMidpoint, "KenCarp3" => KenCarp3,
    "KenCarp4" => KenCarp4, "KenCarp5" => KenCarp5, "Kvaerno3" => Kvaerno3,
    "Kvaerno4" => Kvaerno4, "Kvaerno5" => Kvaerno5, "QNDF" => QNDF, "TRBDF2" => TRBDF2,
    "Trapezoid" => Trapezoid)

# Methods that bring their own Newton iteration; that of RadauIIA5 is tightened where there
# are algebraic equations, see `adapted`.
const COUPLED_ALGORITHMS = Dict{String, Any}(
    "RadauIIA3" => RadauIIA3, "RadauIIA5" => RadauIIA5)

"""
    algorithm_names()

The names that [`algorithm`](@ref) takes, sorted.
"""
function algorithm_names()
    tables = (ALGORITHMS, LINEAR_ALGORITHMS, NEWTON_ALGORITHMS, COUPLED_ALGORITHMS)
    return sort!(reduce(vcat, [collect(keys(table)) for table in tables]))
end

# Julia's own defaults; tighter equations get more iterations.
const NEWTON_TOLERANCE, NEWTON_ITERATIONS, PATIENT_ITERATIONS = 0.01, 10, 50

"""
    linear_solver(jacobian, preconditioned = nothing)

Keywords of how a method solves linear equations: with a `"dense"` Jacobian as it would by
itself; with a `"sparse"` one by the factorization that LinearSolve takes for the matrix,
or by GMRES with what a [`preconditioner`](@ref) makes; `"matrix-free"` by GMRES alone.
"""
function linear_solver(jacobian::AbstractString, preconditioned = nothing)
    preconditioned === nothing ||
        return (; NO_AUTODIFF..., linsolve = PreconditionedGMRES(preconditioned))
    jacobian == "dense" && return NO_AUTODIFF
    # Named, so that the automatic choice does not take GMRES for large systems.
    jacobian == "sparse" && return (; NO_AUTODIFF..., linsolve = nothing)
    jacobian == "matrix-free" && return (; NO_AUTODIFF..., linsolve = KrylovJL_GMRES())
    throw(ArgumentError("no Jacobian $jacobian; there are dense, sparse, matrix-free"))
end

"""
    error_estimate(constructor)

Keywords of how a method estimates its error. Those of OrdinaryDiffEqSDIRK 2.9 multiply
the estimate by the inverse of M/(γ dt) - J, to damp its stiff components, and not by
1/(γ dt) as well: the unit of time decides how accurate a solve is. They go without.
"""
function error_estimate(constructor)
    parentmodule(constructor) === parentmodule(TRBDF2) || return (;)
    return hasmethod(constructor, Tuple{}, (:smooth_est,)) ? (; smooth_est = false) : (;)
end

"""
    algorithm(name, newton_tolerance = nothing, jacobian = "dense", preconditioned = nothing)

The algorithm of this name. `newton_tolerance` is κ of the Newton iteration: a stage is
solved when its estimated error is below κ times the error tolerance of the solve. For
`jacobian` and `preconditioned` see [`linear_solver`](@ref).
"""
function algorithm(name::AbstractString, newton_tolerance = nothing,
        jacobian::AbstractString = "dense", preconditioned = nothing)
    κ = something(newton_tolerance, NEWTON_TOLERANCE)
    iterations = newton_tolerance === nothing ? NEWTON_ITERATIONS : PATIENT_ITERATIONS
    linear = linear_solver(jacobian, preconditioned)
    if haskey(NEWTON_ALGORITHMS, name)
        constructor = NEWTON_ALGORITHMS[name]
        nlsolve = NLNewton(; κ, max_iter = iterations)
        return constructor(; linear..., nlsolve, error_estimate(constructor)...)
    end
    if haskey(COUPLED_ALGORITHMS, name)
        return COUPLED_ALGORITHMS[name](; linear..., κ, maxiters = iterations)
    end
    haskey(LINEAR_ALGORITHMS, name) && return LINEAR_ALGORITHMS[name](; linear...)
    haskey(ALGORITHMS, name) && return ALGORITHMS[name]()
    occursin(r"[.#]", name) && return catalogued(name, newton_tolerance)
    throw(ArgumentError("no algorithm $name; there are $(join(algorithm_names(), ", "))"))
end

"""
    adapted(algorithm, prepared, rtol)

The algorithm for one problem and tolerance: RadauIIA5 with algebraic equations, where no
`newton_tolerance` was asked for, solves its stages more tightly.

Julia's holds stages to κ of rtol^(2/3)/10; ten units in the last place are all that the
iteration can reach (Hairer & Wanner 1996, section IV.8).
"""
adapted(algorithm, prepared, rtol) = algorithm
function adapted(algorithm::RadauIIA5, prepared, rtol::T) where {T}
    asked = algorithm.maxiters != NEWTON_ITERATIONS
    (asked || prepared.model.mass_matrix isa LinearAlgebra.UniformScaling) &&
        return algorithm
    reachable = 100 * Float64(eps(T)) / Float64(rtol)^(2 / 3)
    κ = clamp(reachable, 1.0e-6, NEWTON_TOLERANCE)
    return RadauIIA5(; NO_AUTODIFF..., linsolve = algorithm.linsolve, κ,
        maxiters = PATIENT_ITERATIONS)
end
