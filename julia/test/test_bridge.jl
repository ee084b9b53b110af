using HybridNDS: HybridNDS, HostArgument
using Test

isdefined(@__MODULE__, :Buffers) || include("buffers.jl")

const NO_DIMS = (0, 0, 0, 0)
plain(kind, integer = 0) = HostArgument(kind, integer, C_NULL, 0, NO_DIMS)
reference(number) = plain(HybridNDS.REFERENCE_ARGUMENT, number)
function array(values)
    code = findfirst(k -> HybridNDS.ARRAY_TYPES[k] === eltype(values), 1:12)
    dims = ntuple(k -> k <= ndims(values) ? size(values, k) : 0, 4)
    return HostArgument(
        HybridNDS.ARRAY_ARGUMENT, code, Ptr{Cvoid}(pointer(values)), ndims(values), dims)
end

# A call as the host makes it: the code, the number, and the text.
function call(name, arguments...; room = 200)
    arguments, number = HostArgument[arguments...], Ref{Int64}(-1)
    buffer = fill(UInt8('?'), room)
    code = GC.@preserve arguments buffer HybridNDS.call_entry(Base.unsafe_convert(Ptr{UInt8}, name),
        pointer(arguments), Int64(length(arguments)), Base.unsafe_convert(Ptr{Int64}, number),
        pointer(buffer), Int64(room))
    return code, number[], buffer
end
text((_, length, buffer)) = String(buffer[1:length])

# What was passed, seen from within.
const PASSED = Ref{Any}()
pass(arguments...) = (PASSED[] = arguments; nothing)
say(text) = text
fail() = throw(DomainError(-1, "negative"))
merge!(HybridNDS.HOST_FUNCTIONS,
    Dict{String, Any}("test: pass" => pass, "test: say" => say, "test: fail" => fail,
        "test: sum" => (a, b) -> a + b, "test: vector" => () -> [1.0]))

@testset "arguments" begin
    string_bytes = "größer"
    string = HostArgument(HybridNDS.STRING_ARGUMENT, ncodeunits(string_bytes),
        Ptr{Cvoid}(pointer(string_bytes)), 0, NO_DIMS)
    real = plain(HybridNDS.FLOAT_ARGUMENT, reinterpret(Int64, -0.1))
    values = reshape(collect(1.0:6.0), 3, 2)
    arguments = (plain(HybridNDS.NOTHING_ARGUMENT), plain(HybridNDS.INTEGER_ARGUMENT, -3),
        plain(HybridNDS.BOOL_ARGUMENT, 1), real, string, array(values))
    GC.@preserve string_bytes values begin
        @test call("test: pass", arguments...)[1:2] == (0, 0)
    end
    passed = PASSED[]
    @test passed[1] === nothing
    @test passed[2] === -3
    @test passed[3] === true
    @test passed[4] === -0.1
    @test passed[5] == string_bytes
    @test passed[6] == values
    # A copy: the host's memory may move.
    values[1] = 7.0
    @test passed[6][1] == 1.0
    for T in (Float32, Float16, Int64, Int32, Int16, Int8, UInt64, UInt32, UInt16, UInt8,
        Bool)
        one = ones(T, 2)
        call("test: pass", array(one))
        @test PASSED[][1] == one && eltype(PASSED[][1]) === T
    end
end

@testset "results" begin
    @test call("test: sum", plain(1, 2), plain(1, 3))[1:2] == (0, 5)
    long = repeat("ab", 40)
    string = HostArgument(HybridNDS.STRING_ARGUMENT, 80, Ptr{Cvoid}(pointer(long)), 0,
        NO_DIMS)
    GC.@preserve long begin
        @test text(call("test: say", string)) == long
        # No more than there is room for.
        short = call("test: say", string; room = 10)
        @test text(short) == "ababababab"
    end
    failed = call("test: fail")
    @test failed[1] == 1
    kind, message = split(text(failed), '\n'; limit = 2)
    @test kind == "DomainError"
    @test occursin("negative", message)
    @test text(call("no such function")) |> startswith("KeyError\n")
end

@testset "references" begin
    before = HybridNDS.references()
    numbers = [call("test: vector")[2] for _ in 1:3]
    @test allunique(numbers)
    @test HybridNDS.references() == before + 3
    call("test: pass", reference(numbers[2]))
    @test PASSED[][1] === HybridNDS.referred(numbers[2])
    foreach(HybridNDS.forget!, numbers)
    @test HybridNDS.references() == before
    gone = call("test: pass", reference(numbers[1]))
    @test gone[1] == 1 && occursin("reference $(numbers[1]) is gone", text(gone))
    # Forgetting twice is nothing, and no number comes again.
    HybridNDS.forget!(numbers[1])
    @test call("test: vector")[2] > maximum(numbers)
end

@testset "the handler" begin
    @test Buffers.version() == HybridNDS.API_VERSION[]
    @test Buffers.called(10^9) == HybridNDS.GONE_MESSAGE
    HybridNDS.HOST_FORKED[] = true
    @test Buffers.called(10^9) == HybridNDS.FORKED_MESSAGE
    HybridNDS.HOST_FORKED[] = false
end
