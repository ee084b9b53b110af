"""The message of a solve that failed."""

from __future__ import annotations

from typing import Any

import jax.tree_util as jtu

from ..methods import ODE_METHODS, STIFF_SOLVERS
from ..problems import Kind, SteadyState
from ..solution import Outcome, Provenance


def has_steady_state(event: Any) -> bool:
    """Whether a steady state is among events."""
    is_steady = lambda one: isinstance(one, SteadyState)
    return any(map(is_steady, jtu.tree_leaves(event, is_leaf=is_steady)))


def failure_text(
    name: str,
    where: Provenance,
    *,
    end_time: float | None,
    steps: int | None,
    message: str,
    kind: Kind,
    infinite: bool,
    steady: bool,
) -> str:
    """How a solve failed, where, and what may help.

    **Arguments:** the name of its outcome and its origin; the time it reached and the
    steps it took, where known; the solver's own message; the kind of the problem,
    whether its span is infinite, and whether a steady state was to end it.
    """
    text = [f"solve: {Outcome[getattr(Outcome, name)]} ({name})."]
    reached = "" if end_time is None else f" at t = {end_time:.6g}"
    taken = "" if steps is None else f" after {steps} steps"
    text.append(f"Stopped{reached}{taken}, solver {where.solver} of {where.backend}.")
    if message:
        text.append(message)
    # Where the cause is known, nothing is to be guessed.
    known_cause = "not finite at" in message or "data" in message
    if kind.follows_path:
        if name == "unstable" and not known_cause:
            text.append(
                "Take shorter steps; for stiff drift the julia backend has implicit "
                "solvers (ImplicitEM, ImplicitRKMil, SKenCarp)."
            )
        return " ".join(text)
    known = {info.on("diffrax"): info for info in ODE_METHODS} | {
        info.on("julia"): info for info in ODE_METHODS
    }
    info = known.get(where.solver)
    stiff_name = STIFF_SOLVERS.get(where.backend)
    if (
        info is not None
        and stiff_name is not None
        and not info.implicit
        and not known_cause
        and (name == "max_steps_reached" or (name == "unstable" and where.rtol is None))
    ):
        text.append(
            f'If the problem is stiff, try solver="{stiff_name}"; an explicit solver '
            "needs steps as short as its fastest time scale."
        )
    if infinite:
        text.append(
            "The span is infinite and `event` never fired: "
            + (
                "loosen the tolerances of SteadyState, or check that the problem "
                "comes to rest."
                if steady
                else "check that its condition crosses zero in the direction asked "
                "for, or give a finite `t1`."
            )
        )
    return " ".join(text)
