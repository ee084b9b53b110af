# What every kernel shares is compiled with the package; the steps of a new equation are
# compiled on first use.
@setup_workload begin
    example(u, p, t, c) = SVector{1, promote_type(eltype(u), eltype(p), typeof(t))}(
        p[1] * u[1] + tanh(u[1]) + LoweredCode.sine(t))
    function ready(trajectories)
        run = ensemble_run(Float64, 1, 1, 4, 0.0, 1.0, 1, 2)
        run.indices = collect(1:trajectories)
        run.parameters = run.diffusion_parameters = [0.5]
        run.save_steps = [2, 4]
        run.failed_step = zeros(Int, trajectories)
        run.counts, run.means = zeros(Int, 1), zeros(1, 2, 1)
        run.powers, run.products = zeros(1, 2, 3, 1), zeros(1, 1, 2, 1)
        return run
    end
    @compile_workload begin
        f = HybridNDS.LoweredScalar(example, ())
        for scheme in keys(SCHEMES)
            run = ready(20)
            scheme == "EulerMaruyama" && (run.saved = zeros(1, 2, 20))
            run_ensemble!(run, scheme, "diagonal", f, f, 1)
        end
    end
end
