# Small lowered models, as the host would send them.

module Models

using HybridNDS: Prepared, constants, lower_source, model

function lowered(name, body)
    source = "function $name(out, u, p, t, w, c)\n$body\nreturn nothing\nend"
    return lower_source(source, "", constants(), false)
end

"""
u₁' = −p₁ u₁ + t, u₂' = p₂ u₁ u₂, with exact derivatives.
"""
parts() = (lowered("field!", "out[1] = -p[1] * u[1] + t; out[2] = p[2] * u[1] * u[2]"),
    lowered("jacobian!",
        "out[1, 1] = -p[1]; out[2, 1] = p[2] * u[2]; out[1, 2] = 0; " *
        "out[2, 2] = p[2] * u[1]"),
    lowered("time_gradient!", "out[1] = 1; out[2] = 0"))

"""
    exact(t)

Its solution from (1, 1) with p = (1, 0.5): u₁ = t − 1 + 2 exp(−t), and u₂ the
exponential of half the integral of u₁.
"""
exact(t) = [t - 1 + 2exp(-t), exp((t^2 / 2 - t + 2 - 2exp(-t)) / 2)]

function prepared(T = Float64; specialize = false, mass = nothing)
    problem = Prepared(T, model(T, parts()..., mass; specialize), 2, 2)
    problem.start .= 1
    problem.parameters .= (1, 0.5)
    return problem
end

end
