"""The vector fields of a problem, and what both stacks are asked about each."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._core import quick_options
from ..backends.julia import LoweredEvaluator
from ..lowering import Sparsity
from ..problems import ODEProblem
from ._sparse_parts import SPARSE_PARTS, lowered_parts, traced_parts, waves
from ._stacks import Question

PARTS = ("field", "jacobian on ones", "jacobian on waves", "time gradient")


@dataclasses.dataclass(frozen=True, eq=False)
class FieldPoints:
    """A vector field, and the times and states where it is compared.

    **Fields:** the field as that of an ordinary problem; the states, shape
    `(points, n)`; the times, shape `(points,)`; and of a large field where its Jacobian
    may be other than zero, `None` for a whole Jacobian.
    """

    problem: ODEProblem
    points: np.ndarray
    times: np.ndarray
    pattern: Sparsity | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """What is compared."""
        return PARTS if self.pattern is None else SPARSE_PARTS

    def question(self, label: str) -> Question:
        """Each of the parts at the points, shape `(points, n)`, or `(points, nonzeros)`
        of a Jacobian's entries.

        **Arguments:** the label of the field, empty where the problem has but one.
        """
        kind = f"part of {label}" if label else "part"
        return Question(kind, self.parts, functools.partial(_parts, self))


def disturbed(states: np.ndarray) -> np.ndarray:
    """States, and after them each moved by up to a tenth of itself."""
    wave = 1 + 0.1 * np.cos(np.arange(states.size)).reshape(states.shape)
    return np.concatenate([states, states * wave])


def directions(n: int) -> dict[str, np.ndarray]:
    """The vectors that Jacobians are applied to: any wrong entry shows in one."""
    return {
        "jacobian on ones": np.ones(n),
        "jacobian on waves": waves(n),
    }


def run_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function compiled as one program, quickly rather than for speed."""
    return jax.jit(function, compiler_options=quick_options())


def _parts(field: FieldPoints, backend: str) -> Sequence[np.ndarray]:
    parts = _lowered_parts(field) if backend == "julia" else _traced_parts(field)
    return [np.asarray(parts[name]) for name in field.parts]


def _traced_parts(field: FieldPoints) -> Mapping[str, Any]:
    dynamic, static = eqx.partition(field.problem, eqx.is_inexact_array)
    vectors = directions(field.points.shape[1])

    def at(dynamic: Any, t: Any, u: Any) -> dict[str, Any]:
        flat = eqx.combine(dynamic, static).flat_field()
        if field.pattern is not None:
            return traced_parts(flat, field.pattern, t, u)
        along = functools.partial(jax.jvp, lambda u: flat(t, u), (u,))
        return {
            "field": flat(t, u),
            **{name: along((jnp.asarray(v),))[1] for name, v in vectors.items()},
            "time gradient": jax.jacfwd(flat, argnums=0)(t, u),
        }

    return run_once(jax.vmap(at, in_axes=(None, 0, 0)))(
        dynamic, field.times, field.points
    )


def _lowered_parts(field: FieldPoints) -> Mapping[str, Any]:
    if field.pattern is not None:
        return lowered_parts(field.problem, field.pattern, field.points, field.times)
    evaluate = LoweredEvaluator(field.problem)
    values = [
        evaluate(u, float(t)) for t, u in zip(field.times, field.points, strict=True)
    ]
    vectors = directions(field.points.shape[1])
    return {
        "field": np.stack([f for f, _, _ in values]),
        **{
            name: np.stack([jacobian @ v for _, jacobian, _ in values])
            for name, v in vectors.items()
        },
        "time gradient": np.stack([g for _, _, g in values]),
    }
