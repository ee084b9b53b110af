using HybridNDS: DifferentiatedField, HybridNDS, MatrixFunction, Stages, VectorFunction,
                 algorithm, algorithm_names, begin_record!, coefficients, end_state!,
                 record_size, solve!, stages, take_step!
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

function field()
    drift, jacobian, gradient = Models.parts()
    return DifferentiatedField{Float64}(VectorFunction{Float64}(drift),
        MatrixFunction{Float64}(jacobian), VectorFunction{Float64}(gradient),
        VectorFunction{Float64}(drift), nothing, nothing, 2, 2, true)
end

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
        @test steps[3:4, count + 1] == problem.kept_states[:, end]
        work, out = Stages(field(), coefficients(Float64, method)), zeros(2)
        # Round-off; of implicit methods κ times the tolerance, which Newton's error is
        # held to.
        limit = name in keys(HybridNDS.ALGORITHMS) ? 1e-14 : 1e-8
        for m in 1:count
            u = steps[3:4, m]
            take_step!(work, field(), u, problem.parameters, steps[1, m], steps[2, m])
            end_state!(out, work, u, steps[2, m])
            @test maximum(abs, out - steps[3:4, m + 1]) <=
                  limit * maximum(abs, steps[3:4, m + 1])
        end
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
