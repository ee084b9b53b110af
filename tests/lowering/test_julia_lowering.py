"""Lowered functions run in Julia: the values of JAX, and no allocation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from lowering_cases import CASES, LAYERS, PROGRAMS

from hybrid_nds import lowering
from hybrid_nds.backends.julia._evaluate import evaluate_function

# As loops, this nest of a Hessian and a product still allocates; straight it does not.
ALLOCATING_LOOPS = {"program-hessian"}

pytestmark = pytest.mark.julia

# What Julia's own special functions allocate is not lowering's.
ALLOCATING = {"program-incomplete_beta", "program-incomplete_gamma"}


@pytest.mark.parametrize(
    ("form", "unroll"),
    [("array", 1200), ("array", -1), ("scalar", 1200)],
    ids=["straight", "loops", "scalar"],
)
@pytest.mark.parametrize(
    "name", [f"layer-{n}" for n in LAYERS] + [f"program-{n}" for n in PROGRAMS]
)
def test_field_runs_natively(julia, name, form, unroll):
    fn, y, args = CASES[name]()
    u, unravel = ravel_pytree(y)
    if form == "scalar" and u.size > 60:
        pytest.skip("static arrays are for small systems")
    t = jnp.float64(0.7)
    lowered = lowering.lower(fn, t, y, args, form=form, unroll=unroll)
    p = lowering.parameter_vector(fn, args, u.dtype)
    result = evaluate_function(lowered, np.asarray(u), p, 0.7)
    expected = ravel_pytree(fn(t, unravel(u), args))[0]
    # Tens of roundings, condition numbers below a thousand.
    np.testing.assert_allclose(
        result.values, expected, rtol=1e-11, atol=1e-12, equal_nan=True
    )
    looped = form == "array" and unroll < 0
    if name not in ALLOCATING and not (looped and name in ALLOCATING_LOOPS):
        assert result.allocated == 0


@pytest.mark.parametrize("name", ["layer-mlp", "program-attention_particles"])
def test_jacobian_runs_natively(julia, name):
    fn, y, args = CASES[name]()
    u, unravel = ravel_pytree(y)
    t = jnp.float64(0.7)
    lowered = lowering.lower(fn, t, y, args, part="jacobian")
    p = lowering.parameter_vector(fn, args, u.dtype)
    result = evaluate_function(lowered, np.asarray(u), p, 0.7)
    expected = jax.jacfwd(lambda u: ravel_pytree(fn(t, unravel(u), args))[0])(u)
    np.testing.assert_allclose(result.values, expected, rtol=1e-11, atol=1e-12)
    assert result.allocated == 0


def test_a_function_outlives_the_collection_of_garbage(julia):
    evaluate, collect = julia.module.evaluate_lowered, julia.main.GC.gc
    for factor in range(1, 4):
        field = evaluate(
            "function field!(out, u, p, t, w, c)\n"
            f"out[1] = {factor} * u[1]\nreturn nothing\nend"
        )
        collect()
        collect()
        # Other objects take what memory was set free.
        julia.main.seval("[Any[k, string(k)] for k in 1:20_000]")
        out = np.zeros(1)
        field(out, np.array([2.0]), np.zeros(0), 0.0, (), ())
        assert out[0] == 2.0 * factor


SPECIAL = np.array(
    [
        *(0.0, -0.0, 0.3, -0.3, 1.0, -1.0, 2.0, -2.5, 40.0, 1e-300),
        *(9e7, 2e8, 1e9, -1e9, 1e16, 1e155, 1e308, -1e308, np.inf, -np.inf, np.nan),
    ]
)
SPECIAL_FUNCTIONS = {
    name: getattr(jax.scipy.special, name)
    for name in "gammaln digamma i0 i0e i1 i1e erf erfc erfinv".split()
} | {
    "igamma": lambda x: jax.scipy.special.gammainc(jnp.full_like(x, 1.5), x),
    "igammac": lambda x: jax.scipy.special.gammaincc(jnp.full_like(x, 1.5), x),
    "betainc": lambda x: jax.scipy.special.betainc(1.5, 2.5, x),
    "zeta": lambda x: jax.scipy.special.zeta(jnp.full_like(x, 2.5), x),
}
SPECIAL_FUNCTIONS |= {
    f"{name} of single": lambda x, f=SPECIAL_FUNCTIONS[name]: f(
        x.astype(jnp.float32)
    ).astype(x.dtype)
    for name in ("gammaln", "digamma", "i0e", "i1e")
}


@pytest.mark.parametrize("name", SPECIAL_FUNCTIONS)
def test_special_functions_have_the_values_of_jax_everywhere(julia, name):
    # At infinities, poles and large numbers, too: a trial step must not end a solve.
    function = SPECIAL_FUNCTIONS[name]
    y = jnp.asarray(SPECIAL)
    lowered = lowering.lower(lambda t, y, args: function(y), 0.0, y, None)
    found = evaluate_function(lowered, SPECIAL, np.zeros(0), 0.0).values
    expected = np.asarray(function(y))
    # Two implementations, each some units in the last place from the truth; XLA's of
    # double precision are good to 1e-12.
    rtol = 1e-5 if "single" in name else 1e-11
    # JAX's series for zeta ends at zero. At a zero of log Γ what is left is the
    # rounding of its terms, which are of size one.
    atol = 8 * np.finfo(float).eps if name == "gammaln" else 1e-200
    atol = 1e-6 if "single" in name else atol
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)
