# What a solve is asked for and what it tells, by name. A host reads and writes these as
# whole numbers of 64 bits in the order given here, which stands in `_layout.py` of the
# Julia backend of hybrid_nds, too.

"""
    Outcome

How a solve ended: the members of `hybrid_nds.Outcome`, in its order.
"""
@enum Outcome::Int64 begin
    SUCCESS
    EVENT
    MAX_STEPS
    STEP_TOO_SMALL
    NONLINEAR
    UNSTABLE
    INTERRUPTED
    FAILURE
end

"""
    Keep

What a solve keeps beside its end: nothing; the times to save, by interpolation; these
times with a step ending at each; the start and every step; dense output.
"""
@enum Keep::Int64 KEEP_END KEEP_TIMES KEEP_STOPS KEEP_STEPS KEEP_DENSE

"""
    Report()

What a solve tells: how it ended, which event fired (−1 for none), its statistics, and how
many times were saved, with the addresses of these times and their states. The last time
and state are where the solve ended.
"""
mutable struct Report
    outcome::Outcome
    event::Int64
    steps::Int64
    accepted::Int64
    rejected::Int64
    field_evaluations::Int64
    jacobian_evaluations::Int64
    linear_solves::Int64
    count::Int64
    times::Ptr{Cvoid}
    states::Ptr{Cvoid}
end
Report(outcome::Outcome = SUCCESS) = Report(outcome, -1, 0, 0, 0, 0, 0, 0, 0, C_NULL, C_NULL)

"""
    statistics!(report, stats)

Take over what SciML counts in a solve.
"""
function statistics!(report::Report, stats)
    report.steps = stats.naccept + stats.nreject
    report.accepted = stats.naccept
    report.rejected = stats.nreject
    report.field_evaluations = stats.nf
    report.jacobian_evaluations = stats.njacs
    report.linear_solves = stats.nsolve
    return nothing
end

"""
    counts(report, ticket)

What a compiled program gets of a report: all but what was saved, and the number of a
[`Failure`](@ref).
"""
function counts(report::Report, ticket::Int)
    return (Int64(report.outcome), report.event, report.steps, report.accepted,
        report.rejected, report.field_evaluations, report.jacobian_evaluations,
        report.linear_solves, ticket)
end
const COUNTS = 9

"""
    address(array)
    address(report)

Where the memory of an array or a report starts, for the host to view it.
"""
address(array::Array) = Int(pointer(array))
address(report::Report) = Int(pointer_from_objref(report))
