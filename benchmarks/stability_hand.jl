# Lyapunov exponents of the recurrent network ẋ = −x + W tanh x as one would write them
# for speed in Julia: in place, without allocation, tangent vectors as one matrix.
module StabilityByHand

using LinearAlgebra: LAPACK, mul!, norm
using Random: Xoshiro, randn!

# The field, and its derivative along the columns of V, by one matrix product each.
function flow!(dx, dV, x, V, W, rate, scaled)
    @. rate = tanh(x)
    mul!(dx, W, rate)
    @. dx -= x
    @. rate = 1 - rate^2
    @. scaled = rate * V
    mul!(dV, W, scaled)
    @. dV -= V
    return nothing
end

# Classical Runge–Kutta steps of length `h`, and a QR decomposition every `steps`.
function ordinary(weights, start, count, h, steps, intervals)
    W, x = Matrix{Float64}(weights), Vector{Float64}(start)
    n = length(x)
    V = [i == j ? 1.0 : 0.0 for i in 1:n, j in 1:count]
    stages = [(similar(x), similar(V)) for _ in 1:4]
    x_at, V_at, rate, scaled = similar(x), similar(V), similar(x), similar(V)
    factors, logs = zeros(count), zeros(count, intervals)
    (d1, D1), (d2, D2), (d3, D3), (d4, D4) = stages
    for interval in 1:intervals
        for _ in 1:steps
            flow!(d1, D1, x, V, W, rate, scaled)
            @. x_at = x + h / 2 * d1
            @. V_at = V + h / 2 * D1
            flow!(d2, D2, x_at, V_at, W, rate, scaled)
            @. x_at = x + h / 2 * d2
            @. V_at = V + h / 2 * D2
            flow!(d3, D3, x_at, V_at, W, rate, scaled)
            @. x_at = x + h * d3
            @. V_at = V + h * D3
            flow!(d4, D4, x_at, V_at, W, rate, scaled)
            @. x += h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
            @. V += h / 6 * (D1 + 2 * D2 + 2 * D3 + D4)
        end
        LAPACK.geqrf!(V, factors)
        for i in 1:count
            logs[i, interval] = log(abs(V[i, i]))
        end
        LAPACK.orgqr!(V, factors)
    end
    return logs
end

# Euler and Maruyama's steps of dx = (−x + W tanh x) dt + σ dw with one tangent vector.
function stochastic(weights, start, sigma, h, steps, intervals, seed)
    W, x = Matrix{Float64}(weights), Vector{Float64}(start)
    n, random = length(x), Xoshiro(seed)
    v = [i == 1 ? 1.0 : 0.0 for i in 1:n]
    dx, dv, noise = similar(x), similar(x), zeros(n, steps)
    scale, logs = sigma * sqrt(h), zeros(intervals)
    for interval in 1:intervals
        randn!(random, noise)
        for s in 1:steps
            @inbounds begin
                @simd for i in 1:n
                    dx[i], dv[i] = -x[i], -v[i]
                end
                for j in 1:n
                    rate = tanh(x[j])
                    along = (1 - rate^2) * v[j]
                    @simd for i in 1:n
                        dx[i] += W[i, j] * rate
                        dv[i] += W[i, j] * along
                    end
                end
                @simd for i in 1:n
                    x[i] += h * dx[i] + scale * noise[i, s]
                    v[i] += h * dv[i]
                end
            end
        end
        grown = norm(v)
        logs[interval] = log(grown)
        v ./= grown
    end
    return logs
end

end
