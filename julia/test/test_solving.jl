using HybridNDS: HybridNDS, algorithm, algorithm_names, interpolate, resize_times!, solve!
using SciMLBase: ReturnCode
using Test

isdefined(@__MODULE__, :Models) || include("models.jl")

# The counts and codes that the host reads.
code(problem) = problem.report.outcome
states(problem) = problem.saved_states
accepted(problem) = problem.report.accepted

@testset "solutions" begin
    problem = Models.prepared()
    for name in ("DefaultODEAlgorithm", "Tsit5", "Vern9", "Rodas5P", "FBDF", "Kvaerno3")
        solve!(problem, algorithm(name), 0.0, 2.0, 1e-8, 1e-8, 0.0, HybridNDS.KEEP_END, 10^5)
        @test code(problem) == HybridNDS.SUCCESS
        # A tolerance a step, magnified by at most exp(∫ u₁/2) < 2.
        limit = 2 * accepted(problem) * 1e-8 * (1 + maximum(Models.exact(2.0)))
        @test maximum(abs, states(problem)[:, end] - Models.exact(2.0)) <= limit
    end
end

@testset "what is saved" begin
    problem = Models.prepared()
    run(keep) = solve!(problem, algorithm("Tsit5"), 0.0, 2.0, 1e-9, 1e-9, 0.0, keep, 10^5)
    resize_times!(problem, 3) .= (0.0, 0.5, 2.0)
    for keep in (HybridNDS.KEEP_TIMES, HybridNDS.KEEP_STOPS)
        run(keep)
        @test problem.saved_times == [0.0, 0.5, 2.0, 2.0]
        @test states(problem)[:, 2]≈Models.exact(0.5) atol=1e-7
        @test problem.report.count == 4
    end
    run(HybridNDS.KEEP_END)
    @test problem.saved_times == [2.0]
    run(HybridNDS.KEEP_STEPS)
    @test length(problem.saved_times) == accepted(problem) + 2
    @test problem.saved_times[1] == 0.0
    run(HybridNDS.KEEP_DENSE)
    @test interpolate(problem.solution, [0.5, 1.0])≈
          hcat(Models.exact(0.5), Models.exact(1.0)) atol=1e-7
    @test unsafe_load(Ptr{Float64}(problem.report.times)) == 2.0
end

@testset "order of the Kvaerno methods where the field depends on time" begin
    problem = Models.prepared()
    for (name, order, count) in (("Kvaerno3", 3, 40), ("Kvaerno4", 4, 20),
        ("Kvaerno5", 5, 10))
        errors = map((count, 2count)) do steps
            solve!(problem, algorithm(name, 1e-6), 0.0, 2.0, 0.0, 0.0, 2 / steps,
                HybridNDS.KEEP_END, 10^5)
            maximum(abs, states(problem)[:, end] - Models.exact(2.0))
        end
        @test log2(errors[1] / errors[2]) > order - 0.4
    end
end

@testset "failures do not throw" begin
    problem = Models.prepared()
    solve!(problem, algorithm("Tsit5"), 0.0, 2.0, 1e-9, 1e-9, 0.0, HybridNDS.KEEP_END, 3)
    @test code(problem) == HybridNDS.MAX_STEPS
    @test problem.message == "MaxIters"
    problem.start .= Inf
    solve!(problem, algorithm("Euler"), 0.0, 2.0, 0.0, 0.0, 0.1, HybridNDS.KEEP_END, 100)
    @test code(problem) == HybridNDS.UNSTABLE
    algebraic = Models.prepared(; mass = [1.0 0.0; 0.0 0.0])
    solve!(algebraic, algorithm("Rodas5P"), 0.0, 1.0, 1e-6, 1e-6, 0.0,
        HybridNDS.KEEP_END, 100)
    @test code(algebraic) == HybridNDS.NONLINEAR
    @test occursin("does not satisfy the algebraic equations", algebraic.message)
    @test (algebraic.report.event, algebraic.report.steps) == (-1, 0)
    # One step, which overflows: no later one is there to notice.
    problem = Models.prepared()
    problem.start[1], problem.parameters[1] = 1e200, -1e200
    solve!(problem, algorithm("Euler"), 0.0, 0.1, 0.0, 0.0, 0.1, HybridNDS.KEEP_END, 100)
    @test code(problem) == HybridNDS.UNSTABLE
    @test problem.saved_states[1, end] == Inf
end

@testset "outcomes of return codes" begin
    watch = HybridNDS.Watch()
    for (word, expected) in (ReturnCode.Success => HybridNDS.SUCCESS,
        ReturnCode.MaxIters => HybridNDS.MAX_STEPS,
        ReturnCode.DtLessThanMin => HybridNDS.STEP_TOO_SMALL,
        ReturnCode.DtNaN => HybridNDS.UNSTABLE,
        ReturnCode.ConvergenceFailure => HybridNDS.NONLINEAR,
        ReturnCode.InitialFailure => HybridNDS.NONLINEAR,
        ReturnCode.Unstable => HybridNDS.UNSTABLE,
        ReturnCode.Failure => HybridNDS.FAILURE)
        @test HybridNDS.outcome(word, -1, watch) == expected
    end
    @test HybridNDS.outcome(ReturnCode.Terminated, 0, watch) == HybridNDS.EVENT
    watch.interrupted = true
    @test HybridNDS.outcome(ReturnCode.Unstable, -1, watch) == HybridNDS.INTERRUPTED
end

@testset "an interrupt stops a solve, unless it came before" begin
    mktemp() do path, file
        press() = open(stream -> write(stream, 0x02), path; append = true)
        press()
        HybridNDS.watch_interrupts(fd(file))
        problem = Models.prepared()
        # A solve of minutes, were it not stopped at the first look into the pipe after
        # Ctrl-C, which is pressed at the second.
        looks = Ref(0)
        function report(t)
            looks[] += 1
            looks[] == 2 && press()
            return nothing
        end
        solve!(problem, algorithm("Euler"), 0.0, 1.0, 0.0, 0.0, 1e-9, HybridNDS.KEEP_END,
            10^9, report)
        HybridNDS.watch_interrupts(-1)
        @test code(problem) == HybridNDS.INTERRUPTED
        @test looks[] == 2
    end
end
