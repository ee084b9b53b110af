"""Diffrax's virtual Brownian tree on whole grids, level by level.

`diffrax.VirtualBrownianTree` descends to one time from the root; a grid of n steps
takes 2n descents, each of log₂ n nodes. Here all nodes of a level are halved at once:
n nodes for n steps. Random numbers are the same, and what is drawn differs by
roundings alone: an increment is that of its own interval, which a descent leaves to the
difference of two values of the path.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float

from ._threefry import Words, bits, drawing, normals

# Counters by which Diffrax splits the key of a node: those of its halves, the first
# and the second, and that of its middle; and of the whole tree that of its root.
_HALVES, _MIDDLE, _ROOT = (2, 0), np.array(1, np.uint32), 0
# Up to so many levels are descended in one loop; of more the last few in one of their
# own: later levels have more nodes, and each is followed from the start of its loop.
_ONE_LOOP, _LAST = 7, 4


class Intervals(NamedTuple):
    """Neighbouring intervals of one level of the tree.

    **Fields:** the increment of the path in each, shape `(intervals, m)`; the integrals
    $\\bar H = lH$ and $\\bar K = l^2K$ of its Lévy areas, $l$ the length, as many as
    are drawn; the keys, where they are halved further.
    """

    values: tuple[Float[Array, "intervals m"], ...]
    keys: Words | None


@drawing
def whole_span(
    key: Words, areas: int, m: int, depth: int, count: int, dtype: np.dtype, keys: bool
) -> Intervals:
    """The first intervals of a level of the tree over a unit of time.

    **Arguments:** the key of the tree; how many areas are drawn, 0 to 2; the dimension;
    the level and how many of its intervals; the precision; whether their keys are
    wanted.
    """
    start = jtu.tree_map(lambda word: word[None], key)
    levels = _descend(start, depth, count, keys, of_tree=True)
    above = levels[:depth]
    if areas:
        own = jtu.tree_map(lambda word: jnp.broadcast_to(word, (areas + 1,)), start)
        kinds = np.arange(1, areas + 2, dtype=np.uint32)
        rows = [bits(own, kinds), *([_own_keys(above, areas)] if depth else [])]
    else:
        rows = [start, *above]
    z = _normals(rows, areas, m, dtype)
    scales = (1.0, 1 / math.sqrt(12), 1 / math.sqrt(720))
    values = tuple(z[k, :, :1] * scales[k] for k in range(areas + 1))
    found = _halved(values, z[..., 1:], 0, depth, count)
    return Intervals(found, levels[-1] if keys else None)


@drawing
def halves(
    one: Intervals, level: int, depth: int, areas: int, m: int, dtype: np.dtype
) -> tuple[Float[Array, "intervals m"], ...]:
    """All intervals so many levels below one interval, its fields without their axis.

    **Arguments:** the interval and its level; how many levels below; the number of
    areas, the dimension and the precision.
    """
    assert one.keys is not None
    if not depth:
        return tuple(value[None] for value in one.values)
    values = tuple(value[:, None] for value in one.values)
    start = jtu.tree_map(lambda word: word[None], one.keys)
    levels = _descend(start, depth, 2**depth, False, of_tree=False)
    rows = [_own_keys(levels, areas)] if areas else levels
    z = _normals(rows, areas, m, dtype)
    return _halved(values, z, level, depth, 2**depth)


def _counts(depth: int, count: int) -> list[int]:
    """How many nodes of each level are needed for the first `count` leaves."""
    return [-(-count // 2 ** (depth - level)) for level in range(depth)]


def _descend(
    start: Words, depth: int, count: int, last: bool, *, of_tree: bool
) -> list[Words]:
    """The keys of all nodes above a level of the tree, level by level, and where
    `last` asks for it those of that level.

    All nodes of a level descend together from one far above, in one loop: to unroll it
    saves a little time, and takes seconds to compile.

    **Arguments:** the key of the first node, or with `of_tree` that of the tree.
    """
    counts = [*_counts(depth, count), count]
    depth = depth if last else depth - 1
    if depth < 0:
        return []
    lowest = _LAST if depth > _ONE_LOOP else depth
    levels: list[Words] = []
    for part in [some for some in (depth - lowest, lowest) if some] or [0]:
        if not levels:
            # The key of the tree is one above that of its root.
            levels = _loop(start, counts[: part + 1], of_tree)
        else:
            first = len(levels) - 1
            below = _loop(levels[-1], counts[first : first + part + 1], False)
            levels += below[1:]
    return levels


def _loop(top: Words, counts: list[int], of_tree: bool) -> list[Words]:
    """The keys of the first nodes of some levels, from those of the first level, or
    with `of_tree` from the key above it."""
    depth = len(counts) - 1
    width = 2**depth
    starts = -(-counts[-1] // width)
    positions = np.arange(starts * width)
    turns = [positions >> (depth - 1 - k) & 1 for k in range(depth)]
    table = [np.array(_HALVES, np.uint32)[turn] for turn in turns]
    if of_tree:
        table.insert(0, np.full(len(positions), _ROOT, np.uint32))

    def spread(word: Array) -> Array:
        return jnp.broadcast_to(word[:starts, None], (starts, width)).reshape(-1)

    def down(keys: Words, counters: Array) -> tuple[Words, Words]:
        # What comes in, since XLA would compute what goes out once more for it.
        return bits(keys, counters), keys

    counters = jnp.asarray(np.array(table, np.uint32).reshape(-1, len(positions)))
    end, found = jax.lax.scan(down, jtu.tree_map(spread, top), counters)
    rows = jtu.tree_map(
        lambda above, below: jnp.concatenate([above, below[None]]), found, end
    )

    def level(k: int) -> Words:
        stride = width >> k
        row = k + of_tree
        return jtu.tree_map(lambda row_of: row_of[row, ::stride][: counts[k]], rows)

    return [level(k) for k in range(depth + 1)]


def _own_keys(levels: list[Words], areas: int) -> Words:
    """The keys of the normal numbers of each node, one after the other."""
    middles = bits(_joined(levels), _MIDDLE)
    kinds = np.arange(areas + 1, dtype=np.uint32)
    found = bits(jtu.tree_map(lambda word: word[:, None], middles), kinds)
    return jtu.tree_map(jnp.ravel, found)


def _joined(parts: list[Words]) -> Words:
    return jtu.tree_map(lambda *words: jnp.concatenate(words), *parts)


def _normals(
    rows: list[Words], areas: int, m: int, dtype: np.dtype
) -> Float[Array, "kinds m nodes"]:
    """The normal numbers of nodes: of their own keys, `areas + 1` for each, or without
    areas of the nodes' keys."""
    joined = _joined(rows)
    count = joined[0].shape[0]
    # In two pieces, since XLA joins what is drawn with what is made of it, and draws
    # each number again for every level below; from a loop it must take it as it is.
    pieces = jtu.tree_map(
        lambda word: jnp.pad(word, (0, count % 2)).reshape(2, 1, -1), joined
    )
    # Components first: loops over the last axis are the ones that are vectorized.
    counters = np.arange(m, dtype=np.uint32)[:, None]

    def piece(_: None, keys: Words) -> tuple[None, Array]:
        if not areas:
            keys = bits(keys, _MIDDLE)
        return None, normals(bits(keys, counters), dtype)

    _, z = jax.lax.scan(piece, None, pieces)
    z = jnp.swapaxes(z, 0, 1).reshape(m, -1)[:, :count]
    return jnp.moveaxis(z.reshape(m, -1, areas + 1), 2, 0)


