using HybridNDS: HybridNDS, algorithm, algorithm_names
using SciMLBase: SciMLBase
using Test

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
