"""How an implicit solve in Julia has its Jacobian: dense, sparse, or by products."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, cast

import jax
import jax.tree_util as jtu
import numpy as np

from ..._core import LRU, is_concrete, whole_memory
from ...lowering import (
    LoweredField,
    NoPatternError,
    Sparsity,
    check_entries,
    detected,
    given_pattern,
)
from ...methods import ODE_METHODS, Method
from ...problems import ODEProblem, entries_of
from ._payload import explaining_traced_values
from ._preconditioner import Preconditioner, preconditioner_of
from ._structure import structure_key
from ._traced import without_idle_integers

JacobianForm = Literal["dense", "sparse", "matrix-free", "none"]
JACOBIANS = ("auto", "dense", "sparse", "matrix-free")

# A factorization and four solves, measured: dense and sparse ones take the same time at
# 100 states for bands, at 300 for random graphs of four entries a row. At 512 states a
# dense one takes 3.2 ms, sparse ones .2 (band), .7 (grid), 1.6 (such a graph), and 16
# where a tenth of the entries is not zero.
_SMALLEST_SPARSE = 256
_LARGEST_FILL = 0.03
# The Jacobian, the matrix of the stages, its factors and a copy of them.
_DENSE_MATRICES = 4

_PATTERNS: LRU[Any] = LRU(64)
_NONE = np.zeros(0, np.int64)


@dataclasses.dataclass(frozen=True)
class Jacobian:
    """How a solve has its Jacobian.

    **Fields:** the form; for a sparse one, where it and the mass matrix may be other
    than zero, and the preconditioner where no factorization is to be made.
    """

    form: JacobianForm = "dense"
    pattern: Sparsity | None = None
    preconditioner: Preconditioner | None = None

    @property
    def asked(self) -> str | Sparsity:
        """The option that says so."""
        return self.form if self.pattern is None else self.pattern

    def describe(self) -> str:
        """The form, with the size of a sparse one."""
        if self.pattern is None:
            return self.form
        entries, colors = self.pattern.nonzeros, self.pattern.products
        size = f"{self.form} ({entries:,} entries, {colors} colours)"
        by = self.preconditioner
        return size if by is None else f"{size}, {by.describe()}"


DENSE = Jacobian()


def jacobian_of(problem: Any, extra: Mapping[str, Any], method: Method) -> Jacobian:
    """How a solve is to have its Jacobian.

    **Arguments:** the problem; the options that only this backend knows, `jacobian`
    among them; the solver.

    **Raises:** `TypeError` or `ValueError`, naming the option; `MemoryError` for a
    dense Jacobian that the memory cannot hold.
    """
    asked = extra.get("jacobian", "auto")
    if extra.get("preconditioner") is not None:
        return _preconditioned(problem, extra, method, asked)
    named = isinstance(asked, str)
    if named and asked != "auto" and is_lowered(problem):
        # A worker process is told what was chosen where the field is known.
        return Jacobian(cast(JacobianForm, asked))
    if problem.kind.follows_path:
        return DENSE
    plain = extra.get("rhs", "lowered") == "lowered"
    array = plain and extra.get("form", "array") == "array"
    if not array and not (named and asked in ("auto", "dense")):
        option = 'form="scalar"' if plain else 'rhs="callback"'
        raise ValueError(
            f"solve: `{option}` has dense Jacobians alone; leave it out, or `jacobian`."
        )
    explicit = not method.implicit
    if explicit and not (named and asked == "auto"):
        raise ValueError(
            f"solve: {method.name} is explicit and has no use for a `jacobian`; leave "
            "it out."
        )
    large = problem.dimension >= _SMALLEST_SPARSE
    if explicit:
        return Jacobian("none" if large and array else "dense")
    if not named:
        return Jacobian("sparse", _given(problem, asked))
    if asked == "matrix-free":
        _check_krylov(method)
        return Jacobian("matrix-free")
    if asked == "sparse":
        return Jacobian("sparse", _whole(problem, _detected(problem)))
    if asked == "auto" and large and array:
        found = worthwhile_pattern(problem)
        if found is not None:
            return Jacobian("sparse", _whole(problem, found))
    _check_memory(problem, method)
    return DENSE


def _preconditioned(
    problem: Any, extra: Mapping[str, Any], method: Method, asked: Any
) -> Jacobian:
    """A sparse Jacobian, whose equations are solved by iteration."""
    made = preconditioner_of(extra["preconditioner"], method)
    if isinstance(asked, str) and asked not in ("auto", "sparse"):
        raise ValueError(
            "solve: a `preconditioner` is made of a sparse Jacobian: pass "
            f'`jacobian="sparse"` or a pattern, or leave it out; got {asked!r}.'
        )
    extra = {name: extra[name] for name in extra if name != "preconditioner"}
    extra["jacobian"] = "sparse" if isinstance(asked, str) else asked
    return dataclasses.replace(jacobian_of(problem, extra, method), preconditioner=made)


def is_lowered(problem: Any) -> bool:
    """Whether nothing is known of a problem's field but what was lowered of it."""
    return isinstance(getattr(problem, "field", None), LoweredField)


