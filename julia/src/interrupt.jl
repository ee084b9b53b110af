# The reading end of a pipe into which the host writes a byte when the user presses
# Ctrl-C: no signal handler of the host can run while Julia does, so the pipe is polled
# between steps. It must not block.
const INTERRUPT_DESCRIPTOR = Ref{Cint}(-1)
const POLL_INTERVAL = UInt64(20_000_000) # nanoseconds

# What was read there: the host may have to pass it on to whoever listened before.
const SIGNALS_READ = UInt8[]

"""
    Watch(report = nothing)

Watches a running solve: polls for an interrupt and reports progress, both at most once
in 20 milliseconds. `report` is called with the time reached.
"""
mutable struct Watch
    const report::Any
    next::UInt64
    interrupted::Bool
end
Watch(report = nothing) = Watch(report, time_ns() + POLL_INTERVAL, false)

function poll!(watch::Watch, t)
    now = time_ns()
    now < watch.next && return watch.interrupted
    return poll_now!(watch, t, now)
end

@noinline function poll_now!(watch::Watch, t, now)
    watch.next = now + POLL_INTERVAL
    watch.report === nothing || watch.report(Float64(t))
    descriptor = INTERRUPT_DESCRIPTOR[]
    if descriptor >= 0
        byte = Ref{UInt8}(0)
        count = ccall(:read, Cssize_t, (Cint, Ref{UInt8}, Csize_t), descriptor, byte, 1)
        if count == 1
            push!(SIGNALS_READ, byte[])
            # Other signals with a handler of the host write here too: 2 is Ctrl-C.
            byte[] == 0x02 && (watch.interrupted = true)
        end
    end
    return watch.interrupted
end

"""
    StepCheck(watch)

The check after each step: stop on an interrupt, or where the state is not finite.
"""
struct StepCheck <: Function
    watch::Watch
end
(check::StepCheck)(dt, u, p, t) = poll!(check.watch, t) || !all(isfinite, u)
