using HybridNDS: HybridNDS, JacobianProduct, SparseJacobian, algorithm, matrix_free_model,
                 mass_entries, sparse_model, sparsity_pattern
using LinearAlgebra: I
using SparseArrays: nnz, nonzeros, sparse
using Test

# The linear field A u, its entries column by column, and its product with a vector.
const BANDED = sparse([-2.0 1 0; 1 -2 1; 0 1 -2])
banded!(out, u, p, t) = (out .= BANDED * u; nothing)
banded_entries!(out, u, p, t) = (out .= nonzeros(BANDED); nothing)
banded_product!(out, w, p, t) = (out .= BANDED * view(w, 4:6); nothing)
no_gradient!(out, u, p, t) = (fill!(out, 0.0); nothing)
banded_pattern(T = Float64) = sparsity_pattern(T, BANDED.colptr .- 1, BANDED.rowval .- 1)

@testset "entries are written in the order that a matrix stores them" begin
    J = banded_pattern()
    SparseJacobian(banded_entries!)(J, zeros(3), Float64[], 0.0)
    @test J == BANDED
    model = sparse_model(Float64, banded!, banded_entries!, no_gradient!, banded_pattern())
    fill!(J, 0.0)
    model.jac(J, zeros(3), Float64[], 0.0)
    @test J == BANDED
    @test model.mass_matrix === I
end

@testset "products keep the vector of each task to itself" begin
    product = JacobianProduct{Float64}(banded_product!)
    v, u = [1.0, 2.0, 4.0], zeros(3)
    multiply() = (out = zeros(3); product(out, v, u, Float64[], 0.0); out)
    @test multiply() == BANDED * v
    @test fetch(Threads.@spawn multiply()) == BANDED * v
    model = matrix_free_model(Float64, banded!, banded_product!, no_gradient!)
    out = zeros(3)
    model.jvp(out, v, u, Float64[], 0.0)
    @test out == BANDED * v
end

@testset "a mass matrix is stored where the pattern is" begin
    mass = mass_entries(Float64, 3, [0, 1], [0, 1], [2.0, 3.0])
    model = sparse_model(
        Float64, banded!, banded_entries!, no_gradient!, banded_pattern(), mass)
    @test model.mass_matrix == [2.0 0 0; 0 3 0; 0 0 0]
    @test nnz(model.mass_matrix) == nnz(BANDED)
    outside = mass_entries(Float64, 3, [2], [0], [1.0])
    @test_throws "entries that the pattern has not" sparse_model(
        Float64, banded!, banded_entries!, no_gradient!, banded_pattern(), outside)
end

@testset "linear solvers by the form of the Jacobian" begin
    @test algorithm("Rodas5P", nothing, "sparse").linsolve === nothing
    @test nameof(typeof(algorithm("FBDF", nothing, "matrix-free").linsolve)) === :KrylovJL
    @test_throws "no Jacobian banded" algorithm("FBDF", nothing, "banded")
end
