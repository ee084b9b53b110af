"""
What lowered source may call, and nothing else: the names exported here.
"""
module LoweredCode

using LinearAlgebra: LinearAlgebra
using SpecialFunctions: SpecialFunctions, erf, erfc
using StaticArrays: MArray, SMatrix, SVector

export Block, SMatrix, SVector, SpecialFunctions, arccosine, arcsine, area_cosine,
       area_tangent, bessel_i0e, bessel_i1e, cholesky_lower!, choose, cosine, digamma, erf,
       erfc, exceeds, falls_below, hurwitz_zeta, incomplete_beta, integer_divide,
       integer_remainder, inverse_erf, leading_zero_count, log_abs_gamma, log_add_exp,
       logarithm, logarithm1p, logistic, lower_gamma, lu_factors!, narrow, next_after,
       pivots_to_permutation!, polygamma_real, population_count, power, product!, scratch,
       shift_left, shift_right_arithmetic, shift_right_logical, sine, sort_lines!,
       square_root, tangent, triangular_solve!, truncate, upper_gamma

include("arithmetic.jl")
include("blocks.jl")
include("kernels.jl")

end
