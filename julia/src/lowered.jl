include("lowered/LoweredCode.jl")

"""
    WorkArrays()

The work arrays of one lowered function in one task, by element type.
"""
mutable struct WorkArrays
    element::DataType
    arrays::Any
    others::IdDict{Any, Any}
end
WorkArrays() = WorkArrays(Nothing, nothing, IdDict{Any, Any}())

"""
    Lowered(kernel, layout, constants)

A lowered function in array form, called as `f(out, u, p, t)`.

The kernel's work arrays are kept per task and per element type: calls allocate nothing
once warm, threads never share, and dual numbers get their own.
"""
struct Lowered{K, L, C} <: Function
    kernel::K
    layout::L
    constants::C
    task::Task
    own::WorkArrays
end
function Lowered(kernel, layout::Tuple, constants::Tuple)
    return Lowered(kernel, layout, constants, current_task(), WorkArrays())
end

"""
    Layout{E, N}(dims)

The element type and size of one work array; `E === Nothing` stands for the generic one.
"""
struct Layout{E, N}
    dims::NTuple{N, Int}
end

@inline array_type(::Layout{E, N}, ::Type{T}) where {E, N, T} = Array{
    E === Nothing ? T : E, N}
@inline allocate(layout::Layout, ::Type{T}) where {T} = array_type(layout, T)(
    undef, layout.dims)

@inline function work_arrays(f::Lowered, ::Type{T}) where {T}
    store = if current_task() === f.task
        f.own
    else
        # Other tasks keep theirs in their own storage, which ends with them.
        get!(WorkArrays, task_local_storage(), f.own)::WorkArrays
    end
    if store.element !== T
        switch_element!(store, f, T)
    end
    return store.arrays::Tuple{map(layout -> array_type(layout, T), f.layout)...}
end

@noinline function switch_element!(store::WorkArrays, f::Lowered, ::Type{T}) where {T}
    store.arrays = get!(store.others, T) do
        map(layout -> allocate(layout, T), f.layout)
    end
    store.element = T
    return nothing
end

@inline function (f::Lowered{K, Tuple{}})(out, u, p, t) where {K}
    f.kernel(out, u, p, t, (), f.constants)
    return nothing
end

@inline function (f::Lowered)(out, u, p, t)
    T = promote_type(eltype(u), eltype(p), typeof(t))
    f.kernel(out, u, p, t, work_arrays(f, T), f.constants)
    return nothing
end

"""
    LoweredScalar(kernel, constants)

A lowered function in scalar form, called as `f(u, p, t)`; it returns a static array.
"""
struct LoweredScalar{K, C} <: Function
    kernel::K
    constants::C
end
@inline (f::LoweredScalar)(u, p, t) = f.kernel(u, p, t, f.constants)

const ELEMENT_TYPES = Dict{String, DataType}(
    "float" => Nothing, "float64" => Float64, "float32" => Float32, "float16" => Float16,
    "int8" => Int8, "int16" => Int16, "int32" => Int32, "int64" => Int64,
    "uint8" => UInt8, "uint16" => UInt16, "uint32" => UInt32, "uint64" => UInt64,
    "bool" => Bool)

"""
    lowered(source, kinds, sizes, constants; scalar = false)

Evaluate lowered source in a module of its own and return it as a callable.

`kinds` and `sizes` describe the work arrays, in order; `constants` are pairs of a flat
vector and the dimensions it has in Julia.
"""
function lowered(source::AbstractString, kinds, sizes, constants; scalar::Bool = false)
    arrays = Array[]
    for (values, dims) in constants
        push!(arrays, constant_array(values, dimensions(dims)))
    end
    layout = Layout[]
    for (kind, dims) in zip(kinds, sizes)
        push!(layout, work_layout(ELEMENT_TYPES[String(kind)], dimensions(dims)))
    end
    kernel = evaluate_lowered(String(source))
    scalar && return LoweredScalar(kernel, Tuple(arrays))
    return Lowered(kernel, Tuple(layout), Tuple(arrays))
end

function dimensions(dims)
    sizes = Int[]
    for n in dims
        push!(sizes, Int(n))
    end
    return sizes
end

# A copy in memory of Julia's own: the host's may move or go.
constant_array(values, dims::Vector{Int}) = reshape(Array(values), dims...)
work_layout(element::DataType, dims::Vector{Int}) = Layout{element, length(dims)}(Tuple(dims))

# Every program evaluated. The only instance of a function's type does not keep that type
# alive: between the evaluation and the first type made of it, the garbage collector
# would take it away. Julia keeps compiled code for good, so that nothing leaks here.
const PROGRAMS = Module[]

function evaluate_lowered(source::AbstractString)
    scope = Module(:LoweredProgram)
    push!(PROGRAMS, scope)
    for name in names(LoweredCode)
        name === :LoweredCode && continue
        Core.eval(scope, :(const $name = $(getfield(LoweredCode, name))))
    end
    return Core.eval(scope, Meta.parse(source))
end
