"""The program that lowering works on: a jaxpr, calls inlined, constants folded."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from ._names import Origin

Shape = tuple[int, ...]

# Constants grow at most to this many elements by folding; beyond, recomputing at
# run time is cheaper than carrying the array into Julia.
_FOLD_LIMIT = 1 << 18

_IDENTITIES = frozenset(
    {"stop_gradient", "copy", "copy_p", "optimization_barrier", "pvary"}
)
_CALLS = frozenset(
    {
        "jit",
        "pjit",
        "closed_call",
        "core_call",
        "custom_jvp_call",
        "custom_vjp_call",
        "custom_vjp_call_jaxpr",
        "remat",
        "remat2",
        "checkpoint",
    }
)
_KINDS = "fiub"


@dataclasses.dataclass(frozen=True, eq=False)
class Variable:
    """A value computed at run time."""

    shape: Shape
    dtype: np.dtype
    name: str


Atom = Variable | np.ndarray
"""What an equation reads: a run-time value or a constant."""


@dataclasses.dataclass(frozen=True, eq=False)
class Equation:
    """One primitive applied.

    `programs` are the bodies of control flow; `bind` applies the primitive itself.
    """

    primitive: str
    inputs: tuple[Atom, ...]
    outputs: tuple[Variable, ...]
    parameters: dict[str, Any]
    line: str
    programs: tuple[Program, ...] = ()
    bind: Callable[..., Any] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """Equations in order, each read at least once on the way to an output."""

    inputs: tuple[Variable, ...]
    equations: tuple[Equation, ...]
    outputs: tuple[Atom, ...]


class LoweringError(ValueError):
    """A function that has no code in Julia."""


def trace(
    fn: Callable[..., Any], *leaves: Any, names: Sequence[str] | None = None
) -> Program:
    """Trace `fn` on arrays and return its flattened program.

    **Arguments:**

    - `fn`: a function of arrays that returns a list of arrays.
    - `leaves`: arrays or `jax.ShapeDtypeStruct`s, one an argument.
    - `names`: the names the arguments get in the program.

    **Returns:** a `Program` with one input an argument, also for unused ones.

    **Raises:** `LoweringError` for values that are neither real nor integer.
    """
    closed = jax.make_jaxpr(fn)(*leaves)
    names = names or [f"x{i}" for i in range(len(leaves))]
    inputs = tuple(
        _variable(v.aval, name, "the arguments")
        for v, name in zip(closed.jaxpr.invars, names, strict=True)
    )
    return _flatten(closed, inputs, inputs, Origin())


def _variable(aval: Any, name: str, line: str) -> Variable:
    dtype = aval.dtype
    if dtype == jnp.bfloat16:
        raise LoweringError(
            f"Lowering takes float16, float32 and float64, got bfloat16 at {line}: "
            "Julia has no arithmetic of it. Compute there in float16 or float32, or "
            'solve on Diffrax or with rhs="callback".'
        )
    if not isinstance(dtype, np.dtype) or dtype.kind not in _KINDS:
        raise LoweringError(
            f"Lowering takes real, integer and boolean values, got {dtype} at {line}. "
            "Split complex numbers into real and imaginary parts, draw random "
            'numbers outside the field, or solve with rhs="callback".'
        )
    return Variable(tuple(aval.shape), dtype, name)


def _flatten(
    closed: ClosedJaxpr,
    inputs: tuple[Variable, ...],
    arguments: Sequence[Any],
    origin: Origin,
) -> Program:
    equations: list[Equation] = []
    outputs = _inline(closed.jaxpr, closed.consts, arguments, equations, origin)
    atoms = tuple(o if isinstance(o, Variable) else np.asarray(o) for o in outputs)
    return Program(inputs, _live(equations, atoms), atoms)


def _live(equations: list[Equation], outputs: Sequence[Atom]) -> tuple[Equation, ...]:
    needed = {id(o) for o in outputs if isinstance(o, Variable)}
    live = []
    for equation in reversed(equations):
        if any(id(v) in needed for v in equation.outputs):
            live.append(equation)
            needed.update(id(v) for v in equation.inputs if isinstance(v, Variable))
            needed.update(id(v) for v in captured(equation))
    return tuple(reversed(live))


def captured(equation: Equation) -> set[Variable]:
    """Outer values that the bodies of control flow read directly."""
    variables = set()
    for program in equation.programs:
        for inner in program.equations:
            variables.update(v for v in inner.inputs if isinstance(v, Variable))
            variables.update(captured(inner))
        variables.update(v for v in program.outputs if isinstance(v, Variable))
    return variables


def _inline(
    jaxpr: Jaxpr,
    consts: Sequence[Any],
    arguments: Sequence[Any],
    into: list[Equation],
    origin: Origin,
) -> list[Any]:
    """Append the equations of `jaxpr` to `into`; return its outputs.

    Values are `Variable`s or concrete arrays; JAX arrays stay as they are here,
    for random keys have no NumPy type.
    """
    values: dict[Any, Any] = dict(
        itertools.chain(
            zip(jaxpr.constvars, consts, strict=True),
            zip(jaxpr.invars, arguments, strict=True),
        )
    )

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    # An equation nobody reads may hold what has no code in Julia (an unused random
    # key): find out before lowering it.
    used = _used_equations(jaxpr)
    for position, eqn in enumerate(jaxpr.eqns):
        if position not in used:
            continue
        arguments = [read(atom) for atom in eqn.invars]
        results = _equation(eqn, arguments, into, origin.of(eqn))
        for var, result in zip(eqn.outvars, results, strict=True):
            values[var] = result
    return [read(atom) for atom in jaxpr.outvars]


def _used_equations(jaxpr: Jaxpr) -> set[int]:
    needed = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    used = set()
    for position in range(len(jaxpr.eqns) - 1, -1, -1):
        eqn = jaxpr.eqns[position]
        if any(v in needed for v in eqn.outvars):
            used.add(position)
            needed.update(v for v in eqn.invars if not isinstance(v, Literal))
    return used


def _equation(
    eqn: Any, arguments: list[Any], into: list[Equation], origin: Origin
) -> Sequence[Any]:
    name = eqn.primitive.name
    if name in _IDENTITIES:
        return arguments
    if (
        name == "convert_element_type"
        and isinstance(arguments[0], Variable)
        and arguments[0].dtype == eqn.params["new_dtype"]
    ):
        return arguments
    if name == "custom_linear_solve":
        return _inline_linear_solve(eqn, arguments, into, origin)
    if name == "platform_index":
        return [_platform(eqn.params["platforms"])]
    body = _called(eqn)
    if body is not None:
        return _inline(body.jaxpr, body.consts, arguments, into, origin)
    if name == "cond" and not isinstance(arguments[0], Variable):
        branches = eqn.params["branches"]
        chosen = branches[int(np.clip(int(arguments[0]), 0, len(branches) - 1))]
        return _inline(chosen.jaxpr, chosen.consts, arguments[1:], into, origin)
    if _foldable(eqn, arguments):
        with jax.ensure_compile_time_eval():
            results = eqn.primitive.bind(*map(jnp.asarray, arguments), **eqn.params)
        return results if eqn.primitive.multiple_results else [results]
    if name == "dot_general":
        moved = _identity_product(eqn, arguments)
        if moved is not None:
            variable, axes = moved
            if axes == tuple(range(len(axes))):
                return [variable]
            aval = eqn.outvars[0].aval
            output = _variable(aval, origin.stem(name), origin.line)
            moves = {"permutation": axes}
            into.append(
                Equation("transpose", (variable,), (output,), moves, origin.line)
            )
            return [output]
    line, stem = origin.line, origin.stem(name)
    outputs = tuple(_variable(v.aval, stem, line) for v in eqn.outvars)
    constants = [
        a if isinstance(a, Variable) else _constant(a, line) for a in arguments
    ]
    inputs, programs = _bodies(eqn, constants, origin)
    into.append(
        Equation(
            name,
            tuple(inputs),
            outputs,
            dict(eqn.params),
            line,
            programs,
            eqn.primitive.bind,
        )
    )
    return outputs


def _constant(value: Any, line: str) -> np.ndarray:
    dtype = getattr(value, "dtype", None)
    if dtype is not None and (
        not isinstance(dtype, np.dtype) or dtype.kind not in _KINDS
    ):
        _variable(value, "constant", line)
    return np.asarray(value)


def _called(eqn: Any) -> ClosedJaxpr | None:
    """The body of a call that means just its body: jit, custom derivatives, remat."""
    if eqn.primitive.name not in _CALLS:
        return None
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        body = eqn.params.get(key)
        if isinstance(body, ClosedJaxpr):
            return body
        if isinstance(body, Jaxpr):
            return ClosedJaxpr(body, ())
    return None


def _inline_linear_solve(
    eqn: Any, arguments: list[Any], into: list[Equation], origin: Origin
) -> list[Any]:
    lengths, bodies = eqn.params["const_lengths"], eqn.params["jaxprs"]
    first = lengths.matvec + lengths.vecmat
    count = sum(lengths)
    consts = arguments[first : first + lengths.solve]
    return _inline(
        bodies.solve.jaxpr,
        bodies.solve.consts,
        consts + arguments[count:],
        into,
        origin,
    )


def _identity_product(
    eqn: Any, arguments: list[Any]
) -> tuple[Variable, tuple[int, ...]] | None:
    """A product with a constant identity matrix is its other factor, axes moved.

    Forward-mode Jacobians are full of them: the tangents start as the identity.
    """
    (lhs_sum, rhs_sum), (lhs_batch, _) = eqn.params["dimension_numbers"]
    if lhs_batch or len(lhs_sum) != 1:
        return None
    for constant, other, axis, front in (
        (arguments[1], arguments[0], lhs_sum[0], False),
        (arguments[0], arguments[1], rhs_sum[0], True),
    ):
        if isinstance(constant, Variable) or not isinstance(other, Variable):
            continue
        matrix = np.asarray(constant)
        if (
            matrix.ndim == 2
            and matrix.shape[0] == matrix.shape[1]
            and other.dtype == eqn.outvars[0].aval.dtype
            and np.array_equal(matrix, np.eye(len(matrix)))
        ):
            rest = [a for a in range(len(other.shape)) if a != axis]
            return other, tuple([axis, *rest] if front else [*rest, axis])
    return None


def _platform(platforms: Sequence[Sequence[str] | None]) -> np.ndarray:
    # Julia runs on the CPU, whatever device JAX would have taken.
    for position, names in enumerate(platforms):
        if names is None or "cpu" in names:
            return np.asarray(position, np.int32)
    return np.asarray(len(platforms) - 1, np.int32)


def _foldable(eqn: Any, arguments: list[Any]) -> bool:
    if any(isinstance(a, Variable) for a in arguments) or eqn.effects:
        return False
    size = sum(int(np.prod(v.aval.shape)) for v in eqn.outvars)
    largest = sum(int(np.prod(jnp.shape(a))) for a in arguments)
    return size <= max(_FOLD_LIMIT, largest)


def _bodies(
    eqn: Any, arguments: list[Atom], origin: Origin
) -> tuple[list[Atom], tuple[Program, ...]]:
    """The bodies of control flow, with loop constants read from the outside."""
    name, params = eqn.primitive.name, eqn.params
    if name == "cond":
        operands = arguments[1:]
        bodies = [
            _flatten(branch, (), operands, origin) for branch in params["branches"]
        ]
        return arguments[:1], tuple(bodies)
    if name == "while":
        split = params["cond_nconsts"]
        stop = split + params["body_nconsts"]
        carried = [
            _variable(v.aval, "carry", "a while loop")
            for v in params["body_jaxpr"].jaxpr.invars[params["body_nconsts"] :]
        ]
        test = _flatten(
            params["cond_jaxpr"], tuple(carried), [*arguments[:split], *carried], origin
        )
        body = _flatten(
            params["body_jaxpr"],
            tuple(carried),
            [*arguments[split:stop], *carried],
            origin,
        )
        return arguments[stop:], (test, body)
    if name == "scan":
        count = params["num_consts"]
        moving = [
            _variable(v.aval, "carry", "a scan")
            for v in params["jaxpr"].jaxpr.invars[count:]
        ]
        body = _flatten(
            params["jaxpr"], tuple(moving), [*arguments[:count], *moving], origin
        )
        return arguments[count:], (body,)
    return arguments, ()
