"""Forward-mode derivatives of fields that have a reverse rule only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.interpreters.ad import JVPTracer
from jaxtyping import Array, PyTree

Field = Callable[[Any, Any, Any], Any]
# Forward mode; reverse mode alone; no derivative at all.
Rule = Literal["forward", "reverse", "none"]


class ForwardField(eqx.Module):
    """A field whose directional derivatives are transposes of its reverse rule.

    JAX cannot push a tangent through `jax.custom_vjp`. The pullback at a point is
    linear in the cotangent, and the pullback of that map is the pushforward: two
    passes in reverse mode give the directional derivative, of any order.
    """

    field: Callable[..., PyTree[Array]]

    def __call__(self, t: Any, y: PyTree[Array], args: PyTree) -> PyTree[Array]:
        return _pushed(self.field, t, y, args)


@eqx.filter_custom_jvp
def _pushed(function: Any, *inputs: Any) -> Any:
    return function(*inputs)


@_pushed.def_jvp
def _(primals: Any, tangents: Any) -> Any:
    # JAX's Jacobians push arrays of NumPy, which a function of its own rule refuses.
    tangents = jtu.tree_map(lambda tangent: tangent * jnp.ones_like(tangent), tangents)
    # With this rule itself, for derivatives of higher order: the user's own rule may
    # call the function again.
    return _pushed(_along, primals, tangents)


def _along(primals: Any, tangents: Any) -> tuple[Any, Any]:
    """The value of a function and its derivative along tangents, `None` where it is
    constant."""
    moved = jtu.tree_map(
        lambda tangent: tangent is not None, tangents, is_leaf=lambda x: x is None
    )
    changing, constant = eqx.partition(primals, moved)

    def value_of(changing: Any) -> Any:
        function, *inputs = eqx.combine(changing, constant)
        return function(*inputs)

    value, pull = jax.vjp(value_of, changing)
    push = jax.vjp(pull, jtu.tree_map(jnp.zeros_like, value))[1]
    return value, push((tangents,))[0]


class NoDerivativeError(TypeError):
    """A derivative of what has none."""


class ConstantField(eqx.Module):
    """A field that can be evaluated, and says so where its derivative is wanted.

    JAX has no derivative of a function of Python that is called from a program.
    """

    field: Callable[..., PyTree[Array]]

    def __call__(self, t: Any, y: PyTree[Array], args: PyTree) -> PyTree[Array]:
        return _evaluated(self.field, t, y, args)


@eqx.filter_custom_jvp
def _evaluated(function: Any, *inputs: Any) -> Any:
    return function(*inputs)


@_evaluated.def_jvp
def _(primals: Any, tangents: Any) -> Any:
    raise NoDerivativeError(
        "The problem must be differentiable here, by an implicit solver, an analysis "
        "of its Jacobian, or a gradient; but one of its functions calls Python by "
        "jax.pure_callback or jax.io_callback, which JAX cannot differentiate. Put "
        "that call into a jax.custom_jvp, or take an explicit solver."
    )


def forward_rule(field: Field, t: Any, y: PyTree, args: PyTree) -> Rule:
    """Which rule JAX has for derivatives in time and state of a field.

    The answer is kept: to trace a field costs more than to solve a small problem.
    """
    arrays, rest = eqx.partition((field, t, y, args), eqx.is_array)
    leaves, structure = jtu.tree_flatten(rest)
    shapes = tuple(
        (leaf.shape, str(leaf.dtype), bool(getattr(leaf, "weak_type", False)))
        for leaf in jtu.tree_leaves(arrays)
    )
    key = (structure, jtu.tree_structure(arrays), tuple(leaves), shapes)
    try:
        hash(key)
    except TypeError:
        return _find_rule(field, t, y, args)
    if key not in _ANSWERS:
        if len(_ANSWERS) >= _KEPT:
            _ANSWERS.pop(next(iter(_ANSWERS)))
        _ANSWERS[key] = _find_rule(field, t, y, args)
    return _ANSWERS[key]


_ANSWERS: dict[Any, Rule] = {}
_KEPT = 256


def _find_rule(field: Field, t: Any, y: PyTree, args: PyTree) -> Rule:
    def pushed(t: Any, y: Any) -> Any:
        ones = jtu.tree_map(jnp.ones_like, (t, y))
        return jax.jvp(lambda t, y: field(t, y, args), (t, y), ones)[1]

    try:
        traced = jax.make_jaxpr(pushed)(*jtu.tree_map(jnp.asarray, (t, y)))
    except Exception as error:
        if isinstance(error, TypeError) and "custom_vjp" in str(error):
            return "reverse"
        if isinstance(error, ValueError) and "do not support JVP" in str(error):
            return "none"
        # Another fault of the field shows where it is used.
        return "forward"
    return "reverse" if _uses(traced.jaxpr, "custom_lin") else "forward"


def takes_tangents(tree: PyTree) -> bool:
    """Whether forward mode, as of `jax.jvp` or `jax.jacfwd`, pushes tangents through
    one of the leaves now."""
    return any(isinstance(leaf, JVPTracer) for leaf in jtu.tree_leaves(tree))


def _uses(jaxpr: Any, primitive: str) -> bool:
    """Whether a primitive is in a jaxpr or in one within it. In a traced derivative
    `custom_lin` is the tangent of a `jax.custom_vjp`, that nothing can evaluate."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == primitive:
            return True
        for inner in jtu.tree_leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(inner) and _uses(getattr(inner, "jaxpr", inner), primitive):
                return True
    return False


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns")


def with_forward_rule(field: Field, t: Any, y: PyTree, args: PyTree) -> Field:
    """A field that JAX can push tangents through: the same one where it has a forward
    rule, else a [`ForwardField`][hybrid_nds._core.ForwardField] of it; one that says so
    where it has no derivative.

    **Arguments:** the field, and a time, a state and `args` to try it at.
    """
    rule = forward_rule(field, t, y, args)
    if rule == "none":
        return ConstantField(field)
    return field if rule == "forward" else ForwardField(field)
