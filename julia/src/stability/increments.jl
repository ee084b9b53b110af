"""
    Increments{T}

Where Brownian increments come from: a stored path, or Philox's numbers of a key, a
chain and an interval, the same however a run is cut.
"""
struct Increments{T}
    key::NTuple{2, UInt32}
    chain::UInt64
    stored::Matrix{T}
    stored_areas::Matrix{T}
end

is_stored(source::Increments) = !isempty(source.stored)

"""
    read_interval!(increments, areas, source, index, step)

Write the increments and the space-time Lévy areas of interval `index`, counted from
zero, with a column a step; `areas` may be empty.
"""
function read_interval!(increments::Matrix{T}, areas::Matrix{T}, source::Increments{T},
        index::Int, step::T) where {T}
    if is_stored(source)
        columns = index * size(increments, 2) .+ axes(increments, 2)
        copyto!(increments, @view source.stored[:, columns])
        isempty(areas) || copyto!(areas, @view source.stored_areas[:, columns])
    else
        fill_normals!(increments, source, UInt64(0), index)
        increments .*= sqrt(step)
        if !isempty(areas)
            # Over one step independent of the increment (Foster 2020, theorem 4.2.3).
            fill_normals!(areas, source, UInt64(1), index)
            areas .*= sqrt(step / 12)
        end
    end
    return nothing
end

function fill_normals!(out::Matrix{T}, source::Increments{T}, kind::UInt64,
        index::Int) where {T}
    lanes = Words(ntuple(lane -> UInt64(lane - 1), Val(LANES))) + source.chain * LANES
    blocks = cld(length(out), 2 * LANES)
    offset = 0
    for block in 0:(blocks - 1)
        first, second = normal_pair(source.key, lanes, kind, UInt64(index * blocks + block))
        offset = store!(out, offset, first)
        offset = store!(out, offset, second)
    end
    return nothing
end

# As many numbers as there is room for after `offset`; the new offset.
@inline function store!(out::Matrix{T}, offset::Int, numbers) where {T}
    if offset + LANES <= length(out)
        @inbounds for lane in 1:LANES
            out[offset + lane] = T(numbers[lane])
        end
        return offset + LANES
    end
    for lane in 1:(length(out) - offset)
        out[offset + lane] = T(numbers[lane])
    end
    return length(out)
end
