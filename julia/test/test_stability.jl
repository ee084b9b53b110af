# Tangent vectors along orbits, against closed forms.

using HybridNDS: HybridNDS, Lowered, Prepared, algorithm, model
using LinearAlgebra: I, norm, qr
using Random: Xoshiro
using Statistics: mean, std
using Test

const Stability = HybridNDS.Stability

@testset "orthonormalize! is a QR decomposition" begin
    for (n, k) in ((1, 1), (4, 1), (5, 3), (6, 6))
        V = randn(Xoshiro(n + k), n, k)
        u = vcat(zeros(n), vec(V))
        logs = zeros(k)
        Stability.orthonormalize!(Stability.QRWorkspace{Float64}(n, k), u, logs)
        Q = reshape(u[(n + 1):end], n, k)
        @test Q' * Q≈I atol=1e-14
        @test logs≈[log(abs(r)) for r in [qr(V).R[i, i] for i in 1:k]] atol=1e-13
    end
end

@testset "numbers of a stream" begin
    source(chain) = Stability.Increments{Float64}((0x1, 0x2), UInt64(chain),
        zeros(1, 0), zeros(1, 0))
    draw(chain, index, kind) = (out = zeros(2, 50_000);
    Stability.fill_normals!(out, source(chain), UInt64(kind), index);
    out)
    x = draw(0, 0, 0)
    # Four standard errors of mean and variance of 1e5 numbers.
    @test abs(mean(x)) < 4 / sqrt(length(x))
    @test abs(std(x)^2 - 1) < 4 * sqrt(2 / length(x))
    for other in (draw(1, 0, 0), draw(0, 1, 0), draw(0, 0, 1))
        @test abs(mean(x .* other)) < 4 / sqrt(length(x))
    end
    @test draw(3, 7, 1) == draw(3, 7, 1)
end

# dx = Ax with both tangent vectors; the state follows them nowhere.
function linear!(out, u, p, t, w, c)
    @inbounds for j in 0:2
        x, y = u[2j + 1], u[2j + 2]
        out[2j + 1] = -p[1] * x + y
        out[2j + 2] = -p[2] * y
    end
    return nothing
end
function linear_jacobian!(out, u, p, t, w, c)
    fill!(out, 0.0)
    @inbounds for j in 0:2
        out[2j + 1 + 6 * (2j)] = -p[1]
        out[2j + 1 + 6 * (2j + 1)] = 1.0
        out[2j + 2 + 6 * (2j + 1)] = -p[2]
    end
    return nothing
end
zero!(out, u, p, t, w, c) = (fill!(out, 0.0); nothing)

@testset "growth of a linear flow with $name" for name in ("Tsit5", "Vern7", "Rodas5P")
    parts = map(f -> Lowered(f, (), ()), (linear!, linear_jacobian!, zero!))
    prepared = Prepared(Float64, model(Float64, parts...), 6, 2)
    prepared.parameters .= (0.3, 2.0)
    prepared.start .= [1.0, 1.0, 1.0, 0.0, 0.0, 1.0]
    for (first, intervals) in ((0, 12), (12, 8))
        Stability.grow!(prepared, algorithm(name), 2, 0.0, 0.5, first, intervals, 1e-9,
            1e-9, 0.0, 10_000)
        @test prepared.report.outcome == HybridNDS.SUCCESS
        @test prepared.report.count == intervals
    end
    logs = prepared.solution.logs
    # The first direction is an eigenvector; the second, at a right angle to it, shrinks
    # by what the trace leaves.
    @test logs[1, :]≈fill(-0.3 * 0.5, 8) atol=1e-7
    @test logs[2, :]≈fill(-2.0 * 0.5, 8) atol=1e-7
end

@testset "a loop of steps allocates for its result alone" begin
    function map!(out, u, p, t, w, c)
        @inbounds for i in 1:2
            out[i] = u[i] * (1 - p[1] * p[2] + p[3])
        end
        return nothing
    end
    steps = Stability.StepMap(Float64, Lowered(map!, (), ()), 2, 3, 1)
    run(intervals) = (steps.start .= 1.0;
    steps.parameters[1] = 1.0;
    Stability.grow_map!(steps, 1, 0.0, 0.1, 10, 0, intervals, 1, 2, 0))
    run(10)
    few, many = (@allocated(run(n)) for n in (1_000, 11_000))
    # One logarithm an interval, and what a large array is rounded up to.
    @test many - few < 10_000 * 8 * 1.5 + 4096
    # E log|1 − h + √h Z| a step, by its series: −h − h/2 + O(h²).
    run(100_000)
    @test mean(steps.growth.logs) / 0.1≈-1.5 atol=0.1
end

# Brownian motion between two walls: the state, its distances to them, and how noise
# moves these.
function wall!(out, u, p, t, w, c)
    @inbounds begin
        x = u[1] + p[2]
        out[1] = x
        out[2], out[3] = x, 1 - x
        out[4] = out[5] = 1.0
    end
    return nothing
end

@testset "exits of Brownian motion" begin
    n, x = 20_000, 0.3
    steps = Stability.StepMap(Float64, Lowered(wall!, (), ()), 5, 2, 1)
    starts = repeat([x, x, 1 - x, 1.0, 1.0], 1, n)
    exits(bridge, first = 0, count = n) = (when = zeros(count); by = zeros(Int, count);
    Stability.first_exits!(when, by, steps, starts[:, 1:count], 2, 0.0, 0.01,
        100_000, first, 7, 8, bridge);
    (when, by))
    times, through = exits(true)
    # E T = x(1 − x), and the upper wall with probability x: four standard errors.
    @test abs(mean(times) - x * (1 - x)) < 4 * std(times) / sqrt(n)
    @test abs(mean(through .== 1) - x) < 4 * sqrt(x * (1 - x) / n)
    # On the grid alone walls are 0.5826√h further away each (Siegmund 1985), to O(h).
    late = mean(exits(false)[1])
    δ = 0.5826 * sqrt(0.01)
    @test abs(late - (x + δ) * (1 - x + δ)) < 4 * std(times) / sqrt(n) + 0.01
    # Trajectories are their own, however they are cut.
    @test exits(true, 100, 50) == (times[101:150], through[101:150])
end
