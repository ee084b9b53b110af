"""Samples of a distribution in normal form."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float


def as_samples(
    caller: str, name: str, values: Any, least: int = 2
) -> Float[np.ndarray, "samples d"]:
    """Samples as a matrix in double precision.

    **Arguments:** who asks and the argument's name, for errors; shape `(samples,)` or
    `(samples, d)`; how many samples are needed at least.

    **Returns:** shape `(samples, d)`, float64.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(
            f"{caller}: `{name}` must hold real numbers, got dtype {array.dtype}."
        )
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(
            f"{caller}: `{name}` must have shape (samples,) or (samples, d), got "
            f"{array.shape}; bring states with more axes to one by reshape."
        )
    array = array.astype(np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if len(array) < least:
        raise ValueError(
            f"{caller}: `{name}` must hold at least {least} samples, got {len(array)}."
        )
    if not np.all(np.isfinite(array)):
        row = int(np.argmax(~np.all(np.isfinite(array), axis=1)))
        raise ValueError(
            f"{caller}: `{name}` must be finite, but sample {row} is {array[row]}; "
            "leave failed trajectories out and say how many there were."
        )
    return array


def two_samples(
    caller: str, a: Any, b: Any, least: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Two samples in normal form, of distributions on one space.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """
    first, second = as_samples(caller, "a", a, least), as_samples(caller, "b", b, least)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"{caller}: `a` and `b` must have as many components, got "
            f"{first.shape[1]} and {second.shape[1]}."
        )
    return first, second


def normalized(
    first: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Both samples about one centre and in a unit that makes them of order one.

    Distances then neither drown in the samples' offset nor overflow when squared. The
    centre is one of the points and the unit a power of two, so that nothing but the
    subtraction rounds.

    **Returns:** both samples, and the exponent of the unit.
    """
    # Halves: the difference of two numbers can overflow where they do not.
    centre = first[len(first) // 2] / 2
    first, second = first / 2 - centre, second / 2 - centre
    largest = max(float(np.max(np.abs(first))), float(np.max(np.abs(second))))
    exponent = int(np.frexp(largest)[1])
    return np.ldexp(first, -exponent), np.ldexp(second, -exponent), exponent + 1


def in_unit(caller: str, value: float, exponent: int) -> float:
    """A distance of normalized samples in the unit that the samples came in.

    **Raises:** `ValueError` for one beyond double precision.
    """
    with np.errstate(over="ignore", under="ignore"):
        found = float(np.ldexp(value, exponent))
    if not np.isfinite(found):
        raise ValueError(
            f"{caller}: the distance of `a` and `b` must be a finite number of double "
            f"precision, got {value:.3g} * 2**{exponent}; give the samples in a larger "
            "unit."
        )
    return found


def thinned(samples: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the samples, evenly spaced: independent ones stay so."""
    if len(samples) <= most:
        return samples
    return samples[np.linspace(0, len(samples) - 1, most).astype(int)]


def generator(caller: str, seed: Any) -> np.random.Generator:
    """The random numbers of a test, the same for the same seed.

    **Raises:** `TypeError` for a seed that is no integer.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise TypeError(
            f"{caller}: `seed` must be a non-negative integer, got {seed!r}."
        )
    return np.random.default_rng(int(seed))
