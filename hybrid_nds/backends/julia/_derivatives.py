"""What derivatives of a solve in Julia need: a recording solve, tangent, adjoint."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from ...lowering import (
    Part,
    Product,
    Sparsity,
    adjoint_products,
    lower,
    tangent_products,
)
from ...methods import ODE_METHODS, SDE_METHODS, Method
from ...problems import (
    Event,
    ODEProblem,
    entries_of,
    forward_problem,
)
from ...runtime import Reference, Session
from .._options import Options
from ._fields import FunctionCache
from ._jacobian import Jacobian
from ._prepared import parameter_count

DEFAULT_RECORDED_STEPS = 4096
# Room for so many numbers, 2 GiB of double precision, is made without being asked.
_LARGEST_RECORD = 2**28
# Packages of methods whose steps do not depend on the one before.
_CONSTRAINED = ("OrdinaryDiffEqRosenbrock", "OrdinaryDiffEqFIRK")
# With more states, products of the Jacobian with stages are fewer than its columns.
_LARGEST_CONTRACTED = 24
# The rank of larger mass matrices is told by sparse pivots.
_LARGEST_RANK = 256
# With more, dense Jacobians are not differentiated with.
_LARGEST_DENSE = 2000


class Differentiable:
    """The derivatives of a solve, each made in Julia when it is first asked for.

    **Arguments:** what makes them, called with whether it is the adjoint; the solve
    that records its steps.

    **Fields:** `capacity`, how many steps there is room for; `fixed`, how many operands
    come before those that tangents and adjoints are linear in; `along_path`, whether
    steps follow a Brownian path; `singular`, whether its mass matrix is; `evented`,
    whether events may end it.
    """

    def __init__(
        self,
        make: Callable[[bool], Reference],
        recording: Reference,
        capacity: int,
        *,
        along_path: bool = False,
        singular: bool = False,
        evented: bool = False,
    ):
        self.capacity, self.along_path = capacity, along_path
        self.singular, self.evented = singular, evented
        # Of a record, parameters, times and events; then of a path.
        self.fixed = 7 if along_path else 4
        self._make = make
        self._made = {"recording": recording}
        self._lock = threading.RLock()

    def number(self, which: str) -> int:
        """The number in Julia of the `"recording"` solve, the `"tangent"` or the
        `"adjoint"`."""
        with self._lock:
            if which not in self._made:
                self._made[which] = self._make(which == "adjoint")
            return self._made[which].number


class OrdinaryDerivatives:
    """What makes the derivatives of a solve of an ODE.

    **Arguments:** the session; its cache of functions; the problem and its events, of
    whose arrays only shapes are kept; how the solve has its Jacobian; the number of the
    field's parameters; the algorithm; whether a cotangent that is not finite is an
    error.
    """

    def __init__(
        self,
        session: Session,
        functions: FunctionCache,
        problem: Any,
        events: tuple[Any, ...],
        jacobian: Jacobian,
        parameters: int,
        algorithm: Reference,
        strict: bool,
    ):
        forward: ODEProblem = forward_problem(problem)
        self._strict, self._jacobian = strict, jacobian
        self._session, self._functions = session, functions
        self._field, self._args = hollow((forward.field, forward.args))
        self._conditions = hollow(tuple(event.condition for event in events))
        self._y0, self._t0 = hollow(forward.y0), np.zeros((), problem.dtype)
        self._dtype, self._dimension = problem.dtype, problem.dimension
        self._parameters, self._algorithm = parameters, algorithm
        self._mass = problem.mass_matrix

    def __call__(self, reverse: bool) -> Reference:
        """The tangent, or the adjoint."""
        stages = self._session.bridge.number("stage_count", self._algorithm)
        contracted = self._dimension <= _LARGEST_CONTRACTED
        if reverse:
            products = adjoint_products(
                self._field, self._y0, None if contracted else stages, self._dtype
            )
        else:
            products = tangent_products(
                self._field, self._y0, self._parameters, self._dtype
            )
        second = self._session.bridge.number("second_derivatives", self._algorithm)
        events = self._events(reverse=reverse)
        field = Product(self._field, self._y0)
        mass = self._mass_matrix()
        return self._session.bridge.make(
            "shared_derivative",
            self._dtype.name,
            reverse,
            self._compiled(field),
            self._jacobian_of(field, mass),
            self._compiled(field, "time_gradient"),
            self._compiled(products[0]),
            self._compiled(products[1]) if second else None,
            mass,
            self._dimension,
            self._parameters,
            contracted,
            self._algorithm,
            events,
            self._strict,
        )

    def _mass_matrix(self) -> Any:
        """The mass matrix as Julia takes it: by its entries with a sparse Jacobian."""
        mass, dtype = self._mass, self._dtype
        if mass is None:
            return None
        if self._jacobian.form == "sparse":
            return self._session.bridge.make(
                "shared_mass", dtype.name, self._dimension, *entries_of(mass)
            )
        # Julia reads axes in reverse.
        return np.asarray(mass, dtype).T

    def _jacobian_of(self, field: Product, mass: Any) -> Reference | None:
        """The Jacobian as its matrices need it, `None` where there are none."""
        if self._jacobian.form == "none":
            return None
        pattern = self._jacobian.pattern
        entries = self._compiled(field, "jacobian", pattern)
        if pattern is None:
            return entries
        return self._session.bridge.make(
            "shared_pattern_jacobian",
            self._dtype.name,
            entries,
            np.asarray(pattern.starts, np.int64),
            np.asarray(pattern.rows, np.int64),
            mass,
        )

    def _events(self, *, reverse: bool) -> Reference:
        events = self._session.bridge.make("differentiated_events")
        for condition in self._conditions:
            count = parameter_count((condition, self._args))
            first, _ = (
                adjoint_products(condition, self._y0, None, self._dtype)
                if reverse
                else tangent_products(condition, self._y0, count, self._dtype)
            )
            if reverse:
                state = (first.state[0], np.ones(1, self._dtype))
                first = Product(first.function, state)
            self._session.bridge.number(
                "differentiate_event!",
                events,
                self._compiled(first),
                self._compiled(Product(condition, self._y0), "time_gradient"),
                count,
            )
        return events

    def _compiled(
        self, product: Product, part: Part = "field", pattern: Sparsity | None = None
    ) -> Reference:
        lowered = lower(
            product.function,
            self._t0,
            product.state,
            self._args,
            part=part,
            sparsity=pattern,
        )
        return self._functions.reference(self._session, lowered)


def recorded_steps(options: Options, steps: int, states: int) -> int:
    """How many steps there is room for when a solve is differentiated.

    **Arguments:** the options; the most steps of the solve; the number of states.
    """
    given = options.extra.get("recorded_steps")
    if given is not None:
        return int(given)
    room = max(1, _LARGEST_RECORD // (states + 2))
    return min(DEFAULT_RECORDED_STEPS, steps, room)


def check_recorded_steps(given: Any) -> None:
    """Refuse what is not a number of steps.

    **Raises:** `TypeError` or `ValueError`.
    """
    if given is None:
        return
    if isinstance(given, bool) or not isinstance(given, int | np.integer):
        raise TypeError(
            "solve: `recorded_steps` must be an integer, the most steps to "
            f"differentiate through, got {given!r}."
        )
    if given < 1:
        raise ValueError(
            "solve: `recorded_steps` must be at least 1, the most steps to "
            f"differentiate through; got {given}."
        )


def refusal(problem: Any, options: Options, method: Method, jacobian: Jacobian) -> str:
    """Why a solve has no derivative, empty where it has one.

    **Arguments:** the problem, its options, the solver, and how the solve has its
    Jacobian.
    """
    path = problem.kind.follows_path
    if not method.derivatives:
        rows = SDE_METHODS if path else ODE_METHODS
        able = ", ".join(one.name for one in rows if one.derivatives)
        return (
            f"solve: solves by {method.name} have no derivatives on the Julia backend; "
            f"those by {able} have. Pass one of these as `solver`, or "
            'backend="diffrax", or take jax.lax.stop_gradient of what the solve '
            "depends on."
        )
    if path:
        if options.fixed_steps:
            return ""
        return (
            "solve: solves of a stochastic problem with error control have no "
            "derivatives on the Julia backend; pass `dt` alone for fixed steps, or "
            'backend="diffrax", or take jax.lax.stop_gradient of what the solve '
            "depends on."
        )
    whole = jacobian.form not in ("sparse", "none")
    if whole and problem.dimension > _LARGEST_DENSE:
        return (
            f"solve: solves of more than {_LARGEST_DENSE:,} states have no derivatives "
            f"on the Julia backend with a {jacobian.form} Jacobian, in place of which "
            f"they would have dense matrices, and `problem` has {problem.dimension:,}; "
            'pass `jacobian="sparse"` or a pattern, or backend="diffrax", or take '
            "jax.lax.stop_gradient of what the solve depends on."
        )
    if problem.kind.mass_matrix and method.julia_package not in _CONSTRAINED:
        return (
            f"solve: with a `mass_matrix` solves by {method.name} have no derivatives "
            "on the Julia backend, as their first stage is the last one of the step "
            "before; take Rodas5P, Rodas4, Rosenbrock23 or RadauIIA5."
        )
    if not all(isinstance(event, Event) for event in options.event or ()):
        return (
            "solve: solves to a SteadyState have no derivatives on the Julia backend, "
            "as its time has none; leave `event` out, or take jax.lax.stop_gradient of "
            "what the solve depends on."
        )
    if options.event and problem.kind.mass_matrix:
        return (
            "solve: solves with an `event` and a `mass_matrix` have no derivatives on "
            "the Julia backend; leave `event` out, or take jax.lax.stop_gradient of "
            "what the solve depends on."
        )
    return ""


def hollow(tree: PyTree) -> PyTree:
    """A tree of which the inexact arrays, which may be traced, are zeros that take no
    memory."""
    zeros = lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape)
    return jtu.tree_map(lambda x: zeros(x) if eqx.is_inexact_array(x) else x, tree)


def singular(mass: Any) -> bool:
    """Whether a mass matrix, `None` for the identity, is singular."""
    if mass is None:
        return False
    if mass.shape[0] <= _LARGEST_RANK:
        return int(np.linalg.matrix_rank(np.asarray(mass))) < mass.shape[0]
    from scipy.sparse import csc_matrix
    from scipy.sparse.csgraph import structural_rank
    from scipy.sparse.linalg import splu

    rows, columns, values = entries_of(mass)
    matrix = csc_matrix((np.asarray(values, float), (rows, columns)), mass.shape)
    if structural_rank(matrix) < mass.shape[0]:
        return True
    try:
        pivots = np.abs(splu(matrix).U.diagonal())
    except RuntimeError:
        return True
    return bool(pivots.min() <= mass.shape[0] * np.finfo(float).eps * pivots.max())
