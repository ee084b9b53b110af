"""Public tools on solved examples, in units `(s, τ, o)` of the state, of time and its
origin; their answers without units."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
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
from hybrid_nds.ensembles import Histogram, Moments, Quantiles
from hybrid_nds.models import StochasticModel
from hybrid_nds.reconcile import reconcile
from hybrid_nds.training import (
    ContractionPenalty,
    LawLoss,
    MultipleShooting,
    SpectralAbscissaPenalty,
    TrajectoryLoss,
    fit,
)

KEY = jax.random.key(0)
ONE = (1.0, 1.0, 0.0)


class Slope(float):
    """A slope of logarithms of errors, which is exact but for round-off."""


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
    return np.asarray(ends, float) / s - origin


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
    return float(x[-1, 0]) / s


def first_crossing(units, dtype):
    problem = ordinary(pendulum, [1.0, 0.5], 20.0, units, dtype)
    # In units about an origin the tolerance is that of the swing alone.
    found = solve(problem, event=Event(crossing), rtol=0.0, atol=1e-4 * units[0])
    assert found.outcome_name == "event"
    return float(found.end_time) / units[1]


def moments(units, dtype):
    s, tau, origin = units
    problem = stochastic(unit_noise, [0.5], 2.0, units, dtype)
    found = ensemble(
        problem, 64, key=KEY, solver="Euler", dt=tau / 16, reduce=Moments()
    ).reduced
    mean, variance = (np.ravel(x)[-1] for x in (found.mean, found.variance))
    return mean / s - origin, variance / s**2


def orders(units, dtype):
    s, _, _ = units
    problem = ordinary(pendulum, [1.0, 0.5], 2.0, units, dtype)
    found = discretization.strong_order(problem, "Heun", steps=(4, 8, 16), refine=8)
    return Slope(found.order), np.array(found.errors) / s


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
        Slope(strong.order),
        np.array(strong.errors) / s,
        Slope(weak.order),
        np.array(weak.errors) / s,
    )


def work(units, dtype):
    s, _, _ = units
    problem = ordinary(pendulum, [1.0, 0.5], 2.0, units, dtype)
    found = discretization.work_precision(
        problem, {"diffrax": ["Tsit5"]}, rtols=(1e-2, 1e-3, 1e-4), repeats=1
    )
    return [row.error / s for row in found.rows]


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
    return Slope(found.slope), found.errors / units[0]


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
    return found.points / s - origin, found.eigenvalues * tau


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
    return law.mean / s - origin, law.covariance / s**2, decay.rates * tau


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
    _, tau, _ = units
    times = np.linspace(0, 1, 5)
    model = linear_model(np.zeros((2, 2)), units, dtype)
    learned = eqx.tree_at(
        lambda m: m.matrix, jax.tree_util.tree_map(lambda _: False, model), True
    )
    # Adam's step has the size of its rate, whatever that of the loss.
    found = fit(
        model,
        paths_in_units(units, dtype, times),
        TrajectoryLoss(times * tau, solver="Heun", dt=tau / 8),
        optax.adam(0.05, eps=0.0),
        steps=20,
        key=KEY,
        trainable=learned,
    )
    return np.asarray(found.model.matrix)


class LinearDiffusion(StochasticModel):
    """Linear attraction with additive noise, in units."""

    noise: str = eqx.field(static=True)
    interpretation: str = eqx.field(static=True)
    rate: jax.Array
    units: tuple

    def drift(self, t, y, args):
        _, tau, origin = jax.lax.stop_gradient(self.units)
        return -self.rate / tau * (y - origin)

    def diffusion(self, t, y, args):
        s, tau, _ = jax.lax.stop_gradient(self.units)
        return s / jnp.sqrt(tau) * jnp.ones_like(y)


def paths_in_units(units, dtype, times):
    """Rotation and decay from random starts, solutions of a linear equation."""
    s, _, origin = units
    starts = np.random.default_rng(0).normal(size=(20, 2))
    turns = [
        np.exp(-0.3 * t) * np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
        for t in times
    ]
    paths = np.einsum("tij,nj->nti", turns, starts)
    return jnp.asarray(s * (origin + np.asarray(paths, dtype)), dtype)


def losses(units, dtype):
    """Of shooting, of trajectories and of distributions: squares of the state, but for
    the energy distance, which has its unit."""
    s, tau, _ = units
    times = np.linspace(0, 1, 5)
    paths = paths_in_units(units, dtype, times)
    model = linear_model([[-0.3, 0.5], [-1.0, -0.2]], units, dtype)
    scheme = {"solver": "Heun", "dt": tau / 8}
    found = [
        loss(model, paths, KEY)[0] / s**2
        for loss in (
            MultipleShooting(times * tau, 2, **scheme),
            TrajectoryLoss(times * tau, **scheme),
        )
    ]
    scale = tuple(jnp.asarray(x, dtype) for x in (s, tau, units[2] * s))
    moved = LinearDiffusion("additive", "ito", jnp.asarray(0.7, dtype), scale)
    found += [
        LawLoss(times * tau, name, solver="Euler", dt=tau / 8)(moved, paths, KEY)[0]
        / s**power
        for name, power in (("energy", 1), ("sinkhorn", 2), ("mmd", 0))
    ]
    return [float(x) for x in found]


def adaptive_noise(units, dtype):
    s, tau, _ = units
    problem = stochastic(
        growing_noise, [1.0], 1.0, units, dtype, interpretation="stratonovich"
    )
    # Tolerances that are said are those of the unit.
    found = solve(
        problem, key=KEY, solver="SPaRK", rtol=1e-3, atol=1e-3 * s, saveat="steps"
    )
    assert len(found.ts) > 5
    return np.asarray(found.ts, float) / tau, np.asarray(found.ys, float) / s


def chaotic_average(units, dtype):
    """The invariant measure of an equation without noise: Lorenz's."""
    s, tau, origin = units

    def lorenz(u, own):
        a, b, c = u
        return jnp.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c])

    problem = ordinary(lorenz, [1.0, 1.0, 20.0], 1.0, units, dtype)
    found = stability.invariant_law(
        problem,
        key=KEY,
        solver="Heun",
        dt=tau / 128,
        time=4 * tau,
        transient=tau,
        sampling=tau / 32,
        chains=2,
        initial=problem.y0[None] + s * jnp.asarray([3 * [0.0], 3 * [1.0]], dtype),
        check_step=False,
    )
    return found.mean / s - origin, found.covariance / s**2


