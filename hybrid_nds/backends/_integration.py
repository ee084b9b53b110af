"""How an analysis integrates orbits, as one value."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from .._core import check_choice, check_key, check_positive
from ..problems import ODEProblem, Problem, SDEProblem, tangent_problem
from ._options import Options, check_options
from ._path import Path


@dataclasses.dataclass(frozen=True)
class Integration:
    """The stack, the method, its steps and the noise of an analysis.

    **Fields:** `backend`; `solver`, `dt`, `rtol`, `atol`, `key`, `path` and, for
    ordinary problems, `max_steps` as of [`solve`][hybrid_nds.solve]; `threads` as of
    [`ensemble`][hybrid_nds.ensemble].
    """

    backend: str
    solver: Any = None
    dt: float | None = None
    rtol: Any = None
    atol: Any = None
    key: PRNGKeyArray | None = None
    path: Path | None = None
    max_steps: int | None = None
    threads: int | None = None

    @property
    def adaptive(self) -> bool:
        """Whether tolerances are stated."""
        return self.rtol is not None or self.atol is not None

    @property
    def step(self) -> float:
        """The length of its fixed steps."""
        assert self.dt is not None
        return self.dt

    @property
    def own_key(self) -> PRNGKeyArray:
        """The key that its noise is drawn from."""
        assert self.key is not None
        return self.key

    def checked(
        self, caller: str, problem: Problem, *, takes_path: bool = False
    ) -> Integration:
        """The same with a step and a key in normal form.

        **Arguments:** the analysis; its problem; whether it has an argument `path`.

        **Raises:** `ValueError` or `TypeError`, naming the argument.
        """
        check_choice(caller, "backend", self.backend, ("diffrax", "julia"))
        dt = None if self.dt is None else check_positive(caller, "dt", self.dt)
        if not problem.kind.follows_path:
            if self.path is not None:
                raise TypeError(f"{caller}: `path` is for an SDEProblem.")
        elif (self.key is None) == (self.path is None):
            given = "neither" if self.key is None else "both"
            raise ValueError(
                f"{caller}: a stochastic problem needs `key`, a random key"
                + (f", or `path`, a BrownianPath; got {given}." if takes_path else ".")
            )
        elif dt is None and self.path is None and not self.adaptive:
            raise ValueError(f"{caller}: a stochastic problem needs `dt`, its step.")
        key = None if self.key is None else check_key(caller, self.key)
        return dataclasses.replace(self, dt=dt, key=key)

    def options(self, problem: Problem) -> Options:
        """The options of a solve of a problem, checked.

        **Raises:** `ValueError` or `TypeError`, naming the option.
        """
        stochastic = problem.kind.follows_path
        return check_options(
            problem,
            self.backend,
            solver=self.solver,
            rtol=self.rtol,
            atol=self.atol,
            dt=self.dt,
            key=self.key if stochastic else None,
            path=self.path,
            max_steps=None if stochastic else self.max_steps,
        )

    def tangent(
        self,
        problem: ODEProblem | SDEProblem,
        count: int,
        interval: float,
        span: float,
    ) -> ODEProblem | SDEProblem:
        """A problem with `count` tangent vectors over one interval, or where a path is
        stated over the span of it: options are checked against that."""
        end = float(problem.t0) + (interval if self.path is None else span)
        tangent = tangent_problem(problem, np.eye(problem.dimension, count))
        return eqx.tree_at(lambda p: p.t1, tangent, jnp.asarray(end, problem.dtype))
