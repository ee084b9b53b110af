"""The entries of a Jacobian as terms, where its program moves, scales and adds alone.

The derivative of a program is a program that is linear in the direction. Of stencils,
of networks at each point, of couplings along a graph it moves elements of the direction
about, multiplies them by numbers that do not depend on it, and adds them up. Every
array in it is then a sum of a few terms, each an element of the direction times a
weight, and which element and which weight is known before the program runs: the entries
are the weights in another order, and nothing is multiplied that is zero.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal
from jaxtyping import Array, Int

from .._core import is_concrete
from ._program import Shape

# Sums of more elements are not written as terms.
_MOST_TERMS = 64
# Terms of one entry: each is a pass over all entries.
_MOST_OF_AN_ENTRY = 8


class NotTermsError(Exception):
    """A program that does something else, or has too many terms."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Term:
    """An element of the direction times a weight, at each place of an array.

    **Fields:** `columns`, which element, less than zero for none; `weights`, a vector
    that may be traced; `places`, which of the weights.
    """

    columns: Int[np.ndarray, ...]
    weights: Any
    places: Int[np.ndarray, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class _Linear:
    """An array that is linear in the direction."""

    shape: Shape
    terms: tuple[_Term, ...]


Operands = Sequence[Any]
Step = Callable[[Any, Operands], list[_Linear]]


def entries_by_terms(
    push: Callable[..., Any],
    shapes: Sequence[Shape],
    dtype: np.dtype,
    rows: Int[np.ndarray, " entry"],
    columns: Int[np.ndarray, " entry"],
) -> Array:
    """The entries of a matrix from its product with a vector.

    **Arguments:** the product, a function of the pieces of the vector, whose results in
    a row are those of the matrix; the shapes of the pieces; their dtype; rows and
    columns of the entries, column by column and downwards in each.

    **Returns:** the entries in that order.

    **Raises:** `NotTermsError` where the product is no sum of few terms.
    """
    results = _followed(push, shapes, dtype)
    states = sum(math.prod(shape) for shape in shapes)
    return _assembled(results, states, dtype, rows, columns)


def pattern_by_terms(
    push: Callable[..., Any], shapes: Sequence[Shape], dtype: np.dtype
) -> tuple[Int[np.ndarray, " entry"], Int[np.ndarray, " entry"]]:
    """Where a matrix may be other than zero, from its product with a vector.

    Arguments and errors are those of `entries_by_terms`.

    **Returns:** rows and columns, in any order and perhaps repeated.
    """
    rows, columns, start = [], [], 0
    for result in _followed(push, shapes, dtype):
        for term in result.terms if isinstance(result, _Linear) else ():
            there = term.columns.reshape(-1) >= 0
            if is_concrete(term.weights):
                there &= np.asarray(term.weights)[term.places.reshape(-1)] != 0
            rows.append(start + np.flatnonzero(there))
            columns.append(term.columns.reshape(-1)[there])
        start += math.prod(np.shape(result))
    nothing = [np.zeros(0, np.int64)]
    return np.concatenate(rows or nothing), np.concatenate(columns or nothing)


def _followed(
    push: Callable[..., Any], shapes: Sequence[Shape], dtype: np.dtype
) -> list[Any]:
    """The results of a product of a matrix with a vector, in terms of the vector."""
    zeros = [jnp.zeros(shape, dtype) for shape in shapes]
    program = jax.make_jaxpr(push)(*zeros)
    unit, start, given = np.ones(1, dtype), 0, []
    for shape in shapes:
        size = math.prod(shape)
        own = np.arange(start, start + size, dtype=np.int32).reshape(shape)
        given.append(_Linear(shape, (_Term(own, unit, np.zeros_like(own)),)))
        start += size
    return _run(program.jaxpr, program.consts, given)


def _run(jaxpr: Any, consts: Sequence[Any], given: Operands) -> list[Any]:
    """The results of a program, some of them linear."""
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, given, strict=True))
    read = lambda atom: atom.val if isinstance(atom, Literal) else values[atom]
    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        results = _results(equation, operands)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _results(equation: Any, operands: Operands) -> list[Any]:
    primitive = equation.primitive
    inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    if primitive.name in _CALLS and inner is not None:
        closed = isinstance(inner, ClosedJaxpr)
        jaxpr, consts = (inner.jaxpr, inner.consts) if closed else (inner, ())
        return _run(jaxpr, consts, operands)
    if not any(isinstance(operand, _Linear) for operand in operands):
        results = primitive.bind(*operands, **equation.params)
        return list(results) if primitive.multiple_results else [results]
    if primitive.name in _MOVES:
        made = _moved(equation, operands, _MOVES[primitive.name](len(operands)))
    elif primitive.name in _STEPS:
        made = _STEPS[primitive.name](equation, operands)
    else:
        raise NotTermsError(primitive.name)
    if any(len(one.terms) > _MOST_TERMS for one in made):
        raise NotTermsError("too many terms")
    return made


