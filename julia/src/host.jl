# What the host language calls beside solving: plain arguments in, plain values out.

"""
    solve!(prepared, algorithm, t0, t1, rtol, atol, dt, keep::Integer, max_steps,
        report = nothing)

With the number of a [`Keep`](@ref).
"""
function solve!(prepared::Prepared, algorithm, t0::Real, t1::Real, rtol::Real,
        atol::Union{Real, AbstractVector}, dt::Real, keep::Integer, max_steps::Integer,
        report = nothing)
    return solve!(
        prepared, algorithm, t0, t1, rtol, atol, dt, Keep(keep), max_steps, report)
end

"""
    watch_interrupts(descriptor)

Let solves poll this file descriptor; −1 for none.
"""
function watch_interrupts(descriptor::Integer)
    INTERRUPT_DESCRIPTOR[] = descriptor
    return nothing
end

"""
    take_signals!()

The bytes that solves have read from that descriptor since the last call, in order.
"""
function take_signals!()
    return lock(READING) do
        taken = copy(SIGNALS_READ)
        empty!(SIGNALS_READ)
        return taken
    end
end

"""
    constants()

An empty list for [`push_constant!`](@ref).
"""
constants() = Any[]

"""
    push_constant!(list, values, dims)

Append the constant array with these values, in memory order, and dimensions, such as
`"3,4"`.
"""
function push_constant!(list::Vector{Any}, values, dims::AbstractString)
    push!(list, (collect(values), parse_dimensions(dims)))
    return nothing
end

function parse_dimensions(text::AbstractString)
    return isempty(text) ? Int[] : parse.(Int, split(text, ','))
end

"""
    lower_source(source, layout, constants, scalar)

Like [`lowered`](@ref), with the work arrays described in one string, such as
`"float:3,4;int64:7"`, and constants from [`push_constant!`](@ref).
"""
function lower_source(source::AbstractString, layout::AbstractString,
        constants::Vector{Any}, scalar::Bool)
    parts = [split(part, ':') for part in split(layout, ';'; keepempty = false)]
    kinds = [String(part[1]) for part in parts]
    sizes = [parse_dimensions(part[2]) for part in parts]
    return lowered(source, kinds, sizes, constants; scalar)
end

"""
    crossing(T, condition, parameters, sign)
    steady_state(T, states)

A [`Crossing`](@ref) and a [`SteadyStateCondition`](@ref), for the host to add to a problem.
"""
function crossing(::Type{T}, condition, parameters::Integer, sign::Integer) where {T}
    return Crossing{T}(condition, parameters, sign)
end
steady_state(::Type{T}, states::Integer) where {T} = SteadyStateCondition{T}(states)

"""
    evaluate!(f, out, u, p, t, scalar)

Call a lowered function once; returns the bytes that a further call allocates.
"""
function evaluate!(f, out, u, p, t, scalar::Bool)
    T = eltype(out)
    return evaluate_typed!(f, out, Vector{T}(u), Vector{T}(p), T(t), Val(scalar))
end

function evaluate_typed!(f, out, u, p, t, ::Val{true})
    state = SVector{length(u)}(u)
    copyto!(out, f(state, p, t))
    return allocated_scalar(f, state, p, t)
end
function evaluate_typed!(f, out, u, p, t, ::Val{false})
    own = fill(eltype(u)(NaN), length(out))
    f(own, u, p, t)
    f(own, u, p, t)
    copyto!(out, own)
    return allocated(f, own, u, p, t)
end

# Barriers: what is measured is the call, not the passing of its arguments.
allocated(f::F, out, u, p, t) where {F} = @allocated f(out, u, p, t)
function allocated_scalar(f::F, u, p, t) where {F}
    f(u, p, t)
    return @allocated f(u, p, t)
end
