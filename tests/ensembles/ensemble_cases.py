"""Problems of the ensemble tests; importable, for the processes they start."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from hybrid_nds import ODEProblem, SDEProblem

GROWTH, NOISE = 0.5, 0.3


# Functions of the module, made once: an ensemble of the same problem is compiled once.
def growth(t, y, args):
    return GROWTH * y


def proportional_noise(t, y, args):
    return NOISE * y


def minus(t, y, args):
    return -y


def square(t, y, args):
    return y**2


def gbm(t1=1.0):
    """Geometric Brownian motion, two independent copies."""
    y0 = jnp.array([1.0, 2.0])
    return SDEProblem(growth, proportional_noise, y0, 0.0, t1, noise="diagonal")


def gbm_euler_moments(y0, t, dt):
    """Mean and variance of Euler's scheme itself, whose steps are independent factors
    1 + a·dt + b·dW."""
    steps = round(t / dt)
    mean = y0 * (1 + GROWTH * dt) ** steps
    second = y0**2 * ((1 + GROWTH * dt) ** 2 + NOISE**2 * dt) ** steps
    return mean, second - mean**2


def decay():
    """dy = -y dt from random initial states."""
    return ODEProblem(minus, jnp.array([0.0]), 0.0, 1.0)


def random_start(key):
    return 1.0 + jr.normal(key, (1,))


def blow_up():
    """dy/dt = y²: from y0 the solution is y0/(1 - y0·t), which ends at 1/y0."""
    return ODEProblem(square, jnp.array([0.5]), 0.0, 1.0)


def same(a, b):
    """Whether two results hold the same bits."""
    return np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
