"""The fixtures' vector fields in JAX, by the `field` key of their specification."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ._parameters import Parameters as Parameters
from .attention import SphereAttention as SphereAttention
from .bodies import Pleiades as Pleiades
from .diffusion import Brusselator as Brusselator
from .kinetics import (
    HIRES as HIRES,
    Oregonator as Oregonator,
    Pollution as Pollution,
    Robertson as Robertson,
)
from .neural import NeuralField as NeuralField, neural_stochastic
from .oscillators import (
    Lorenz as Lorenz,
    Pendulum as Pendulum,
    ProtheroRobinson as ProtheroRobinson,
    VanDerPol as VanDerPol,
    VanDerPolScaled as VanDerPolScaled,
)
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
        "attention": SphereAttention.from_parameters,
        "brusselator": Brusselator.from_parameters,
        "hires": HIRES.from_parameters,
        "lorenz": Lorenz.from_parameters,
        "neural": NeuralField.from_parameters,
        "oregonator": Oregonator.from_parameters,
        "pendulum": Pendulum.from_parameters,
        "pleiades": Pleiades.from_parameters,
        "pollution": Pollution.from_parameters,
        "prothero_robinson": ProtheroRobinson.from_parameters,
        "robertson": Robertson.from_parameters,
        "van_der_pol": VanDerPol.from_parameters,
        "van_der_pol_scaled": VanDerPolScaled.from_parameters,
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
