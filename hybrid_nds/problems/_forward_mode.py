"""Problems whose fields have a forward rule, and what to do where there is none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, TypeVar

import equinox as eqx

from .._core import takes_tangents, with_forward_rule
from ._problem import Problem

P = TypeVar("P", bound=Problem)


def forward_problem(problem: P) -> P:
    """A problem whose field, or drift and diffusion, have forward rules."""
    for term in problem.terms:
        made = with_forward_rule(term.function, problem.t0, problem.y0, problem.args)
        if made is not term.function:
            problem = eqx.tree_at(lambda p, n=term.name: getattr(p, n), problem, made)
    return problem


_REVERSE_ONLY = (
    "solve: `adjoint` must be one that forward mode can go through, "
    'adjoint="forward" or "direct", under jax.jvp, jax.jacfwd or jax.linearize; the '
    "default has derivatives in reverse mode (jax.grad, jax.jacrev) alone, and so has "
    "a field of jax.custom_vjp: give that one a jax.custom_jvp."
)


_NO_FORWARD_RULE = (
    "solve: this solver differentiates the problem's functions in forward mode, and "
    "one of them has a reverse rule alone (jax.custom_vjp): give it a jax.custom_jvp, "
    "or take a solver without derivatives."
)


@contextlib.contextmanager
def forward_mode_named(
    problem: Any, stack: str, adjoint: Any, adaptive: bool
) -> Iterator[None]:
    """Say what to do where forward mode meets derivatives that are reverse alone."""
    reverse = (
        adaptive and stack == "diffrax" and adjoint in (None, "recursive_checkpoint")
    )
    # Under jax.jit JAX itself finds it out only later, where no name is known.
    if reverse and takes_tangents(problem):
        raise TypeError(_REVERSE_ONLY)
    try:
        yield
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        known = takes_tangents(problem)
        raise TypeError(_REVERSE_ONLY if known else _NO_FORWARD_RULE) from error
