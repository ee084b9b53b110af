# The fixtures' right-hand sides, written by hand from the sources they name and not
# from the JAX fields, so that a wrong lowering cannot hide behind its own mistake.
#
# FIELDS[key](parameters) returns f!(du, u, p, t), which takes any real element type. Parameters are closed over: `p` belongs to lowered code.

module Fields

using LinearAlgebra: mul!

function robertson(q)
    k1, k2, k3 = Float64(q["k1"]), Float64(q["k2"]), Float64(q["k3"])
    function f!(du, u, p, t)
        y1, y2, y3 = u[1], u[2], u[3]
        du[1] = -k1 * y1 + k3 * y2 * y3
        du[2] = k1 * y1 - k2 * y2^2 - k3 * y2 * y3
        du[3] = k2 * y2^2
        return nothing
    end
    return f!
end

function hires(q)
    k1, k2, k3, k4, k5, k6 = (Float64(q["k$i"]) for i in 1:6)
    kplus, kminus, kstar = (Float64(q["k_$name"]) for name in ("plus", "minus", "star"))
    source = Float64(q["source"])
    function f!(du, u, p, t)
        y1, y2, y3, y4, y5, y6, y7, y8 = ntuple(i -> u[i], Val(8))
        reaction = kplus * y6 * y8
        du[1] = -k1 * y1 + k2 * y2 + k6 * y3 + source
        du[2] = k1 * y1 - (k2 + k3) * y2
        du[3] = -(k6 + k1) * y3 + k2 * y4 + k5 * y5
        du[4] = k3 * y2 + k1 * y3 - (k4 + k2) * y4
        du[5] = -(k5 + k1) * y5 + k2 * (y6 + y7)
        du[6] = -reaction + k4 * y4 + k1 * y5 - k2 * y6 + kminus * y7
        du[7] = reaction - (k2 + kminus + kstar) * y7
        du[8] = -reaction + (k2 + kminus + kstar) * y7
        return nothing
    end
    return f!
end

function oregonator(q)
    s, qq, w = Float64(q["s"]), Float64(q["q"]), Float64(q["w"])
    function f!(du, u, p, t)
        du[1] = s * (u[2] + u[1] * (1 - qq * u[1] - u[2]))
        du[2] = (u[3] - (1 + u[1]) * u[2]) / s
        du[3] = w * (u[1] - u[3])
        return nothing
    end
    return f!
end

function van_der_pol(q)
    mu = Float64(q["mu"])
    function f!(du, u, p, t)
        du[1] = u[2]
        du[2] = mu * (1 - u[1]^2) * u[2] - u[1]
        return nothing
    end
    return f!
end

function van_der_pol_scaled(q)
    inverse_epsilon = Float64(q["inverse_epsilon"])
    function f!(du, u, p, t)
        du[1] = u[2]
        du[2] = inverse_epsilon * ((1 - u[1]^2) * u[2] - u[1])
        return nothing
    end
    return f!
end

function pollution(q)
    k = ntuple(i -> Float64(q["k$i"]), Val(25))
    function f!(du, u, p, t)
        r1 = k[1] * u[1]
        r2 = k[2] * u[2] * u[4]
        r3 = k[3] * u[5] * u[2]
        r4 = k[4] * u[7]
        r5 = k[5] * u[7]
        r6 = k[6] * u[7] * u[6]
        r7 = k[7] * u[9]
        r8 = k[8] * u[9] * u[6]
        r9 = k[9] * u[11] * u[2]
        r10 = k[10] * u[11] * u[1]
        r11 = k[11] * u[13]
        r12 = k[12] * u[10] * u[2]
        r13 = k[13] * u[14]
        r14 = k[14] * u[1] * u[6]
        r15 = k[15] * u[3]
        r16 = k[16] * u[4]
        r17 = k[17] * u[4]
        r18 = k[18] * u[16]
        r19 = k[19] * u[16]
        r20 = k[20] * u[17] * u[6]
        r21 = k[21] * u[19]
        r22 = k[22] * u[19]
        r23 = k[23] * u[1] * u[4]
        r24 = k[24] * u[19] * u[1]
        r25 = k[25] * u[20]
        du[1] = -r1 - r10 - r14 - r23 - r24 + r2 + r3 + r9 + r11 + r12 + r22 + r25
        du[2] = -r2 - r3 - r9 - r12 + r1 + r21
        du[3] = -r15 + r1 + r17 + r19 + r22
        du[4] = -r2 - r16 - r17 - r23 + r15
        du[5] = -r3 + 2 * r4 + r6 + r7 + r13 + r20
        du[6] = -r6 - r8 - r14 - r20 + r3 + 2 * r18
        du[7] = -r4 - r5 - r6 + r13
        du[8] = r4 + r5 + r6 + r7
        du[9] = -r7 - r8
        du[10] = -r12 + r7 + r9
        du[11] = -r9 - r10 + r8 + r11
        du[12] = r9
        du[13] = -r11 + r10
        du[14] = -r13 + r12
        du[15] = r14
        du[16] = -r18 - r19 + r16
        du[17] = -r20
        du[18] = r20
        du[19] = -r21 - r22 - r24 + r23 + r25
        du[20] = -r25 + r24
        return nothing
    end
    return f!
