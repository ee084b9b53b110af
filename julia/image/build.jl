# Build a system image of an environment's Julia packages:
#
#     julia --project=COMPILER build.jl PROJECT OUTPUT STATEMENTS
#
# COMPILER is an environment that holds PackageCompiler; with it alone as argument it is
# made, from the registry.
using Pkg

if isempty(ARGS)
    Pkg.add(name = "PackageCompiler", version = "2")
else
    using PackageCompiler
    project, output, statements = ARGS
    available = keys(Pkg.Types.read_project(joinpath(project, "Project.toml")).deps)
    names = filter(in(available), ["PythonCall", "HybridNDS", "StochasticDiffEq"])
    # For this kind of processor alone: another has an image of its own.
    PackageCompiler.create_sysimage(names; project, sysimage_path = output,
        precompile_execution_file = joinpath(@__DIR__, "start.jl"),
        precompile_statements_file = statements, cpu_target = "native")
end
