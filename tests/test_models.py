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
from hybrid_nds.models import ContinuousModel, StochasticModel
from hybrid_nds.reconcile import reconcile


def fields(model):
    if isinstance(model, StochasticModel):
        return {"drift": model.drift, "diffusion": model.diffusion}
    return {"field": model}


@pytest.mark.parametrize("name", CASES)
def test_lowers_without_a_callback(name):
    model, y0, _, args = CASES[name]()
    for part, field in fields(model).items():
        # Of the diffusion, an output of another shape than the state.
        flat = lambda t, y, a, field=field: ravel_pytree(field(t, y, a))[0]
        whole = field if part != "diffusion" else flat
        if part == "diffusion":
            jaxpr = jax.make_jaxpr(flat)(0.1, y0, args)
            assert "callback" not in str(jaxpr)
            continue
        source = lowering.to_julia(whole, jnp.asarray(0.1), y0, args)
        assert source.startswith("function ")


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
    def both(trained):
        return jax.value_and_grad(loss)(trained)

    before, slope = both(trained)
    size = sum(jnp.sum(g**2) for g in jax.tree.leaves(slope))
    assert size > 0
    # So short that the first order decides: a thousandth of the loss, or less.
    rate = 1e-3 * before / size
    after = both(jax.tree.map(lambda w, g: w - rate * g, trained, slope))[0]
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
