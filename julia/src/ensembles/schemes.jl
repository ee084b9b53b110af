"""
    Scheme

A method in fixed steps. `take_step(scheme, f, g, noise, u, t, h, w, a)` is the state
after one, with `f` and `g` drift and diffusion of state and time, `w` the increments of
the Brownian motions and `a` their space-time Lévy areas H, `nothing` where the scheme
asks for none.
"""
abstract type Scheme end

"""
Euler and Maruyama's method; converges to the Itô solution. StochasticDiffEq's
`EM(false)`, Diffrax's `Euler`.
"""
struct EulerMaruyama <: Scheme end

"""
Heun's method; converges to the Stratonovich solution. StochasticDiffEq's `EulerHeun`,
Diffrax's `Heun`.
"""
struct StochasticHeun <: Scheme end

"""
Euler's method for the drift, Heun's with a predictor of the noise alone for the
diffusion; converges to the Stratonovich solution. Diffrax's `EulerHeun`.
"""
struct NoiseHeun <: Scheme end

"""
Rößler's SRA1 for additive noise (2010, SIAM J. Numer. Anal. 48), of strong order 1.5,
with the diffusion at the end of the step in the second stage. StochasticDiffEq's
`SRA1`; Diffrax's takes the beginning there, which is the same for a diffusion that does
not depend on time.
"""
struct AdditiveRoessler <: Scheme end

needs_area(::Scheme) = false
needs_area(::AdditiveRoessler) = true

@inline function take_step(::EulerMaruyama, f::F, g::G, noise, u, t, h, w, a) where {F, G}
    return u .+ h .* f(u, t) .+ act(noise, g(u, t), w)
end

@inline function take_step(::StochasticHeun, f::F, g::G, noise, u, t, h, w, a) where {F, G}
    drift, diffusion = f(u, t), g(u, t)
    predicted = u .+ h .* drift .+ act(noise, diffusion, w)
    later_drift, later_diffusion = f(predicted, t + h), g(predicted, t + h)
    return u .+ (h / 2) .* (drift .+ later_drift) .+
           act(noise, (diffusion .+ later_diffusion) ./ 2, w)
end

@inline function take_step(::NoiseHeun, f::F, g::G, noise, u, t, h, w, a) where {F, G}
    push = act(noise, g(u, t), w)
    later = act(noise, g(u .+ push, t), w)
    return u .+ h .* f(u, t) .+ (push .+ later) ./ 2
end

@inline function take_step(::AdditiveRoessler, f::F, g::G, noise, u, t, h, w, a) where {F, G}
    before, after = g(u, t), g(u, t + h)
    # I₍₁,₀₎/h, the mean of the path over the step.
    mean = w ./ 2 .+ a
    first = h .* f(u, t)
    inner = u .+ (3 .* first) ./ 4 .+ (3 .* act(noise, after, mean)) ./ 2
    second = h .* f(inner, t + 3h / 4)
    third = oftype(h, 1 / 3)
    return u .+ third .* first .+ 2third .* second .+ act(noise, before .- after, mean) .+
           act(noise, after, w)
end

const SCHEMES = Dict{String, Scheme}(
    "EulerMaruyama" => EulerMaruyama(), "StochasticHeun" => StochasticHeun(),
    "NoiseHeun" => NoiseHeun(), "AdditiveRoessler" => AdditiveRoessler())
