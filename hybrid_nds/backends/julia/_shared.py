"""Solves in Julia that any thread and any compiled program may run, several at once."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..._core import LRU
from ...problems import Problem
from ...runtime import Reference, Session
from ._derivatives import Differentiable
from ._layout import COUNTS
from ._prepared import ParameterSource, StateLayout

# Sets of arrays for solves of other shapes that a thread keeps.
_KEPT_ARRAYS = 4
# Tolerances, of which provenances speak, for which structures are stored.
_KEPT_STRUCTURES = 64

# The codes of XLA_FFI_DataType.
_TYPES = {"int32": 4, "int64": 5, "float32": 11, "float64": 12}


class _Buffer(ctypes.Structure):
    """An array as XLA describes it to a handler: `XLA_FFI_Buffer`."""

    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("extension", ctypes.c_void_p),
        ("dtype", ctypes.c_int32),
        ("data", ctypes.c_void_p),
        ("rank", ctypes.c_int64),
        ("dims", ctypes.c_void_p),
    )


class _Arrays:
    """Arrays with their descriptions, for Julia to read or to write."""

    def __init__(self, arrays: Sequence[np.ndarray]):
        self.arrays = list(arrays)
        self._dims = [(ctypes.c_int64 * max(a.ndim, 1))(*a.shape) for a in arrays]
        self._buffers = [
            _Buffer(
                ctypes.sizeof(_Buffer),
                None,
                _TYPES[array.dtype.name],
                array.ctypes.data,
                array.ndim,
                ctypes.addressof(dims),
            )
            for array, dims in zip(arrays, self._dims, strict=True)
        ]
        self._list = (ctypes.c_void_p * len(self.arrays))(
            *(ctypes.addressof(buffer) for buffer in self._buffers)
        )
        self.address = ctypes.addressof(self._list)


class Memory:
    """The operands and results of one solve at a time, filled from its problem.

    **Arguments:** the problem, the weights of its functions, the lengths of its
    operands.

    **Fields:** the operands and the results; `filled_for`, what the operands were
    filled for last.
    """

    def __init__(self, problem: Problem, weights: Any, shapes: Sequence[int]):
        self.filled_for: object = None
        dtype = problem.dtype
        self.operands = _Arrays([np.zeros(shape, dtype) for shape in shapes])
        self.results = _results((), shapes[0], shapes[4], dtype, np.dtype(np.int64))
        self._layout = StateLayout(problem.y0)
        self._weights = ParameterSource(weights, self.operands.arrays[1])

    def fill(self, problem: Problem, weights: Any, others: Sequence[Any]) -> None:
        """Write the state and the weights of a problem, and the other operands."""
        self.filled_for = None
        self._layout.flatten(problem.y0, self.operands.arrays[0])
        self._weights.fill(weights)
        for target, values in zip(self.operands.arrays[2:], others, strict=True):
            if target.size:
                target[:] = values


class SharedSolve:
    """A solve in Julia that plain calls and compiled programs share.

    **Arguments:** the session, the reference to the solve, and its derivatives, or why
    it has none.

    **Fields:** the number and the reference of the solve; `solutions`, the structures
    of solutions that were made of it, by provenance.
    """

    def __init__(
        self,
        session: Session,
        reference: Reference,
        differentiable: Differentiable | str,
    ):
        self.number = reference.number
        self._differentiable = differentiable
        # Kept for as long as this object, which compiled programs hold.
        self.reference = reference
        self.solutions: dict[Any, Any] = {}
        self._session = session
        self._own = threading.local()

    @property
    def refusal(self) -> str:
        """Why the solve has no derivatives, empty where it has them."""
        reason = self._differentiable
        return reason if isinstance(reason, str) else ""

    @property
    def derivatives(self) -> Differentiable:
        """The derivatives of a solve that has them."""
        assert isinstance(self._differentiable, Differentiable)
        return self._differentiable

    def memory(self, shapes: tuple[int, ...], make: Callable[[], Memory]) -> Memory:
        """The memory of this thread for operands of these shapes, made where there is
        none."""
        memories: LRU[Memory] | None = getattr(self._own, "memories", None)
        if memories is None:
            memories = self._own.memories = LRU(_KEPT_ARRAYS)
        return memories.get(shapes, make)

    def path_arrays(
        self, path: Any, read: Callable[[], list[np.ndarray]]
    ) -> list[np.ndarray]:
        """The arrays of a path, read again only for another one than before."""
        known = getattr(self._own, "path", None)
        if known is None or known[0] is not path:
            known = self._own.path = path, read()
        return known[1]

    def keep_structure(self, provenance: Any, structure: Any) -> None:
        """Remember the structure of a solution."""
        if len(self.solutions) >= _KEPT_STRUCTURES:
            self.solutions.clear()
        self.solutions[provenance] = structure

    def solve(self, memory: Memory) -> list[np.ndarray]:
        """Solve with what is in a memory; what is returned is written to again."""
        if self._session.interrupts.listening():
            self._enter(self.number, memory.operands, memory.results)
        else:
            with self._session.interrupts.armed():
                self._enter(self.number, memory.operands, memory.results)
        return memory.results.arrays

    def run(
        self, operands: Sequence[np.ndarray], integer: np.dtype
    ) -> list[np.ndarray]:
        """Solve a batch on operands, whose leading axes are those of the batch
        or of length 1; counts are of the dtype `integer`."""
        batch = np.broadcast_shapes(*(array.shape[:-1] for array in operands))
        states, times = operands[0].shape[-1], operands[4].shape[-1]
        results = _results(batch, states, times, operands[0].dtype, integer)
        return self.call(self.number, operands, results.arrays)

    def call(
        self,
        number: int,
        operands: Sequence[np.ndarray],
        results: Sequence[np.ndarray],
    ) -> list[np.ndarray]:
        """Run this solve, or another call that belongs to it, by its number in Julia.

        **Returns:** the results, which were written.
        """
        inputs = _Arrays([np.ascontiguousarray(array) for array in operands])
        made = _Arrays(results)
        if self._enter(number, inputs, made) == 1:
            raise RuntimeError("solve: interrupted.")
        return made.arrays

    def _enter(self, number: int, operands: _Arrays, results: _Arrays) -> int:
        self._session.check_callable()
        code = self._session.bridge.solve(
            number,
            operands.address,
            len(operands.arrays),
            results.address,
            len(results.arrays),
        )
        if code < 0:
            text = self._session.bridge.text("failure_message", -code)
            raise RuntimeError(text.split("\n", 1)[1])
        if code > 1:
            raise RuntimeError(
                "solve: Julia does not know this solve, or takes other arrays than "
                f"{[f'{a.dtype}{list(a.shape)}' for a in operands.arrays]}. This is a "
                "bug in hybrid_nds: please report it with the problem."
            )
        return code


def _results(
    batch: tuple[int, ...], states: int, times: int, dtype: np.dtype, integer: np.dtype
) -> _Arrays:
    return _Arrays(
        [
            np.empty((*batch, times), dtype),
            np.empty((*batch, times, states), dtype),
            np.empty(batch, dtype),
            np.empty((*batch, states), dtype),
            np.empty((*batch, COUNTS), integer),
        ]
    )
