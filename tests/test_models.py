"""What every model does: it lowers, climbs to the first rung, learns, is complete."""

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
from hybrid_nds.backends.julia_evaluate import evaluate_function
from hybrid_nds.models import ContinuousModel, StochasticModel
from hybrid_nds.reconcile import reconcile


@pytest.mark.parametrize("name", CASES)
def test_lowers_without_a_callback(name):
    model, y0, t1, args = CASES[name]()
    if isinstance(model, StochasticModel):
        lowered = lowering.lower_stochastic_problem(model.problem(y0, 0.0, t1, args))
        sources = [lowered.drift.source, lowered.diffusion.source]
    else:
        sources = [lowering.to_julia(model, jnp.asarray(0.1), y0, args)]
    assert all("function " in source for source in sources)


@pytest.mark.julia
@pytest.mark.parametrize("name", CASES)
def test_runs_natively(julia, name):
    model, y0, _, args = CASES[name]()
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
    model, y0, t1, args = CASES[name]()
    report = reconcile(model.problem(y0, 0.0, t1, args), rungs=["L0"], julia="live")
    assert report.passed, str(report)


@pytest.mark.parametrize("name", CASES)
def test_a_step_down_the_gradient_lowers_a_loss(name):
    model, y0, t1, args = CASES[name]()
    trained, fixed = eqx.partition(model, eqx.is_inexact_array)

    def loss(trained):
        problem = eqx.combine(trained, fixed).problem(y0, 0.0, t1, args)
        stochastic = isinstance(model, StochasticModel)
        options = {"key": jr.key(3)} if stochastic else {}
        ito = stochastic and model.interpretation == "ito"
        solver = "Euler" if ito or not stochastic else "Heun"
        ys = solve(problem, solver=solver, dt=t1 / 16, **options).ys
        end = ravel_pytree(jax.tree.map(lambda y: y[-1], ys))[0]
        return jnp.sum((end - 0.7) ** 2)

    @jax.jit
    def steps(trained):
        def step(trained, _):
            value, slope = jax.value_and_grad(loss)(trained)
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


def test_every_model_is_in_the_table():
    kinds = {type(case()[0]) for case in CASES.values()}
    public = {
        kind
        for kind in vars(models).values()
        if inspect.isclass(kind)
        and issubclass(kind, ContinuousModel | StochasticModel)
        and not inspect.isabstract(kind)
        and kind not in (ContinuousModel, StochasticModel)
    }
    assert public == kinds
