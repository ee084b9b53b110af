"""From a JAX function to the source of a Julia function."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import ArrayLike, PyTree

from ..problems import ODEProblem
from ._code import Code, Index
from ._loops import LoopEmitter
from ._lowered import Form, LoweredField, LoweredFunction, LoweredProblem, Part
from ._names import identifier
from ._program import LoweringError, Program, Shape, Variable, captured, trace
from ._rules import KNOWN
from ._sparsity import Sparsity
from ._terms import NotTermsError, entries_by_terms
from ._unroll import (
    UNROLL,
    StatementWriter,
    TooLargeError,
    Unroller,
    input_nodes,
)
from ._values import Memory, Uniform

# With more inputs and outputs, code without loops is not even tried.
_SCALARS = 60_000


def parameter_vector(field: Any, args: PyTree, dtype: np.dtype) -> np.ndarray:
    """The weights of a field and its arguments as one vector.

    **Arguments:** the field, its `args`, and the working precision.

    **Returns:** the inexact arrays of `(field, args)` in tree order, each in C order,
    shape `(parameters,)`.
    """
    leaves = [x for x in jtu.tree_leaves((field, args)) if eqx.is_inexact_array(x)]
    parts = [np.asarray(leaf, dtype).reshape(-1) for leaf in leaves]
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def lower(
    fn: Callable[..., Any],
    t: ArrayLike,
    y: PyTree,
    args: PyTree = None,
    *,
    form: Form = "array",
    part: Part = "field",
    unroll: int = UNROLL,
    sparsity: Sparsity | None = None,
) -> LoweredFunction:
    """Lower `fn(t, y, args)`, or a derivative of it, to Julia source.

    **Arguments:**

    - `fn`: the function; its inexact arrays and those of `args` become the
        parameter vector `p`, everything else is compiled in.
    - `t`, `y`, `args`: example arguments; only shapes and dtypes matter for the
        arrays among them. `y` holds floating-point arrays of one dtype, the working
        precision.
    - `form`: `"array"` writes into an array, with preallocated work arrays;
        `"scalar"` returns an `SVector` or `SMatrix` and keeps its work arrays on
        the stack.
    - `part`: `"field"` is `fn` itself, flattened and concatenated; `"jacobian"` its
        derivative with respect to `y`, `"time_gradient"` with respect to `t`;
        `"product"` is the product of the Jacobian with a vector, and its state is that
        of `fn` with the vector behind it.
    - `unroll`: programs of at most this many scalar operations become straight-line
        code, larger ones loops; negative for loops always.
    - `sparsity`: of a Jacobian, where it may be other than zero: what is written is
        then its entries alone, in their order. `None` for a full matrix.

    **Returns:** a [`LoweredFunction`][hybrid_nds.lowering.LoweredFunction].

    **Raises:**
    [`UnsupportedPrimitiveError`][hybrid_nds.lowering.UnsupportedPrimitiveError] for
    a primitive without a rule; `LoweringError` for complex values and the like;
    `ValueError` for an unknown `form` or `part`.
    """
    for name, value, known in (
        ("form", form, ("array", "scalar")),
        ("part", part, get_args(Part)),
    ):
        if value not in known:
            listing = ", ".join(known)
            raise ValueError(
                f"lower: `{name}` must be one of {listing}, got {value!r}."
            )
    if isinstance(fn, LoweredField):
        return fn.lowered(form, part)
    traced = traced_part(fn, t, y, args, part=part, sparsity=sparsity)
    # Rules compute with indices, which must be known where the caller is traced.
    with jax.ensure_compile_time_eval():
        return _emit(traced, form, part, unroll, sparsity)


@dataclasses.dataclass(frozen=True, eq=False)
class TracedPart:
    """The program of a function's part, before it is written as Julia.

    **Fields:** the program, of time, arrays of the state and arrays of parameters; how
    many of the state there are; the working precision.
    """

    program: Program
    states: int
    working: np.dtype


def traced_part(
    fn: Callable[..., Any],
    t: ArrayLike,
    y: PyTree,
    args: PyTree,
    *,
    part: Part,
    sparsity: Sparsity | None = None,
) -> TracedPart:
    """Trace `fn(t, y, args)`, or a derivative of it.

    Arguments are those of `lower`, which see.
    """
    state, state_tree = jtu.tree_flatten(jtu.tree_map(jnp.asarray, y))
    dtypes = {leaf.dtype for leaf in state}
    if len(dtypes) != 1 or not jnp.issubdtype(state[0].dtype, jnp.floating):
        raise LoweringError(
            "lower: `y` must hold real floating-point arrays of one dtype, got "
            f"{sorted(map(str, dtypes))}."
        )
    working = np.dtype(state[0].dtype)
    weights, static = eqx.partition((fn, args), eqx.is_inexact_array)
    paths, weight_tree = jtu.tree_flatten_with_path(weights)
    originals = [leaf for _, leaf in paths]

    def flat_fn(t: Any, ys: Sequence[Any], ps: Sequence[Any]) -> list[Any]:
        cast = [p.astype(leaf.dtype) for p, leaf in zip(ps, originals, strict=True)]
        inner, inner_args = eqx.combine(jtu.tree_unflatten(weight_tree, cast), static)
        result = inner(t, jtu.tree_unflatten(state_tree, ys), inner_args)
        return [jnp.asarray(leaf) for leaf in jtu.tree_leaves(result)]

    shapes, names = [leaf.shape for leaf in state], _state_names(y)
    function = _part(part, flat_fn, shapes, working, sparsity)
    if part == "product":
        shapes, names = [*shapes, *shapes], [*names, *(f"d{name}" for name in names)]
    count = len(shapes)
    arguments = [
        jax.ShapeDtypeStruct(shape, working)
        for shape in [(), *shapes, *(x.shape for x in originals)]
    ]
    names = ["t", *names, *(_weight_name(path) for path, _ in paths)]
    program = trace(
        lambda t, *xs: function(t, xs[:count], xs[count:]), *arguments, names=names
    )
    return TracedPart(program, count, working)


def lower_problem(
    problem: ODEProblem, sparsity: Sparsity | None = None
) -> LoweredProblem:
    """Lower a problem's field, Jacobian and time gradient, in array form.

    **Arguments:** the problem; for the entries of a sparse Jacobian in place of a
    matrix, where it may be other than zero.

    **Returns:** a [`LoweredProblem`][hybrid_nds.lowering.LoweredProblem].

    **Raises:** what `lower` raises.
    """
    at = problem.t0, problem.y0, problem.args
    return LoweredProblem(
        lower(problem.field, *at),
        lower(problem.field, *at, part="jacobian", sparsity=sparsity),
        lower(problem.field, *at, part="time_gradient"),
        parameter_vector(problem.field, problem.args, problem.dtype),
        problem.dimension,
        problem.dtype,
    )


def to_julia(
    fn: Callable[..., Any],
    t: ArrayLike,
    y: PyTree,
    args: PyTree = None,
    *,
    form: Form = "array",
    part: Part = "field",
    unroll: int = UNROLL,
) -> str:
    """The Julia source that `fn(t, y, args)` is lowered to.

    Arguments, errors and forms are those of
    [`lower`][hybrid_nds.lowering.lower].

    **Returns:** the definition of one Julia function.
    """
    return lower(fn, t, y, args, form=form, part=part, unroll=unroll).source


def _weight_name(path: tuple) -> str:
    # The first key tells the field from its arguments.
    text = jtu.keystr(path[1:]).strip(".")
    return identifier(text if path[0].idx == 0 else f"args{text}", "weight")


def _state_names(y: PyTree) -> list[str]:
    paths, _ = jtu.tree_flatten_with_path(y)
    return [identifier("y" + jtu.keystr(path), "y") for path, _ in paths]


def _part(
    part: Part,
    fn: Callable[..., list[Any]],
    shapes: list[Shape],
    working: np.dtype,
    sparsity: Sparsity | None,
) -> Callable[..., list[Any]]:
    if part == "field":
        return fn
    if part == "product":
        count = len(shapes)

        def product(t: Any, ys: Sequence[Any], ps: Sequence[Any]) -> list[Any]:
            at, along = list(ys[:count]), list(ys[count:])
            return jax.jvp(lambda ys: fn(t, ys, ps), (at,), (along,))[1]

        return product
    if part == "time_gradient":

        def time_gradient(t: Any, ys: Sequence[Any], ps: Sequence[Any]) -> list[Any]:
            one = jnp.ones((), working)
            return jax.jvp(lambda t: fn(t, ys, ps), (t,), (one,))[1]

        return time_gradient
    if sparsity is not None:
        return _entries(fn, shapes, working, sparsity)
    sizes = [math.prod(shape) for shape in shapes]
    identity = np.eye(sum(sizes), dtype=working)
    pieces = np.split(identity, np.cumsum(sizes)[:-1], axis=1)
    tangents = [
        piece.reshape(-1, *shape) for piece, shape in zip(pieces, shapes, strict=True)
    ]

    def jacobian(t: Any, ys: Sequence[Any], ps: Sequence[Any]) -> list[Any]:
        # One tangent a row: the row-major result is Julia's J[output, input].
        def push(direction: list[Any]) -> list[Any]:
            return jax.jvp(lambda ys: fn(t, ys, ps), (list(ys),), (direction,))[1]

        rows = [r.reshape(len(identity), -1) for r in jax.vmap(push)(tangents)]
        return rows if len(rows) == 1 else [jnp.concatenate(rows, axis=1)]

    return jacobian


def jacobian_entries(
    field: Callable[[Any, Any], Any], sparsity: Sparsity, dtype: np.dtype
) -> Callable[[Any, Any], Any]:
    """The entries of the sparse Jacobian of a function of time and a flat state, as a
    function in JAX of both.

    **Arguments:** the function; where its Jacobian may be other than zero; the dtype of
    the state.
    """
    made = _entries(
        lambda t, ys, ps: [field(t, ys[0])], [(sparsity.states,)], dtype, sparsity
    )
    return lambda t, u: made(t, [u], ())[0]


def _entries(
    fn: Callable[..., list[Any]],
    shapes: list[Shape],
    working: np.dtype,
    sparsity: Sparsity,
) -> Callable[..., list[Any]]:
    """The entries of a sparse Jacobian, from the terms of its program or from a product
    a colour (Curtis, Powell & Reid 1974)."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    pieces = np.split(sparsity.colors.astype(np.int32), ends[:-1])
    colors = [piece.reshape(s) for piece, s in zip(pieces, shapes, strict=True)]
    column_colors = sparsity.colors[sparsity.columns].astype(np.int64)
    places = column_colors * sparsity.states + sparsity.rows

    def entries(t: Any, ys: Sequence[Any], ps: Sequence[Any]) -> list[Any]:
        # What is known while tracing is computed then: indices, above all.
        with jax.ensure_compile_time_eval():
            _, push = jax.linearize(lambda *ys: fn(t, ys, ps), *ys)
            with contextlib.suppress(NotTermsError):
                rows, columns = sparsity.rows, sparsity.columns
                return [entries_by_terms(push, shapes, working, rows, columns)]

        # What is linear in the direction is all that stands in the loop over colours.
        def product(color: Any) -> Any:
            seeds = [(own == color).astype(working) for own in colors]
            return jnp.concatenate([jnp.ravel(x) for x in push(*seeds)])

        products = jax.lax.map(product, jnp.arange(sparsity.products, dtype=np.int32))
        flat = products.reshape(-1).at[places]
        return [flat.get(mode="promise_in_bounds", indices_are_sorted=False)]

    return entries


