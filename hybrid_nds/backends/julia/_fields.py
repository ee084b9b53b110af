"""Fields for Julia: lowered source, or calls back into JAX, as Julia functions."""

from __future__ import annotations

import ctypes
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from ..._core import LRU
from ...lowering import (
    LoweredFunction,
    Part,
    lower,
    lower_stochastic_problem,
    paired_fields,
)
from ...problems import KindName, Problem, entries_of, forward_problem
from ...runtime import Reference, Session
from ._jacobian import DENSE, Jacobian

Form = Literal["array", "scalar"]
Coupling = Literal["lowered", "callback"]

# How many Julia functions are stored: compiled code is never freed by Julia, so what
# this limit bounds is the memory of their work arrays and constants.
_KEPT_FUNCTIONS = 512


def vector_view(session: Session, vector: Any, dtype: np.dtype) -> np.ndarray:
    """A Julia array of numbers as a NumPy vector, without a copy.

    The caller keeps `vector` alive for as long as the view is used.
    """
    address = int(session.module.address(vector))
    return memory_view(address, int(session.main.length(vector)), dtype)


def memory_view(address: int, count: int, dtype: np.dtype) -> np.ndarray:
    """`count` numbers at an address as a NumPy vector."""
    if count == 0:
        return np.empty(0, dtype)
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return np.frombuffer(memoryview(memory), dtype)


class FunctionCache:
    """Julia functions by their source: the same source is compiled once."""

    def __init__(self):
        self._made: LRU[Reference] = LRU(_KEPT_FUNCTIONS)
        self._values: LRU[Any] = LRU(_KEPT_FUNCTIONS)

    def reference(self, session: Session, lowered: LoweredFunction) -> Reference:
        """The Julia function of a lowered one, for calls from any thread."""
        return self._made.get(_source_key(lowered), lambda: _compiled(session, lowered))

    def get(self, session: Session, lowered: LoweredFunction) -> Any:
        """The Julia function of a lowered one, as juliacall has it."""
        made = self.reference(session, lowered)
        find = session.module.referred
        return self._values.get(made.number, lambda: find(made.number))


def _source_key(lowered: LoweredFunction) -> Any:
    constants = tuple((c.dtype.str, c.shape, c.tobytes()) for c in lowered.constants)
    return (lowered.source, lowered.workspace, constants, lowered.form)


def _compiled(session: Session, lowered: LoweredFunction) -> Reference:
    bridge = session.bridge
    listed = bridge.make("constants")
    for array in lowered.constants:
        # The same memory, read in Julia's order: dimensions reversed.
        dims = ",".join(map(str, reversed(array.shape)))
        values = np.ascontiguousarray(array).reshape(-1)
        bridge.number("push_constant!", listed, values, dims)
    layout = ";".join(
        f"{kind}:{','.join(map(str, dims))}" for kind, dims in lowered.workspace
    )
    scalar = lowered.form == "scalar"
    return bridge.make("lower_source", lowered.source, layout, listed, scalar)


class CallbackWeights:
    """The arrays a callback reads beside time and state: arguments of compiled code,
    not constants in it, so that others can replace them."""

    def __init__(self, tree: PyTree):
        self.leaves: list[Any] = []
        self.fill(tree)

    def fill(self, tree: PyTree) -> None:
        """Take the arrays of `tree`."""
        leaves = jtu.tree_leaves(eqx.filter(tree, eqx.is_array))
        # NumPy arrays can change under a solution that is evaluated later.
        self.leaves = [x.copy() if isinstance(x, np.ndarray) else x for x in leaves]


@dataclasses.dataclass(frozen=True)
class Approach:
    """How a problem reaches Julia: the part of the options that decides what is built.

    **Fields:** `coupling`, lowered or by callbacks; `form` of the code; `specialize`,
    whether the solver is compiled for this very field; `matrix`, whether the diffusion
    is to be a matrix there, which one of scalar noise may be; `jacobian`, how an
    implicit solver has it.
    """

    coupling: Coupling = "lowered"
    form: Form = "array"
    specialize: bool = False
    matrix: bool = False
    jacobian: Jacobian = DENSE


def julia_model(
    session: Session, cache: FunctionCache, problem: Problem, approach: Approach
) -> tuple[Any, CallbackWeights | None]:
    """The `ODEFunction` or `SDEFunction` of a problem.

    **Returns:** it, and where callbacks find the arrays that they read, `None` for
    lowered functions.
    """
    return _MODELS[problem.kind.name](session, cache, problem, approach)


def _ordinary_model(
    session: Session, cache: FunctionCache, problem: Any, approach: Approach
) -> tuple[Any, CallbackWeights | None]:
    if approach.coupling == "lowered":
        made = lowered_model(session, cache, problem, approach)
        return session.module.referred(made.number), None
    problem, n = forward_problem(problem), problem.dimension
    # The Jacobian and the time gradient are JAX's own: without them an implicit
    # solver would send dual numbers or finite differences through Python.
    flat = flat_function(problem.field, problem.y0, problem.args)
    weights = CallbackWeights((problem.functions, problem.args))
    derivatives = jax.jacfwd(flat, argnums=1), jax.jacfwd(flat, argnums=0)
    sized = zip((flat, *derivatives), ((n,), (n, n), (n,)), strict=True)
    functions = [
        host_function(session, function, weights, problem, size)
        for function, size in sized
    ]
    mass = problem.mass_matrix
    mass = None if mass is None else np.asarray(mass)
    element = julia_type(session, problem.dtype)
    specialize = approach.specialize
    model = session.module.model(element, *functions, mass, specialize=specialize)
    return model, weights


