# Elementary functions without branches, so that lanes stay together. Coefficients of
# logarithm, sine and cosine: FreeBSD's msun (fdlibm), e_log.c, k_sin.c, k_cos.c; all
# within 3 units in the last place. `fma` throughout, so that every machine rounds alike.

const Doubles = Vec{LANES, Float64}
const Words = Vec{LANES, UInt64}

@inline bits(x::Doubles) = reinterpret(Words, x)
@inline number(x::Words) = reinterpret(Doubles, x)
@inline spread(x) = Doubles(x)

@inline polynomial(x::Doubles, c) = spread(c)
@inline polynomial(x::Doubles, c, more...) = fma(polynomial(x, more...), x, spread(c))

# Adding 1.5·2⁵² rounds to a whole number and leaves it in the low bits.
const ROUNDER = 0x1.8p52
const LOG2_E, LN2_HIGH, LN2_LOW = 1.4426950408889634, 6.93147180369123816490e-01,
1.90821492927058770002e-10

# x = k ln 2 + r: r, and the bits of 1.5·2⁵² + k.
@inline function reduce_by_ln2(x::Doubles)
    shifted = fma(x, spread(LOG2_E), spread(ROUNDER))
    k = shifted - ROUNDER
    r = fma(-k, spread(LN2_LOW), fma(-k, spread(LN2_HIGH), x))
    return r, bits(shifted)
end

# exp(r) − 1 for |r| ≤ ln(2)/2: Taylor's series to r¹³, next term below 4e-18 r.
@inline function small_expm1(r::Doubles)
    tail = polynomial(r, 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720, 1 / 5040, 1 / 40320,
        1 / 362880, 1 / 3628800, 1 / 39916800, 1 / 479001600, 1 / 6227020800)
    return fma(r * r, tail, r)
end

# 2^k for −1022 ≤ k ≤ 1023, from the bits of 1.5·2⁵² + k.
@inline power_of_two(shifted::Words) = number((shifted + 1023) << 52)

@inline within(x::Doubles, low, high) = vifelse(
    x < low, spread(low), vifelse(x > high, spread(high), x))

@inline function exponential(x::Doubles)
    r, shifted = reduce_by_ln2(within(x, -746.0, 710.0))
    # In two factors: the power alone may leave the range where the product stays in.
    half = bits(fma(reinterpret(Doubles, shifted) - ROUNDER, spread(0.5), spread(ROUNDER)))
    value = small_expm1(r) + 1.0
    return value * power_of_two(half) * power_of_two(shifted - half + bits(spread(ROUNDER)))
end

@inline function hyperbolic_tangent(x::Doubles)
    # tanh|x| = e/(e + 2) with e = exp(2|x|) − 1; beyond 22 it rounds to 1.
    size = abs(x)
    e = exponential_minus_one(2.0 * vifelse(size > 22.0, spread(22.0), size))
    return copysign(e / (e + 2.0), x)
end

# For normal positive numbers.
@inline function natural_logarithm(x::Doubles)
    shifted = bits(x) + (0x3ff0000000000000 - 0x3fe6a09e667f3bcd)
    mantissa = number((shifted & 0x000fffffffffffff) + 0x3fe6a09e667f3bcd)
    # The exponent as a number: its bits below those of 2⁵².
    k = number((shifted >> 52) | 0x4330000000000000) - (0x1.0p52 + 1023.0)
    f = mantissa - 1.0
    s = f / (f + 2.0)
    z = s * s
    remainder = z * polynomial(z, 6.666666666666735130e-01, 3.999999999940941908e-01,
        2.857142874366239149e-01, 2.222219843214978396e-01, 1.818357216161805012e-01,
        1.531383769920937332e-01, 1.479819860511658591e-01)
    half_square = 0.5 * f * f
    low = fma(k, spread(LN2_LOW), s * (half_square + remainder)) - half_square + f
    return fma(k, spread(LN2_HIGH), low)
end

# For 1 + x normal and positive: the logarithm of 1 + x as rounded, and what that left.
@inline function logarithm_of_one_plus(x::Doubles)
    whole = x + 1.0
    return natural_logarithm(whole) + (x - (whole - 1.0)) / whole
end

# For |x| ≤ 700.
@inline function exponential_minus_one(x::Doubles)
    r, shifted = reduce_by_ln2(x)
    scale = power_of_two(shifted)
    return fma(scale, small_expm1(r), scale - 1.0)
end

# For |x| ≤ π/4.
@inline function small_sine(x::Doubles)
    z = x * x
    tail = polynomial(z, -1.66666666666666324348e-01, 8.33333333332248946124e-03,
        -1.98412698298579493134e-04, 2.75573137070700676789e-06,
        -2.50507602534068634195e-08, 1.58969099521155010221e-10)
    return fma(z * x, tail, x)
end
@inline function small_cosine(x::Doubles)
    z = x * x
    tail = polynomial(z, 4.16666666666666019037e-02, -1.38888888888741095749e-03,
        2.48015872894767294178e-05, -2.75573143513906633035e-07,
        2.08757232129817482790e-09, -1.13596475577881948265e-11)
    half = 0.5 * z
    whole = 1.0 - half
    return whole + fma(z * z, tail, (1.0 - whole) - half)
end

@inline negate_where(bit::Words, x::Doubles) = number(bits(x) ⊻ (bit << 63))

