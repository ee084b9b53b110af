"""Solves in fixed steps as one `jax.lax.scan` over the step of a Diffrax solver.

The step is Diffrax's own; what is left out is its loop, which can reject steps, watch
events and buffer an unknown number of them, and takes five times as long to compile.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from ..._core import is_concrete
from ...noise import Blocks, BrownianPath, NativePath, StoredPath, blocks_of
from ...problems import ODEProblem, Problem
from ...solution import Solution
from .._options import MOST_FIXED_STEPS, Options
from ._run import (
    DiffeqsolveArguments,
    is_unstable,
    make_solution,
    outcome_of,
    promotion_of,
    reached,
    up_to_failure,
)
from ._unroll import MOST_PASSES, unrolled

Path = BrownianPath | StoredPath | NativePath

# So many steps are taken in one piece, and a derivative keeps what each computed.
_PLAIN_STEPS = 128
# A path of more steps is drawn as it is followed.
_KEPT_STEPS = 2**18


class Grid(eqx.Module):
    """The steps of a solve, and what is saved of them.

    **Fields:** the times of the steps, shape `(steps + 1,)`; the times to save, shape
    `(saved,)`, `None` for the end alone, and the step that reaches each (−1 is the
    start); for each step the rows of the saved states that it fills, shape
    `(steps, most)`, where the row after the last is for none; and the times of these
    where some lie between steps; and how derivatives are taken, as in `solve`.
    """

    times: Float[Array, " times"]
    saved: Float[Array, " saved"] | None
    reached: Int[Array, " saved"] | None
    rows: Int[Array, "steps most"] | None
    between: Float[Array, "steps most"] | None
    adjoint: str = eqx.field(static=True)


class Scan(NamedTuple):
    """What a scan leaves: saved times and states, its outcome, the last time and state,
    and how many steps were taken."""

    ts: Array
    ys: PyTree[Array]
    outcome: Any
    end: tuple[Array, PyTree[Array]]
    steps: Array


class StepIncrement(diffrax.AbstractBrownianPath):
    """A Brownian path over one step, whose increment is given, as Diffrax's class."""

    increment: Any
    t0: Any
    t1: Any
    levy_area: Any = eqx.field(static=True)

    def __init__(self, increment: Any, t0: Any, t1: Any):
        self.increment, self.t0, self.t1 = increment, t0, t1
        self.levy_area = type(increment)

    def evaluate(
        self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False
    ) -> Any:
        """The increment, whatever the times: a solver asks for its own step."""
        del t0, t1, left
        return self.increment if use_levy else self.increment.W


class Increments(eqx.Module):
    """The increments of a Brownian path in all steps of its grid, as Diffrax's class
    with a leading axis of steps."""

    values: Any

    def along(self) -> Any:
        """All of them, with a leading axis of steps."""
        return self.values

    def blocks(self, length: int) -> Blocks:
        """A block of steps at a time."""
        return blocks_of(self.values, length)


def drawn(path: Path) -> Path | Increments:
    """A path with the increments of all its steps, or as it is where they are not
    random numbers, or too many to keep, or must be drawn in a program of the caller.

    To draw them takes about as long to compile as to solve: this is one program for all
    solves on a grid.
    """
    known = all(is_concrete(leaf) for leaf in jtu.tree_leaves(path))
    stored = isinstance(path, StoredPath)
    if known and not stored and path.steps <= _KEPT_STEPS:
        return Increments(draw(path))
    return path


@eqx.filter_jit
def draw(path: Path) -> Any:
    """The increments of a path in all its steps, as one program."""
    return path.along()


