"""Many random draws, in batches where memory asks for it."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from hybrid_nds.discretization import _draws, depth_scaling


def largest(function):
    return _draws.largest_array(jax.make_jaxpr(function)(jr.key(0)).jaxpr)


def layers(depth, key):
    """Independent weights, and a loop over them."""
    weights = jr.normal(key, (depth, 3, 3)) / 3

    def layer(x, w):
        return x + w @ jnp.tanh(x) / depth, None

    return jax.lax.scan(layer, jnp.ones(3), weights)[0]


@pytest.mark.parametrize("depth", [5, 200])
def test_the_largest_array_is_that_of_the_weights(depth):
    # In double precision, 72 bytes a layer; random bits of 64 take no more.
    assert largest(lambda key: layers(depth, key)) == 72 * depth


def test_arrays_within_loops_and_branches_count():
    def branch(x):
        return jax.lax.cond(x > 0, lambda: jnp.ones(1000) * x, lambda: jnp.zeros(1000))

    def outer(key):
        x = jr.uniform(key, ())
        return jax.lax.fori_loop(0, 3, lambda _, y: y + branch(y).sum(), x)

    assert largest(outer) == 8000


GIVEN = {"depths": (4, 8, 16), "draws": 10}


@pytest.fixture(scope="module")
def whole():
    return depth_scaling(layers, jnp.ones(3), key=jr.key(3), **GIVEN)


# One network at a time; three of the shallow ones, seven of the deepest.
@pytest.mark.parametrize("room", [1, 72 * 4 * 3, 72 * 16 * 7])
def test_batches_change_nothing(room, whole, monkeypatch):
    monkeypatch.setattr(_draws, "ROOM", room)
    parts = depth_scaling(layers, jnp.ones(3), key=jr.key(3), **GIVEN)
    np.testing.assert_allclose(parts.errors, whole.errors, rtol=1e-12)


def test_batches_bound_the_memory(monkeypatch):
    keys = jr.split(jr.key(0), 100)
    monkeypatch.setattr(_draws, "ROOM", 72 * 64 * 5)
    traced = jax.make_jaxpr(
        lambda keys: _draws.over_draws(lambda key: layers(64, key), keys)
    )(keys)
    # The weights of five networks at a time, not of a hundred.
    assert _draws.largest_array(traced.jaxpr) == 72 * 64 * 5
