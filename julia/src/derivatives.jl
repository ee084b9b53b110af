# Derivatives of solves along their recorded steps, for compiled programs and others.

"""
    DifferentiatedEvent{T}(condition, time_gradient, parameters)

The condition g of an event: `condition` is, as of a field, its product for tangents, or
its gradient for adjoints; `time_gradient` is g_t.
"""
struct DifferentiatedEvent{T}
    condition::VectorFunction{T}
    time_gradient::VectorFunction{T}
    parameters::Int
end

"""
    DerivativeWorkspace{T, S, W}(stages, work, slope, state)

What the derivative of one trajectory at a time needs: memory of its steps, and that of
[`Tangents`](@ref) or [`Adjoints`](@ref).
"""
struct DerivativeWorkspace{T, S <: StepMemory{T}, W}
    stages::S
    work::W
    slope::Vector{T}
    state::Vector{T}
end
function DerivativeWorkspace(work, field::StepField{T}, method) where {T}
    memory, own = step_memory(field, method), work(field, stages(method))
    return DerivativeWorkspace(memory, own, zeros(T, field.states), zeros(T, field.states))
end

"""
    SharedDerivative(work, field, method, events, strict)

The tangent or adjoint of a solve, which any number of threads may compute at once; `work`
is [`tangent_work`](@ref) or [`adjoint_work`](@ref). Where it has events, there are an
operand and a result more, of their parameters and of the time of the end. With `strict`
cotangents that are not finite are an error.
"""
struct SharedDerivative{T, F <: StepField{T}, C, L <: DerivativeWorkspace{T}} <:
       SharedCall{T}
    work::Any
    field::F
    method::C
    events::Vector{DifferentiatedEvent{T}}
    strict::Bool
    idle::Vector{L}
    guard::Threads.SpinLock
end
function SharedDerivative(work, field::F, method::C, events::Vector{DifferentiatedEvent{T}},
        strict::Bool) where {T, F <: StepField{T}, C}
    workspace = DerivativeWorkspace(work, field, method)
    return SharedDerivative{T, F, C, typeof(workspace)}(
        work, field, method, events, strict, [workspace], Threads.SpinLock())
end

function take_workspace!(shared::SharedDerivative{T, F, C, L}) where {T, F, C, L}
    lock(shared.guard)
    workspace = isempty(shared.idle) ? nothing : pop!(shared.idle)
    unlock(shared.guard)
    workspace === nothing || return workspace
    return DerivativeWorkspace(shared.work, shared.field, shared.method)::L
end

"""
    DerivativeError(message)

Why a derivative could not be computed.
"""
struct DerivativeError <: Exception
    message::String
end
Base.showerror(io::IO, error::DerivativeError) = print(io, error.message)

"""
    DerivativeBatch

Derivatives of a batch of trajectories on their way. Of `inputs` the first four are the
record of the steps, the parameters, the times saved and the parameters of events, and
along a Brownian path the next three its grid, its increments and its areas; the others,
and all results, hold one vector for each of a number of `directions`.
"""
struct DerivativeBatch{T, D <: SharedDerivative{T}}
    shared::D
    inputs::Vector{Operand{T}}
    results::Vector{Operand{T}}
    directions::Int
    batch::Ptr{Int64}
    trajectories::Int
    before::Int
    next::Threads.Atomic{Int}
    finished::Threads.Atomic{Int}
    failure::Base.RefValue{String}
    guard::Threads.SpinLock
end
trajectories(batch::DerivativeBatch) = batch.trajectories

const RECORD, WEIGHTS, SAVED, CONDITIONS, STEPS, NOISE, LEVY_AREAS = 1:7

# How many operands come before those that a derivative is linear in.
fixed_operands(::DifferentiatedField) = CONDITIONS

# The axes of directions and of a vector are the last two.
function directed_operand(::Type{T}, buffer::Ptr{Cvoid}) where {T}
    flat = operand(T, buffer)
    return Operand{T}(flat.data, flat.dims, flat.leading - 1,
        flat.count * Int(unsafe_load(flat.dims, flat.leading)))
