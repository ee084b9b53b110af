# The interface of a noise process, by which an integrator asks for its increments.

DiffEqNoiseProcess.setup_next_step!(noise::PathNoise, u, p) =
    HybridNDS.take_step!(noise, noise.dt)
DiffEqNoiseProcess.calculate_step!(noise::PathNoise, dt, u, p) =
    HybridNDS.take_step!(noise, dt)
DiffEqNoiseProcess.reject_step!(noise::PathNoise, dt, u, p) =
    HybridNDS.take_step!(noise, dt)
DiffEqNoiseProcess.accept_step!(noise::PathNoise, dt, u, p, setup_next = true) =
    HybridNDS.advance!(noise, dt, setup_next)
DiffEqNoiseProcess.save_noise!(::PathNoise) = nothing
# An integrator copies the noise of its problem, so that it can be used again: this one
# is made for one solve.
Base.copy(noise::PathNoise) = noise
