"""Derivatives of stochastic solves along their paths."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...lowering import (
    Product,
    adjoint_products,
    lower,
    lower_stochastic_parts,
    paired_fields,
    tangent_products,
)
from ...runtime import Reference, Session
from ._derivatives import hollow
from ._fields import FunctionCache


class PathwiseDerivatives:
    """What makes the derivatives of a stochastic solve in fixed steps: those of its
    steps, with the path held fixed.

    **Arguments:** the session; its cache of functions; the problem, of whose arrays
    only shapes are kept; the number of its parameters; whether the diffusion is a
    matrix in Julia; the algorithm; whether a cotangent that is not finite is an error.
    """

    def __init__(
        self,
        session: Session,
        functions: FunctionCache,
        problem: Any,
        parameters: int,
        matrix: bool,
        algorithm: Reference,
        strict: bool,
    ):
        self._session, self._functions = session, functions
        self._lowered = lower_stochastic_parts(problem)
        self._fields, self._args = hollow((paired_fields(problem), problem.args))
        self._y0, self._t0 = hollow(problem.y0), np.zeros((), problem.dtype)
        self._dtype, self._dimension = problem.dtype, problem.dimension
        self._columns = problem.noise_dimension if matrix else 0
        self._parameters, self._algorithm = parameters, algorithm
        self._strict = strict

    def __call__(self, reverse: bool) -> Reference:
        """The tangent, or the adjoint."""
        compiled = lambda lowered: self._functions.reference(self._session, lowered)
        columns = (0, self._columns)
        products = [
            self._product(field, reverse, count)
            for field, count in zip(self._fields, columns, strict=True)
        ]
        return self._session.bridge.make(
            "shared_path_derivative",
            self._dtype.name,
            reverse,
            *map(compiled, self._lowered),
            *(
                compiled(lower(one.function, self._t0, one.state, self._args))
                for one in products
            ),
            self._dimension,
            self._columns,
            self._parameters,
            self._algorithm,
            self._strict,
        )

    def _product(self, field: Any, reverse: bool, columns: int) -> Product:
        if not reverse:
            first, _ = tangent_products(field, self._y0, self._parameters, self._dtype)
            return first
        first, _ = adjoint_products(field, self._y0, None, self._dtype)
        values = np.ones(self._dimension * max(columns, 1), self._dtype)
        return Product(first.function, (first.state[0], values))
