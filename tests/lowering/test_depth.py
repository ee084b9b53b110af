"""How many roundings lie one behind another, counted by hand."""

import jax
import jax.numpy as jnp
import pytest

from hybrid_nds.lowering import expression_depth

A, B = jnp.ones((3, 5)), jnp.ones((5, 2))
STACK, OTHERS = jnp.ones((4, 3, 5)), jnp.ones((4, 5, 2))


# A sum of k products rounds k times one behind another: each product once, and each
# but the first when it is added to what there is.
@pytest.mark.parametrize(
    ("function", "arguments", "depth"),
    [
        (lambda a, y: a @ y, (A, jnp.ones(5)), 5),
        (lambda a, b: a @ b, (A, B), 5),
        (lambda a, b: a.T @ b, (A, jnp.ones((3, 7))), 3),
        (lambda x, y: x @ y, (jnp.ones(7), jnp.ones(7)), 7),
        (lambda a, b: a @ b, (STACK, OTHERS), 5),
        (lambda a, b: jnp.tensordot(a, b, 2), (STACK[0], A), 15),
        (lambda a, b, y: a @ (b @ y), (A, B, jnp.ones(2)), 5 + 2),
        (lambda a, y: a @ (a.T @ y) + y, (A, jnp.ones(3)), 5 + 3 + 1),
        (lambda y: jnp.sum(y), (jnp.ones(6),), 6),
        (lambda a: jnp.sum(a, axis=0), (A,), 3),
        (lambda y: jnp.cumsum(y), (jnp.ones(6),), 6),
        (lambda y: y * y + y, (jnp.ones(6),), 2),
        # An elementary function counts as four.
        (lambda a, y: jnp.tanh(a @ y), (A, jnp.ones(5)), 5 + 4),
        # The longest of two ways.
        (lambda a, y: jnp.concatenate([a @ y, y * y]), (A, jnp.ones(5)), 5),
        # A loop is so many of its bodies.
        (
            lambda a, y: jax.lax.scan(lambda u, _: (a @ u, None), y, length=3)[0],
            (jnp.ones((4, 4)), jnp.ones(4)),
            3 * 4,
        ),
    ],
)
def test_depth_is_that_counted_by_hand(function, arguments, depth):
    assert expression_depth(lambda *args: [function(*args)], *arguments) == depth
