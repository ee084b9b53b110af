"""
    Block(parent, offset, dims)

A column-major array over the elements of a vector that begin after `offset`.

Lowered code reads the state and the parameters through blocks: a block is immutable,
keeps its dimensions as constants after inlining, and is never allocated.
"""
struct Block{T, N, P <: AbstractArray{T}} <: AbstractArray{T, N}
    parent::P
    offset::Int
    dims::NTuple{N, Int}
end

Base.size(block::Block) = block.dims
Base.IndexStyle(::Type{<:Block}) = IndexLinear()
Base.@propagate_inbounds function Base.getindex(block::Block, i::Int)
    return block.parent[block.offset + i]
end
Base.@propagate_inbounds function Base.setindex!(block::Block, value, i::Int)
    return block.parent[block.offset + i] = value
end

Base.strides(block::Block) = Base.size_to_strides(1, block.dims...)
Base.elsize(::Type{<:Block{T}}) where {T} = sizeof(T)
function Base.unsafe_convert(::Type{Ptr{T}}, block::Block{T}) where {T}
    return pointer(block.parent, block.offset + 1)
end

"""
    scratch(T, Val(dims))

A work array of the scalar form, kept on the stack while it does not escape.
"""
@inline scratch(::Type{T}, ::Val{dims}) where {T, dims} = zero(MArray{Tuple{dims...}, T})
