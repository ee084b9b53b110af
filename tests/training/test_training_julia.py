"""Training through solves in Julia, held to training through Diffrax."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from training_cases import PATHS, TIMES, Field

from hybrid_nds.training import MultipleShooting, TrajectoryLoss, fit


@pytest.mark.julia
def test_losses_and_gradients_are_those_on_diffrax(julia):
    model, batch = Field(jr.key(0)), jnp.asarray(PATHS[:8])
    options = {"rtol": 1e-9, "atol": 1e-9}
    for kind, arguments in ((TrajectoryLoss, ()), (MultipleShooting, (2,))):
        there = kind(TIMES, *arguments, solver="Tsit5", **options)
        here = kind(TIMES, *arguments, backend="julia", solver="Rodas5P", **options)
        value = lambda loss: eqx.filter_value_and_grad(
            lambda model: loss(model, batch, jr.key(1))[0]
        )(model)
        (one, gradient), (other, expected) = value(here), value(there)
        # Some hundred times the tolerance.
        np.testing.assert_allclose(one, other, rtol=1e-7)
        for x, y in zip(
            jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7)


@pytest.mark.julia
def test_fit_trains_through_julia(julia):
    def trained(**options):
        loss = TrajectoryLoss(TIMES, rtol=1e-9, atol=1e-9, **options)
        return fit(
            Field(jr.key(0)),
            PATHS,
            loss,
            optax.adam(1e-2),
            steps=5,
            batch_size=8,
            key=jr.key(1),
        )

    here = trained(backend="julia", solver="Rodas5P")
    there = trained(solver="Tsit5")
    # Five steps of Adam, which divide gradients by their size.
    np.testing.assert_allclose(here.history.loss, there.history.loss, rtol=1e-5)


def test_a_backend_that_is_none_is_refused():
    for kind, arguments in ((TrajectoryLoss, ()), (MultipleShooting, (2,))):
        with pytest.raises(ValueError, match="`backend` must be one of diffrax, julia"):
            kind(TIMES, *arguments, backend="scipy")
