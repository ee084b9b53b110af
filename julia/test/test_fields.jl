# The hand-written fields against the tabulated ones, which NumPy computed in extended
# precision (tests/fixtures/make/field_values.py).

using Test

isdefined(@__MODULE__, :Fields) || include("fields.jl")
isdefined(@__MODULE__, :Fixtures) || include("fixtures.jl")

# An evaluation whose longest chain has k roundings is off by at most k u m, with
# u = 2^-53 and m the magnitude that stands in the table. The longest chain is that of
# the 2-32-32-2 network: two sums of 32 terms and one of 2, and a few besides.
const ROUNDINGS = 80

function field_error(name, parameters)
    spec = Fixtures.load(name)
    f! = Fields.FIELDS[spec["field"]](parameters)
    n = length(spec["y0"])
    worst = 0.0
    for row in eachrow(Fixtures.table(name, "field.csv"))
        du = fill(NaN, n)
        f!(du, row[2:n+1], nothing, row[1])
        value, magnitude = row[n+2:2n+1], row[2n+2:3n+1]
        limit = ROUNDINGS * 2.0^-53 .* magnitude .+ floatmin(Float64)
        worst = max(worst, maximum(abs.(du .- value) ./ limit))
    end
    return worst
end

@testset "fields by hand" begin
    @test !isempty(Fixtures.names())
    for name in Fixtures.names()
        spec = Fixtures.load(name)
        @testset "$name" begin
            @test field_error(name, spec["parameters"]) <= 1
        end
    end
    # The comparison must be able to fail: one part in 1e9 in one coefficient.
    wrong = copy(Fixtures.load("robertson")["parameters"])
    wrong["k2"] *= 1 + 1e-9
    @test field_error("robertson", wrong) > 1
end

@testset "fields of other element types" begin
    for name in Fixtures.names()
        spec = Fixtures.load(name)
        f! = Fields.FIELDS[spec["field"]](spec["parameters"])
        n = length(spec["y0"])
        row = Fixtures.table(name, "field.csv")[end, :]
        state, magnitude = row[2:n+1], row[2n+2:3n+1]
        double, extended = zeros(n), zeros(BigFloat, n)
        f!(double, state, nothing, row[1])
        f!(extended, BigFloat.(state), nothing, big(row[1]))
        @test all(abs.(extended .- double) .<= ROUNDINGS * 2.0^-53 .* magnitude)
    end
end
