using HybridNDS: HybridNDS, PathNoise, Prepared, advance!, load_stochastic,
                 resize_path!, resize_times!, solve!, stochastic_method,
                 stochastic_method_names, stochastic_model, take_step!
using Random: Xoshiro
using StochasticDiffEq
using Test

@test load_stochastic() == ""

module Stochastic
using Random: Xoshiro
using HybridNDS: Prepared, resize_path!, stochastic_model

# dy = p₁ y dt + p₂ y dW, with a Brownian motion for each component.
drift!(out, u, p, t) = (out .= p[1] .* u; nothing)
vector!(out, u, p, t) = (out .= p[2] .* u; nothing)
function jacobian!(out, u, p, t)
    fill!(out, 0)
    for i in eachindex(u)
        out[i, i] = p[1]
    end
    return nothing
end
function matrix!(out, u, p, t)
    fill!(out, 0)
    for i in eachindex(u)
        out[i, i] = p[2] * u[i]
    end
    return nothing
end

function path(motions, steps; seed = 1)
    rng = Xoshiro(seed)
    return randn(rng, motions, steps) ./ sqrt(steps),
    randn(rng, motions, steps) ./ sqrt(12 * steps)
end

function prepared(diffusion!, columns; motions = 2, steps = 64, seed = 1)
    model = stochastic_model(Float64, drift!, jacobian!, diffusion!, columns > 0)
    problem = Prepared(Float64, model, 2, 2, motions, columns)
    problem.start .= (1.0, 2.0)
    problem.parameters .= (-1.0, 0.5)
    own = resize_path!(problem, steps, true)
    own.grid .= range(0.0, 1.0, steps + 1)
    increments, areas = path(motions, steps; seed)
    own.increments .= increments
    own.areas .= areas
    return problem
end

exact(problem) = problem.start .* exp.(-1 - 0.125 .+ 0.5 .* sum(problem.path.increments; dims = 2)[:, 1])
end

# Twice the steps: of two halves H = (H₁ + H₂)/2 + (dW₁ − dW₂)/4.
coarser(dW, H) = (dW[:, 1:2:end] + dW[:, 2:2:end],
    (H[:, 1:2:end] + H[:, 2:2:end]) / 2 + (dW[:, 1:2:end] - dW[:, 2:2:end]) / 4)

function noise(dW, H; between = true, motions = size(dW, 1))
    times = collect(range(0.0, 1.0, size(dW, 2) + 1))
    return PathNoise(times, dW, H; motions, extra = motions, drawn = false, between,
        seed = UInt64(1))
end

@testset "steps of the grid get what was given" begin
    dW, H = Stochastic.path(2, 10)
    path = noise(dW, H; between = false)
    take_step!(path, 0.1)
    for k in 1:10
        @test path.dW == dW[:, k]
        @test path.dZ == 2sqrt(3) * H[:, k]
        advance!(path, 0.1, k < 10)
    end
    @test path.curt == 1.0
    # Without the values between, a step off the grid is an error.
    short = noise(dW, H; between = false)
    @test_throws ArgumentError take_step!(short, 0.05)
end

@testset "steps over several of the grid" begin
    dW, H = Stochastic.path(2, 16)
    path = noise(dW, H)
    dW, H = coarser(coarser(dW, H)...)
    take_step!(path, 0.25)
    for k in 1:4
        @test path.dW≈dW[:, k] atol=1e-15
        # Sums of 16 numbers, divided by a step of 1/4.
        @test path.dZ≈2sqrt(3) * H[:, k] atol=1e-13
        advance!(path, 0.25, true)
    end
end

@testset "rejected steps see the same path" begin
    dW, H = Stochastic.path(1, 16)
    path = noise(dW, H)
    values, integral, t = 0.0, 0.0, 0.0
    for h in (0.1, 0.05, 0.2, 0.31, 0.34)
        take_step!(path, 2h)
        take_step!(path, h)
        integral += h * (values + path.dW[1] / 2 + path.dZ[1] / (2sqrt(3)))
        values += path.dW[1]
        advance!(path, h, false)
    end
    # The integral over all of the span, from the grid's own numbers.
    w = vcat(0.0, cumsum(dW[1, :]))
    @test values≈w[end] atol=1e-14
    @test integral≈sum((w[1:(end - 1)] + dW[1, :] / 2 + H[1, :]) / 16) atol=1e-14
