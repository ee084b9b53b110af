"""
    grow_stochastic!(prepared, method, count, t0, interval, steps, first, intervals,
        key_high, key_low, chain, with_areas)

As [`grow_map!`](@ref), by a method of StochasticDiffEq. A path of the host's own is in
`prepared`, over all intervals.
"""
function grow_stochastic!(prepared::PreparedStochastic{T}, method, count::Int, t0::Real,
        interval::Real, steps::Int, first::Int, intervals::Int, key_high::Int,
        key_low::Int, chain::Int, with_areas::Bool) where {T}
    growth = Growth{T}(count, intervals)
    path = prepared.grid, prepared.increments, prepared.areas
    key = (key_high % UInt32, key_low % UInt32)
    source = Increments{T}(key, UInt64(chain), path[2], path[3])
    u = copy(prepared.start)
    turner = Turner{T}(length(u) ÷ (count + 1), count)
    step = T(interval) / steps
    try
        resize_path!(prepared, steps, with_areas)
        for index in first:(first + intervals - 1)
            start = T(t0) + T(index) * T(interval)
            stop = start + T(interval)
            read_interval!(prepared.increments, prepared.areas, source, index, step)
            prepared.grid .= start .+ step .* (0:steps)
            prepared.grid[end] = stop
            copyto!(prepared.start, u)
            solve_stochastic!(prepared, method, start, stop, 0.0, 0.0, 0.0, KEEP_END,
                10 * steps + 10, index)
            growth.code = prepared.report[1]
            growth.steps += steps
            growth.code == INTERRUPTED && break
            copyto!(u, @view prepared.kept_states[:, end])
            close_interval!(growth, turner, u) || break
        end
    finally
        prepared.grid, prepared.increments, prepared.areas = path
    end
    copyto!(prepared.start, u)
    report!(prepared.report, growth)
    return growth
end
