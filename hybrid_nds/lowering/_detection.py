"""Which entries of a field's Jacobian can be other than zero, from its jaxpr."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array

from ..problems import ODEProblem, forward_problem
from ._lower import TracedPart, traced_part
from ._program import LoweringError, Program
from ._rules import KNOWN
from ._sparsity import Sparsity, colored
from ._terms import NotTermsError, pattern_by_terms
from ._unroll import TooLargeError, Unroller, input_nodes

# Scalar operations that are followed one by one: at first for some tenths of a second,
# and where nothing else helps, for some seconds.
_QUICK, _PATIENT = 10_000, 3_000_000


class NoPatternError(ValueError):
    """A field whose Jacobian's pattern could not be found."""


def sparsity(problem: ODEProblem, pattern: Any = None) -> Sparsity:
    """The sparsity pattern of a field's Jacobian, for all states, times and parameters.

    An entry is left out where the product of the Jacobian with a vector does not read
    that element of the vector, in the program that JAX makes of the product: rules of
    `jax.custom_jvp` count as they are written, and parameters may take any value.

    **Arguments:**

    - `problem`: an `ODEProblem`.
    - `pattern`: where the Jacobian may be other than zero, if it is known: a matrix or
        array of SciPy's sparse ones, or a boolean array, of shape `(n, n)` with a row
        an equation, in the order of `jax.flatten_util.ravel_pytree`. It is checked
        against a product of the Jacobian with a random vector at `y0`.

    **Returns:** a [`Sparsity`][hybrid_nds.lowering.Sparsity], with the colours of its
    columns.

    **Raises:** `TypeError` or `ValueError` for another problem, or a pattern of another
    shape or that misses an entry; `ValueError` where the pattern cannot be found.
    """
    if not isinstance(problem, ODEProblem):
        raise TypeError(
            f"sparsity: `problem` must be an ODEProblem, got {type(problem).__name__}."
        )
    if pattern is not None:
        found = given_pattern("sparsity: `pattern`", pattern, problem.dimension)
        check_entries("sparsity: `pattern`", problem, found)
        return found
    return detected(problem)


def detected(problem: ODEProblem, most: float = 1.0) -> Sparsity:
    """The pattern that a problem's field has.

    **Arguments:** the problem; the largest fill at which the pattern is of use: where
    sums run over a larger share of the states, it is not looked for, which takes long.

    **Raises:** `NoPatternError` where it cannot be found.
    """
    if most < 1:
        longest = _longest_sum(_product(problem).program)
        if longest > most * problem.dimension:
            raise NoPatternError(f"sparsity: the field has sums of {longest:,} terms.")
    installed = importlib.util.find_spec("asdex") is not None
    reason = "asdex, which may know it, is missing: pip install 'hybrid_nds[sparse]'"
    with contextlib.suppress(TooLargeError, LoweringError):
        return _followed(problem, _QUICK)
    with contextlib.suppress(NotTermsError):
        return _by_terms(problem)
    if installed:
        try:
            return _by_asdex(problem)
        except Exception as error:
            reason = f"asdex says: {type(error).__name__}: {error}"
    try:
        return _followed(problem, _PATIENT, conservative=True)
    except (TooLargeError, LoweringError) as error:
        raise NoPatternError(
            "sparsity: the pattern of the field's Jacobian could not be found; "
            f"{reason}. Or pass `pattern`."
        ) from error


def _followed(
    problem: ODEProblem, visits: int, *, conservative: bool = False
) -> Sparsity:
    """The pattern by the elements that each scalar of the program depends on."""
    traced, n = _product(problem), problem.dimension
    if 4 * n > visits:
        raise TooLargeError
    unroller = Unroller(
        KNOWN,
        traced.working,
        structural_zeros=True,
        visits=visits,
        conservative=conservative,
    )
    inputs = input_nodes(unroller, traced.program, traced.states)
    results = unroller.run(traced.program, inputs)
    direction = {
        unroller.input(f"u[{n + k + 1}]", traced.working, ""): k for k in range(n)
    }
    nothing: frozenset[int] = frozenset()
    reads: list[frozenset[int]] = []
    # Operands are always older than what is made of them.
    for number, node in enumerate(unroller.nodes):
        if number in direction:
            reads.append(frozenset((direction[number],)))
            continue
        sets = {reads[operand] for operand in node.operands} - {nothing}
        reads.append(sets.pop() if len(sets) == 1 else nothing.union(*sets))
    rows: list[int] = []
    columns: list[int] = []
    outputs = np.concatenate([array.reshape(-1) for array in results]).tolist()
    for row, number in enumerate(outputs):
        rows += [row] * len(reads[number])
        columns += reads[number]
    return colored(rows, columns, n, "jaxpr")


def _by_terms(problem: ODEProblem) -> Sparsity:
    """The pattern by the terms that each array of the program consists of."""
    problem = forward_problem(problem)
    state, n, dtype = problem.flat_state, problem.dimension, problem.dtype
    weights, rest = eqx.partition((problem.field, problem.args), eqx.is_inexact_array)
    found: list[Sparsity] = []

    def follow(u: Array, t: Array, weights: Any) -> Array:
        field, args = eqx.combine(weights, rest)
        flat = lambda u: state.flatten(field(t, state.unflatten(u), args))
        with jax.ensure_compile_time_eval():
            _, push = jax.linearize(flat, u)
            rows, columns = pattern_by_terms(push, [(n,)], dtype)
        found.append(colored(rows, columns, n, "jaxpr"))
        return u

    like = jax.ShapeDtypeStruct
    jax.eval_shape(follow, like((n,), dtype), like((), dtype), weights)
    return found[0]


