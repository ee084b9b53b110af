# Geometric Brownian motion by hand, for stochastic_solvers.py.
module StochasticByHand

using ADTypes: AutoFiniteDiff
using DiffEqNoiseProcess: NoiseGrid
using StochasticDiffEq

drift!(du, u, p, t) = (du[1] = 1.01 * u[1]; nothing)
diffusion!(du, u, p, t) = (du[1] = 0.87 * u[1]; nothing)
jacobian!(J, u, p, t) = (J[1, 1] = 1.01; nothing)

method(expression) = eval(Meta.parse(expression))

# The path of increments over equal steps of [0, 1], and of Rößler's second ones.
function grid(increments, seconds)
    steps = length(increments)
    sums(values) = [[x] for x in cumsum([0.0; Vector{Float64}(values)])]
    return collect(range(0.0, 1.0, steps + 1)), sums(increments), sums(seconds)
end

function solution(algorithm, times, W, Z, start)
    f = SDEFunction(drift!, diffusion!; jac = jacobian!)
    problem = SDEProblem(f, [start], (0.0, 1.0); noise = NoiseGrid(times, W, Z))
    return solve(problem, algorithm; dt = times[2], adaptive = false,
        save_everystep = false)
end

# Seconds of one solve, and its end.
function timed(algorithm, times, W, Z, start)
    began = time_ns()
    found = solution(algorithm, times, W, Z, start)
    return (time_ns() - began) / 1e9, found.u[end][1]
end

end