def ordinary_grid(problem: ODEProblem, options: Options) -> Grid | None:
    """The steps of an ordinary solve that can be a scan, or `None`.

    It can be in fixed steps forward in time, their number known while JAX traces, by a
    solver given by name, with derivatives of the computed solution.
    """
    if not options.fixed_steps or "stepsize_controller" in options.extra:
        return None
    if options.event is not None or not _suits(options):
        return None
    known = (problem.t0, problem.t1, options.dt)
    if not all(x is not None and is_concrete(x) for x in known):
        return None
    t0, t1, dt = (float(x) for x in known)
    if not (math.isfinite(t1) and t1 > t0 and dt > 0):
        return None
    # A last step of rounding's length is part of the one before it.
    slack = math.sqrt(float(np.finfo(problem.dtype).eps))
    count = max(1, math.ceil((t1 - t0) / dt - slack))
    if count > min(options.max_steps or MOST_FIXED_STEPS, MOST_FIXED_STEPS):
        return None
    times = np.append(t0 + dt * np.arange(count), t1).astype(problem.dtype)
    return _grid(times, options)


def stochastic_grid(options: Options) -> Grid | None:
    """The steps of a stochastic solve that can be a scan, or `None`; see
    [`ordinary_grid`][hybrid_nds.backends.diffrax.ordinary_grid]."""
    path = options.along
    if not options.fixed_steps or "stepsize_controller" in options.extra:
        return None
    if not _suits(options):
        return None
    if options.max_steps is not None and path.steps > options.max_steps:
        return None
    times = path.times
    if is_concrete(times):
        return _grid(np.asarray(times), options)
    if options.saveat is not None:
        return None
    return Grid(times, None, None, None, None, _adjoint(options))


def _suits(options: Options) -> bool:
    saveat = options.saveat
    return (
        (options.solver is None or isinstance(options.solver, str))
        and options.progress is False
        and options.adjoint in (None, "recursive_checkpoint", "direct", "forward")
        and (saveat is None or (not isinstance(saveat, str) and is_concrete(saveat)))
        and not isinstance(saveat, diffrax.SaveAt)
    )


def _adjoint(options: Options) -> str:
    return options.adjoint or "recursive_checkpoint"


def _grid(times: np.ndarray, options: Options) -> Grid:
    """The grid with the saved times placed in it."""
    adjoint = _adjoint(options)
    if options.saveat is None:
        return Grid(jnp.asarray(times), None, None, None, None, adjoint)
    saved = np.asarray(options.saveat, times.dtype)
    steps, count = len(times) - 1, len(saved)
    rounding = 8 * np.spacing(np.max(np.abs(times)))
    nearest = np.abs(saved[:, None] - times[_neighbours(times, saved)])
    on_grid = np.min(nearest, axis=1) <= rounding
    closest = np.take_along_axis(
        _neighbours(times, saved), np.argmin(nearest, axis=1)[:, None], axis=1
    )[:, 0]
    # Where a time lies between two grid times, the step that ends at the second.
    reached = np.where(on_grid, closest, np.searchsorted(times, saved)) - 1
    most = max(1, int(np.bincount(reached[reached >= 0], minlength=1).max()))
    rows = np.full((steps, most), count, np.int32)
    between = np.repeat(times[1:, None], most, axis=1)
    filled = np.zeros(steps, int)
    for row, step in enumerate(reached):
        if step >= 0:
            rows[step, filled[step]] = row
            if not on_grid[row]:
                between[step, filled[step]] = saved[row]
            filled[step] += 1
    return Grid(
        jnp.asarray(times),
        jnp.asarray(saved),
        jnp.asarray(reached.astype(np.int32)),
        jnp.asarray(rows),
        None if on_grid.all() else jnp.asarray(between),
        adjoint,
    )


def _neighbours(times: np.ndarray, saved: np.ndarray) -> np.ndarray:
    """The indices of the grid times before and after each time, shape `(saved, 2)`."""
    after = np.clip(np.searchsorted(times, saved), 1, len(times) - 1)
    return np.stack([after - 1, after], axis=1)