_CALLS = frozenset({"jit", "pjit", "closed_call", "core_call", "checkpoint"})


# Moves: the same operation on the numbers of elements and weights as on themselves.


def _moved(equation: Any, operands: Operands, moving: Sequence[int]) -> list[_Linear]:
    """What moves elements about, of the operands in the positions `moving`."""
    count = max(len(one.terms) for one in operands if isinstance(one, _Linear))
    others = [x for k, x in enumerate(operands) if k not in moving]
    if any(isinstance(x, _Linear) or not is_concrete(x) for x in others):
        raise NotTermsError(equation.primitive.name)
    terms: list[list[_Term]] = []
    for k in range(count):
        own = [_term(operands[place], k) for place in moving]
        weights, places = _joined(own)
        moved = [
            _bound(equation, operands, dict(zip(moving, arrays, strict=True)))
            for arrays in ([term.columns for term in own], places)
        ]
        # What lies outside of the operands is less than zero.
        terms.append(
            [_Term(c, weights, np.maximum(p, 0)) for c, p in zip(*moved, strict=True)]
        )
    by_result = zip(*terms, strict=True)
    return [
        _Linear(tuple(variable.aval.shape), tuple(own))
        for variable, own in zip(equation.outvars, by_result, strict=True)
    ]


def _term(operand: Any, k: int) -> _Term:
    """A term of an operand, one of nothing where it has fewer."""
    if isinstance(operand, _Linear) and k < len(operand.terms):
        return operand.terms[k]
    shape = np.shape(operand)
    return _Term(np.full(shape, -1, np.int32), None, np.zeros(shape, np.int32))


def _joined(terms: Sequence[_Term]) -> tuple[Any, list[np.ndarray]]:
    """One vector of the weights of several terms, and their places in it."""
    pool = _Pool()
    places = [
        term.places
        if term.weights is None
        else term.places + np.int32(pool.start(term.weights))
        for term in terms
    ]
    return pool.vector(), places


def _bound(
    equation: Any, operands: Operands, moved: Mapping[int, np.ndarray]
) -> list[np.ndarray]:
    primitive = equation.primitive
    given = [moved.get(k, operand) for k, operand in enumerate(operands)]
    if primitive.name in _NUMPY:
        return _NUMPY[primitive.name](equation.params, given)
    with jax.ensure_compile_time_eval():
        results = primitive.bind(*map(jnp.asarray, given), **equation.params)
    many = results if primitive.multiple_results else [results]
    return [np.asarray(result) for result in many]


def _broadcast(parameters: Any, given: Operands) -> list[np.ndarray]:
    shape, axes = parameters["shape"], parameters["broadcast_dimensions"]
    there = [1] * len(shape)
    for axis, length in zip(axes, np.shape(given[0]), strict=True):
        there[axis] = length
    return [np.broadcast_to(np.reshape(given[0], there), shape)]


def _slice(parameters: Any, given: Operands) -> list[np.ndarray]:
    starts, limits = parameters["start_indices"], parameters["limit_indices"]
    steps = parameters["strides"] or (1,) * len(starts)
    return [given[0][tuple(map(slice, starts, limits, steps))]]


def _split(parameters: Any, given: Operands) -> list[np.ndarray]:
    ends = np.cumsum(parameters["sizes"])[:-1]
    return np.split(given[0], ends, parameters["axis"])


def _pad(parameters: Any, given: Operands) -> list[np.ndarray]:
    array, filler = given
    config = parameters["padding_config"]
    # A negative width takes elements away.
    inner = tuple(
        slice(max(0, -low), n - max(0, -high))
        for (low, high, _), n in zip(config, array.shape, strict=True)
    )
    if any(interior for *_, interior in config):
        raise NotTermsError("pad")
    widths = [(max(0, low), max(0, high)) for low, high, _ in config]
    return [np.pad(array[inner], widths, constant_values=filler)]


