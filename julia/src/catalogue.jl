# Algorithms for ordinary equations beside those of the table: of any SciML package in
# the environment, by the package's name and their own, or made by the host's user.

"""
    catalogued(name, newton_tolerance = nothing)

The algorithm `"Package.Name"`, made with its own defaults but for what solves here need:
it does not differentiate on its own, and `newton_tolerance` is κ of its Newton iteration.
`"#12"` is the one that the host refers to by this number.
"""
function catalogued(name::AbstractString, newton_tolerance = nothing)
    startswith(name, '#') && return referred(parse(Int, name[2:end]))
    package, type = String.(split(name, '.'; limit = 2))
    # What a package defines that was loaded just now is newer than this call.
    return Base.invokelatest(made, required(package), Symbol(type), newton_tolerance)
end

"""
    required(package)

The module of a package in Julia's environment, loaded if it was not.
"""
function required(package::AbstractString)
    source = identified(String(package))
    source === nothing &&
        throw(ArgumentError("Julia's environment has no package $package; add it there, " *
                            "by import Pkg; Pkg.add(\"$package\")"))
    return Base.require(source)
end

# A package of the project, or one that a loaded package depends on.
function identified(package::String)
    result = Base.identify_package(package)
    result === nothing || return result
    for source in collect(keys(Base.loaded_modules))
        source.name == package && return source
        result = Base.identify_package(source, package)
        result === nothing || return result
    end
    return nothing
end

function made(package::Module, name::Symbol, newton_tolerance)
    constructor = isdefined(package, name) ? getfield(package, name) : nothing
    constructor isa Type && constructor <: SciMLBase.AbstractODEAlgorithm ||
        throw(ArgumentError("$package has no algorithm $name for ordinary equations"))
    hasmethod(constructor, Tuple{}) ||
        throw(ArgumentError("$package.$name is not made without arguments; make it in " *
                            "Julia, and pass the object"))
    takes(keyword) = hasmethod(constructor, Tuple{}, (keyword,))
    options = Pair{Symbol, Any}[]
    takes(:autodiff) && push!(options, :autodiff => AutoFiniteDiff())
    if newton_tolerance !== nothing && takes(:nlsolve)
        newton = NLNewton(; κ = newton_tolerance, max_iter = PATIENT_ITERATIONS)
        push!(options, :nlsolve => newton)
    end
    return constructor(; options..., error_estimate(constructor)...)
end

"""
    capabilities(algorithm)

What SciML's traits say of an algorithm, by name: `adaptive`, `implicit` (it solves
linear systems), `newton` (by Newton's iteration), `derivative` (that of its steps is
known here), and `order=2.0`.
"""
function capabilities(algorithm)
    algorithm isa SciMLBase.AbstractODEAlgorithm ||
        throw(ArgumentError("an algorithm for ordinary differential equations was " *
                            "expected, got a $(typeof(algorithm))"))
    has(name) = hasfield(typeof(algorithm), name)
    traits = [trait for (trait, holds) in ("adaptive" => SciMLBase.isadaptive(algorithm),
                 "implicit" => has(:linsolve) || has(:linear_solver),
                 "newton" => has(:nlsolve), "derivative" => steps_known(algorithm))
             if holds]
    order = known_order(algorithm)
    order === nothing || push!(traits, "order=$order")
    return join(traits, ' ')
end

function steps_known(algorithm)
    try
        coefficients(Float64, algorithm)
        return true
    catch error
        error isa Union{ArgumentError, MethodError} || rethrow()
        return false
    end
end

# `nothing` where its package does not say it.
function known_order(algorithm)
    try
        return Float64(SciMLBase.alg_order(algorithm))
    catch error
        # What the trait does by default, and where it is of another kind of algorithm.
        error isa Union{ErrorException, MethodError} || rethrow()
        return nothing
    end
end

algorithm_name(algorithm) = string(nameof(typeof(algorithm)))

"""
    catalogue()

The names `Package.Name` of the algorithms for ordinary equations that loaded packages
define and make without arguments, one a line, sorted.
"""
function catalogue()
    lines = String[]
    for (source, package) in collect(Base.loaded_modules), name in names(package)
        result = isdefined(package, name) ? getfield(package, name) : nothing
        result isa Type && result <: SciMLBase.AbstractODEAlgorithm || continue
        type = Base.unwrap_unionall(result)
        type isa DataType && !isabstracttype(type) || continue
        nameof(parentmodule(type)) == Symbol(source.name) || continue
        hasmethod(result, Tuple{}) && push!(lines, "$(source.name).$name")
    end
    return join(sort!(unique!(lines)), '\n')
end

merge!(HOST_FUNCTIONS,
    Dict{String, Any}(string(f) => f
    for f in (algorithm_name, capabilities, catalogue, catalogued, preconditioner, refer!)))
