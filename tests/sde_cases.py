"""Stochastic problems of a few lines, and their schemes as plain loops."""

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.flatten_util import ravel_pytree

from hybrid_nds import StoredPath

EPS = np.finfo(float).eps
STEPS = 8
# Eight steps of a dozen roundings each, on numbers of size one.
ROUND_OFF = 12 * STEPS * EPS


class Decay(eqx.Module):
    def __call__(self, t, y, args):
        return jtu.tree_map(lambda leaf: -leaf * (1 + t), y)


def componentwise(t, y, args):
    return jtu.tree_map(lambda leaf: 0.3 * jnp.sin(leaf) + 0.1 * t, y)


def matrix(t, y, args):
    columns = lambda leaf: jnp.stack([0.3 * leaf, 0.1 + t + 0 * leaf], axis=-1)
    return jtu.tree_map(columns, y)


def constant(t, y, args):
    return jtu.tree_map(lambda leaf: jnp.full((*leaf.shape, 2), 0.3), y)


VECTOR = np.array([0.7, -0.4, 1.1])
TREE = {"a": np.array([[0.7], [-0.4]]), "b": np.array(1.1)}


def plain(problem, path, scheme):
    """A scheme of fixed steps as a loop over the increments of a path."""
    f, g = problem.flat_drift(), problem.flat_diffusion()
    dws, areas = path.increments()
    times = np.asarray(path.times)
    u = np.asarray(ravel_pytree(problem.y0)[0])

    def times_noise(value, dw):
        value = np.asarray(value)
        return value @ dw if problem.matrix_noise else value * dw

    for i, dw in enumerate(np.asarray(dws)):
        s, t = times[i], times[i + 1]
        h = t - s
        start = np.asarray(f(s, u)) * h, times_noise(g(s, u), dw)
        if scheme == "Euler":
            u = u + start[0] + start[1]
        elif scheme == "Heun":
            ahead = u + start[0] + start[1]
            end = np.asarray(f(t, ahead)) * h, times_noise(g(t, ahead), dw)
            u = u + (start[0] + end[0] + start[1] + end[1]) / 2
        else:  # SRA1 of Rößler (2010), table 6.3
            integral = dw / 2 + np.asarray(areas[i])
            stage = u + 0.75 * start[0] + 1.5 * times_noise(g(s, u), integral)
            u = u + start[0] / 3 + 2 / 3 * h * np.asarray(f(s + 0.75 * h, stage))
            u = u + start[1]
    return u


def stored(motions, dtype=float):
    """A path of increments from NumPy's generator, with areas."""
    h = 1 / STEPS
    dw, area = np.random.default_rng(0).normal(size=(2, STEPS, motions))
    dw, area = dw * np.sqrt(h), area * np.sqrt(h / 12)
    return StoredPath(dw.astype(dtype), area.astype(dtype), t0=0.0, t1=1.0)
