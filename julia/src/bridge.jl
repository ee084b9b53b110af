# C functions for a host in which any thread may call Julia: no code of the host's runs in
# them, so that it can let its own global lock go.

"""
    HostArgument

An argument of [`call_entry`](@ref): `kind` says which of the fields holds it.
"""
struct HostArgument
    kind::Int64
    integer::Int64
    data::Ptr{Cvoid}
    rank::Int64
    dims::NTuple{4, Int64}
end
const NOTHING_ARGUMENT, INTEGER_ARGUMENT, BOOL_ARGUMENT, FLOAT_ARGUMENT, STRING_ARGUMENT,
REFERENCE_ARGUMENT, ARRAY_ARGUMENT = 0:6

# Element types of arrays, by the names that the host has for them.
const ARRAY_TYPES = Dict(code => type
for (code, type) in enumerate((Float64, Float32, Float16, Int64, Int32, Int16,
    Int8, UInt64, UInt32, UInt16, UInt8, Bool)))

# What the host refers to by number. Numbers are not used again.
const REFERENCES = Dict{Int64, Any}()
const REFERENCES_GUARD = Threads.SpinLock()
const LAST_REFERENCE = Ref{Int64}(0)

function refer!(value)
    return lock(REFERENCES_GUARD) do
        number = LAST_REFERENCE[] += 1
        REFERENCES[number] = value
        return number
    end
end

function referred(number::Integer)
    lock(REFERENCES_GUARD)
    found = get(REFERENCES, number, nothing)
    unlock(REFERENCES_GUARD)
    return found
end

function forget!(number::Integer)
    lock(REFERENCES_GUARD) do
        delete!(REFERENCES, number)
    end
    return nothing
end

references() = length(REFERENCES)

function argument(host::HostArgument)
    kind = host.kind
    kind == NOTHING_ARGUMENT && return nothing
    kind == INTEGER_ARGUMENT && return host.integer
    kind == BOOL_ARGUMENT && return host.integer != 0
    kind == FLOAT_ARGUMENT && return reinterpret(Float64, host.integer)
    kind == STRING_ARGUMENT && return unsafe_string(Ptr{UInt8}(host.data), host.integer)
    if kind == REFERENCE_ARGUMENT
        object = referred(host.integer)
        object === nothing && throw(ArgumentError("reference $(host.integer) is gone"))
        return object
    end
    T = ARRAY_TYPES[host.integer]
    dims = host.dims[1:(host.rank)]
    return copy(unsafe_wrap(Array, Ptr{T}(host.data), dims))
end

"""
    HOST_FUNCTIONS

What a host may call by name.
"""
const HOST_FUNCTIONS = Dict{String, Any}()

"""
    call_entry(name, arguments, count, result, buffer, room)

Call a function of [`HOST_FUNCTIONS`](@ref). An integer that it returns is written to
`result`, and so is the length of a string, whose first bytes go to `buffer`; for any other
value that is the number of a new reference. Returns 0, or 1 for an exception, whose kind
and message are the string.
"""
function call_entry(name::Ptr{UInt8}, arguments::Ptr{HostArgument}, count::Int64,
        result::Ptr{Int64}, buffer::Ptr{UInt8}, room::Int64)::Int64
    try
        f = HOST_FUNCTIONS[unsafe_string(name)]
        value = f((argument(unsafe_load(arguments, k)) for k in 1:count)...)
        number = if value === nothing
            0
        elseif value isa Integer
            Int64(value)
        elseif value isa String
            write_text(value, buffer, room)
        else
            refer!(value)
        end
        unsafe_store!(result, number)
        return 0
    catch error
        text = string(nameof(typeof(error)), '\n', sprint(showerror, error))
        unsafe_store!(result, write_text(text, buffer, room))
        return 1
    end
end

function write_text(text::String, buffer::Ptr{UInt8}, room::Int64)
    bytes = min(ncodeunits(text), room)
    GC.@preserve text unsafe_copyto!(buffer, pointer(text), bytes)
    return bytes
end

"""
    solve_entry(number, operands, operand_count, results, result_count)

Run the [`SharedCall`](@ref) of that number on arrays of the host's, which are described
as XLA describes buffers. Returns 0, 1 where an interrupt ended it, 2 where the solve is
gone, 3 where the arrays are of another kind, or less than zero: the number of the
[`Failure`](@ref) of a derivative, with the other sign.
"""
function solve_entry(number::Int64, operands::Ptr{Ptr{Cvoid}}, operand_count::Int64,
        results::Ptr{Ptr{Cvoid}}, result_count::Int64)::Int64
    try
        shared = referred(number)
        shared isa SharedCall || return 2
        before = Watch().before
        return cross_buffers(
            shared, operands, operand_count, results, result_count, before) ? 1 : 0
    catch error
        error isa DerivativeError && return -record_failure!(Failure("", error.message))
        error isa ArgumentError || rethrow()
        return 3
    end
end

