# What one would write in Julia for these two equations and no other: a plain loop over
# trajectories and steps.
module HandEnsembles

using Random: Xoshiro, randn
using StaticArrays: SMatrix, SVector

function geometric(trajectories, steps, h, μ, σ, seed)
    rng, root = Xoshiro(seed), sqrt(h)
    total = 0.0
    for _ in 1:trajectories
        u = 1.0
        for _ in 1:steps
            u += h * μ * u + σ * u * root * randn(rng)
        end
        total += u
    end
    return total / trajectories
end

struct Layer{R, C, L}
    weight::SMatrix{R, C, Float64, L}
    bias::SVector{R, Float64}
end
layer(weight, bias) = Layer(
    SMatrix{size(weight)..., Float64}(weight), SVector{length(bias), Float64}(bias))
@inline (l::Layer)(x) = l.weight * x + l.bias

struct Network{A, B, C}
    first::A
    second::B
    third::C
end
@inline (n::Network)(x) = n.third(tanh.(n.second(tanh.(n.first(x)))))

network(arrays) = Network((layer(Matrix{Float64}(arrays[k]), Vector{Float64}(arrays[k + 1]))
for k in (1, 3, 5))...)

function neural(trajectories, steps, h, drift::D, diffusion::G, seed) where {D, G}
    rng, root = Xoshiro(seed), sqrt(h)
    total = SVector(0.0, 0.0)
    for _ in 1:trajectories
        u = SVector(1.0, 0.5)
        for _ in 1:steps
            w = root * SVector(randn(rng), randn(rng))
            scale = map(x -> 0.3 / (1 + exp(-diffusion(SVector(x))[1])), u)
            u += h * drift(u) + scale .* w
        end
        total += u
    end
    return total / trajectories
end

end
