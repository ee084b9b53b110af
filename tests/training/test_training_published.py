"""The losses of published examples are reached."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from scipy.integrate import solve_ivp

from hybrid_nds.models import LatentODE, LatentSDE
from hybrid_nds.training import fit

TIMES = np.linspace(0, 10, 100, dtype=np.float32)


class Field(eqx.Module):
    network: eqx.nn.MLP

    def __call__(self, t, y, args):
        return self.network(y)


def oscillators(starts):
    """Deformed sines and cosines, solved by SciPy, shape (256, 100, 2)."""

    def field(t, y):
        x = y / (1 + y)
        return [x[1], -x[0]]

    paths = [
        solve_ivp(field, (0, 10), y0, t_eval=TIMES, rtol=1e-6, atol=1e-9).y.T
        for y0 in starts
    ]
    return np.array(paths, np.float32)


def loss(model, batch, key):
    times = jnp.asarray(TIMES[: batch.shape[1]])

    def solve(y0):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(model),
            diffrax.Tsit5(),
            times[0],
            times[-1],
            times[1] - times[0],
            y0,
            stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-6),
            saveat=diffrax.SaveAt(ts=times),
        ).ys

    return jnp.mean((jax.vmap(solve)(batch[:, 0]) - batch) ** 2)


def batches(paths, key):
    """In the order of the example, which leaves out the last batch of each epoch."""
    paths = jnp.asarray(paths)
    while True:
        order = jr.permutation(key, jnp.arange(256))
        (key,) = jr.split(key, 1)
        for start in range(0, 224, 32):
            yield paths[order[start : start + 32]]


@pytest.mark.slow
def test_the_neural_ode_of_diffrax():
    """Its documentation prints 0.00115 after 1000 steps: the loss of one batch, so the
    weights, data and batches here are drawn from the same keys."""
    with jax.enable_x64(False):
        data_key, model_key, key = jr.split(jr.PRNGKey(5678), 3)
        starts = jax.vmap(lambda k: jr.uniform(k, (2,), minval=-0.6, maxval=1.0))(
            jr.split(data_key, 256)
        )
        paths = oscillators(np.asarray(starts, float))
        softplus = jax.nn.softplus
        model = Field(eqx.nn.MLP(2, 2, 64, 2, activation=softplus, key=model_key))
        # First on a tenth of each path.
        for points in (10, 100):
            data = batches(paths[:, :points], key)
            done = fit(model, data, loss, optax.adabelief(3e-3), steps=500, key=key)
            model = done.model
        assert done.history.loss[-1] <= 0.00115


TURNING = np.array([[-0.1, 1.3], [-1.0, -0.1]], np.float32)
POINTS, STEPS = 20, 64
# Mean of the last 20 of the 250 steps that the documentation prints.
PUBLISHED_LATENT = 4.009


def decaying(key, count, steps=None):
    """Times and series of Diffrax's latent ODE, in closed form.

    With `steps`, times are moved to whole steps between the first and the last one.
    """
    start_key, end_key, time_key = jr.split(key, 3)
    starts = jr.normal(start_key, (count, 2))
    ends = 2 + jr.uniform(end_key, (count, 1))
    times = jnp.sort(jr.uniform(time_key, (count, POINTS)) * ends)
    if steps is not None:
        first, span = times[:, :1], times[:, -1:] - times[:, :1]
        number = jnp.arange(POINTS)
        places = jnp.round((times - first) / span * steps)
        # All different, and the last one at the end.
        places = jax.lax.cummax(places - number, axis=1) + number
        places = jnp.minimum(places, steps + 1 - POINTS + number)
        times = first + places / steps * span
    return times, jnp.einsum("ntij,nj->nti", propagators(times), starts)


def propagators(times):
    """exp(A(t - t_0)) for each time, of shape (n, times, 2, 2)."""
    since = times - times[:, :1]
    return jax.vmap(jax.vmap(lambda t: jax.scipy.linalg.expm(TURNING * t)))(since)


def least_bound(times):
    """What no model of the series can go below: the mean of minus their log-likelihood,
    for observations with noise of variance one, less POINTS log 2π.

    With x = Φz for z ~ N(0, I), M = ΦᵀΦ: E[xᵀ(I + ΦΦᵀ)⁻¹x]/2 + log|I + M|/2 is
    tr(M(I + M)⁻¹)/2 + log|I + M|/2.
    """
    forms = np.einsum("ntij,ntik->njk", *2 * [np.asarray(propagators(times), float)])
    one = forms + np.eye(2)
    quadratic = np.trace(forms @ np.linalg.inv(one), axis1=1, axis2=2)
    return np.mean(quadratic + np.linalg.slogdet(one)[1]) / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "options", "steps"),
    [
        (LatentODE, {"solver": "Tsit5", "dt": 0.4}, None),
        (LatentSDE, {"steps": STEPS}, STEPS),
    ],
)
def test_latent_models_reach_that_of_diffrax(make, options, steps):
    """Its documentation's loss is half the squared error plus the divergence."""
    with jax.enable_x64(False):
        data = decaying(jr.key(0), 10_000, steps)
        model = make(2, 16 if steps is None else 4, 16, deviation=1.0, key=jr.key(1))

        def loss(model, batch, key):
            keys = jr.split(key, batch[0].shape[0])
            terms = jax.vmap(lambda t, x, k: model.evidence(t, x, k, **options))
            return -jnp.mean(terms(*batch, keys).bound) - POINTS * jnp.log(2 * jnp.pi)

        # The example's noise of observations is one, and not trained.
        trained = eqx.tree_at(
            lambda m: m.log_deviation, jax.tree.map(eqx.is_inexact_array, model), False
        )
        count = 1000
        done = fit(
            model,
            data,
            loss,
            optax.adam(optax.cosine_decay_schedule(1e-2, count)),
            steps=count,
            batch_size=256,
            key=jr.key(2),
            trainable=trained,
        )
        last = done.history.loss[-20:]
        assert np.mean(last) <= PUBLISHED_LATENT
        # Batches spread about their mean; five standard errors.
        spread = 5 * np.std(last) / np.sqrt(20)
        assert np.mean(last) >= least_bound(data[0]) - spread
