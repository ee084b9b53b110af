# The benchmark's problems as one would write them for speed in Julia: in place, without
# allocation or bounds checks, with the Jacobian by hand. The lowered fields are measured
# against these.
module HandWritten

using HybridNDS: FBDF, RadauIIA5, Rodas5P, SciMLBase, SILENT, Tsit5, Vern7
using LinearAlgebra: mul!

function robertson(k1, k2, k3)
    function field!(du, u, p, t)
        @inbounds begin
            slow, back, fast = k1 * u[1], k3 * u[2] * u[3], k2 * u[2]^2
            du[1] = -slow + back
            du[2] = slow - back - fast
            du[3] = fast
        end
        return nothing
    end
    function jacobian!(J, u, p, t)
        @inbounds begin
            J[1, 1], J[1, 2], J[1, 3] = -k1, k3 * u[3], k3 * u[2]
            J[2, 1], J[2, 2], J[2, 3] = k1, -k3 * u[3] - 2k2 * u[2], -k3 * u[2]
            J[3, 1], J[3, 2], J[3, 3] = 0.0, 2k2 * u[2], 0.0
        end
        return nothing
    end
    return field!, jacobian!
end

function van_der_pol(mu)
    function field!(du, u, p, t)
        @inbounds begin
            du[1] = u[2]
            du[2] = mu * (1 - u[1]^2) * u[2] - u[1]
        end
        return nothing
    end
    function jacobian!(J, u, p, t)
        @inbounds begin
            J[1, 1], J[1, 2] = 0.0, 1.0
            J[2, 1], J[2, 2] = -2mu * u[1] * u[2] - 1, mu * (1 - u[1]^2)
        end
        return nothing
    end
    return field!, jacobian!
end

function lotka_volterra(a, b, c, d)
    function field!(du, u, p, t)
        @inbounds begin
            du[1] = a * u[1] - b * u[1] * u[2]
            du[2] = -c * u[2] + d * u[1] * u[2]
        end
        return nothing
    end
    function jacobian!(J, u, p, t)
        @inbounds begin
            J[1, 1], J[1, 2] = a - b * u[2], -b * u[1]
            J[2, 1], J[2, 2] = d * u[2], -c + d * u[1]
        end
        return nothing
    end
    return field!, jacobian!
end

