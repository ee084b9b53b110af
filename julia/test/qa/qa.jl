# The quality of the package itself: Aqua, explicit imports, allocations.

using Aqua: Aqua
using ExplicitImports: ExplicitImports
using HybridNDS: HybridNDS
using StochasticDiffEq: StochasticDiffEq  # It loads the extension.
using Test

@testset "Aqua" begin
    # Ambiguities of this package alone, not of those it loads.
    Aqua.test_all(HybridNDS; ambiguities = (; recursive = false))
end

# What is not public elsewhere and used all the same, in every module and the extension:
# no other name says what is meant.
const INTERNAL = (:AbstractODEAlgorithm, :CheckInitFailureError, :ESDIRKIMEXTableau,
    :FunctionWrapper, :Libdl, :LinearCache, :NLNewton, :RefValue,
    :SciMLLinearSolveAlgorithm, :init_cacheval, :literal_pow, :loaded_modules,
    :locate_package, :needs_concrete_A, :safepoint, :tabtype, :unwrap_unionall)

@testset "explicit imports" begin
    @test ExplicitImports.check_no_implicit_imports(HybridNDS) === nothing
    @test ExplicitImports.check_no_stale_explicit_imports(HybridNDS) === nothing
    @test ExplicitImports.check_no_self_qualified_accesses(HybridNDS) === nothing
    @test ExplicitImports.check_all_explicit_imports_via_owners(HybridNDS) === nothing
    @test ExplicitImports.check_all_qualified_accesses_via_owners(HybridNDS) === nothing
end

# Julia 1.10 has no public names but exported ones.
if VERSION >= v"1.11"
    @testset "public names" begin
        # The extension imports from its own package.
        ignore = (INTERNAL..., names(HybridNDS; all = true)...)
        @test ExplicitImports.check_all_explicit_imports_are_public(
            HybridNDS; ignore) === nothing
        @test ExplicitImports.check_all_qualified_accesses_are_public(
            HybridNDS; ignore) === nothing
    end
end

@testset "allocations" begin
    include("../test_allocations.jl")
end
