"""Problems serialized for another process: lowered source and numbers, no functions.

A stand-in of the same class replaces the problem: its state is flat, and its
fields are `LoweredField`s, which hold all the weights.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from ..._core import is_concrete
from ...lowering import (
    LoweredField,
    LoweredFunction,
    Lowerings,
    Part,
    Sparsity,
    lower,
    lower_stochastic_problem,
)
from ...noise import StoredPath
from ...problems import Event, ODEProblem, Problem, SDEProblem
from .._options import Options
from ._structure import LOWERED, structure_key

_DERIVATIVES: Mapping[str, tuple[Part, ...]] = MappingProxyType(
    {"dense": ("jacobian",), "matrix-free": ("product",), "none": ()}
)
_T = TypeVar("_T")


def serialized(problem: Any, options: Options) -> tuple[Any, Options]:
    """A problem and its options, ready to travel.

    **Arguments:** the problem, and its checked options.

    **Returns:** a stand-in for each, with nothing in them but numbers and source.

    **Raises:** what lowering raises; `TypeError` for a field that holds traced values
    where they are not known as its parameters.
    """
    with explaining_traced_values():
        if problem.kind.follows_path:
            return _pack_stochastic(problem, options)
        return _pack_ordinary(problem, options)


def _pack_ordinary(problem: ODEProblem, options: Options) -> tuple[ODEProblem, Options]:
    events = options.event or ()
    conditions = [e.condition if isinstance(e, Event) else None for e in events]
    form = options.extra.get("form", "array")
    jacobian = options.extra.get("jacobian")
    pattern = jacobian if isinstance(jacobian, Sparsity) else None
    at = problem.t0, problem.y0, problem.args
    # Of the Jacobian that part alone which is asked for there.
    derivative: tuple[Part, ...] = ("jacobian",)
    if isinstance(jacobian, str):
        derivative = _DERIVATIVES[jacobian]
    names: tuple[Part, ...] = ("field", *derivative, "time_gradient")

    def make() -> tuple[Lowerings, list[Lowerings | None]]:
        parts: list[tuple[Part, LoweredFunction]] = []
        for part in names:
            known = pattern if part == "jacobian" else None
            made = lower(problem.field, *at, form=form, part=part, sparsity=known)
            parts.append((part, made))
        return Lowerings(parts), [
            None if one is None else Lowerings([("field", lower(one, *at))])
            for one in conditions
        ]

    tree = (problem.y0, problem.field, problem.args, conditions)
    lowered, lowered_conditions = _known(tree, (form, jacobian), make)
    field = LoweredField(weights_vector(problem, problem.field), lowered)
    stand_ins = tuple(
        event
        if condition is None
        else Event(
            LoweredField(weights_vector(problem, event.condition), condition),
            event.direction,
            event.required,
        )
        for event, condition in zip(events, lowered_conditions, strict=True)
    )
    flat = _replaced(problem, field=field, y0=flat_state(problem), args=None)
    return flat, dataclasses.replace(
        options, event=stand_ins or None, extra=_without_worker(options)
    )


def _pack_stochastic(
    problem: SDEProblem, options: Options
) -> tuple[SDEProblem, Options]:
    def make() -> tuple[Lowerings, Lowerings]:
        lowered = lower_stochastic_problem(problem)
        drift = Lowerings([("field", lowered.drift), ("jacobian", lowered.jacobian)])
        return drift, Lowerings([("field", lowered.diffusion)])

    fields = (problem.drift, problem.diffusion)
    drift, diffusion = _known((problem.y0, fields, problem.args), "paired", make)
    flat = _replaced(
        problem,
        # Both are of one parameter vector, which the drift holds.
        drift=LoweredField(weights_vector(problem, fields), drift),
        diffusion=LoweredField(concatenated([], problem.dtype), diffusion),
        y0=flat_state(problem),
        args=None,
    )
    path = options.along
    if not isinstance(path, StoredPath):
        path = StoredPath(*path_increments(path), t0=path.t0, t1=path.t1)
    return flat, dataclasses.replace(options, path=path, extra=_without_worker(options))


@eqx.filter_jit
def path_increments(path: Any) -> Any:
    return path.increments()


def _known(tree: PyTree, form: Any, make: Callable[[], Any]) -> Any:
    """What was lowered of a tree of this structure."""
    structure = structure_key(tree)
    key = None if structure is None else ("payload", form, structure)
    return LOWERED.get(key, make)


def _replaced(problem: _T, **fields: Any) -> _T:
    """The problem with other fields, which its constructor would try to call."""
    made = object.__new__(type(problem))
    for field in dataclasses.fields(problem):  # pyright: ignore[reportArgumentType]
        value = fields.get(field.name, getattr(problem, field.name))
        object.__setattr__(made, field.name, value)
    return made


def _without_worker(options: Any) -> dict[str, Any]:
    return {key: value for key, value in options.extra.items() if key != "worker"}


def flat_state(problem: Problem) -> Any:
    return concatenated(jtu.tree_leaves(problem.y0), problem.dtype)


def weights_vector(problem: Problem, functions: Any) -> Any:
    """The parameter vector of functions and their arguments."""
    leaves = jtu.tree_leaves((functions, problem.args))
    return concatenated([x for x in leaves if eqx.is_inexact_array(x)], problem.dtype)


def concatenated(leaves: list[Any], dtype: np.dtype) -> Any:
    """Arrays as one vector; in NumPy, where nothing is traced."""
    space = np if all(is_concrete(leaf) for leaf in leaves) else jnp
    if not leaves:
        return np.zeros(0, dtype)
    return space.concatenate([space.asarray(x, dtype).reshape(-1) for x in leaves])


@contextlib.contextmanager
def explaining_traced_values() -> Iterator[None]:
    try:
        yield
    except (jax.errors.TracerArrayConversionError, jax.errors.UnexpectedTracerError):
        raise TypeError(
            "solve: the field holds values that JAX traces where lowering needs to "
            "know them: pass real ones through `args` or as arrays of an Equinox "
            "module, not through a closure, and keep integers out of the traced "
            "function's arguments."
        ) from None
