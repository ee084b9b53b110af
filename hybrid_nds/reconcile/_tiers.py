"""Which fixtures show every kind of rung in a minute."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

TELLING: Mapping[str, str] = MappingProxyType(
    {
        "robertson": "stiff kinetics",
        "lorenz63": "chaos, and its Lyapunov spectrum",
        "pendulum": "a differential-algebraic equation",
        "neural_ode": "a trained network",
        "gbm": "multiplicative noise, and its exponents",
        "additive_time": "additive noise, with space-time Lévy area",
        "linear_noncommutative": "noise that does not commute",
        "kubo": "Stratonovich's interpretation",
    }
)
"""Fixtures by name, with what each of them shows."""
