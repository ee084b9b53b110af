# The hand-written drifts and diffusions against the tabulated ones, which NumPy computed
# in extended precision (tests/fixtures/make/field_values.py).

using Test

isdefined(@__MODULE__, :StochasticFields) || include("sde_fields.jl")
isdefined(@__MODULE__, :Fixtures) || include("fixtures.jl")

# As in test_fields.jl: no chain of roundings is longer.
const STOCHASTIC_ROUNDINGS = 80

# Additive noise is of either shape: these are vectors.
const VECTORS = ("double_well", "fading", "periodic")

# The shape of what a diffusion writes to, from the number of tabulated values.
function diffusion_shape(spec, count)
    n = length(spec["y0"])
    vector = spec["noise"] in ("scalar", "diagonal") || spec["field"] in VECTORS
    return vector ? (n,) : (n, count ÷ n)
end

"""
    stochastic_error(name, parameters, T)

The largest errors of drift and diffusion in units of what rounding allows.
"""
function stochastic_error(name, parameters, T = Float64)
    spec = Fixtures.load(name)
    n = length(spec["y0"])
    fields = StochasticFields.FIELDS[spec["field"]](parameters)
    return map(zip(("drift", "diffusion"), fields)) do (part, f!)
        rows = Fixtures.table(name, "$part.csv")
        count = (size(rows, 2) - 1 - n) ÷ 2
        out = fill(T(NaN), part == "drift" ? (n,) : diffusion_shape(spec, count))
        maximum(eachrow(rows)) do row
            f!(out, T.(row[2:n+1]), nothing, T(row[1]))
            # Tables hold matrices row by row.
            values = ndims(out) == 1 ? out : vec(permutedims(out))
            value, magnitude = row[n+2:n+1+count], row[n+2+count:end]
            limit = STOCHASTIC_ROUNDINGS * 2.0^-53 .* magnitude .+ floatmin(Float64)
            maximum(abs.(values .- value) ./ limit)
        end
    end
end

@testset "stochastic fields by hand" begin
    @test length(Fixtures.names(; stochastic = true)) >= 12
    for name in Fixtures.names(; stochastic = true)
        parameters = Fixtures.load(name)["parameters"]
        @testset "$name" begin
            @test all(stochastic_error(name, parameters) .<= 1)
            @test all(stochastic_error(name, parameters, BigFloat) .<= 1)
        end
    end
    # The comparison must be able to fail: one part in 1e9 in one coefficient.
    for (name, key) in (("gbm", "b"), ("kubo", "a"), ("lotka_volterra", "delta"))
        wrong = copy(Fixtures.load(name)["parameters"])
        wrong[key] *= 1 + 1e-9
        @test maximum(stochastic_error(name, wrong)) > 1
    end
end

@testset "stored paths" begin
    # Whole numbers, as many rows for each path.
    rows = Fixtures.table("brownian", "increments.csv")
    @test size(rows, 1) % 128 == 0
    @test all(isinteger, rows)
end