end

@testset "one Brownian motion for all components" begin
    dW, H = Stochastic.path(1, 8)
    path = noise(dW, H; motions = 3)
    for h in (0.125, 0.3)
        take_step!(path, h)
        @test path.dW == fill(path.dW[1], 3)
        @test path.dZ == fill(path.dZ[1], 3)
        advance!(path, h, false)
    end
end

function run(problem, name; tolerance = 0.0, keep = HybridNDS.KEEP_END, steps = 10^5,
        stratonovich = false)
    solve!(problem, stochastic_method(name, stratonovich, 1e-6), 0.0, 1.0, tolerance,
        tolerance, 0.0, keep, steps)
    return problem.saved_states[:, end]
end

@testset "names" begin
    for name in stochastic_method_names(), stratonovich in (false, true)

        @test stochastic_method(name, stratonovich) isa SciMLBase.AbstractDEAlgorithm
    end
    @test_throws ArgumentError stochastic_method("Euler", false)
end

@testset "Euler's and Maruyama's method" begin
    for (diffusion!, columns) in ((Stochastic.vector!, 0), (Stochastic.matrix!, 2))
        problem = Stochastic.prepared(diffusion!, columns)
        expected = problem.start .*
                   prod(1 .- 1 / 64 .+ 0.5 .* problem.path.increments; dims = 2)[:, 1]
        @test run(problem, "EM")≈expected rtol=1e-14
        @test problem.report.outcome == HybridNDS.SUCCESS
        @test problem.report.accepted == 64
    end
end

@testset "what is saved" begin
    problem = Stochastic.prepared(Stochastic.vector!, 0; steps = 8)
    run(problem, "EM"; keep = HybridNDS.KEEP_STEPS)
    @test problem.saved_times == [problem.path.grid; 1.0]
    states = problem.saved_states
    resize_times!(problem, 2) .= (0.25, 1.0)
    run(problem, "EM"; keep = HybridNDS.KEEP_TIMES)
    @test problem.saved_times == [0.25, 1.0, 1.0]
    @test problem.saved_states[:, 1] == states[:, 3]
    run(problem, "EM"; steps = 4)
    @test problem.report.outcome == HybridNDS.MAX_STEPS
end

@testset "tolerances below the grid" begin
    problem = Stochastic.prepared(Stochastic.vector!, 0; steps = 16)
    run(problem, "SOSRI"; tolerance = 1e-8)
    @test problem.report.outcome == HybridNDS.STEP_TOO_SMALL
end

# Upstream defects: each of these tests fails when StochasticDiffEq is corrected, and
# with it its row in hybrid_nds/methods/_faults.py should go.

@testset "adaptive ISSEM in place loses its noise" begin
    problem = Stochastic.prepared(Stochastic.vector!, 0; steps = 2^14)
    found = run(problem, "ISSEM"; tolerance = 1e-2)
    @test !(maximum(abs, found ./ Stochastic.exact(problem)) < 1e3)
    # In fixed steps it is sound, to the strong order of 1/2.
    problem = Stochastic.prepared(Stochastic.vector!, 0; steps = 2^10)
    @test run(problem, "ISSEM")≈Stochastic.exact(problem) rtol=0.1
end

@testset "ImplicitEulerHeun out of place" begin
    problem = SDEProblem((u, p, t) -> -u, (u, p, t) -> 0.1u, [1.0, 2.0], (0.0, 0.1))
    @test_throws MethodError solve(problem, ImplicitEulerHeun(); dt = 0.01,
        adaptive = false)
end

@testset "PL1WM with several Brownian motions" begin
    # With constant noise and no drift every method ends at y₀ + its discrete noise;
    # here the second Brownian motion is lost.
    constant!(out, u, p, t) = (fill!(out, 0); out[1, 1] = out[2, 2] = 1.0; nothing)
    problem = Stochastic.prepared(constant!, 2; steps = 16)
    problem.parameters[1] = 0.0
    run(problem, "PL1WM")
    @test problem.saved_states[2, end] == problem.start[2]
end
