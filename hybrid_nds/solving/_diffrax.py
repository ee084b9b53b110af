"""To Diffrax and back: the same solve, written in Diffrax's own terms."""

from __future__ import annotations

from typing import Any

import diffrax
import jax.tree_util as jtu
import numpy as np

from .._core import is_concrete
from ..backends import check_options
from ..backends.diffrax import (
    AtSteadyState,
    Crossing,
    DiffeqsolveArguments,
    no_drift,
    plan,
)
from ..problems import Event, ODEProblem, SDEProblem, SteadyState, check_kind
from ._diffrax_sde import is_stochastic, stochastic_problem

_OPTIONS = (
    "solver",
    "rtol",
    "atol",
    "dt",
    "saveat",
    "adjoint",
    "event",
    "max_steps",
)


def to_diffrax(
    problem: ODEProblem | SDEProblem, **options: Any
) -> DiffeqsolveArguments:
    """A solve as the arguments of `diffrax.diffeqsolve`.

    **Arguments:**

    - `problem`: an [`ODEProblem`][hybrid_nds.ODEProblem] or an
        [`SDEProblem`][hybrid_nds.SDEProblem].
    - `options`: those of [`solve`][hybrid_nds.solve] that say how to solve.

    **Returns:** a dictionary of keyword arguments; what `solve` itself would pass.

    **Raises:** what `solve` raises for the same options.

    !!! example

        ```python
        solution = diffrax.diffeqsolve(**to_diffrax(problem, solver="Kvaerno5"))
        ```
    """
    check_kind("to_diffrax", problem, "ode", "sde")
    shared = {name: options.pop(name, None) for name in (*_OPTIONS, "key", "path")}
    checked = check_options(problem, "diffrax", **shared, extra=options)
    return plan(problem, checked)


def from_diffrax(
    terms: Any,
    solver: Any = None,
    t0: Any = None,
    t1: Any = None,
    dt0: Any = None,
    y0: Any = None,
    args: Any = None,
    **options: Any,
) -> tuple[ODEProblem | SDEProblem, dict[str, Any]]:
    """The arguments of `diffrax.diffeqsolve` as a problem and options of `solve`.

    **Arguments:** those of `diffrax.diffeqsolve`. `terms` is an `ODETerm`, or for a
    stochastic problem `MultiTerm(ODETerm(drift), ControlTerm(diffusion, path))` with a
    [`BrownianPath`][hybrid_nds.BrownianPath]; the solver says in which interpretation.

    **Returns:** the problem, and a dictionary such that `solve(problem, **options)`
    is the same solve. A `PIDController` that sets nothing but its tolerances, and a
    `ConstantStepSize`, become `rtol`, `atol` and `dt`, which both backends take.

    **Raises:** `TypeError` or `ValueError` for terms that are neither an ordinary
    nor a stochastic differential equation, and for what the problem itself refuses.
    """
    converted: dict[str, Any] = {"solver": solver, "dt": dt0}
    controller = options.pop("stepsize_controller", diffrax.ConstantStepSize())
    if is_stochastic(terms):
        problem, path = stochastic_problem(terms, solver, t0, t1, y0, args)
        converted["path"] = path
        if isinstance(controller, diffrax.StepTo) and _same(controller.ts, path.times):
            controller = diffrax.ConstantStepSize()
        # `solve` controls the error of a stochastic problem by other coefficients.
        tolerances = None
    else:
        problem = ODEProblem(_field(terms), y0, t0, t1, args)
        tolerances = _plain_tolerances(controller)
    if tolerances is not None:
        converted |= tolerances
    elif not isinstance(controller, diffrax.ConstantStepSize):
        converted["stepsize_controller"] = controller
    event = options.pop("event", None)
    converted["event"] = _plain_event(event)
    options.pop("throw", None)
    progress = options.pop("progress_meter", None)
    if progress is not None and not isinstance(progress, diffrax.NoProgressMeter):
        converted["progress"] = progress
    for name in ("saveat", "adjoint", "max_steps"):
        if name in options:
            converted[name] = options.pop(name)
    if options:
        raise TypeError(
            f"from_diffrax: cannot carry over the argument {', '.join(options)}."
        )
    return problem, {k: v for k, v in converted.items() if v is not None}


def _field(terms: Any) -> Any:
    if isinstance(terms, diffrax.MultiTerm):
        parts = terms.terms
        fields = [part.vector_field for part in parts if _is_ode(part)]
        if len(parts) == 2 and len(fields) == 2 and fields[0] is no_drift:
            return fields[1]
        raise TypeError(
            "from_diffrax: `terms` must be one ODETerm; a MultiTerm splits the field "
            "into parts, which an ODEProblem does not keep. Add the parts into one "
            "field."
        )
    if not _is_ode(terms):
        raise TypeError(
            "from_diffrax: `terms` must be a diffrax.ODETerm, got "
            f"{type(terms).__name__}; for a stochastic problem, MultiTerm(ODETerm("
            "drift), ControlTerm(diffusion, path))."
        )
    return terms.vector_field


def _is_ode(term: Any) -> bool:
    return isinstance(term, diffrax.ODETerm)


def _same(given: Any, expected: Any) -> bool:
    known = is_concrete(given) and is_concrete(expected)
    return known and np.array_equal(np.asarray(given), np.asarray(expected))


def _plain_tolerances(controller: Any) -> dict[str, Any] | None:
    if type(controller) is not diffrax.PIDController:
        return None
    plain = diffrax.PIDController(rtol=controller.rtol, atol=controller.atol)
    same = all(
        getattr(plain, name) is getattr(controller, name)
        or getattr(plain, name) == getattr(controller, name)
        for name in controller.__dataclass_fields__
        if name not in ("rtol", "atol")
    )
    return {"rtol": controller.rtol, "atol": controller.atol} if same else None


def _plain_event(event: Any) -> Any:
    """The events that `to_diffrax` translated, as they were; others as they are."""
    if event is None:
        return None
    conditions = event.cond_fn
    if not (
        isinstance(conditions, list)
        and all(isinstance(one, Crossing | AtSteadyState) for one in conditions)
    ):
        return event
    directions = jtu.tree_leaves(event.direction, is_leaf=lambda x: x is None)
    found: list[Event | SteadyState] = []
    rest = list(zip(conditions, directions, strict=True))
    while rest:
        condition, way = rest.pop(0)
        if isinstance(condition, AtSteadyState):
            found.append(SteadyState(condition.rtol, condition.atol))
            continue
        both = False
        if rest and isinstance(rest[0][0], Crossing):
            following, other_way = rest[0]
            both = following.index == condition.index and way and not other_way
        if both:
            rest.pop(0)
            found.append(Event(condition.condition))
        else:
            found.append(Event(condition.condition, "up" if way else "down"))
    return found
