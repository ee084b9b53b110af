"""Stochastic problems: their checks, and the two interpretations of one equation."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from helpers import tree_allclose
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from hybrid_nds import SDEProblem, to_ito, to_stratonovich, underdamped_langevin

EPS = np.finfo(float).eps


class Geometric(eqx.Module):
    rate: float

    def __call__(self, t, y, args):
        return jtu.tree_map(lambda leaf: self.rate * leaf, y)


def decay(t, y, args):
    return jtu.tree_map(lambda leaf: -leaf, y)


def vector_diffusion(t, y, args):
    return jnp.array([jnp.sin(y[1]), y[0]])


def noncommuting(t, y, args):
    first = jnp.array([jnp.sin(y[1]), y[0]])
    second = jnp.array([y[0] * y[1], jnp.cos(y[0])])
    return jnp.stack([first, second], axis=-1)


def first_correction(x):
    """Dg g for g = (sin x2, x1), by hand."""
    return np.array([x[0] * np.cos(x[1]), np.sin(x[1])])


def second_correction(x):
    """Dg g for g = (x1 x2, cos x1), by hand."""
    return np.array(
        [x[0] * x[1] ** 2 + x[0] * np.cos(x[0]), -x[0] * x[1] * np.sin(x[0])]
    )


def tree_diffusion(t, y, args):
    return {"a": 0.5 * y["a"] ** 2, "b": jnp.exp(y["b"])}


X = np.array([0.7, -0.4])
TREE = {"a": np.array([[0.5], [1.5]]), "b": np.array(-0.3)}

# Diffusion, noise, state, and half the sum of Dg g by hand.
CORRECTIONS = {
    "geometric": (
        lambda t, y, a: 0.3 * y,
        "diagonal",
        X,
        0.5 * 0.3**2 * X,
    ),
    "geometric, one motion": (
        lambda t, y, a: 0.3 * y,
        "scalar",
        X,
        0.5 * 0.3**2 * X,
    ),
    "time and arguments": (
        lambda t, y, a: a * t * y**2,
        "diagonal",
        X,
        (1.5 * 0.25) ** 2 * X**3,
    ),
    "one motion": (vector_diffusion, "scalar", X, 0.5 * first_correction(X)),
    "noncommuting": (
        noncommuting,
        "general",
        X,
        0.5 * (first_correction(X) + second_correction(X)),
    ),
    "commuting": (
        lambda t, y, a: jnp.stack([0.3 * y, 0.2 * y], axis=-1),
        "commutative",
        X,
        0.5 * (0.3**2 + 0.2**2) * X,
    ),
    "diagonal tree": (
        tree_diffusion,
        "diagonal",
        TREE,
        {"a": 0.25 * TREE["a"] ** 3, "b": 0.5 * np.exp(2 * TREE["b"])},
    ),
    "tree, one motion": (
        lambda t, y, a: {"a": y["b"] * y["a"], "b": 2 * y["b"]},
        "scalar",
        TREE,
        # D(b a)[(b a, 2 b)] = b (b a) + (2 b) a, and D(2 b)[2 b] = 4 b.
        {
            "a": 0.5 * (TREE["b"] ** 2 + 2 * TREE["b"]) * TREE["a"],
            "b": 2 * TREE["b"],
        },
    ),
    "matrix tree": (
        lambda t, y, a: {
            "a": jnp.stack([y["b"] * y["a"], 0 * y["a"]], axis=-1),
            "b": jnp.stack([2 * y["b"], y["b"] ** 2], axis=-1),
        },
        "general",
        TREE,
        {
            "a": 0.5 * (TREE["b"] ** 2 + 2 * TREE["b"]) * TREE["a"],
            "b": 2 * TREE["b"] + TREE["b"] ** 3,
        },
    ),
}


@pytest.mark.parametrize("name", CORRECTIONS)
@pytest.mark.parametrize("target", ["ito", "stratonovich"])
def test_conversion(name, target):
    diffusion, noise, y0, correction = CORRECTIONS[name]
    source = "stratonovich" if target == "ito" else "ito"
    problem = SDEProblem(
        decay, diffusion, y0, 0.0, 1.0, 1.5, noise=noise, interpretation=source
    )
    convert = to_ito if target == "ito" else to_stratonovich
    other = convert(problem)
    assert other.interpretation == target
    assert other.noise == noise
    assert other.diffusion is problem.diffusion
    sign = 1 if target == "ito" else -1
    expected = jtu.tree_map(lambda y, c: -y + sign * c, y0, correction)
    found = other.drift(0.25, problem.y0, problem.args)
    # A few roundings of numbers of size one.
    assert tree_allclose(found, expected, rtol=16 * EPS, atol=16 * EPS)


def test_additive_noise_keeps_its_drift():
    problem = SDEProblem(decay, lambda t, y, a: jnp.cos(t) * jnp.ones(2), X, 0.0, 1.0)
    additive = SDEProblem(
        decay, lambda t, y, a: jnp.cos(t) * jnp.ones(2), X, 0.0, 1.0, noise="additive"
    )
    assert to_stratonovich(additive).drift is decay
    assert to_stratonovich(additive).interpretation == "stratonovich"
    # The same, said to be diagonal, has a correction that is zero.
    found = to_stratonovich(problem).drift(0.5, problem.y0, None)
    np.testing.assert_array_equal(found, -X)


def test_conversion_to_itself():
    problem = SDEProblem(decay, Geometric(0.3), X, 0.0, 1.0)
    assert to_ito(problem) is problem
    back = to_ito(to_stratonovich(problem))
    assert back.drift is decay
    assert back.interpretation == "ito"


small = st.floats(-2, 2, allow_nan=False, width=64)


@given(
    constant=hnp.arrays(float, (2, 3), elements=small),
    slope=hnp.arrays(float, (2, 3, 2), elements=small),
    x=hnp.arrays(float, (2,), elements=small),
)
@settings(max_examples=40, deadline=None)
def test_conversion_of_linear_diffusions(constant, slope, x):
    """For g_ij = A_ij + B_ijk x_k the correction is B_ijk g_kj / 2."""
    problem = SDEProblem(
        decay,
        lambda t, y, args: args[0] + jnp.einsum("ijk,k->ij", args[1], y),
        x,
        0.0,
        1.0,
        (jnp.asarray(constant), jnp.asarray(slope)),
        noise="general",
        interpretation="stratonovich",
    )
    g = constant + np.einsum("ijk,k->ij", slope, x)
    correction = 0.5 * np.einsum("ijk,kj->i", slope, g)
    # Twelve products of at most 2 * 6 in size.
    tolerance = 12 * 12 * 4 * EPS
    found = to_ito(problem).drift(0.0, problem.y0, problem.args)
    np.testing.assert_allclose(found, -x + correction, atol=tolerance)
    # There and back by derivatives: the converted drift as a drift of its own.
    forth = to_ito(problem)
    hidden = SDEProblem(
        lambda t, y, args: forth.drift(t, y, args),
        problem.diffusion,
        x,
        0.0,
        1.0,
        problem.args,
        noise="general",
    )
    back = to_stratonovich(hidden).drift(0.0, problem.y0, problem.args)
    np.testing.assert_allclose(back, -x, atol=2 * tolerance)


def test_conversion_can_be_transformed():
    """d/ds of the Itô drift of dy = s y ∘ dW is s y."""

    def drift(s):
        problem = SDEProblem(
            decay,
            lambda t, y, a: a * y,
            jnp.asarray(X),
            0.0,
            1.0,
            s,
            interpretation="stratonovich",
        )
        return jnp.sum(to_ito(problem).drift(0.0, problem.y0, s))

    found = jax.jit(jax.grad(drift))(0.3)
    np.testing.assert_allclose(found, 0.3 * X.sum(), rtol=8 * EPS)


@pytest.mark.parametrize(
    ("noise", "diffusion", "motions", "matrix", "flat_shape"),
    [
        ("diagonal", tree_diffusion, 3, False, (3,)),
        ("scalar", tree_diffusion, 1, False, (3,)),
        (
            "additive",
            lambda t, y, a: {"a": jnp.ones((2, 1, 4)), "b": jnp.ones(4)},
            4,
            True,
            (3, 4),
        ),
        (
            "general",
            lambda t, y, a: {
                "a": jnp.stack([y["a"], 2 * y["a"]], axis=-1),
                "b": jnp.stack([y["b"], y["b"]], axis=-1),
            },
            2,
            True,
            (3, 2),
        ),
    ],
    ids=["diagonal", "scalar", "additive matrix", "general"],
)
def test_noise_dimension(noise, diffusion, motions, matrix, flat_shape):
    problem = SDEProblem(decay, diffusion, TREE, 0.0, 1.0, noise=noise)
    assert problem.dimension == 3
    assert problem.noise_dimension == motions
    assert problem.matrix_noise is matrix
    u = jnp.array([0.5, 1.5, -0.3])
    np.testing.assert_array_equal(problem.flat_drift()(0.0, u), -u)
    flat = problem.flat_diffusion()(0.0, u)
    assert flat.shape == flat_shape
    if noise == "general":
        expected = [[0.5, 1.0], [1.5, 3.0], [-0.3, -0.3]]
        np.testing.assert_array_equal(flat, expected)


def test_a_single_component_is_commutative():
    """With one Brownian motion, or at a point where all vanishes, nothing warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SDEProblem(
            decay, lambda t, y, a: y[:, None] ** 2, X, 0.0, 1.0, noise="commutative"
        )
        SDEProblem(decay, Geometric(0.3), np.zeros(2), 0.0, 1.0)


