"""
    Lanes{T}(vector)

One number of each of $(LANES) trajectories, to be computed with as one: fields lowered
in scalar form take it as they take dual numbers, and the machine its vector
instructions. Every lane holds what `T` would: the basic operations, rounded alike, and
functions within a few units in the last place. Comparisons give [`LaneMask`](@ref)s.
"""
struct Lanes{T} <: Real
    vector::Vec{LANES, T}
    Lanes(vector::Vec{LANES, T}) where {T} = new{T}(vector)
end

"""
    LaneMask(vector)

A truth value for each lane; there is no branching on it, only [`choose`](@ref).
"""
struct LaneMask
    vector::Vec{LANES, Bool}
end

@inline Lanes{T}(x::Lanes{T}) where {T} = x
@inline Lanes{T}(x::Lanes) where {T} = Lanes(convert(Vec{LANES, T}, x.vector))
@inline Lanes{T}(x::Real) where {T} = Lanes(Vec{LANES, T}(T(x)))
@inline Lanes{T}(x::LaneMask) where {T} = choose(x, one(Lanes{T}), zero(Lanes{T}))
@inline Base.convert(::Type{Lanes{T}}, x::LaneMask) where {T} = Lanes{T}(x)
Base.promote_rule(::Type{Lanes{T}}, ::Type{<:AbstractFloat}) where {T} = Lanes{T}
Base.promote_rule(::Type{Lanes{T}}, ::Type{<:Integer}) where {T} = Lanes{T}
Base.promote_rule(::Type{Lanes{T}}, ::Type{Bool}) where {T} = Lanes{T}
Base.promote_rule(::Type{Lanes{T}}, ::Type{LaneMask}) where {T} = Lanes{T}
Base.eltype(::Type{Lanes{T}}) where {T} = Lanes{T}
@inline Base.zero(::Type{Lanes{T}}) where {T} = Lanes{T}(zero(T))
@inline Base.one(::Type{Lanes{T}}) where {T} = Lanes{T}(one(T))
@inline Base.float(x::Lanes) = x
Base.float(::Type{Lanes{T}}) where {T} = Lanes{T}

for operation in (:+, :-, :*, :/)
    @eval @inline Base.$operation(x::Lanes{T}, y::Lanes{T}) where {T} = Lanes(
        $operation(x.vector, y.vector))
end
for operation in (:<, :<=, :(==))
    @eval @inline Base.$operation(x::Lanes{T}, y::Lanes{T}) where {T} = LaneMask(
        $operation(x.vector, y.vector))
end
for operation in (:-, :abs, :floor, :ceil, :trunc)
    @eval @inline Base.$operation(x::Lanes) = Lanes($operation(x.vector))
end
@inline Base.:+(x::Lanes) = x
@inline Base.inv(x::Lanes) = one(x) / x
@inline Base.sqrt(x::Lanes) = Lanes(sqrt(x.vector))
@inline Base.fma(x::Lanes{T}, y::Lanes{T}, z::Lanes{T}) where {T} = Lanes(
    fma(x.vector, y.vector, z.vector))
@inline Base.muladd(x::Lanes{T}, y::Lanes{T}, z::Lanes{T}) where {T} = x * y + z
# As in Base, where NaN wins over numbers.
@inline Base.max(x::Lanes{T}, y::Lanes{T}) where {T} = choose((x > y) | isnan(x), x, y)
@inline Base.min(x::Lanes{T}, y::Lanes{T}) where {T} = choose((x < y) | isnan(x), x, y)

@inline Base.isnan(x::Lanes) = LaneMask(x.vector != x.vector)
@inline Base.isfinite(x::Lanes) = x - x == zero(x)
@inline Base.isinf(x::Lanes) = abs(x) == Lanes(oftype(x.vector, Inf))
@inline Base.iszero(x::Lanes) = x == zero(x)
@inline Base.sign(x::Lanes) = choose(
    x < zero(x), -one(x), choose(x > zero(x), one(x), x))
@inline Base.abs2(x::Lanes) = x * x

for operation in (:&, :|, :⊻)
    @eval @inline Base.$operation(x::LaneMask, y::LaneMask) = LaneMask(
        $operation(x.vector, y.vector))
    @eval @inline Base.$operation(x::LaneMask, y::Bool) = LaneMask(
        $operation(x.vector, Vec{LANES, Bool}(y)))
    @eval @inline Base.$operation(x::Bool, y::LaneMask) = $operation(y, x)
end
@inline Base.:!(x::LaneMask) = LaneMask(~x.vector)
@inline Base.any(x::LaneMask) = any(x.vector)
@inline Base.all(x::LaneMask) = all(x.vector)

@inline choose_lanes(mask::LaneMask, yes::Lanes{T}, no::Lanes{T}) where {T} = Lanes(
    vifelse(mask.vector, yes.vector, no.vector))
@inline choose_lanes(mask::LaneMask, yes::LaneMask, no::LaneMask) = (mask & yes) |
                                                                    (!mask & no)
# Both sides may be plain numbers: only the mask tells that lanes are meant.
@inline LoweredCode.choose(mask::LaneMask, yes, no) = choose_lanes(
    mask, promote(yes, no)...)
@inline choose_lanes(mask::LaneMask, yes::T, no::T) where {T <: Union{Float32, Float64}} =
    choose_lanes(mask, Lanes{T}(yes), Lanes{T}(no))
@inline Base.ifelse(mask::LaneMask, yes::Lanes, no::Lanes) = choose_lanes(mask, yes, no)

"""
    each_lane(f, x...)

`f` of the numbers of each lane in turn: right for every function, and slow.
"""
@inline function each_lane(f::F, x::Lanes{T}) where {F, T}
    return Lanes(Vec{LANES, T}(ntuple(k -> T(f(x.vector[k])), Val(LANES))))
end
@inline function each_lane(f::F, x::Lanes{T}, y::Lanes{T}) where {F, T}
    return Lanes(Vec{LANES, T}(ntuple(k -> T(f(x.vector[k], y.vector[k])), Val(LANES))))
end
