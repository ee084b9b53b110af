"""Time series as seen through a latent equation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._core import check_number, check_whole, is_concrete
from ..noise import StoredPath
from ..problems import Interpretation, NoiseKind
from ..solving import solve
from ._base import ContinuousModel, StochasticModel
from ._neural_ode import make_network, with_time
from ._path_divergence import Followed, PathDivergence


class EvidenceBound(NamedTuple):
    """A lower bound of a series' log-likelihood, estimated with one draw.

    **Fields:** the `bound`, `log_likelihood - initial - path`; the `log_likelihood` of
    the observations given the latent path; the divergences of the `initial` state and
    of the `path` from those of the prior, in nats.
    """

    bound: Float[Array, ""]
    log_likelihood: Float[Array, ""]
    initial: Float[Array, ""]
    path: Float[Array, ""]


class LatentODE(ContinuousModel):
    """A series as observations of an ordinary equation from a random state, $z_0 \\sim
    N(0, I)$, $\\dot z = N_\\theta(z)$, $x_k \\sim N(D_\\theta(z(t_k)), s^2I)$, with
    $q(z_0\\mid x) = N(\\mu, \\operatorname{diag}\\sigma^2)$ from a recurrent network
    that reads the series backward (Chen et al. 2018, Neural ordinary differential
    equations, section 5; Rubanova et al. 2019).

    The field is that of the latent state.

    **Arguments:**

    - `observed`: how many components an observation has.
    - `latent`: how many the latent state has.
    - `width`, `depth`: of the hidden layers; the recurrent network has `width` units.
    - `deviation`: $s$ to start with.
    - `activation`, `key`, `dtype`: as of [`NeuralODE`][hybrid_nds.models.NeuralODE].

    **Raises:** `ValueError`, naming the argument.
    """

    network: eqx.nn.MLP
    decoder: eqx.nn.MLP
    encoder: Encoder
    statistics: eqx.nn.Linear
    log_deviation: Float[Array, ""]
    latent: int = eqx.field(static=True)

    def __init__(
        self,
        observed: int,
        latent: int = 4,
        width: int = 32,
        depth: int = 2,
        *,
        deviation: float = 0.1,
        activation: Callable[[Array], Array] = jnp.tanh,
        key: PRNGKeyArray,
        dtype: Any = None,
    ):
        caller = "LatentODE"
        observed = check_whole(caller, "observed", observed)
        self.latent = check_whole(caller, "latent", latent)
        keys = jr.split(key, 4)
        shared = (width, depth, activation, False)
        self.network = make_network(caller, latent, *shared, keys[0], dtype)
        self.decoder = make_network(
            caller, latent, *shared, keys[1], dtype, outputs=observed
        )
        self.encoder = Encoder(observed, width, key=keys[2], dtype=dtype)
        self.statistics = eqx.nn.Linear(width, 2 * latent, dtype=dtype, key=keys[3])
        self.log_deviation = _log_deviation(caller, deviation, self.statistics)

    def __call__(
        self, t: Any, y: Float[Array, " latent"], args: PyTree = None
    ) -> Float[Array, " latent"]:
        return self.network(y)

    def posterior(
        self, ts: Float[Array, " times"], xs: Float[Array, "times observed"]
    ) -> tuple[Float[Array, " latent"], Float[Array, " latent"]]:
        """The mean and the standard deviation of the first latent state."""
        return _gaussian(self.statistics(self.encoder(ts, xs)[0]))

    def evidence(
        self,
        ts: Float[Array, " times"],
        xs: Float[Array, "times observed"],
        key: PRNGKeyArray,
        **options: Any,
    ) -> EvidenceBound:
        """A lower bound of the log-likelihood of one series.

        **Arguments:** the times and the observations (`jax.vmap` for several series); a
        JAX random key; options of [`solve`][hybrid_nds.solve].

        **Returns:** an [`EvidenceBound`][hybrid_nds.models.EvidenceBound], whose path
        has no divergence of its own.
        """
        _check_series("LatentODE", ts, xs, self.decoder.out_size)
        mean, deviation = self.posterior(ts, xs)
        start = mean + deviation * jr.normal(key, mean.shape, mean.dtype)
        problem = self.problem(start, ts[0], ts[-1])
        zs = solve(problem, saveat=ts, **options).ys
        seen = _log_likelihood(jax.vmap(self.decoder)(zs), xs, self.log_deviation)
        initial = _divergence(mean, deviation)
        return EvidenceBound(seen - initial, seen, initial, jnp.zeros_like(seen))

    def generate(
        self, ts: Float[Array, " times"], key: PRNGKeyArray, **options: Any
    ) -> Float[Array, "times observed"]:
        """A series of the prior, without the noise of observations."""
        kind = self.log_deviation.dtype
        start = jr.normal(key, (self.latent,), kind)
        zs = solve(self.problem(start, ts[0], ts[-1]), saveat=ts, **options).ys
        return jax.vmap(self.decoder)(zs)


class LatentSDE(StochasticModel):
    """A series as observations of a diffusion, $z_0 \\sim N(0, I)$,
    $dz = h_\\theta(z, t)\\,dt + g_\\theta(z)\\,dW$,
    $x_k \\sim N(D_\\theta(z(t_k)), s^2I)$, whose posterior has the drift
    $f_\\theta(z, t, c(t))$ with $c$ what a recurrent network says that reads the series
    backward (Li et al. 2020, Scalable gradients for stochastic differential equations,
    section 5).

    The equation of the model is that of the posterior together with the divergence of
    its paths from the prior's, see
    [`PathDivergence`][hybrid_nds.models.PathDivergence]: the state is `(z,
    divergence)`, and `args` the context $c$, a Diffrax path.

    **Arguments:** those of [`LatentODE`][hybrid_nds.models.LatentODE], and `context`,
    how many components $c$ has.

    **Raises:** `ValueError`, naming the argument.
    """

    prior: eqx.nn.MLP
    network: eqx.nn.MLP
    volatility: eqx.nn.MLP
    """For each component of the state, of that component alone; positive."""
    decoder: eqx.nn.MLP
    encoder: Encoder
    context: eqx.nn.Linear
    statistics: eqx.nn.Linear
    log_deviation: Float[Array, ""]
    latent: int = eqx.field(static=True)
    noise: NoiseKind = eqx.field(static=True)
    interpretation: Interpretation = eqx.field(static=True)

    def __init__(
        self,
        observed: int,
        latent: int = 4,
        width: int = 32,
        depth: int = 2,
        *,
        context: int = 16,
        deviation: float = 0.1,
        activation: Callable[[Array], Array] = jnp.tanh,
        key: PRNGKeyArray,
        dtype: Any = None,
    ):
        caller = "LatentSDE"
        observed = check_whole(caller, "observed", observed)
        self.latent = check_whole(caller, "latent", latent)
        context = check_whole(caller, "context", context)
        keys = jr.split(key, 7)

        def network(size: int, time: bool, key: PRNGKeyArray, **more: Any) -> Any:
            return make_network(
                caller, size, width, depth, activation, time, key, dtype, **more
            )

        self.prior = network(latent, True, keys[0])
        self.network = network(latent, True, keys[1], inputs=context)
        self.volatility = eqx.filter_vmap(lambda key: network(1, False, key))(
            jr.split(keys[2], latent)
        )
        self.decoder = network(latent, False, keys[3], outputs=observed)
        self.encoder = Encoder(observed, width, key=keys[4], dtype=dtype)
        self.context = eqx.nn.Linear(width, context, dtype=dtype, key=keys[5])
        self.statistics = eqx.nn.Linear(width, 2 * latent, dtype=dtype, key=keys[6])
        self.log_deviation = _log_deviation(caller, deviation, self.statistics)
        self.noise, self.interpretation = "diagonal", "ito"

    def drift(self, t: Any, y: Followed, args: PyTree = None) -> Followed:
        return self._followed().drift(t, y, args)

    def diffusion(self, t: Any, y: Followed, args: PyTree = None) -> Followed:
        return self._followed().diffusion(t, y, args)

    def prior_drift(self, t: Any, z: Array, args: PyTree = None) -> Array:
        """$h_\\theta(z, t)$."""
        return self.prior(with_time(z, t))

    def posterior_drift(self, t: Any, z: Array, args: PyTree) -> Array:
        """$f_\\theta(z, t, c(t))$."""
        return self.network(jnp.concatenate([with_time(z, t), args.evaluate(t)]))

    def noise_strength(self, t: Any, z: Array, args: PyTree = None) -> Array:
        """$g_\\theta(z)$, positive."""
        apply = eqx.filter_vmap(lambda network, value: network(value[None])[0])
        return jax.nn.softplus(apply(self.volatility, z)) + 1e-3

    def _followed(self) -> PathDivergence:
        return PathDivergence(
            self.posterior_drift, self.prior_drift, self.noise_strength
        )

    def posterior(
        self, ts: Float[Array, " times"], xs: Float[Array, "times observed"]
    ) -> tuple[Array, Array, diffrax.LinearInterpolation]:
        """The mean and the standard deviation of the first latent state, and the
        context as a path."""
        hidden = self.encoder(ts, xs)
        path = diffrax.LinearInterpolation(ts, jax.vmap(self.context)(hidden))
        return *_gaussian(self.statistics(hidden[0])), path

    def evidence(
        self,
        ts: Float[Array, " times"],
        xs: Float[Array, "times observed"],
        key: PRNGKeyArray,
        *,
        steps: int,
        solver: str = "Euler",
        **options: Any,
    ) -> EvidenceBound:
        """A lower bound of the log-likelihood of one series.

        **Arguments:** the times, whole steps after the first, and the observations
        (`jax.vmap` for several series); a JAX random key; how many equal `steps` to
        take from the first time to the last; the `solver` and other options of
        [`solve`][hybrid_nds.solve].

        **Returns:** an [`EvidenceBound`][hybrid_nds.models.EvidenceBound].
        """
        _check_series("LatentSDE", ts, xs, self.decoder.out_size)
        _check_steps(ts, steps)
        first, noise = jr.split(key)
        mean, deviation, context = self.posterior(ts, xs)
        start = mean + deviation * jr.normal(first, mean.shape, mean.dtype)
        began = (start, jnp.zeros((), start.dtype))
        problem = self.problem(began, ts[0], ts[-1], context)
        path = _drawn(noise, self.latent + 1, ts, steps)
        found = solve(problem, solver=solver, path=path, saveat="steps", **options)
        zs, divergence = found.ys
        decoded = jax.vmap(self.decoder)(zs[_places(ts, steps)])
        seen = _log_likelihood(decoded, xs, self.log_deviation)
        initial, along = _divergence(mean, deviation), divergence[-1]
        return EvidenceBound(seen - initial - along, seen, initial, along)

    def generate(
        self,
        ts: Float[Array, " times"],
        key: PRNGKeyArray,
        *,
        steps: int,
        solver: str = "Euler",
        **options: Any,
    ) -> Float[Array, "times observed"]:
        """A series of the prior, without the noise of observations; arguments as of
        `evidence`."""
        _check_steps(ts, steps)
        first, noise = jr.split(key)
        start = jr.normal(first, (self.latent,), self.log_deviation.dtype)
        path = _drawn(noise, self.latent, ts, steps)
        problem = _Prior(self).problem(start, ts[0], ts[-1])
        found = solve(problem, solver=solver, path=path, saveat="steps", **options)
        return jax.vmap(self.decoder)(found.ys[_places(ts, steps)])


class _Prior(StochasticModel):
    """The prior of a latent equation, a model of its own."""

    model: LatentSDE
    noise: NoiseKind = eqx.field(static=True)
    interpretation: Interpretation = eqx.field(static=True)

    def __init__(self, model: LatentSDE):
        self.model = model
        self.noise, self.interpretation = "diagonal", "ito"

    def drift(self, t: Any, y: Array, args: PyTree = None) -> Array:
        return self.model.prior_drift(t, y)

    def diffusion(self, t: Any, y: Array, args: PyTree = None) -> Array:
        return self.model.noise_strength(t, y)


class Encoder(eqx.Module):
    """A recurrent network that reads a series backward, with the time to the next
    observation as one more input (Cho et al. 2014).

    **Arguments:** how many components an observation has; how many units.
    """

    cell: eqx.nn.GRUCell

    def __init__(
        self, observed: int, width: int, *, key: PRNGKeyArray, dtype: Any = None
    ):
        self.cell = eqx.nn.GRUCell(observed + 1, width, dtype=dtype, key=key)

    def __call__(
        self, ts: Float[Array, " times"], xs: Float[Array, "times observed"]
    ) -> Float[Array, "times width"]:
        """The state at each time, which has seen that observation and later ones."""
        gaps = jnp.append(jnp.diff(ts), jnp.zeros((), ts.dtype))
        rows = jnp.concatenate([xs, gaps[:, None].astype(xs.dtype)], axis=1)

        def read(hidden: Array, row: Array) -> tuple[Array, Array]:
            hidden = self.cell(row, hidden)
            return hidden, hidden

        blank = jnp.zeros(self.cell.hidden_size, xs.dtype)
        return jax.lax.scan(read, blank, rows, reverse=True)[1]


def _drawn(key: PRNGKeyArray, motions: int, ts: Array, steps: int) -> StoredPath:
    """A Brownian path over the times, which may be traced."""
    scale = jnp.sqrt((ts[-1] - ts[0]) / steps)
    increments = scale * jr.normal(key, (steps, motions), ts.dtype)
    return StoredPath(increments, t0=ts[0], t1=ts[-1])


def _places(ts: Array, steps: int) -> Array:
    """The steps that end at the times."""
    return jnp.round((ts - ts[0]) / (ts[-1] - ts[0]) * steps).astype(int)


def _log_deviation(caller: str, value: Any, like: eqx.nn.Linear) -> Array:
    given = check_number(caller, "deviation", value, 0.0)
    return jnp.log(jnp.asarray(given, like.weight.dtype))


def _gaussian(statistics: Array) -> tuple[Array, Array]:
    mean, raw = jnp.split(statistics, 2)
    return mean, jax.nn.softplus(raw) + 1e-4


def _divergence(mean: Array, deviation: Array) -> Array:
    """Of a normal distribution with independent components from the standard one, in
    nats."""
    return jnp.sum((mean**2 + deviation**2 - 1) / 2 - jnp.log(deviation))


def _log_likelihood(means: Array, xs: Array, log_deviation: Array) -> Array:
    gaps = (xs - means) * jnp.exp(-log_deviation)
    return -jnp.sum(gaps**2 / 2 + log_deviation + jnp.log(2 * jnp.pi) / 2)


def _check_steps(ts: Any, steps: Any) -> None:
    """Refuse times that are known and fall between the steps."""
    check_whole("LatentSDE", "steps", steps)
    if not is_concrete(ts):
        return
    times = np.asarray(ts, float)
    positions = (times - times[0]) / (times[-1] - times[0]) * steps
    worst = int(np.argmax(np.abs(positions - np.round(positions))))
    # The times may be of single precision.
    if abs(positions[worst] - round(positions[worst])) > 1e-4:
        raise ValueError(
            f"LatentSDE: `ts` must be whole steps after the first time, but "
            f"{times[worst]:g} is {positions[worst]:g} of {steps} steps after it; take "
            "more `steps`."
        )


def _check_series(caller: str, ts: Any, xs: Any, observed: Any) -> None:
    times = jnp.shape(ts)
    if len(times) != 1 or times[0] < 2 or jnp.shape(xs) != (*times, observed):
        raise ValueError(
            f"{caller}: `ts` and `xs` must have shapes (times,) and (times, "
            f"{observed}) with two times or more, got {times} and {jnp.shape(xs)}; use "
            "jax.vmap for several series."
        )
