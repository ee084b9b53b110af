"""Random numbers as a function of a key and a counter: Threefry-2×32 (Salmon et al.
2011, Parallel random numbers: as easy as 1, 2, 3), to the bit those of `jax.random`.

JAX's own function of many keys at once takes eight times as long on a CPU, and several
times as long to compile, which matters where every node of a tree has a key.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray, UInt, UInt32

P = ParamSpec("P")
R = TypeVar("R")

Words = tuple[UInt[Array, "..."], ...]
"""Keys or random bits: one array of 64 bits, or two of 32 where JAX has no longer
ones. XLA computes two arrays by two loops, each of which takes all rounds."""

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def drawing(function: Callable[P, R]) -> Callable[P, R]:
    """A function that draws, whatever promotions of dtypes and ranks a user forbids."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return function(*args, **kwargs)

    return wrapped


def is_counter_based(key: PRNGKeyArray) -> bool:
    """Whether `jax.random` makes numbers of a key as [`bits`][hybrid_nds.noise] does:
    Threefry does not in the order of JAX before 0.5."""
    partitionable = bool(jax.config.jax_threefry_partitionable)  # pyright: ignore
    return partitionable and str(jr.key_impl(key)) == "threefry2x32"


def threefry_key(key: PRNGKeyArray) -> PRNGKeyArray:
    """A key of Threefry, from the bits of a key of any kind.

    What JAX's other generators draw for many keys under `jax.vmap` is not what they
    draw for each, so that no path would be a function of its key.
    """
    if str(jr.key_impl(key)) == "threefry2x32":
        return key
    data = jr.key_data(key)
    made = jr.wrap_key_data(data[..., :2], impl="threefry2x32")
    for position in range(2, data.shape[-1]):
        made = jr.fold_in(made, data[..., position])
    return made


def words_of(key: Key[Array, ...]) -> Words:
    """The bits of a key."""
    data = jr.key_data(key)
    return _packed(data[..., 0], data[..., 1])


def bits(keys: Words, counters: UInt32[Array, "*shape"] | np.ndarray) -> Words:
    """The random bits of keys at counters below 2³², which are also the children's
    keys of `jax.random.split`."""
    first, second = _unpacked(keys)
    schedule = (first, second, first ^ second ^ _PARITY)
    x, y = first, second + counters
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = x ^ (y << np.uint32(rotation) | y >> np.uint32(32 - rotation))
        x = x + schedule[(group + 1) % 3]
        y = y + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return _packed(x, y)


def normals(words: Words, dtype: np.dtype) -> Float[Array, "*shape"]:
    """Standard normal numbers from random bits, as `jax.random.normal` makes them."""
    info = jnp.finfo(dtype)
    if info.bits == 64:
        whole = words[0]
    else:
        high, low = _unpacked(words)
        whole = high ^ low
    unsigned = whole.dtype
    # The fraction of a number from 1 to 2.
    fraction = whole >> np.asarray(info.bits - info.nmant, unsigned)
    one = np.ones((), dtype).view(unsigned)
    uniform = lax.bitcast_convert_type(fraction | one, dtype) - np.ones((), dtype)
    least = np.nextafter(np.asarray(-1, dtype), np.asarray(0, dtype))
    symmetric = uniform * (np.ones((), dtype) - least) + least
    return lax.erf_inv(jnp.maximum(least, symmetric)) * np.asarray(math.sqrt(2), dtype)


def _packed(high: Array, low: Array) -> Words:
    if jnp.result_type(float) != np.float64:
        return high, low
    return (high.astype(jnp.uint64) << np.uint64(32) | low.astype(jnp.uint64),)


def _unpacked(words: Words) -> tuple[Array, Array]:
    if len(words) == 2:
        return words[0], words[1]
    return (words[0] >> np.uint64(32)).astype(jnp.uint32), words[0].astype(jnp.uint32)
