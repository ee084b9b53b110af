"""Solving one problem along many Brownian paths, on grids of many step sizes."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._core import quick_options
from ..methods import find_solver
from ..noise import StoredPath, coarsened
from ..problems import Problem
from ..solving import solve

Exact = Callable[[Any], Any]


def check_steps(
    caller: str, steps: Sequence[int], *, doubling: bool
) -> tuple[int, ...]:
    """Numbers of steps as integers, smallest first.

    **Raises:** `ValueError` for fewer than three, or where each must be twice the one
    before and is not.
    """
    counts = tuple(sorted(int(count) for count in steps))
    wrong = doubling and any(
        later != 2 * earlier for earlier, later in itertools.pairwise(counts)
    )
    if len(counts) < 3 or counts[0] < 1 or len(set(counts)) < len(counts) or wrong:
        raise ValueError(
            f"{caller}: `steps` must be three or more different numbers of steps"
            + (", each twice the one before" if doubling else "")
            + f"; got {list(steps)}."
        )
    return counts


def needs_area(solver: str, backend: Any) -> bool:
    """Whether a method wants the space-time Lévy area of every step."""
    return find_solver(solver, backend, "sde").levy_area != "none"


def finest_steps(caller: str, counts: Sequence[int], exact: Any, refine: int) -> int:
    """Steps of the finest grid: that of the reference where no solution is known.

    **Raises:** `ValueError` for a `refine` that is no power of two.
    """
    if refine < 2 or refine & (refine - 1):
        raise ValueError(
            f"{caller}: `refine` must be a power of two above one, got {refine}."
        )
    return counts[-1] * (1 if exact is not None else refine)


def draw(
    caller: str, problem: Problem, key: Any, paths: int, steps: int, area: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Increments, and areas where asked for, of independent paths: each of shape
    `(paths, steps, m)`.

    **Raises:** `ValueError` without a key, or for fewer than two paths.
    """
    if key is None:
        raise ValueError(f"{caller}: a stochastic problem needs a JAX random `key`.")
    if paths < 2:
        raise ValueError(f"{caller}: `paths` must be two or more, got {paths}.")
    h = (float(problem.t1) - float(problem.t0)) / steps
    shape, dtype = (paths, steps, problem.noise_dimension), problem.dtype
    one, other = jax.random.split(key)
    # On a grid both are independent from step to step, and of each other (Foster 2020).
    dw = math.sqrt(h) * np.asarray(jax.random.normal(one, shape, dtype))
    if not area:
        return dw, None
    return dw, math.sqrt(h / 12) * np.asarray(jax.random.normal(other, shape, dtype))


def path_solver(
    problem: Problem,
    backend: str,
    solver: str,
    steps: int,
    times: np.ndarray | None = None,
    *,
    quick: bool = False,
    **options: Any,
) -> Callable[[np.ndarray, np.ndarray | None], np.ndarray]:
    """States along stored paths in so many fixed steps, as a function that is compiled
    on its first call.

    **Arguments:** the number of steps; the times to save, by default the end; whether
    to compile quickly rather than for speed, for a few paths; options of `solve`.

    **Returns:** a function of increments and areas `(paths, steps, m)` on the finest
    grid, to states of shape `(paths, times, n)`; NaN where a solve failed.
    """
    t0, t1 = float(problem.t0), float(problem.t1)
    dt = (t1 - t0) / steps
    kept = np.asarray([t1] if times is None else times, float)

    def along(dw: Any, h: Any) -> Any:
        path = StoredPath(dw, h, t0=t0, t1=t1)
        solution = solve(
            problem,
            backend,
            solver=solver,
            path=path,
            dt=dt,
            saveat=kept,
            throw=False,
            max_steps=steps + 1,
            **options,
        )
        return problem.flat_state.flatten(solution.ys), solution.succeeded

    @functools.partial(jax.jit, compiler_options=quick_options() if quick else None)
    def many(dw: Any, h: Any) -> Any:
        flat, succeeded = jax.vmap(along)(dw, h)
        return jnp.where(succeeded[:, None, None], flat, jnp.nan)

    def vectorized(dw: np.ndarray, areas: np.ndarray | None) -> np.ndarray:
        # Before the program, which is then the smaller one to compile.
        dw, areas = coarsened(dw, areas, steps)
        h = None if areas is None else jnp.asarray(areas)
        return np.asarray(many(jnp.asarray(dw), h))

    def per_path(dw: np.ndarray, areas: np.ndarray | None) -> np.ndarray:
        dw, areas = coarsened(dw, areas, steps)
        rows = []
        for index, own in enumerate(dw):
            h = None if areas is None else jnp.asarray(areas[index])
            flat, succeeded = along(jnp.asarray(own), h)
            states = np.asarray(flat)
            good = bool(succeeded) and len(states) == len(kept)
            missing = np.full((len(kept), problem.dimension), np.nan)
            rows.append(states if good else missing)
        return np.stack(rows)

    return vectorized if backend == "diffrax" else per_path


def exact_states(
    problem: Problem, exact: Exact, increments: np.ndarray, areas: np.ndarray | None
) -> np.ndarray:
    """The end states that `exact` gives along stored paths, shape `(paths, n)`."""
    t0, t1 = float(problem.t0), float(problem.t1)

    def along(dw: Any, h: Any) -> Any:
        state = exact(StoredPath(dw, h, t0=t0, t1=t1))
        leaves = [jnp.ravel(leaf) for leaf in jtu.tree_leaves(state)]
        return jnp.concatenate(leaves)

    h = None if areas is None else jnp.asarray(areas)
    return np.asarray(jax.jit(jax.vmap(along))(jnp.asarray(increments), h))


def deterministic_states(
    problem: Problem,
    backend: str,
    solver: str | None,
    steps: int,
    *,
    most: int,
    **options: Any,
) -> np.ndarray:
    """The end state of an ordinary problem in so many fixed steps, shape `(n,)`.

    Runs that state the same `most` steps share one compiled program.
    """
    dt = (float(problem.t1) - float(problem.t0)) / steps
    solution = solve(
        problem, backend, solver=solver, dt=dt, max_steps=4 * most + 16, **options
    )
    return flat_end(solution)


def flat_end(solution: Any) -> np.ndarray:
    """The last state of a solution, flat, in double precision."""
    return np.concatenate(
        [np.ravel(np.asarray(leaf, float)[-1]) for leaf in jtu.tree_leaves(solution.ys)]
    )


def flat_state(state: Any) -> np.ndarray:
    """A state as one vector, in double precision."""
    leaves = jtu.tree_leaves(state)
    return np.concatenate([np.ravel(np.asarray(leaf, float)) for leaf in leaves])
