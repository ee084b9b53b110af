"""What a system image of Julia compiles in advance: a program of typical uses."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import Event, ODEProblem, SDEProblem, double_precision, ensemble, solve
from ..ensembles import Moments
from ..methods import ODE_METHODS, SDE_METHODS


def main() -> None:
    """Solve, in both precisions, with every solver in double precision."""
    # Solvers warn of their known faults.
    warnings.simplefilter("ignore")
    _ordinary()
    with double_precision():
        _ordinary()
        _solvers()
        _stochastic()


def _field(t: Any, y: Any, rates: Any) -> Any:
    return jnp.stack([-rates[0] * y[0] + y[1], -rates[1] * y[1]])


def _problem(y0: Any = (1.0, 2.0), mass: Any = None) -> ODEProblem:
    rates = jnp.array([1.0, 10.0])
    return ODEProblem(_field, jnp.asarray(y0), 0.0, 1.0, rates, mass_matrix=mass)


def _ordinary() -> None:
    """Saved times, events, algebraic equations, gradients, batches."""
    problem = _problem()
    for kept in (None, "steps", "dense", np.array([0.25, 0.5])):
        _attempt(solve, problem, "julia", saveat=kept)
    event = Event(lambda t, y, rates: y[0] - 0.5)
    for solver in (None, "Tsit5", "Rodas5P"):
        _attempt(solve, problem, "julia", solver=solver, event=event)
    algebraic = _problem((1.0, 0.0), jnp.diag(jnp.array([1.0, 0.0])))
    for solver in (None, "Rodas5P", "FBDF"):
        _attempt(solve, algebraic, "julia", solver=solver)

    def end(y0: Any, solver: str) -> Any:
        moved = eqx.tree_at(lambda problem: problem.y0, problem, y0)
        return jnp.sum(solve(moved, "julia", solver=solver).ys)

    for solver in ("Tsit5", "Rodas5P", "Kvaerno5"):
        _attempt(jax.grad(end), problem.y0, solver)
        _attempt(jax.vmap(lambda y0, s=solver: end(y0, s)), jnp.ones((2, 2)))


def _solvers() -> None:
    problem = _problem()
    for row in ODE_METHODS:
        if row.julia:
            _attempt(solve, problem, "julia", solver=row.name)
            _attempt(solve, problem, "julia", solver=row.name, dt=0.125)


def _stochastic() -> None:
    diffusion = lambda t, y, rates: 0.1 * y
    problem = _problem()
    noisy = SDEProblem(
        _field, diffusion, problem.y0, 0.0, 1.0, problem.args, noise="diagonal"
    )
    how: dict[str, Any] = {"dt": 0.125, "key": jax.random.key(0)}
    for row in SDE_METHODS:
        if row.julia:
            _attempt(solve, noisy, "julia", solver=row.name, **how)
    how |= {"backend": "julia", "solver": "EM", "reduce": Moments()}
    _attempt(ensemble, noisy, 8, **how)


def _attempt(function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Not every solver takes every problem: what is refused is not compiled."""
    try:
        function(*arguments, **options)
    except (ValueError, TypeError, RuntimeError):
        return


if __name__ == "__main__":
    main()
