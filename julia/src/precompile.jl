# The common ways of solving, on the types that every model shares: a new process then
# starts its first solve without compiling the solver.
@setup_workload begin
    source = """
    function field!(out, u, p, t, w, c)
        @inbounds begin
            out[1] = -p[1] * u[1] + u[2]
            out[2] = -p[2] * u[2]
        end
        return nothing
    end
    """
    jacobian_source = """
    function jacobian!(out, u, p, t, w, c)
        @inbounds begin
            out[1] = -p[1]
            out[2] = 0.0
            out[3] = 1.0
            out[4] = -p[2]
        end
        return nothing
    end
    """
    gradient_source = """
    function time_gradient!(out, u, p, t, w, c)
        @inbounds begin
            fill!(out, 0.0)
        end
        return nothing
    end
    """
    u0, p, times = [1.0, 2.0], [1.0, 1000.0], [0.5, 1.0]
    @compile_workload begin
        parts = map(s -> lowered(s, String[], [], []),
            (source, jacobian_source, gradient_source))
        prepared = Prepared{Float64}(model(Float64, parts..., nothing), Any[])
        for name in ("DefaultODEAlgorithm", "Tsit5", "Rodas5P", "FBDF", "Kvaerno5",
            "RadauIIA5")
            alg = algorithm(name)
            for mode in ("end", "times", "steps")
                solve_prepared(prepared, alg, u0, p, 0.0, 1.0, (1e-6, 1e-9), 0.0, times,
                    mode, 10_000)
            end
        end
        dense = solve_prepared(prepared, algorithm("Rodas5P"), u0, p, 0.0, 1.0,
            (1e-6, 1e-9), 0.0, times, "dense", 10_000)
        interpolate(dense.solution, times)
    end
end
