# The stochastic fixtures' drifts and diffusions, written by hand from the sources they
# name and not from the JAX fields, so that a wrong lowering cannot hide behind its own
# mistake.
#
# FIELDS[key](parameters) returns drift!(du, u, p, t) and diffusion!(dg, u, p, t), which
# take any real element type; dg is a vector for scalar and diagonal noise, else a matrix.

module StochasticFields

using LinearAlgebra: dot, mul!

number(q, name) = Float64(q[name])
vector(q, name) = Float64.(q[name])
matrix(rows) = Float64.(permutedims(reduce(hcat, rows)))

function geometric(q)
    a, b = number(q, "a"), number(q, "b")
    return (du, u, p, t) -> (du .= a .* u; nothing), (dg, u, p, t) -> (dg .= b .* u; nothing)
end

function arctan(q)
    a = number(q, "a")
    drift!(du, u, p, t) = (du[1] = -a^2 * sin(u[1]) * cos(u[1])^3; nothing)
    diffusion!(dg, u, p, t) = (dg[1] = a * cos(u[1])^2; nothing)
    return drift!, diffusion!
end

function fading(q)
    alpha, beta = number(q, "alpha"), vector(q, "beta")
    function drift!(du, u, p, t)
        for i in eachindex(u)
            du[i] = beta[i] / sqrt(1 + t) - u[i] / (2 * (1 + t))
        end
    end
    function diffusion!(dg, u, p, t)
        for i in eachindex(u)
            dg[i] = alpha * beta[i] / sqrt(1 + t)
        end
    end
    return drift!, diffusion!
end

function linear(q)
    A, B = matrix(q["A"]), matrix.(q["B"])
    drift!(du, u, p, t) = (mul!(du, A, u); nothing)
    function diffusion!(dg, u, p, t)
        for j in eachindex(B)
            dg[:, j] = B[j] * u
        end
    end
    return drift!, diffusion!
end

function ornstein_uhlenbeck(q)
    theta, mean, sigma = matrix(q["theta"]), vector(q, "mean"), matrix(q["sigma"])
    drift!(du, u, p, t) = (mul!(du, theta, mean .- u); nothing)
    diffusion!(dg, u, p, t) = (dg .= sigma; nothing)
    return drift!, diffusion!
end

function kubo(q)
    a, sigma = number(q, "a"), number(q, "sigma")
    drift!(du, u, p, t) = (du[1] = -a * u[2]; du[2] = a * u[1]; nothing)
    diffusion!(dg, u, p, t) = (dg[1] = -sigma * u[2]; dg[2] = sigma * u[1]; nothing)
    return drift!, diffusion!
end

function double_well(q)
    sigma = number(q, "sigma")
    drift!(du, u, p, t) = (du[1] = u[1] - u[1]^3; nothing)
    diffusion!(dg, u, p, t) = (dg[1] = sigma; nothing)
    return drift!, diffusion!
end

function periodic(q)
    sigma = number(q, "sigma")
    drift!(du, u, p, t) = (du[1] = sin(u[1]); nothing)
    diffusion!(dg, u, p, t) = (dg[1] = sigma; nothing)
    return drift!, diffusion!
end

function underdamped(q)
    gamma, omega, sigma = number(q, "gamma"), number(q, "omega"), number(q, "sigma")
    drift!(du, u, p, t) = (du[1] = u[2]; du[2] = -gamma * u[2] - omega^2 * u[1]; nothing)
    diffusion!(dg, u, p, t) = (dg[1, 1] = 0; dg[2, 1] = sigma; nothing)
    return drift!, diffusion!
end

function lotka_volterra(q)
    alpha, beta, mu = number(q, "alpha"), number(q, "beta"), number(q, "mu")
    gamma, delta, nu = number(q, "gamma"), number(q, "delta"), number(q, "nu")
    sigma, rho = number(q, "sigma"), number(q, "rho")
    function drift!(du, u, p, t)
        prey, predator = u[1], u[2]
        du[1] = prey * (alpha - beta * predator - mu * prey)
        du[2] = predator * (-gamma + delta * prey - nu * predator)
        return nothing
    end
    diffusion!(dg, u, p, t) = (dg[1] = sigma * u[1]; dg[2] = rho * u[2]; nothing)
    return drift!, diffusion!
end

function neural(q)
    weights = [matrix(layer["weight"]) for layer in q["layers"]]
    biases = [vector(layer, "bias") for layer in q["layers"]]
    inner, shift = matrix(q["inner_weight"]), matrix(q["inner_bias"])
    outer, level = matrix(q["outer_weight"]), vector(q, "outer_bias")
    function drift!(du, u, p, t)
        x = u
        for layer in 1:length(weights)-1
            x = tanh.(weights[layer] * x .+ biases[layer])
        end
        du .= weights[end] * x .+ biases[end]
        return nothing
    end
    function diffusion!(dg, u, p, t)
        for i in eachindex(u)
            hidden = tanh.(inner[i, :] .* u[i] .+ shift[i, :])
            dg[i] = log1p(exp(dot(outer[i, :], hidden) + level[i]))
        end
    end
    return drift!, diffusion!
end

const FIELDS = Dict{String,Function}(
    "arctan" => arctan,
    "double_well" => double_well,
    "fading" => fading,
    "geometric" => geometric,
    "kubo" => kubo,
    "linear" => linear,
    "lotka_volterra" => lotka_volterra,
    "neural" => neural,
    "ornstein_uhlenbeck" => ornstein_uhlenbeck,
    "periodic" => periodic,
    "underdamped" => underdamped,
)

end # module
