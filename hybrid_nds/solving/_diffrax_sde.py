"""Stochastic problems from Diffrax's own terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.tree_util as jtu
import lineax as lx

from ..backends.diffrax import DiffusionOperator, StatePath
from ..noise import BrownianPath, NativePath, StoredPath
from ..problems import Interpretation, NoiseKind, SDEProblem, underdamped_langevin


class DiagonalOf(eqx.Module):
    """The diagonal of a vector field of `lineax.DiagonalLinearOperator`s."""

    field: Callable[[Any, Any, Any], Any]

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.field(t, y, args).diagonal


class MatrixOf(eqx.Module):
    """The matrix of a vector field of `lineax.MatrixLinearOperator`s."""

    field: Callable[[Any, Any, Any], Any]

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.field(t, y, args).as_matrix()


def is_stochastic(terms: Any) -> bool:
    """Whether these are the terms of a stochastic problem."""
    kinds = diffrax.ControlTerm | diffrax.UnderdampedLangevinDiffusionTerm
    parts = terms.terms if isinstance(terms, diffrax.MultiTerm) else ()
    return any(isinstance(part, kinds) for part in parts)


def stochastic_problem(
    terms: diffrax.MultiTerm, solver: Any, t0: Any, t1: Any, y0: Any, args: Any
) -> tuple[SDEProblem, BrownianPath | StoredPath | NativePath]:
    """The problem and the path of a stochastic solve in Diffrax's terms.

    **Arguments:** those of `diffrax.diffeqsolve`; the solver says in which
    interpretation the terms stand.

    **Returns:** the problem, and the path in the second term.

    **Raises:** `TypeError` for terms that make no `SDEProblem`.
    """
    if len(terms.terms) != 2:
        raise TypeError(
            "from_diffrax: `terms` of a stochastic problem must be MultiTerm(drift, "
            f"diffusion), got {len(terms.terms)} terms."
        )
    drift, diffusion = terms.terms
    control: Any = getattr(diffusion, "control", None)
    path = control.path if isinstance(control, StatePath) else control
    if not isinstance(path, BrownianPath | StoredPath | NativePath):
        raise TypeError(
            "from_diffrax: the control of `terms` must be a hybrid_nds.BrownianPath, "
            f"which both backends can read, got {type(path).__name__}; put "
            "BrownianPath(key, m, t0, t1, dt) in its place."
        )
    if isinstance(drift, diffrax.UnderdampedLangevinDriftTerm):
        x0, v0 = y0
        return (
            underdamped_langevin(
                drift.grad_f,
                x0,
                v0,
                t0,
                t1,
                args,
                friction=drift.gamma,  # pyright: ignore[reportArgumentType]
                damping=drift.u,  # pyright: ignore[reportArgumentType]
            ),
            path,
        )
    if not isinstance(drift, diffrax.ODETerm):
        raise TypeError(
            "from_diffrax: the first of `terms` must be an ODETerm, got "
            f"{type(drift).__name__}."
        )
    field, noise = _diffusion(diffusion.vector_field, solver, t0, y0, args)
    problem = SDEProblem(
        drift.vector_field,
        field,
        y0,
        t0,
        t1,
        args,
        noise=noise,
        interpretation=_interpretation(solver),
    )
    return problem, path


def _inner(solver: Any) -> Any:
    while isinstance(solver, diffrax.HalfSolver):
        solver = solver.solver
    return solver


def _interpretation(solver: Any) -> Interpretation:
    inner = _inner(solver)
    if isinstance(inner, diffrax.AbstractItoSolver):
        return "ito"
    if isinstance(inner, diffrax.AbstractStratonovichSolver):
        return "stratonovich"
    raise TypeError(
        "from_diffrax: `solver` must be marked as converging to the Itô or the "
        "Stratonovich solution, since the terms do not say which they mean; got "
        f"{type(inner).__name__}."
    )


def _diffusion(
    field: Any, solver: Any, t0: Any, y0: Any, args: Any
) -> tuple[Callable[[Any, Any, Any], Any], NoiseKind]:
    if isinstance(field, DiffusionOperator):
        return field.diffusion, field.noise
    tableau = getattr(_inner(solver), "tableau", None)
    additive = (
        isinstance(tableau, diffrax.StochasticButcherTableau)
        and tableau.is_additive_noise()
    )
    value = eqx.filter_eval_shape(field, t0, y0, args)
    if isinstance(value, lx.DiagonalLinearOperator):
        return DiagonalOf(field), "additive" if additive else "diagonal"
    if isinstance(value, lx.MatrixLinearOperator):
        return MatrixOf(field), "additive" if additive else "general"
    arrays = jtu.tree_leaves(value)
    if jtu.tree_structure(value) == jtu.tree_structure(y0) and all(
        isinstance(leaf, jax.ShapeDtypeStruct) for leaf in arrays
    ):
        return field, "additive" if additive else "general"
    raise TypeError(
        "from_diffrax: the diffusion of `terms` must return an array, or a diagonal "
        f"or matrix operator of lineax, got {type(value).__name__}."
    )
