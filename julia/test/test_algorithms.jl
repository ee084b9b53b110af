using HybridNDS: HybridNDS, algorithm, algorithm_names
using SciMLBase: SciMLBase
using Test

isdefined(@__MODULE__, :Models) || include("models.jl")

@testset "algorithms by name" begin
    @test allunique(algorithm_names())
    @test issorted(algorithm_names())
    for name in algorithm_names()
        @test string(nameof(typeof(algorithm(name)))) ==
              (name == "DefaultODEAlgorithm" ? "CompositeAlgorithm" : name)
    end
    @test_throws "no algorithm Tsit6; there are" algorithm("Tsit6")
end

@testset "tolerance of Newton's iteration" begin
    @test algorithm("Kvaerno5").nlsolve.κ == 0.01
    @test algorithm("Kvaerno5", 1e-6).nlsolve.κ == 1e-6
    @test algorithm("RadauIIA5", 1e-6).κ == 1e-6
    # One type for all tolerances: the solver is compiled once.
    @test typeof(algorithm("FBDF")) === typeof(algorithm("FBDF", 1e-6))
end

@testset "stages of RadauIIA5 with algebraic equations" begin
    plain = Models.prepared()
    constrained = Models.prepared(; mass = [1.0 0.0; 0.0 0.0])
    radau = algorithm("RadauIIA5")
    κ(prepared, algorithm, rtol) = HybridNDS.adapted(algorithm, prepared, rtol).κ
    @test κ(plain, radau, 1e-8) == HybridNDS.NEWTON_TOLERANCE
    # Ten units in the last place are κ rtol^(2/3) / 10, of single precision; of double
    # precision they lie below the least κ.
    single = Models.prepared(Float32; mass = [1.0 0.0; 0.0 0.0])
    @test κ(single, radau, 1.0f-4) * 1e-4^(2 / 3) / 10≈10eps(Float32) rtol=1e-6
    @test κ(constrained, radau, 1e-8) == 1e-6
    @test κ(constrained, radau, 0.0) == HybridNDS.NEWTON_TOLERANCE
    # What was asked for stays.
    @test κ(constrained, algorithm("RadauIIA5", 0.005), 1e-8) == 0.005
    @test HybridNDS.adapted(algorithm("FBDF"), constrained, 1e-8) == algorithm("FBDF")
end
