# Solves that keep what only they know the size of, every step or dense output: the host
# asks for the size, and then for the numbers.

"""
    KeptSolve(times, states, solution, counts)

What a solve has left: the times kept and the end, with a column of states for each; the
dense output, `nothing` without; and what a compiled program would get of its report, see
[`HybridNDS.counts`](@ref).
"""
struct KeptSolve{T}
    times::Vector{T}
    states::Matrix{T}
    solution::Any
    counts::NTuple{COUNTS, Int64}
end

"""
    kept_solve(shared, operands...)

Solve on this thread, from one array for each operand; see [`Batch`](@ref).
"""
function kept_solve(shared::SharedSolve{T}, operands::Vector{T}...) where {T}
    sizes = [Int64[length(operand)] for operand in operands]
    lane = take_lane!(shared)
    GC.@preserve operands sizes begin
        given = Operand{T}[Operand{T}(pointer(operand), pointer(dims), 0, length(operand))
                           for (operand, dims) in zip(operands, sizes)]
        # Without results: they are read from what was prepared.
        nowhere = Ptr{T}(C_NULL)
        results = Results{T, Int64}(nowhere, nowhere, nowhere, nowhere, C_NULL, nowhere, 0,
            C_NULL, 1)
        batch = Batch(shared, given, results, Watch().before)
        load_lane!(batch, lane, 0)
        solve_lane!(batch, lane.prepared, 0, Watch(nothing, batch.before))
    end
    kept = kept_by(lane.prepared)
    return_lane!(shared, lane)
    return kept
end

function kept_by(prepared::Prepared{T}) where {T}
    report = prepared.report
    ended = report.outcome in (SUCCESS, EVENT)
    ticket = ended ? 0 : remember!(Failure("", prepared.message))
    kept = KeptSolve{T}(prepared.kept_times, prepared.kept_states, prepared.solution,
        counts(report, ticket))
    prepared.solution = nothing
    return kept
end

kept_length(kept::KeptSolve) = length(kept.times)

"""
    copy_kept!(kept, times, states, counts)

Write these to the host's memory, of which the addresses are given.
"""
function copy_kept!(kept::KeptSolve{T}, times::Integer, states::Integer,
        counts::Integer) where {T}
    GC.@preserve kept begin
        unsafe_copyto!(Ptr{T}(times), pointer(kept.times), length(kept.times))
        unsafe_copyto!(Ptr{T}(states), pointer(kept.states), length(kept.states))
    end
    for (k, count) in enumerate(kept.counts)
        unsafe_store!(Ptr{Int64}(counts), count, k)
    end
    return nothing
end

"""
    interpolate_kept!(kept, times, states)

Write the dense output at many times to the host's memory, at the address `states`.
"""
function interpolate_kept!(kept::KeptSolve{T}, times::Vector{T}, states::Integer) where {T}
    values = Matrix{T}(undef, size(kept.states, 1), length(times))
    interpolate!(values, kept.solution, times)
    GC.@preserve values unsafe_copyto!(Ptr{T}(states), pointer(values), length(values))
    return nothing
end
function interpolate!(values::Matrix, solution, times::Vector)
    for k in eachindex(times)
        values[:, k] .= solution(times[k])
    end
    return nothing
end
