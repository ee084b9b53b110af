"""The rungs of the ladder by name, and the fixtures that show all of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

BACKENDS = ("diffrax", "julia")
RUNGS = ("L0", "L1", "L2", "L3")
TITLES = {
    "L0": "field",
    "L1": "scheme",
    "L2": "solution",
    "L3": "observable",
}

TELLING: Mapping[str, str] = MappingProxyType(
    {
        "robertson": "stiff kinetics",
        "lorenz63": "chaos, and its Lyapunov spectrum",
        "pendulum": "a differential-algebraic equation",
        "neural_ode": "a trained network",
        "gbm": "multiplicative noise, and its exponents",
        "additive_time": "additive noise, with space-time Lévy area",
        "linear_noncommutative": "noise that does not commute",
    }
)
"""Fixtures that show every kind of rung in a minute, and what each is."""

NO_JULIA = "no Julia results to compare with"
ALONE = "held to its own results alone; a second stack or a reference is missing"

_JULIA_WORDS = {
    "live": "Julia ran live.",
    "recorded": "Julia's results are recorded, not live.",
    "absent": "No Julia results: Diffrax alone, against a reference if there is one.",
}


def julia_words(state: str) -> str:
    """Where the Julia side comes from, in a sentence."""
    return _JULIA_WORDS[state]
