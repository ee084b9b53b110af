"""
    InPlaceFunction{T, O}(f)

A function `f(out, u, p, t)` behind one type for every model, so that solver code is
compiled once and not for each new field. Calls with vectors of `T` go through a
function wrapper; other element types reach `f` itself.
"""
struct InPlaceFunction{T, O} <: Function
    wrapper::FunctionWrapper{Nothing, Tuple{O, Vector{T}, Vector{T}, T}}
    original::Any
end
function InPlaceFunction{T, O}(f::F) where {T, O, F}
    wrapper = FunctionWrapper{Nothing, Tuple{O, Vector{T}, Vector{T}, T}}(f)
    return InPlaceFunction{T, O}(wrapper, f)
end
function (f::InPlaceFunction{T, O})(
        out::O, u::Vector{T}, p::Vector{T}, t::T) where {T, O}
    return f.wrapper(out, u, p, t)
end
function (f::InPlaceFunction)(out, u, p, t)
    f.original(out, u, p, t)
    return nothing
end

const VectorFunction{T} = InPlaceFunction{T, Vector{T}}
const MatrixFunction{T} = InPlaceFunction{T, Matrix{T}}

"""
    HostFunction(call, T, states, output_size)

A function of the host language, called as `f(out, u, p, t)`.

Time, state and output travel through buffers that both sides see, so that a call
crosses without arguments and makes no arrays. The parameters are the host's own.
"""
struct HostFunction{T, N} <: Function
    call::Any
    time::Vector{T}
    state::Vector{T}
    output::Array{T, N}
end
function HostFunction(call, ::Type{T}, states::Integer, size::Integer...) where {T}
    return HostFunction(call, zeros(T, 1), zeros(T, states), zeros(T, size...))
end
function (f::HostFunction)(out, u, p, t)
    f.time[1] = t
    copyto!(f.state, u)
    f.call()
    copyto!(out, f.output)
    return nothing
end

"""
    model(T, drift, jacobian, time_gradient, mass_matrix = nothing; specialize = false)

The `ODEFunction` of a field with its exact derivatives.

Lowered functions in scalar form make an out-of-place model on static arrays, which is
compiled for this very field. So is, with `specialize`, one in array form: seconds for
the first solve, and no indirection in the ones that follow. Explicit methods do without a
`jacobian`, which is then `nothing`.
"""
function model(::Type{T}, drift, jacobian, time_gradient, mass_matrix = nothing;
        specialize::Bool = false) where {T}
    mass = mass_matrix === nothing ? LinearAlgebra.I : Matrix{T}(mass_matrix)
    if drift isa LoweredScalar
        return ODEFunction{false, SciMLBase.FullSpecialize}(
            drift; jac = jacobian, tgrad = time_gradient, mass_matrix = mass)
    end
    jacobian = something(jacobian, no_jacobian)
    parts = if specialize
        (drift, jacobian, time_gradient)
    else
        (VectorFunction{T}(drift), MatrixFunction{T}(jacobian),
            VectorFunction{T}(time_gradient))
    end
    return ODEFunction{true, SciMLBase.FullSpecialize}(
        parts[1]; jac = parts[2], tgrad = parts[3], mass_matrix = mass)
end