_NAMES: Mapping[Part, str] = MappingProxyType(
    {part: f"{part}!" for part in get_args(Part)}
)


def _emit(
    traced: TracedPart,
    form: Form,
    part: Part,
    unroll: int,
    sparsity: Sparsity | None,
) -> LoweredFunction:
    program, count, working = traced.program, traced.states, traced.working
    for output in program.outputs:
        if output.dtype != working:
            raise LoweringError(
                f"lower: `fn` must return the dtype of `y`, {working}, got "
                f"{output.dtype}."
            )
    size = sum(math.prod(o.shape) for o in program.outputs)
    shape: tuple[int, ...] = (size,)
    if part == "jacobian" and sparsity is None:
        inputs, outputs = program.outputs[0].shape
        shape = (outputs, inputs)
    try:
        prologue, body, result = _straight(
            program, count, working, form, part, shape, unroll
        )
        workspace, constants = (), ()
    except TooLargeError:
        emitter = LoopEmitter(KNOWN, working, form)
        prologue, body, result = _looped(emitter, program, count, form, shape)
        workspace = tuple(emitter.workspace)
        constants = tuple(emitter.constants)
    name = _NAMES[part] if form == "array" else _NAMES[part].rstrip("!")
    arguments = "out, u, p, t, w, c" if form == "array" else "u, p, t, c"
    lines = [f"function {name}({arguments})"]
    text = "\n".join([*prologue, *body, result])
    if _mentions_type(text):
        lines.append("    T = promote_type(eltype(u), eltype(p), typeof(t))")
    lines.append("    @inbounds begin")
    lines += [f"        {line}" for line in (*prologue, *body)]
    lines += ["    end", f"    return {result}", "end", ""]
    return LoweredFunction(
        name, "\n".join(lines), workspace, constants, form, shape, working
    )


