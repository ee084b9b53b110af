# Solves that other programs call, compiled JAX programs first of all: from any thread,
# several at once, with every number in memory of the caller's.

"""
    Workspace{T, P}(prepared, events)

A prepared problem for one trajectory at a time, and the parameters of its events.
"""
struct Workspace{T, P}
    prepared::P
    events::Vector{Vector{T}}
end

"""
    SharedCall{T}

What compiled programs call by number, with arrays of `T`.
"""
abstract type SharedCall{T} end

"""
    SharedSolve(make, algorithm, keep, max_steps)

A solve that any number of threads may run at once; `make()` gives a [`Workspace`](@ref),
which a trajectory has for itself while it is solved.
"""
struct SharedSolve{T} <: SharedCall{T}
    make::Any
    algorithm::Any
    keep::Keep
    max_steps::Int
    idle::Vector{Workspace{T}}
    guard::Threads.SpinLock
end
function SharedSolve{T}(make, algorithm, keep::Integer, max_steps::Integer) where {T}
    return SharedSolve{T}(
        make, algorithm, Keep(keep), Int(max_steps), Workspace{T}[], Threads.SpinLock())
end

function take_workspace!(shared::SharedSolve{T}) where {T}
    lock(shared.guard)
    workspace = isempty(shared.idle) ? nothing : pop!(shared.idle)
    unlock(shared.guard)
    return workspace === nothing ? shared.make()::Workspace{T} : workspace
end

function return_workspace!(shared::SharedCall, workspace)
    lock(shared.guard)
    push!(shared.idle, workspace)
    unlock(shared.guard)
    return nothing
end

"""
    Operand{T}(data, dims, leading, count)

An array of the caller's with `count` numbers for each trajectory. Of its dimensions `dims`
the first `leading` are those of the batch, or 1 where it is the same for all.
"""
struct Operand{T}
    data::Ptr{T}
    dims::Ptr{Int64}
    leading::Int
    count::Int
end

# The position of the numbers of a trajectory, both counted from zero.
function offset(operand::Operand, batch::Ptr{Int64}, index::Int)
    remainder, position, stride = index, 0, operand.count
    for axis in operand.leading:-1:1
        size, own = unsafe_load(batch, axis), unsafe_load(operand.dims, axis)
        if own != 1
            position += (remainder % size) * stride
            stride *= own
        end
        remainder ÷= size
    end
    return position
end

# The operands, in this order; a path has the last three.
const START, PARAMETERS, SPAN, ABSOLUTE, TIMES, EVENTS, GRID, INCREMENTS, AREAS = 1:9

"""
    Results{T, I}(times, states, end_time, end_state, counts, record, room, batch,
        trajectories)

Where results go, one trajectory behind the other; see [`HybridNDS.counts`](@ref). `record`
takes the steps, where there is room for that many numbers of them.
"""
struct Results{T, I}
    times::Ptr{T}
    states::Ptr{T}
    end_time::Ptr{T}
    end_state::Ptr{T}
    counts::Ptr{I}
    record::Ptr{T}
    room::Int
    batch::Ptr{Int64}
    trajectories::Int
end

"""
    Batch(shared, operands, results, before)

A batch of trajectories on its way; `before` is how many interrupts there were before.
"""
struct Batch{T, I}
    shared::SharedSolve{T}
    operands::Vector{Operand{T}}
    results::Results{T, I}
    before::Int
    next::Threads.Atomic{Int}
    finished::Threads.Atomic{Int}
end
function Batch(shared::SharedSolve{T}, operands::Vector{Operand{T}},
        results::Results{T, I}, before::Int) where {T, I}
    return Batch{T, I}(shared, operands, results, before, Threads.Atomic{Int}(0),
        Threads.Atomic{Int}(0))
end

"""
    cross!(batch)

Run all trajectories, on this thread and on Julia's own; returns whether an interrupt
stopped them. Trajectories that fail leave the others alone.
"""
function cross!(batch)
    count = trajectories(batch)
    for _ in 2:min(count, Threads.nthreads())
        Threads.@spawn work_off!(batch)
    end
    work_off!(batch)
    # What others have begun; a task that has not must find nothing left to do.
    spins = 0
    while batch.finished[] < count
        GC.safepoint()
        spins += 1
        spins < 1000 ? @ccall(jl_cpu_pause()::Cvoid) : Libc.systemsleep(2.0e-5)
    end
    return INTERRUPTS[] > batch.before
end

trajectories(batch::Batch) = batch.results.trajectories

function work_off!(batch)
    count = trajectories(batch)
    batch.next[] < count || return nothing
    workspace = take_workspace!(batch.shared)
    while (index = Threads.atomic_add!(batch.next, 1)) < count
        trajectory!(batch, workspace, index)
        Threads.atomic_add!(batch.finished, 1)
        GC.safepoint()
    end
    return_workspace!(batch.shared, workspace)
    return nothing
end

function trajectory!(batch::Batch{T}, workspace::Workspace{T}, index::Int) where {T}
    prepared = workspace.prepared
    try
        watch = Watch(nothing, batch.before)
        if INTERRUPTS[] > batch.before
            abandon!(batch, prepared, index, INTERRUPTED, Failure("", ""))
            return nothing
        end
        load_trajectory!(batch, workspace, index)
        solve_trajectory!(batch, prepared, index, watch)
        store!(batch, prepared, index)
    catch error
        kind = string(nameof(typeof(error)))
        message = sprint(showerror, error)
        abandon!(batch, prepared, index, FAILURE, Failure(kind, message))
    end
    return nothing
end

