"""States as vectors: what `ravel_pytree` does, for any leading axes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax.flatten_util import ravel_pytree

from hybrid_nds import ODEProblem
from hybrid_nds.problems import FlatState

SHAPES = st.lists(
    st.lists(st.integers(1, 3), max_size=3).map(tuple), min_size=1, max_size=3
)


# Every shape is a program in JAX.
@settings(deadline=None, max_examples=20)
@given(SHAPES, st.lists(st.integers(0, 3), max_size=2).map(tuple), st.booleans())
def test_vectors_are_those_of_ravel_pytree(shapes, lead, in_jax):
    random = np.random.default_rng(0)
    space = jnp if in_jax else np
    draw = lambda shape: space.asarray(random.standard_normal(shape))
    states = {str(k): draw((*lead, *shape)) for k, shape in enumerate(shapes)}
    layout = FlatState({str(k): draw(shape) for k, shape in enumerate(shapes)})
    flat = layout.flatten(states)
    assert isinstance(flat, jax.Array if in_jax else np.ndarray)
    assert flat.shape == (*lead, layout.dimension)
    for place in np.ndindex(*lead):
        one = jax.tree.map(lambda leaf, place=place: leaf[place], states)
        np.testing.assert_array_equal(flat[place], ravel_pytree(one)[0])
    jax.tree.map(np.testing.assert_array_equal, layout.unflatten(flat), states)
    below = FlatState.below(states, len(lead))
    assert below.structure == layout.structure


def test_fields_act_on_vectors():
    field = lambda t, y, a: {"x": a * y["v"], "v": -t * y["x"]}
    y0 = {"x": jnp.arange(2.0), "v": jnp.ones(2)}
    problem = ODEProblem(field, y0, 0.0, 1.0, jnp.asarray(3.0))
    # In the order of the keys: v, then x.
    found = jax.jit(problem.flat_field())(2.0, jnp.array([5.0, 6.0, 7.0, 8.0]))
    assert found.tolist() == [-14.0, -16.0, 15.0, 18.0]
    with pytest.raises(TypeError, match="reshape"):
        problem.flat_state.flatten({"x": jnp.ones(3), "v": jnp.ones(2)})
