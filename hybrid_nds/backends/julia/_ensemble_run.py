"""One ensemble in Julia: what is shared with it, what runs, and what it leaves."""

from __future__ import annotations

from typing import Any

import jax
import jax.tree_util as jtu
import numpy as np

from ...lowering import parameter_vector
from ...noise import BrownianPath, grid_steps
from ...problems import Problem
from ...runtime import Session
from ...solution import UNSTABLE
from .._options import Options
from ._ensemble_types import BlockMoments, KernelMoments, KernelResult
from ._fields import julia_type
from ._kernels import KERNELS, kernel_functions
from ._ready import ready


class EnsembleRun:
    """One run: the arrays that Julia reads and writes, held until it ends."""

    def __init__(
        self,
        session: Session,
        problem: Problem,
        indices: np.ndarray,
        dt: float,
    ):
        if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
            raise TypeError(
                "ensemble: `indices` must be whole numbers of shape (trajectories,), "
                f"got dtype {indices.dtype} and shape {indices.shape}."
            )
        if indices.size and indices.min() < 0:
            raise ValueError(
                f"ensemble: `indices` must not be negative, got {indices.min()}."
            )
        self.module = session.module.Ensembles
        self._session, self._problem = session, problem
        self._t0, self._t1 = float(problem.t0), float(problem.t1)
        self._steps = grid_steps("ensemble", self._t0, self._t1, dt)
        self._h = (self._t1 - self._t0) / self._steps
        self._element = julia_type(session, problem.dtype)
        self._indices = np.ascontiguousarray(indices, np.int64)
        self._arrays: list[np.ndarray] = []
        self._states: np.ndarray | None = None
        self._moments: BlockMoments | None = None
        self._ends: np.ndarray | None = None
        self._failed = np.full(len(self._indices), -1, np.int64)
        self._share_array = getattr(self.module, "share_array!")

    def set_key(self, key: jax.Array | None, increments: Any) -> None:
        """Make the run, with the two words of its key."""
        problem = self._problem
        if key is None and increments is None:
            raise ValueError(
                "ensemble: pass `key`, a JAX random key, or `increments` of the path."
            )
        words = (
            (0, 0) if key is None else np.asarray(jax.random.bits(key, (2,), "uint32"))
        )
        self.handle = self.module.ensemble_run(
            self._element,
            problem.dimension,
            problem.noise_dimension,
            self._steps,
            self._t0,
            self._t1,
            int(words[0]),
            int(words[1]),
        )
        self._share("indices", self._indices)

    def _share(self, name: str, array: np.ndarray) -> None:
        """Let Julia use an array: its axes there are reversed."""
        self._arrays.append(array)
        self._share_array(self.handle, name, array.ctypes.data, *reversed(array.shape))

    def _check_shape(self, name: str, array: Any, shape: tuple[int, ...]) -> np.ndarray:
        values = np.ascontiguousarray(array, self._problem.dtype)
        if values.shape != shape:
            raise ValueError(
                f"ensemble: `{name}` must have shape {shape}, got {values.shape}."
            )
        return values

    def set_problem(self, y0: np.ndarray | None) -> None:
        """The initial states, and the parameters of drift and diffusion."""
        problem, count = self._problem, len(self._indices)
        leaves = [np.ravel(np.asarray(leaf)) for leaf in jtu.tree_leaves(problem.y0)]
        self._share("start", np.concatenate(leaves))
        if y0 is not None:
            shape = (count, problem.dimension)
            self._share("starts", self._check_shape("y0", y0, shape))
        names = ("parameters", "diffusion_parameters")
        for name, function in zip(names, problem.functions, strict=True):
            self._share(name, parameter_vector(function, problem.args, problem.dtype))

    def set_times(self, saveat: np.ndarray | None) -> None:
        """When to save: times of the grid, as numbers of steps."""
        end = self._t0 + self._h * self._steps
        times = np.asarray([end] if saveat is None else saveat, float)
        if times.ndim != 1 or np.any(np.diff(times) <= 0):
            raise ValueError(
                "ensemble: `saveat` must be ascending times of shape (times,), got "
                f"{saveat}."
            )
        positions = (times - self._t0) / self._h
        steps = np.rint(positions)
        wrong = (np.abs(positions - steps) > 1e-6 * np.maximum(1.0, steps * 1e-3)) | (
            (steps < 0) | (steps > self._steps)
        )
        if np.any(wrong):
            raise ValueError(
                f"ensemble: `saveat` must be times of the grid from {self._t0} in "
                f"steps of {self._h} to {end}, got {times[wrong][0]}."
            )
        self._times = times.astype(self._problem.dtype)
        self._share("save_steps", steps.astype(np.int64))

    def set_noise(self, increments: Any, *, needs_area: bool) -> None:
        """Increments in place of random numbers."""
        if increments is None:
            return
        shape = (len(self._indices), self._steps, self._problem.noise_dimension)
        dw, areas = increments
        self._share("increments", self._check_shape("increments", dw, shape))
        if needs_area and areas is None:
            raise ValueError(
                "ensemble: this solver needs the space-time Lévy areas of "
                "`increments`, too."
            )
        if areas is not None:
            self._share("areas", self._check_shape("increments", areas, shape))

    def by_kernel(self, solver: str, threads: int, report: Any) -> bool:
        """Run a lean kernel; returns whether an interrupt stopped it."""
        functions = kernel_functions(self._session, self._problem)
        stopped = self._session.call(
            getattr(self.module, "run_ensemble!"),
            self.handle,
            KERNELS[solver],
            _noise_name(self._problem),
            functions.drift,
            functions.diffusion,
            threads,
            report,
        )
        return bool(stopped)

    def by_solves(self, solver: str, area: bool, threads: int, report: Any) -> bool:
        """Solve each trajectory; returns whether an interrupt stopped it."""
        problem, count = self._problem, len(self._indices)
        path = BrownianPath(
            jax.random.key(0),
            problem.noise_dimension,
            self._t0,
            self._t1,
            self._h,
            "space-time" if area else "none",
            dtype=problem.dtype,
        )
        options = Options(solver, path=path, dt=self._h, saveat=self._times)
        solve = ready(problem, options)
        prepared, method = solve.prepared, solve.algorithm
        prepared.fill(problem)
        shape = (count, len(self._times), problem.dimension)
        self._states = np.empty(shape, problem.dtype)
        self._share("saved", self._states)
        self._failed = np.zeros(count, np.int64)
        self._ends = np.zeros(count, problem.dtype)
        self._share("outcomes", self._failed)
        self._share("ends", self._ends)
        if area:
            getattr(self.module, "use_areas!")(self.handle)
        settings = self.module.Settings(self._t1, 0.0, 0.0, 0.0, self._steps)
        stopped = self._session.call(
            getattr(self.module, "run_solves!"),
            self.handle,
            prepared.handle,
            method,
            settings,
            threads,
            report,
        )
        return bool(stopped)

    def set_outputs(self, save: bool, reduce: KernelMoments | None) -> None:
        """Where results go, and what is reduced."""
        problem, count = self._problem, len(self._indices)
        times, n = len(self._times), problem.dimension
        if save:
            self._states = np.empty((count, times, n), problem.dtype)
            self._share("saved", self._states)
        self._share("failed_step", self._failed)
        if reduce is None:
            return
        blocks = -(-count // reduce.block)
        self._moments = BlockMoments(
            np.zeros(blocks, np.int64),
            np.zeros((blocks, times, n)),
            np.zeros((blocks, reduce.order - 1, times, n)),
            np.zeros((blocks, times, n, n)) if reduce.covariance else None,
        )
        getattr(self.module, "set_chunk!")(self.handle, reduce.block)
        self._share("counts", self._moments.count)
        self._share("means", self._moments.mean)
        self._share("powers", self._moments.powers)
        if self._moments.products is not None:
            self._share("products", self._moments.products)

    def result(self, interrupted: bool) -> KernelResult:
        """What Julia left."""
        if self._ends is None:
            outcomes = np.where(self._failed >= 0, UNSTABLE, 0)
            ends = self._time_of(self._failed)
            runner = "lean kernel"
        else:
            outcomes, ends, runner = self._failed, self._ends, "StochasticDiffEq"
        failed = outcomes != 0
        return KernelResult(
            ts=self._times,
            states=self._states,
            moments=self._moments,
            outcomes=outcomes,
            failed=self._indices[failed],
            failed_times=ends[failed],
            interrupted=interrupted,
            done=int(self.module.trajectories_done(self.handle)),
            runner=runner,
        )

    def _time_of(self, steps: np.ndarray) -> np.ndarray:
        return (self._t0 + self._h * steps).astype(self._problem.dtype)


def _noise_name(problem: Problem) -> str:
    if problem.kind.matrix_noise:
        return "matrix"
    return "scalar" if problem.kind.noise == "scalar" else "diagonal"
