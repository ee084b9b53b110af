"""
    SIMDBatch{T}(vector)

One number of each of $(LANES) trajectories, to be computed with as one: fields lowered
in scalar form take it as they take dual numbers, and the machine its vector
instructions. Every lane holds what `T` would: the basic operations, rounded alike, and
functions within a few units in the last place. Comparisons give [`SIMDMask`](@ref)s.
"""
struct SIMDBatch{T} <: Real
    vector::Vec{LANES, T}
    SIMDBatch(vector::Vec{LANES, T}) where {T} = new{T}(vector)
end

"""
    SIMDMask(vector)

A truth value for each lane; there is no branching on it, only [`choose`](@ref).
"""
struct SIMDMask
    vector::Vec{LANES, Bool}
end

@inline SIMDBatch{T}(x::SIMDBatch{T}) where {T} = x
@inline SIMDBatch{T}(x::SIMDBatch) where {T} = SIMDBatch(convert(Vec{LANES, T}, x.vector))
@inline SIMDBatch{T}(x::Real) where {T} = SIMDBatch(Vec{LANES, T}(T(x)))
@inline SIMDBatch{T}(x::SIMDMask) where {T} = choose(
    x, one(SIMDBatch{T}), zero(SIMDBatch{T}))
@inline Base.convert(::Type{SIMDBatch{T}}, x::SIMDMask) where {T} = SIMDBatch{T}(x)
Base.promote_rule(::Type{SIMDBatch{T}}, ::Type{<:AbstractFloat}) where {T} = SIMDBatch{T}
Base.promote_rule(::Type{SIMDBatch{T}}, ::Type{<:Integer}) where {T} = SIMDBatch{T}
Base.promote_rule(::Type{SIMDBatch{T}}, ::Type{Bool}) where {T} = SIMDBatch{T}
Base.promote_rule(::Type{SIMDBatch{T}}, ::Type{SIMDMask}) where {T} = SIMDBatch{T}
Base.eltype(::Type{SIMDBatch{T}}) where {T} = SIMDBatch{T}
@inline Base.zero(::Type{SIMDBatch{T}}) where {T} = SIMDBatch{T}(zero(T))
@inline Base.one(::Type{SIMDBatch{T}}) where {T} = SIMDBatch{T}(one(T))
@inline Base.float(x::SIMDBatch) = x
Base.float(::Type{SIMDBatch{T}}) where {T} = SIMDBatch{T}

for operation in (:+, :-, :*, :/)
    @eval @inline Base.$operation(x::SIMDBatch{T}, y::SIMDBatch{T}) where {T} = SIMDBatch(
        $operation(x.vector, y.vector))
end
for operation in (:<, :<=, :(==))
    @eval @inline Base.$operation(x::SIMDBatch{T}, y::SIMDBatch{T}) where {T} = SIMDMask(
        $operation(x.vector, y.vector))
end
for operation in (:-, :abs, :floor, :ceil, :trunc)
    @eval @inline Base.$operation(x::SIMDBatch) = SIMDBatch($operation(x.vector))
end
@inline Base.:+(x::SIMDBatch) = x
@inline Base.inv(x::SIMDBatch) = one(x) / x
@inline Base.sqrt(x::SIMDBatch) = SIMDBatch(sqrt(x.vector))
@inline Base.fma(x::SIMDBatch{T}, y::SIMDBatch{T}, z::SIMDBatch{T}) where {T} = SIMDBatch(
    fma(x.vector, y.vector, z.vector))
@inline Base.muladd(x::SIMDBatch{T}, y::SIMDBatch{T}, z::SIMDBatch{T}) where {T} = x * y + z
# As in Base, where NaN wins over numbers.
@inline Base.max(x::SIMDBatch{T}, y::SIMDBatch{T}) where {T} = choose(
    (x > y) | isnan(x), x, y)
@inline Base.min(x::SIMDBatch{T}, y::SIMDBatch{T}) where {T} = choose(
    (x < y) | isnan(x), x, y)

@inline Base.isnan(x::SIMDBatch) = SIMDMask(x.vector != x.vector)
@inline Base.isfinite(x::SIMDBatch) = x - x == zero(x)
@inline Base.isinf(x::SIMDBatch) = abs(x) == SIMDBatch(oftype(x.vector, Inf))
@inline Base.iszero(x::SIMDBatch) = x == zero(x)
@inline Base.sign(x::SIMDBatch) = choose(
    x < zero(x), -one(x), choose(x > zero(x), one(x), x))
@inline Base.abs2(x::SIMDBatch) = x * x

for operation in (:&, :|, :⊻)
    @eval @inline Base.$operation(x::SIMDMask, y::SIMDMask) = SIMDMask(
        $operation(x.vector, y.vector))
    @eval @inline Base.$operation(x::SIMDMask, y::Bool) = SIMDMask(
        $operation(x.vector, Vec{LANES, Bool}(y)))
    @eval @inline Base.$operation(x::Bool, y::SIMDMask) = $operation(y, x)
end
@inline Base.:!(x::SIMDMask) = SIMDMask(~x.vector)
@inline Base.any(x::SIMDMask) = any(x.vector)
@inline Base.all(x::SIMDMask) = all(x.vector)

@inline choose_each(mask::SIMDMask, yes::SIMDBatch{T},
    no::SIMDBatch{T}) where {T} = SIMDBatch(vifelse(mask.vector, yes.vector, no.vector))
@inline choose_each(mask::SIMDMask, yes::SIMDMask, no::SIMDMask) = (mask & yes) |
                                                                    (!mask & no)
# Both sides may be plain numbers: only the mask tells that lanes are meant.
@inline LoweredCode.choose(mask::SIMDMask, yes, no) = choose_each(
    mask, promote(yes, no)...)
@inline choose_each(mask::SIMDMask, yes::T, no::T) where {T <: Union{Float32, Float64}} =
    choose_each(mask, SIMDBatch{T}(yes), SIMDBatch{T}(no))
@inline Base.ifelse(mask::SIMDMask, yes::SIMDBatch, no::SIMDBatch) = choose_each(
    mask, yes, no)

"""
    each_lane(f, x...)

`f` of the numbers of each lane in turn: right for every function, and slow.
"""
@inline function each_lane(f::F, x::SIMDBatch{T}) where {F, T}
    return SIMDBatch(Vec{LANES, T}(ntuple(k -> T(f(x.vector[k])), Val(LANES))))
end
@inline function each_lane(f::F, x::SIMDBatch{T}, y::SIMDBatch{T}) where {F, T}
    return SIMDBatch(Vec{LANES, T}(ntuple(k -> T(f(x.vector[k], y.vector[k])), Val(LANES))))
end
