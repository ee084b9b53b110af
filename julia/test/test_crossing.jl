using HybridNDS: HybridNDS, algorithm, solve!
using Test

isdefined(@__MODULE__, :Models) || include("models.jl")
isdefined(@__MODULE__, :Buffers) || include("buffers.jl")

const PARTS = Models.parts()
function shared(T = Float64; name = "Tsit5", keep = HybridNDS.KEEP_TIMES, steps = 10^5)
    parts = HybridNDS.shared_model(T === Float32 ? "float32" : "float64", PARTS..., nothing,
        false)
    return HybridNDS.shared_solve(T === Float32 ? "float32" : "float64", parts, 2, 2, 0, 0,
        HybridNDS.event_plans(), algorithm(name), Int(keep), steps)
end
number(solve) = HybridNDS.refer!(solve)

# The operands of one solve, and with leading axes those of a batch.
operands(T = Float64; start = T[1, 1], p = T[1, 0.5], span = T[0, 2, 1e-8, 0],
    atol = T[1e-8], times = T[0.5, 2]) = (start, p, span, atol, times, T[])

@testset "one solve" begin
    for T in (Float64, Float32)
        tolerances = T === Float32 ? (T(1e-5), T(1e-5)) : (1e-8, 1e-8)
        inputs = operands(T; span = T[0, 2, tolerances[1], 0], atol = T[tolerances[2]])
        outputs = Buffers.results(T, 2, 2)
        @test Buffers.solve(number(shared(T)), inputs, outputs) == 0
        direct = Models.prepared(T)
        HybridNDS.resize_times!(direct, 2) .= (0.5, 2)
        solve!(direct, algorithm("Tsit5"), 0, 2, tolerances..., 0, HybridNDS.KEEP_TIMES,
            10^5)
        times, states, end_time, end_state, counts = outputs
        @test times == T[0.5, 2]
        @test states == direct.saved_states[:, 1:2]
        @test end_time[] == 2
        @test end_state == direct.saved_states[:, end]
        # The error of each step, magnified by less than 3.
        limit = 3 * counts[4] * sum(tolerances) * 3
        @test maximum(abs, states[:, 1] - Models.exact(0.5)) < limit
        @test counts[1] == Int(HybridNDS.SUCCESS)
        @test counts[2] == -1
        @test counts[end] == 0
    end
end

@testset "a batch is its members" begin
    starts = [1.0 2.0 0.5; 1.0 0.5 2.0]
    weights = reshape([1.0, 0.5, 2.0, 0.25], 2, 1, 2)
    times = [0.5, 2.0]
    # Three starts along the inner axis, two sets of weights along the outer.
    batch = operands(; start = reshape(starts, 2, 3, 1), p = weights)
    batch = (batch[1], batch[2], map(x -> reshape(x, :, 1, 1), batch[3:5])...,
        zeros(0, 1, 1))
    solve = number(shared())
    outputs = Buffers.results(Float64, 2, 2, 3, 2)
    @test Buffers.solve(solve, batch, outputs) == 0
    for i in 1:3, j in 1:2
        single = Buffers.results(Float64, 2, 2)
        inputs = operands(; start = starts[:, i], p = weights[:, 1, j])
        @test Buffers.solve(solve, inputs, single) == 0
        @test outputs[2][:, :, i, j] == single[2]
        @test outputs[4][:, i, j] == single[4]
        @test outputs[5][:, i, j] == single[5]
    end
    # By the handler the same, where all but the frame is alike.
    again = Buffers.results(Float64, 2, 2, 3, 2)
    @test Buffers.called(solve, batch, again) == ""
    @test again == outputs
end

@testset "a trajectory that fails leaves others alone" begin
    starts = [1.0 NaN 1.0; 1.0 1.0 1.0]
    outputs = Buffers.results(Float64, 2, 2, 3)
    batch = operands(; start = starts)
    batch = (batch[1], map(x -> reshape(x, :, 1), batch[2:5])..., zeros(0, 1))
    @test Buffers.solve(number(shared()), batch, outputs) == 0
    times, states, end_time, end_state, counts = outputs
    @test counts[1, [1, 3]] == [0, 0]
    @test HybridNDS.Outcome(counts[1, 2]) ∉ (HybridNDS.SUCCESS, HybridNDS.EVENT)
    @test times[:, 2] == [Inf, Inf] && all(==(Inf), states[:, :, 2])
    @test states[:, :, 1] == states[:, :, 3]
    @test !isempty(split(HybridNDS.failure_message(counts[end, 2]), '\n')[2])
end

@testset "an exception in a solve is its trajectory's own" begin
    broken = Models.lowered("broken!", "u[1] > 1.5 && error(\"no such state\")\nout .= 0")
    parts = HybridNDS.shared_model("float64", broken, PARTS[2:3]..., nothing, false)
    solve = HybridNDS.shared_solve("float64", parts, 2, 2, 0, 0,
        HybridNDS.event_plans(), algorithm("Tsit5"), 0, 10)
    outputs = Buffers.results(Float64, 2, 0, 2)
    batch = operands(; start = [2.0 1.0; 1.0 1.0])
    batch = (batch[1], map(x -> reshape(x, :, 1), batch[2:4])..., zeros(0, 1), zeros(0, 1))
    @test Buffers.solve(number(solve), batch, outputs) == 0
    counts = outputs[5]
    @test HybridNDS.Outcome.(counts[1, :]) == [HybridNDS.FAILURE, HybridNDS.SUCCESS]
    @test HybridNDS.failure_message(counts[end, 1]) == "ErrorException\nno such state"
    # It ended where it began.
    @test outputs[3] == [0.0, 2.0] && outputs[4] == [2.0 1.0; 1.0 1.0]
