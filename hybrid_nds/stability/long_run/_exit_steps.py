"""Who left a region in which step, by which boundary, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ...problems import SDEProblem, spread, traced_text

# −ζ(1/2)/√(2π): the mean overshoot of a random walk of unit variance (Siegmund 1985).
OVERSHOOT = 0.5825971579390106


class Levels(eqx.Module):
    """The boundaries of a region: functions of the flat state, positive inside."""

    level: Callable[[Any], Any]

    def __call__(self, u: Any) -> Any:
        """The level of each boundary, shape `(boundaries,)`."""
        return self.level(u)

    def count(self, problem: SDEProblem) -> int:
        """How many boundaries there are."""
        flat = ravel_pytree(problem.y0)[0]
        return jax.eval_shape(self.level, flat).shape[0]

    def fingerprint(self, problem: SDEProblem) -> str:
        """What tells these boundaries from others."""
        return traced_text(self.level, ravel_pytree(problem.y0)[0])


def region_levels(caller: str, region: Any, problem: SDEProblem) -> Levels:
    """The boundaries of a region as a user gives it.

    **Raises:** `ValueError` for what is no region of the problem's states.
    """
    flat, unravel = ravel_pytree(problem.y0)
    if callable(region):

        def own(u: Any) -> Any:
            return jnp.ravel(jnp.asarray(region(unravel(u))))

        try:
            shape = jax.eval_shape(own, flat)
        except Exception as error:
            raise ValueError(
                f"{caller}: `region` could not be evaluated at y0: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not jnp.issubdtype(shape.dtype, jnp.floating):
            raise ValueError(
                f"{caller}: `region` must return real numbers that are positive "
                f"inside, got {shape.dtype}; return a distance in place of a "
                "comparison."
            )
        return Levels(own)
    if not isinstance(region, tuple) or len(region) != 2:
        raise ValueError(
            f"{caller}: `region` must be a pair (low, high) or a function of the "
            f"state, got {region!r}."
        )
    low, high = (_bound(caller, bound, problem) for bound in region)
    if not np.all(low < high):
        raise ValueError(
            f"{caller}: `region` must have low < high everywhere, got "
            f"{low.tolist()} and {high.tolist()}."
        )
    below, above = np.flatnonzero(np.isfinite(low)), np.flatnonzero(np.isfinite(high))
    if not below.size + above.size:
        raise ValueError(f"{caller}: `region` must be bounded somewhere.")

    def box(u: Any) -> Any:
        return jnp.concatenate([u[below] - low[below], high[above] - u[above]])

    return Levels(box)


def _bound(caller: str, bound: Any, problem: SDEProblem) -> np.ndarray:
    n = problem.dimension
    leaves = jax.tree_util.tree_leaves(bound)
    flat = np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in leaves])
    if flat.size not in (1, n) or np.any(np.isnan(flat)):
        raise ValueError(
            f"{caller}: each end of `region` must be one number or one for each of the "
            f"{n} components of the state, got {bound!r}."
        )
    return np.broadcast_to(flat, (n,)).astype(problem.dtype)


class Crossings:
    """Finds first exits along trajectories known on a grid.

    **Arguments:** the problem; its boundaries; `"bridge"`, `"shift"` or `"none"`.
    """

    def __init__(self, problem: SDEProblem, levels: Levels, correction: str):
        self._correction = correction

        def normal(t: Any, u: Any) -> tuple[Any, Any]:
            return spread(problem, levels, t, u)

        def plain(t: Any, u: Any) -> tuple[Any, Any]:
            level = levels(u)
            return level, jnp.zeros_like(level)

        one = plain if correction == "none" else normal
        self._levels = jax.jit(jax.vmap(jax.vmap(one), (None, 0)))

    def inside(self, t: float, states: np.ndarray) -> np.ndarray:
        """Which states lie inside, shape `(n,)`."""
        level, _ = self._levels(jnp.full((1,), t, states.dtype), states[:, None])
        return np.all(np.asarray(level)[:, 0] > 0, axis=1)

    def first(
        self, times: np.ndarray, states: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The first exit of each trajectory.

        **Arguments:** the times of the grid, shape `(steps + 1,)`; the states there,
        `(n, steps + 1, components)`, inside at the first; a source of randomness.

        **Returns:** the times of the exits, infinite for none, and the boundaries, each
        of shape `(n,)`.
        """
        found = self._levels(jnp.asarray(times, states.dtype), jnp.asarray(states))
        level, spread = (np.asarray(part, np.float64) for part in found)
        steps = np.diff(times)
        before, after = level[:, :-1], level[:, 1:]
        width = spread[:, :-1] * np.sqrt(steps)[:, None]
        if self._correction == "bridge":
            with np.errstate(divide="ignore", invalid="ignore"):
                chance = np.exp(-2 * before * after / width**2)
            # A normal that is not moved at all, and states that are not finite.
            chance = np.where(width > 0, chance, 0.0)
            crossed = (after <= 0) | (random.random(after.shape) < chance)
        elif self._correction == "shift":
            crossed = after <= OVERSHOOT * spread[:, 1:] * np.sqrt(steps)[:, None]
        else:
            crossed = after <= 0
        any_boundary = np.any(crossed, axis=2)
        left = np.any(any_boundary, axis=1)
        position = np.argmax(any_boundary, axis=1)
        rows = np.arange(len(states))
        at = rows, position
        if self._correction == "bridge":
            shares = _share_of_step(before[at], after[at], width[at], random)
        else:
            shares = np.ones(before[at].shape)
        shares = np.where(crossed[at], shares, np.inf)
        through = np.argmin(shares, axis=1)
        when = times[position] + steps[position] * shares[rows, through]
        return np.where(left, when, np.inf), np.where(left, through, -1)


def _share_of_step(
    before: np.ndarray,
    after: np.ndarray,
    width: np.ndarray,
    random: np.random.Generator,
) -> np.ndarray:
    """When within a step that crosses zero it does so first, as a share of the step:
    ξ/(1 + ξ) with ξ inverse Gaussian."""
    tiny = np.finfo(float).tiny
    start = np.maximum(before, tiny)
    size = np.maximum(np.abs(after), 1e-9 * start)
    moved = width > 1e-9 * start
    straight = start / (start + np.abs(after))
    mean, shape = start / size, (start / np.where(moved, width, 1.0)) ** 2
    drawn = random.wald(np.where(moved, mean, 1.0), np.where(moved, shape, 1.0))
    share = np.where(moved, drawn / (1 + drawn), straight)
    return np.clip(share, 0.0, 1.0)
