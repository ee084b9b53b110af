# The reading end of a pipe into which the host writes a byte when the user presses
# Ctrl-C: no signal handler of the host can run while Julia does, so the pipe is polled
# between steps. It must not block.
const INTERRUPT_DESCRIPTOR = Ref{Cint}(-1)
const POLL_INTERVAL = UInt64(20_000_000) # nanoseconds

# Reading the clock takes as long as a step of a small problem. Where so many steps take
# less than this time, it is read after so many.
const CLOCK_STRIDE, QUICK = 8, UInt64(1_000_000)

# Other signals with a handler of the host write there too: 2 is Ctrl-C.
const INTERRUPT_BYTE = 0x02

# How often Ctrl-C was read: a solve stops when there are more than at its start, and so
# do all others that run.
const INTERRUPTS = Threads.Atomic{Int}(0)

# What was read there: the host may have to pass it on to whoever listened before.
const SIGNALS_READ = UInt8[]
const MOST_SIGNALS_KEPT = 4096

const READING = Threads.SpinLock()
const READ_BUFFER = zeros(UInt8, 64)

"""
    Watch(report = nothing)

Watches a running solve: polls for an interrupt and reports progress, both at most once
in 20 milliseconds. `report` is called with the time reached. What was pressed before the
solve stops nothing.
"""
mutable struct Watch
    const report::Any
    const before::Int
    read::UInt64
    next::UInt64
    left::Int
    interrupted::Bool
end
function Watch(report = nothing)
    read_signals!()
    return Watch(report, INTERRUPTS[])
end
function Watch(report, before::Int)
    now = time_ns()
    return Watch(report, before, now, now + POLL_INTERVAL, 1, false)
end
Watch(watch::Watch) = watch

function poll!(watch::Watch, t)
    watch.left -= 1
    watch.left > 0 && return watch.interrupted
    now = time_ns()
    watch.left = now - watch.read < QUICK ? CLOCK_STRIDE : 1
    watch.read = now
    now < watch.next && return watch.interrupted
    return poll_now!(watch, t, now)
end

@noinline function poll_now!(watch::Watch, t, now)
    watch.next = now + POLL_INTERVAL
    watch.report === nothing || watch.report(Float64(t))
    read_signals!()
    if INTERRUPTS[] > watch.before
        watch.interrupted = true
    end
    return watch.interrupted
end

function read_signals!()
    descriptor = INTERRUPT_DESCRIPTOR[]
    (descriptor >= 0 && trylock(READING)) || return nothing
    room = length(READ_BUFFER)
    while true
        count = @ccall read(
            descriptor::Cint, READ_BUFFER::Ptr{UInt8}, room::Csize_t)::Cssize_t
        length(SIGNALS_READ) > MOST_SIGNALS_KEPT && empty!(SIGNALS_READ)
        for k in 1:count
            push!(SIGNALS_READ, READ_BUFFER[k])
            READ_BUFFER[k] == INTERRUPT_BYTE && Threads.atomic_add!(INTERRUPTS, 1)
        end
        count < room && break
    end
    unlock(READING)
    return nothing
end

"""
    StepCheck(watch)

The check after each step: stop on an interrupt, or where the state is not finite.
"""
struct StepCheck <: Function
    watch::Watch
end
(check::StepCheck)(dt, u, p, t) = poll!(check.watch, t) || !all(isfinite, u)