# The same in NumPy, where JAX would compile each for its shapes.
_NUMPY: Mapping[str, Callable[[Any, Operands], list[np.ndarray]]] = MappingProxyType(
    {
        "broadcast_in_dim": _broadcast,
        "concatenate": lambda p, xs: [np.concatenate(xs, p["dimension"])],
        "copy": lambda p, xs: [xs[0]],
        "copy_p": lambda p, xs: [xs[0]],
        "pad": _pad,
        "reshape": lambda p, xs: [xs[0].reshape(p["new_sizes"])],
        "rev": lambda p, xs: [np.flip(xs[0], p["dimensions"])],
        "slice": _slice,
        "split": _split,
        "squeeze": lambda p, xs: [np.squeeze(xs[0], tuple(p["dimensions"]))],
        "stack": lambda p, xs: [np.stack(xs, p["axis"])],
        "transpose": lambda p, xs: [np.transpose(xs[0], p["permutation"])],
    }
)

_first: Callable[[int], Sequence[int]] = lambda count: (0,)
_all: Callable[[int], Sequence[int]] = range
_two: Callable[[int], Sequence[int]] = lambda count: (0, 1)
# Which operands are moved.
_MOVES: Mapping[str, Callable[[int], Sequence[int]]] = MappingProxyType(
    dict.fromkeys(
        "broadcast_in_dim copy copy_p dynamic_slice expand_dims gather reshape rev "
        "slice split squeeze tile transpose unstack".split(),
        _first,
    )
    | dict.fromkeys("concatenate stack".split(), _all)
    | dict.fromkeys("dynamic_update_slice pad".split(), _two)
    | {"scatter": lambda count: (0, 2)}
)


class _Pool:
    """Vectors of weights one behind the other, each once."""

    def __init__(self):
        self._starts: dict[int, int] = {}
        self._vectors: list[Any] = []
        self.size = 0

    def start(self, weights: Any) -> int:
        """Where a vector begins."""
        if id(weights) not in self._starts:
            self._starts[id(weights)] = self.size
            self._vectors.append(weights)
            self.size += len(weights)
        return self._starts[id(weights)]

    def vector(self, dtype: Any = None) -> Any:
        """All of them, perhaps in another dtype."""
        made = [x if dtype is None else x.astype(dtype) for x in self._vectors]
        return made[0] if len(made) == 1 else jnp.concatenate(made)


# Sums and products.


def _sum(terms: Sequence[_Term]) -> tuple[_Term, ...]:
    """Terms of the same elements as one."""
    found: list[_Term] = []
    for term in terms:
        for k, known in enumerate(found):
            if np.array_equal(known.columns, term.columns):
                found[k] = _combined(
                    known, term.weights, term.places, lambda x, y: x + y
                )
                break
        else:
            found.append(term)
        if len(found) > _MOST_TERMS:
            raise NotTermsError("too many terms")
    return tuple(found)


def _combined(
    term: _Term, factors: Any, places: np.ndarray, operation: Callable[[Any, Any], Any]
) -> _Term:
    """A term with each weight combined with one of `factors`, that of its place."""
    own = term.weights
    if len(factors) == 1:
        return _Term(term.columns, operation(own, factors), term.places)
    if len(own) == 1:
        return _Term(term.columns, operation(own, factors), places)
    if len(own) == len(factors) and np.array_equal(term.places, places):
        return _Term(term.columns, operation(own, factors), places)
    both = operation(_taken(own, term.places), _taken(factors, places))
    return _Term(term.columns, both, _in_order(places.shape))


def _in_order(shape: Shape) -> np.ndarray:
    return np.arange(math.prod(shape), dtype=np.int32).reshape(shape)


def _taken(weights: Any, places: np.ndarray) -> Any:
    """The weight of each place, flat."""
    flat = places.reshape(-1)
    if len(flat) == len(weights) and np.array_equal(flat, _in_order(flat.shape)):
        return weights
    if isinstance(weights, np.ndarray):
        return weights[flat]
    return weights.at[flat].get(mode="promise_in_bounds")


def _add(equation: Any, operands: Operands) -> list[_Linear]:
    shape = tuple(equation.outvars[0].aval.shape)
    terms = [
        term
        for one in operands
        if isinstance(one, _Linear)
        for term in _spread(one, shape).terms
    ]
    return [_Linear(shape, _sum(terms))]


def _spread(linear: _Linear, shape: Shape) -> _Linear:
    """An array whose axes of length one stand for any length, at its full shape."""
    if linear.shape == shape:
        return linear
    wide = lambda x: np.broadcast_to(x, shape)
    terms = (_Term(wide(x.columns), x.weights, wide(x.places)) for x in linear.terms)
    return _Linear(shape, tuple(terms))


