"""Values and exceptions as bytes that other processes can read."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any

import cloudpickle


class _Pickler(cloudpickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        # To read it would start a second Julia where it arrives.
        if type(obj).__module__.partition(".")[0] == "juliacall":
            raise TypeError(
                "a Julia value cannot leave its process: convert it to NumPy or to "
                f"plain Python, got {type(obj).__name__}"
            )
        return super().reducer_override(obj)


def wrap(value: Any) -> bytes:
    """A value as bytes that another process can read.

    **Raises:** what pickling raises for a value that cannot leave its process.
    """
    with io.BytesIO() as file:
        _Pickler(file).dump(value)
        return file.getvalue()


def unwrap(data: bytes) -> Any:
    """The value that was wrapped."""
    return pickle.loads(data)


class PortableError:
    """Mixin of exceptions that are pickled with their message and their fields.

    By default Python makes an exception again by calling its class with the message
    alone, which fails where the constructor takes anything else, and breaks the process
    pool that waits for it. Here the constructor is not called. A field that cannot be
    pickled (a locally defined model with an open file, say) arrives as `None`, and a
    note of the exception says so.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _reduced(self)


class PortableResult:
    """Mixin of results that are pickled with functions that only cloudpickle sends:
    lambdas, and the functions of JAX, such as `jax.nn.relu` within a trained model."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), wrap(vars(self)))


class CarriedError(Exception):
    """An exception as bytes, where plain pickling would lose it."""

    def __init__(self, data: bytes):
        super().__init__(data)
        self.data = data


def portable(error: Exception) -> Exception:
    """An exception that another process can unpickle, for `delivered` to be read there.

    **Arguments:** `error`, of any class, also of one that cannot be unpickled by itself
    or that only the program's main module defines.

    **Returns:** the exception itself where pickling keeps it, or a `CarriedError`.
    """
    try:
        again = pickle.loads(pickle.dumps(error))
        if type(again) is type(error) and again.args == error.args:
            return error
    except Exception:
        # Plain pickling loses it, by any error of its own class: it goes as bytes.
        pass
    try:
        data = wrap(_reduced(error))
        make, values = unwrap(data)
        make(*values)
    except Exception:
        # Not even its fields travel: its class and its message do.
        summary = RuntimeError(f"{type(error).__name__}: {error}")
        return CarriedError(wrap(_reduced(summary)))
    return CarriedError(data)


def delivered(error: BaseException) -> BaseException:
    """The exception that `portable` sent, with the cause that it arrived with."""
    if not isinstance(error, CarriedError):
        return error
    make, values = unwrap(error.data)
    original = make(*values)
    original.__cause__ = error.__cause__
    return original


def _restored(kind: type[Any], data: bytes) -> Any:
    result = object.__new__(kind)
    vars(result).update(unwrap(data))
    return result


def _reduced(error: Any) -> tuple[Any, tuple[Any, ...]]:
    fields, lost = {}, []
    for name, value in vars(error).items():
        try:
            data = wrap(value)
            unwrap(data)
            fields[name] = data
        except Exception as reason:
            lost.append(f"`{name}` could not be pickled and is None: {reason}")
            fields[name] = wrap(None)
    return _made, (type(error), error.args, fields, tuple(lost))


def _made(
    kind: type[BaseException],
    args: tuple[Any, ...],
    fields: Mapping[str, bytes],
    lost: tuple[str, ...],
) -> BaseException:
    error = kind.__new__(kind, *args)
    for name, data in fields.items():
        setattr(error, name, unwrap(data))
    for note in lost:
        error.add_note(note)
    return error
