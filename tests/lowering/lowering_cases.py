"""Functions that lowering must take, with example states: one table for every suite.

Each case is `(name, function(t, y, args), y, args)`, built when it is asked for.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.linalg
import jax.scipy.special as special
from jax import lax


def _state(shape, seed=0, low=0.1, high=0.9):
    return jax.random.uniform(jax.random.key(seed), shape, jnp.float64, low, high)


def _key(seed=1):
    return jax.random.key(seed)


def _autonomous(fn):
    return lambda t, y, args: fn(y)


def _self(layer, count):
    return lambda x: layer(*([x] * count))


def _lstm(cell):
    return lambda x: sum(cell(x, (0.5 * x, x)))


LAYERS = {
    "linear": lambda: (eqx.nn.Linear(5, 5, key=_key()), (5,)),
    "mlp": lambda: (eqx.nn.MLP(3, 3, 40, 2, jnp.tanh, key=_key()), (3,)),
    "mlp_small": lambda: (eqx.nn.MLP(2, 2, 4, 1, jax.nn.softplus, key=_key()), (2,)),
    "layer_norm": lambda: (eqx.nn.LayerNorm(6), (6,)),
    "rms_norm": lambda: (eqx.nn.RMSNorm(6), (6,)),
    "group_norm": lambda: (eqx.nn.GroupNorm(2, 4), (4, 3)),
    "conv1d": lambda: (eqx.nn.Conv1d(3, 3, 3, padding=1, key=_key()), (3, 7)),
    "conv1d_dilated": lambda: (
        eqx.nn.Conv1d(4, 4, 3, padding=2, dilation=2, groups=2, key=_key()),
        (4, 7),
    ),
    "conv2d": lambda: (eqx.nn.Conv2d(2, 2, 3, padding=1, key=_key()), (2, 4, 5)),
    "conv_transpose": lambda: (
        eqx.nn.ConvTranspose1d(2, 2, 3, padding=1, key=_key()),
        (2, 5),
    ),
    "avg_pool": lambda: (
        lambda x: jnp.repeat(eqx.nn.AvgPool1d(2, 2)(x), 2, axis=1),
        (2, 6),
    ),
    "attention": lambda: (
        _self(eqx.nn.MultiheadAttention(2, 4, key=_key()), 3),
        (5, 4),
    ),
    "gru": lambda: (_self(eqx.nn.GRUCell(5, 5, key=_key()), 2), (5,)),
    "lstm": lambda: (_lstm(eqx.nn.LSTMCell(5, 5, key=_key())), (5,)),
    "prelu": lambda: (lambda x: eqx.nn.PReLU()(x - 0.5), (4,)),
}

ACTIVATIONS = (
    "relu relu6 sigmoid softplus sparse_plus sparse_sigmoid soft_sign silu "
    "log_sigmoid leaky_relu hard_sigmoid hard_silu hard_tanh tanh elu celu selu gelu "
    "squareplus mish softmax log_softmax standardize "
).split()

ELEMENTWISE = (
    "sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arctanh exp exp2 expm1 "
    "log log2 log10 log1p sqrt cbrt square abs sign floor ceil round trunc reciprocal "
    "sinc deg2rad nan_to_num i0 "
).split()

BINARY = (
    "add subtract multiply divide power float_power arctan2 hypot logaddexp "
    "logaddexp2 maximum minimum fmod remainder mod copysign floor_divide heaviside "
    "nextafter "
).split()

SPECIAL = (
    "erf erfc erfinv expit logit gammaln gamma digamma i0 i0e i1 i1e ndtr ndtri "
    "log_ndtr entr "
).split()

SPECIAL_BINARY = ["xlogy", "xlog1py", "betaln", "rel_entr", "kl_div"]


def _scan(t, y, args):
    def step(carry, row):
        carry = jnp.tanh(carry + row)
        return carry, carry * row

    last, rows = lax.scan(step, jnp.zeros(()), y)
    return rows + last


def _long_scan(t, y, args):
    def step(carry, row):
        carry = jnp.tanh(args @ carry + row)
        return carry, 0.1 * carry.sum()

    carry, sums = lax.scan(step, y, jnp.ones((60, 1)) * y, reverse=True)
    return carry + sums[:1]


def _swap_loop(t, y, args):
    return lax.fori_loop(0, 7, lambda i, c: (c[1], c[0] + i * y), (y, 2.0 * y))[0]


def _while(t, y, args):
    return lax.while_loop(lambda c: c.sum() < 40.0, lambda c: 1.3 * c + y, y)


def _while_scalar(t, y, args):
    return (
        y
        * lax.while_loop(lambda c: c[0] < 5, lambda c: (c[0] + 1, c[1] * 1.5), (0, t))[
            1
        ]
    )


def _cond(t, y, args):
    return lax.cond(y[0] > 0.5, lambda y: jnp.sin(y), lambda y: y.cumsum(), y)


def _switch(t, y, args):
    which = jnp.floor(3 * y[0]).astype(int)
    return lax.switch(which, [jnp.sin, jnp.cos, lambda y: y[::-1] ** 2], y)


def _cond_in_scan(t, y, args):
    def step(carry, x):
        return lax.cond(x > 0.4, lambda c: c * x, lambda c: c + args @ c, carry), None

    return lax.scan(step, y, y)[0]


@jax.custom_jvp
def _custom(x):
    return jnp.sin(x) * x


_custom.defjvp(lambda primals, tangents: (_custom(*primals), 3.0 * tangents[0]))


@jax.custom_vjp
def _clipped(x):
    return x**2


_clipped.defvjp(lambda x: (x**2, x), lambda x, g: (jnp.clip(g, -0.1, 0.1) * x,))


def _energy(y):
    return jnp.sum(jnp.cosh(y)) + jnp.prod(y) + 0.5 * jnp.dot(y, y) ** 2


def _matrix(y):
    return jnp.outer(y, y) + 3.0 * jnp.eye(y.size)


def _attention(t, x, args):
    scores = jnp.einsum("id,jd->ij", x @ args, x)
    pull = jax.nn.softmax(scores, axis=-1) @ x
    return pull - jnp.sum(pull * x, axis=-1, keepdims=True) * x


def _scatter(t, y, args):
    places = jnp.array([4, 1, 1])
    return y.at[2].set(t).at[places].add(2.0 * y[:3]).at[0].mul(3.0).at[1].min(0.4)


def _dynamic(t, y, args):
    i = jnp.floor(5 * y[0]).astype(int)
    y = y.at[i].set(0.25)
    part = lax.dynamic_slice(y, (i - 1,), (2,))
    return lax.dynamic_update_slice(jnp.cumprod(y), part, (i,)) + y[i]


def _dynamic_gather(t, y, args):
    order = jnp.argsort(y)
    return y[order] * y[(order + 1) % y.size] + jnp.take(y, order + 3, mode="clip")


def _bits(t, y, args):
    bits = lax.bitcast_convert_type(y, jnp.uint64)
    return (bits >> 52).astype(float) + (bits & 7).astype(float)


def _brusselator(t, y, args):
    u, v = y["u"], y["v"]
    lap = lambda x: jnp.roll(x, 1) - 2 * x + jnp.roll(x, -1)
    chemical = u**2 * v
    return {
        "u": 1 + chemical - 4 * u + args * lap(u),
        "v": 3 * u - chemical + args * lap(v),
    }


def _mixed_precision(t, y, args):
    return (args * y.astype(jnp.float32)).astype(jnp.float64) + y


PROGRAMS = {
    "time": lambda: (lambda t, y, args: jnp.sin(t) * y + t**2, _state((4,)), None),
    "zero": lambda: (lambda t, y, args: jnp.zeros_like(y), _state((4,)), None),
    "constant": lambda: (lambda t, y, args: jnp.arange(4.0), _state((4,)), None),
    "scalar_state": lambda: (lambda t, y, args: -args * y, _state(()), jnp.array(2.0)),
    "pytree_state": lambda: (
        _brusselator,
        {"u": _state((9,)), "v": _state((9,), 3)},
        jnp.array(0.02),
    ),
    "pytree_state_large": lambda: (
        _brusselator,
        {"u": _state((200,)), "v": _state((200,), 3)},
        jnp.array(0.02),
    ),
    "matrix_state": lambda: (
        lambda t, y, args: args @ y - y @ args.T,
        _state((3, 3)),
        _state((3, 3), 5),
    ),
    "large_matrix_product": lambda: (
        lambda t, y, args: jnp.tanh(args @ y @ y.T @ args.T) @ y,
        _state((24, 20)),
        _state((24, 24), 5) / 24,
    ),
    "attention_particles": lambda: (_attention, _state((6, 3)), _state((3, 3), 5)),
    "scan": lambda: (_scan, _state((5,)), None),
    "long_scan": lambda: (_long_scan, _state((5,)), _state((5, 5), 4)),
    "fori_swap": lambda: (_swap_loop, _state((5,)), None),
    "while": lambda: (_while, _state((5,)), None),
    "while_scalar": lambda: (_while_scalar, _state((3,)), None),
    "cond": lambda: (_cond, _state((5,)), None),
    "cond_other": lambda: (_cond, _state((5,), 2), None),
    "cond_large": lambda: (_cond, _state((900,)), None),
    "switch": lambda: (_switch, _state((5,)), None),
    "switch_large": lambda: (_switch, _state((900,)), None),
    "cond_in_scan": lambda: (_cond_in_scan, _state((4,)), _state((4, 4), 4)),
    "custom_jvp": lambda: (_autonomous(_custom), _state((4,)), None),
    "custom_vjp": lambda: (
        _autonomous(jax.grad(lambda y: _clipped(y).sum())),
        _state((4,)),
        None,
    ),
    "grad": lambda: (_autonomous(jax.grad(_energy)), _state((6,)), None),
    "vjp": lambda: (
        _autonomous(lambda y: jax.vjp(jnp.sort, y)[1](y)[0]),
        _state((6,)),
        None,
    ),
    "jvp": lambda: (
        _autonomous(lambda y: jax.jvp(jnp.cumprod, (y,), (y,))[1]),
        _state((6,)),
        None,
    ),
    "hessian": lambda: (
        _autonomous(lambda y: jax.hessian(_energy)(y) @ y),
        _state((5,)),
        None,
    ),
    "jacfwd": lambda: (
        _autonomous(lambda y: jax.jacfwd(jnp.tanh)(y).sum(0)),
        _state((5,)),
        None,
    ),
    "vmap": lambda: (
        _autonomous(lambda y: jax.vmap(lambda a: jnp.sum(jnp.sin(a * y)))(y)),
        _state((5,)),
        None,
    ),
    "remat": lambda: (_autonomous(jax.checkpoint(jnp.sin)), _state((5,)), None),
    "solve": lambda: (
        _autonomous(lambda y: jnp.linalg.solve(_matrix(y), y)),
        _state((5,)),
        None,
    ),
    "solve_batched": lambda: (
        lambda t, y, args: jnp.linalg.solve(jax.vmap(_matrix)(y), y[..., None])[..., 0],
        _state((3, 4)),
        None,
    ),
    "inverse": lambda: (
        _autonomous(lambda y: jnp.linalg.inv(_matrix(y)) @ y),
        _state((4,)),
        None,
    ),
    "determinant": lambda: (
        _autonomous(lambda y: y * jnp.linalg.det(_matrix(y))),
        _state((4,)),
        None,
    ),
    "cholesky": lambda: (
        _autonomous(lambda y: jnp.linalg.cholesky(_matrix(y)) @ y),
        _state((5,)),
        None,
    ),
    "triangular_solve": lambda: (
        _autonomous(
            lambda y: jax.scipy.linalg.solve_triangular(
                jnp.tril(_matrix(y)), y, lower=True, trans=1
            )
        ),
        _state((5,)),
        None,
    ),
    "cho_solve": lambda: (
        _autonomous(
            lambda y: jax.scipy.linalg.cho_solve(
                jax.scipy.linalg.cho_factor(_matrix(y)), y
            )
        ),
        _state((5,)),
        None,
    ),
    "scatter": lambda: (_scatter, _state((6,)), None),
    "dynamic": lambda: (_dynamic, _state((6,)), None),
    "dynamic_gather": lambda: (_dynamic_gather, _state((6,)), None),
    "fill_gather": lambda: (
        lambda t, y, args: (
            jnp.nan_to_num(jnp.take(y, jnp.array([0, 9, 2]), fill_value=0.5))
            * y[:3].sum()
        ),
        _state((3,)),
        None,
    ),
    "bits": lambda: (_bits, _state((4,)), None),
    "sort": lambda: (
        _autonomous(lambda y: jnp.sort(jnp.sin(9 * y), axis=0)),
        _state((4, 3)),
        None,
    ),
    "median": lambda: (_autonomous(lambda y: y - jnp.median(y)), _state((5,)), None),
    "argmax": lambda: (
        _autonomous(lambda y: y * jnp.argmax(y) + jnp.argmin(y)),
        _state((5,)),
        None,
    ),
    "norms": lambda: (
        _autonomous(lambda y: y / jnp.linalg.norm(y) + y.var() + y.max() - y.min()),
        _state((5,)),
        None,
    ),
    "triangles": lambda: (
        _autonomous(lambda y: jnp.tril(y) @ jnp.triu(y)),
        _state((4, 4)),
        None,
    ),
    "flip_roll_pad": lambda: (
        _autonomous(lambda y: jnp.flip(jnp.pad(y, 2)[1:-3]) + jnp.roll(y, 2)),
        _state((6,)),
        None,
    ),
    "dilated_pad": lambda: (
        _autonomous(lambda y: lax.pad(y, jnp.float64(0.5), ((-1, 2, 1),))[: y.size]),
        _state((6,)),
        None,
    ),
    "where": lambda: (
        _autonomous(lambda y: jnp.where(y > 0.5, jnp.log(y - 0.5), y)),
        _state((6,)),
        None,
    ),
    "clip": lambda: (
        _autonomous(lambda y: jnp.clip(3 * y, 0.5, 2.0)),
        _state((6,)),
        None,
    ),
    "integer_powers": lambda: (
        _autonomous(lambda y: y**3 + y**-2 + (-y) ** 5 - (-(y**2))),
        _state((6,)),
        None,
    ),
    "interp": lambda: (
        _autonomous(
            lambda y: jnp.interp(y, jnp.linspace(0, 1, 5), jnp.arange(5.0) ** 2)
        ),
        _state((6,)),
        None,
    ),
    "cumulative": lambda: (
        _autonomous(
            lambda y: (
                lax.cummax(jnp.sin(7 * y))
                + lax.cumsum(y, reverse=True)
                + lax.cumlogsumexp(y)
            )
        ),
        _state((6,)),
        None,
    ),
    "einsum_batched": lambda: (
        lambda t, y, args: jnp.einsum("bij,bjk,kl->bil", y, y, args),
        _state((2, 3, 3)),
        _state((3, 3), 7),
    ),
    "concatenate": lambda: (
        _autonomous(lambda y: jnp.concatenate([y[2:], jnp.stack([y[0], y[1] * 2])])),
        _state((6,)),
        None,
    ),
    "concatenate_large": lambda: (
        _autonomous(lambda y: jnp.concatenate([jnp.exp(y[700:]), jnp.sin(y[:700])])),
        _state((1300,)),
        None,
    ),
    "transpose_reshape": lambda: (
        _autonomous(
            lambda y: (
                jnp.sin(y.T).reshape(y.shape) + y.reshape(-1)[::-1].reshape(y.shape)
            )
        ),
        _state((30, 45)),
        None,
    ),
    "incomplete_gamma": lambda: (
        _autonomous(lambda y: special.gammainc(0.7, y) + 2 * special.gammaincc(2.3, y)),
        _state((4,)),
        None,
    ),
    "incomplete_beta": lambda: (
        _autonomous(lambda y: special.betainc(0.7, 1.3, y)),
        _state((4,)),
        None,
    ),
    "hurwitz_zeta": lambda: (
        _autonomous(lambda y: special.zeta(2.0 + y, 1.0 + y)),
        _state((4,)),
        None,
    ),
    "mixed_precision": lambda: (
        _mixed_precision,
        _state((5,)),
        jnp.arange(5, dtype=jnp.float32),
    ),
    "integers": lambda: (
        lambda t, y, args: (
            y * ((args // 2) % 3 - (args >> 1) + (args ^ 5)).astype(float)
        ),
        _state((5,)),
        jnp.arange(5),
    ),
}


def _build_layer(name):
    layer, shape = LAYERS[name]()
    return (lambda t, y, args: layer(y)), _state(shape), None


def _build_module(name):
    layer, shape = LAYERS[name]()
    if not isinstance(layer, eqx.Module):
        return _build_layer(name)
    # The layer travels in args: its weights must become parameters.
    return (lambda t, y, args: args(y)), _state(shape), layer


CASES = (
    {f"layer-{n}": (lambda n=n: _build_module(n)) for n in LAYERS}
    | {
        f"activation-{n}": (
            lambda n=n: (
                _autonomous(lambda y: getattr(jax.nn, n)(4 * y - 2)),
                _state((5,)),
                None,
            )
        )
        for n in ACTIVATIONS
    }
    | {
        f"jnp-{n}": (lambda n=n: (_autonomous(getattr(jnp, n)), _state((5,)), None))
        for n in ELEMENTWISE
    }
    | {
        f"jnp-{n}": (
            lambda n=n: (
                _autonomous(lambda y: getattr(jnp, n)(y, 0.3 + y[::-1])),
                _state((5,)),
                None,
            )
        )
        for n in BINARY
    }
    | {
        f"special-{n}": (
            lambda n=n: (_autonomous(getattr(special, n)), _state((5,)), None)
        )
        for n in SPECIAL
    }
    | {
        f"special-{n}": (
            lambda n=n: (
                _autonomous(lambda y: getattr(special, n)(y, 0.3 + y[::-1])),
                _state((5,)),
                None,
            )
        )
        for n in SPECIAL_BINARY
    }
    | {f"program-{n}": build for n, build in PROGRAMS.items()}
)