end

@testset "what cannot be solved is refused" begin
    solve = number(shared())
    outputs = Buffers.results(Float64, 2, 2)
    @test Buffers.solve(10^9, operands(), outputs) == 2
    @test Buffers.solve(number([1.0]), operands(), outputs) == 2
    @test Buffers.solve(solve, operands(Float32), outputs) == 3
    @test Buffers.solve(solve, operands(), Buffers.results(Float32, 2, 2)) == 3
    @test occursin("Float32", Buffers.called(solve, operands(Float32), outputs))
    HybridNDS.forget!(solve)
    @test Buffers.solve(solve, operands(), outputs) == 2
end

@testset "operands are broadcast as arrays are" begin
    batch = [2, 3, 4]
    for dims in ([2, 3, 4], [1, 3, 4], [2, 1, 4], [2, 3, 1], [1, 1, 4], [1, 1, 1])
        sizes = Int64[dims..., 5]
        data = reshape(collect(1.0:(5 * prod(dims))), 5, reverse(dims)...)
        full = data .+ zeros(5, reverse(batch)...)
        GC.@preserve sizes batch data begin
            operand = HybridNDS.Operand{Float64}(pointer(data), pointer(sizes), 3, 5)
            offsets = [HybridNDS.offset(operand, pointer(batch), k) for k in 0:23]
            @test [data[offset + 1] for offset in offsets] == vec(full[1, :, :, :])
        end
    end
end

@testset "interrupts" begin
    # The pipe is made not to block, and written to from outside, as on Linux.
    if Sys.islinux()
        ends = zeros(Cint, 2)
        @test (@ccall pipe2(ends::Ptr{Cint}, 0x800::Cint)::Cint) == 0
        HybridNDS.watch_interrupts(ends[1])
        decay = Models.lowered("decay!", "out[1] = -u[1]; out[2] = -u[2]")
        parts = HybridNDS.shared_model("float64", decay, PARTS[2:3]..., nothing, false)
        solve = number(HybridNDS.shared_solve("float64", parts, 2, 2, 0, 0,
            HybridNDS.event_plans(), algorithm("Tsit5"), 0, typemax(Int)))
        outputs = Buffers.results(Float64, 2, 0)
        inputs(t1) = operands(; span = [0.0, t1, 1e-6, 0.0], times = Float64[])
        # What was pressed before a solve does not stop it.
        interrupt = UInt8[HybridNDS.INTERRUPT_BYTE]
        @test (@ccall write(ends[2]::Cint, interrupt::Ptr{UInt8}, 1::Csize_t)::Cssize_t) == 1
        @test Buffers.solve(solve, inputs(1.0), outputs) == 0
        path = "/proc/$(getpid())/fd/$(ends[2])"
        run(`sh -c "sleep 0.5; printf '\\002' > $path"`; wait = false)
        # Some 10¹² steps.
        @test Buffers.solve(solve, inputs(1e12), outputs) == 1
        @test outputs[5][1] == Int(HybridNDS.INTERRUPTED)
        @test Buffers.solve(solve, inputs(1.0), outputs) == 0
        HybridNDS.watch_interrupts(-1)
        HybridNDS.take_signals!()
    end
end

@testset "solves of a size that only they know" begin
    inputs = collect(Vector{Float64}, operands(; times = Float64[]))
    direct = Models.prepared()
    for (keep, count) in ((HybridNDS.KEEP_STEPS, nothing), (HybridNDS.KEEP_DENSE, 1))
        solve!(direct, algorithm("Tsit5"), 0, 2, 1e-8, 1e-8, 0, keep, 10^5)
        saved = HybridNDS.saved_solve(shared(; keep), inputs...)
        length_of = HybridNDS.saved_length(saved)
        @test length_of == something(count, direct.report.accepted + 2)
        times, states = zeros(length_of), zeros(2, length_of)
        counts = zeros(Int, HybridNDS.COUNTS)
        GC.@preserve times states counts HybridNDS.copy_saved!(saved,
            map(array -> Int(pointer(array)), (times, states, counts))...)
        @test times == direct.saved_times
        @test states == direct.saved_states
        @test counts[1:4] == [0, -1, direct.report.steps, direct.report.accepted]
        if keep == HybridNDS.KEEP_DENSE
            between = zeros(2, 2)
            GC.@preserve between HybridNDS.interpolate_saved!(
                saved, [0.5, 1.0], Int(pointer(between)))
            @test between == HybridNDS.interpolate(direct.solution, [0.5, 1.0])
            @test between≈hcat(Models.exact(0.5), Models.exact(1.0)) atol=1e-6
        end
    end
    # A failure has its message, as in a batch.
    saved = HybridNDS.saved_solve(shared(; keep = HybridNDS.KEEP_STEPS, steps = 3), inputs...)
    @test HybridNDS.Outcome(saved.counts[1]) == HybridNDS.MAX_STEPS
    @test HybridNDS.failure_message(saved.counts[end]) == "\nMaxIters"
end