# Behind a barrier: what was looked up has no type of its own.
@noinline function cross_buffers(shared::SharedSolve{T}, operands::Ptr{Ptr{Cvoid}},
        count::Int64, results::Ptr{Ptr{Cvoid}}, result_count::Int64,
        before::Int) where {T}
    inputs = Operand{T}[operand(T, unsafe_load(operands, k)) for k in 1:count]
    counts = unsafe_load(results, 5)
    if buffer_type(counts) === Int64
        made = read_results(T, Int64, results, result_count)
        return cross!(Batch(shared, inputs, made, before))
    end
    made = read_results(T, Int32, results, result_count)
    return cross!(Batch(shared, inputs, made, before))
end

function operand(::Type{T}, buffer::Ptr{Cvoid}) where {T}
    buffer_type(buffer) === T ||
        throw(ArgumentError("an operand is of $(buffer_type(buffer)), not of $T"))
    rank, dims = buffer_rank(buffer), buffer_dims(buffer)
    return Operand{T}(
        Ptr{T}(buffer_data(buffer)), dims, rank - 1, Int(unsafe_load(dims, rank)))
end

function read_results(::Type{T}, ::Type{I}, results::Ptr{Ptr{Cvoid}},
        count::Int64) where {T, I}
    times, states, end_time, end_state, counts = ntuple(
        k -> unsafe_load(results, k), 5)
    for buffer in (times, states, end_time, end_state)
        buffer_type(buffer) === T ||
            throw(ArgumentError("a result is of $(buffer_type(buffer)), not of $T"))
    end
    buffer_type(counts) === I ||
        throw(ArgumentError("the counts are of $(buffer_type(counts))"))
    batch, rank = buffer_dims(end_time), buffer_rank(end_time)
    trajectories = 1
    for axis in 1:rank
        trajectories *= unsafe_load(batch, axis)
    end
    pointers = map(buffer -> Ptr{T}(buffer_data(buffer)),
        (times, states, end_time, end_state))
    record, room = Ptr{T}(C_NULL), 0
    if count > 5
        steps = operand(T, unsafe_load(results, 6))
        record, room = steps.data, steps.count
    end
    return Results{T, I}(
        pointers..., Ptr{I}(buffer_data(counts)), record, room, batch, trajectories)
end

"""
    ffi_entry(frame)

A handler of XLA's foreign function interface: runs the [`SharedSolve`](@ref) whose number
is its attribute.
"""
function ffi_entry(frame::Ptr{Cvoid})::Ptr{Cvoid}
    answer_metadata!(frame) && return C_NULL
    try
        HOST_FORKED[] && return frame_error(frame, FORKED_MESSAGE)
        shared = referred(frame_attribute(frame))
        shared isa SharedCall || return frame_error(frame, GONE_MESSAGE)
        operands, count, results, result_count = frame_buffers(frame)
        run = frame_run(frame)
        before = run == 0 ? Watch().before : interrupts_before(run)
        stopped = cross_buffers(shared, operands, count, results, result_count, before)
        return stopped ? frame_error(frame, INTERRUPTED_MESSAGE) : C_NULL
    catch error
        return frame_error(frame, sprint(showerror, error))
    end
end

const HOST_FORKED = Ref(false)
const FORKED_MESSAGE = "solve: Julia was started before this process was forked from " *
                       "another, and its threads are missing here; start processes afresh."
const GONE_MESSAGE = "solve: the Julia solve that this compiled program refers to is " *
                     "gone: it was compiled by another process, or Julia was started " *
                     "anew; trace and compile it here."
const INTERRUPTED_MESSAGE = "solve: interrupted."

# The last programs that ran, and how many interrupts there were when each first came
# here: Ctrl-C stops a program even if it is pressed between two of its solves.
const RUNS = fill((typemin(Int64), 0), 16)
const RUNS_GUARD = Threads.SpinLock()
const NEXT_RUN = Ref(0)

function interrupts_before(run::Int64)
    lock(RUNS_GUARD)
    for (known, before) in RUNS
        if known == run
            unlock(RUNS_GUARD)
            return before
        end
    end
    unlock(RUNS_GUARD)
    read_signals!()
    before = INTERRUPTS[]
    lock(RUNS_GUARD)
    slot = NEXT_RUN[] = NEXT_RUN[] % length(RUNS) + 1
    RUNS[slot] = (run, before)
    unlock(RUNS_GUARD)
    return before
end

"""
    entry_addresses()

Where the host finds [`call_entry`](@ref), [`solve_entry`](@ref), [`ffi_entry`](@ref), and
the byte by which it says that this process was forked.
"""
function entry_addresses()
    call = @cfunction(call_entry, Int64, (Ptr{UInt8}, Ptr{HostArgument}, Int64, Ptr{Int64},
        Ptr{UInt8}, Int64))
    solve = @cfunction(solve_entry, Int64, (Int64, Ptr{Ptr{Cvoid}}, Int64,
        Ptr{Ptr{Cvoid}}, Int64))
    ffi = @cfunction(ffi_entry, Ptr{Cvoid}, (Ptr{Cvoid},))
    forked = Ptr{Cvoid}(pointer_from_objref(HOST_FORKED))
    return UInt(call), UInt(solve), UInt(ffi), UInt(forked)
end
