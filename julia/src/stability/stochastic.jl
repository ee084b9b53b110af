"""
    grow_stochastic!(prepared, method, count, t0, interval, steps, first, intervals,
        key_high, key_low, chain, with_areas)

As [`grow_map!`](@ref), by a method of StochasticDiffEq. A path of the host's own is in
`prepared.path`, over all intervals.
"""
function grow_stochastic!(prepared::Prepared{T}, method, count::Int, t0::Real,
        interval::Real, steps::Int, first::Int, intervals::Int, key_high::Int,
        key_low::Int, chain::Int, with_areas::Bool) where {T}
    growth = GrowthRates{T}(count, intervals)
    path = prepared.path
    stored = path.grid, path.increments, path.areas
    key = (key_high % UInt32, key_low % UInt32)
    source = Increments{T}(key, UInt64(chain), stored[2], stored[3])
    u = copy(prepared.start)
    qr = QRWorkspace{T}(length(u) ÷ (count + 1), count)
    step = T(interval) / steps
    try
        resize_path!(prepared, steps, with_areas)
        for index in first:(first + intervals - 1)
            start = T(t0) + T(index) * T(interval)
            stop = start + T(interval)
            read_interval!(path.increments, path.areas, source, index, step)
            path.grid .= start .+ step .* (0:steps)
            path.grid[end] = stop
            copyto!(prepared.start, u)
            path.seed = index % UInt64
            solve!(prepared, method, start, stop, 0.0, 0.0, 0.0, KEEP_END,
                10 * steps + 10)
            growth.code = prepared.report.outcome
            growth.steps += steps
            growth.code == INTERRUPTED && break
            copyto!(u, @view prepared.saved_states[:, end])
            close_interval!(growth, qr, u) || break
        end
    finally
        path.grid, path.increments, path.areas = stored
        path.seed = nothing
    end
    copyto!(prepared.start, u)
    report!(prepared.report, growth)
    return growth
end