def _check_krylov(method: Method) -> None:
    if not method.matrix_free:
        able = ", ".join(one.name for one in ODE_METHODS if one.matrix_free)
        raise ValueError(
            f'solve: {method.name} takes no `jacobian="matrix-free"`; these solvers '
            f"do: {able}."
        )


def worthwhile_pattern(problem: ODEProblem) -> Sparsity | None:
    """The pattern of a problem's Jacobian, where a sparse one is worth it: of a large
    problem with few entries other than zero. `None` elsewhere."""
    if problem.dimension < _SMALLEST_SPARSE or is_lowered(problem):
        return None
    try:
        found = _detected(problem, _LARGEST_FILL)
    except NoPatternError:
        return None
    return found if found.fill <= _LARGEST_FILL else None


def _detected(problem: ODEProblem, most: float = 1.0) -> Sparsity:
    if is_lowered(problem):
        raise NoPatternError(
            "solve: a field that is lowered already has no pattern to be found; pass "
            "it as `jacobian`."
        )

    def find() -> Sparsity | NoPatternError:
        # Of a problem that may be traced: the pattern is the same for all values.
        with jax.ensure_compile_time_eval():
            try:
                return detected(problem, most)
            except NoPatternError as error:
                return error

    with explaining_traced_values():
        problem = without_idle_integers(problem)
        key = structure_key((problem.y0, problem.functions, problem.args))
        found = _PATTERNS.get(None if key is None else (key, most), find)
    if isinstance(found, NoPatternError):
        text = str(found).replace("sparsity: ", "solve: `jacobian`: ")
        text = text.replace("pass `pattern`", "pass a pattern as `jacobian`")
        raise NoPatternError(text)
    return found


def _given(problem: ODEProblem, pattern: Any) -> Sparsity:
    name = "solve: `jacobian`"
    found = given_pattern(name, pattern, problem.dimension)
    known = is_lowered(problem)
    if known or not all(is_concrete(leaf) for leaf in jtu.tree_leaves(problem)):
        return found if known else _whole(problem, found)
    structure = structure_key((problem.y0, problem.functions, problem.args))

    def check() -> Sparsity:
        check_entries(name, problem, found)
        return _whole(problem, found)

    return _PATTERNS.get(None if structure is None else (structure, found), check)


def _whole(problem: ODEProblem, pattern: Sparsity) -> Sparsity:
    """The pattern with the entries of the mass matrix."""
    mass = problem.mass_matrix
    if mass is None:
        return _PATTERNS.get(("whole", pattern), lambda: pattern.joined(_NONE, _NONE))
    rows, columns, _ = entries_of(mass)
    whole = pattern.joined(rows, columns)
    _check_rank(whole, pattern, rows, columns)
    return whole


def _check_rank(
    whole: Sparsity, pattern: Sparsity, rows: np.ndarray, columns: np.ndarray
) -> None:
    """Refuse a problem that no method can solve: where M - γJ is singular whatever the
    values of its entries."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    n = whole.states
    both = (
        np.concatenate([pattern.rows, rows]),
        np.concatenate([pattern.columns, columns]),
    )
    matrix = csr_matrix((np.ones(len(both[0]), bool), both), (n, n))
    matched = maximum_bipartite_matching(matrix, perm_type="column")
    if (unmatched := np.flatnonzero(matched < 0)).size:
        raise ValueError(
            f"solve: `mass_matrix`: {unmatched.size} of the {n} equations, number "
            f"{unmatched[0]} from zero among them, have no unknown of their own, "
            "neither in it nor in the field: the matrices of all implicit methods are "
            "singular whatever the state. An algebraic equation must depend on an "
            "unknown that no other determines."
        )


def _check_memory(problem: ODEProblem, method: Method) -> None:
    """Refuse a dense Jacobian that the memory cannot hold."""
    n = problem.dimension
    needed = _DENSE_MATRICES * n**2 * problem.dtype.itemsize
    memory = whole_memory()
    if memory is None or needed <= memory:
        return
    raise MemoryError(
        f"solve: {method.name} with a dense Jacobian of {n:,} states takes some "
        f"{needed / 2**30:,.0f} GiB, and there are {memory / 2**30:,.1f} GiB; pass "
        '`jacobian="sparse"` or a pattern, `jacobian="matrix-free"`, or take an '
        "explicit solver such as ROCK4."
    )
