# The Brusselator in two dimensions, periodic, as the documentation of
# DifferentialEquations.jl sets it up, written by hand with its sparse Jacobian.
module LargeByHand

using ADTypes: AutoFiniteDiff
using LinearAlgebra: LinearAlgebra
using OrdinaryDiffEqBDF: FBDF, QNDF
using OrdinaryDiffEqRosenbrock: Rodas5P
using SciMLBase: ODEFunction, ODEProblem, SciMLBase
using SparseArrays: SparseMatrixCSC, nonzeros, nzrange, rowvals, sparse

struct Brusselator
    points::Int
    a::Float64
    b::Float64
    diffusion::Float64
end
Brusselator(points) = Brusselator(points, 3.4, 1.0, 10.0 * (points - 1)^2)

function (f::Brusselator)(out, w, p, t)
    n, (; a, b, diffusion) = f.points, f
    u, v = reshape(view(w, 1:(n^2)), n, n), reshape(view(w, (n^2 + 1):(2n^2)), n, n)
    du, dv = reshape(view(out, 1:(n^2)), n, n), reshape(view(out, (n^2 + 1):(2n^2)), n, n)
    force = t >= 1.1 ? 5.0 : 0.0
    @inbounds for j in 1:n
        left, right = j == 1 ? n : j - 1, j == n ? 1 : j + 1
        x = (j - 1) / (n - 1)
        for i in 1:n
            below, above = i == 1 ? n : i - 1, i == n ? 1 : i + 1
            y = (i - 1) / (n - 1)
            U, V = u[i, j], v[i, j]
            spot = (x - 0.3)^2 + (y - 0.6)^2 <= 0.01 ? force : 0.0
            du[i, j] = diffusion * (u[below, j] + u[above, j] + u[i, left] + u[i, right] - 4U) +
                       b + U * U * V - (a + 1) * U + spot
            dv[i, j] = diffusion * (v[below, j] + v[above, j] + v[i, left] + v[i, right] - 4V) +
                       a * U - U * U * V
        end
    end
    return nothing
end

function pattern(points)
    rows, columns = Int[], Int[]
    place(i, j, s) = mod1(i, points) + points * (mod1(j, points) - 1) + s * points^2
    for s in 0:1, j in 1:points, i in 1:points
        row = place(i, j, s)
        for (k, l) in ((i, j), (i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1))
            push!(rows, row)
            push!(columns, place(k, l, s))
        end
        push!(rows, row)
        push!(columns, place(i, j, 1 - s))
    end
    return sparse(rows, columns, 1.0, 2points^2, 2points^2)
end

struct BrusselatorJacobian
    field::Brusselator
end
function (f::BrusselatorJacobian)(J::SparseMatrixCSC, w, p, t)
    (; points, a, diffusion) = f.field
    n, values, rows = points^2, nonzeros(J), rowvals(J)
    @inbounds for column in 1:(2n)
        second = column > n
        k = second ? column - n : column
        u, v = w[k], w[k + n]
        for q in nzrange(J, column)
            row = rows[q]
            values[q] = if row == column
                -4diffusion + (second ? -u^2 : 2u * v - (a + 1))
            elseif (row > n) == second
                diffusion
            else
                second ? u^2 : a - 2u * v
            end
        end
    end
    return nothing
end

zero_gradient(out, u, p, t) = fill!(out, 0.0)

function problem(points::Integer, start::AbstractVector)
    field = Brusselator(points)
    made = ODEFunction{true, SciMLBase.FullSpecialize}(field;
        jac = BrusselatorJacobian(field), jac_prototype = pattern(points),
        tgrad = zero_gradient)
    return ODEProblem(made, Vector{Float64}(start), (0.0, 11.5))
end

const METHODS = Dict("FBDF" => FBDF, "QNDF" => QNDF, "Rodas5P" => Rodas5P)

function final_state(problem, name, rtol, atol)
    method = METHODS[String(name)](; autodiff = AutoFiniteDiff())
    solution = SciMLBase.solve(problem, method; reltol = rtol, abstol = atol,
        save_everystep = false, save_start = false)
    return solution.u[end]
end

end
