# What a start runs. PackageCompiler records it without precompiled code, so that the
# initialization of every package is in the image.
for name in ("PythonCall", "HybridNDS", "StochasticDiffEq")
    Base.identify_package(name) === nothing || Core.eval(Main, :(import $(Symbol(name))))
end
PythonCall.pyimport("hybrid_nds.runtime").session()
