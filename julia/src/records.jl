# The steps of a solve, recorded as it goes: what its derivatives follow from.

"""
    StepRecord{T}(states)

Takes down the accepted steps of a solve in memory of the caller's: a column that begins
with their number and that of the event which ended the solve, zero for none; then for each step a column of its start `t`, its length and the state
there, and at last one of the end, of length zero. Room is for `capacity` steps, of which
no more are written; zero records nothing.
"""
mutable struct StepRecord{T}
    const states::Int
    data::Ptr{T}
    capacity::Int
    count::Int
end
StepRecord{T}(states::Integer) where {T} = StepRecord{T}(Int(states), Ptr{T}(C_NULL), 0, 0)

# How many numbers a record of so many steps takes.
record_size(capacity::Integer, states::Integer) = (capacity + 2) * (states + 2)

function begin_record!(record::StepRecord{T}, data::Ptr{T}, capacity::Int, t::T,
        u) where {T}
    record.data, record.capacity, record.count = data, capacity, 0
    unsafe_store!(data, zero(T), 1)
    unsafe_store!(data, zero(T), 2)
    store_node!(record, t, u)
    return nothing
end

# Where the column of the step after the last one begins.
next_column(record::StepRecord{T}) where {T} = record.data +
                                               (record.count + 1) * (record.states + 2) *
                                               sizeof(T)

function store_node!(record::StepRecord{T}, t, u) where {T}
    record.count <= record.capacity || return nothing
    column = next_column(record)
    unsafe_store!(column, T(t), 1)
    unsafe_store!(column, zero(T), 2)
    for i in 1:(record.states)
        unsafe_store!(column, u[i], i + 2)
    end
    return nothing
end

function store_step!(record::StepRecord{T}, dt, t, u) where {T}
    record.count < record.capacity && unsafe_store!(next_column(record), T(dt), 2)
    record.count += 1
    unsafe_store!(record.data, T(record.count))
    store_node!(record, t, u)
    return nothing
end

"""
    end_record!(record, event)

Note which event ended the solve, counted from zero.
"""
function end_record!(record::StepRecord{T}, event::Int) where {T}
    record.capacity == 0 || unsafe_store!(record.data, T(event + 1), 2)
    return nothing
end

"""
    advance!(integrator, record)

Solve to the end, and record the steps where there is room for them.
"""
function advance!(integrator, record::StepRecord)
    record.capacity == 0 && return SciMLBase.solve!(integrator)
    while !SciMLBase.done(integrator)
        accepted = integrator.stats.naccept
        SciMLBase.step!(integrator)
        integrator.stats.naccept > accepted || continue
        # A step to a given time has the length of the way there, whatever was proposed.
        full = integrator.tprev + integrator.dt == integrator.t
        dt = full ? integrator.dt : integrator.t - integrator.tprev
        store_step!(record, dt, integrator.t, integrator.u)
    end
    if integrator.sol.retcode == ReturnCode.Default
        integrator.sol = SciMLBase.solution_new_retcode(
            integrator.sol, ReturnCode.Success)
    end
    return integrator.sol
end
