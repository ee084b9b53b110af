# Lean ensemble kernels: lanes compute what numbers do, the random stream is the
# published one, steps allocate nothing, and chunks merge without loss.

using HybridNDS: Ensembles, LoweredCode, LoweredScalar
using Random: Xoshiro, randn, shuffle
using SIMD: Vec
using StaticArrays: SVector
using Test

module LeanFields
using StaticArrays: SVector
using HybridNDS.LoweredCode: choose

element(u, p, t) = promote_type(eltype(u), eltype(p), typeof(t))
linear(u, p, t, c) = SVector{2, element(u, p, t)}(p[1] * u[1], -p[1] * u[2] + t)
swirl(u, p, t, c) = SVector{2, element(u, p, t)}(
    p[1] * tanh(u[2]), choose(u[1] > 0.0, u[1]^2, 1.0))
matrix(u, p, t, c) = SVector{4, element(u, p, t)}(p[1], u[2], 0.0, p[1] * u[1])
constant(u, p, t, c) = SVector{2, element(u, p, t)}(p[1], 1.0 + t)
branching(u, p, t, c) = SVector{2, element(u, p, t)}(u[1] > 1 ? u[1] : -u[1], u[2])
squared(u, p, t, c) = SVector{2, element(u, p, t)}(u[1]^2, u[2]^2)
end

lowered(f) = LoweredScalar(f, ())

const W = Ensembles.LANES

batch(values) = Ensembles.SIMDBatch(Vec{W, Float64}(Tuple(values)))
numbers(x) = Float64.(Tuple(x.vector))

function run_of(trajectories; steps = 64, motions = 2, save_steps = [steps])
    run = Ensembles.ensemble_run(Float64, 2, motions, steps, 0.0, 1.0, 11, 22)
    run.indices = collect(0:(trajectories - 1))
    run.start .= (0.5, -0.25)
    run.parameters = [0.7]
    run.diffusion_parameters = [0.3]
    run.save_steps = save_steps
    run.failed_step = zeros(Int, trajectories)
    run.saved = fill(NaN, 2, length(save_steps), trajectories)
    return run
end

@testset "lanes compute as numbers do" begin
    rng = Xoshiro(1)
    for _ in 1:200
        a, b = 3 .* randn(rng, W), 3 .* randn(rng, W)
        x, y = batch(a), batch(b)
        for f in (+, -, *, /, max, min)
            @test all(numbers(f(x, y)) .=== Tuple(f.(a, b)))
        end
        @test numbers(x^3) === Tuple(a .^ 3)
        @test numbers(x^-2) === Tuple(a .^ -2)
        @test numbers(LoweredCode.choose(x > y, x, 1.0)) === Tuple(ifelse.(a .> b, a, 1.0))
        @test numbers(2 * x + 1) === Tuple(2 .* a .+ 1)
        @test numbers(LoweredCode.power(abs(x), y)) === Tuple(abs.(a) .^ b)
    end
    @test isequal(numbers(max(batch(fill(NaN, W)), batch(1.0:W))), ntuple(_ -> NaN, W))
end

