"""Diffrax's loop over steps, smaller to compile.

Diffrax rounds a step that ends within 100 units in the last place of `t1` up to `t1`.
It finds that threshold by 100 calls of `prevbefore` written out one after another,
which are half of the program of a small solve and about half of the time to compile
it. Here the same calls are one loop.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterable
from typing import Any

import diffrax
import diffrax._integrate as integrate
import equinox.internal as eqxi
import jax.lax as lax
from jaxtyping import Array

_ULPS = 100
_UNROLLED = f"""
    for _ in range({_ULPS}):
        t1_clip_floor = eqxi.prevbefore(t1_clip_floor)
"""


def clip_floor(t1: Array) -> Array:
    """The time from which on steps end at `t1`; it is compared with, no more, and
    so has no derivative."""
    return lax.fori_loop(
        0, _ULPS, lambda _, t: eqxi.prevbefore(t), lax.stop_gradient(t1)
    )


def shorten(adjoint: diffrax.AbstractAdjoint) -> diffrax.AbstractAdjoint:
    """The same adjoint, which runs the loop with `clip_floor` in it.

    **Returns:** the adjoint as it is where Diffrax has another loop.
    """
    loop = _short_loop()
    if loop is None:
        return adjoint
    short = object.__new__(_with_loop(type(adjoint), loop))
    for name, value in vars(adjoint).items():
        object.__setattr__(short, name, value)
    return short


@functools.cache
def _short_loop() -> Callable[..., Any] | None:
    """Diffrax's own loop, in which the one loop written out has another body."""
    original = getattr(integrate, "loop", None)
    if not isinstance(original, types.FunctionType):
        return None
    try:
        source = inspect.getsource(original)
    except OSError:
        return None
    known = all(source.count(x) == 1 for x in (_UNROLLED, "range(", "prevbefore"))
    if not known or original.__closure__ is not None:
        return None
    once: Callable[[int], Iterable[int]] = lambda count: (count,)
    names = {**original.__globals__, "range": once, "eqxi": _Internals()}
    short = types.FunctionType(original.__code__, names, original.__name__)
    short.__kwdefaults__ = original.__kwdefaults__
    return short


class _Internals:
    """`equinox.internal`, with all the calls of `prevbefore` in one."""

    prevbefore = staticmethod(clip_floor)

    def __getattr__(self, name: str) -> Any:
        return getattr(eqxi, name)


@functools.cache
def _with_loop(kind: type[diffrax.AbstractAdjoint], loop: Callable[..., Any]) -> Any:
    """The class of an adjoint, with this loop."""
    members = {"__module__": kind.__module__, "_loop": property(lambda self: loop)}
    return types.new_class(
        kind.__name__, (kind,), exec_body=lambda ns: ns.update(members)
    )
