"""
    NoisePath(T, states, motions, columns)

The Brownian path that a stochastic problem is solved along: increments of `motions`
Brownian motions in the steps of a grid, and their space-time Lévy areas. The diffusion is
a vector of so many `states` where `columns` is zero, otherwise a matrix of that many
columns.

`seed` is for methods that draw random numbers of their own; `nothing` takes another one
for another path.
"""
mutable struct NoisePath{T, R}
    const rate::R
    const motions::Int
    grid::Vector{T}
    increments::Matrix{T}
    areas::Matrix{T}
    seed::Union{Nothing, UInt64}
end
function NoisePath(::Type{T}, states::Integer, motions::Integer,
        columns::Integer) where {T}
    rate = columns == 0 ? nothing : zeros(T, states, columns)
    empty = zeros(T, motions, 0)
    return NoisePath{T, typeof(rate)}(rate, motions, T[], empty, empty, nothing)
end

"""
    resize_path!(prepared, steps, with_areas)

Make room for a path of so many steps; returns the [`NoisePath`](@ref), whose `grid`,
`increments` and `areas` the host fills.
"""
function resize_path!(prepared::Prepared{T}, steps::Integer, with_areas::Bool) where {T}
    path = prepared.path
    path.grid = zeros(T, steps + 1)
    path.increments = zeros(T, path.motions, steps)
    path.areas = zeros(T, path.motions, with_areas ? steps : 0)
    return path
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

# How a solve along a path goes.
followed_path(::Type{T}, ::SDEFunction, states, motions, columns) where {T} = NoisePath(
    T, states, motions, columns)
function sciml_problem(prepared::Prepared, path::NoisePath, algorithm, span, fixed::Bool)
    noise = path_noise(path, algorithm, length(prepared.start), !fixed)
    return SDEProblem{true}(prepared.model, start(prepared), span,
        copy(prepared.parameters); noise, noise_rate_prototype = path.rate)
end
step_length(path::NoisePath, dt) = (path.grid[end] - path.grid[1]) / (length(path.grid) - 1)
# Each step ends at a time of the grid: the nominal one is never the shorter.
fixed_steps(path::NoisePath{T}, step, stops) where {T} = (;
    dt = step * (1 + sqrt(eps(T))), tstops = path.grid)
# Below the grid's steps the path is not known.
function first_step(path::NoisePath, dt, span, stops)
    shortest = step_length(path, dt)
    automatic = max(shortest, (span[2] - span[1]) / 1000)
    return (; dt = dt == 0 ? automatic : dt, dtmin = shortest, tstops = stops)
end

function path_noise(path::NoisePath{T}, algorithm, states::Int, between::Bool) where {T}
    motions = path.rate === nothing ? states : size(path.rate, 2)
    drawn = path.rate === nothing ? nothing :
            drawn_numbers(algorithm, motions, step_length(path, zero(T)))
    seed = drawn === nothing ? UInt64(0) : @something(path.seed, path_seed(path))
    return PathNoise(path.grid, path.increments, path.areas; motions,
        extra = something(drawn, motions), drawn = drawn !== nothing, between, seed)
end

function path_seed(path::NoisePath)
    # FNV-1a, on the words of the increments.
    seed = 0xcbf29ce484222325
    for increment in path.increments
        seed = (seed ⊻ reinterpret(UInt64, Float64(increment))) * 0x00000100000001b3
    end
    return seed >> 1
end

"""
    drawn_numbers(algorithm, motions, step)

How many random numbers a method draws in a step beside the path, where its noise is a
matrix; `nothing` for none: what it then takes beside the increments are Lévy areas.
"""
drawn_numbers(algorithm, motions, step) = nothing

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
    extension = Base.get_extension(@__MODULE__, :HybridNDSStochasticExt)
    return extension === nothing ? "extension" : ""
end

"""
    stochastic_method(name, stratonovich, newton_tolerance = nothing, theta = nothing)

The algorithm of StochasticDiffEq of this name; see [`load_stochastic`](@ref). `theta` is
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
