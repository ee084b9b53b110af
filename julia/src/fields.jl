"""
    InPlaceFunction{T}(f)

A function `f(out, u, p, t)` behind one type for every model, so that solver code is
compiled once and not for each new field. Calls with vectors of `T` go through a
function wrapper; a Jacobian writes to a matrix.
"""
struct InPlaceFunction{T, O} <: Function
    wrapper::FunctionWrapper{Nothing, Tuple{O, Vector{T}, Vector{T}, T}}
    original::Any
end
function InPlaceFunction{T, O}(f::F) where {T, O, F}
    return InPlaceFunction{T, O}(
        FunctionWrapper{Nothing, Tuple{O, Vector{T}, Vector{T}, T}}(f), f)
end
(f::InPlaceFunction{T, O})(out::O, u::Vector{T}, p::Vector{T}, t::T) where {T, O} = f.wrapper(
    out, u, p, t)
function (f::InPlaceFunction)(out, u, p, t)
    f.original(out, u, p, t)
    return nothing
end

const VectorFunction{T} = InPlaceFunction{T, Vector{T}}
const MatrixFunction{T} = InPlaceFunction{T, Matrix{T}}

"""
    model(T, drift, jacobian, time_gradient, mass_matrix; specialize = false)

The `ODEFunction` of a field with its exact derivatives.

With `specialize` the solver is compiled for this very field: seconds for the first
solve, and no indirection in the ones that follow.
"""
function model(::Type{T}, drift, jacobian, time_gradient, mass_matrix;
        specialize::Bool = false) where {T}
    mass = mass_matrix === nothing ? LinearAlgebra.I : Matrix{T}(mass_matrix)
    specialize && return ODEFunction{true, SciMLBase.FullSpecialize}(
        drift; jac = jacobian, tgrad = time_gradient, mass_matrix = mass)
    return ODEFunction{true, SciMLBase.FullSpecialize}(
        VectorFunction{T}(drift); jac = MatrixFunction{T}(jacobian),
        tgrad = VectorFunction{T}(time_gradient), mass_matrix = mass)
end
