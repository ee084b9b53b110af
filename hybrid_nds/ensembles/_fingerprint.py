"""What tells one ensemble from another."""

from __future__ import annotations

import importlib.metadata

from jaxtyping import PyTree

from ..problems import arrays_text, digest, problem_fingerprint, traced_text
from ._plan import Plan

_PACKAGES = ("hybrid_nds", "jax", "jaxlib", "equinox", "diffrax")


def fingerprint(plan: Plan, given: PyTree) -> dict[str, str]:
    """The fingerprint of an ensemble, by what it covers.

    **Arguments:** the plan, and initial states given as arrays, or `None`.

    **Returns:** for each part of the plan a digest, or the value itself.
    """
    start = "y0"
    if plan.initial is not None:
        start = digest([traced_text(plan.initial, plan.key)])
    elif given is not None:
        start = digest([arrays_text(given)])
    # Only so many trajectories share a program; another size may round differently.
    return {
        "n": str(plan.n),
        "key": digest([plan.key_kind, arrays_text(plan.key_data)]),
        "problem": problem_fingerprint(plan.problem),
        "initial states": start,
        "backend": plan.backend,
        "paths": plan.paths,
        "options": digest([arrays_text(dict(plan.options))]),
        "saveat": digest([arrays_text(plan.saveat)]),
        "reductions": digest([_reductions(plan)]),
        "block": str(plan.block),
        "versions of the libraries": ", ".join(
            f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES
        ),
    }


def _reductions(plan: Plan) -> str:
    if plan.reductions is None:
        return "all states"
    lines = []
    for name in sorted(plan.reductions):
        one = plan.reductions[name]
        seen = "" if one.of is None else traced_text(one.of, plan.problem.y0)
        lines.append(f"{name}: {type(one).__name__} {one.describe()} {seen}")
    return "\n".join(lines)
