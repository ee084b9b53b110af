"""
    Increments{T}

Where Brownian increments come from: a path as given, or Philox's numbers of a key, a
chain and an interval, the same however a run is cut.
"""
struct Increments{T}
    key::NTuple{2, UInt32}
    chain::UInt64
    given::Matrix{T}
    given_areas::Matrix{T}
end

is_given(source::Increments) = !isempty(source.given)

"""
    read_interval!(increments, areas, source, index, step)

Write the increments and the space-time Lévy areas of interval `index`, counted from
zero, with a column a step; `areas` may be empty.
"""
function read_interval!(increments::Matrix{T}, areas::Matrix{T}, source::Increments{T},
        index::Int, step::T) where {T}
    if is_given(source)
        columns = index * size(increments, 2) .+ axes(increments, 2)
        copyto!(increments, @view source.given[:, columns])
        isempty(areas) || copyto!(areas, @view source.given_areas[:, columns])
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
    place = 0
    for block in 0:(blocks - 1)
        first, second = normal_pair(source.key, lanes, kind, UInt64(index * blocks + block))
        place = store!(out, place, first)
        place = store!(out, place, second)
    end
    return nothing
end

# As many numbers as there is room for after `place`; the new place.
@inline function store!(out::Matrix{T}, place::Int, numbers) where {T}
    if place + LANES <= length(out)
        @inbounds for lane in 1:LANES
            out[place + lane] = T(numbers[lane])
        end
        return place + LANES
    end
    for lane in 1:(length(out) - place)
        out[place + lane] = T(numbers[lane])
    end
    return length(out)
end