function load_trajectory!(batch::Batch, workspace::Workspace, index::Int)
    prepared = workspace.prepared
    load!(prepared.start, batch, START, index)
    load!(prepared.parameters, batch, PARAMETERS, index)
    load_times!(prepared, batch, index)
    begin_record!(batch, prepared, index)
    source = pointer_of(batch, EVENTS, index)
    for parameters in workspace.events
        GC.@preserve parameters unsafe_copyto!(
            pointer(parameters), source, length(parameters))
        source += sizeof(parameters)
    end
    return nothing
end

function pointer_of(batch::Batch{T}, which::Int, index::Int) where {T}
    operand = batch.operands[which]
    return operand.data + offset(operand, batch.results.batch, index) * sizeof(T)
end

function load!(target::Array{T}, batch::Batch{T}, which::Int, index::Int) where {T}
    GC.@preserve target unsafe_copyto!(
        pointer(target), pointer_of(batch, which, index), length(target))
    return target
end

function load_times!(prepared, batch::Batch, index::Int)
    count = batch.operands[TIMES].count
    length(prepared.times) == count || resize_times!(prepared, count)
    load!(prepared.times, batch, TIMES, index)
    return nothing
end

begin_record!(batch::Batch, prepared, index::Int) = nothing
function begin_record!(batch::Batch{T}, prepared::Prepared{T}, index::Int) where {T}
    record, results, n = prepared.steps, batch.results, length(prepared.start)
    record.capacity = 0
    results.room == 0 && return nothing
    data = results.record + index * results.room * sizeof(T)
    start = unsafe_load(pointer_of(batch, SPAN, index))
    begin_record!(record, data, results.room ÷ (n + 2) - 2, start, prepared.start)
    return nothing
end

# One number for all components, or one for each.
function tolerance(batch::Batch{T}, index::Int) where {T}
    count = batch.operands[ABSOLUTE].count
    count == 1 && return unsafe_load(pointer_of(batch, ABSOLUTE, index))
    return load!(Vector{T}(undef, count), batch, ABSOLUTE, index)
end

function solve_trajectory!(batch::Batch, prepared, index::Int, watch::Watch)
    shared, span = batch.shared, pointer_of(batch, SPAN, index)
    t0, t1, rtol, dt = ntuple(k -> unsafe_load(span, k), 4)
    load_path!(prepared, prepared.path, batch, index)
    solve!(prepared, shared.algorithm, t0, t1, rtol, tolerance(batch, index), dt,
        shared.keep, shared.max_steps, watch)
    return nothing
end

load_path!(prepared, ::Nothing, batch::Batch, index::Int) = nothing
function load_path!(prepared, path::NoisePath, batch::Batch, index::Int)
    steps = batch.operands[GRID].count - 1
    areas = batch.operands[AREAS].count > 0
    if length(path.grid) != steps + 1 || isempty(path.areas) == areas
        resize_path!(prepared, steps, areas)
    end
    load!(path.grid, batch, GRID, index)
    load!(path.increments, batch, INCREMENTS, index)
    load!(path.areas, batch, AREAS, index)
    return nothing
end

function store!(batch::Batch{T}, prepared, index::Int) where {T}
    results, report = batch.results, prepared.report
    times, n = length(prepared.times), length(prepared.start)
    saved = report.count - 1
    for k in 1:times
        # A solve that ends early may keep its last time, which was not asked for.
        reached = k <= saved && prepared.saved_times[k] ≈ prepared.times[k]
        unsafe_store!(results.times, reached ? prepared.saved_times[k] : T(Inf),
            index * times + k)
        for i in 1:n
            unsafe_store!(results.states, reached ? prepared.saved_states[i, k] : T(Inf),
                (index * times + k - 1) * n + i)
        end
    end
    unsafe_store!(results.end_time, prepared.saved_times[end], index + 1)
    for i in 1:n
        unsafe_store!(results.end_state, prepared.saved_states[i, end], index * n + i)
    end
    ended = report.outcome in (SUCCESS, EVENT)
    ticket = ended ? 0 : record_failure!(Failure("", prepared.message))
    store_counts!(results, index, report, ticket)
    return nothing
end

function store_counts!(
        results::Results{T, I}, index::Int, report::Report, ticket::Int) where {T, I}
    for (k, count) in enumerate(counts(report, ticket))
        unsafe_store!(results.counts, count % I, index * COUNTS + k)
    end
    return nothing
end

# A trajectory of which nothing is known but where it began.
function abandon!(batch::Batch{T}, prepared, index::Int, code::Outcome, failure) where {T}
    results, n = batch.results, length(prepared.start)
    times = batch.operands[TIMES].count
    for k in 1:times
        unsafe_store!(results.times, T(Inf), index * times + k)
    end
    for k in 1:(times * n)
        unsafe_store!(results.states, T(Inf), index * times * n + k)
    end
    unsafe_store!(results.end_time, unsafe_load(pointer_of(batch, SPAN, index)), index + 1)
    unsafe_copyto!(results.end_state + index * n * sizeof(T),
        pointer_of(batch, START, index), n)
    store_counts!(results, index, Report(code), record_failure!(failure))
    return nothing
end

"""
    Failure(kind, message)

What Julia says of a solve that failed; `kind` is the type of the exception that ended it,
empty where the solver stopped by itself.
"""
struct Failure
    kind::String
    message::String
end

# The last failures by number: a compiled program carries the number alone.
const FAILURES = Vector{Failure}(undef, 4096)
const FAILURES_SEEN = Threads.Atomic{Int}(0)

function record_failure!(failure::Failure)
    ticket = Threads.atomic_add!(FAILURES_SEEN, 1) % length(FAILURES) + 1
    FAILURES[ticket] = failure
    return ticket
end

"""
    failure_message(ticket)

The failure of this number: the kind, a line break, and the message.
"""
function failure_message(ticket::Integer)
    failure = FAILURES[ticket]
    return failure.kind * "\n" * failure.message
end
