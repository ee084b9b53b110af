"""What the Julia backend alone can know of a solve, checked before Julia is called."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import jax.tree_util as jtu
import numpy as np

from ..._core import is_concrete
from ...methods import (
    LOST_NOISE,
    LOST_TERMS,
    ODE_METHODS,
    SDE_METHODS,
    UNCONTROLLED,
    Method,
)
from ...problems import Problem, entries_of
from .._options import Options
from ._derivatives import check_recorded_steps
from ._jacobian import JACOBIANS, is_lowered, jacobian_of
from ._prepared import Approach
from ._traced import check_traced, is_traced
from ._worker import check_worker

_EXTRA = {
    "ode": (
        "form",
        "jacobian",
        "newton_tolerance",
        "preconditioner",
        "recorded_steps",
        "rhs",
        "specialize",
        "step_to_saveat",
        "worker",
    ),
    "sde": ("newton_tolerance", "rhs", "theta", "worker"),
}
# Beyond this, static arrays take minutes to compile and gain nothing.
_LARGEST_SCALAR_FORM = 100


def check(problem: Problem, options: Options, method: Method) -> Approach:
    """Check what the Julia backend alone can know.

    **Arguments:** the problem, its options in normal form, and the solver.

    **Returns:** how the problem is to reach Julia.

    **Raises:** `ValueError` or `TypeError`, naming the option.

    **Warns:** of a method that is known to go wrong on such a problem.
    """
    extra, kind = options.extra, problem.kind
    known = _EXTRA[kind.name]
    unknown = sorted(set(extra) - set(known))
    if unknown:
        of = "for a stochastic problem " if kind.follows_path else ""
        raise TypeError(
            f"solve: {of}the julia backend takes no option {', '.join(unknown)}; "
            f"beside the shared ones it takes {', '.join(known)}."
        )
    if extra.get("worker") is not None:
        check_worker(options)
    elif is_traced(problem, options):
        check_traced(problem, options)
    if options.adjoint is not None:
        raise ValueError(
            "solve: `adjoint` is for the Diffrax backend; the Julia backend has the "
            "adjoint of the solver's own steps alone; leave it out, got "
            f"{options.adjoint!r}."
        )
    if not isinstance(options.progress, bool | np.bool_):
        raise TypeError(
            "solve: `progress` must be True or False on the Julia backend, got "
            f"{type(options.progress).__name__}."
        )
    _check_newton_tolerance(extra.get("newton_tolerance"), method)
    _check_theta(extra.get("theta"), method)
    check_recorded_steps(extra.get("recorded_steps"))
    approach = _approach(problem, extra, method)
    if kind.follows_path:
        _check_noise(problem, options, method)
    if np.ndim(options.atol) and not method.component_tolerances:
        raise ValueError(
            f"solve: {method.name} takes one number for `atol` in Julia, not one for "
            "each component; pass a number, or take Rodas5P or FBDF."
        )
    if kind.mass_matrix and not method.mass_matrix:
        able = _names(one for one in ODE_METHODS if one.mass_matrix and one.julia)
        raise ValueError(
            f"solve: {method.name} takes no `mass_matrix`; these solvers do: {able}."
        )
    if kind.mass_matrix and method.diagonal_mass and not _is_diagonal(problem):
        raise ValueError(
            f"solve: {method.name} takes a diagonal `mass_matrix` alone, and that of "
            "`problem` has entries off the diagonal; take Rodas5P."
        )
    return approach


def _approach(problem: Problem, extra: Any, method: Method) -> Approach:
    coupling, form = extra.get("rhs", "lowered"), extra.get("form", "array")
    jacobian = extra.get("jacobian", "auto")
    named = isinstance(jacobian, str) and not is_lowered(problem)
    for name, value, known in (
        ("rhs", coupling, ("lowered", "callback")),
        ("form", form, ("array", "scalar")),
        ("jacobian", jacobian if named else "auto", JACOBIANS),
    ):
        if value not in known:
            listing = ", ".join(known)
            raise ValueError(
                f"solve: `{name}` must be one of {listing}, got {value!r}."
            )
    for name, known in (
        ("specialize", (True, False)),
        ("step_to_saveat", (True, False, None)),
    ):
        value = extra.get(name, known[-1])
        if not any(value is one for one in known):
            expected = " or ".join(", ".join(map(str, known)).rsplit(", ", 1))
            raise TypeError(f"solve: `{name}` must be {expected}, got {value!r}.")
    if form == "scalar":
        _check_scalar_form(problem, coupling)
    kind = problem.kind
    return Approach(
        coupling,
        form,
        extra.get("specialize", False),
        kind.matrix_noise or (kind.noise == "scalar" and method.scalar_as_matrix),
        jacobian_of(problem, extra, method),
    )


def _check_scalar_form(problem: Problem, coupling: str) -> None:
    if coupling == "callback":
        raise ValueError(
            'solve: `form="scalar"` is a form of lowered code; leave it out with '
            '`rhs="callback"`.'
        )
    if problem.kind.mass_matrix:
        raise ValueError(
            'solve: `form="scalar"` takes no `mass_matrix`; leave `form` out.'
        )
    if problem.dimension > _LARGEST_SCALAR_FORM:
        raise ValueError(
            f'solve: `form="scalar"` is for at most {_LARGEST_SCALAR_FORM} scalars in '
            f"the state, got {problem.dimension}; leave `form` out."
        )


def _check_newton_tolerance(tolerance: Any, method: Method) -> None:
    if tolerance is None:
        return
    if not method.newton:
        rows = ODE_METHODS if method.kind == "ode" else SDE_METHODS
        able = _names(one for one in rows if one.newton and one.julia)
        raise ValueError(
            f"solve: {method.name} takes no `newton_tolerance`; these solvers do: "
            f"{able}."
        )
    if not isinstance(tolerance, float) or not 0 < tolerance < 1:
        raise ValueError(
            "solve: `newton_tolerance` must be a number between 0 and 1, the fraction "
            f"of the error tolerance left to Newton's iteration; got {tolerance!r}."
        )


def _is_diagonal(problem: Problem) -> bool:
    """Whether its mass matrix is diagonal, as far as it is known."""
    mass = getattr(problem, "mass_matrix", None)
    if not all(is_concrete(leaf) for leaf in jtu.tree_leaves(mass)):
        return True
    rows, columns, _ = entries_of(mass)
    return bool(np.all(rows == columns))


def _check_theta(theta: Any, method: Method) -> None:
    if theta is None:
        return
    if not method.theta:
        able = _names(one for one in SDE_METHODS if one.theta)
        raise ValueError(
            f"solve: {method.name} has no `theta`, the weight of the drift at the end "
            f"of a step; {able} have."
        )
    if not isinstance(theta, float | int) or not 0 < theta <= 1:
        raise ValueError(
            "solve: `theta` must be a number above 0 and up to 1: 1 is implicit Euler, "
            f"1/2 the trapezoidal rule; got {theta!r}."
        )


def _check_noise(problem: Problem, options: Options, method: Method) -> None:
    """Refuse or warn of what StochasticDiffEq is known to get wrong."""
    several = problem.noise_dimension > 1
    faults = {fault.where: fault for fault in method.faults}
    if LOST_TERMS in method.faults and several:
        raise ValueError(
            f"solve: {method.name} of StochasticDiffEq 7 {LOST_TERMS.effect}, and "
            f"`problem` has {problem.noise_dimension}; take DRI1."
        )
    if options.fixed_steps:
        return
    if problem.kind.matrix_noise and several and UNCONTROLLED in faults:
        raise ValueError(
            f"solve: with matrix noise {method.name} {faults[UNCONTROLLED].effect}, "
            "and cannot hold `rtol` and `atol`; pass `dt` alone for fixed steps."
        )
    diagonal = not problem.kind.matrix_noise and problem.kind.noise != "scalar"
    if LOST_NOISE in method.faults and diagonal:
        warnings.warn(
            f"solve: adaptive {method.name} of StochasticDiffEq 7 goes wrong on "
            f"diagonal noise: it {LOST_NOISE.effect}. Pass `dt` alone for fixed steps, "
            "or take ImplicitEM.",
            stacklevel=5,
        )


def _names(methods: Iterable[Method]) -> str:
    return ", ".join(one.name for one in methods)
