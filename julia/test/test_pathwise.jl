using HybridNDS: HybridNDS, MatrixFunction, PathField, VectorFunction, along_parameters!,
                 begin_record!, end_state!, load_stochastic, path_scheme, pull_step!,
                 push_step!, record_size, resize_path!, solve!, step_memory,
                 stochastic_method, stochastic_model, take_step!
using LinearAlgebra: dot, norm
using Random: Xoshiro
using Test

@test load_stochastic() == ""

module Driven
function drift!(out, u, p, t)
    out .= (-p[1] * u[1] + p[2] * u[1] * u[2], cos(t) - u[2]^2)
    return nothing
end
function jacobian!(out, u, p, t)
    out .= [-p[1]+p[2] * u[2] p[2]*u[1]; 0 -2u[2]]
    return nothing
end
function vector!(out, u, p, t)
    out .= (p[2] * sin(u[1]) * (1 + t), 0.3 * cos(u[1]) * u[2])
    return nothing
end
function matrix!(out, u, p, t)
    out .= [p[2] * sin(u[1])*(1 + t) 0.1*u[1] * u[2]; 0.2*p[1] 0.3*cos(u[1]) * u[2]]
    return nothing
end

# Derivatives by complex steps: to round-off, with no difference taken.
function along(f!, size, u, p, t, δu, δp)
    out, h = zeros(ComplexF64, size), 1e-40
    f!(out, u .+ im * h .* δu, p .+ im * h .* δp, t)
    return imag.(vec(out)) ./ h
end
tangent(f!, size) = (out, x, p, t) -> (out .= along(
    f!, size, x[1:2], p, t, x[3:4], x[5:6]); nothing)
function adjoint(f!, size)
    unit(k) = [k == j for j in 1:4]
    return function (out, x, p, t)
        for k in 1:4
            slope = along(f!, size, x[1:2], p, t, unit(k)[1:2], unit(k)[3:4])
            out[k] = sum(slope .* x[3:end])
        end
    end
end
end

function path_field(product, columns)
    diffusion! = columns == 0 ? Driven.vector! : Driven.matrix!
    size = columns == 0 ? (2,) : (2, columns)
    O = columns == 0 ? Vector{Float64} : Matrix{Float64}
    return PathField{Float64, O}(VectorFunction{Float64}(Driven.drift!),
        MatrixFunction{Float64}(Driven.jacobian!),
        HybridNDS.InPlaceFunction{Float64, O}(diffusion!),
        VectorFunction{Float64}(product(Driven.drift!, (2,))),
        VectorFunction{Float64}(product(diffusion!, size)), 2, columns, 2)
end

const COARSE_STEPS = 16
function path_solve(method, columns)
    diffusion! = columns == 0 ? Driven.vector! : Driven.matrix!
    model = stochastic_model(
        Float64, Driven.drift!, Driven.jacobian!, diffusion!, columns > 0)
    problem = HybridNDS.Prepared(Float64, model, 2, 2, 2, columns)
    problem.start .= (0.8, -0.3)
    problem.parameters .= (1.3, 0.7)
    path, rng = resize_path!(problem, COARSE_STEPS, true), Xoshiro(3)
    path.grid .= range(0.0, 1.0, COARSE_STEPS + 1)
    path.increments .= randn(rng, 2, COARSE_STEPS) ./ sqrt(COARSE_STEPS)
    path.areas .= randn(rng, 2, COARSE_STEPS) ./ sqrt(12 * COARSE_STEPS^3)
    data = zeros(record_size(COARSE_STEPS, 2))
    begin_record!(problem.steps, pointer(data), COARSE_STEPS, 0.0, problem.start)
    solve!(problem, method, 0.0, 1.0, 0.0, 0.0, 0.0, HybridNDS.KEEP_END, COARSE_STEPS)
    steps = reshape(data, 4, :)
    return problem, steps[:, 2:end], Int(steps[1, 1])
