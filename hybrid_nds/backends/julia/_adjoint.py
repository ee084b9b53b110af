"""Derivatives of solves in Julia: tangents and their transpose as primitives of JAX.

The Jacobian–vector product of a solve is that of its recorded steps, with their lengths
held fixed. It is linear in the tangents, and its transpose is the discrete adjoint.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from ...runtime import handler_rule, keep_with_program, session, varying_alike
from ._primitive import result_shapes, solve_p, warn_of_callback
from ._shared import SharedSolve

_SECOND = (
    "solve: the Julia backend has no second derivatives of a solve (jax.hessian, or a "
    'derivative of a gradient); take backend="diffrax" for them.'
)


def call_shared(solve: SharedSolve, operands: Sequence[Any]) -> tuple[Array, ...]:
    """Solve in Julia, within any transformation of JAX.

    **Arguments:** the solve, and its operands in Julia's order, each of one axis.

    **Returns:** the times saved, the states there, the time and the state of the end,
    and the counts.
    """
    arrays = varying_alike([jnp.asarray(x) for x in operands])
    return tuple(solve_p.bind(*arrays, solve=solve))


record_p = Primitive("julia_solve_recording_its_steps")
"""A solve with one result more, the record of its steps."""
tangent_p = Primitive("julia_solve_tangent")
"""Operands are the record, the parameters, the times saved and the parameters of
events, and along a Brownian path its grid, increments and areas; then, of an axis of
directions and one of components, tangents of the start and of the parameters, where
`timed` those of (t0, t1) and of the times saved, and those of the parameters of events
where there are some. Results are tangents of the states saved,
flat, of the state at the end, and where there are events of its time."""
adjoint_p = Primitive("julia_solve_adjoint")
"""The transpose: cotangents of results in place of tangents of operands."""
for primitive in (record_p, tangent_p, adjoint_p):
    primitive.multiple_results = True

_START, _PARAMETERS, _SPAN, _ABSOLUTE, _TIMES, _EVENTS, _PATH = range(7)


def _differentiated(
    primals: Sequence[Array], tangents: Sequence[Any], *, solve: SharedSolve
) -> tuple[list[Array], list[Any]]:
    """The rule of a solve: record its steps, and push tangents along them."""
    if solve.refusal:
        raise TypeError(solve.refusal)
    differentiable = solve.derivatives
    moves = lambda positions: any(type(tangents[k]) is not ad.Zero for k in positions)
    timed = moves((_SPAN, _TIMES))
    if differentiable.along_path and moves(
        (_SPAN, _TIMES, *range(_PATH, len(primals)))
    ):
        raise TypeError(
            "solve: a solve of a stochastic problem on the Julia backend has no "
            "derivatives by t0, t1, the times of `saveat` or the path, which its steps "
            "follow; hold them fixed by jax.lax.stop_gradient."
        )
    if timed and differentiable.singular:
        raise TypeError(
            "solve: with a singular `mass_matrix` a solve on the Julia backend has no "
            "derivatives by t0, t1 or the times of `saveat`; hold them fixed by "
            "jax.lax.stop_gradient."
        )
    *results, record = record_p.bind(*primals, solve=solve)
    moving = [_START, _PARAMETERS]
    moving += [_SPAN, _TIMES] if timed else []
    moving += [_EVENTS] if differentiable.evented else []
    given = [ad.instantiate_zeros(tangents[k])[..., None, :] for k in moving]
    if timed:
        # Of t0, t1, rtol and dt.
        given[2] = given[2][..., :2]
    fixed = [record, *(primals[k] for k in (_PARAMETERS, _TIMES, _EVENTS))]
    fixed += primals[_PATH:]
    states, end, *ended = tangent_p.bind(*fixed, *given, solve=solve, timed=timed)
    times, saved, end_time, end_state, counts = results
    zero = lambda x: ad.Zero(jax.typeof(x).to_tangent_aval())
    moved: list[Any] = [zero(times), zero(end_time)]
    if timed:
        span, at = given[2][..., 0, :], given[3][..., 0, :]
        moved = [
            jnp.broadcast_to(at, times.shape),
            jnp.broadcast_to(span[..., 1], end_time.shape),
        ]
    if ended:
        moved[1] = ended[0].reshape(end_time.shape)
    return results, [
        moved[0],
        states.reshape(saved.shape),
        moved[1],
        end.reshape(end_state.shape),
        zero(counts),
    ]


ad.primitive_jvps[solve_p] = _differentiated


def _refuse_second(*operands: Any, **parameters: Any) -> Any:
    raise TypeError(_SECOND)


ad.primitive_jvps[record_p] = _refuse_second


def _record_size(solve: SharedSolve, states: int) -> int:
    return (solve.derivatives.capacity + 2) * (states + 2)


def _record_shapes(
    *shapes: tuple[int, ...], solve: SharedSolve
) -> list[tuple[int, ...]]:
    found = result_shapes(*shapes)
    # The end's time has the shape of the batch.
    return [*found, (*found[2], _record_size(solve, shapes[0][-1]))]


def _linear_shapes(
    *shapes: tuple[int, ...], solve: SharedSolve, timed: bool, reverse: bool
) -> list[tuple[int, ...]]:
    fixed = solve.derivatives.fixed
    batch = np.broadcast_shapes(
        *(shape[:-1] for shape in shapes[:fixed]),
        *(shape[:-2] for shape in shapes[fixed:]),
    )
    directions = shapes[fixed][-2]
    parameters, times, events = (shape[-1] for shape in shapes[1:4])
    evented = solve.derivatives.evented
    if reverse:
        states = shapes[fixed + 1][-1]
        sizes = [states, parameters, *((2, times) if timed else ())]
        sizes += [events] if evented else []
    else:
        states = shapes[fixed][-1]
        sizes = [times * states, states, *((1,) if evented else ())]
    return [(*batch, directions, size) for size in sizes]


_SHAPES: dict[Primitive, tuple[Callable[..., list[tuple[int, ...]]], str]] = {
    record_p: (_record_shapes, "recording"),
    tangent_p: (functools.partial(_linear_shapes, reverse=False), "tangent"),
    adjoint_p: (functools.partial(_linear_shapes, reverse=True), "adjoint"),
}


def _dtypes(primitive: Primitive, count: int, dtype: Any) -> list[Any]:
    if primitive is record_p:
        return [dtype] * 4 + [jnp.result_type(int), dtype]
    return [dtype] * count


def _define(primitive: Primitive) -> None:
    shapes_of, which = _SHAPES[primitive]

    def outcome(*operands: Any, **parameters: Any) -> list[Any]:
        shapes = shapes_of(*(np.shape(x) for x in operands), **parameters)
        dtypes = _dtypes(primitive, len(shapes), operands[0].dtype)
        return [
            jax.ShapeDtypeStruct(shape, dtype)
            for shape, dtype in zip(shapes, dtypes, strict=True)
        ]

    @primitive.def_abstract_eval
    def _abstract(*operands: Any, **parameters: Any) -> list[Any]:
        return [
            operands[0].update(shape=one.shape, dtype=one.dtype, weak_type=False)
            for one in outcome(*operands, **parameters)
        ]

    def bind(*operands: Any, **parameters: Any) -> list[Array]:
        return primitive.bind(*operands, **parameters)

    compiled = jax.jit(bind, static_argnames=("solve", "timed"))
    primitive.def_impl(
        lambda *operands, **parameters: compiled(*operands, **parameters)
    )

    def by_callback(
        *operands: Array, solve: SharedSolve, **parameters: Any
    ) -> tuple[Array, ...]:
        results = outcome(*operands, solve=solve, **parameters)

        def run(*arrays: Any) -> list[np.ndarray]:
            number = solve.derivatives.number(which)
            return solve.call(
                number,
                [np.asarray(array) for array in arrays],
                [np.empty(one.shape, one.dtype) for one in results],
            )

        return tuple(jax.pure_callback(run, results, *operands))

    callback_rule = mlir.lower_fun(by_callback, multiple_results=True)

    def on_host(
        context: Any, *operands: Any, solve: SharedSolve, **parameters: Any
    ) -> Any:
        if reason := session().no_handler:
            warn_of_callback(reason)
            return callback_rule(context, *operands, solve=solve, **parameters)
        keep_with_program(context, solve)
        number = solve.derivatives.number(which)
        return handler_rule(number)(context, *operands)

    mlir.register_lowering(primitive, callback_rule)
    mlir.register_lowering(primitive, on_host, platform="cpu")


for primitive in _SHAPES:
    _define(primitive)


def _batched_record(
    operands: Sequence[Any], axes: Sequence[int | None], *, solve: SharedSolve
) -> tuple[list[Array], list[int]]:
    leading = [_leading(x, axis) for x, axis in zip(operands, axes, strict=True)]
    results = record_p.bind(*leading, solve=solve)
    return results, [0] * len(results)


def _leading(x: Any, axis: int | None) -> Array:
    return jnp.expand_dims(x, 0) if axis is None else jnp.moveaxis(x, axis, 0)


def _bound(
    primitive: Primitive, solve: SharedSolve, timed: bool
) -> Callable[..., list[Array]]:
    return functools.partial(primitive.bind, solve=solve, timed=timed)


def _batched_linear(
    primitive: Primitive,
    operands: Sequence[Any],
    axes: Sequence[int | None],
    *,
    solve: SharedSolve,
    timed: bool,
) -> tuple[list[Array], list[int]]:
    fixed, bind = solve.derivatives.fixed, _bound(primitive, solve, timed)
    if any(axis is not None for axis in axes[:fixed]):
        leading = [_leading(x, axis) for x, axis in zip(operands, axes, strict=True)]
        results = bind(*leading)
        return results, [0] * len(results)
    # Of one solve: more directions, which share its steps and their matrices.
    size = next(
        x.shape[axis]
        for x, axis in zip(operands[fixed:], axes[fixed:], strict=True)
        if axis is not None
    )
    folded = []
    for x, axis in zip(operands[fixed:], axes[fixed:], strict=True):
        moved = (
            jnp.broadcast_to(x[..., None, :, :], (*x.shape[:-2], size, *x.shape[-2:]))
            if axis is None
            else jnp.moveaxis(x, axis, -3)
        )
        shape = moved.shape
        folded.append(moved.reshape(*shape[:-3], size * shape[-2], shape[-1]))
    results = bind(*operands[:fixed], *folded)
    unfolded = [
        x.reshape(*x.shape[:-2], size, x.shape[-2] // size, x.shape[-1])
        for x in results
    ]
    return unfolded, [x.ndim - 3 for x in unfolded]


batching.primitive_batchers[record_p] = _batched_record
for primitive in (tangent_p, adjoint_p):
    batching.primitive_batchers[primitive] = functools.partial(
        _batched_linear, primitive
    )


def _linear_rule(
    primitive: Primitive,
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    solve: SharedSolve,
    timed: bool,
) -> tuple[list[Array], list[Any]]:
    """The derivative of what is linear in its last operands, by those."""
    fixed, bind = solve.derivatives.fixed, _bound(primitive, solve, timed)
    if any(type(tangent) is not ad.Zero for tangent in tangents[:fixed]):
        raise TypeError(_SECOND)
    along = [ad.instantiate_zeros(tangent) for tangent in tangents[fixed:]]
    return bind(*primals), bind(*primals[:fixed], *along)


def _transposed(
    transpose: Primitive,
    cotangents: Sequence[Any],
    *operands: Any,
    solve: SharedSolve,
    timed: bool,
) -> list[Any]:
    """Cotangents of operands by the other primitive, summed over the axes of a batch
    that share them."""
    fixed = solve.derivatives.fixed
    if any(ad.is_undefined_primal(x) for x in operands[:fixed]):
        raise TypeError(_SECOND)
    given = [ad.instantiate_zeros(cotangent) for cotangent in cotangents]
    found = _bound(transpose, solve, timed)(*operands[:fixed], *given)
    results: list[Any] = [None] * fixed
    for cotangent, operand in zip(found, operands[fixed:], strict=True):
        if not ad.is_undefined_primal(operand):
            results.append(None)
            continue
        shape = operand.aval.shape
        shared = tuple(
            axis
            for axis in range(len(shape) - 2)
            if shape[axis] == 1 and cotangent.shape[axis] != 1
        )
        results.append(cotangent.sum(shared, keepdims=True) if shared else cotangent)
    return results


for primitive, transpose in ((tangent_p, adjoint_p), (adjoint_p, tangent_p)):
    ad.primitive_jvps[primitive] = functools.partial(_linear_rule, primitive)
    ad.primitive_transposes[primitive] = functools.partial(_transposed, transpose)
