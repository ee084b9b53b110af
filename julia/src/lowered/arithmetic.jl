# Elementwise functions as XLA means them: NaN instead of a DomainError, so that a trial
# step of a solver outside a function's domain is rejected and not fatal. All are generic
# in the number type; dual numbers pass.

not_a_number(x) = oftype(float(x), NaN)

@inline logistic(x) = inv(one(x) + exp(-x))

@inline square_root(x) = x < zero(x) ? not_a_number(x) : sqrt(x)
@inline square_root(x::Union{Float32, Float64}) = Base.sqrt_llvm(x)
@inline logarithm(x) = x < zero(x) ? not_a_number(x) : log(x)
@inline logarithm1p(x) = x < -one(x) ? not_a_number(x) : log1p(x)
@inline sine(x) = isinf(x) ? not_a_number(x) : sin(x)
@inline cosine(x) = isinf(x) ? not_a_number(x) : cos(x)
@inline tangent(x) = isinf(x) ? not_a_number(x) : tan(x)
@inline arcsine(x) = abs(x) > one(x) ? not_a_number(x) : asin(x)
@inline arccosine(x) = abs(x) > one(x) ? not_a_number(x) : acos(x)
@inline area_cosine(x) = x < one(x) ? not_a_number(x) : acosh(x)
@inline area_tangent(x) = abs(x) > one(x) ? not_a_number(x) : atanh(x)

@inline power(x::Integer, y::Integer) = y < zero(y) ? integer_divide(one(x), x^(-y)) : x^y
@inline power(x, y::Integer) = x^y
@inline function power(x, y)
    return x < zero(x) && !isinteger(y) ? not_a_number(promote(x, y)[1]) : x^y
end

@inline log_add_exp(x, y) = max(x, y) + log1p(exp(-abs(x - y)))

inverse_erf(x) = abs(x) > one(x) ? not_a_number(x) : SpecialFunctions.erfinv(x)
log_abs_gamma(x) = isinf(x) ? abs(x) : first(SpecialFunctions.logabsgamma(x))
# Outside of their domains SpecialFunctions raises, or continues a function: here NaN and
# infinity stand where XLA has them.
function digamma(x)
    pole = x <= zero(x) && (isinf(x) || isinteger(x))
    return pole ? not_a_number(x) : SpecialFunctions.digamma(x)
end

function polygamma_real(m, x)
    # The factorial of any higher order overflows.
    known = isinteger(m) && zero(m) <= m <= 1000 && isfinite(x)
    known || return not_a_number(promote(m, x)[2])
    return iszero(m) ? oftype(float(x), digamma(x)) : SpecialFunctions.polygamma(Int(m), x)
end

function hurwitz_zeta(s, q)
    nan = not_a_number(promote(s, q)[1])
    s == one(s) && return oftype(nan, Inf)
    (s > one(s) && !isnan(q)) || return nan
    if q <= zero(q)
        pole = (isinf(q) || isinteger(q)) && iszero(rem(s, 2))
        return pole ? oftype(nan, Inf) : nan
    end
    # SpecialFunctions takes a whole number of the size of s.
    (s < 1.0e18 && isfinite(q)) || return nan
    return SpecialFunctions.zeta(s, q)
end

lower_gamma(a, x) = gamma_ratios(a, x)[1]
upper_gamma(a, x) = gamma_ratios(a, x)[2]
function gamma_ratios(a, x)
    nan = not_a_number(promote(a, x)[1])
    inside = a >= zero(a) && x >= zero(x) && !(iszero(a) && iszero(x))
    inside || return (nan, nan)
    # The gamma distribution is a step here; SpecialFunctions refuses its middle.
    a > 1.0e28 && return x < a ? (zero(nan), one(nan)) : (one(nan), zero(nan))
    return SpecialFunctions.gamma_inc(a, x)
end

function incomplete_beta(a, b, x)
    nan = not_a_number(promote(a, b, x)[1])
    (a >= zero(a) && b >= zero(b) && zero(x) <= x <= one(x)) || return nan
    at_zero, at_one = iszero(a) || isinf(b), iszero(b) || isinf(a)
    at_zero && at_one && return nan
    at_zero && return iszero(x) ? zero(nan) : one(nan)
    at_one && return x == one(x) ? one(nan) : zero(nan)
    return SpecialFunctions.beta_inc(a, b, x)[1]
end

# AMOS, which SpecialFunctions calls, refuses large arguments; there two terms of the
# asymptotic series are exact to double precision (DLMF 10.40.1).
is_large(x) = x > 100_000_000
# 1/√(2πx), where 2πx may overflow.
decay(x) = inv(sqrt(oftype(x, 2π)) * sqrt(x))
function bessel_i0e(x)
    z = abs(x)
    is_large(z) && return decay(z) * (1 + inv(8 * z))
    return isnan(z) ? z : SpecialFunctions.besselix(0, z)
end
function bessel_i1e(x)
    z = abs(x)
    is_large(z) && return sign(x) * (decay(z) * (1 - 3 * inv(8 * z)))
    return isnan(z) ? z : sign(x) * SpecialFunctions.besselix(1, z)
end

@inline choose(condition, yes, no) = ifelse(condition, promote(yes, no)...)
@inline exceeds(x, y) = x > y || (x != x && y == y)
@inline falls_below(x, y) = x < y || (x != x && y == y)

# Integers divide as in XLA: no exception, −1 for a zero divisor.
@inline integer_divide(x, y) = iszero(y) ? -one(x) : y == -1 ? -x : div(x, y)
@inline integer_remainder(x, y) = iszero(y) ? x : y == -1 ? zero(x) : rem(x, y)
@inline integer_divide(x::Unsigned, y) = iszero(y) ? typemax(x) : div(x, y)
@inline integer_remainder(x::Unsigned, y) = iszero(y) ? x : rem(x, y)
@inline shift_left(x, n) = x << n
@inline shift_right_logical(x, n) = x >>> n
@inline shift_right_arithmetic(x::T, n) where {T} = (signed(x) >> n) % T
@inline population_count(x::T) where {T} = count_ones(x) % T
@inline leading_zero_count(x::T) where {T} = leading_zeros(x) % T

@inline narrow(::Type{T}, x) where {T} = T(x)

"""
Round toward zero to an integer type, saturating; NaN becomes zero.
"""
@inline function truncate(::Type{T}, x) where {T <: Integer}
    isnan(x) && return zero(T)
    x >= typemax(T) && return typemax(T)
    x <= typemin(T) && return typemin(T)
    return unsafe_trunc(T, x)
end

@inline function next_after(x::T, y) where {T}
    (isnan(x) || isnan(y)) && return T(NaN)
    x == y && return T(y)
    iszero(x) && return copysign(nextfloat(zero(T)), y)
    return x < y ? nextfloat(x) : prevfloat(x)
end