end

@noinline function cross_buffers(shared::D, operands::Ptr{Ptr{Cvoid}}, count::Int64,
        results::Ptr{Ptr{Cvoid}}, result_count::Int64,
        before::Int) where {T, D <: SharedDerivative{T}}
    fixed = fixed_operands(shared.field)
    inputs = Operand{T}[k <= fixed ? operand(T, unsafe_load(operands, k)) :
                       directed_operand(T, unsafe_load(operands, k)) for k in 1:count]
    made = Operand{T}[directed_operand(T, unsafe_load(results, k))
                      for k in 1:result_count]
    batch, leading = made[1].dims, made[1].leading
    total = 1
    for axis in 1:leading
        total *= unsafe_load(batch, axis)
    end
    work = DerivativeBatch{T, D}(shared, inputs, made,
        Int(unsafe_load(batch, leading + 1)), batch, total, before,
        Threads.Atomic{Int}(0), Threads.Atomic{Int}(0), Ref(""), Threads.SpinLock())
    stopped = cross!(work)
    isempty(work.failure[]) || throw(DerivativeError(work.failure[]))
    return stopped
end

function trajectory!(batch::DerivativeBatch, workspace::DerivativeWorkspace, index::Int)
    try
        differentiate!(batch, workspace, index)
    catch error
        message = error isa DerivativeError ? error.message :
                "solve: Julia says of the derivative: $(sprint(showerror, error))."
        lock(batch.guard)
        isempty(batch.failure[]) && (batch.failure[] = message)
        unlock(batch.guard)
    end
    return nothing
end

# An array of this trajectory's, with a column for each direction.
function columns(operand::Operand{T}, batch::DerivativeBatch{T}, index::Int,
        directions::Int = batch.directions) where {T}
    place = operand.data + offset(operand, batch.batch, index) * sizeof(T)
    return unsafe_wrap(Array, place, (operand.count ÷ directions, directions))
end

"""
    steps_of(batch, index)

The record of a trajectory's steps: a matrix of their columns, and their number.
"""
function steps_of(batch::DerivativeBatch{T}, index::Int) where {T}
    record, n = batch.inputs[RECORD], batch.shared.field.states
    place = record.data + offset(record, batch.batch, index) * sizeof(T)
    matrix = unsafe_wrap(Array, place, (n + 2, record.count ÷ (n + 2)))
    count, room = Int(matrix[1, 1]), size(matrix, 2) - 2
    count <= room || throw(DerivativeError(
        "solve: derivatives need all $count steps of the solve, and there is room for " *
        "$room; set `recorded_steps` to $count or more."))
    return view(matrix, :, 2:(count + 2)), count, Int(matrix[2, 1])
end

# The parameters and the times saved, and the columns of the other operands and of results.
function vectors_of(batch::DerivativeBatch, index::Int)
    fixed = fixed_operands(batch.shared.field)
    return vec(columns(batch.inputs[WEIGHTS], batch, index, 1)),
    vec(columns(batch.inputs[SAVED], batch, index, 1)),
    map(one -> columns(one, batch, index), batch.inputs[(fixed + 1):end]),
    map(one -> columns(one, batch, index), batch.results)
end

# Saved times run with the steps; where step `m` begins is nearest to those of its node.
function node_of(time, nodes, m::Int, direction)
    m == 1 && return true
    return direction * time > direction * (nodes[1, m] + nodes[1, m - 1]) / 2
end

function beyond(time, nodes, count::Int, direction)
    last = nodes[1, count + 1]
    return direction * (time - last) > sqrt(eps(one(last))) * abs(last)
end

checked_interrupt(watch::Watch, t) = poll!(watch, t) &&
                                     throw(DerivativeError(INTERRUPTED_MESSAGE))

