# All groups, or those named in the arguments:
#   julia --project=. -e 'using Pkg; Pkg.test("HybridNDS"; test_args = ["Core"])'

using Test

const GROUPS = [
    "Fields" => ["test_fields.jl", "test_sde_fields.jl"],
    "Core" => ["test_lowered.jl", "test_algorithms.jl", "test_solving.jl", "test_events.jl"],
    "Ensembles" => ["test_ensembles.jl"],
    "Stability" => ["test_stability.jl"],
    "Stochastic" => ["test_stochastic.jl"],
    "Allocations" => ["test_allocations.jl"]]

const CHOSEN = isempty(ARGS) ? first.(GROUPS) : ARGS
let unknown = setdiff(CHOSEN, first.(GROUPS))
    isempty(unknown) || error("no test group $(join(unknown, ", ")); there are " *
                              join(first.(GROUPS), ", "))
end

for (group, files) in GROUPS
    group in CHOSEN || continue
    @testset "$group" begin
        foreach(file -> include(file), files)
    end
end
