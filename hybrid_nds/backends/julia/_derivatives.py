"""What derivatives of a solve in Julia need: a recording solve, tangent, adjoint."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from ...lowering import Product, adjoint_products, lower, tangent_products
from ...methods import ODE_METHODS, SDE_METHODS, Method
from ...problems import Event, ODEProblem, forward_problem
from ...runtime import Reference, Session
from .._options import Options
from ._fields import FunctionCache
from ._prepared import parameter_count

DEFAULT_RECORDED_STEPS = 4096
# Packages of methods whose steps do not depend on the one before.
_CONSTRAINED = ("OrdinaryDiffEqRosenbrock", "OrdinaryDiffEqFIRK")
# With more states, products of the Jacobian with stages are fewer than its columns.
_LARGEST_CONTRACTED = 24
_LARGEST_DIFFERENTIATED = 2000


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
    whose arrays only shapes are kept; the number of the field's parameters; the
    algorithm; whether a cotangent that is not finite is an error.
    """

    def __init__(
        self,
        session: Session,
        functions: FunctionCache,
        problem: Any,
        events: tuple[Any, ...],
        parameters: int,
        algorithm: Reference,
        strict: bool,
    ):
        forward: ODEProblem = forward_problem(problem)
        mass = problem.mass_matrix
        self._strict = strict
        self._session, self._functions = session, functions
        self._field, self._args = hollow((forward.field, forward.args))
        self._conditions = hollow(tuple(event.condition for event in events))
        self._y0, self._t0 = hollow(forward.y0), np.zeros((), problem.dtype)
        self._dtype, self._dimension = problem.dtype, problem.dimension
        self._parameters, self._algorithm = parameters, algorithm
        self._mass = None if mass is None else np.asarray(mass, problem.dtype).T

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
        return self._session.bridge.make(
            "shared_derivative",
            self._dtype.name,
            reverse,
            *(
                self._compiled(Product(self._field, self._y0), part)
                for part in ("field", "jacobian", "time_gradient")
            ),
            self._compiled(products[0]),
            self._compiled(products[1]) if second else None,
            self._mass,
            self._dimension,
            self._parameters,
            contracted,
            self._algorithm,
            events,
            self._strict,
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

    def _compiled(self, product: Product, part: Any = "field") -> Reference:
        lowered = lower(
            product.function, self._t0, product.state, self._args, part=part
        )
        return self._functions.reference(self._session, lowered)


def recorded_steps(options: Options, steps: int) -> int:
    """How many steps there is room for when a solve is differentiated."""
    given = options.extra.get("recorded_steps")
    return min(DEFAULT_RECORDED_STEPS, steps) if given is None else int(given)


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


def refusal(problem: Any, options: Options, method: Method) -> str:
    """Why a solve has no derivative, empty where it has one."""
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
    if problem.dimension > _LARGEST_DIFFERENTIATED:
        return (
            f"solve: solves of more than {_LARGEST_DIFFERENTIATED:,} states have no "
            "derivatives on the Julia backend, whose adjoint has dense Jacobians, and "
            f'`problem` has {problem.dimension:,}; pass backend="diffrax", or take '
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
    # Solves of more states have no derivatives, which alone ask for it.
    if mass is None or mass.shape[0] > _LARGEST_DIFFERENTIATED:
        return False
    return int(np.linalg.matrix_rank(np.asarray(mass))) < mass.shape[0]
