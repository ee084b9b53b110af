"""What every model does: it lowers, climbs to the first rung, learns, is complete."""

import functools
import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from model_cases import CASES

from hybrid_nds import lowering, models, solve
from hybrid_nds.backends.julia._evaluate import evaluate_function
from hybrid_nds.models import ContinuousModel, StochasticModel
from hybrid_nds.reconcile import reconcile


@functools.cache
def _case(name):
    return CASES[name]()


@pytest.mark.parametrize("name", CASES)
def test_lowers_without_a_callback(name):
    model, y0, t1, args = _case(name)
    if isinstance(model, StochasticModel):
        lowered = lowering.lower_stochastic_problem(model.problem(y0, 0.0, t1, args))
        sources = [lowered.drift.source, lowered.diffusion.source]
    else:
        sources = [lowering.to_julia(model, jnp.asarray(0.1), y0, args)]
    assert all("function " in source for source in sources)


@pytest.mark.julia
@pytest.mark.parametrize("name", CASES)
def test_runs_natively(julia, name):
    model, y0, _, args = _case(name)
    field = model.drift if isinstance(model, StochasticModel) else model
    u, unravel = ravel_pytree(y0)
    lowered = lowering.lower(field, jnp.asarray(0.3), y0, args)
    p = lowering.parameter_vector(field, args, u.dtype)
    result = evaluate_function(lowered, np.asarray(u), p, 0.3)
    expected = ravel_pytree(field(jnp.asarray(0.3), unravel(u), args))[0]
    # Tens of roundings, condition numbers below a thousand.
    np.testing.assert_allclose(result.values, expected, rtol=1e-11, atol=1e-12)
    assert result.allocated == 0


@pytest.mark.slow
@pytest.mark.julia
@pytest.mark.parametrize("name", CASES)
def test_the_first_rung_holds(julia, name):
    model, y0, t1, args = _case(name)
    report = reconcile(model.problem(y0, 0.0, t1, args), rungs=["L0"], julia="live")
    assert report.passed, str(report)


def _descend(loss, model):
    """Two steps down the gradient: the losses before, and the squared slopes."""
    trained, fixed = eqx.partition(model, eqx.is_inexact_array)

    @jax.jit
    def steps(trained):
        def step(trained, _):
            value, slope = jax.value_and_grad(lambda w: loss(eqx.combine(w, fixed)))(
                trained
            )
            size = sum(jnp.sum(g**2) for g in jax.tree.leaves(slope))
            # So short that the first order decides: a thousandth of the loss, or less.
            rate = 1e-3 * value / size
            after = jax.tree.map(lambda w, g: w - rate * g, trained, slope)
            return after, (value, size)

        # A loop, so that both are compiled once.
        return jax.lax.scan(step, trained, length=2)[1]

    (before, after), (size, _) = steps(trained)
    assert size > 0
    np.testing.assert_allclose(before - after, 1e-3 * before, rtol=0.5)


def _distance(y):
    return jnp.sum((ravel_pytree(y)[0] - 0.7) ** 2)


@pytest.mark.parametrize("name", CASES)
def test_a_step_down_the_gradient_lowers_a_loss(name):
    model, y0, t1, args = _case(name)
    h = t1 / 16

    def loss(model):
        """Of the end of Euler's steps, along a path that rises √h in each."""
        stochastic = isinstance(model, StochasticModel)

        def step(y, t):
            moved = jax.tree.map(
                lambda y, f: y + h * f,
                y,
                (model.drift if stochastic else model)(t, y, args),
            )
            if stochastic:
                moved = jax.tree.map(
                    # A matrix of noise has a column for every Brownian motion.
                    lambda y, g: y + np.sqrt(h) * (g.sum(-1) if g.ndim > y.ndim else g),
                    moved,
                    model.diffusion(t, y, args),
                )
            return moved, None

        return _distance(jax.lax.scan(step, y0, h * jnp.arange(16.0))[0])

    _descend(loss, model)


# One of every kind of equation, noise, state and input: what models differ in for a
# solve.
SOLVED = (
    "NeuralODE",
    "PortHamiltonianODE, driven",
    "LatentSDE",
    "NeuralSDE, additive",
    "NeuralSDE, scalar",
    "NeuralSDE, diagonal",
    "NeuralSDE, general",
)


@pytest.mark.parametrize(
    "name",
    [
        name if name in SOLVED else pytest.param(name, marks=pytest.mark.slow)
        for name in CASES
    ],
)
def test_a_step_down_the_gradient_of_a_solve_lowers_a_loss(name):
    model, y0, t1, args = _case(name)

    def loss(model):
        problem = model.problem(y0, 0.0, t1, args)
        stochastic = isinstance(model, StochasticModel)
        options = {"key": jr.key(3)} if stochastic else {}
        ito = stochastic and model.interpretation == "ito"
        solver = "Euler" if ito or not stochastic else "Heun"
        ys = solve(problem, solver=solver, dt=t1 / 16, **options).ys
        return _distance(jax.tree.map(lambda y: y[-1], ys))

    _descend(loss, model)


def test_every_model_is_in_the_table():
    kinds = {type(_case(name)[0]) for name in CASES}
    public = {
        kind
        for kind in vars(models).values()
        if inspect.isclass(kind)
        and issubclass(kind, ContinuousModel | StochasticModel)
        and not inspect.isabstract(kind)
        and kind not in (ContinuousModel, StochasticModel)
    }
    assert public == kinds
