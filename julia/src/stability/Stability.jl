"""
Tangent vectors along orbits, made orthonormal again at the end of each interval, and
trajectories on their way out of a region: the loops behind Lyapunov exponents and mean
exit times.
"""
module Stability

using LinearAlgebra: LAPACK, norm
using PrecompileTools: @compile_workload, @setup_workload
using Random: Random, Xoshiro
using SciMLBase: SciMLBase
using ..Ensembles: LANES, Words, normal_pair
using ..HybridNDS: HybridNDS, INTERRUPTED, KEEP_END, Outcome, Prepared, Report, SILENT,
                   StepCheck, SUCCESS, UNSTABLE, VectorFunction, Watch, correct_stage_times!,
                   outcome, poll!, resize_path!, solve!, stage_floor, stage_tolerance

include("turning.jl")
include("increments.jl")
include("flows.jl")
include("maps.jl")
include("exits.jl")
include("stochastic.jl")
include("precompile.jl")

end