function pollution(constants)
    k = ntuple(i -> Float64(constants[i]), Val(25))
    function field!(du, u, p, t)
        @inbounds begin
            r1, r2, r3 = k[1] * u[1], k[2] * u[2] * u[4], k[3] * u[5] * u[2]
            r4, r5, r6 = k[4] * u[7], k[5] * u[7], k[6] * u[7] * u[6]
            r7, r8, r9 = k[7] * u[9], k[8] * u[9] * u[6], k[9] * u[11] * u[2]
            r10, r11, r12 = k[10] * u[11] * u[1], k[11] * u[13], k[12] * u[10] * u[2]
            r13, r14, r15 = k[13] * u[14], k[14] * u[1] * u[6], k[15] * u[3]
            r16, r17, r18 = k[16] * u[4], k[17] * u[4], k[18] * u[16]
            r19, r20, r21 = k[19] * u[16], k[20] * u[17] * u[6], k[21] * u[19]
            r22, r23, r24 = k[22] * u[19], k[23] * u[1] * u[4], k[24] * u[19] * u[1]
            r25 = k[25] * u[20]
            du[1] = -r1 - r10 - r14 - r23 - r24 + r2 + r3 + r9 + r11 + r12 + r22 + r25
            du[2] = -r2 - r3 - r9 - r12 + r1 + r21
            du[3] = -r15 + r1 + r17 + r19 + r22
            du[4] = -r2 - r16 - r17 - r23 + r15
            du[5] = -r3 + 2r4 + r6 + r7 + r13 + r20
            du[6] = -r6 - r8 - r14 - r20 + r3 + 2r18
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
        end
        return nothing
    end
    function jacobian!(J, u, p, t)
        fill!(J, 0.0)
        @inbounds begin
            J[1, 1] = -k[1] - k[10] * u[11] - k[14] * u[6] - k[23] * u[4] -
                      k[24] * u[19]
            J[1, 2] = k[2] * u[4] + k[3] * u[5] + k[9] * u[11] + k[12] * u[10]
            J[1, 4] = k[2] * u[2] - k[23] * u[1]
            J[1, 5], J[1, 6], J[1, 10] = k[3] * u[2], -k[14] * u[1], k[12] * u[2]
            J[1, 11], J[1, 13] = k[9] * u[2] - k[10] * u[1], k[11]
            J[1, 19], J[1, 20] = k[22] - k[24] * u[1], k[25]
            J[2, 1] = k[1]
            J[2, 2] = -k[2] * u[4] - k[3] * u[5] - k[9] * u[11] - k[12] * u[10]
            J[2, 4], J[2, 5], J[2, 10] = -k[2] * u[2], -k[3] * u[2], -k[12] * u[2]
            J[2, 11], J[2, 19] = -k[9] * u[2], k[21]
            J[3, 1], J[3, 3], J[3, 4], J[3, 16], J[3, 19] = k[1], -k[15], k[17], k[19],
            k[22]
            J[4, 1], J[4, 2], J[4, 3] = -k[23] * u[4], -k[2] * u[4], k[15]
            J[4, 4] = -k[2] * u[2] - k[16] - k[17] - k[23] * u[1]
            J[5, 2], J[5, 5] = -k[3] * u[5], -k[3] * u[2]
            J[5, 6], J[5, 7] = k[6] * u[7] + k[20] * u[17], 2k[4] + k[6] * u[6]
            J[5, 9], J[5, 14], J[5, 17] = k[7], k[13], k[20] * u[6]
            J[6, 1], J[6, 2], J[6, 5] = -k[14] * u[6], k[3] * u[5], k[3] * u[2]
            J[6, 6] = -k[6] * u[7] - k[8] * u[9] - k[14] * u[1] - k[20] * u[17]
            J[6, 7], J[6, 9], J[6, 16] = -k[6] * u[6], -k[8] * u[6], 2k[18]
            J[6, 17] = -k[20] * u[6]
            J[7, 6], J[7, 7], J[7, 14] = -k[6] * u[7], -k[4] - k[5] - k[6] * u[6], k[13]
            J[8, 6], J[8, 7], J[8, 9] = k[6] * u[7], k[4] + k[5] + k[6] * u[6], k[7]
            J[9, 6], J[9, 9] = -k[8] * u[9], -k[7] - k[8] * u[6]
            J[10, 2], J[10, 9] = k[9] * u[11] - k[12] * u[10], k[7]
            J[10, 10], J[10, 11] = -k[12] * u[2], k[9] * u[2]
            J[11, 1], J[11, 2] = -k[10] * u[11], -k[9] * u[11]
            J[11, 6], J[11, 9] = k[8] * u[9], k[8] * u[6]
            J[11, 11], J[11, 13] = -k[9] * u[2] - k[10] * u[1], k[11]
            J[12, 2], J[12, 11] = k[9] * u[11], k[9] * u[2]
            J[13, 1], J[13, 11], J[13, 13] = k[10] * u[11], k[10] * u[1], -k[11]
            J[14, 2], J[14, 10], J[14, 14] = k[12] * u[10], k[12] * u[2], -k[13]
            J[15, 1], J[15, 6] = k[14] * u[6], k[14] * u[1]
            J[16, 4], J[16, 16] = k[16], -k[18] - k[19]
            J[17, 6], J[17, 17] = -k[20] * u[17], -k[20] * u[6]
            J[18, 6], J[18, 17] = k[20] * u[17], k[20] * u[6]
            J[19, 1], J[19, 4] = k[23] * u[4] - k[24] * u[19], k[23] * u[1]
            J[19, 19], J[19, 20] = -k[21] - k[22] - k[24] * u[1], k[25]
            J[20, 1], J[20, 19], J[20, 20] = k[24] * u[19], k[24] * u[1], -k[25]
        end
        return nothing
    end
    return field!, jacobian!
end

# u at the n inner points, then v; the ends are held at u = a and v = b/a.
function brusselator(a, b, diffusivity, n)
    gamma = diffusivity * (n + 1)^2
    function field!(du, u, p, t)
        @inbounds for i in 1:n
            left_u = i == 1 ? a : u[i - 1]
            right_u = i == n ? a : u[i + 1]
            left_v = i == 1 ? b / a : u[n + i - 1]
            right_v = i == n ? b / a : u[n + i + 1]
            x, y = u[i], u[n + i]
            du[i] = a + x^2 * y - (b + 1) * x + gamma * (left_u - 2x + right_u)
            du[n + i] = b * x - x^2 * y + gamma * (left_v - 2y + right_v)
        end
        return nothing
    end
    function jacobian!(J, u, p, t)
        fill!(J, 0.0)
        @inbounds for i in 1:n
            x, y = u[i], u[n + i]
            J[i, i], J[i, n + i] = 2x * y - (b + 1) - 2gamma, x^2
            J[n + i, i], J[n + i, n + i] = b - 2x * y, -x^2 - 2gamma
            if i > 1
                J[i, i - 1] = J[n + i, n + i - 1] = gamma
            end
            if i < n
                J[i, i + 1] = J[n + i, n + i + 1] = gamma
            end
        end
        return nothing
    end
    return field!, jacobian!
