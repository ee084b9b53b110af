"""Every public tool on a solved example in units drawn at random.

The state in units of s about an origin, time in units of τ, both from 1e-12 to 1e12:
the answer, made dimensionless, is that in units of one, or there is a refusal.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import Phase, given, settings, strategies as st
from test_stability_units import InUnits, NoiseInUnits, cycle, rotation

from hybrid_nds import (
    Event,
    ODEProblem,
    SDEProblem,
    discretization,
    ensemble,
    solve,
    stability,
    underdamped_langevin,
)
from hybrid_nds.analysis import AnalysisError
from hybrid_nds.ensembles import Moments
from hybrid_nds.reconcile import reconcile
from hybrid_nds.training import (
    ContractionPenalty,
    SpectralAbscissaPenalty,
    TrainingError,
    TrajectoryLoss,
    fit,
)

KEY = jax.random.key(0)
UNIT = st.floats(-12, 12).map(lambda power: 10**power)
REFUSALS = (ValueError, AnalysisError, TrainingError)
ONE = (1.0, 1.0, 0.0)


def pendulum(u, own):
    return jnp.stack([u[1], -jnp.sin(u[0]) - 0.1 * u[1]])


def attraction(u, own):
    return -u


def unit_noise(u, own):
    return jnp.ones_like(u)


def growing_noise(u, own):
    return 0.5 * u


def crossing(t, y, args):
    return y[0] - args[2]


def _args(units, dtype):
    s, tau, origin = units
    return tuple(jnp.asarray(x, dtype) for x in (s, tau, origin * s, 0.0))


def ordinary(field, y0, span, units, dtype):
    s, tau, origin = units
    start = jnp.asarray(origin * s + s * np.asarray(y0), dtype)
    end = jnp.asarray(span * tau, dtype)
    return ODEProblem(InUnits(field), start, 0.0, end, _args(units, dtype))


def stochastic(noise, y0, span, units, dtype, kind="diagonal", interpretation="ito"):
    s, tau, origin = units
    return SDEProblem(
        InUnits(attraction),
        NoiseInUnits(noise),
        jnp.asarray(origin * s + s * np.asarray(y0), dtype),
        0.0,
        jnp.asarray(span * tau, dtype),
        _args(units, dtype),
        noise=kind,
        interpretation=interpretation,
    )


class LinearModel(eqx.Module):
    """A field of a matrix, in units."""

    matrix: jax.Array
    units: tuple

    def __call__(self, t, y, args):
        s, tau, origin = jax.lax.stop_gradient(self.units)
        return s / tau * (self.matrix @ ((y - origin) / s))


def linear_model(matrix, units, dtype):
    s, tau, origin = units
    return LinearModel(
        jnp.asarray(matrix, dtype),
        tuple(jnp.asarray(x, dtype) for x in (s, tau, origin * s)),
    )


def steps_of_noise(units, dtype):
    s, tau, origin = units
    added = stochastic(unit_noise, [0.5], 2.0, units, dtype, "additive")
    drawn = [("Euler", added), ("ItoMilstein", added), ("SEA", added)]
    grown = stochastic(growing_noise, [0.5], 2.0, units, dtype, "diagonal")
    drawn.append(("ItoMilstein", grown))
    ends = [
        solve(problem, solver=name, key=KEY, dt=tau / 16).ys[-1, 0]
        for name, problem in drawn
    ]
    return 2 + np.asarray(ends, float) / s - origin


def langevin(units, dtype):
    s, tau, _ = units
    problem = underdamped_langevin(
        lambda x, scale: x / scale / scale,
        jnp.asarray([s], dtype),
        jnp.asarray([0.0], dtype),
        0.0,
        jnp.asarray(2 * tau, dtype),
        jnp.asarray(s, dtype),
        friction=1 / tau,
        damping=s**2 / tau**2,
    )
    x, _ = solve(problem, solver="Euler", key=KEY, dt=tau / 32).ys
    return 2 + float(x[-1, 0]) / s


def first_crossing(units, dtype):
    problem = ordinary(pendulum, [1.0, 0.5], 20.0, units, dtype)
    found = solve(problem, event=Event(crossing))
    assert found.outcome_name == "event"
    return float(found.end_time) / units[1]


def moments(units, dtype):
    s, tau, origin = units
    problem = stochastic(unit_noise, [0.5], 2.0, units, dtype)
    found = ensemble(
        problem, 64, key=KEY, solver="Euler", dt=tau / 16, reduce=Moments()
    ).reduced
    mean, variance = (np.ravel(x)[-1] for x in (found.mean, found.variance))
    return 2 + mean / s - origin, variance / s**2


def orders(units, dtype):
    s, _, _ = units
    problem = ordinary(pendulum, [1.0, 0.5], 2.0, units, dtype)
    found = discretization.strong_order(problem, "Heun", steps=(4, 8, 16), refine=8)
    return found.order, np.array(found.errors) / s


def orders_on_paths(units, dtype):
    s, _, _ = units
    problem = stochastic(growing_noise, [1.0], 1.0, units, dtype)
    options = {"steps": (4, 8, 16), "refine": 4, "key": KEY}
    strong = discretization.strong_order(problem, "Euler", paths=50, **options)
    weak = discretization.weak_order(
        problem, "Euler", lambda y: y[0], paths=4000, **options
    )
    assert strong.paths == 50
    return (
        strong.order,
        np.array(strong.errors) / s,
        weak.order,
        np.array(weak.errors) / s,
    )


def work(units, dtype):
    s, _, _ = units
    problem = ordinary(pendulum, [1.0, 0.5], 2.0, units, dtype)
    found = discretization.work_precision(
        problem, {"diffrax": ["Tsit5"]}, rtols=(1e-2, 1e-3, 1e-4), repeats=1
    )
    # Decades: a step more or less changes an error by some tens of percent.
    return 10 + np.log10([row.error / s for row in found.rows])


def work_in_steps(units, dtype):
    s, _, _ = units
    problem = ordinary(pendulum, [1.0, 0.5], 2.0, units, dtype)
    found = discretization.work_precision(
        problem, {"diffrax": ["Heun", "Dopri8"]}, steps=(4, 8, 16), repeats=1
    )
    # Those of Dopri8 are round-off.
    return np.array([row.error for row in found.rows[:3]]) / s


def depths(units, dtype):
    problem = ordinary(pendulum, [1.0, 0.5], 1.0, units, dtype)

    def network(depth):
        h = problem.t1 / depth

        def layer(y, _):
            return y + h * problem.field(0.0, y, problem.args), None

        return jax.lax.scan(layer, problem.y0, None, length=depth)[0]

    found = discretization.depth_scaling(network, problem, depths=(4, 8, 16))
    return found.slope, found.errors / units[0]


def penalties(units, dtype):
    s, tau, origin = units
    model = linear_model([[-0.3, -1.0], [1.0, 0.3]], units, dtype)
    box = tuple(jnp.full(2, (origin + side) * s, dtype) for side in (-1, 1))
    guesses = origin * s + s * np.array([[0.3, 0.2], [1.0, 0.4]])
    contraction = ContractionPenalty(box, rate=0.5 / tau)
    abscissa = SpectralAbscissaPenalty(
        jnp.asarray(guesses, dtype), margin=0.5 / tau, smoothing=0.01 / tau
    )
    values = [float(term(model, None, KEY)[0]) for term in (contraction, abscissa)]
    return np.array(values) * tau**2


def rest(units, dtype):
    s, tau, origin = units
    problem = ordinary(rotation, [1.0, 0.5, 0.2], 2.0, units, dtype)
    box = (origin * s - s, origin * s + 1.5 * s)
    found = stability.equilibria(problem, region=box, starts=4)
    assert len(found.points) == 1
    return 2 + found.points / s - origin, found.eigenvalues * tau


def orbit(units, dtype):
    problem = ordinary(cycle, [1.1, 0.1], 20.0, units, dtype)
    found = stability.periodic_orbit(problem, period=2 * units[1])
    return found.period / units[1], np.abs(found.multipliers)


def linear_growth(units, dtype):
    problem = stochastic(growing_noise, [1.0], 1.0, units, dtype)
    dt = 0.1 * units[1]
    return (
        stability.moment_exponent(problem, 2).value * units[1],
        stability.mean_square_abscissa(problem).value * units[1],
        stability.mean_square_factor(problem, "Euler", dt).value,
        stability.mean_square_factor(problem, "ItoMilstein", dt).value,
    )


def sampled_growth(units, dtype):
    _, tau, _ = units
    problem = stochastic(growing_noise, [1.0], 1.0, units, dtype)
    found = stability.lyapunov_spectrum(
        problem, solver="ItoMilstein", dt=tau / 64, time=20 * tau, key=KEY
    )
    return found.exponents * tau, found.low * tau


def rates_along_an_orbit(units, dtype):
    _, tau, _ = units
    problem = ordinary(pendulum, [1.0, 0.5], 50.0, units, dtype)
    found = stability.lyapunov_spectrum(problem)
    # The mean divergence.
    np.testing.assert_allclose(found.sum * tau, -0.1, rtol=0.02)
    return 1.0


def sampled_law(units, dtype):
    s, tau, origin = units
    problem = stochastic(unit_noise, [0.0], 1.0, units, dtype)
    given = {"key": KEY, "dt": tau / 16, "chains": 8, "check_step": False}
    law = stability.invariant_law(problem, time=20 * tau, transient=5 * tau, **given)
    decay = stability.mixing_rate(problem, time=40 * tau, transient=5 * tau, **given)
    return 2 + law.mean / s - origin, law.covariance / s**2, decay.rates * tau


def exits(units, dtype):
    s, tau, origin = units
    problem = stochastic(unit_noise, [0.0], 1.0, units, dtype)
    found = stability.mean_exit_time(
        problem, (origin * s - s, origin * s + s), 100, key=KEY, dt=tau / 16
    )
    return found.mean / tau, found.high / tau


def verdicts(units, dtype):
    problem = ordinary(pendulum, [1.0, 0.5], 2.0, units, dtype)
    report = reconcile(problem, rungs=("L0", "L1", "L2"))
    known = ("passed", "not compared", "failed")
    return np.array([known.index(rung.verdict) for rung in report.rungs])


def trained(units, dtype):
    s, tau, origin = units
    times = np.linspace(0, 1, 5)
    starts = np.random.default_rng(0).normal(size=(20, 2))
    turns = [
        np.exp(-0.3 * t) * np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
        for t in times
    ]
    paths = s * (origin + np.einsum("tij,nj->nti", turns, starts))
    model = linear_model(np.zeros((2, 2)), units, dtype)
    learned = eqx.tree_at(
        lambda m: m.matrix, jax.tree_util.tree_map(lambda _: False, model), True
    )
    # Adam's step has the size of its rate, whatever that of the loss.
    found = fit(
        model,
        jnp.asarray(paths, dtype),
        TrajectoryLoss(times * tau, solver="Heun", dt=tau / 8),
        optax.adam(0.05, eps=0.0),
        steps=20,
        key=KEY,
        trainable=learned,
    )
    return 2 + np.asarray(found.model.matrix)


# Each tool; what its answers may differ by beside round-off (`None`: by nothing else);
# whether the origin may be elsewhere; whether it is slow.
TOOLS = {
    steps_of_noise: (None, False, False),
    langevin: (None, False, False),
    first_crossing: (1e-3, True, True),
    moments: (None, True, True),
    orders: (None, True, False),
    orders_on_paths: (None, False, True),
    # Half a decade of the error.
    work: (0.5 / 6, False, True),
    work_in_steps: (None, False, True),
    depths: (1e-3, False, False),
    penalties: (1e-6, True, False),
    rest: (1e-6, True, False),
    orbit: (1e-4, True, False),
    linear_growth: (None, False, False),
    sampled_growth: (None, False, True),
    rates_along_an_orbit: (None, False, True),
    sampled_law: (1e-3, True, True),
    exits: (1e-3, True, True),
    verdicts: (None, False, True),
    trained: (1e-3, False, True),
}
CASES = [
    pytest.param(tool, dtype, marks=[pytest.mark.slow] if slow else [], id=name)
    for tool, (_, _, slow) in TOOLS.items()
    for dtype in (jnp.float64, jnp.float32)
    # Squares of the gradients of squares of the state leave float32 from 1e9 on.
    if not (tool is trained and dtype == jnp.float32)
    for name in [f"{tool.__name__}-{jnp.dtype(dtype).name}"]
]


@functools.cache
def in_plain_units(tool, dtype):
    return tool(ONE, dtype)


@pytest.mark.parametrize(("tool", "dtype"), CASES)
def test_answers_do_not_depend_on_units(tool, dtype):
    slack, moves, _ = TOOLS[tool]
    precision = float(jnp.finfo(dtype).eps)

    @settings(max_examples=4, deadline=None, phases=[Phase.generate])
    @given(s=UNIT, tau=UNIT, origin=st.sampled_from([0.0, 3.0, -20.0]))
    def check(s, tau, origin):
        s, tau = (float(np.asarray(x, dtype)) for x in (s, tau))
        shift = origin if moves else 0.0
        try:
            found = tool((s, tau, shift), dtype)
        except REFUSALS:
            # Only where squares come near to where numbers of float32 end.
            if dtype == jnp.float64 or 1e-18 < s / tau < 1e18:
                raise
            return
        # Some thousand roundings of the state, of which an origin takes digits.
        limit = (slack or 0.0) + 2000 * precision * (1 + abs(shift)) ** 2
        for a, b in zip(
            jax.tree_util.tree_leaves(in_plain_units(tool, dtype)),
            jax.tree_util.tree_leaves(found),
            strict=True,
        ):
            np.testing.assert_allclose(b, a, rtol=limit, atol=limit)

    check()
