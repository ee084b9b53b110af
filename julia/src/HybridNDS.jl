"""
The Julia side of hybrid_nds: lowered fields, and solving with them.
"""
module HybridNDS

using ADTypes: AutoFiniteDiff
using Base.Libc: Libdl
using DiffEqBase: DEVerbosity
using FunctionWrappers: FunctionWrapper
using LinearAlgebra: LinearAlgebra, LU, dot, ldiv!, lu, lu!, mul!
using LinearSolve: KrylovJL_GMRES, LinearCache, LinearSolve, SciMLLinearSolveAlgorithm
using OrdinaryDiffEqBDF: FBDF, QNDF
using OrdinaryDiffEqDefault: DefaultODEAlgorithm
using OrdinaryDiffEqFIRK: RadauIIA3, RadauIIA5
using OrdinaryDiffEqHighOrderRK: DP8
using OrdinaryDiffEqLowOrderRK: BS3, DP5, Euler, Heun, Midpoint, RK4, Ralston
using OrdinaryDiffEqNonlinearSolve: NLNewton
using OrdinaryDiffEqRosenbrock: Rodas4, Rodas42, Rodas4P, Rodas4P2, Rodas5, Rodas5P,
                                Rodas5Pe, Rodas5Pr, Rodas6P, Rosenbrock23, tabtype
using OrdinaryDiffEqSDIRK: ESDIRKIMEXTableau, ImplicitEuler, ImplicitMidpoint, KenCarp3, KenCarp4, KenCarp5,
                           Kvaerno3, Kvaerno4, Kvaerno5, TRBDF2, Trapezoid
using OrdinaryDiffEqStabilizedRK: ROCK2, ROCK4
using OrdinaryDiffEqTsit5: Tsit5
using OrdinaryDiffEqVerner: Vern6, Vern7, Vern8, Vern9
using PrecompileTools: @compile_workload, @setup_workload
using Random: Xoshiro, randn!
using SciMLBase: SciMLBase, CallbackSet, ContinuousCallback, DiscreteCallback, ODEFunction,
                 ODEProblem, ReturnCode, SDEFunction, SDEProblem, terminate!
using SciMLLogging: SciMLLogging
using SparseArrays.UMFPACK: UmfpackLU
using SparseArrays: SparseMatrixCSC, nnz, nonzeros, nzrange, rowvals, sparse
using StaticArrays: SVector

include("report.jl")
include("lowered.jl")
include("algorithms.jl")
include("fields.jl")
include("sparse.jl")
include("preconditioned.jl")
include("internals.jl")
include("interrupt.jl")
include("events.jl")
include("records.jl")
include("solving.jl")
include("noise.jl")
include("stochastic.jl")
include("crossing.jl")
include("saved.jl")
include("bridge.jl")
include("ensembles/Ensembles.jl")
include("stability/Stability.jl")
include("host.jl")
include("shared.jl")
include("steps.jl")
include("tangent.jl")
include("adjoint.jl")
include("implicit.jl")
include("derivatives.jl")
include("pathwise.jl")
include("catalogue.jl")
include("versions.jl")
include("precompile.jl")

end
