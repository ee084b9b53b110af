"""One call of a lowered field against hand-written Julia and a callback into JAX.

    python benchmarks/native_field.py

Needs Julia. Prints ratios measured in one run: medians of repeated minima, so that
other work on the machine matters little.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from hybrid_nds import lowering, runtime
from hybrid_nds.backends.julia_fields import FunctionCache

HAND = """
module Hand
using LinearAlgebra
function robertson!(du, u, p, t)
    @inbounds begin
        a = p[1] * u[1]
        b = p[3] * u[2] * u[3]
        c = p[2] * u[2]^2
        du[1] = -a + b
        du[2] = a - b - c
        du[3] = c
    end
    return nothing
end
struct MLP{M, V}
    weights::M
    biases::V
    hidden::V
end
function (f::MLP)(du, u, p, t)
    h = u
    for k in eachindex(f.weights)
        out = k == length(f.weights) ? du : f.hidden[k]
        mul!(out, f.weights[k], h)
        out .+= f.biases[k]
        k == length(f.weights) || (out .= tanh.(out))
        h = out
    end
    return nothing
end
mlp(weights, biases) = MLP(Tuple(Matrix{Float64}(w) for w in weights),
    Tuple(Vector{Float64}(b) for b in biases),
    Tuple(zeros(size(w, 1)) for w in weights))
call(f::F, du, u, p, n) where {F} = for _ in 1:n
    f(du, u, p, 0.0)
end
function nanoseconds(f::F, u, p, n) where {F}
    u, p = Vector{Float64}(u), Vector{Float64}(p)
    du = similar(u)
    call(f, du, u, p, n)
    return minimum(@elapsed(call(f, du, u, p, n)) for _ in 1:30) / n * 1e9
end
end
"""


def main() -> None:
    """Measure and print."""
    jax.config.update("jax_enable_x64", True)
    session = runtime.session()
    session.main.seval(HAND)
    hand = session.main.Hand
    cache = FunctionCache()

    def robertson(t, y, k):
        slow, back, fast = k[0] * y[0], k[2] * y[1] * y[2], k[1] * y[1] ** 2
        return jnp.stack([-slow + back, slow - back - fast, fast])

    rates = jnp.array([0.04, 3e7, 1e4])
    start = np.array([0.9, 3e-5, 0.1])
    rows = [("Robertson", robertson, rates, start, hand.seval("robertson!"))]
    for width in (32, 64):
        mlp = eqx.nn.MLP(3, 3, width, 2, activation=jnp.tanh, key=jax.random.key(0))
        weights = [np.asarray(layer.weight) for layer in mlp.layers]
        biases = [np.asarray(layer.bias) for layer in mlp.layers]
        written = hand.mlp(weights, biases)
        name = f"MLP 3-{width}-{width}-3"
        rows.append((name, lambda t, y, args: args(y), mlp, start, written))
    for name, field, args, u, written in rows:
        lowered = lowering.lower(field, 0.0, jnp.asarray(u), args)
        p = lowering.parameter_vector(field, args, np.float64)
        native = hand.nanoseconds(cache.get(session, lowered), u, p, 2000)
        own = hand.nanoseconds(written, u, p, 2000)
        jitted = jax.jit(lambda y, field=field, args=args: field(0.0, y, args))

        def callback(du, u, p, t, jitted=jitted):
            np.asarray(du)[:] = jitted(np.asarray(u))

        called = hand.nanoseconds(callback, u, p, 200)
        print(
            f"{name}: lowered {native:.1f} ns, {native / own:.2f} of hand-written; "
            f"callback {called / native:.0f} times as long"
        )


if __name__ == "__main__":
    main()
