const ITO, STRATONOVICH = SciMLBase.AlgorithmInterpretation.Ito,
SciMLBase.AlgorithmInterpretation.Stratonovich

# Explicit methods. EM splits by default, which is another scheme than Euler's and
# Maruyama's.
const EXPLICIT = Dict{String, Any}(
    "DRI1" => () -> DRI1(), "EM" => () -> EM(false), "EulerHeun" => () -> EulerHeun(),
    "LambaEM" => () -> LambaEM(), "LambaEulerHeun" => () -> LambaEulerHeun(),
    "PL1WM" => () -> PL1WM(), "SOSRA" => () -> SOSRA(), "SOSRI" => () -> SOSRI(),
    "SRA1" => () -> SRA1(), "SRIW1" => () -> SRIW1(), "SROCK2" => () -> SROCK2())

# Explicit methods for either interpretation.
const INTERPRETED = Dict{String, Any}("RKMil" => RKMil, "RKMilCommute" => RKMilCommute,
    "RKMilGeneral" => RKMilGeneral, "SROCK1" => SROCK1)

# Methods whose stage equations are solved by Newton's iteration.
const IMPLICIT = Dict{String, Any}("ISSEM" => ISSEM, "ISSEulerHeun" => ISSEulerHeun,
    "ImplicitEM" => ImplicitEM, "ImplicitEulerHeun" => ImplicitEulerHeun,
    "SKenCarp" => SKenCarp, "STrapezoid" => STrapezoid)

function HybridNDS.stochastic_method_names()
    tables = (EXPLICIT, INTERPRETED, IMPLICIT)
    return sort!(vcat("ImplicitRKMil", [collect(keys(table)) for table in tables]...))
end

function HybridNDS.stochastic_method(name::AbstractString, stratonovich::Bool,
        newton_tolerance = nothing, theta = nothing)
    weight = theta === nothing ? (;) : (; theta = Float64(theta))
    interpretation = stratonovich ? STRATONOVICH : ITO
    if haskey(EXPLICIT, name)
        return EXPLICIT[name]()
    elseif haskey(INTERPRETED, name)
        return INTERPRETED[name](; interpretation)
    elseif haskey(IMPLICIT, name)
        return IMPLICIT[name](;
            NO_AUTODIFF..., nlsolve = newton(newton_tolerance), weight...)
    elseif name == "ImplicitRKMil"
        return ImplicitRKMil(; NO_AUTODIFF..., nlsolve = newton(newton_tolerance),
            interpretation, weight...)
    end
    throw(ArgumentError("no stochastic method $name; there are " *
                        join(HybridNDS.stochastic_method_names(), ", ")))
end

function newton(tolerance)
    iterations = tolerance === nothing ? NEWTON_ITERATIONS : PATIENT_ITERATIONS
    return NLNewton(; κ = something(tolerance, NEWTON_TOLERANCE), max_iter = iterations)
end

function HybridNDS.drawn_numbers(algorithm::Union{PL1WM, RKMilGeneral}, motions, step)
    return length(
        StochasticDiffEqCore._z_prototype(algorithm, zeros(motions), true, step))
end

HybridNDS.stochastic_version() = string(pkgversion(StochasticDiffEq))