end

# A network with tanh between its layers; the work arrays are made once.
function network(given_weights, given_biases)
    weights = Tuple(Matrix{Float64}(w) for w in given_weights)
    biases = Tuple(Vector{Float64}(b) for b in given_biases)
    hidden = map(w -> zeros(size(w, 1)), weights)
    products = map(w -> zeros(size(w, 1), size(weights[1], 2)), weights)
    last_layer = length(weights)
    function field!(du, u, p, t)
        x = u
        for l in 1:(last_layer - 1)
            x = layer!(hidden[l], weights[l], biases[l], x)
        end
        mul!(du, weights[last_layer], x)
        du .+= biases[last_layer]
        return nothing
    end
    function jacobian!(J, u, p, t)
        x, product = u, nothing
        for l in 1:(last_layer - 1)
            x = layer!(hidden[l], weights[l], biases[l], x)
            if l == 1
                products[l] .= (1 .- x .^ 2) .* weights[l]
            else
                mul!(products[l], weights[l], products[l - 1])
                products[l] .*= 1 .- x .^ 2
            end
        end
        mul!(J, weights[last_layer], products[last_layer - 1])
        return nothing
    end
    return field!, jacobian!
end

function layer!(out, weight, bias, x)
    mul!(out, weight, x)
    out .= tanh.(out .+ bias)
    return out
end

const ALGORITHMS = Dict("FBDF" => FBDF, "RadauIIA5" => RadauIIA5, "Rodas5P" => Rodas5P,
    "Tsit5" => Tsit5, "Vern7" => Vern7)

zero_gradient!(out, u, p, t) = (fill!(out, 0.0); nothing)

# Compiled for this very field: no wrapper is between the solver and it.
function problem(parts, start, t1)
    f = SciMLBase.ODEFunction{true, SciMLBase.FullSpecialize}(
        parts[1]; jac = parts[2], tgrad = zero_gradient!)
    return SciMLBase.ODEProblem(f, Vector{Float64}(start), (0.0, Float64(t1)))
end

# As quietly as the package solves, and keeping no more than the end.
solve(problem, algorithm, rtol, atol) = SciMLBase.solve(
    problem, algorithm; reltol = rtol, abstol = atol, save_everystep = false,
    maxiters = 10^6, verbose = SILENT)

function final_state(problem, name, rtol, atol)
    solution = solve(problem, ALGORITHMS[name](), rtol, atol)
    return SciMLBase.successful_retcode(solution) ? solution.u[end] : nothing
end

# The processor's seconds of each of `count` solves, as a loop in Julia sees them.
function seconds(problem, name, rtol, atol, count)
    algorithm = ALGORITHMS[name]()
    taken = zeros(count)
    for k in 1:count
        begin_time = processor_time()
        solve(problem, algorithm, rtol, atol)
        taken[k] = processor_time() - begin_time
    end
    return taken
end

# What Python's `time.process_time` reads.
function processor_time()
    clock = Sys.isapple() ? 12 : 2
    parts = Ref((Clong(0), Clong(0)))
    ccall(:clock_gettime, Cint, (Cint, Ref{Tuple{Clong, Clong}}), clock, parts)
    return parts[][1] + parts[][2] * 1e-9
end

# Nanoseconds of a call, averaged over `count` of them. The states take turns: with one
# alone the compiler may move the work out of the loop.
function nanoseconds(f::F, out, states::Vector{Vector{Float64}}, p, count) where {F}
    call(f, out, states, p, length(states))
    return @elapsed(call(f, out, states, p, count)) / count * 1e9
end
function call(f::F, out, states, p, count) where {F}
    k = 0
    for _ in 1:count
        k = k == length(states) ? 1 : k + 1
        one_call(f, out, @inbounds(states[k]), p)
    end
    return nothing
end
# A true call, as a solver makes it: inlined, several would run at once.
@noinline function one_call(f::F, out, u, p) where {F}
    f(out, u, p, 0.0)
    return nothing
end

function bytes(f::F, out, u, p) where {F}
    f(out, u, p, 0.0)
    return @allocated f(out, u, p, 0.0)
end

# A function of the host language behind buffers that both sides see.
struct Host
    f::Any
    state::Vector{Float64}
    output::Vector{Float64}
end
function (host::Host)(out, u, p, t)
    copyto!(host.state, u)
    host.f()
    copyto!(out, host.output)
    return nothing
end
host(f, n) = Host(f, zeros(n), zeros(n))

vector(x) = Vector{Float64}(x)
states(columns) = [Vector{Float64}(column) for column in eachcol(columns)]

end
