# The common ways of solving, on the types that every model shares.
@setup_workload begin
    function example_drift!(out, u, p, t, w, c)
        @inbounds begin
            out[1] = -p[1] * u[1]
            out[2] = -p[2] * u[2]
        end
        return nothing
    end
    function example_jacobian!(out, u, p, t, w, c)
        @inbounds begin
            out[1] = -p[1]
            out[2] = 0.0
            out[3] = 0.0
            out[4] = -p[2]
        end
        return nothing
    end
    function example_vector!(out, u, p, t, w, c)
        @inbounds begin
            out[1] = 0.1
            out[2] = 0.1
        end
        return nothing
    end
    function example_matrix!(out, u, p, t, w, c)
        fill!(out, 0.1)
        return nothing
    end
    function ready(parts, diffusion, columns)
        matrix = columns > 0
        model = HybridNDS.stochastic_model(Float64, parts..., diffusion, matrix)
        prepared = HybridNDS.Prepared(Float64, model, 2, 2, 2, columns)
        prepared.start .= (1.0, 2.0)
        prepared.parameters .= (1.0, 1000.0)
        HybridNDS.resize_path!(prepared, 8, true).grid .= range(0.0, 1e-3, 9)
        return prepared
    end
    vector_methods = ("EM", "EulerHeun", "ISSEM", "ImplicitEM", "RKMil", "SOSRA", "SOSRI",
        "SRA1", "SRIW1")
    matrix_methods = ("EM", "EulerHeun", "ImplicitEM", "RKMilCommute", "SRA1")
    @compile_workload begin
        parts = map(kernel -> HybridNDS.Lowered(kernel, (), ()),
            (example_drift!, example_jacobian!))
        for (kernel, columns, names) in (
            (example_vector!, 0, vector_methods), (example_matrix!, 2, matrix_methods))
            prepared = ready(parts, HybridNDS.Lowered(kernel, (), ()), columns)
            for name in names
                method = HybridNDS.stochastic_method(name, false, 1e-6)
                HybridNDS.solve!(prepared, method, 0.0, 1e-3, 0.0, 0.0, 0.0,
                    HybridNDS.KEEP_STEPS, 1000)
                name in ("SOSRI", "SRA1", "RKMil") || continue
                HybridNDS.solve!(prepared, method, 0.0, 1e-3, 1e-1, 1e-1, 0.0,
                    HybridNDS.KEEP_END, 1000)
            end
        end
    end
end