# Tangents: inputs are those of the start and of the parameters, then perhaps of the span
# and of the saved times, and of the parameters of events; results are those of the saved
# states and of the end, and with events of its time.
function differentiate!(batch::DerivativeBatch{T},
        workspace::DerivativeWorkspace{T, S, W}, index::Int) where {T, S, W <: Tangents{T}}
    field, w, work = batch.shared.field, workspace.stages, workspace.work
    nodes, count, fired = steps_of(batch, index)
    p, times, inputs, results = vectors_of(batch, index)
    δstart, δp = inputs[1], inputs[2]
    states, ends = results[1], results[2]
    n, u, timed = field.states, workspace.state, length(inputs) > 3
    watch = Watch(nothing, batch.before)
    direction = sign(nodes[1, count + 1] - nodes[1, 1])
    fill!(states, zero(T))
    copyto!(ends, δstart)
    # One direction fills its vectors once.
    single = batch.directions == 1
    single && along_parameters!(work, view(δp, :, 1))
    if timed
        slope!(workspace, field, nodes, p, 1)
        for q in 1:(batch.directions)
            view(ends, :, q) .-= workspace.slope .* inputs[3][1, q]
        end
    end
    k = 1
    for m in 1:(count + 1)
        while k <= length(times) && !beyond(times[k], nodes, count, direction) &&
            (m > count || !node_of(times[k], nodes, m + 1, direction))
            timed && slope!(workspace, field, nodes, p, m)
            for q in 1:(batch.directions)
                saved = view(states, ((k - 1) * n + 1):(k * n), q)
                copyto!(saved, view(ends, :, q))
                timed && (saved .+= workspace.slope .* inputs[4][k, q])
            end
            k += 1
        end
        m > count && break
        checked_interrupt(watch, nodes[1, m])
        copyto!(u, view(nodes, 3:(n + 2), m))
        t, dt = nodes[1, m], nodes[2, m]
        load_step!(w, batch, index, m)
        take_step!(w, field, u, p, t, dt)
        for q in 1:(batch.directions)
            single || along_parameters!(work, view(δp, :, q))
            push_step!(view(ends, :, q), work, w, field, u, p, t, dt)
        end
    end
    isempty(batch.shared.events) || fill!(results[3], zero(T))
    if timed || fired > 0
        slope!(workspace, field, nodes, p, count + 1)
        for q in 1:(batch.directions)
            δend = view(ends, :, q)
            moved = fired > 0 ?
                    event_tangent(batch, workspace, index, fired, nodes[1, count + 1],
                δend, view(inputs[end], :, q)) : inputs[3][2, q]
            δend .+= workspace.slope .* moved
            isempty(batch.shared.events) || (results[3][1, q] = moved)
        end
    end
    return nothing
end

# The parameters of one event among those of all.
function event_range(shared::SharedDerivative, event::Int)
    before = sum(one -> one.parameters, view(shared.events, 1:(event - 1)); init = 0)
    return (before + 1):(before + shared.events[event].parameters)
end

function checked_speed(speed, terms, t)
    abs(speed) > cbrt(eps(one(speed))) * terms || throw(DerivativeError(
        "solve: at the event at t = $t its condition has no slope in time: the solution " *
        "touches zero without crossing it, and the event's time has no derivative; move " *
        "the condition, or leave `event` out."))
    return speed
end

# The tangent of the time of an event from that of the state at a fixed time: what keeps
# g(t, y, p) = 0. The state at the end is `workspace.state`, its slope `workspace.slope`.
function event_tangent(batch::DerivativeBatch{T}, workspace::DerivativeWorkspace{T},
        index::Int, fired::Int, t, δ, δp) where {T}
    shared = batch.shared
    event, range = shared.events[fired], event_range(shared, fired)
    p = columns(batch.inputs[CONDITIONS], batch, index, 1)[range, 1]
    value = zeros(T, 1)
    function product(δy, δp)
        event.condition(value, vcat(workspace.state, δy, δp), p, t)
        return value[1]
    end
    event.time_gradient(value, workspace.state, p, t)
    by_time = value[1]
    along = product(workspace.slope, zero(p))
    speed = checked_speed(by_time + along, abs(by_time) + abs(along), t)
    return -product(δ, δp[range]) / speed