def _subtract(equation: Any, operands: Operands) -> list[_Linear]:
    first, second = operands
    if isinstance(second, _Linear):
        second = _each(second, lambda weights: -weights)
    return _add(equation, [first, second])


def _each(linear: _Linear, operation: Callable[[Any], Any]) -> _Linear:
    # Weights that terms share are computed once.
    known: dict[int, Any] = {}
    for term in linear.terms:
        if id(term.weights) not in known:
            known[id(term.weights)] = operation(term.weights)
    terms = (_Term(x.columns, known[id(x.weights)], x.places) for x in linear.terms)
    return _Linear(linear.shape, tuple(terms))


def _negate(equation: Any, operands: Operands) -> list[_Linear]:
    return [_each(operands[0], lambda weights: -weights)]


def _convert(equation: Any, operands: Operands) -> list[_Linear]:
    dtype = equation.params["new_dtype"]
    if not jnp.issubdtype(dtype, jnp.floating):
        raise NotTermsError("convert_element_type")
    return [_each(operands[0], lambda weights: weights.astype(dtype))]


def _scale(equation: Any, operands: Operands) -> list[_Linear]:
    linear, factor = operands
    if not isinstance(linear, _Linear):
        linear, factor = factor, linear
    if isinstance(factor, _Linear):
        raise NotTermsError("mul")
    shape = tuple(equation.outvars[0].aval.shape)
    return [_scaled(linear, factor, _multiplied, shape)]


def _multiplied(weights: Any, factors: Any) -> Any:
    known = isinstance(weights, np.ndarray) and len(weights) == 1
    return factors if known and weights[0] == 1 else weights * factors


def _divide(equation: Any, operands: Operands) -> list[_Linear]:
    linear, divisor = operands
    if not isinstance(linear, _Linear) or isinstance(divisor, _Linear):
        raise NotTermsError("div")
    shape = tuple(equation.outvars[0].aval.shape)
    return [_scaled(linear, divisor, lambda x, y: x / y, shape)]


def _scaled(
    linear: _Linear, factor: Any, operation: Callable[[Any, Any], Any], shape: Shape
) -> _Linear:
    factors, linear = jnp.reshape(factor, -1), _spread(linear, shape)
    if len(factors) == 1:
        return _each(linear, lambda weights: operation(weights, factors))
    places = np.broadcast_to(_in_order(np.shape(factor)), shape)
    terms = (_combined(term, factors, places, operation) for term in linear.terms)
    return _Linear(shape, tuple(terms))


def _select(equation: Any, operands: Operands) -> list[_Linear]:
    which, *cases = operands
    if isinstance(which, _Linear):
        raise NotTermsError("select_n")
    shape = tuple(equation.outvars[0].aval.shape)
    choose = lambda weights, chosen: jnp.where(chosen, weights, 0)
    terms: list[_Term] = []
    for k, case in enumerate(cases):
        if isinstance(case, _Linear):
            chosen = jnp.asarray(which).astype(int) == k
            terms += _scaled(case, chosen, choose, shape).terms
    return [_Linear(shape, _sum(terms))]


def _reduce_sum(equation: Any, operands: Operands) -> list[_Linear]:
    axes = tuple(equation.params["axes"])
    shape = tuple(equation.outvars[0].aval.shape)
    terms = _contracted(operands[0], axes, None, lambda x: x, shape)
    return [_Linear(shape, terms)]


def _dot_general(equation: Any, operands: Operands) -> list[_Linear]:
    contracted, batch = equation.params["dimension_numbers"]
    shape = tuple(equation.outvars[0].aval.shape)
    first = isinstance(operands[0], _Linear)
    if first == isinstance(operands[1], _Linear):
        raise NotTermsError("dot_general")
    linear, factor = operands if first else reversed(operands)
    own, others = (0, 1) if first else (1, 0)
    free = lambda k, ndim: [
        axis for axis in range(ndim) if axis not in (*contracted[k], *batch[k])
    ]
    rank, other_rank = len(linear.shape), np.ndim(factor)
    # Both with the axes of the result, of length one where they have none of these,
    # and those of the sum behind them.
    extra = len(free(others, other_rank))
    mine = [*batch[own], *free(own, rank), *contracted[own]]
    theirs = [*batch[others], *free(others, other_rank), *contracted[others]]
    at = len(batch[own]) + (len(free(own, rank)) if first else 0)
    other_at = len(batch[own]) + (0 if first else extra)
    spread = lambda x: np.expand_dims(
        np.transpose(x, mine), tuple(range(at, at + extra))
    )
    width = len(free(own, rank))
    factor = jnp.expand_dims(
        jnp.transpose(jnp.asarray(factor), theirs),
        tuple(range(other_at, other_at + width)),
    )
    axes = tuple(range(len(shape), len(shape) + len(contracted[own])))
    return [_Linear(shape, _contracted(linear, axes, factor, spread, shape))]


