"""What all problems share."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PyTree

from .._core import is_concrete, page_of, size_of
from ._checks import VectorField
from ._flat_state import FlatState
from ._kind import Kind, KindName, Term


class Problem(eqx.Module):
    """An initial value problem: a state, a span, and the terms of an equation, which
    `noise_dimension` Brownian motions drive."""

    y0: eqx.AbstractVar[PyTree[Array]]
    t0: eqx.AbstractVar[Float[Array, ""]]
    t1: eqx.AbstractVar[Float[Array, ""]]
    args: eqx.AbstractVar[PyTree]
    if TYPE_CHECKING:
        # Not an abstract variable: where a property gives it, `dataclasses.replace`
        # would take it for an argument.
        noise_dimension: int

    @property
    @abc.abstractmethod
    def kind(self) -> Kind:
        """The kind of its equation."""

    @property
    @abc.abstractmethod
    def terms(self) -> tuple[Term, ...]:
        """The functions of its equation."""

    @property
    def functions(self) -> tuple[VectorField, ...]:
        """The functions of its terms."""
        return tuple(term.function for term in self.terms)

    @property
    def dimension(self) -> int:
        """The number of scalars in the state."""
        return sum(leaf.size for leaf in jtu.tree_leaves(self.y0))

    @property
    def flat_state(self) -> FlatState:
        """The layout of the state as one vector."""
        return FlatState(self.y0)

    @property
    def dtype(self) -> np.dtype:
        """The floating-point type of the state."""
        return np.dtype(jtu.tree_leaves(self.y0)[0].dtype)

    def _repr_html_(self) -> str:
        """What a notebook shows: the equation's kind, its span, state and terms."""
        kind = self.kind
        equation = "dy/dt = f(t, y)"
        if kind.follows_path:
            equation = "dy = f(t, y) dt + g(t, y) dW"
        start, end = (x if is_concrete(x) else "traced" for x in (self.t0, self.t1))
        lines = [
            f"{type(self).__name__}: {equation}",
            f"  t from {start} to {end}, {self.dimension} components in {self.dtype}",
        ]
        if kind.follows_path:
            lines.append(f"  {kind.noise} noise, {kind.interpretation}")
        state = [("state", "initial value"), *_leaves(self.y0)]
        given = [("argument", "value"), *_leaves(self.args)]
        terms = [("term", "parameters")]
        for term in self.terms:
            arrays = eqx.filter(term.function, eqx.is_inexact_array_like)
            count = sum(np.size(x) for x in jtu.tree_leaves(arrays))
            terms.append((term.name, str(count)))
        tables = {"State": state, "Terms": terms, "Arguments": given}
        return page_of("\n".join(lines), tables)


def _leaves(tree: PyTree) -> list[tuple[str, str]]:
    """The arrays of a pytree: where they stand, and what they are."""
    return [
        (
            jtu.keystr(path) or "·",
            size_of(x) if is_concrete(x) else str(jtu.tree_map(jnp.shape, x)),
        )
        for path, x in jtu.tree_leaves_with_path(tree)
        if eqx.is_array_like(x)
    ]


def check_kind(
    caller: str, problem: Any, *kinds: KindName, name: str = "problem"
) -> None:
    """Refuse what is no problem of one of some kinds of equations.

    **Arguments:** the caller's name; what it was given; the kinds that it knows; the
    argument's name.

    **Raises:** `TypeError`, naming the argument.
    """
    if isinstance(problem, Problem) and problem.kind.name in kinds:
        return
    expected = " or ".join(f"an {kind.upper()}Problem" for kind in kinds)
    raise TypeError(
        f"{caller}: `{name}` must be {expected}, got {type(problem).__name__}."
    )