end

# The transpose: from the cotangent of the event's time to those of the state and of the
# parameters of events.
function event_cotangent!(λ, p̄, batch::DerivativeBatch{T},
        workspace::DerivativeWorkspace{T}, index::Int, fired::Int, t, cotangent) where {T}
    shared, n = batch.shared, batch.shared.field.states
    event, range = shared.events[fired], event_range(shared, fired)
    p = columns(batch.inputs[CONDITIONS], batch, index, 1)[range, 1]
    gradient, value = zeros(T, n + length(p)), zeros(T, 1)
    event.condition(gradient, vcat(workspace.state, one(T)), p, t)
    event.time_gradient(value, workspace.state, p, t)
    by_state = view(gradient, 1:n)
    along = dot(by_state, workspace.slope)
    speed = checked_speed(value[1] + along, abs(value[1]) + abs(along), t)
    λ .-= (cotangent / speed) .* by_state
    view(p̄, range) .-= (cotangent / speed) .* view(gradient, (n + 1):length(gradient))
    return nothing
end

# dy/dt at a node.
function slope!(lane::DerivativeWorkspace, field::DifferentiatedField, nodes, p, m::Int)
    copyto!(lane.state, view(nodes, 3:(field.states + 2), m))
    field.field(lane.slope, lane.state, p, nodes[1, m])
    divide_by_mass!(lane.slope, field.mass)
    return lane.slope
end

function check_cotangent(shared::SharedDerivative, cotangent)
    (!shared.strict || all(isfinite, cotangent)) || throw(DerivativeError(
        "solve: the derivative of the loss by the solution is NaN or infinite, so that " *
        "there is none by what was solved; look at the loss, or pass `throw=False` for " *
        "NaN in its place."))
    return nothing
end

# Adjoints: inputs are cotangents of the saved states and of the end, and with events of its
# time; results those of the start and of the parameters, then perhaps of the span and of the
# saved times, and with events of their parameters.
function differentiate!(batch::DerivativeBatch{T},
        workspace::DerivativeWorkspace{T, S, W}, index::Int) where {T, S, W <: Adjoints{T}}
    field, w, work = batch.shared.field, workspace.stages, workspace.work
    nodes, count, fired = steps_of(batch, index)
    p, times, inputs, results = vectors_of(batch, index)
    states, ends = inputs[1], inputs[2]
    λ, p̄ = results[1], results[2]
    n, u, timed = field.states, workspace.state, length(results) > 3
    foreach(one -> check_cotangent(batch.shared, one), inputs[2:end])
    watch = Watch(nothing, batch.before)
    direction = sign(nodes[1, count + 1] - nodes[1, 1])
    foreach(result -> fill!(result, zero(T)), results)
    copyto!(λ, ends)
    if timed || fired > 0
        slope!(workspace, field, nodes, p, count + 1)
        for q in 1:(batch.directions)
            moved = dot(workspace.slope, view(ends, :, q))
            isempty(batch.shared.events) || (moved += inputs[3][1, q])
            if fired > 0
                event_cotangent!(view(λ, :, q), view(results[end], :, q), batch, workspace,
                    index, fired, nodes[1, count + 1], moved)
            else
                results[3][2, q] = moved
            end
        end
    end
    k = length(times)
    while k >= 1 && beyond(times[k], nodes, count, direction)
        k -= 1
    end
    for m in (count + 1):-1:1
        while k >= 1 && node_of(times[k], nodes, m, direction)
            timed && slope!(workspace, field, nodes, p, m)
            for q in 1:(batch.directions)
                saved = view(states, ((k - 1) * n + 1):(k * n), q)
                check_cotangent(batch.shared, saved)
                view(λ, :, q) .+= saved
                timed && (results[4][k, q] = dot(workspace.slope, saved))
            end
            k -= 1
        end
        m == 1 && break
        checked_interrupt(watch, nodes[1, m])
        copyto!(u, view(nodes, 3:(n + 2), m - 1))
        t, dt = nodes[1, m - 1], nodes[2, m - 1]
        load_step!(w, batch, index, m - 1)
        take_step!(w, field, u, p, t, dt)
        for q in 1:(batch.directions)
            pull_step!(view(λ, :, q), view(p̄, :, q), work, w, field, u, p, t, dt)
        end
    end
    if timed
        slope!(workspace, field, nodes, p, 1)
        for q in 1:(batch.directions)
            results[3][1, q] = -dot(workspace.slope, view(λ, :, q))
        end
    end
    return nothing
