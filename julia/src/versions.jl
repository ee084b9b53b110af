"""
    versions()

The versions of Julia and of the packages whose code a solve runs.
"""
function versions()
    modules = (HybridNDS, SciMLBase, parentmodule(Tsit5), parentmodule(Rodas5P),
        parentmodule(Kvaerno5), parentmodule(FBDF))
    found = Dict{String, String}("Julia" => string(VERSION))
    for m in modules
        found[string(nameof(m))] = string(pkgversion(m))
    end
    return found
end
