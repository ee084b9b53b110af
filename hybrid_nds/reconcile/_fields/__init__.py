"""The fixtures' vector fields in JAX, by the `field` key of their specification."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ...models import Lorenz, Robertson, VanDerPol
from ._parameters import Parameters as Parameters, array, of_numbers
from .kinetics import HIRES, Brusselator, Oregonator, pollution
from .neural import neural, neural_stochastic
from .oscillators import Pendulum, ProtheroRobinson, VanDerPolScaled
from .particles import Pleiades, SphereAttention as SphereAttention
from .stochastic import (
    arctan,
    double_well,
    fading,
    geometric,
    kubo,
    linear,
    lotka_volterra,
    ornstein_uhlenbeck,
    periodic,
    underdamped,
)

FIELDS: Mapping[str, Callable[[Parameters], Any]] = MappingProxyType(
    {
        "attention": of_numbers(SphereAttention, "beta"),
        "brusselator": of_numbers(Brusselator, "a", "b", "diffusivity"),
        "hires": of_numbers(
            HIRES,
            *("k1", "k2", "k3", "k4", "k5", "k6"),
            *("k_plus", "k_minus", "k_star", "source"),
        ),
        "lorenz": of_numbers(Lorenz, "sigma", "rho", "beta"),
        "neural": neural,
        "oregonator": of_numbers(Oregonator, "s", "q", "w"),
        "pendulum": of_numbers(Pendulum, "gravity"),
        "pleiades": lambda parameters: Pleiades(array(parameters, "masses")),
        "pollution": pollution,
        "prothero_robinson": of_numbers(ProtheroRobinson, "rate"),
        "robertson": of_numbers(Robertson, "k1", "k2", "k3"),
        "van_der_pol": of_numbers(VanDerPol, "mu"),
        "van_der_pol_scaled": of_numbers(VanDerPolScaled, "inverse_epsilon"),
    }
)
"""Builders of the fields: parameters → a module callable as `field(t, y, args)`."""

STOCHASTIC_FIELDS: Mapping[str, Callable[[Parameters], tuple[Any, Any]]] = (
    MappingProxyType(
        {
            "arctan": arctan,
            "double_well": double_well,
            "fading": fading,
            "geometric": geometric,
            "kubo": kubo,
            "linear": linear,
            "lotka_volterra": lotka_volterra,
            "neural": neural_stochastic,
            "ornstein_uhlenbeck": ornstein_uhlenbeck,
            "periodic": periodic,
            "underdamped": underdamped,
        }
    )
)
"""Builders of drift and diffusion: parameters → two modules, each callable as
`drift(t, y, args)`."""