end

"""
    shared_derivative(element, reverse, field, jacobian, time_gradient, first, second, mass,
        states, parameters, contracted, algorithm, events, strict)

The [`SharedDerivative`](@ref) of solves with an algorithm: the adjoint with `reverse`,
else the tangent. The Jacobian is a function, [`shared_pattern_jacobian`](@ref), or
`nothing`, and `mass` a matrix, [`shared_mass`](@ref), or `nothing`; `second` may be `nothing`,
and `events` are from [`differentiate_event!`](@ref).
"""
function shared_derivative(element::AbstractString, reverse::Bool, field, jacobian,
        time_gradient, first, second, mass, states::Integer, parameters::Integer,
        contracted::Bool, algorithm, events::Vector{Any}, strict::Bool)
    T = element_type(element)
    differentiated = DifferentiatedField{T}(
        VectorFunction{T}(field), differentiated_jacobian(T, jacobian),
        VectorFunction{T}(time_gradient), VectorFunction{T}(first),
        second === nothing ? nothing : VectorFunction{T}(second),
        mass isa Matrix ? Matrix{T}(mass) : mass, Int(states), Int(parameters), contracted)
    conditions = DifferentiatedEvent{T}[
        DifferentiatedEvent{T}(VectorFunction{T}(condition), VectorFunction{T}(slope), parameters) for (condition, slope, parameters) in events]
    return SharedDerivative(reverse ? adjoint_work : tangent_work, differentiated,
        coefficients(T, algorithm), conditions, strict)
end

differentiated_jacobian(::Type{T}, jacobian) where {T} = MatrixFunction{T}(jacobian)
differentiated_jacobian(::Type, jacobian::Union{Nothing, PatternJacobian}) = jacobian

"""
    shared_pattern_jacobian(element, entries, starts, rows, mass)

A [`PatternJacobian`](@ref), of a pattern as in [`sparsity_pattern`](@ref); `mass` is
[`shared_mass`](@ref) or `nothing`.
"""
function shared_pattern_jacobian(element::AbstractString, entries, starts, rows, mass)
    T = element_type(element)
    return PatternJacobian{T}(entries, sparsity_pattern(T, starts, rows), mass)
end

"""
    differentiate_event!(events, condition, time_gradient, parameters)

Append an event, of so many parameters, to a list of [`differentiated_events`](@ref).
"""
function differentiate_event!(events::Vector{Any}, condition, time_gradient,
        parameters::Integer)
    push!(events, (condition, time_gradient, Int(parameters)))
    return nothing
end
differentiated_events() = Any[]

"""
    stage_count(algorithm)

How many stages a step of an algorithm has.
"""
stage_count(algorithm) = stages(coefficients(Float64, algorithm))

"""
    second_derivatives(algorithm)

Whether a step has derivatives of the field in it, so that its own are second ones.
"""
second_derivatives(algorithm) = Int(coefficients(Float64, algorithm) isa Rosenbrock)

merge!(HOST_FUNCTIONS,
    Dict{String, Any}(string(f) => f
    for f in (differentiate_event!, differentiated_events, second_derivatives,
        shared_derivative, shared_pattern_jacobian, stage_count)))
