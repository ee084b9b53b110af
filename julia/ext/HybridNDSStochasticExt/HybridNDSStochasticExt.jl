"""
Stochastic problems: what of HybridNDS needs StochasticDiffEq.
"""
module HybridNDSStochasticExt

using HybridNDS: HybridNDS, INCREMENT, NEWTON_ITERATIONS, NEWTON_TOLERANCE, NO_AUTODIFF,
                 PATIENT_ITERATIONS, PathNoise, PathScheme, ROOT, SECOND, THIRD, TIME_INTEGRAL
using OrdinaryDiffEqNonlinearSolve: NLNewton
using PrecompileTools: @compile_workload, @setup_workload
using SciMLBase: SciMLBase
using StochasticDiffEq: StochasticDiffEq, DRI1, DiffEqNoiseProcess, EM, EulerHeun, ISSEM,
                        ISSEulerHeun, ImplicitEM, ImplicitEulerHeun, ImplicitRKMil,
                        LambaEM, LambaEulerHeun, PL1WM, RKMil, RKMilCommute,
                        RKMilGeneral, SKenCarp, SOSRA, SOSRI, SRA1, SRIW1, SROCK1, SROCK2,
                        STrapezoid, StochasticDiffEqCore, constructSOSRA, constructSRIW1

include("noise.jl")
include("methods.jl")
include("schemes.jl")
include("precompile.jl")

end
