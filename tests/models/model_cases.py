"""Every model, ready to run: one table for every suite.

Each case builds `(model, y0, t1, args)` when it is asked for: an initial state, the end
of a span from 0 on, and what the field needs beside.
"""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from hybrid_nds import models


def _key(seed=0):
    return jr.key(seed)


def _state(*shape):
    return jr.normal(_key(7), shape)


def _case(model, y0, t1=1.0, args=None):
    return model, y0, t1, args


def _path(channels):
    """A smooth path through a few data, the time first."""
    times = jnp.linspace(0.0, 1.0, 6)
    values = jnp.stack([times, *(jnp.sin(k * times) for k in range(1, channels))], -1)
    slopes = diffrax.backward_hermite_coefficients(times, values)
    return diffrax.CubicInterpolation(times, slopes)


def _sphere(tokens, dimension):
    points = _state(tokens, dimension)
    return points / jnp.linalg.norm(points, axis=1, keepdims=True)


def _one(t, y, args):
    return 0.5 * jnp.ones_like(y)


class Bowl(eqx.Module):
    """A loss with a parameter, quartic."""

    centre: jax.Array

    def __call__(self, x):
        away = x - self.centre
        return 0.25 * jnp.sum(away**4) + 0.5 * jnp.sum(away**2)


class Metric(eqx.Module):
    """A metric with a parameter, positive definite everywhere."""

    tilt: jax.Array

    def __call__(self, x):
        along = self.tilt + jnp.tanh(x)
        return jnp.eye(x.size, dtype=x.dtype) + jnp.outer(along, along)


