"""Trajectories followed to their exits in Julia: the whole loop there."""

from __future__ import annotations

import time as clock
from collections.abc import Callable

import numpy as np

from ...analysis import AnalysisError, SavedProgress
from ...backends import Integration
from ...methods import find_solver
from ...problems import SCHEMES, SDEProblem
from ...solution import Provenance
from ._exit_steps import Levels

# Seconds between two looks at how many have left, and trajectories at the start.
_SEGMENT, _FIRST = 1.0, 16


def native_scheme(
    problem: SDEProblem, integration: Integration, correction: str
) -> str | None:
    """The scheme that Julia follows to exits by itself, `None` where it does not.

    **Raises:** `ValueError` for an unknown solver.
    """
    if integration.backend != "julia" or correction == "shift":
        return None
    solver = integration.solver
    if solver is None:
        solver = "Euler" if problem.interpretation == "ito" else "Heun"
    info = find_solver(solver, "julia", "sde")
    suits = info.takes(problem.kind) and info.converges_to(problem.kind)
    return info.name if info.name in SCHEMES and suits else None


class NativeRun:
    """Trajectories on their way out, one after the other.

    **Arguments:** the problem, its boundaries, the flat starts, the correction, a
    step and a random key, and the scheme.
    """

    runner = "exit loop"

    def __init__(
        self,
        problem: SDEProblem,
        levels: Levels,
        starts: np.ndarray,
        correction: str,
        integration: Integration,
        scheme: str,
    ):
        self.problem, self.levels, self.starts = problem, levels, starts
        self.bridge, self.scheme = correction == "bridge", scheme
        self.dt, self.key = integration.step, integration.own_key
        self.times = np.full(len(starts), np.nan)
        self.through = np.full(len(starts), -1)
        self.provenance: Provenance | None = None

    def go(
        self, steps: int, kept: SavedProgress, advance: Callable[[int], None]
    ) -> None:
        """Follow all of them.

        **Raises:** `AnalysisError` where some fail, or do not leave.
        """
        from ...backends.julia import julia_exit_loop

        loop = julia_exit_loop(
            self.problem,
            self.levels,
            self.levels.count(self.problem),
            self.scheme,
            dt=self.dt,
            key=self.key,
            bridge=self.bridge,
        )
        self.provenance = loop.provenance
        n, done, count = len(self.starts), 0, _FIRST
        found = kept.read()
        if found is not None:
            self.times, self.through = found["times"], found["through"]
            done = int(found["done"])
            advance(done)
        while done < n:
            rows = slice(done, min(done + count, n))
            began = clock.perf_counter()
            times, through = loop.run(self.starts[rows], done, steps)
            if np.any(np.isnan(times)):
                bad = done + int(np.argmax(np.isnan(times)))
                raise AnalysisError(
                    f"mean_exit_time: trajectory {bad} failed before it left: its "
                    "state is no longer finite. Take smaller steps, or an implicit "
                    "solver."
                )
            self.times[rows], self.through[rows] = times, through
            done = rows.stop
            advance(len(times))
            state = {"times": self.times, "through": self.through}
            kept.write(state | {"done": np.array(done)})
            passed = clock.perf_counter() - began
            # Cut by the clock, which changes no bit of the result.
            count = max(1, int(count * min(8.0, _SEGMENT / max(passed, 1e-6))))
        inside = int(np.count_nonzero(np.isinf(self.times)))
        if inside:
            raise censored(n, inside, steps, self.dt, self.times)


def censored(
    n: int, inside: int, steps: int, dt: float, times: np.ndarray
) -> AnalysisError:
    """What to say where some trajectories have not left."""
    left = times[np.isfinite(times)]
    guess = "none left at all."
    if left.size:
        mean = (left.sum() + steps * dt * inside) / left.size
        guess = f"were exits exponential, their mean would be about {mean:.3g}."
    return AnalysisError(
        f"mean_exit_time: {inside} of {n} trajectories were still inside after {steps} "
        f"steps, t = {steps * dt:.6g}: the mean of the {n - inside} that left would be "
        f"too small. Raise `max_time`, or take a smaller region; {guess}"
    )