@testset "elementary functions in lanes" begin
    # Error in units of the last place against extended precision.
    function worst(f, exact, xs)
        return maximum(Iterators.partition(xs, W)) do part
            values = numbers(f(batch(part)))
            maximum(zip(part, values)) do (x, value)
                right = exact(big(x))
                Float64(abs(value - right) / eps(abs(Float64(right))))
            end
        end
    end
    rng = Xoshiro(2)
    between(low, high) = low .+ (high - low) .* rand(rng, 8000)
    for (f, exact, xs) in ((exp, exp, between(-700, 700)), (exp, exp, between(-1, 1)),
        (tanh, tanh, between(-20, 20)), (tanh, tanh, 10 .^ between(-12, 0)),
        (LoweredCode.logarithm, log, 10 .^ between(-300, 300)),
        (LoweredCode.logarithm, log, between(0.9, 1.1)),
        (LoweredCode.logarithm1p, log1p, between(-0.99, 3)),
        (LoweredCode.logarithm1p, log1p, 10 .^ between(-20, 300)),
        (expm1, expm1, between(-40, 700)), (expm1, expm1, between(-1, 1)),
        (LoweredCode.sine, sin, between(-100, 100)), (LoweredCode.sine, sin, between(-1e5, 1e5)),
        (LoweredCode.cosine, cos, between(-1e5, 1e5)))
        @test worst(f, exact, xs) <= 3
    end
    edges = [Inf, -Inf, NaN, 0.0, -0.0, 1e-310, 800.0, -800.0, 1.0, -1.0, 0.5,
        1e-300, 22.0, -22.0, 30.0, 1e300]
    for (f, single) in ((exp, exp), (tanh, tanh), (LoweredCode.logarithm, LoweredCode.logarithm),
        (LoweredCode.logarithm1p, LoweredCode.logarithm1p), (expm1, expm1),
        (LoweredCode.sine, LoweredCode.sine), (LoweredCode.cosine, LoweredCode.cosine))
        @test all(isapprox.(numbers(f(batch(edges))), single.(edges); rtol = 1e-14, nans = true))
    end
end

@testset "Philox4x32-10" begin
    # Known answers: kat_vectors of the authors' library Random123.
    for (counter, key, answer) in (
        ((0, 0, 0, 0), (0, 0), (0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8)),
        ((0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff), (0xffffffff, 0xffffffff),
            (0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd)),
        ((0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344), (0xa4093822, 0x299f31d0),
            (0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1)))
        @test Ensembles.philox(UInt64.(counter)..., UInt32.(key)) == UInt64.(answer)
        wide = Ensembles.philox(Ensembles.Words.(UInt64.(counter))..., UInt32.(key))
        @test map(w -> w[3], wide) == UInt64.(answer)
    end
end

@testset "normal numbers" begin
    count = 50_000
    draws = Float64[]
    trajectories = Ensembles.Words(ntuple(k -> UInt64(k), W))
    for pair in 0:(count ÷ 2W)
        for x in Ensembles.normal_pair((0x5, 0x2) .% UInt32, trajectories, UInt64(0), UInt64(pair))
            append!(draws, Float64.(Tuple(x)))
        end
    end
    n = length(draws)
    # Moments 1 to 4 in units of their standard errors √(1, 2, 15, 96)/√n: beyond 4.5 with
    # probability 7e-6 each, for a fixed stream.
    for (power, mean, variance) in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96))
        @test abs(sum(draws .^ power) / n - mean) < 4.5 * sqrt(variance / n)
    end
    # Neighbours in a pair, in a sequence and in the lanes are uncorrelated.
    for lag in (1, W, 2W)
        product = sum(draws[1:(end - lag)] .* draws[(1 + lag):end]) / sqrt(n - lag)
        @test abs(product) < 4.5
    end
end

# Room for the moments of chunks, up to the fourth.
function with_moments(run; states = 2)
    times = length(run.save_steps)
    many = Ensembles.chunks(run)
    run.counts, run.means = zeros(Int, many), zeros(states, times, many)
    run.powers = zeros(states, times, 3, many)
    run.products = zeros(states, states, times, many)
    return run
end

@testset "steps allocate nothing" begin
    bytes(work, kernel, run) = @allocated Ensembles.run_chunk!(work, kernel, run, 1, nothing)
    for (scheme, noise, diffusion) in (("EulerMaruyama", "diagonal", LeanFields.swirl),
        ("EulerMaruyama", "matrix", LeanFields.matrix),
        ("StochasticHeun", "scalar", LeanFields.swirl),
        ("NoiseHeun", "diagonal", LeanFields.swirl),
        ("AdditiveRoessler", "diagonal", LeanFields.constant))
        run = run_of(1000; motions = noise == "scalar" ? 1 : 2, save_steps = [0, 32, 64])
        with_moments(run)
        kernel = Ensembles.lean_kernel(
            run, scheme, noise, lowered(LeanFields.linear), lowered(diffusion))
        @test kernel.drift isa Ensembles.Vectorized
        @test kernel.diffusion isa Ensembles.Vectorized
        work = Ensembles.Workspace{2, Float64}(run.motions)
        bytes(work, kernel, run)
        @test bytes(work, kernel, run) == 0
    end
