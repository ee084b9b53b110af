"""What lowering gives: Julia source, with all it needs at run time."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable
from typing import Any, Literal, NoReturn

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from ._loops import Form as Form
from ._program import LoweringError

Part = Literal["field", "jacobian", "time_gradient", "product"]
"""What of a function is lowered: itself, a derivative of it, or the product of its
Jacobian with a vector."""


@dataclasses.dataclass(frozen=True, eq=False)
class LoweredFunction:
    """A JAX function as Julia source, with what it needs at run time.

    **Fields:**

    - `name`: the Julia function's name.
    - `source`: its definition. In array form `name(out, u, p, t, w, c)` writes to
        `out`; in scalar form `name(u, p, t, c)` returns a static array.
    - `workspace`: element kind and dimensions of each work array in `w`; kind
        `"float"` is the generic element type of the call.
    - `constants`: the constant arrays in `c`, in C order.
    - `form`: `"array"` or `"scalar"`.
    - `output_shape`: what is written: `(n,)`, or `(n, n)` for a Jacobian with rows
        the outputs and columns the inputs, as Julia indexes it; of a sparse one the
        number of its entries.
    - `dtype`: the working precision.
    """

    name: str
    source: str
    workspace: tuple[tuple[str, tuple[int, ...]], ...]
    constants: tuple[np.ndarray, ...]
    form: Form
    output_shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def output_size(self) -> int:
        """The number of scalars written."""
        return math.prod(self.output_shape)


@dataclasses.dataclass(frozen=True, eq=False)
class LoweredProblem:
    """A problem's field and its derivatives as Julia source.

    `parameters` is the flat vector `p` of this problem's weights, shape
    `(parameters,)`; the sources are the same for any other weights.
    """

    drift: LoweredFunction
    jacobian: LoweredFunction
    time_gradient: LoweredFunction
    parameters: np.ndarray
    dimension: int
    dtype: np.dtype


class Lowerings:
    """Lowered functions of one origin, equal to others of the same source.

    **Arguments:** the functions by the part of the origin that they are.
    """

    def __init__(self, functions: Iterable[tuple[Part, LoweredFunction]]):
        self._known = {(f.form, part): f for part, f in functions}
        digest = hashlib.sha256()
        for key, f in sorted(self._known.items(), key=lambda item: item[0]):
            said = (key, f.source, f.workspace, f.output_shape, f.dtype.str)
            digest.update(repr(said).encode())
            for array in f.constants:
                digest.update(repr((array.dtype.str, array.shape)).encode())
                digest.update(array.tobytes())
        self._digest = digest.digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lowerings) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def get(self, form: Form, part: Part) -> LoweredFunction:
        """One of the functions; `LoweringError` where it is not among them."""
        if (form, part) not in self._known:
            known = ", ".join(f"{part} in {form} form" for form, part in self._known)
            raise LoweringError(
                f"LoweredField: no {part} in {form} form was stored, only {known}."
            )
        return self._known[form, part]


class LoweredField(eqx.Module):
    """What is left of a function where the function itself cannot go.

    It holds what [`lower`][hybrid_nds.lowering.lower] gave for the function, and
    `lower` gives it again: a problem with such a field can be sent to a process that
    has Julia, and solved there. JAX cannot call it.

    **Arguments:**

    - `parameters`: the parameter vector, shape `(parameters,)`, of the function and
        its arguments together; its problem has no `args` of its own.
    - `lowerings`: the lowered functions.
    """

    parameters: Float[Array | np.ndarray, " parameters"]
    lowerings: Lowerings = eqx.field(static=True)

    def lowered(self, form: Form, part: Part) -> LoweredFunction:
        """The function, or a derivative of it, as it was lowered."""
        return self.lowerings.get(form, part)

    def __call__(self, t: Any, y: Any, args: Any) -> NoReturn:
        raise LoweringError(
            "LoweredField: only Julia can evaluate it; JAX needs the function that it "
            "was made from."
        )
