"""Loops of a few passes written out: the same values, and no loop is left."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds.backends.diffrax._unroll import MOST_PASSES, unrolled


def horner(coefficients, x, passes):
    """A polynomial by a loop, and its branch by an index that is known."""

    def body(carry):
        k, value = carry
        step = [lambda: value * x + coefficients[k], lambda: value * x]
        return k + 1, jax.lax.switch(k % 2, step)

    return jax.lax.while_loop(lambda c: c[0] < passes, body, (0, jnp.zeros_like(x)))[1]


def loops(function, *arguments):
    text = str(jax.make_jaxpr(function)(*arguments))
    return "while[" in text, "cond[" in text


@pytest.mark.parametrize("passes", range(MOST_PASSES + 3))
def test_values_and_derivatives_are_those_of_the_loop(passes):
    coefficients, x = jnp.arange(1.0, 9.0), jnp.linspace(-1.0, 1.0, 5)
    written = lambda x: unrolled(lambda c, x: horner(c, x, passes), coefficients, x)
    kept = coefficients[:passes] * (np.arange(passes) % 2 == 0)
    expected = np.polyval(kept, np.asarray(x)) if passes else np.zeros(5)
    np.testing.assert_allclose(written(x), expected, rtol=1e-15, atol=1e-15)
    few = passes <= MOST_PASSES
    assert loops(written, x) == (not few, not few)
    if few and passes:
        slope = jax.jit(jax.vmap(jax.grad(lambda x: written(x).sum())))(x)
        exact = np.polyval(np.polyder(kept), np.asarray(x))
        np.testing.assert_allclose(slope, exact, rtol=1e-14, atol=1e-14)


def test_a_loop_whose_end_depends_on_values_stays():
    halve = lambda x: unrolled(
        lambda x: jax.lax.while_loop(lambda x: x > 1.0, lambda x: x / 2, x), x
    )
    assert loops(halve, 5.0)[0]
    assert float(halve(jnp.asarray(5.0))) == 0.625


def test_what_is_no_array_passes_through():
    found = unrolled(lambda x, name: {name: x + 1, "kind": name}, jnp.zeros(2), "one")
    assert found["kind"] == "one"
    np.testing.assert_array_equal(found["one"], [1.0, 1.0])
