"""How a solve ended: outcomes, and the codes that stand for them in arrays."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import numpy as np

from .._core import is_concrete


class Outcome(eqx.Enumeration):  # pyright: ignore
    """How a solve ended: one enumeration for both solver stacks.

    Each backend maps its own codes (Diffrax's `RESULTS`, SciML's `ReturnCode`)
    to these.
    """

    success = "the solve reached the end of its span"
    event = "a terminal event stopped the solve"
    max_steps_reached = (
        "the solve ran out of steps; raise max_steps or loosen the tolerances"
    )
    step_size_too_small = (
        "the step size fell below what the time variable resolves; the solution "
        "may blow up, or the tolerances may be too tight for this precision"
    )
    nonlinear_solve_failed = (
        "an implicit stage equation could not be solved; try another solver or "
        "smaller steps"
    )
    unstable = "the state became NaN, infinite or was declared unstable"
    interrupted = "the solve was interrupted"
    failure = "the solver failed for a reason its message names"


OUTCOME_NAMES: tuple[str, ...] = tuple(Outcome._name_to_item)
"""The outcomes by name; the position of each is its code, what stands in arrays and
what Julia reports."""

SUCCESS, EVENT, STEP_TOO_SMALL, STAGE_FAILED, UNSTABLE, INTERRUPTED = map(
    OUTCOME_NAMES.index,
    (
        "success",
        "event",
        "step_size_too_small",
        "nonlinear_solve_failed",
        "unstable",
        "interrupted",
    ),
)
SUCCESSES = (SUCCESS, EVENT)
"""The codes of solves that went as they should."""


def outcome_of(code: Any) -> Any:
    """The item of [`Outcome`][hybrid_nds.Outcome] that a code stands for.

    **Arguments:** `code`, a whole number, known or traced.
    """
    if is_concrete(code):
        return _ITEMS[int(code)]
    outcome = _ITEMS[-1]
    for k, item in enumerate(_ITEMS[:-1]):
        outcome = Outcome.where(code == k, item, outcome)
    return outcome


_ITEMS: tuple[Any, ...] = tuple(getattr(Outcome, name) for name in OUTCOME_NAMES)


def code_of(outcome: Any) -> Any:
    """The code of an item of [`Outcome`][hybrid_nds.Outcome], or an array of the codes
    of a batch: known or traced."""
    return outcome._value


def outcome_name(outcome: Any) -> str:
    """The name of an outcome.

    **Arguments:** `outcome`, a concrete item of [`Outcome`][hybrid_nds.Outcome].

    **Returns:** its name, such as `"max_steps_reached"`.
    """
    return OUTCOME_NAMES[int(np.asarray(code_of(outcome)))]
