# The common ways of solving, on the types that every model shares: a new process then
# starts its first solve without compiling the solver.
@setup_workload begin
    # Source cannot be evaluated while precompiling: these stand for lowered functions.
    function example_field!(out, u, p, t, w, c)
        @inbounds begin
            out[1] = -p[1] * u[1] + u[2]
            out[2] = -p[2] * u[2]
        end
        return nothing
    end
    function example_jacobian!(out, u, p, t, w, c)
        @inbounds begin
            out[1] = -p[1]
            out[2] = 0.0
            out[3] = 1.0
            out[4] = -p[2]
        end
        return nothing
    end
    function example_gradient!(out, u, p, t, w, c)
        fill!(out, 0.0)
        return nothing
    end
    function example_condition!(out, u, p, t, w, c)
        @inbounds out[1] = u[1] + 1.0
        return nothing
    end
    common = ("DefaultODEAlgorithm", "Tsit5", "Vern7", "Rodas5P", "FBDF", "Kvaerno5",
        "RadauIIA5")
    function ready(T, parts...; events = ())
        prepared = Prepared(T, model(T, parts...), 2, 2)
        prepared.start .= (1.0, 2.0)
        prepared.parameters .= (1.0, 1000.0)
        resize_times!(prepared, 2) .= (0.5, 1.0)
        for (event, both) in events
            add_event!(prepared, event, both)
        end
        return prepared
    end
    run(prepared, name, keep) = solve!(
        prepared, algorithm(name), 0.0, 1.0, 1e-4, 1e-6, 0.0, keep, 10_000)
    @compile_workload begin
        drift, jacobian, gradient, condition = map(
            kernel -> Lowered(kernel, (), ()),
            (example_field!, example_jacobian!, example_gradient!, example_condition!))
        parts = (drift, jacobian, gradient)
        plain = ready(Float64, parts...)
        for name in common, keep in (KEEP_TIMES, KEEP_DENSE)

            run(plain, name, keep)
            keep == KEEP_DENSE && interpolate(plain.solution, [0.5])
        end
        # A tolerance for each component is another type to compile for.
        for name in ("DefaultODEAlgorithm", "Rodas5P", "FBDF")
            solve!(plain, algorithm(name), 0.0, 1.0, 1e-4, [1e-6, 1e-6], 0.0, KEEP_END,
                10_000)
        end
        for name in ("Euler", "Heun", "Midpoint", "Ralston", "BS3", "DP5", "Tsit5",
            "Kvaerno5", "ImplicitEuler")
            solve!(plain, algorithm(name), 0.0, 1e-3, 0.0, 0.0, 1e-4, KEEP_END, 10_000)
        end
        for event in ((Crossing{Float64}(condition, 0, 1), false),
            (Crossing{Float64}(condition, 0, 1), true),
            (SteadyStateCondition{Float64}(2), false))
            stopped = ready(Float64, parts...; events = (event,))
            for name in ("DefaultODEAlgorithm", "Tsit5", "Rodas5P")
                run(stopped, name, KEEP_END)
            end
        end
        algebraic = ready(Float64, parts..., [1.0 0.0; 0.0 0.0])
        algebraic.start[2] = 0.0
        for name in ("DefaultODEAlgorithm", "Rodas5P", "FBDF")
            run(algebraic, name, KEEP_END)
        end
        single = ready(Float32, parts...)
        for name in ("DefaultODEAlgorithm", "Tsit5")
            run(single, name, KEEP_TIMES)
        end
    end
    precompile(lower_source, (String, String, Vector{Any}, Bool))
    # What a host calls by address, and before it does.
    entry = (Ptr{UInt8}, Ptr{HostArgument}, Int64, Ptr{Int64}, Ptr{UInt8}, Int64)
    precompile(call_entry, entry)
    precompile(solve_entry, (Int64, Ptr{Ptr{Cvoid}}, Int64, Ptr{Ptr{Cvoid}}, Int64))
    precompile(ffi_entry, (Ptr{Cvoid},))
    precompile(opened, (Int64,))
end
