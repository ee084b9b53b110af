using HybridNDS: AdjointWork, DifferentiatedField, HybridNDS, MatrixFunction,
                 PatternJacobian, Stages, TangentWork, VectorFunction, algorithm,
                 algorithm_names, along_parameters!, begin_record!, coefficients,
                 end_state!, mass_entries, pull_step!, push_step!, record_size, solve!,
                 sparsity_pattern, stages, take_step!
using LinearAlgebra: dot, norm
using Test

isdefined(@__MODULE__, :Models) || include("models.jl")

# A solve that is recorded: the matrix of its steps' columns, and their number.
function recorded(name, room; rtol = 1e-6, dt = 0.0)
    problem, data = Models.prepared(), zeros(record_size(room, 2))
    begin_record!(problem.steps, pointer(data), room, 0.0, problem.start)
    newton = haskey(HybridNDS.NEWTON_ALGORITHMS, name) ||
             haskey(HybridNDS.COUPLED_ALGORITHMS, name)
    method = algorithm(name, newton ? 1e-8 : nothing)
    solve!(problem, method, 0.0, 2.0, rtol, rtol, dt, HybridNDS.KEEP_END, 10^5)
    steps = reshape(data, 4, :)
    return problem, method, steps[:, 2:end], Int(steps[1, 1])
end

# Products of its derivatives by hand, as `DifferentiatedField` wants them.
function tangent!(out, x, p, t)
    u1, u2, δ1, δ2, δp1, δp2 = x
    out[1] = -p[1] * δ1 - δp1 * u1
    out[2] = p[2] * (δ1 * u2 + u1 * δ2) + δp2 * u1 * u2
    return nothing
end
function second_tangent!(out, x, p, t)
    u1, u2, k1, k2, _, δ1, δ2, δp1, δp2 = x
    out[1] = -δp1 * k1
    out[2] = δp2 * (u2 * k1 + u1 * k2) + p[2] * (δ2 * k1 + δ1 * k2)
    return nothing
end
function adjoint!(out, x, p, t)
    u1, u2, v1, v2 = x
    out .= (-p[1] * v1 + p[2] * u2 * v2, p[2] * u1 * v2, -u1 * v1, u1 * u2 * v2)
    return nothing
end
# Of Σ G[a, b] J[a, b], with G by its rows.
function contracted!(out, u, G, p)
    out .= (G[4] * p[2], G[3] * p[2], -G[1], G[3] * u[2] + G[4] * u[1])
    return nothing
