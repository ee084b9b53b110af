# Source becomes functions that stay.

using HybridNDS: evaluate_lowered
using Test

@testset "a function outlives the collection of garbage before its first use" begin
    source(n) = "function field!(out, u, p, t, w, c)\nout[1] = $n * u[1]\nreturn nothing\nend"
    for n in 1:5
        field! = evaluate_lowered(source(n))
        GC.gc()
        GC.gc()
        # Other objects take what memory was set free.
        others = [Any[k, string(k)] for k in 1:20_000]
        out = zeros(1)
        Base.invokelatest(field!, out, [2.0], Float64[], 0.0, (), ())
        @test out == [2.0 * n]
        @test nameof(typeof(field!)) === Symbol("#field!")
        @test length(others) == 20_000
    end
end
