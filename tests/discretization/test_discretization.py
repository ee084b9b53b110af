"""Orders of convergence: those of theory are found, and the intervals hold them."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from hybrid_nds import ODEProblem, SDEProblem
from hybrid_nds.discretization import OrderEstimate, fit_order, strong_order, weak_order

# Intervals are of level 0.99: of the seven tests that look at one, all pass with right
# methods but in one of fourteen redraws; the keys are fixed.
LEVEL = 0.99


class Linear(eqx.Module):
    rate: jnp.ndarray

    def __call__(self, t, y, args):
        return self.rate * y


class Sine(eqx.Module):
    def __call__(self, t, y, args):
        return jnp.sin(2 * y)


def geometric(rate=1.01):
    a, b = jnp.asarray(rate), jnp.asarray(0.6)
    problem = SDEProblem(
        Linear(a), Linear(b), jnp.array([0.5]), 0.0, 1.0, noise="scalar"
    )

    def exact(path):
        w = jnp.sum(path.increments()[0], axis=0)
        return 0.5 * jnp.exp(a - b**2 / 2 + b * w)

    return problem, exact


def additive():
    """A curved drift: with a linear one methods of order 3/2 reach order 2."""
    return SDEProblem(
        Sine(),
        lambda t, y, args: jnp.full_like(y, 1.5),
        jnp.array([0.5]),
        0.0,
        1.0,
        noise="additive",
    )


@pytest.mark.slow
@pytest.mark.parametrize(("solver", "order"), [("Euler", 0.5), ("ItoMilstein", 1.0)])
def test_strong_orders_for_multiplicative_noise(solver, order, getkey):
    # The drift's error of order one, a²h/2, must stay below a hundredth of that of the
    # noise, b²√(h/2), or Euler's slope bends: at h = 1/32 it is 2e-4 against 4.5e-2.
    problem, exact = geometric(rate=0.1)
    estimate = strong_order(
        problem,
        solver,
        steps=(32, 64, 128, 256),
        paths=2000,
        key=getkey(),
        exact=exact,
        level=LEVEL,
    )
    assert abs(estimate.order - order) <= 0.1, estimate
    assert estimate.low <= order <= estimate.high, estimate
    assert estimate.resolved


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "order"), [("Euler", 1.0), ("SRA1", 1.5), ("ShARK", 1.5)]
)
def test_strong_orders_for_additive_noise(solver, order, getkey):
    estimate = strong_order(
        additive(),
        solver,
        steps=(16, 32, 64, 128),
        paths=1000,
        key=getkey(),
        level=LEVEL,
    )
    assert abs(estimate.order - order) <= 0.1, estimate
    assert estimate.low <= order <= estimate.high, estimate
    # The wrong orders, a half above and below, are outside.
    assert not estimate.low <= order - 0.5 <= estimate.high
    assert not estimate.low <= order + 0.5 <= estimate.high


@pytest.mark.slow
def test_weak_order_of_euler_with_its_sampling_error_below_the_bias(getkey):
    problem, exact = geometric()
    estimate = weak_order(
        problem,
        "Euler",
        lambda y: y[0] ** 2,
        key=getkey(),
        steps=(8, 16, 32, 64),
        paths=40_000,
        exact=exact,
        level=LEVEL,
    )
    assert abs(estimate.order - 1.0) <= 0.1, estimate
    assert estimate.low <= 1.0 <= estimate.high, estimate
    # E[X_h²] of Euler–Maruyama in closed form: x0² ((1 + ah)² + b²h)^N.
    h = np.array(estimate.steps)
    mean = 0.25 * ((1 + 1.01 * h) ** 2 + 0.36 * h) ** (1 / h)
    bias = np.abs(mean - 0.25 * np.exp(2.02 + 0.36))
    gap = np.abs(np.array(estimate.errors) - bias)
    # Four standard errors: exceeded once in four thousand times.
    assert np.all(gap <= 4 * np.array(estimate.standard_errors))
    assert np.all(np.array(estimate.standard_errors) < bias / 2)


@pytest.mark.slow
def test_a_bias_below_the_sampling_error_is_no_order(getkey):
    problem, exact = geometric()
    with pytest.raises(ValueError, match=r"hides the error.*`paths` of \d+"):
        weak_order(
            problem,
            "Euler",
            lambda y: y[0],
            key=getkey(),
            steps=(64, 128, 256),
            paths=20,
            exact=exact,
        )


@pytest.mark.parametrize(
    ("solver", "order"),
    [
        ("Euler", 1),
        ("Heun", 2),
        ("Bosh3", 3),
        pytest.param("Kvaerno3", 3, marks=pytest.mark.slow),
    ],
)
def test_orders_of_deterministic_methods(solver, order):
    problem = ODEProblem(
        lambda t, y, args: jnp.stack([y[1], -jnp.sin(y[0])]),
        jnp.array([1.0, 0.0]),
        0.0,
        2.0,
    )
    estimate = strong_order(problem, solver, steps=(20, 40, 80, 160), refine=8)
    assert estimate.kind == "deterministic"
    assert estimate.paths == 1
    assert abs(estimate.order - order) <= 0.1, estimate


def test_the_interval_covers_as_often_as_it_says():
    # Errors |c h^p e^{sZ}| with lognormal factors that the steps of a path share in
    # part: the slope of their means is p exactly.
    generator = np.random.default_rng(3)
    h = 2.0 ** -np.arange(4, 9)
    trials, inside = 400, 0
    for _ in range(trials):
        shared = generator.standard_normal((1, 200))
        own = generator.standard_normal((5, 200))
        estimate = fit_order(h, h[:, None] ** 0.5 * np.exp(0.7 * shared + 0.5 * own))
        inside += estimate.low <= 0.5 <= estimate.high
    # Nominally 0.95 of 400 = 380 with deviation 4.4, and more for the departure from
    # the line counted beside the sampling that makes it: from four deviations below.
    assert inside >= 362
    assert inside < trials


def test_the_interval_holds_the_sampling_variance():
    # Every path has a slope of its own, p ± c, about means that lie on a line: with x
    # the log of the step, errors h^p (1 ± c (x - mean of x)) have means h^p, and the
    # variance of the slope is that of a mean of n numbers ±c. Nothing is left beside
    # the line.
    h, c, n = 2.0 ** -np.arange(4, 9), 0.3, 200
    x = np.log(h) - np.log(h).mean()
    signs = np.where(np.arange(n) % 2, 1.0, -1.0)
    estimate = fit_order(h, h[:, None] ** 0.5 * (1 + c * x[:, None] * signs))
    np.testing.assert_allclose(estimate.order, 0.5, rtol=1e-12)
    half = scipy.stats.t.ppf(0.975, n - 1) * c / np.sqrt(n - 1)
    np.testing.assert_allclose(
        [estimate.low, estimate.high], [0.5 - half, 0.5 + half], rtol=1e-10
    )


def test_the_interval_holds_the_departure_from_the_line():
    # One path: SciPy's interval of a slope, of Student's law with two fewer degrees of
    # freedom than points.
    h = np.array([0.4, 0.2, 0.1, 0.05])
    errors = h * np.array([1.1, 0.9, 1.05, 1.0])
    estimate = fit_order(h, errors[:, None], level=LEVEL)
    line = scipy.stats.linregress(np.log(h), np.log(errors))
    half = scipy.stats.t.isf((1 - LEVEL) / 2, 2) * line.stderr
    np.testing.assert_allclose(
        [estimate.order, estimate.low, estimate.high],
        [line.slope, line.slope - half, line.slope + half],
        rtol=1e-12,
    )


def test_exact_power_laws_are_found_exactly():
    h = np.array([0.1, 0.2, 0.4])
    estimate = fit_order(h, 3 * h[:, None] ** 1.7)
    np.testing.assert_allclose(estimate.order, 1.7, rtol=1e-13)
    np.testing.assert_allclose([estimate.low, estimate.high], 1.7, atol=1e-12)
    assert estimate.steps == (0.4, 0.2, 0.1)


def test_results_print_plot_and_turn_into_data(tmp_path):
    h = np.array([0.1, 0.2, 0.4])
    generator = np.random.default_rng(1)
    errors = h[:, None] * np.abs(1 + generator.standard_normal((3, 50)))
    estimate = fit_order(h, errors, solver="Euler", backend="diffrax", reference="x")
    assert isinstance(estimate, OrderEstimate)
    data = json.loads(json.dumps(estimate.to_dict()))
    assert data["order"] == estimate.order
    assert "jackknife" in data["method"]
    assert f"{estimate.order:.3f}" in str(estimate)
    assert "50 paths" in str(estimate)
    target = tmp_path / "order.png"
    estimate.plot(target)
    assert target.stat().st_size > 5000


@pytest.mark.parametrize(
    ("steps", "errors", "words"),
    [
        ([0.1, 0.2], np.ones((2, 1)), "three or more"),
        ([0.1, 0.2, 0.2], np.ones((3, 1)), "different"),
        ([0.1, 0.2, 0.4], np.ones(3), r"\(3, paths\)"),
        ([0.1, 0.2, 0.4], np.zeros((3, 2)), "other than zero"),
        ([0.1, 0.2, 0.4], np.full((3, 2), np.nan), "finite"),
    ],
)
def test_tables_without_an_order_are_refused(steps, errors, words):
    with pytest.raises(ValueError, match=words):
        fit_order(steps, errors)


def test_bad_arguments_are_named():
    problem, exact = geometric()
    with pytest.raises(ValueError, match="`key`"):
        strong_order(problem, "Euler")
    with pytest.raises(ValueError, match="twice the one before"):
        strong_order(problem, "Euler", steps=(4, 8, 12), key=jax.random.key(0))
    with pytest.raises(ValueError, match="`refine`"):
        strong_order(problem, "Euler", refine=3, key=jax.random.key(0))
    with pytest.raises(TypeError, match="`problem`"):
        weak_order(exact, "Euler", lambda y: y[0], key=jax.random.key(0))
    with pytest.raises(ValueError, match="`paths`"):
        strong_order(problem, "Euler", paths=1, key=jax.random.key(0))