def _halved(
    values: tuple[Array, ...], z: Array, level: int, depth: int, count: int
) -> tuple[Array, ...]:
    """Intervals halved again and again.

    The formulas are those of `diffrax.VirtualBrownianTree` for the increments and
    integrals over both halves (Foster 2020, theorem 6.1.6; Jelinčič et al. 2024).
    """
    begin = 0
    # One array for all, and for both halves: XLA compiles a loop for each.
    stacked = jnp.stack(values)
    for k, nodes in enumerate(_counts(depth, count)):
        drawn = list(z[..., begin : begin + nodes])
        begin += nodes
        pairs = _of_halves(tuple(stacked[..., :nodes]), drawn, 2.0 ** -(level + k))
        both = jnp.stack([jnp.stack(pair, axis=2) for pair in pairs])
        stacked = both.reshape(len(values), -1, 2 * nodes)
    return tuple(jnp.swapaxes(stacked[..., :count], 1, 2))


def _of_halves(
    values: tuple[Array, ...], z: list[Array], length: float
) -> list[tuple[Array, Array]]:
    """What belongs to the first and the second half of each interval."""
    if len(values) == 1:
        mean = 0.5 * values[0]
        bridge = (math.sqrt(length) / 2) * z[0]
        return [(mean + bridge, mean - bridge)]
    w, h = values[:2]
    middle = z[0] * (math.sqrt(length) / 4)
    bridge = (3 / (2 * length)) * h + middle
    found = [(w / 2 + bridge, w / 2 - bridge)]
    shared = h / 8 - (length / 4) * middle
    if len(values) == 2:
        apart = (length / 4) * (z[1] * math.sqrt(length / 12))
        return [*found, (shared + apart, shared - apart)]
    k = values[2]
    slope = z[1] * math.sqrt(length / 768)
    apart = (15 / (8 * length)) * k + (length / 2) * slope
    found.append((shared + apart, shared - apart))
    shared = k / 32 - (length**2 / 8) * slope
    apart = (length**2 / 4) * (z[2] * math.sqrt(length / 2880))
    return [*found, (shared + apart, shared - apart)]
