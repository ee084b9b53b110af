# Arrays and call frames as XLA lays them out, from its C header (version 0.3).

module Buffers

using HybridNDS: HybridNDS

const DTYPES = Dict(Int32 => 4, Int64 => 5, Float32 => 11, Float64 => 12)

"""
    Described(arrays, ranks)

Julia arrays, and memory that describes them to a handler: the fields of an
`XLA_FFI_Buffer` are its size, an extension, the dtype, data, rank and dimensions, which
are those of the host, the reverse of Julia's.
"""
struct Described
    owned::Vector{Any}
    list::Vector{Ptr{Cvoid}}
end
function Described(arrays::AbstractArray...)
    owned, list = Any[arrays...], Ptr{Cvoid}[]
    for array in arrays
        dims = Int64[reverse(size(array))..., 0]
        buffer = zeros(UInt64, 6)
        buffer[1], buffer[3] = sizeof(buffer), DTYPES[eltype(array)]
        buffer[4], buffer[5] = UInt64(pointer(array)), ndims(array)
        buffer[6] = UInt64(pointer(dims))
        push!(owned, dims, buffer)
        push!(list, pointer(buffer))
    end
    return Described(owned, list)
end
Base.pointer(described::Described) = pointer(described.list)
Base.length(described::Described) = length(described.list)

"""
    results(T, states, times, batch...)

Arrays for the results of a batch of solves.
"""
function results(::Type{T}, states, times, batch...) where {T}
    return fill(T(NaN), times, batch...), fill(T(NaN), states, times, batch...),
    fill(T(NaN), batch...), fill(T(NaN), states, batch...),
    fill(-1, HybridNDS.COUNTS, batch...)
end

function solve(number, operands, results)
    inputs, outputs = Described(operands...), Described(results...)
    return GC.@preserve inputs outputs HybridNDS.solve_entry(Int64(number), pointer(inputs),
        Int64(length(inputs)), pointer(outputs), Int64(length(outputs)))
end

const MESSAGE = Ref("")
struct ErrorArguments
    size::Csize_t
    extension::Ptr{Cvoid}
    message::Ptr{UInt8}
    code::Cint
end
function create(arguments::Ptr{ErrorArguments})::Ptr{Cvoid}
    MESSAGE[] = unsafe_string(unsafe_load(arguments).message)
    return Ptr{Cvoid}(1)
end
struct RunArguments
    size::Csize_t
    extension::Ptr{Cvoid}
    context::Ptr{Cvoid}
    run::Int64
end
function run(arguments::Ptr{RunArguments})::Ptr{Cvoid}
    request = unsafe_load(arguments)
    unsafe_store!(arguments,
        RunArguments(request.size, request.extension, request.context, Int64(UInt(request.context))))
    return C_NULL
end

"""
    called(number, operands, results; run)

Let the handler run that solve within an execution of that number; returns the message of
its error, empty for none.
"""
function called(number, operands = (), results = (); run = 1)
    inputs, outputs = Described(operands...), Described(results...)
    api, frame = zeros(UInt64, 24), zeros(UInt64, 24)
    api[1] = sizeof(api)
    api[7] = UInt64(@cfunction(create, Ptr{Cvoid}, (Ptr{ErrorArguments},)))
    api[23] = UInt64(@cfunction(Buffers.run, Ptr{Cvoid}, (Ptr{RunArguments},)))
    attribute = Int64[number]
    scalar = UInt64[0, UInt64(pointer(attribute))]
    values = UInt64[UInt64(pointer(scalar))]
    # At bytes 16, 24, 56, 72, 112 and 160.
    frame[3], frame[4] = UInt64(pointer(api)), UInt64(run)
    frame[8], frame[10] = length(inputs), UInt64(pointer(inputs))
    frame[15], frame[21] = UInt64(pointer(outputs)), UInt64(pointer(values))
    MESSAGE[] = ""
    failed = GC.@preserve inputs outputs api frame attribute scalar values begin
        HybridNDS.ffi_entry(Ptr{Cvoid}(pointer(frame)))
    end
    @assert (failed == C_NULL) == isempty(MESSAGE[])
    return MESSAGE[]
end

"""
    version()

The version of XLA's interface for which the handler says it was made.
"""
function version()
    metadata, extension, frame = zeros(UInt64, 6), zeros(UInt64, 4), zeros(UInt64, 24)
    extension[2] = HybridNDS.METADATA_EXTENSION
    extension[4] = UInt64(pointer(metadata))
    frame[2] = UInt64(pointer(extension))
    answered = GC.@preserve metadata extension frame begin
        HybridNDS.ffi_entry(Ptr{Cvoid}(pointer(frame)))
    end
    @assert answered == C_NULL
    return Tuple(reinterpret(Cint, metadata)[7:8])
end

end
