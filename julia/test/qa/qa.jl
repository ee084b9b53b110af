# The quality of the package itself: Aqua, explicit imports, allocations.

using Aqua: Aqua
using ExplicitImports: ExplicitImports
using HybridNDS: HybridNDS
using Test

@testset "Aqua" begin
    # Ambiguities of this package alone, not of those it loads.
    Aqua.test_all(HybridNDS; ambiguities = (; recursive = false))
end

@testset "explicit imports" begin
    @test ExplicitImports.check_no_implicit_imports(HybridNDS) === nothing
    @test ExplicitImports.check_no_stale_explicit_imports(HybridNDS) === nothing
    @test ExplicitImports.check_all_explicit_imports_via_owners(HybridNDS) === nothing
    @test ExplicitImports.check_no_self_qualified_accesses(HybridNDS) === nothing
end

@testset "allocations" begin
    include("../test_allocations.jl")
end