def scan_steps(
    grid: Grid,
    make_terms: Callable[[diffrax.AbstractBrownianPath | None], PyTree],
    path: Path | Increments | None,
    solver: diffrax.AbstractSolver,
    y0: PyTree[Array],
    args: PyTree,
) -> Scan:
    """Take the steps of a grid.

    Up to 128 steps, or with the adjoints `"direct"` and `"forward"` any number, reverse
    mode keeps what every step computed. With more it keeps the state at the ends of
    segments of some √steps or 128 steps, and computes the steps between again, one
    segment at a time. Increments of the path are drawn a segment at a time, too.

    **Arguments:** the grid; what makes the terms of the solver from the path over one
    step; the path, `None` for an ordinary problem; the solver; state and arguments.
    """
    steps = len(grid.times) - 1
    length = segment_length(steps)
    count = -(-steps // length)
    padded = count * length > steps
    solver = _with_stage_loop(solver, grid.adjoint)
    implicit = isinstance(solver, diffrax.AbstractImplicitSolver)

    def terms_of(t0: Any, t1: Any, increment: Any) -> PyTree:
        if path is None:
            return make_terms(None)
        return make_terms(StepIncrement(increment, t0, t1))

    few = _stages(solver) <= MOST_PASSES

    def step_of(terms: PyTree, t0: Any, t1: Any, y: Any, args: Any, state: Any) -> Any:
        y1, _, *rest = solver.step(terms, t0, t1, y, args, state, False)
        return (y1, *rest)

    def one_step(*given: Any) -> Any:
        return unrolled(step_of, *given) if few else step_of(*given)

    def take(carry: Any, step: Any) -> tuple[Any, None]:
        y, state, result, taken, kept = carry
        t0, t1, increment, rows, between, live = step
        terms = terms_of(t0, t1, increment)
        with promotion_of(solver):
            y1, dense, state1, found = one_step(terms, t0, t1, y, args, state)
        # Diffrax's ItoMilstein returns float64 where JAX has it, from a float32 too.
        y1 = jtu.tree_map(lambda new, old: new.astype(old.dtype), y1, y)
        good = live
        if implicit:
            # After a stage without a solution nothing moves any more.
            going = result == diffrax.RESULTS.successful
            if live is not None:
                going = going & live
            result = diffrax.RESULTS.where(going, found, result)
            good = going & (result == diffrax.RESULTS.successful)
            taken = taken + good.astype(taken.dtype)
        if good is not None:
            hold = lambda new, old: jnp.where(good, new, old)
            y1, state1 = jtu.tree_map(hold, (y1, state1), (y, state))
            if rows is not None:
                assert grid.saved is not None
                rows = jnp.where(good, rows, len(grid.saved))
        if rows is not None:
            for position in range(rows.shape[0]):
                value = y1
                if between is not None:
                    dense_output = solver.interpolation_cls(t0=t0, t1=t1, **dense)
                    at = between[position]
                    inner = dense_output.evaluate(at)
                    # At its end the step itself is exact, its interpolation rounds.
                    value = jtu.tree_map(
                        lambda end, mid, at=at: jnp.where(at == t1, end, mid), y1, inner
                    )
                kept = jtu.tree_map(
                    lambda rows_, leaf, row=rows[position]: (
                        lax.dynamic_update_index_in_dim(rows_, leaf, row, 0)
                    ),
                    kept,
                    value,
                )
        return (y1, state1, result, taken, kept), None

    def segment(
        carry: Any, increments: Any, index: Array, live: Array | None
    ) -> tuple[Any, None]:
        each = (grid.times[index], grid.times[index + 1], increments)
        rows = None if grid.rows is None else grid.rows[index]
        between = None if grid.between is None else grid.between[index]
        return lax.scan(take, carry, (*each, rows, between, live))

    blocks = None
    if path is not None and count > 1:
        blocks = path.blocks(length)
    increments = path.along() if path is not None and count == 1 else None

    def draw_block(start: Any) -> Any:
        return None if blocks is None else blocks.draw(start)

    starts = None if blocks is None else blocks.starts
    one = (
        jax.eval_shape(draw_block, jtu.tree_map(lambda leaf: leaf[0], starts))
        if count > 1
        else increments
    )
    blank = jtu.tree_map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), one)
    first = terms_of(grid.times[0], grid.times[1], blank)
    state = solver.init(first, grid.times[0], grid.times[1], y0, args)
    taken = jnp.asarray(0 if implicit else steps, jnp.int32)
    carry = (y0, state, diffrax.RESULTS.successful, taken, _start(grid, y0))
    if count == 1:
        carry, _ = segment(carry, increments, jnp.arange(steps), None)
    else:

        def run(carry: Any, block: Any) -> tuple[Any, None]:
            start, number = block
            index = number * length + jnp.arange(length)
            live = index < steps if padded else None
            return segment(
                carry, draw_block(start), jnp.minimum(index, steps - 1), live
            )

        if grid.adjoint == "recursive_checkpoint":
            run = jax.checkpoint(run, prevent_cse=False)
        carry, _ = lax.scan(run, carry, (starts, jnp.arange(count)))
    y, _, result, taken, kept = carry
    if not implicit:
        result = diffrax.RESULTS.successful
    end = (grid.times[taken] if implicit else grid.times[-1], y)
    if grid.saved is None or grid.reached is None:
        ts, ys = end[0][None], jtu.tree_map(lambda leaf: leaf[None], y)
    else:
        ts = jnp.where(grid.reached < taken, grid.saved, jnp.inf)
        ys = jtu.tree_map(lambda leaf: leaf[:-1], kept)
    return Scan(ts, ys, outcome_of(result, end[1]), end, taken)


