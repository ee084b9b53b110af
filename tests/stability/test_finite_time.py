"""Finite-time Lyapunov exponents and their derivatives, against closed forms."""

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.scipy.linalg
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from hybrid_nds import BrownianPath, ODEProblem, SDEProblem
from hybrid_nds.stability import finite_time_exponents
from hybrid_nds.stability.growth._lyapunov_plan import start_directions

STACKS = pytest.mark.parametrize(
    "stack", ["diffrax", pytest.param("julia", marks=pytest.mark.julia)]
)
T, N = 2.0, 8


def matrix_field(t, y, A):
    return A @ y


def of_matrix(A, stack="diffrax", k=None, intervals=N, span=T, **options):
    n = A.shape[0]
    problem = ODEProblem(matrix_field, jnp.ones(n, A.dtype), 0.0, span, A)
    given = {"transient": 0, "solver": "Tsit5", "rtol": 1e-10, "atol": 1e-10}
    return finite_time_exponents(
        problem, exponents=k, intervals=intervals, backend=stack, **(given | options)
    )


def by_exponential(A, k, span=T):
    """One decomposition of exp(A T) times the directions is that of all intervals."""
    start = start_directions(A.shape[0], k, 1)[0]
    R = jnp.linalg.qr(jax.scipy.linalg.expm(A * span) @ start)[1]
    return jnp.log(jnp.abs(jnp.diagonal(R))) / span


@STACKS
@pytest.mark.parametrize("k", [1, 3])
def test_a_linear_equation_and_its_derivative(stack, k, request):
    if stack == "julia":
        request.getfixturevalue("julia")
    A = jnp.asarray(np.random.default_rng(4).normal(size=(3, 3)))
    weights = jnp.arange(1.0, k + 1)
    found = jax.jit(jax.value_and_grad(lambda A: weights @ of_matrix(A, stack, k)))(A)
    expected = jax.value_and_grad(lambda A: weights @ by_exponential(A, k))(A)
    # Tolerances of 1e-10 in each of some 20 steps an interval, of which rotations by
    # the decomposition make some ten times more.
    for ours, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, exact, atol=1e-7)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-6, 1e6))
def test_the_sum_is_the_trace_in_any_unit_of_time(seed, scale):
    """And so its derivative is the identity matrix."""
    A = jnp.asarray(np.random.default_rng(seed).normal(size=(2, 2)))
    total = _total(A * scale, T / scale)
    slope = _slope(A * scale, T / scale)
    np.testing.assert_allclose(total / scale, jnp.trace(A), atol=1e-7)
    np.testing.assert_allclose(slope, np.eye(2), atol=1e-6)


_total = jax.jit(lambda A, span: jnp.sum(of_matrix(A, span=span)))
_slope = jax.jit(jax.grad(_total))


def growth(t, y, ab):
    return ab[0] * y


def noise(t, y, ab):
    return ab[1] * y


STEPS = 64


def of_path(ab, stack, kind, **options):
    problem = SDEProblem(growth, noise, jnp.ones(1), 0.0, T, ab, noise=kind)
    euler = "Euler" if stack == "diffrax" else "EM"
    given = {"solver": euler, "transient": 2, "intervals": N, "backend": stack}
    return finite_time_exponents(problem, **(given | options))[0]


def by_product(ab, dW):
    """Euler's scheme multiplies tangents by 1 + a dt + b dW in each step."""
    kept = dW[2 * STEPS // N :]
    return jnp.sum(jnp.log(jnp.abs(1 + ab[0] * T / STEPS + ab[1] * kept))) / (T * 6 / 8)


@STACKS
@pytest.mark.parametrize("kind", ["scalar", "diagonal"])
def test_a_stochastic_equation_along_a_path(stack, kind, request):
    if stack == "julia":
        request.getfixturevalue("julia")
    path = BrownianPath(jr.key(2), 1, 0.0, T, T / STEPS)
    ab = jnp.array([0.1, 0.5])
    found = jax.jit(jax.value_and_grad(lambda ab: of_path(ab, stack, kind, path=path)))(
        ab
    )
    dW = path.increments()[0][:, 0]
    expected = jax.value_and_grad(by_product)(ab, dW)
    for ours, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, exact, rtol=1e-12)


def test_each_key_of_a_batch_is_a_path_of_its_own():
    ab = jnp.array([0.1, 0.5])

    def one(key):
        return of_path(ab, "diffrax", "scalar", key=key, dt=T / STEPS)

    keys = jr.split(jr.key(7), 3)
    together = jax.jit(jax.vmap(one))(keys)
    # Another order of operations may be compiled: round-off.
    np.testing.assert_allclose(together, [one(key) for key in keys], rtol=1e-13)
    assert len(set(np.asarray(together).tolist())) == 3


def test_single_precision_stays():
    A = jnp.asarray([[0.0, 1.0], [-1.0, -0.5]], jnp.float32)
    found = of_matrix(A, rtol=1e-5, atol=1e-6)
    assert found.dtype == jnp.float32
    assert abs(float(jnp.sum(found)) + 0.5) < 1e-3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"exponents": 3}, "`exponents` must be at most 2, the dimension"),
        ({"transient": 8, "intervals": 8}, "`transient` must be less than `intervals`"),
        ({"intervals": 0}, "`intervals` must be"),
    ],
)
def test_what_it_refuses(options, words):
    problem = ODEProblem(matrix_field, jnp.ones(2), 0.0, 1.0, jnp.eye(2))
    with pytest.raises(ValueError, match=words):
        finite_time_exponents(problem, **options)


def test_an_infinite_span_is_refused():
    problem = ODEProblem(matrix_field, jnp.ones(2), 0.0, jnp.inf, jnp.eye(2))
    with pytest.raises(ValueError, match="span of `problem` must be finite"):
        finite_time_exponents(problem)


def test_intervals_of_a_stochastic_problem_are_whole_steps():
    with pytest.raises(ValueError, match="do not divide the 64 steps"):
        of_path(
            jnp.ones(2), "diffrax", "scalar", key=jr.key(0), dt=T / STEPS, intervals=7
        )
    with pytest.raises(ValueError, match="followed in fixed steps: pass `dt`"):
        of_path(jnp.ones(2), "diffrax", "scalar", key=jr.key(0), rtol=1e-3)
