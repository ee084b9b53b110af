"""Diffrax as a backend: solves in XLA, open to JAX's transformations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ...methods import METHODS, Method
from ...problems import KindName, Problem
from ...solution import Solution
from .._options import Options
from ._ode import plan_ordinary, solve_ordinary
from ._run import DiffeqsolveArguments
from ._sde import plan_stochastic, solve_stochastic


class _Functions(NamedTuple):
    """How problems of a kind are solved: the arguments of `diffrax.diffeqsolve` for
    one, and the solve."""

    plan: Callable[[Any, Options], DiffeqsolveArguments]
    solve: Callable[[Any, Options], Solution]


_BY_KIND: Mapping[KindName, _Functions] = MappingProxyType(
    {
        "ode": _Functions(lambda *given: plan_ordinary(*given)[0], solve_ordinary),
        "sde": _Functions(plan_stochastic, solve_stochastic),
    }
)


class DiffraxBackend:
    """The Diffrax stack."""

    @property
    def name(self) -> str:
        return "diffrax"

    @property
    def methods(self) -> tuple[Method, ...]:
        return METHODS

    def solve(self, problem: Problem, options: Options) -> Solution:
        return _BY_KIND[problem.kind.name].solve(problem, options)


def plan(problem: Problem, options: Options) -> DiffeqsolveArguments:
    """The arguments of `diffrax.diffeqsolve` for a problem and checked options.

    **Raises:** `ValueError` or `TypeError`, naming the option.
    """
    return _BY_KIND[problem.kind.name].plan(problem, options)