CASES = {
    "NeuralODE": lambda: _case(models.NeuralODE(3, 8, key=_key()), _state(3)),
    "NeuralODE, of time": lambda: _case(
        models.NeuralODE(3, 8, time=True, activation=jax.nn.softplus, key=_key()),
        _state(3),
    ),
    "DepthVaryingODE": lambda: _case(
        models.DepthVaryingODE(3, 8, 1, knots=4, key=_key()), _state(3)
    ),
    "AugmentedNeuralODE": lambda: _case(
        models.AugmentedNeuralODE(2, 2, 8, key=_key()), _state(4)
    ),
    "HamiltonianODE": lambda: _case(models.HamiltonianODE(2, 8, key=_key()), _state(4)),
    "PortHamiltonianODE": lambda: _case(
        models.PortHamiltonianODE(3, 8, key=_key()), _state(3)
    ),
    "PortHamiltonianODE, driven": lambda: _case(
        models.PortHamiltonianODE(3, 8, inputs=2, key=_key()), _state(3), 1.0, _path(2)
    ),
    "ContractingODE": lambda: _case(
        models.ContractingODE(3, 0.3, widths=(5,), key=_key()), _state(3)
    ),
    "RecurrentODE": lambda: _case(
        models.RecurrentODE(4, 2, gain=1.5, key=_key()), _state(4), 1.0, _path(2)
    ),
    "HopfieldODE": lambda: _case(
        models.HopfieldODE(4, gain=1.5, key=_key()), _state(4)
    ),
    "NeuralCDE": lambda: _case(
        models.NeuralCDE(3, 4, 2, 8, key=_key()), _state(4), 1.0, _path(3)
    ),
    "Lorenz": lambda: _case(models.Lorenz(), 0.1 + _state(3), 0.3),
    "VanDerPol": lambda: _case(models.VanDerPol(), _state(2)),
    "Robertson": lambda: _case(
        models.Robertson(0.4, 3.0, 2.0), jnp.array([1.0, 0.1, 0.2])
    ),
    "FitzHughNagumo": lambda: _case(models.FitzHughNagumo(), _state(2)),
    "Duffing": lambda: _case(models.Duffing(), _state(2)),
    "DoubleWell": lambda: _case(models.DoubleWell(), _state(2)),
    "StochasticHopf": lambda: _case(models.StochasticHopf(), _state(2)),
    "Kuramoto": lambda: _case(models.Kuramoto(_state(4), 1.5), _state(4)),
    "NoisyKuramoto": lambda: _case(models.NoisyKuramoto(_state(4), 1.5), _state(4)),
    "ReactionDiffusion": lambda: _case(
        models.ReactionDiffusion(
            eqx.nn.MLP(2, 2, 6, 1, activation=jnp.tanh, key=_key()),
            jnp.array([0.1, 0.3]),
            0.5,
        ),
        _state(5, 2),
    ),
    "ReactionDiffusion, two axes": lambda: _case(
        models.ReactionDiffusion(
            eqx.nn.MLP(1, 1, 4, 1, activation=jnp.tanh, key=_key()),
            jnp.array([0.2]),
            boundary="neumann",
        ),
        _state(3, 4, 1),
    ),
    "NeuralField": lambda: _case(
        models.NeuralField(jnp.cos(jnp.arange(6.0)), jnp.tanh, 0.3, 0.5), _state(6)
    ),
    "Attention": lambda: _case(
        models.Attention(3, 2.0, causal=True, value=0.5 * jnp.eye(3)), _sphere(4, 3)
    ),
    "Attention, unnormalized": lambda: _case(
        models.Attention(3, 2.0, normalization="mean"), _sphere(4, 3)
    ),
    "NoisyAttention": lambda: _case(
        models.NoisyAttention(models.Attention(2, 1.0), 0.1), _sphere(3, 2)
    ),
    "CircleAttention": lambda: _case(models.CircleAttention(2.0, 1.5), _state(4)),
    "MeanFieldLangevin": lambda: _case(
        models.MeanFieldLangevin(_state(5, 2), jnp.sin(jnp.arange(5.0))), _state(6, 4)
    ),
    "MeanFieldODE": lambda: _case(
        models.MeanFieldODE(_state(5, 2), -_state(5, 2)), _state(2)
    ),
    "GradientFlow": lambda: _case(models.GradientFlow(Bowl(_state(3))), _state(3)),
    "NaturalGradientFlow": lambda: _case(
        models.NaturalGradientFlow(Bowl(_state(3)), Metric(_state(3))), _state(3)
    ),
    "MirrorFlow": lambda: _case(
        models.MirrorFlow(Bowl(_state(3)), models.HyperbolicEntropy(0.5)),
        _state(3),
        0.5,
    ),
    "BuresWassersteinFlow": lambda: _case(
        models.BuresWassersteinFlow(Bowl(_state(2)), 2, nodes=3),
        (_state(2), jnp.eye(2)),
        0.5,
    ),
    **{
        f"NeuralSDE, {noise}": lambda noise=noise: _case(
            models.NeuralSDE(3, 6, 1, noise=noise, key=_key()), _state(3)
        )
        for noise in ("additive", "scalar", "diagonal", "commutative", "general")
    },
    "NeuralSDE, of time": lambda: _case(
        models.NeuralSDE(2, 6, 1, noise="additive", time=True, scale=0.5, key=_key()),
        _state(2),
    ),
    "CommonNoiseSDE": lambda: _case(
        models.CommonNoiseSDE(3, 8, strength=0.7, key=_key()), _state(3)
    ),
    "PathDivergence": lambda: _case(
        models.PathDivergence(
            models.NeuralODE(2, 6, 1, key=_key(1)),
            models.NeuralODE(2, 6, 1, key=_key(2)),
            _one,
        ),
        (_state(2), jnp.array(0.0)),
    ),
    "LatentODE": lambda: _case(models.LatentODE(2, 3, 6, 1, key=_key()), _state(3)),
    "LatentSDE": lambda: _case(
        models.LatentSDE(2, 3, 6, 1, context=2, key=_key()),
        (_state(3), jnp.array(0.0)),
        1.0,
        _path(2),
    ),
    "ContinuousNormalizingFlow": lambda: _case(
        models.ContinuousNormalizingFlow(2, 8, 1, key=_key()),
        (_state(2), jnp.array(0.0)),
    ),
    "ContinuousNormalizingFlow, probed": lambda: _case(
        models.ContinuousNormalizingFlow(2, 8, 1, key=_key()),
        (_state(2), jnp.array(0.0)),
        1.0,
        jnp.array([1.0, -1.0]),
    ),
}
