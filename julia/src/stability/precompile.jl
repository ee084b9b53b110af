# The loops on the types that every model shares.
@setup_workload begin
    function example_map!(out, u, p, t, w, c)
        @inbounds for i in eachindex(out)
            out[i] = u[i] * (1 - p[1]) + u[i] * p[2]
        end
        return nothing
    end
    @compile_workload begin
        f = HybridNDS.Lowered(example_map!, (), ())
        map = StepMap(Float64, f, 2, 2, 1)
        map.start .= 1.0
        grow_map!(map, 1, 0.0, 0.1, 2, 0, 2, 1, 2, 0)
        resize_increments!(map, 4)
        out = StepMap(Float64, f, 3, 2, 1)
        first_exits!(zeros(2), zeros(Int, 2), out, ones(3, 2), 1, 0.0, 0.1, 10, 0, 1, 2,
            true)
    end
end
