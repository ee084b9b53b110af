using HybridNDS: EquilibratedSystem, PreconditionedGMRES, SubdomainFactors, algorithm,
                 equilibrate!, preconditioner, subdomains, with_tolerances
using LinearAlgebra: Diagonal, I, diag, norm
using LinearSolve: LinearSolve, LinearProblem, init
using SciMLBase: SciMLBase, solve!
using SparseArrays: sparse, spdiagm
using Test

# A convection and diffusion on a line, in units that differ by entry.
unscaled(n) = spdiagm(-1 => fill(1.3, n - 1), 0 => fill(-2.5, n), 1 => fill(0.7, n - 1))
const UNITS = [2.0^(7 * (i % 5)) for i in 1:64]
scaled(n) = Diagonal(UNITS[1:n]) * unscaled(n) * Diagonal(1 ./ UNITS[n:-1:1])

@testset "the interface of linear solvers is met" begin
    @test isempty(LinearSolve.algorithm_interface_issues(PreconditionedGMRES(identity)))
end

@testset "equations are in units of the tolerances" begin
    A = scaled(64)
    plain = PreconditionedGMRES(identity, 0.0, [1.0])
    one, other = EquilibratedSystem(A), EquilibratedSystem(unscaled(64))
    equilibrate!(one, A, zeros(64), PreconditionedGMRES(identity, 0.0, UNITS[64:-1:1]))
    equilibrate!(other, unscaled(64), zeros(64), plain)
    # Powers of two change no digit.
    @test one.matrix == other.matrix
    @test all(diag(one.matrix) .== 1)
    @test maximum(abs, one.matrix) == 1
end

@testset "linear systems are solved, $name" for name in ("block-jacobi", "none")
    make = name == "none" ? (B -> I(size(B, 1))) : preconditioner(name, 8)
    A, b = scaled(64), UNITS .* sin.(1:64)
    expected = Matrix(A) \ b
    cache = init(LinearProblem(A, b), PreconditionedGMRES(make, 1e-10, UNITS[64:-1:1]))
    result = solve!(cache)
    @test SciMLBase.successful_retcode(result.retcode)
    @test norm((result.u .- expected) ./ UNITS[64:-1:1]) < 1e-8
    cache.A = 2 * A
    @test norm((solve!(cache).u .- expected ./ 2) ./ UNITS[64:-1:1]) < 1e-8
    cache.b = 3 .* b
    @test norm((solve!(cache).u .- 1.5 .* expected) ./ UNITS[64:-1:1]) < 1e-8
end

@testset "a system that is not finite is a failure" begin
    cache = init(LinearProblem(fill(NaN, 3, 3) |> sparse, ones(3)),
        PreconditionedGMRES(B -> I(3)))
    result = solve!(cache)
    @test !SciMLBase.successful_retcode(result.retcode)
    @test all(isnan, result.u)
end

@testset "after a step that failed the units before are taken" begin
    make = preconditioner("block-jacobi", 8)
    A, b = scaled(64), UNITS .* sin.(1:64)
    at(state) = (nothing, state, Float64[], 0.0)
    method = PreconditionedGMRES(make, 1e-10, UNITS[64:-1:1])
    cache = init(LinearProblem(A, b, at(zeros(64))), method)
    solve!(cache)
    cache.p, cache.A = at(fill(NaN, 64)), 2 * A
    result = solve!(cache)
    @test SciMLBase.successful_retcode(result.retcode)
    @test norm((result.u .- Matrix(2 * A) \ b) ./ UNITS[64:-1:1]) < 1e-8
end

@testset "in fixed steps units are those of the state" begin
    A = scaled(64)
    one, other = EquilibratedSystem(A), EquilibratedSystem(unscaled(64))
    plain = PreconditionedGMRES(identity, 0.0, [0.0])
    equilibrate!(one, A, -UNITS[64:-1:1], plain)
    equilibrate!(other, unscaled(64), ones(64), plain)
    @test one.matrix == other.matrix
end

@testset "preconditioners that break down say so" begin
    singular(B) = Diagonal(zeros(size(B, 1)))
    cache = init(LinearProblem(unscaled(5), ones(5)), PreconditionedGMRES(singular))
    @test_throws "the preconditioner broke down" solve!(cache)
    @test_throws "no preconditioner other" preconditioner("other", 0.0)
end

@testset "subdomains are a partition into neighbours" begin
    B = unscaled(50)
    blocks = subdomains(B, 8)
    @test sort(reduce(vcat, blocks)) == 1:50
    @test maximum(length, blocks) == 8
    @test all(maximum(block) - minimum(block) < 8 for block in blocks)
    # One block of everything is the inverse.
    P = SubdomainFactors(B, 50)
    x = sin.(1:50)
    @test LinearSolve.LinearAlgebra.ldiv!(P, B * x) ≈ x
end

@testset "solvers learn the tolerances of a solve" begin
    make = preconditioner("block-jacobi", 32)
    for name in ("FBDF", "QNDF", "Rodas5P", "KenCarp4", "TRBDF2")
        made = with_tolerances(algorithm(name, nothing, "sparse", make), 1e-5, [1.0, 2.0])
        @test made.linsolve.rtol == 1e-5
        @test made.linsolve.atol == [1.0, 2.0]
        @test nameof(typeof(made)) == Symbol(name)
    end
    plain = algorithm("Rodas5P")
    @test with_tolerances(plain, 1e-5, 1e-7) === plain
end