@pytest.mark.parametrize(
    ("noise", "diffusion", "match"),
    [
        ("commutative", noncommuting, "columns of the diffusion do not commute"),
        # Commutes at the point itself, where one column vanishes, but not beside it.
        (
            "commutative",
            lambda t, y, a: jnp.stack(
                [jnp.array([1.0, 0.0]), (y[0] - X[0]) ** 2 * jnp.array([0.0, 1.0])], -1
            ),
            "do not commute",
        ),
        ("diagonal", vector_diffusion, "of one component depends on another"),
    ],
    ids=["commutative", "commutative elsewhere", "diagonal"],
)
def test_false_claims_warn(noise, diffusion, match):
    with pytest.warns(UserWarning, match=match):
        SDEProblem(decay, diffusion, X, 0.0, 1.0, noise=noise)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        (
            {"noise": "general"},
            ValueError,
            r"'general' noise .* one more axis.*state \[2\], diffusion \[2\]",
        ),
        (
            {"diffusion": noncommuting},
            ValueError,
            r"'diagonal' noise .* the shape of `y0`; got .*diffusion \[2, 2\]",
        ),
        (
            {"diffusion": noncommuting, "noise": "scalar"},
            ValueError,
            "'scalar' noise",
        ),
        (
            {"diffusion": lambda t, y, a: y[:1], "noise": "additive"},
            ValueError,
            "'additive' noise .* the shape of `y0` or .*one more axis",
        ),
        (
            {"diffusion": lambda t, y, a: (y, y)},
            ValueError,
            "must return the structure of `y0`",
        ),
        (
            {"diffusion": lambda t, y, a: y.astype(jnp.float32)},
            ValueError,
            "must return the dtype of `y0`",
        ),
        (
            {"diffusion": lambda t, y, a: 1 / 0},
            ValueError,
            "could not be evaluated .* ZeroDivisionError",
        ),
        ({"diffusion": 0.3}, TypeError, "`diffusion` must be a callable"),
        ({"drift": None}, TypeError, "`drift` must be a callable"),
        (
            {"drift": lambda t, y, a: y[0]},
            ValueError,
            "`drift` must return the shapes",
        ),
        (
            {"noise": "additive"},
            ValueError,
            "'additive' noise `diffusion` must not depend on the state",
        ),
        ({"noise": "white"}, ValueError, "`noise` must be one of additive, scalar"),
        (
            {"interpretation": "Ito"},
            ValueError,
            "`interpretation` must be one of ito, stratonovich",
        ),
        ({"t1": -1.0}, ValueError, "noise has no backward direction"),
        ({"t1": 0.0}, ValueError, "`t1` must differ"),
        ({"t1": np.inf}, ValueError, "`t1` must be finite"),
        ({"y0": np.array([1.0, np.nan])}, ValueError, "`y0` must be finite"),
        ({"y0": np.array([1, 2])}, TypeError, "real floating-point"),
    ],
)
def test_refuses(changes, error, match):
    arguments = {
        "drift": decay,
        "diffusion": Geometric(0.3),
        "y0": X,
        "t0": 0.0,
        "t1": 1.0,
    } | changes
    with pytest.raises(error, match=match):
        SDEProblem(**arguments)