def _product(problem: ODEProblem) -> TracedPart:
    """The program of the product of the Jacobian with a vector."""
    problem = forward_problem(problem)
    return traced_part(
        problem.field, problem.t0, problem.y0, problem.args, part="product"
    )


def _longest_sum(program: Program) -> int:
    """The most terms of a matrix product or a sum in a program."""
    longest = 0
    for equation in program.equations:
        axes = ()
        if equation.primitive == "dot_general":
            (axes, _), _ = equation.parameters["dimension_numbers"]
        elif equation.primitive == "reduce_sum":
            axes = equation.parameters["axes"]
        terms = [equation.inputs[0].shape[axis] for axis in axes]
        inner = [_longest_sum(one) for one in equation.programs]
        longest = max(longest, math.prod(terms), *inner)
    return longest


def _by_asdex(problem: ODEProblem) -> Sparsity:
    from asdex import jacobian_sparsity

    problem = forward_problem(problem)
    state, n = problem.flat_state, problem.dimension
    weights, rest = eqx.partition((problem.field, problem.args), eqx.is_inexact_array)

    # What is an argument may take any value; constants that are zero count as zero.
    def product(v: Array, u: Array, t: Array, weights: Any) -> Array:
        field, args = eqx.combine(weights, rest)
        flat = lambda u: state.flatten(field(t, state.unflatten(u), args))
        return jax.jvp(flat, (u,), (v,))[1]

    zeros = lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape)
    u = np.zeros(n, problem.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = jacobian_sparsity(
            product, u, u, np.zeros((), problem.dtype), jtu.tree_map(zeros, weights)
        )
    return colored(found.rows, found.cols, n, "asdex")


def given_pattern(name: str, pattern: Any, states: int) -> Sparsity:
    """A pattern of the user's, in the form of this package.

    **Arguments:** what errors call it; the pattern; the number of states.

    **Raises:** `TypeError` or `ValueError`, with that name.
    """
    if isinstance(pattern, Sparsity):
        found = pattern
    else:
        from scipy import sparse

        if sparse.issparse(pattern):
            entries: Any = sparse.coo_array(pattern)
            # Entries that are stored count, whatever their values.
            rows, columns, shape = entries.row, entries.col, entries.shape
        else:
            array = np.asarray(pattern)
            if array.dtype.kind not in "biuf" or array.ndim != 2:
                raise TypeError(
                    f"{name} must be a sparse matrix of SciPy or a boolean array of "
                    f"two axes, got {type(pattern).__name__} of dtype {array.dtype} "
                    f"and {array.ndim} axes."
                )
            (rows, columns), shape = np.nonzero(array), array.shape
        if shape != (states, states):
            raise ValueError(
                f"{name} must have shape ({states}, {states}) for a state of {states} "
                f"scalars, got {shape}."
            )
        found = colored(rows, columns, states, "given")
    if found.states != states:
        raise ValueError(
            f"{name} must be of {states} states, got one of {found.states}."
        )
    return found


def check_entries(name: str, problem: ODEProblem, pattern: Sparsity) -> None:
    """Refuse a pattern that misses an entry: of a random vector the product with the
    Jacobian at `y0` must be that with the entries of the pattern.

    **Arguments:** what errors call the pattern; the problem; the pattern.

    **Raises:** `ValueError`, naming the entry.
    """
    problem = forward_problem(problem)
    state, n, dtype = problem.flat_state, pattern.states, problem.dtype
    u = state.flatten(jtu.tree_map(np.asarray, problem.y0))
    field = problem.flat_field()

    @jax.jit
    def products(directions: Array) -> Array:
        push = lambda v: jax.jvp(lambda u: field(problem.t0, u), (u,), (v,))[1]
        return jax.lax.map(push, directions)

    random = np.random.default_rng(0)
    v = random.uniform(1, 2, n).astype(dtype) * random.choice([-1, 1], n).astype(dtype)
    seeds = pattern.colors == np.arange(pattern.products)[:, None]
    # Of all columns of a colour each row has at most one entry.
    answers = np.asarray(products(jnp.asarray(np.vstack([v[None], seeds]), dtype)))
    whole, compressed = answers[0], answers[1:]
    values = compressed[pattern.colors[pattern.columns], pattern.rows]
    expected, scale = np.zeros(n), np.zeros(n)
    terms = values * v[pattern.columns]
    np.add.at(expected, pattern.rows, terms)
    np.add.at(scale, pattern.rows, np.abs(terms))
    scale = np.maximum(scale, np.abs(whole))
    wrong = np.abs(whole - expected) > np.sqrt(np.finfo(dtype).eps) * scale
    if not wrong.any():
        return
    row = int(np.flatnonzero(wrong)[0])
    others = np.setdiff1d(np.arange(n), pattern.columns[pattern.rows == row])
    column = _first_read(products, row, others, v, n)
    raise ValueError(
        f"{name} misses the entry ({row}, {column}): the derivative of equation {row} "
        f"by state {column}, counted from zero, is not zero at `y0`. Add it, or leave "
        "the pattern out to have it found."
    )


def _first_read(
    products: Callable[[Any], Array], row: int, candidates: np.ndarray, v: Any, n: int
) -> int:
    """A column among the candidates that a row reads, by halving them."""
    while len(candidates) > 1:
        half = candidates[: len(candidates) // 2]
        direction = np.zeros((1, n), v.dtype)
        direction[0, half] = v[half]
        read = np.asarray(products(jnp.asarray(direction)))[0, row] != 0
        candidates = half if read else candidates[len(candidates) // 2 :]
    return int(candidates[0])
