# Shared solves, made from what a host can hand over: names, numbers and other things
# made here before.

element_type(name::AbstractString) = name == "float32" ? Float32 : Float64

"""
    shared_model(element, drift, jacobian, time_gradient, mass_matrix, specialize)

The [`model`](@ref) of a field with its derivatives; `mass_matrix` may be `nothing`.
"""
function shared_model(element::AbstractString, drift, jacobian, time_gradient,
        mass_matrix, specialize::Bool)
    return model(element_type(element), drift, jacobian, time_gradient, mass_matrix;
        specialize)
end

"""
    shared_sparse_model(element, drift, entries, time_gradient, starts, rows, mass, specialize)

The [`sparse_model`](@ref) of a field; `mass` is [`shared_mass`](@ref) or `nothing`.
"""
function shared_sparse_model(element::AbstractString, drift, entries, time_gradient,
        starts, rows, mass, specialize::Bool)
    T = element_type(element)
    return sparse_model(
        T, drift, entries, time_gradient, sparsity_pattern(T, starts, rows), mass; specialize)
end

function shared_matrix_free_model(element::AbstractString, drift, product, time_gradient,
        mass, specialize::Bool)
    return matrix_free_model(
        element_type(element), drift, product, time_gradient, mass; specialize)
end

"""
    shared_mass(element, states, rows, columns, values)

A mass matrix by its entries, counted from zero.
"""
function shared_mass(element::AbstractString, states::Integer, rows, columns, values)
    return mass_entries(element_type(element), states, rows, columns, values)
end

function shared_stochastic_model(element::AbstractString, drift, jacobian, diffusion,
        matrix::Bool)
    return stochastic_model(element_type(element), drift, jacobian, diffusion, matrix)
end

"""
    EventPlan(condition, parameters, sign, both)

An event to be: a [`Crossing`](@ref) with a condition of that many parameters, or a
[`SteadyStateCondition`](@ref) where `condition` is `nothing`.
"""
struct EventPlan
    condition::Any
    parameters::Int
    sign::Int
    both::Bool
end
event_plans() = EventPlan[]
function plan_crossing!(plans::Vector{EventPlan}, condition, parameters::Integer,
        sign::Integer, both::Bool)
    push!(plans, EventPlan(condition, parameters, sign, both))
    return nothing
end
function plan_steady_state!(plans::Vector{EventPlan})
    push!(plans, EventPlan(nothing, 2, 1, false))
    return nothing
end

event(plan::EventPlan, ::Type{T}, states::Int) where {T} = plan.condition === nothing ?
                                                           SteadyStateCondition{T}(states) :
                                                           Crossing{T}(plan.condition,
    plan.parameters, plan.sign)

"""
    shared_solve(element, model, states, parameters, motions, columns, plans, algorithm,
        keep, max_steps)

The [`SharedSolve`](@ref) of a model; see [`Prepared`](@ref).
"""
function shared_solve(element::AbstractString, model, states::Integer,
        parameters::Integer, motions::Integer, columns::Integer,
        plans::Vector{EventPlan}, algorithm, keep::Integer, max_steps::Integer)
    T = element_type(element)
    function make()
        prepared = Prepared(T, model, states, parameters, motions, columns)
        events = Vector{T}[add_event!(prepared, event(plan, T, Int(states)), plan.both)
                           for plan in plans]
        return Workspace{T, typeof(prepared)}(prepared, events)
    end
    return SharedSolve{T}(make, algorithm, keep, max_steps)
end

merge!(HOST_FUNCTIONS,
    Dict{String, Any}(string(f) => f
    for f in (algorithm, constants, copy_saved!, event_plans, failure_message, forget!,
        interpolate_saved!, saved_length, saved_solve, load_stochastic, lower_source,
        plan_crossing!, plan_steady_state!, push_constant!, references, shared_mass,
        shared_matrix_free_model, shared_model, shared_solve, shared_sparse_model,
        shared_stochastic_model, stochastic_method, stochastic_version)))