end

function load!(memory, path, m)
    memory.increments .= path.increments[:, m]
    memory.areas .= path.areas[:, m]
    return nothing
end

const SCHEMES = ["EM" => (0, 2), "EulerHeun" => (0, 2), "ISSEM" => (0, 2),
    "ISSEulerHeun" => (0, 2), "ImplicitEM" => (0, 2), "ImplicitEulerHeun" => (0, 2),
    "ImplicitRKMil" => (0,), "LambaEM" => (0, 2), "RKMil" => (0,), "RKMilCommute" => (0, 2),
    "SOSRA" => (0, 2), "SRA1" => (0, 2), "SRIW1" => (0,), "STrapezoid" => (0, 2)]
const INTERPRETED = ("ImplicitRKMil", "RKMil", "RKMilCommute")
const WITH_THETA = ("ISSEM", "ISSEulerHeun", "ImplicitEM", "ImplicitEulerHeun",
    "ImplicitRKMil")

@testset "steps along a path" begin
    δ, δp, λ = [0.3, -1.1], [0.9, 0.4], [-0.7, 1.6]
    for (name, forms) in SCHEMES, columns in forms,
        stratonovich in (name in INTERPRETED ? (false, true) : (false,)),
        theta in (name in WITH_THETA ? (nothing, 0.6) : (nothing,))

        method = stochastic_method(name, stratonovich, 1e-6, theta)
        problem, steps, count = path_solve(method, columns)
        @test count == COARSE_STEPS
        @test steps[3:4, count + 1] == problem.saved_states[:, end]
        scheme = path_scheme(Float64, method, columns)
        forward, reverse = path_field(Driven.tangent, columns),
        path_field(Driven.adjoint, columns)
        memory, out, p = step_memory(forward, scheme), zeros(2), problem.parameters
        worst = 0.0
        # Round-off; of implicit methods the tolerance of Newton's iteration.
        limit = any(!iszero, scheme.A[i, i] for i in axes(scheme.A, 2)) ? 1e-11 : 2e-14
        for m in 1:count
            u, t, h = steps[3:4, m], steps[1, m], steps[2, m]
            load!(memory, problem.path, m)
            take_step!(memory, forward, u, p, t, h)
            end_state!(out, memory, u, h)
            worst = max(worst, norm(out - steps[3:4, m + 1]))
        end
        @test (name, worst <= limit) == (name, true)
        u, t, h = steps[3:4, 5], steps[1, 5], steps[2, 5]
        load!(memory, problem.path, 5)
        function stepped(ε)
            out, start = zeros(2), u + ε * δ
            take_step!(memory, forward, start, p + ε * δp, t, h)
            return end_state!(out, memory, start, h)
        end
        # Of fourth order: ε⁴ = 1e-12 of fifth derivatives, and round-off over ε.
        ε = 1e-3
        slope = (8 * (stepped(ε) - stepped(-ε)) - (stepped(2ε) - stepped(-2ε))) / 12ε
        take_step!(memory, forward, u, p, t, h)
        tangent = copy(δ)
        work = HybridNDS.tangent_work(forward, HybridNDS.stages(scheme))
        along_parameters!(work, δp)
        push_step!(tangent, work, memory, forward, u, p, t, h)
        @test norm(tangent - slope) <= 1e-10
        λ̄, p̄ = copy(λ), zeros(2)
        back = HybridNDS.adjoint_work(reverse, HybridNDS.stages(scheme))
        pull_step!(λ̄, p̄, back, memory, reverse, u, p, t, h)
        @test dot(λ̄, δ) + dot(p̄, δp)≈dot(λ, tangent) rtol=1e-12
    end
end

@testset "methods whose steps have no derivative" begin
    for name in setdiff(HybridNDS.stochastic_method_names(), first.(SCHEMES))
        @test_throws ArgumentError path_scheme(Float64, stochastic_method(name, true), 2)
    end
end
