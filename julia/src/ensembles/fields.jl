"""
    Vectorized(f)
    PerTrajectory(f)

A lowered function of the states of several trajectories: evaluated once, on
[`SIMDBatch`](@ref), or once for each trajectory, where it uses what lanes cannot.
"""
struct Vectorized{F}
    f::F
end
struct PerTrajectory{F}
    f::F
end
@inline (field::Vectorized)(u, p, t) = field.f(u, p, t)
@inline function (field::PerTrajectory)(u::SVector{N, SIMDBatch{T}}, p, t) where {N, T}
    outputs = ntuple(
        k -> field.f(SVector{N, T}(ntuple(i -> u[i].vector[k], Val(N))), p, t), Val(LANES))
    count = Val(length(outputs[1]))
    return SVector(ntuple(
        i -> SIMDBatch(Vec{LANES, T}(ntuple(k -> T(outputs[k][i]), Val(LANES)))), count))
end

"""
    vectorized(f, u, p, t)

`f` as [`Vectorized`](@ref) where that works and gives what `f` gives trajectory by
trajectory, else as [`PerTrajectory`](@ref).
"""
function vectorized(f, u::SVector{N, T}, p, t) where {N, T}
    per_trajectory = PerTrajectory(f)
    state = SVector{N, SIMDBatch{T}}(u)
    try
        value = f(state, p, t)
        value isa SVector{M, SIMDBatch{T}} where {M} || return per_trajectory
        return same_numbers(value, f(u, p, t)) ? Vectorized(f) : per_trajectory
    catch error
        # Branching on a mask, or a function that lanes lack.
        error isa InterruptException && rethrow()
        return per_trajectory
    end
end

function same_numbers(value::SVector{M, SIMDBatch{T}}, expected::SVector{M, T}) where {M, T}
    for i in 1:M
        x, y = value[i].vector[1], expected[i]
        abs(x - y) <= sqrt(eps(T)) * (1 + abs(y)) || !isfinite(y) || return false
    end
    return true
end
same_numbers(value, expected) = false

# How Brownian motions act: one for all components, one for each, or a matrix (its
# entries row by row, as JAX flattens it).
abstract type Noise end
struct ScalarNoise <: Noise end
struct DiagonalNoise <: Noise end
struct MatrixNoise{M} <: Noise end

motions(::ScalarNoise, n) = 1
motions(::DiagonalNoise, n) = n
motions(::MatrixNoise{M}, n) where {M} = M

"""
    act(noise, g, w)

The diffusion times the increments of the Brownian motions.
"""
@inline act(::ScalarNoise, g, w) = g .* w[1]
@inline act(::DiagonalNoise, g, w) = g .* w
@inline function act(::MatrixNoise{M}, g::SVector{NM}, w) where {NM, M}
    return SVector(ntuple(Val(NM ÷ M)) do i
        total = g[(i - 1) * M + 1] * w[1]
        for j in 2:M
            total += g[(i - 1) * M + j] * w[j]
        end
        total
    end)
end
