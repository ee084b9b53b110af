# All groups but QA, or those named in the arguments, or in GROUP:
#   julia --project=. -e 'using Pkg; Pkg.test("HybridNDS"; test_args = ["Core"])'
#   GROUP=QA julia --project=. -e 'using Pkg; Pkg.test("HybridNDS")'
# QA has an environment of its own, in `qa`, with the tools that it takes.

using Pkg: Pkg
using Test

const GROUPS = [
    "Fields" => ["test_fields.jl", "test_sde_fields.jl", "test_sparse.jl",
        "test_preconditioned.jl"],
    "Core" => ["test_lowered.jl", "test_algorithms.jl", "test_solving.jl", "test_events.jl",
        "test_steps.jl"],
    "Crossing" => ["test_bridge.jl", "test_crossing.jl"],
    "Ensembles" => ["test_ensembles.jl"],
    "Stability" => ["test_stability.jl"],
    "Stochastic" => ["test_stochastic.jl", "test_pathwise.jl"],
    "Allocations" => ["test_allocations.jl"]]

const NAMED = isempty(ARGS) ? split(get(ENV, "GROUP", ""), ','; keepempty = false) : ARGS
const CHOSEN = isempty(NAMED) ? first.(GROUPS) : NAMED
const KNOWN = [first.(GROUPS); "QA"]
let unknown = setdiff(CHOSEN, KNOWN)
    isempty(unknown) || error("no test group $(join(unknown, ", ")); there are " *
                              join(KNOWN, ", "))
end

for (group, files) in GROUPS
    group in CHOSEN || continue
    @testset "$group" begin
        foreach(file -> include(file), files)
    end
end

if "QA" in CHOSEN
    # A copy, so that nothing is written where the package is.
    let environment = mktempdir()
        cp(joinpath(@__DIR__, "qa", "Project.toml"), joinpath(environment, "Project.toml"))
        Pkg.activate(environment)
        Pkg.develop(; path = dirname(@__DIR__))
        Pkg.instantiate()
    end
    @testset "QA" begin
        include("qa/qa.jl")
    end
end