# π/2 in three parts of 33 bits and a rest: exact multiples up to 2²⁰.
const HALF_PI = (1.57079632673412561417e+00, 6.07710050630396597660e-11,
    2.02226624871116645580e-21, 8.47842766036889956997e-32)

# sin(x + quarters·π/2) for |x| ≤ 10⁵.
@inline function sine_with_phase(x::Doubles, quarters::UInt64)
    shifted = fma(x, spread(2 / π), spread(ROUNDER))
    k = shifted - ROUNDER
    r = fma(-k, spread(HALF_PI[1]), x)
    r = fma(-k, spread(HALF_PI[2]), r)
    r = fma(-k, spread(HALF_PI[3]), r)
    quadrant = bits(shifted) + quarters
    value = vifelse(quadrant & 1 == 1, small_cosine(r), small_sine(r))
    return negate_where((quadrant >> 1) & 1, value)
end

# Where the branch-free code holds; elsewhere lane by lane.
@inline function where_valid(fast::F, slow::S, valid, x::SIMDBatch{T}) where {F, S, T}
    wide = SIMDBatch{Float64}(x).vector
    all(valid(wide)) && return SIMDBatch{T}(SIMDBatch(fast(wide)))
    return each_lane(slow, x)
end
@inline Base.exp(x::SIMDBatch{T}) where {T} = SIMDBatch{T}(SIMDBatch(exponential(
    SIMDBatch{Float64}(x).vector)))
@inline Base.tanh(x::SIMDBatch{T}) where {T} = SIMDBatch{T}(SIMDBatch(hyperbolic_tangent(
    SIMDBatch{Float64}(x).vector)))
is_normal(x::Doubles) = (x >= floatmin(Float64)) & (x < Inf)
is_above_minus_one(x::Doubles) = (x > -1.0) & (x < floatmax(Float64))
is_moderate(x::Doubles) = abs(x) <= 1e5
is_small(x::Doubles) = abs(x) <= 700.0
@inline LoweredCode.logarithm(x::SIMDBatch) = where_valid(
    natural_logarithm, LoweredCode.logarithm, is_normal, x)
@inline LoweredCode.logarithm1p(x::SIMDBatch) = where_valid(
    logarithm_of_one_plus, LoweredCode.logarithm1p, is_above_minus_one, x)
@inline Base.expm1(x::SIMDBatch) = where_valid(exponential_minus_one, expm1, is_small, x)
@inline LoweredCode.sine(x::SIMDBatch) = where_valid(
    y -> sine_with_phase(y, UInt64(0)), LoweredCode.sine, is_moderate, x)
@inline LoweredCode.cosine(x::SIMDBatch) = where_valid(
    y -> sine_with_phase(y, UInt64(1)), LoweredCode.cosine, is_moderate, x)
@inline LoweredCode.square_root(x::SIMDBatch) = sqrt(x)

@inline LoweredCode.exceeds(x::SIMDBatch, y::SIMDBatch) = (x > y) | (isnan(x) & !isnan(y))
@inline LoweredCode.falls_below(x::SIMDBatch, y::SIMDBatch) = (x < y) | (isnan(x) & !isnan(y))

for f in (:tan, :sinh, :cosh, :asinh, :atan, :cbrt, :exp2, :round)
    @eval @inline Base.$f(x::SIMDBatch) = each_lane($f, x)
end
for f in (:tangent, :arcsine, :arccosine, :area_cosine, :area_tangent,
    :inverse_erf, :log_abs_gamma, :digamma, :bessel_i0e, :bessel_i1e)
    @eval @inline LoweredCode.$f(x::SIMDBatch) = each_lane(LoweredCode.$f, x)
end
for f in (:erf, :erfc)
    @eval @inline LoweredCode.SpecialFunctions.$f(x::SIMDBatch) = each_lane(
        LoweredCode.SpecialFunctions.$f, x)
end
@inline Base.log1p(x::SIMDBatch) = LoweredCode.logarithm1p(x)
@inline Base.atan(x::SIMDBatch{T}, y::SIMDBatch{T}) where {T} = each_lane(atan, x, y)
@inline Base.copysign(x::SIMDBatch{T}, y::SIMDBatch{T}) where {T} = SIMDBatch(
    copysign(x.vector, y.vector))
@inline Base.rem(x::SIMDBatch{T}, y::SIMDBatch{T}) where {T} = each_lane(rem, x, y)
@inline Base.:^(x::SIMDBatch{T}, y::SIMDBatch{T}) where {T} = each_lane(
    LoweredCode.power, x, y)
@inline LoweredCode.power(x::SIMDBatch, y::Integer) = x^y
@inline LoweredCode.power(x::SIMDBatch, y::SIMDBatch) = x^y
@inline LoweredCode.power(x::SIMDBatch, y::Real) = ^(promote(x, y)...)
@inline LoweredCode.power(x::Real, y::SIMDBatch) = ^(promote(x, y)...)
# As Base.power_by_squaring rounds for numbers.
@inline Base.:^(x::SIMDBatch, n::Integer) = each_lane(v -> v^n, x)
@inline Base.literal_pow(::typeof(^), x::SIMDBatch, ::Val{2}) = x * x
@inline Base.literal_pow(::typeof(^), x::SIMDBatch, ::Val{3}) = x * x * x