def _mentions_type(text: str) -> bool:
    return re.search(r"\bT\b", text) is not None


def _static(shape: tuple[int, ...]) -> str:
    """The static array type of this shape."""
    if len(shape) == 1:
        return f"SVector{{{shape[0]}, T}}"
    return f"SMatrix{{{shape[0]}, {shape[1]}, T, {math.prod(shape)}}}"


def _straight(
    program: Program,
    count: int,
    working: np.dtype,
    form: Form,
    part: Part,
    shape: tuple[int, ...],
    unroll: int,
) -> tuple[list[str], list[str], str]:
    if sum(math.prod(v.shape) for v in (*program.inputs, *program.outputs)) > _SCALARS:
        raise TooLargeError
    unroller = Unroller(KNOWN, working, structural_zeros=part != "field")
    inputs = input_nodes(unroller, program, count)
    results = unroller.run(program, inputs)
    outputs = [int(n) for array in results for n in array.reshape(-1)]
    writer = StatementWriter(unroller, outputs, unroll)
    codes = [writer.code(n) for n in outputs]
    if form == "scalar":
        return [], writer.lines, f"{_static(shape)}({', '.join(codes)})"
    zero = str(Code("0.0" if working == np.float64 else "0.0f0"))
    body = list(writer.lines)
    zeros = sum(code == zero for code in codes)
    if len(codes) - zeros > 4 * unroll:
        raise TooLargeError
    sparse = zeros > len(codes) // 2
    if sparse:
        body.append(f"fill!(out, {zero})")
    body += [
        f"out[{k}] = {code}"
        for k, code in enumerate(codes, start=1)
        if not (sparse and code == zero)
    ]
    return [], body, "nothing"