def lowered_model(
    session: Session, cache: FunctionCache, problem: Any, approach: Approach
) -> Reference:
    """The `ODEFunction` of a problem with a lowered field, for calls from any thread.

    **Raises:** what lowering raises.
    """
    problem = forward_problem(problem)
    at = problem.t0, problem.y0, problem.args
    make, name, jacobian = session.bridge.make, problem.dtype.name, approach.jacobian

    def made(part: Part) -> Reference:
        pattern = jacobian.pattern if part == "jacobian" else None
        lowered = lower(
            problem.field, *at, form=approach.form, part=part, sparsity=pattern
        )
        return cache.reference(session, lowered)

    field, gradient = made("field"), made("time_gradient")
    mass_matrix, mass, specialize = problem.mass_matrix, None, approach.specialize
    if jacobian.form in ("sparse", "matrix-free"):
        if mass_matrix is not None:
            mass = make(
                "shared_mass", name, problem.dimension, *entries_of(mass_matrix)
            )
        if jacobian.form == "matrix-free":
            product = made("product")
            return make(
                "shared_matrix_free_model",
                name,
                field,
                product,
                gradient,
                mass,
                specialize,
            )
        assert jacobian.pattern is not None
        entries = made("jacobian")
        starts = np.asarray(jacobian.pattern.starts, np.int64)
        rows = np.asarray(jacobian.pattern.rows, np.int64)
        return make(
            "shared_sparse_model",
            name,
            field,
            entries,
            gradient,
            starts,
            rows,
            mass,
            specialize,
        )
    matrix = made("jacobian") if jacobian.form == "dense" else None
    if mass_matrix is not None:
        # Julia reads axes in reverse.
        mass = np.asarray(mass_matrix, problem.dtype).T
    return make("shared_model", name, field, matrix, gradient, mass, specialize)


def _stochastic_model(
    session: Session, cache: FunctionCache, problem: Any, approach: Approach
) -> tuple[Any, CallbackWeights | None]:
    weights = None
    if approach.coupling == "lowered":
        lowered = lower_stochastic_problem(problem)
        parts = (lowered.drift, lowered.jacobian, lowered.diffusion)
        functions = [cache.get(session, part) for part in parts]
    else:
        n, m = problem.dimension, problem.noise_dimension
        drift, diffusion = (
            flat_function(one, problem.y0, problem.args)
            for one in paired_fields(problem)
        )
        weights = CallbackWeights((problem.functions, problem.args))
        columns = n * m if problem.matrix_noise else n
        made = (drift, jax.jacfwd(drift, argnums=1), diffusion)
        functions = [
            host_function(session, function, weights, problem, size)
            for function, size in zip(made, ((n,), (n, n), (columns,)), strict=True)
        ]
    element = julia_type(session, problem.dtype)
    model = session.module.stochastic_model(element, *functions, approach.matrix)
    return model, weights


_MODELS: Mapping[KindName, Callable[..., tuple[Any, CallbackWeights | None]]] = (
    MappingProxyType({"ode": _ordinary_model, "sde": _stochastic_model})
)


def flat_function(
    function: Callable[..., Any], y0: PyTree, args: PyTree
) -> Callable[..., jax.Array]:
    """A function of the flat state.

    **Returns:** `flat(t, u, leaves)`, with `leaves` the arrays of `(function, args)`.
    """
    weights, static = eqx.partition((function, args), eqx.is_array)
    treedef = jtu.tree_structure(weights)
    states, state_tree = jtu.tree_flatten(y0)
    shapes = [leaf.shape for leaf in states]
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]

    def flat(t: jax.Array, u: jax.Array, leaves: Sequence[Any]) -> jax.Array:
        inner, inner_args = eqx.combine(jtu.tree_unflatten(treedef, leaves), static)
        parts = jnp.split(u, ends)
        pieces = [part.reshape(s) for part, s in zip(parts, shapes, strict=True)]
        result = inner(t, jtu.tree_unflatten(state_tree, pieces), inner_args)
        outputs = jtu.tree_leaves(result)
        return jnp.concatenate([jnp.ravel(leaf) for leaf in outputs])

    return flat


def host_function(
    session: Session,
    function: Callable[..., jax.Array],
    weights: CallbackWeights,
    problem: Problem,
    size: tuple[int, ...],
) -> Any:
    """A JAX function as a Julia `HostFunction`, reading and writing shared memory.

    **Arguments:** the session; `function(t, u, leaves)`; where `leaves` come from;
    the problem; the shape of the output.
    """
    compiled = jax.jit(function)
    views: list[np.ndarray] = []

    def call() -> None:
        time, state, output = views
        output[...] = compiled(time[0], state, weights.leaves)

    element = julia_type(session, problem.dtype)
    made = session.module.HostFunction(call, element, problem.dimension, *size)
    views.append(vector_view(session, made.time, problem.dtype))
    views.append(vector_view(session, made.state, problem.dtype))
    # Julia's matrices are column-major: J[i, j] is at [j, i] of the memory.
    output = vector_view(session, made.output, problem.dtype)
    views.append(output.reshape(size[::-1]).T)
    return made


def julia_type(session: Session, dtype: np.dtype) -> Any:
    """Julia's name for a floating-point type."""
    return getattr(session.main, dtype.name.capitalize())