end

@testset "fields that lanes cannot take" begin
    run = run_of(100)
    kernel = Ensembles.lean_kernel(run, "EulerMaruyama", "diagonal",
        lowered(LeanFields.branching), lowered(LeanFields.linear))
    @test kernel.drift isa Ensembles.PerTrajectory
    Ensembles.run_ensemble!(run, "EulerMaruyama", "diagonal",
        lowered(LeanFields.branching), lowered((u, p, t, c) -> zero(u)), 1)
    # Without noise: −1/64 of itself in each step.
    @test all(isapprox.(run.saved[1, 1, :], 0.5 * (1 - 1 / 64)^64; rtol = 1e-13))
end

@testset "a split changes nothing" begin
    whole = run_of(2500)
    arguments = ("StochasticHeun", "diagonal", lowered(LeanFields.linear),
        lowered(LeanFields.swirl), 1)
    Ensembles.run_ensemble!(whole, arguments...)
    some = shuffle(Xoshiro(3), 0:2499)[1:37]
    part = run_of(37)
    part.indices = some
    Ensembles.run_ensemble!(part, arguments...)
    @test part.saved == whole.saved[:, :, some .+ 1]
end

@testset "moments of chunks" begin
    run = run_of(1300; save_steps = [10, 64])
    Ensembles.set_chunk!(run, 512)
    with_moments(run)
    Ensembles.run_ensemble!(run, "EulerMaruyama", "diagonal", lowered(LeanFields.linear),
        lowered(LeanFields.swirl), 1)
    @test run.counts == [512, 512, 276]
    for chunk in 1:3, time in 1:2

        inside = ((chunk - 1) * 512 + 1):min(chunk * 512, 1300)
        states = big.(run.saved[:, time, inside])
        center = sum(states; dims = 2) / length(inside)
        apart = states .- center
        powers = view(run.powers, :, time, :, chunk)
        # 512 terms in 16 lanes: at most 36 roundings each; the third power cancels.
        @test run.means[:, time, chunk] ≈ center rtol = 1e-14
        @test powers[:, 1] ≈ sum(apart .^ 2; dims = 2) rtol = 1e-13
        @test powers[:, 2] ≈ sum(apart .^ 3; dims = 2) rtol = 1e-11
        @test powers[:, 3] ≈ sum(apart .^ 4; dims = 2) rtol = 1e-13
        @test run.products[:, :, time, chunk] ≈ apart * apart' rtol = 1e-13
    end
end

@testset "failures" begin
    run = run_of(20; steps = 64, save_steps = [0, 64])
    run.starts = [position <= 5 ? 1.0e4 : 0.5 for _ in 1:2, position in 1:20]
    with_moments(run)
    still = lowered((u, p, t, c) -> zero(u))
    Ensembles.run_ensemble!(run, "EulerMaruyama", "diagonal", lowered(LeanFields.squared),
        still, 1)
    # u ← u + u²/64, by hand.
    u, step = 1e4, 0
    while isfinite(u)
        u += u^2 / 64
        step += 1
    end
    @test run.failed_step == [fill(step, 5); fill(-1, 15)]
    @test all(isnan, run.saved[:, 2, 1:5])
    # They count at no time, the start included.
    @test run.counts == [15]
    @test run.means[:, 1, 1] == [0.5, 0.5]
    @test all(isfinite, run.means)
end
