# The fixtures that pytest reads too: tests/fixtures in a checkout.

module Fixtures

using TOML

const ROOT = normpath(joinpath(@__DIR__, "..", "..", "tests", "fixtures"))

"The names of the fixtures there are, sorted: stochastic problems, or the others."
function names(; stochastic = false)
    found = filter(name -> isfile(joinpath(ROOT, name, "problem.toml")), readdir(ROOT))
    return filter(name -> (load(name)["kind"] == "sde") == stochastic, found)
end

"""
    load(name)

The specification of a fixture as the dictionary that `problem.toml` holds, with the
parameters kept in a file of their own merged into its `"parameters"`.
"""
function load(name)
    spec = TOML.parsefile(joinpath(ROOT, name, "problem.toml"))
    if haskey(spec, "weights")
        merge!(spec["parameters"], TOML.parsefile(joinpath(ROOT, name, spec["weights"])))
    end
    return spec
end

"""
    table(name, file, [T])

The numbers of a fixture's `reference.csv` or `field.csv`, a matrix with one row for
each point. Lines that begin with `#` say where the numbers come from.
"""
function table(name, file, ::Type{T} = Float64) where {T}
    lines = filter(l -> !isempty(l) && !startswith(l, "#"), readlines(joinpath(ROOT, name, file)))
    rows = [parse.(T, split(line, ",")) for line in lines[2:end]]
    return permutedims(reduce(hcat, rows))
end

"The times, and the states as the columns of a matrix, of a fixture's reference."
function reference(name)
    numbers = table(name, "reference.csv")
    return numbers[:, 1], permutedims(numbers[:, 2:end])
end

end # module