end

function prothero_robinson(q)
    rate = Float64(q["rate"])
    function f!(du, u, p, t)
        du[1] = rate * (u[1] - cos(t)) - sin(t)
        return nothing
    end
    return f!
end

function lorenz(q)
    sigma, rho, beta = Float64(q["sigma"]), Float64(q["rho"]), Float64(q["beta"])
    function f!(du, u, p, t)
        du[1] = sigma * (u[2] - u[1])
        du[2] = u[1] * (rho - u[3]) - u[2]
        du[3] = u[1] * u[2] - beta * u[3]
        return nothing
    end
    return f!
end

# u at the N inner points, then v; the ends are held at u = A and v = B/A.
function brusselator(q)
    a, b, diffusivity = Float64(q["a"]), Float64(q["b"]), Float64(q["diffusivity"])
    function f!(du, u, p, t)
        n = length(u) ÷ 2
        gamma = diffusivity * (n + 1)^2
        for i in 1:n
            left_u = i == 1 ? oftype(u[1], a) : u[i-1]
            right_u = i == n ? oftype(u[1], a) : u[i+1]
            left_v = i == 1 ? oftype(u[1], b / a) : u[n+i-1]
            right_v = i == n ? oftype(u[1], b / a) : u[n+i+1]
            x, y = u[i], u[n+i]
            du[i] = a + x^2 * y - (b + 1) * x + gamma * (left_u - 2x + right_u)
            du[n+i] = b * x - x^2 * y + gamma * (left_v - 2y + right_v)
        end
        return nothing
    end
    return f!
end

function pleiades(q)
    masses = Float64.(q["masses"])
    n = length(masses)
    function f!(du, u, p, t)
        for i in 1:2n
            du[i] = u[2n+i]
        end
        for i in 1:n
            pull_x = pull_y = zero(eltype(u))
            for j in 1:n
                j == i && continue
                dx, dy = u[j] - u[i], u[n+j] - u[n+i]
                strength = masses[j] / sqrt(dx^2 + dy^2)^3
                pull_x += strength * dx
                pull_y += strength * dy
            end
            du[2n+i] = pull_x
            du[3n+i] = pull_y
        end
        return nothing
    end
    return f!
end

# (x, y, vx, vy, λ); the last row is algebraic.
function pendulum(q)
    gravity = Float64(q["gravity"])
    function f!(du, u, p, t)
        x, y, vx, vy, multiplier = u[1], u[2], u[3], u[4], u[5]
        du[1] = vx
        du[2] = vy
        du[3] = -multiplier * x
        du[4] = -multiplier * y - gravity
        du[5] = vx^2 + vy^2 - gravity * y - multiplier * (x^2 + y^2)
        return nothing
    end
    return f!
end

# tanh follows every layer but the last.
function neural(q)
    rows_to_matrix(rows) = Matrix{Float64}(mapreduce(permutedims, vcat, rows))
    weights = [rows_to_matrix(layer["weight"]) for layer in q["layers"]]
    biases = [Vector{Float64}(layer["bias"]) for layer in q["layers"]]
    function f!(du, u, p, t)
        x = u
        for l in 1:length(weights)-1
            x = tanh.(weights[l] * x .+ biases[l])
        end
        mul!(du, weights[end], x)
        du .+= biases[end]
        return nothing
    end
    return f!
end

# Token i of n in three dimensions lies at u[3i-2:3i].
function attention(q)
    beta = Float64(q["beta"])
    function f!(du, u, p, t)
        n = length(u) ÷ 3
        inner(i, j) = sum(u[3i-3+c] * u[3j-3+c] for c in 1:3)
        for i in 1:n
            total = zero(eltype(u))
            ax = ay = az = zero(eltype(u))
            for j in 1:n
                # Scaled by e^{-β}, which the quotient cancels.
                w = exp(beta * (inner(i, j) - 1))
                total += w
                ax += w * u[3j-2]
                ay += w * u[3j-1]
                az += w * u[3j]
            end
            ax, ay, az = ax / total, ay / total, az / total
            along = ax * u[3i-2] + ay * u[3i-1] + az * u[3i]
            du[3i-2] = ax - along * u[3i-2]
            du[3i-1] = ay - along * u[3i-1]
            du[3i] = az - along * u[3i]
        end
        return nothing
    end
    return f!
end

const FIELDS = Dict{String,Function}(
    "attention" => attention,
    "brusselator" => brusselator,
    "hires" => hires,
    "lorenz" => lorenz,
    "neural" => neural,
    "oregonator" => oregonator,
    "pendulum" => pendulum,
    "pleiades" => pleiades,
    "pollution" => pollution,
    "prothero_robinson" => prothero_robinson,
    "robertson" => robertson,
    "van_der_pol" => van_der_pol,
    "van_der_pol_scaled" => van_der_pol_scaled,
)

end # module
