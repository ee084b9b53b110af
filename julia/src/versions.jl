"""
    versions()

The versions of Julia and of the packages whose code a solve runs, as one text of lines
`name=version`: a host language reads it without code for Julia's collections.
"""
function versions()
    modules = (HybridNDS, SciMLBase, parentmodule(Tsit5), parentmodule(Rodas5P),
        parentmodule(Kvaerno5), parentmodule(FBDF))
    lines = ["Julia=$VERSION"]
    for m in modules
        push!(lines, "$(nameof(m))=$(pkgversion(m))")
    end
    return join(lines, '\n')
end

"""
    opened(descriptor)

Let solves poll a file descriptor of the host for interrupts, and say what the host must
know of this Julia: the number of threads, the [`entry_addresses`](@ref) and those of the
garbage collector's states (see [`gc_state_address`](@ref)), then [`versions`](@ref). One
text of lines `name=value`, since what a host does by wrappers of Julia's objects is
compiled in each process.
"""
function opened(descriptor::Integer)
    watch_interrupts(descriptor)
    call, solve, ffi, forked = entry_addresses()
    enter = gc_state_address("jl_gc_safe_enter")
    leave = gc_state_address("jl_gc_safe_leave")
    return string("threads=", Threads.nthreads(), "\ncall=", call, "\nsolve=", solve,
        "\nffi=", ffi, "\nforked=", forked, "\nenter=", enter, "\nleave=", leave, '\n',
        versions())
end
