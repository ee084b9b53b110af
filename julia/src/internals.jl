# What this package asks of Julia beyond its documented interface, with the versions for
# which it is known. A host that cannot have it must go on without: it then calls from
# its main thread alone.

# The state of a thread towards the garbage collector: exported by libjulia-internal
# since Julia 1.4, and unchanged in these versions.
const GC_STATES_KNOWN = v"1.10" <= VERSION < v"1.13-"

"""
    gc_state_address(name)

Where the C function `"jl_gc_safe_enter"` or `"jl_gc_safe_leave"` is; 0 where this
version of Julia is not known to have it.

A thread of the host that has been in Julia counts as running Julia code until it has
entered this state: the garbage collector would wait for it. Once it has, entering
through a `@cfunction` leaves the state and returning restores it.
"""
function gc_state_address(name::AbstractString)
    GC_STATES_KNOWN || return UInt(0)
    library = Libdl.dlopen("libjulia-internal"; throw_error = false)
    library === nothing && return UInt(0)
    address = Libdl.dlsym(library, name; throw_error = false)
    return address === nothing ? UInt(0) : UInt(address)
end

# The structures of XLA's foreign function interface on a machine of 64 bits, from the
# header that comes with jaxlib (xla/ffi/api/c_api.h), API version 0.3. The host compares
# the version of its header before it uses any of this.
field(::Type{T}, base::Ptr, bytes::Int) where {T} = unsafe_load(Ptr{T}(base + bytes))

buffer_data(buffer::Ptr{Cvoid}) = field(Ptr{Cvoid}, buffer, 24)
buffer_rank(buffer::Ptr{Cvoid}) = Int(field(Int64, buffer, 32))
buffer_dims(buffer::Ptr{Cvoid}) = field(Ptr{Int64}, buffer, 40)
function buffer_type(buffer::Ptr{Cvoid})
    code = field(Int32, buffer, 16)
    code == 12 && return Float64
    code == 11 && return Float32
    code == 5 && return Int64
    code == 4 && return Int32
    return Nothing
end

frame_api(frame::Ptr{Cvoid}) = field(Ptr{Cvoid}, frame, 16)

function frame_buffers(frame::Ptr{Cvoid})
    return field(Ptr{Ptr{Cvoid}}, frame, 72), field(Int64, frame, 56),
    field(Ptr{Ptr{Cvoid}}, frame, 112), field(Int64, frame, 96)
end

# The only attribute, a whole number.
function frame_attribute(frame::Ptr{Cvoid})
    scalar = field(Ptr{Cvoid}, field(Ptr{Cvoid}, frame, 160), 0)
    return field(Int64, field(Ptr{Cvoid}, scalar, 8), 0)
end

const API_VERSION = Ref((Cint(0), Cint(3)))
const METADATA_EXTENSION = 1

# XLA asks once which version a handler was made for.
function answer_metadata!(frame::Ptr{Cvoid})
    extension = field(Ptr{Cvoid}, frame, 8)
    extension == C_NULL && return false
    field(Cint, extension, 8) == METADATA_EXTENSION || return false
    metadata = field(Ptr{Cvoid}, extension, 24)
    unsafe_store!(Ptr{Cint}(metadata + 24), API_VERSION[][1])
    unsafe_store!(Ptr{Cint}(metadata + 28), API_VERSION[][2])
    unsafe_store!(Ptr{UInt32}(metadata + 32), 0)
    return true
end

struct ErrorArguments
    size::Csize_t
    extension::Ptr{Cvoid}
    message::Ptr{UInt8}
    code::Cint
end
const INTERNAL_ERROR = Cint(13)

function frame_error(frame::Ptr{Cvoid}, message::String)
    create = field(Ptr{Cvoid}, frame_api(frame), 48)
    GC.@preserve message begin
        arguments = Ref(ErrorArguments(28, C_NULL, pointer(message), INTERNAL_ERROR))
        return @ccall $create(arguments::Ptr{Cvoid})::Ptr{Cvoid}
    end
end

struct RunArguments
    size::Csize_t
    extension::Ptr{Cvoid}
    context::Ptr{Cvoid}
    run::Int64
end

# The number of the execution that a call belongs to; 0 where XLA does not tell.
function frame_run(frame::Ptr{Cvoid})
    field(Csize_t, frame_api(frame), 0) >= 184 || return 0
    get = field(Ptr{Cvoid}, frame_api(frame), 176)
    arguments = Ref(RunArguments(32, C_NULL, field(Ptr{Cvoid}, frame, 24), 0))
    @ccall $get(arguments::Ptr{Cvoid})::Ptr{Cvoid}
    return arguments[].run
end