def sampled_moment(units, dtype):
    _, tau, _ = units
    problem = stochastic(growing_noise, [1.0], 1.0, units, dtype)
    found = stability.moment_exponent(
        problem,
        0.5,
        method="monte-carlo",
        solver="Euler",
        dt=tau / 16,
        trajectories=500,
        key=KEY,
    )
    return found.value * tau, found.low * tau


def chaos(units, dtype):
    s, tau, _ = units

    def system(meeting):
        def made(count):
            def drift(t, x, args):
                unit, time, _, _ = args
                centre = jnp.mean(x) if meeting else unit
                return -(x - centre) / time

            return SDEProblem(
                drift,
                NoiseInUnits(unit_noise),
                jnp.full((count, 1), s, dtype),
                0.0,
                jnp.asarray(tau, dtype),
                _args(units, dtype),
                noise="additive",
            )

        return made

    found = discretization.propagation_of_chaos(
        system(True),
        system(False),
        solver="Euler",
        steps=4,
        key=KEY,
        counts=(2, 4, 8),
        draws=8,
    )
    return Slope(found.slope), found.errors / s


def widths(units, dtype):
    s, _, _ = units

    def network(width, key):
        return jnp.mean(s * jax.random.normal(key, (width, 3), dtype), axis=0)

    found = discretization.width_scaling(
        network, np.zeros(3, dtype), widths=(2, 4, 8), draws=8, key=KEY
    )
    return Slope(found.slope), found.errors / s


def reductions(units, dtype):
    s, tau, origin = units
    problem = stochastic(unit_noise, [0.5], 2.0, units, dtype)
    edges = s * (origin + np.array([-3.0, -1.0, 0.0, 0.5, 2.0]))
    given = {"key": KEY, "solver": "Euler", "dt": tau / 16}
    counted = ensemble(problem, 64, reduce=Histogram(edges), **given).reduced
    sketched = ensemble(problem, 64, reduce=Quantiles([0.1, 0.5]), **given).reduced
    return counted.counts, sketched.values / s - origin


# Each tool, and for which precisions it is quick.
TOOLS = {
    steps_of_noise: (),
    langevin: (),
    first_crossing: (),
    moments: (),
    orders: ("float64", "float32"),
    orders_on_paths: (),
    work: (),
    work_in_steps: (),
    depths: (),
    penalties: (),
    rest: ("float32",),
    orbit: (),
    linear_growth: ("float64",),
    sampled_growth: ("float64", "float32"),
    rates_along_an_orbit: (),
    sampled_law: (),
    exits: (),
    verdicts: (),
    trained: (),
    losses: (),
    adaptive_noise: (),
    chaotic_average: (),
    sampled_moment: ("float64", "float32"),
    chaos: (),
    widths: ("float64",),
    reductions: (),
}


def leaves(answer):
    return jax.tree_util.tree_leaves(answer, is_leaf=lambda x: isinstance(x, Slope))