def _contracted(
    linear: _Linear,
    axes: tuple[int, ...],
    factor: Any,
    spread: Callable[[np.ndarray], np.ndarray],
    shape: Shape,
) -> tuple[_Term, ...]:
    """The terms of a sum over some axes, of an array or of its product with a factor.

    **Arguments:** the array; the axes; the factor, whose axes are those of the array
    once it is `spread`, `None` for none; the shape of the result.
    """
    found: list[_Term] = []
    for term in linear.terms:
        columns, places = spread(term.columns), spread(term.places)
        first = np.expand_dims(_first_along(columns, axes), axes)
        if np.array_equal(np.broadcast_to(first, columns.shape), columns):
            # Of one element: the weights are summed.
            weights = jnp.reshape(_taken(term.weights, places), places.shape)
            product = weights if factor is None else weights * factor
            total = jnp.sum(product, axes)
            made = np.broadcast_to(_first_along(columns, axes), shape)
            found.append(_Term(made, jnp.ravel(total), _in_order(total.shape)))
            if total.shape != shape:
                spread_places = np.broadcast_to(_in_order(total.shape), shape)
                found[-1] = dataclasses.replace(found[-1], places=spread_places)
            continue
        length = math.prod(columns.shape[axis] for axis in axes)
        if length * len(linear.terms) > _MOST_TERMS:
            raise NotTermsError("sum")
        for index in np.ndindex(*(columns.shape[axis] for axis in axes)):
            at = _at(len(columns.shape), axes, index)
            own = _Term(
                np.broadcast_to(columns[at], shape),
                term.weights,
                np.broadcast_to(places[at], shape),
            )
            if factor is not None:
                part = factor[at]
                numbers = np.broadcast_to(_in_order(part.shape), shape)
                own = _combined(own, jnp.ravel(part), numbers, _multiplied)
            found.append(own)
    return _sum(found)


def _at(rank: int, axes: Sequence[int], index: Sequence[int]) -> tuple[Any, ...]:
    chosen = dict(zip(axes, index, strict=True))
    return tuple(chosen.get(axis, slice(None)) for axis in range(rank))


def _first_along(array: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    return array[_at(array.ndim, axes, (0,) * len(axes))]


_STEPS: Mapping[str, Step] = MappingProxyType(
    {
        "add": _add,
        "add_any": _add,
        "convert_element_type": _convert,
        "div": _divide,
        "dot_general": _dot_general,
        "mul": _scale,
        "neg": _negate,
        "reduce_sum": _reduce_sum,
        "select_n": _select,
        "sub": _subtract,
    }
)


def _assembled(
    results: Sequence[Any],
    states: int,
    dtype: np.dtype,
    rows: np.ndarray,
    columns: np.ndarray,
) -> Array:
    """The entries of a matrix, whose rows are results one behind the other."""
    pool, start = _Pool(), 0
    places, keys = [], []
    # What no term reads.
    nothing = pool.start(np.zeros(1, dtype))
    for result in results:
        row = start + np.arange(math.prod(np.shape(result)), dtype=np.int64)
        for term in result.terms if isinstance(result, _Linear) else ():
            own = term.columns.reshape(-1)
            there = own >= 0
            keys.append(own[there].astype(np.int64) * states + row[there])
            places.append(term.places.reshape(-1)[there] + pool.start(term.weights))
        start += len(row)
    wanted = columns.astype(np.int64) * states + rows
    if not keys:
        return jnp.zeros(len(wanted), dtype)
    key, place = np.concatenate(keys), np.concatenate(places)
    order = np.argsort(key, kind="stable")
    key, place = key[order], place[order]
    begin = np.searchsorted(key, wanted)
    count = np.searchsorted(key, wanted, side="right") - begin
    if count.max(initial=0) > _MOST_OF_AN_ENTRY:
        raise NotTermsError("too many terms of one entry")
    weights = jnp.asarray(pool.vector(dtype))
    place = np.append(place, nothing)
    passes = []
    for k in range(max(1, count.max(initial=0))):
        chosen = place[np.where(k < count, begin + k, len(place) - 1)]
        chosen = weights.at[chosen.astype(np.int32)]
        passes.append(chosen.get(mode="promise_in_bounds"))
    return functools.reduce(lambda x, y: x + y, passes)
