"""Every model, ready to run: one table for every suite.

Each case builds `(model, y0, t1, args)` when it is asked for: an initial state, the end
of a span from 0 on, and what the field needs beside.
"""

import diffrax
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
}