end
second_adjoint!(out, x, p, t) = contracted!(out, x[1:2], x[3:6], p)
function second_adjoint_of_stages!(out, x, p, t)
    s = (length(x) - 4) ÷ 4
    V, K = reshape(x[3:(2 + 2s)], 2, s), reshape(x[(3 + 2s):(2 + 4s)], 2, s)
    return contracted!(out, x[1:2], vec(K * V'), p)
end

function field(first, second; contracted = true)
    drift, jacobian, gradient = Models.parts()
    return DifferentiatedField{Float64}(VectorFunction{Float64}(drift),
        MatrixFunction{Float64}(jacobian), VectorFunction{Float64}(gradient),
        VectorFunction{Float64}(first), VectorFunction{Float64}(second), nothing, 2, 2,
        contracted)
end
field() = field(tangent!, second_tangent!)

# What a step can amplify round-off by: weights of Vern6 add up to 354.
roundoff(method) = eps() * (1 + sum(abs, method.b) * (1 + maximum(abs, method.A)))

const WITHOUT = ("DefaultODEAlgorithm", "FBDF", "QNDF", "ROCK2", "ROCK4")

@testset "steps taken again are those of the solver" begin
    for name in algorithm_names()
        if name in WITHOUT
            @test_throws ArgumentError coefficients(Float64, algorithm(name))
            continue
        end
        fixed = name in ("Euler", "ImplicitMidpoint")
        problem, method, steps, count = fixed ? recorded(name, 10^4; rtol = 0.0, dt = 0.01) :
                                        recorded(name, 10^4)
        @test count == problem.report.accepted
        @test steps[1, count + 1] == 2.0
        @test steps[3:4, count + 1] == problem.saved_states[:, end]
        work, out = Stages(field(), coefficients(Float64, method)), zeros(2)
        # Round-off; of implicit methods κ times the tolerance, which Newton's error is
        # held to.
        explicit = name in keys(HybridNDS.ALGORITHMS)
        limit = explicit ? 4 * roundoff(work.method) : 1e-8
        for m in 1:count
            u = steps[3:4, m]
            take_step!(work, field(), u, problem.parameters, steps[1, m], steps[2, m])
            end_state!(out, work, u, steps[2, m])
            @test maximum(abs, out - steps[3:4, m + 1]) <=
                  limit * maximum(abs, steps[3:4, m + 1])
        end
    end
end

@testset "derivatives of a step" begin
    u, p, t, dt = [0.8, -0.6], [1.3, 0.7], 0.4, 0.35
    δ, δp, λ = [0.3, -1.1], [0.9, 0.4], [-0.7, 1.6]
    for name in setdiff(algorithm_names(), WITHOUT)
        method = coefficients(Float64, algorithm(name))
        work = Stages(field(), method)
        function stepped(h)
            out, start = zeros(2), u + h * δ
            take_step!(work, field(), start, p + h * δp, t, dt)
            return end_state!(out, work, start, dt)
        end
        # Central differences of fourth order: h⁴ = 1e-12 of fifth derivatives of up to a
        # hundred, and round-off over h.
        h = 1e-3
        slope = (8 * (stepped(h) - stepped(-h)) - (stepped(2h) - stepped(-2h))) / 12h
        tangent, products = copy(δ), TangentWork{Float64}(field(), stages(method))
        along_parameters!(products, δp)
        take_step!(work, field(), u, p, t, dt)
        push_step!(tangent, products, work, field(), u, p, t, dt)
        limit = 1e-10 + roundoff(method) / h
        @test norm(tangent - slope) <= limit * norm(slope)
        for (second, contracted) in ((second_adjoint!, true),
            (second_adjoint_of_stages!, false))
            transposed = field(adjoint!, second; contracted)
            cotangent, p̄ = copy(λ), zeros(2)
            memory = AdjointWork{Float64}(transposed, stages(method))
            pull_step!(cotangent, p̄, memory, work, transposed, u, p, t, dt)
            @test dot(cotangent, δ) + dot(p̄, δp)≈dot(λ, tangent) rtol=1e-13
        end
    end
end

@testset "sparse matrices have the derivatives of dense ones" begin
    # The entries of the triangular Jacobian, and of a mass matrix on its pattern.
    entries = Models.lowered("entries!",
        "out[1] = -p[1]; out[2] = p[2] * u[2]; out[3] = p[2] * u[1]")
    pattern = sparsity_pattern(Float64, [0, 2, 3], [0, 1, 1])
    mass = mass_entries(Float64, 2, [0, 1, 1], [0, 0, 1], [2.0, 0.5, 1.5])
    drift, jacobian, gradient = Models.parts()
    function fields(first, second, mass)
        functions = (VectorFunction{Float64}(gradient), VectorFunction{Float64}(first),
            VectorFunction{Float64}(second))
        sizes = (2, 2, false)
        field = VectorFunction{Float64}(drift)
        return DifferentiatedField{Float64}(field, MatrixFunction{Float64}(jacobian),
            functions..., mass === nothing ? nothing : Matrix(mass), sizes...),
        DifferentiatedField{Float64}(field,
            PatternJacobian{Float64}(entries, pattern, mass), functions..., mass, sizes...)
    end
    u, p, t, dt = [0.8, -0.6], [1.3, 0.7], 0.4, 0.35
    for name in setdiff(algorithm_names(), WITHOUT), M in (nothing, mass)
        method = coefficients(Float64, algorithm(name))
        constrained = method isa HybridNDS.Rosenbrock ||
                      haskey(HybridNDS.COUPLED_ALGORITHMS, name)
        M === nothing || constrained || continue
        found = map(fields(tangent!, second_tangent!, M),
            fields(adjoint!, second_adjoint_of_stages!, M)) do forward, backward
            work = Stages(forward, method)
            # Twice, so that the second one takes the factors over.
            for scale in (2, 1)
                take_step!(work, forward, scale * u, p, t, dt)
            end
            tangent, products = [0.3, -1.1], TangentWork{Float64}(forward, stages(method))
            along_parameters!(products, [0.9, 0.4])
            push_step!(tangent, products, work, forward, u, p, t, dt)
            cotangent, p̄ = [-0.7, 1.6], zeros(2)
            memory = AdjointWork{Float64}(backward, stages(method))
            pull_step!(cotangent, p̄, memory, work, backward, u, p, t, dt)
            [end_state!(zeros(2), work, u, dt); tangent; cotangent; p̄]
        end
        @test found[1]≈found[2] rtol=100*roundoff(method)
    end
end

@testset "coefficients are consistent" begin
    for name in setdiff(algorithm_names(), WITHOUT)
        method = coefficients(Float64, algorithm(name))
        method isa HybridNDS.Rosenbrock && continue
        @test sum(method.b)≈1 rtol=1e-14
        @test sum(method.A; dims = 2)[:]≈method.c atol=1e-14
        @test stages(method) == length(method.c)
    end
end

@testset "a record that is too short counts on" begin
    problem, _, steps, count = recorded("Tsit5", 3)
    @test count == problem.report.accepted > 3
    @test all(steps[2, 1:3] .> 0)
    @test size(steps, 2) == 4
end