@pytest.mark.parametrize("convert", [to_ito, to_stratonovich])
def test_conversion_refuses(convert):
    with pytest.raises(TypeError, match="must be an SDEProblem, got int"):
        convert(3)


def test_langevin():
    """The fields of dx = v dt, dv = -γ v dt - u f'(x) dt + √(2 γ u) dW, by hand."""
    friction, damping = np.array([0.5, 2.0]), 3.0
    problem = underdamped_langevin(
        lambda x, args: args * x**3,
        X,
        2 * X,
        0.0,
        1.0,
        0.25,
        friction=friction,
        damping=damping,
    )
    assert problem.noise == "additive"
    assert problem.noise_dimension == 2
    dx, dv = problem.drift(0.0, problem.y0, problem.args)
    np.testing.assert_array_equal(dx, 2 * X)
    expected = -friction * 2 * X - damping * 0.25 * X**3
    np.testing.assert_allclose(dv, expected, rtol=8 * EPS)
    on_x, on_v = problem.diffusion(0.0, problem.y0, problem.args)
    np.testing.assert_array_equal(on_x, np.zeros((2, 2)))
    np.testing.assert_allclose(on_v, np.diag(np.sqrt([3.0, 12.0])), rtol=4 * EPS)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"gradient": 1.0}, TypeError, "`gradient` must be a callable"),
        ({"v0": np.ones(3)}, ValueError, r"one shape \(d,\), got \(2,\) and \(3,\)"),
        ({"friction": -1.0}, ValueError, "`friction` must be positive"),
        ({"damping": np.ones(3)}, ValueError, "`damping` must be a number or have"),
    ],
)
def test_langevin_refuses(changes, error, match):
    arguments = {
        "gradient": lambda x, args: x,
        "x0": X,
        "v0": X,
        "t0": 0.0,
        "t1": 1.0,
    } | changes
    with pytest.raises(error, match=match):
        underdamped_langevin(**arguments)
