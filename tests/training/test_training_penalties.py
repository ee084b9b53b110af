"""Penalties: against NumPy and SciPy, and models that they make stable."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import scipy.linalg
from hypothesis import given, settings, strategies as st

from hybrid_nds import ODEProblem, models, stability
from hybrid_nds.training import (
    ContractionPenalty,
    LyapunovPenalty,
    SpectralAbscissaPenalty,
    TrajectoryLoss,
    fit,
)
from hybrid_nds.training._abscissa import excess, smoothed_abscissa

KEY = jr.key(3)
GUESSES = jnp.array([[0.3], [1.0]])
BOX = (jnp.array([-1.0, -1.0]), jnp.array([1.0, 1.0]))
abscissa = jax.jit(jax.value_and_grad(smoothed_abscissa))
excess_slope = jax.jit(jax.value_and_grad(excess), static_argnums=1)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


class Linear(eqx.Module):
    matrix: jax.Array

    def __call__(self, t, y, args):
        return self.matrix @ y


class Clocked(eqx.Module):
    """A field whose Jacobian is its time."""

    scale: jax.Array

    def __call__(self, t, y, args):
        return self.scale * t * y


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-3, 1.0))
def test_the_smoothed_abscissa_solves_its_equation(seed, smoothing):
    A = random(4, 4, seed=seed)
    s = float(abscissa(jnp.asarray(A), smoothing)[0])
    assert s > np.max(np.real(np.linalg.eigvals(A)))
    gramian = scipy.linalg.solve_continuous_lyapunov(A - s * np.eye(4), -np.eye(4))
    # The bracket ends at 2^-44 of its first width, some 10, and tr P moves with s by
    # its square or more: about 1e-12 / smoothing, times a condition.
    np.testing.assert_allclose(np.trace(gramian), 1 / smoothing, rtol=1e-7)


def test_the_smoothed_abscissa_of_normal_matrices():
    # For a repeated real part, 3 / (2 (s - a)) = 1 / smoothing.
    turn = np.array([[-0.5, 2.0, 0], [-2.0, -0.5, 0], [0, 0, -0.5]])
    for A in (turn, -0.5 * np.eye(3)):
        s, slope = abscissa(jnp.asarray(A), 0.02)
        np.testing.assert_allclose(s, -0.5 + 3 * 0.02 / 2, atol=1e-12)
        # All real parts move it alike, and nothing else to first order.
        np.testing.assert_allclose(slope, np.eye(3) / 3, atol=1e-9)


@pytest.mark.parametrize("A", [random(3, 3), np.array([[-1.0, 1.0], [0.0, -1.0]])])
def test_the_slope_of_the_smoothed_abscissa(A):
    way = random(*A.shape, seed=5)
    slope = np.sum(abscissa(jnp.asarray(A), 0.05)[1] * way)
    there, back = (abscissa(jnp.asarray(A + h * way), 0.05)[0] for h in (1e-5, -1e-5))
    # The abscissa itself has no slope at the defective matrix.
    np.testing.assert_allclose(slope, (there - back) / 2e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_the_excess_is_zero_where_the_measure_is_not_positive(norm):
    A = random(3, 3)
    measure = float(stability.matrix_measure(A, norm))
    below = jnp.asarray(A - (measure + 1e-9) * np.eye(3))
    assert float(excess(below, norm)) == 0
    # Just above, the largest alone counts.
    above = jnp.asarray(A - (measure - 1e-3) * np.eye(3))
    np.testing.assert_allclose(excess(above, norm), 1e-6, rtol=1e-9)


@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_the_slope_of_the_excess(norm):
    A, way = random(4, 4, seed=1), random(4, 4, seed=2)
    slope = np.sum(excess_slope(jnp.asarray(A), norm)[1] * way)
    there, back = (excess(jnp.asarray(A + h * way), norm) for h in (1e-6, -1e-6))
    np.testing.assert_allclose(slope, (there - back) / 2e-6, rtol=1e-6)


def test_the_excess_has_a_slope_at_multiple_eigenvalues():
    value, slope = excess_slope(0.5 * jnp.eye(3), 2)
    assert value == 0.75
    np.testing.assert_allclose(slope, np.eye(3), atol=1e-15)


@pytest.mark.parametrize("weight", [None, [1.0, 2.0], [[1.0, 0.5], [0.0, 2.0]]])
@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_the_contraction_penalty_of_a_linear_field(norm, weight):
    A, weight = random(2, 2), None if weight is None else np.array(weight)
    penalty = ContractionPenalty(BOX, rate=0.3, norm=norm, weight=weight, samples=3)
    value, parts = penalty(Linear(jnp.asarray(A)), None, KEY)
    P = np.eye(2) if weight is None else weight
    P = np.diag(P) if P.ndim == 1 else P
    moved = P @ A @ np.linalg.inv(P)
    if norm == 2:
        each = np.linalg.eigvalsh((moved + moved.T) / 2)
    else:
        rows = moved if norm == np.inf else moved.T
        each = np.diag(rows) + np.sum(np.abs(rows - np.diag(np.diag(rows))), axis=1)
    expected = np.sum(np.maximum(each + 0.3, 0) ** 2)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(parts["measure"], max(each), rtol=1e-12)
    ours = stability.matrix_measure(A, norm, weight)
    np.testing.assert_allclose(parts["measure"], ours, rtol=1e-12)


@pytest.mark.slow
def test_samples_lie_in_the_region_the_span_and_the_batch():
    clocked = Clocked(jnp.asarray(1.0))
    penalty = ContractionPenalty(BOX, times=(1.0, 3.0), samples=400)
    value, parts = penalty(clocked, None, KEY)
    assert 2.9 < parts["measure"] <= 3.0
    # The mean of 2 t² over the span, 26/3; its deviation 4.9 over the root of 400, at
    # four of which one key in 16000 fails.
    np.testing.assert_allclose(value, 26 / 3, atol=4 * 4.9 / 20)

    def cubic(t, y, args):
        return y**3

    # The Jacobian, 3 y², shows where the sample was.
    box = ContractionPenalty((jnp.array([2.0]), jnp.array([2.5])), samples=50)
    assert 12 <= box(cubic, None, KEY)[1]["measure"] <= 3 * 2.5**2
    batch = jnp.array([[[1.0], [2.0]], [[3.0], [1.0]]])
    found = ContractionPenalty(samples=100)(cubic, batch, KEY)
    np.testing.assert_allclose(found[1]["measure"], 27.0, rtol=1e-14)
    shares = {9.0: 0.5, 144.0: 0.25, 729.0: 0.25}
    mean = sum(value * share for value, share in shares.items())
    spread = np.sqrt(sum(v**2 * s for v, s in shares.items()) - mean**2)
    np.testing.assert_allclose(found[0], mean, atol=4 * spread / 10)


def test_training_makes_a_network_contract():
    model = models.NeuralODE(2, 8, 1, key=jr.key(4))
    region = (np.array([-1.0, -1.0]), np.array([1.0, 1.0]))

    def rate(model):
        problem = ODEProblem(model, jnp.zeros(2), 0.0, 1.0)
        return stability.contraction_rate(problem, region).rate

    assert rate(model) > 0
    penalty = ContractionPenalty(region, rate=0.3, samples=32)
    trained = fit(
        model, jnp.zeros((1, 1)), penalty, optax.adam(1e-2), steps=600, key=KEY
    )
    # The margin is left for what no sample met.
    assert rate(trained.model) < -0.1


def test_the_abscissa_penalty_at_given_states():
    A = random(3, 3)
    states = np.zeros((2, 3))
    penalty = SpectralAbscissaPenalty(
        states, equilibria=False, margin=0.4, smoothing=1e-4
    )
    value, parts = penalty(Linear(jnp.asarray(A)), None, KEY)
    top = np.max(np.real(np.linalg.eigvals(A)))
    # Above by some half of the smoothing times the number of components, and a
    # condition number of the eigenvalue.
    assert top < parts["abscissa"] < top + 1e-3
    np.testing.assert_allclose(value, (float(parts["abscissa"]) + 0.4) ** 2)
    assert parts["found"] == 1


class Pitchfork(eqx.Module):
    """$a y - y^3$, of equilibria 0 and $\\pm\\sqrt a$."""

    a: jax.Array

    def __call__(self, t, y, args):
        return self.a * y - y**3


def test_equilibria_are_found_and_followed():
    smoothing = 0.01

    def value(a, guess):
        penalty = SpectralAbscissaPenalty(guess, smoothing=smoothing, margin=9.0)
        return penalty(Pitchfork(a), None, KEY)[0]

    # At √a the slope is -2 a, whose smoothed abscissa is above by smoothing / 2.
    a = 0.7
    both = jax.jit(jax.value_and_grad(value))
    found, slope = both(a, jnp.array([[0.9]]))
    over = -2 * a + smoothing / 2 + 9.0
    np.testing.assert_allclose(found, over**2, rtol=1e-7)
    # By the equilibrium's own move too: for a fixed one it would be 2 · over.
    np.testing.assert_allclose(slope, -4 * over, rtol=1e-6)


@jax.custom_vjp
def _scaled_cubic(a, y):
    return a * y - y**3


_scaled_cubic.defvjp(
    lambda a, y: (_scaled_cubic(a, y), (a, y)),
    lambda kept, g: (jnp.sum(g * kept[1]), g * (kept[0] - 3 * kept[1] ** 2)),
)


class ReversePitchfork(Pitchfork):
    """The same field with a reverse rule alone."""

    def __call__(self, t, y, args):
        return _scaled_cubic(self.a, y)


class Drift(eqx.Module):
    drift: eqx.Module


@pytest.mark.parametrize("wrap", [lambda field: field, Drift])
@pytest.mark.parametrize(
    "penalty",
    [
        ContractionPenalty((jnp.array([-1.0]), jnp.array([1.0])), rate=3.0, samples=4),
        SpectralAbscissaPenalty(jnp.array([[0.9]]), margin=9.0),
    ],
    ids=lambda penalty: penalty.name,
)
def test_penalties_take_fields_with_a_reverse_rule_only(penalty, wrap):
    def value(model):
        return penalty(wrap(model), None, KEY)[0]

    both = eqx.filter_jit(eqx.filter_value_and_grad(value))
    a = jnp.asarray(0.7)
    expected, slope = both(Pitchfork(a))
    found, found_slope = both(ReversePitchfork(a))
    # The same products in another order, and a Newton's method that ends in ε.
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    np.testing.assert_allclose(found_slope.a, slope.a, rtol=1e-12)


def test_guesses_that_lead_nowhere_do_not_count():
    def field(t, y, args):
        return 1 + args * y**2

    def both(c):
        return SpectralAbscissaPenalty(GUESSES, args=c)(field, None, KEY)

    found = jax.jit(jax.value_and_grad(both, has_aux=True))(jnp.asarray(1.0))
    (value, parts), slope = found
    assert value == slope == parts["found"] == 0


@pytest.mark.slow
def test_training_makes_an_equilibrium_stable():
    # A spiral that goes outward, and data of one that does too.
    times = np.linspace(0.0, 1.0, 5)
    growth = np.array([[0.3, 2.0], [-2.0, 0.3]])
    turns = np.stack([scipy.linalg.expm(growth * t) for t in times])
    data = jnp.asarray(np.einsum("tij,nj->nti", turns, random(8, 2)))
    error = TrajectoryLoss(times, solver="Heun", dt=0.125)
    penalty = SpectralAbscissaPenalty(jnp.zeros((1, 2)), margin=0.2)

    def verdict(model):
        problem = ODEProblem(model, jnp.zeros(2), 0.0, 1.0)
        return stability.jacobian_spectrum(problem).spectral_abscissa

    model = Linear(jnp.asarray(growth))
    options = {"steps": 150, "key": KEY}
    free = fit(model, data, error, optax.adam(2e-2), **options)
    assert verdict(free.model) > 0.25
    held = fit(model, data, error + 100 * penalty, optax.adam(2e-2), **options)
    assert verdict(held.model) < -0.1
    kind = stability.equilibria(
        ODEProblem(held.model, jnp.zeros(2), 0.0, 1.0), region=(-1.0, 1.0), starts=4
    )
    assert "stable focus" in str(kind)
    assert "unstable" not in str(kind)
    assert {"trajectory", "abscissa", "abscissa/found"} <= set(held.history.parts)


@pytest.mark.slow
def test_single_precision_is_kept():
    model = models.NeuralODE(2, 4, 1, key=KEY, dtype=jnp.float32)
    box = tuple(end.astype(jnp.float32) for end in BOX)
    batch = jnp.zeros((1, 1, 2), jnp.float32)
    for penalty in (
        ContractionPenalty(samples=2),
        ContractionPenalty(box, samples=2),
        SpectralAbscissaPenalty(jnp.zeros((1, 2), jnp.float32)),
    ):
        value, parts = penalty(model, batch, KEY)
        assert {x.dtype for x in (value, *parts.values())} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ContractionPenalty(3.0), "`region` must be a pair"),
        (lambda: ContractionPenalty((np.zeros(2), np.ones(3))), r"shapes \[\(2,\)\]"),
        (lambda: ContractionPenalty((np.ones(2), np.zeros(2))), "low < high"),
        (lambda: ContractionPenalty(BOX, rate=-1.0), "`rate` must be"),
        (lambda: ContractionPenalty(BOX, norm=3), "`norm` must be 1, 2 or inf"),
        (lambda: ContractionPenalty(BOX, samples=0), "`samples` must be"),
        (lambda: SpectralAbscissaPenalty(1.0), "`states` must be states stacked"),
        (lambda: SpectralAbscissaPenalty(GUESSES, margin="a"), "`margin` must be"),
        (lambda: SpectralAbscissaPenalty(GUESSES, smoothing=0.0), "`smoothing` must"),
    ],
)
def test_bad_input_is_named(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()


def test_a_batch_or_a_model_that_is_none():
    with pytest.raises(ValueError, match=r"shape \(samples, times, …\)"):
        ContractionPenalty()(Linear(jnp.eye(2)), jnp.zeros(3), KEY)
    with pytest.raises(TypeError, match="`model` must be a field"):
        ContractionPenalty(BOX)(3, None, KEY)
    with pytest.raises(ValueError, match=r"`weight` must have shape \(2,\)"):
        ContractionPenalty(BOX, weight=[1.0])(Linear(jnp.eye(2)), None, KEY)


def test_the_lyapunov_penalty_is_that_of_the_exponents():
    """A diagonal equation has its diagonal for exponents, whatever the start."""
    model = Linear(jnp.diag(jnp.array([0.3, -0.4])))
    penalty = LyapunovPenalty(
        random(3, 2),
        span=(0.0, 20.0),
        margin=0.1,
        exponents=2,
        transient=24,
        rtol=1e-8,
        atol=1e-8,
    )
    value, parts = penalty(model, None, KEY)
    # Directions come to theirs at the rate of the gap, .7, for 15: e^(-2 × .7 × 15).
    # Then a tolerance of 1e-8 in each of some ten steps an interval of .6.
    np.testing.assert_allclose(value, 0.4**2, rtol=1e-5)
    np.testing.assert_allclose(parts["exponent"], 0.3, rtol=1e-5)
    calm = Linear(-jnp.eye(2))
    assert float(penalty(calm, None, KEY)[0]) == 0.0


def test_the_lyapunov_penalty_makes_a_model_stable():
    penalty = LyapunovPenalty(span=(0.0, 2.0), margin=0.1, intervals=8)
    batch = jnp.asarray(random(4, 3, 2))
    model = Linear(jnp.array([[0.2, 1.0], [-1.0, 0.2]]))
    found = fit(model, batch, penalty, optax.adam(2e-2), steps=60, key=KEY)
    assert float(found.history.parts["exponent"][0]) > 0.1
    assert float(found.history.parts["exponent"][-1]) < -0.08


def test_the_lyapunov_penalty_of_a_stochastic_model():
    """The double well at its bottom, x = 1 and hardly any noise: -2 is the slope."""
    well = models.DoubleWell(1e-12)
    penalty = LyapunovPenalty(
        jnp.ones((2, 1)), span=(0.0, 1.0), margin=3.0, intervals=4, dt=1 / 256
    )
    value, parts = eqx.filter_jit(penalty)(well, None, KEY)
    # Euler's or Heun's scheme: its own rate is off by the step, 2²/256.
    np.testing.assert_allclose(parts["exponent"], -2.0, atol=0.02)
    np.testing.assert_allclose(value, 1.0, atol=0.05)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"span": (0.0, 0.0)}, "`span` must be a pair of finite times"),
        ({"span": 3.0}, "`span` must be a pair of finite times"),
        ({"span": (0.0, 1.0), "margin": -1.0}, "`margin` must be a finite number"),
    ],
)
def test_the_lyapunov_penalty_refuses(given, words):
    with pytest.raises(ValueError, match=words):
        LyapunovPenalty(**given)
