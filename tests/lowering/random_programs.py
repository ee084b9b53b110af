"""Random vector fields for property tests: short programs over a pool of arrays."""

import jax
import jax.numpy as jnp
from hypothesis import strategies as st
from jax import lax

# Every operation keeps values of order one, so that a comparison of two
# implementations measures rounding and not the growth of the program.
UNARY = {
    "sin": jnp.sin,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "logistic": jax.nn.sigmoid,
    "gaussian": lambda x: jnp.exp(-(x**2)),
    "root": lambda x: jnp.sqrt(1 + x**2),
    "guarded_log": lambda x: jnp.where(x > 0.1, jnp.log(jnp.abs(x) + 0.1), x / 3),
    "softmax": lambda x: jax.nn.softmax(x, axis=-1),
    "reverse": lambda x: x[..., ::-1],
    "roll": lambda x: jnp.roll(x, 1, axis=-1),
    "cumulate": lambda x: jnp.cumsum(x, axis=-1) / x.shape[-1],
    "sort": lambda x: jnp.sort(x, axis=-1),
    "centre": lambda x: x - x.mean(axis=-1, keepdims=True),
    "largest": lambda x: x * x.max() / 3,
    "gather": lambda x: x[..., jnp.array([2, 0, 1, 1])],
    "scatter": lambda x: x.at[..., 1].add(0.5 * x[..., 0]),
    "scan": lambda x: lax.scan(
        lambda c, r: (jnp.tanh(c + r), c - r),
        jnp.zeros(x.shape[:-1]),
        jnp.moveaxis(x, -1, 0),
    )[1].T.reshape(x.shape),
    "loop": lambda x: lax.fori_loop(0, 3, lambda i, c: 0.5 * c + jnp.cos(x * i), x),
    "branch": lambda x: lax.cond(x.sum() > 0, jnp.sin, lambda x: x * 0.5, x),
    "tangent": lambda x: jax.jvp(jnp.tanh, (x,), (jnp.cos(x),))[1],
    "gradient": jax.grad(lambda x: jnp.sum(jnp.sin(x) * x.mean())),
}
BINARY = {
    "add": lambda x, y: 0.5 * (x + y),
    "subtract": lambda x, y: 0.5 * (x - y),
    "multiply": lambda x, y: x * y / (1 + jnp.abs(y)),
    "divide": lambda x, y: x / (2 + y**2),
    "maximum": jnp.maximum,
    "select": lambda x, y: jnp.where(x < y, x, 0.3 * y),
    "product": lambda x, y: jnp.einsum("...i,...j->...ij", x, y).sum(-1) / 4,
    "contract": lambda x, y: x * jnp.tensordot(x, y, axes=x.ndim) / x.size,
}


@st.composite
def programs(draw):
    """A function `(t, y, args) -> dy`, its state and arguments, and its text."""
    shape = draw(st.sampled_from([(4,), (3, 4)]))
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from([*UNARY, *BINARY]),
                st.integers(0, 5),
                st.integers(0, 5),
            ),
            min_size=1,
            max_size=6,
        )
    )

    def field(t, y, args):
        pool = [y, args + jnp.sin(t)]
        for name, first, second in steps:
            a, b = pool[first % len(pool)], pool[second % len(pool)]
            pool.append(UNARY[name](a) if name in UNARY else BINARY[name](a, b))
        return pool[-1]

    seed = draw(st.integers(0, 1000))
    first, second = jax.random.split(jax.random.key(seed))
    y = jax.random.normal(first, shape, jnp.float64)
    args = jax.random.normal(second, shape, jnp.float64)
    return field, y, args, " ".join(name for name, _, _ in steps)
