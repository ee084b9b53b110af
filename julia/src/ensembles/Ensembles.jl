"""
Ensembles of trajectories in fixed steps: loops without allocation over the lowered
functions in scalar form, several trajectories in the lanes of a vector register.
"""
module Ensembles

using PrecompileTools: @compile_workload, @setup_workload
using SIMD: SIMD, Vec, vifelse
using StaticArrays: SVector
using ..HybridNDS: HybridNDS, LoweredCode, Prepared, Watch, poll!, resize_path!,
                   resize_times!, solve!
using ..LoweredCode: choose

# The same on every machine, so that results are. Two registers of the widest kind: what
# one waits for, the other computes.
const LANES = 16

include("simd_batch.jl")
include("functions.jl")
include("random.jl")
include("fields.jl")
include("schemes.jl")
include("runs.jl")
include("reductions.jl")
include("workers.jl")
include("solves.jl")
include("host.jl")
include("precompile.jl")

end