def _looped(
    em: LoopEmitter, program: Program, count: int, form: Form, shape: tuple[int, ...]
) -> tuple[list[str], list[str], str]:
    used = {id(a) for e in program.equations for a in e.inputs}
    used |= {id(v) for e in program.equations for v in captured(e)}
    used |= {id(a) for a in program.outputs}
    offsets = {"u": 0, "p": 0}
    for position, variable in enumerate(program.inputs):
        vector = "t" if position == 0 else "u" if position <= count else "p"
        if position == 0:
            em.bind(variable, Uniform(Code("t"), (), em.working))
            continue
        start = offsets[vector]
        offsets[vector] += math.prod(variable.shape)
        if id(variable) in used:
            em.bind(variable, _argument(em, vector, start, variable))
    target = "out"
    if form == "scalar":
        dims = ", ".join(map(str, shape))
        comma = "," if len(shape) == 1 else ""
        em.prologue.append(f"out = scratch(T, Val(({dims}{comma})))")
    targets, start = [], 0
    for output in program.outputs:
        targets.append(Memory(target, output.shape, em.working, None, Index(start)))
        start += math.prod(output.shape)
    em.run(program, targets)
    result = "nothing" if form == "array" else f"{_static(shape)}(Tuple(out))"
    return em.prologue, em.lines, result


def _argument(
    em: LoopEmitter, vector: str, start: int, variable: Variable
) -> Memory | Uniform:
    """An input array: a named block of `u` or `p`."""
    if variable.shape == ():
        name = em.fresh(variable.name)
        em.prologue.append(f"{name} = {vector}[{start + 1}]")
        return Uniform(Code(name), (), em.working)
    name = em.fresh(variable.name)
    dims = ", ".join(str(n) for n in reversed(variable.shape))
    comma = "," if len(variable.shape) == 1 else ""
    em.prologue.append(f"{name} = Block({vector}, {start}, ({dims}{comma}))")
    return Memory(name, variable.shape, em.working, variable.shape)
