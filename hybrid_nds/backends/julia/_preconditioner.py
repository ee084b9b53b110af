"""Preconditioners of the linear equations in implicit solves in Julia."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ... import runtime
from ..._core import LRU
from ...methods import ODE_METHODS, Method

# The parameter of each, by default: what entries of an incomplete factorization are
# dropped, the states of a block.
_PARAMETERS = {"ilu": 0.01, "multigrid": 0.0, "block-jacobi": 32}
_LARGEST_BLOCK = 1024
# With the object itself, so that no other can have its address.
_MADE: LRU[tuple[Any, runtime.Reference, str]] = LRU(16)


@dataclasses.dataclass(frozen=True)
class Preconditioner:
    """What preconditions GMRES in an implicit solve.

    **Fields:** its name, or the number of a function in Julia after a #; its parameter.
    """

    name: str
    parameter: float = 0.0

    def describe(self) -> str:
        """How the equations are solved, in words."""
        name = "a function in Julia" if self.name.startswith("#") else self.name
        return f"GMRES with {name}"

    def reference(self, session: runtime.Session) -> runtime.Reference:
        """What makes it of a matrix, in Julia."""
        try:
            return session.bridge.make("preconditioner", self.name, self.parameter)
        except runtime.JuliaExecutionError as error:
            raise ValueError(
                f"solve: `preconditioner` {self.name!r}: {error}"
            ) from error


def preconditioner_of(asked: Any, method: Method) -> Preconditioner | None:
    """The option `preconditioner` of a solve.

    **Arguments:** the option; the solver.

    **Raises:** `TypeError` or `ValueError`, naming the option.
    """
    if asked is None:
        return None
    if not method.matrix_free or method.name == "default":
        able = ", ".join(
            one.name
            for one in ODE_METHODS
            if one.matrix_free and one.julia and one.name != "default"
        )
        raise ValueError(
            f"solve: {method.name} takes no `preconditioner`; these solvers do: {able}."
        )
    if isinstance(asked, str):
        return Preconditioner(_known(asked), _PARAMETERS[asked])
    if isinstance(asked, tuple) and len(asked) == 2 and isinstance(asked[0], str):
        return _with_parameter(*asked)
    if type(asked).__module__.partition(".")[0] != "juliacall":
        raise TypeError(
            f"solve: `preconditioner` must be one of {', '.join(_PARAMETERS)}, one of "
            "them with its parameter, as ('ilu', 0.001), or a function that was made "
            f"in Julia; got a {type(asked).__name__}."
        )
    return Preconditioner(_MADE.get(id(asked), lambda: _made(asked))[2])


def _known(name: str) -> str:
    if name not in _PARAMETERS:
        raise ValueError(
            f"solve: `preconditioner` must be one of {', '.join(_PARAMETERS)}, got "
            f"{name!r}."
        )
    return name


def _with_parameter(name: str, parameter: Any) -> Preconditioner:
    number = isinstance(parameter, int | float | np.number) and not isinstance(
        parameter, bool
    )
    expected = {
        "ilu": "a drop tolerance between 0 and 1",
        "block-jacobi": f"a number of states from 1 to {_LARGEST_BLOCK}",
    }.get(_known(name))
    if expected is None:
        raise ValueError(
            f"solve: `preconditioner` {name!r} takes no parameter; got {parameter!r}."
        )
    if name == "ilu":
        valid = number and 0 <= parameter < 1
    else:
        valid = isinstance(parameter, int | np.integer) and number
        valid = valid and 1 <= parameter <= _LARGEST_BLOCK
    if not valid:
        raise ValueError(
            f"solve: the parameter of `preconditioner` {name!r} must be {expected}, "
            f"got {parameter!r}."
        )
    return Preconditioner(name, float(parameter))


def _made(function: Any) -> tuple[Any, runtime.Reference, str]:
    session = runtime.session()
    number = int(session.module.refer_b(function))
    return function, session.bridge.adopt(number), f"#{number}"