def scan_solution(
    problem: Problem,
    arguments: DiffeqsolveArguments,
    options: Options,
    scan: Scan,
) -> Solution:
    """The solution of a scan."""
    if is_unstable(scan.outcome):
        return up_to_failure(problem, arguments, options, scan.outcome)
    stats = {
        "num_steps": scan.steps,
        "num_accepted_steps": scan.steps,
        "num_rejected_steps": jnp.zeros_like(scan.steps),
    }
    saved = reached(scan.ts, scan.ys)
    solver = arguments["solver"]
    return make_solution(solver, options, saved, stats, scan.outcome, scan.end)


def _with_stage_loop(
    solver: diffrax.AbstractSolver, adjoint: str
) -> diffrax.AbstractSolver:
    """The solver with the loop over its stages that suits the way derivatives go."""
    if getattr(solver, "scan_kind", "none") is not None:
        return solver
    kind = "lax"
    if _stages(solver) <= MOST_PASSES:
        # Written out, it needs no derivative as a loop.
        adjoint = "forward"
    if isinstance(solver, diffrax.AbstractRungeKutta):
        # Theirs is a `while` loop, of which Equinox has a kind for each mode.
        kind = {"forward": "lax", "direct": "bounded"}.get(adjoint, "checkpointed")
    return eqx.tree_at(
        lambda s: s.scan_kind, solver, kind, is_leaf=lambda leaf: leaf is None
    )


def _stages(solver: diffrax.AbstractSolver) -> float:
    """How many stages an explicit method goes through in a loop, infinitely many where
    there is no such loop."""
    tableau = getattr(solver, "tableau", None)
    if isinstance(solver, diffrax.AbstractImplicitSolver) or tableau is None:
        return math.inf
    weights = getattr(tableau, "b_sol", None)
    return math.inf if weights is None else len(weights)


def _start(grid: Grid, y0: PyTree[Array]) -> PyTree[Array] | None:
    """Rows for saved states, and one for what is not saved; the start where it is."""
    if grid.reached is None:
        return None
    at_start = jnp.append(grid.reached < 0, False)

    def rows(leaf: Array) -> Array:
        mask = at_start.reshape(-1, *(1,) * leaf.ndim)
        return jnp.where(mask, leaf, jnp.full_like(leaf, jnp.inf))

    return jtu.tree_map(rows, y0)


def segment_length(steps: int) -> int:
    """How many steps are taken in one piece: all where they are few, else a power of
    two between 16 and four times their square root or 128, such that little is computed
    beyond the last step."""
    if steps <= _PLAIN_STEPS:
        return steps
    root = max(_PLAIN_STEPS, 4 * math.isqrt(steps))
    lengths = [2**k for k in range(4, root.bit_length())]
    # A segment costs about as much as four steps beside its own.
    return min(lengths, key=lambda length: -(-steps // length) * (length + 4))
