"""Solves in Julia as a primitive of JAX: one call into Julia for any batch."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jaxtyping import Array

from ...runtime import handler_rule, keep_with_program, session
from ._layout import COUNTS
from ._shared import SharedSolve

solve_p = Primitive("julia_solve")
solve_p.multiple_results = True


def result_shapes(*shapes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shapes of the results. Leading axes of operands are those of a batch, of
    length 1 where all its members share an operand."""
    batch = np.broadcast_shapes(*(shape[:-1] for shape in shapes))
    states, times = shapes[0][-1], shapes[4][-1]
    return [
        (*batch, times),
        (*batch, times, states),
        batch,
        (*batch, states),
        (*batch, COUNTS),
    ]


@solve_p.def_abstract_eval
def _abstract(*operands: Any, solve: SharedSolve) -> list[Any]:
    del solve
    integer = jnp.result_type(int)
    shapes = result_shapes(*(operand.shape for operand in operands))
    dtypes = [operands[0].dtype] * 4 + [integer]
    return [
        operands[0].update(shape=shape, dtype=dtype, weak_type=False)
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]


def _bind(*operands: Any, solve: SharedSolve) -> list[Array]:
    return solve_p.bind(*operands, solve=solve)


_compiled = jax.jit(_bind, static_argnames="solve")
solve_p.def_impl(lambda *operands, solve: _compiled(*operands, solve=solve))


def _batched(
    operands: Sequence[Any], axes: Sequence[int | None], *, solve: SharedSolve
) -> tuple[list[Array], list[int]]:
    leading = [
        jnp.expand_dims(x, 0) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes, strict=True)
    ]
    results = solve_p.bind(*leading, solve=solve)
    return results, [0] * len(results)


batching.primitive_batchers[solve_p] = _batched


def _by_callback(*operands: Array, solve: SharedSolve) -> tuple[Array, ...]:
    """Where no compiled program can enter Julia itself: on a device, whose arrays go to
    the host and back, and in a JAX whose interface is not known."""
    integer = jnp.result_type(int)
    shapes = result_shapes(*(operand.shape for operand in operands))
    dtypes = [operands[0].dtype] * 4 + [integer]
    results = [
        jax.ShapeDtypeStruct(shape, dtype)
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]

    def run(*arrays: Any) -> list[np.ndarray]:
        return solve.run([np.asarray(array) for array in arrays], integer)

    return tuple(jax.pure_callback(run, results, *operands))


_callback_rule = mlir.lower_fun(_by_callback, multiple_results=True)


@functools.cache
def warn_of_callback(reason: str) -> None:
    warnings.warn(
        f"Compiled JAX programs reach Julia through Python, some 100 microseconds a "
        f"call: {reason}. A newer hybrid_nds may know it.",
        RuntimeWarning,
        stacklevel=2,
    )


def _on_host(context: Any, *operands: Any, solve: SharedSolve) -> Any:
    if reason := session().no_handler:
        warn_of_callback(reason)
        return _callback_rule(context, *operands, solve=solve)
    keep_with_program(context, solve)
    return handler_rule(solve.number)(context, *operands)


mlir.register_lowering(solve_p, _callback_rule)
mlir.register_lowering(solve_p, _on_host, platform="cpu")
