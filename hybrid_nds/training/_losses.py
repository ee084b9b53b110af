"""What losses have in common: a name, and sums of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._core import check_choice
from ..methods import stack_names
from ..problems import ODEProblem
from ._training import loss_at

Value = tuple[Float[Array, ""], dict[str, Array]]


class Loss(eqx.Module):
    """A loss that can be added to others: `loss + 0.1 * penalty`.

    Call it as `loss(model, batch, key)`; it returns a scalar and scalars by name, as
    [`fit`][hybrid_nds.training.fit] takes them. Any function of the same arguments can
    be one of the terms.
    """

    needs_finite: ClassVar[bool] = False

    @property
    @abstractmethod
    def name(self) -> str:
        """What its value is called within a sum."""

    @abstractmethod
    def __call__(self, model: PyTree, batch: PyTree, key: PRNGKeyArray) -> Value:
        """The loss of a model on a batch, and its parts."""

    def __add__(self, other: Any) -> WeightedSum:
        return _sum(self, other)

    def __radd__(self, other: Any) -> WeightedSum:
        return _sum(other, self)

    def __mul__(self, weight: Any) -> WeightedSum:
        return WeightedSum((self,), (weight,))

    def __rmul__(self, weight: Any) -> WeightedSum:
        return self * weight


def solve_options(caller: str, backend: Any, stated: dict[str, Any]) -> dict[str, Any]:
    """The options of `solve` that a loss states, without those that it leaves open."""
    check_choice(caller, "backend", backend, stack_names())
    return {"backend": backend} | {k: x for k, x in stated.items() if x is not None}


def starts_from_data(loss: Any) -> bool:
    """Whether a loss, or a term of it, solves from states in its batch, which must be
    finite then. A function of a user's own may know of missing data."""
    if isinstance(loss, WeightedSum):
        return any(map(starts_from_data, loss.terms))
    return isinstance(loss, Loss) and loss.needs_finite


class WeightedSum(Loss):
    """A weighted sum of losses, $\\sum_i w_i\\,\\ell_i$, with each of them by name.

    Made by `+` and `*`, or directly where terms should have other names. Parts are
    without weights; those of a term of its own are named `term/part`. Terms see the
    same batch and draw with keys of their own. Terms that change with the step
    (`loss.at(step)`) do so within the sum.

    **Arguments:**

    - `terms`: losses, or functions `loss(model, batch, key)`.
    - `weights`: one for each, finite numbers.
    - `names`: one for each; by default those of the terms, numbered where two are
        alike.

    **Raises:** `TypeError` or `ValueError`, naming the argument.
    """

    terms: tuple[Callable[..., Any], ...]
    weights: tuple[float | Array, ...]
    names: tuple[str, ...] = eqx.field(static=True)

    def __init__(
        self,
        terms: Any,
        weights: Any = None,
        names: Any = None,
    ):
        terms = tuple(terms)
        weights = (1.0,) * len(terms) if weights is None else tuple(weights)
        if not terms or not all(map(callable, terms)):
            raise TypeError(
                "WeightedSum: `terms` must be losses, or functions loss(model, batch, "
                f"key), at least one; got {terms!r}."
            )
        if len(weights) != len(terms):
            raise ValueError(
                f"WeightedSum: `weights` must be {len(terms)}, one for each term, got "
                f"{len(weights)}."
            )
        self.terms = terms
        self.weights = tuple(_weight(one) for one in weights)
        given = [_name(term) for term in terms] if names is None else list(names)
        if len(given) != len(terms):
            raise ValueError(
                f"WeightedSum: `names` must be {len(terms)}, one for each term, got "
                f"{len(given)}."
            )
        if names is not None and len(set(given)) < len(given):
            raise ValueError(f"WeightedSum: `names` must differ, got {given}.")
        self.names = _distinct(given)

    @property
    def name(self) -> str:
        return "sum"

    def __call__(self, model: PyTree, batch: PyTree, key: PRNGKeyArray) -> Value:
        total, parts = jnp.zeros(()), {}
        for k, (term, weight, name) in enumerate(
            zip(self.terms, self.weights, self.names, strict=True)
        ):
            given = term(model, batch, jr.fold_in(key, k))
            value, own = given if isinstance(given, tuple) else (given, {})
            share = jnp.asarray(weight, jnp.result_type(value)) * value
            total = share if k == 0 else total + share
            parts[name] = jnp.asarray(value)
            parts |= {f"{name}/{part}": x for part, x in own.items()}
        return total, parts

    def at(self, step: int) -> WeightedSum:
        """The sum at a step of the training."""
        terms = tuple(loss_at(term, step) for term in self.terms)
        same = all(a is b for a, b in zip(terms, self.terms, strict=True))
        return self if same else WeightedSum(terms, self.weights, self.names)

    def __mul__(self, weight: Any) -> WeightedSum:
        factor = _weight(weight)
        weights = tuple(factor * one for one in self.weights)
        return WeightedSum(self.terms, weights, self.names)


def _sum(first: Any, second: Any) -> WeightedSum:
    terms, weights, names = [], [], []
    for one in (first, second):
        # `sum` of losses begins with 0.
        if one is first and isinstance(one, int) and one == 0:
            continue
        if isinstance(one, WeightedSum):
            terms += one.terms
            weights += one.weights
            names += one.names
        elif callable(one):
            terms.append(one)
            weights.append(1.0)
            names.append(_name(one))
        else:
            raise TypeError(
                "Loss: only losses, and functions loss(model, batch, key), can be "
                f"added, got {one!r}."
            )
    return WeightedSum(terms, weights, _distinct(names))


def _name(term: Any) -> str:
    if isinstance(term, Loss):
        return term.name
    return getattr(term, "__name__", type(term).__name__).strip("<>")


def _distinct(names: list[str]) -> tuple[str, ...]:
    """Names, with a number where one came before."""
    found: list[str] = []
    for name in names:
        count, new = 1, name
        while new in found:
            count += 1
            new = f"{name} {count}"
        found.append(new)
    return tuple(found)


def _weight(value: Any) -> float | Array:
    if isinstance(value, Array) and value.shape == ():
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not jnp.isfinite(value):
        raise TypeError(
            f"WeightedSum: `weights` must be finite numbers, got {value!r}."
        )
    return float(value)


def field_problem(
    caller: str, model: Any, y0: PyTree, t0: Any, t1: Any, args: PyTree
) -> ODEProblem:
    """The problem of a model, or of a function `field(t, y, args)`."""
    if hasattr(model, "problem"):
        problem = model.problem(y0, t0, t1, args)
    elif callable(model):
        problem = ODEProblem(model, y0, t0, t1, args)
    else:
        raise TypeError(
            f"{caller}: `model` must be a model with a method `problem`, or a field "
            f"(t, y, args), got {type(model).__name__}."
        )
    if problem.kind.name != "ode":
        raise TypeError(
            f"{caller}: `model` must be one of an ordinary equation, got "
            f"{type(model).__name__}; for a stochastic one take LawLoss."
        )
    return problem
