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
polygamma_real(m, x) = SpecialFunctions.polygamma(Int(m), x)
hurwitz_zeta(s, q) = SpecialFunctions.zeta(s, q)
lower_gamma(a, x) = x <= zero(x) ? zero(x) : SpecialFunctions.gamma_inc(a, x)[1]
upper_gamma(a, x) = x <= zero(x) ? one(x) : SpecialFunctions.gamma_inc(a, x)[2]
incomplete_beta(a, b, x) = SpecialFunctions.beta_inc(a, b, x)[1]
bessel_i0e(x) = SpecialFunctions.besselix(0, abs(x))
bessel_i1e(x) = sign(x) * SpecialFunctions.besselix(1, abs(x))

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
