# Solves that save what only they know the size of, every step or dense output: the host
# asks for the size, and then for the numbers.

"""
    SavedSolve(times, states, solution, counts)

What a solve has left: the times saved and the end, with a column of states for each; the
dense output, `nothing` without; and what a compiled program would get of its report, see
[`HybridNDS.counts`](@ref).
"""
struct SavedSolve{T}
    times::Vector{T}
    states::Matrix{T}
    solution::Any
    counts::NTuple{COUNTS, Int64}
end

"""
    saved_solve(shared, operands...)

Solve on this thread, from one array for each operand; see [`Batch`](@ref).
"""
function saved_solve(shared::SharedSolve{T}, operands::Vector{T}...) where {T}
    sizes = [Int64[length(operand)] for operand in operands]
    workspace = take_workspace!(shared)
    GC.@preserve operands sizes begin
        inputs = Operand{T}[Operand{T}(pointer(operand), pointer(dims), 0, length(operand))
                           for (operand, dims) in zip(operands, sizes)]
        # Without results: they are read from what was prepared.
        nowhere = Ptr{T}(C_NULL)
        results = Results{T, Int64}(nowhere, nowhere, nowhere, nowhere, C_NULL, nowhere, 0,
            C_NULL, 1)
        batch = Batch(shared, inputs, results, Watch().before)
        load_trajectory!(batch, workspace, 0)
        solve_trajectory!(batch, workspace.prepared, 0, Watch(nothing, batch.before))
    end
    saved = saved_by(workspace.prepared)
    return_workspace!(shared, workspace)
    return saved
end

function saved_by(prepared::Prepared{T}) where {T}
    report = prepared.report
    ended = report.outcome in (SUCCESS, EVENT)
    ticket = ended ? 0 : record_failure!(Failure("", prepared.message))
    saved = SavedSolve{T}(prepared.saved_times, prepared.saved_states, prepared.solution,
        counts(report, ticket))
    prepared.solution = nothing
    return saved
end

saved_length(saved::SavedSolve) = length(saved.times)

"""
    copy_saved!(saved, times, states, counts)

Write these to the host's memory, at these addresses.
"""
function copy_saved!(saved::SavedSolve{T}, times::Integer, states::Integer,
        counts::Integer) where {T}
    GC.@preserve saved begin
        unsafe_copyto!(Ptr{T}(times), pointer(saved.times), length(saved.times))
        unsafe_copyto!(Ptr{T}(states), pointer(saved.states), length(saved.states))
    end
    for (k, count) in enumerate(saved.counts)
        unsafe_store!(Ptr{Int64}(counts), count, k)
    end
    return nothing
end

"""
    interpolate_saved!(saved, times, states)

Write the dense output at many times to the host's memory, at the address `states`.
"""
function interpolate_saved!(
        saved::SavedSolve{T}, times::Vector{T}, states::Integer) where {T}
    values = Matrix{T}(undef, size(saved.states, 1), length(times))
    interpolate!(values, saved.solution, times)
    GC.@preserve values unsafe_copyto!(Ptr{T}(states), pointer(values), length(values))
    return nothing
end
function interpolate!(values::Matrix, solution, times::Vector)
    for k in eachindex(times)
        values[:, k] .= solution(times[k])
    end
    return nothing
end
