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
