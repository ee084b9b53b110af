using HybridNDS: HostFunction, HybridNDS, VectorFunction, MatrixFunction
using Test

isdefined(@__MODULE__, :Models) || include("models.jl")

bytes(f, out, u, p, t) = (f(out, u, p, t); @allocated f(out, u, p, t))

@testset "a call of the field allocates nothing" begin
    u, p = [1.0, 2.0], [1.0, 0.5]
    drift, jacobian, gradient = Models.parts()
    for (f, out) in ((drift, zeros(2)), (jacobian, zeros(2, 2)), (gradient, zeros(2)),
        (VectorFunction{Float64}(drift), zeros(2)),
        (MatrixFunction{Float64}(jacobian), zeros(2, 2)))
        @test bytes(f, out, u, p, 0.3) == 0
    end
end

@testset "functions of the host share their buffers" begin
    calls = Ref(0)
    host = Ref{Any}()
    host[] = HostFunction(Float64, 2, 2) do
        calls[] += 1
        host[].output .= 2 .* host[].state .+ host[].time[1]
    end
    out = zeros(2)
    host[](out, [1.0, 2.0], Float64[], 0.5)
    @test out == [2.5, 4.5]
    @test calls[] == 1
end
