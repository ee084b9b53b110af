using HybridNDS: HybridNDS, Crossing, SteadyStateCondition, add_event!, algorithm, solve!
using Test

isdefined(@__MODULE__, :Models) || include("models.jl")

# u₁ = t − 1 + 2 exp(−t) falls from 1 to log(2) at t = log(2), and rises after it.
const CONDITION = Models.lowered("condition!", "out[1] = u[1] - p[1]")
level(sign) = Crossing{Float64}(CONDITION, 1, sign)

function stopped(event, both, value; t0 = 0.0, t1 = 5.0)
    problem = Models.prepared()
    add_event!(problem, event, both) .= value
    problem.start .= Models.exact(t0)
    solve!(problem, algorithm("Tsit5"), t0, t1, 1e-10, 1e-10, 0.0, HybridNDS.KEEP_END, 10^5)
    return problem
end

@testset "crossings" begin
    # Roots of t − 1 + 2 exp(−t) = 0.8, to the precision of a Float64.
    first_root, second_root = let u(t) = t - 1 + 2exp(-t) - 0.8
        bisect(a, b) = foldl((ab, _) -> begin
                m = (ab[1] + ab[2]) / 2
                sign(u(m)) == sign(u(ab[1])) ? (m, ab[2]) : (ab[1], m)
            end, 1:60; init = (a, b))[1]
        bisect(0.0, log(2)), bisect(log(2), 3.0)
    end
    for (sign, both, root) in ((1, true, first_root), (-1, false, first_root),
        (1, false, second_root))
        problem = stopped(level(sign), both, 0.8)
        @test problem.report.outcome == HybridNDS.EVENT
        @test problem.report.event == 0
        @test problem.saved_times[end]≈root atol=1e-8
    end
    never = stopped(level(1), true, 0.5)
    @test (never.report.outcome, never.report.event) == (HybridNDS.SUCCESS, -1)
    backward = stopped(level(1), false, 0.8; t0 = 2.0, t1 = 0.0)
    @test backward.saved_times[end]≈first_root atol=1e-8
end

@testset "rest" begin
    problem = Models.prepared()
    # At u = 0 with no time in the field's first component, only t itself remains.
    problem.start .= 0
    add_event!(problem, SteadyStateCondition{Float64}(2), false) .= (0.0, 10.0)
    solve!(problem, algorithm("Tsit5"), 0.0, Inf, 1e-6, 1e-6, 0.0, HybridNDS.KEEP_END, 10^5)
    @test problem.report.outcome == HybridNDS.EVENT
    @test problem.report.accepted == 1
end
