"""Fixed steps as one scan: the same states as Diffrax's own loop, derivatives too."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from hybrid_nds import BrownianPath, ODEProblem, SDEProblem, StoredPath, solve
from hybrid_nds.backends import check_options
from hybrid_nds.backends.diffrax._scan import ordinary_grid, stochastic_grid
from hybrid_nds.methods import ODE_METHODS

EPS = np.finfo(float).eps
ORDINARY = [s.name for s in ODE_METHODS if s.diffrax and s.order]


def pendulum(t, y, args):
    return jnp.stack([y[1], -args * jnp.sin(y[0]) + 0.1 * jnp.cos(t)])


PENDULUM = ODEProblem(pendulum, np.array([1.0, 0.3]), 0.0, 1.0, np.array(2.0))
LOOP = {"stepsize_controller": diffrax.ConstantStepSize()}


@pytest.mark.parametrize("solver", ORDINARY)
def test_every_solver_takes_the_steps_of_the_loop(solver):
    saved = [0.0, 0.25, 0.3, 0.31, 1.0]
    options = {"solver": solver, "dt": 1 / 16, "saveat": saved}
    scan = solve(PENDULUM, **options)
    loop = solve(PENDULUM, **options, **LOOP)
    # Sixteen steps of at most nine stages, each of some ten roundings. Implicit stages
    # are found by the same iteration from the same guess.
    limit = 16 * 9 * 10 * EPS
    np.testing.assert_allclose(scan.ys, loop.ys, rtol=limit, atol=limit)
    np.testing.assert_array_equal(scan.ts, loop.ts)
    assert int(scan.stats["num_steps"]) == int(loop.stats["num_steps"]) == 16
    assert scan.outcome_name == "success"


@settings(max_examples=30, deadline=None)
@given(
    steps=st.integers(1, 40),
    over=st.floats(0.0, 0.999),
    parts=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=7),
    shift=st.sampled_from([0.0, 3.0, -1e3]),
    scale=st.sampled_from([1e-9, 1.0, 1e6]),
)
def test_times_fall_into_the_step_that_holds_them(steps, over, parts, shift, scale):
    """Each saved time is at the end of its step or inside it, whatever the units."""
    t0, dt = shift * scale, scale / steps
    t1 = t0 + scale + over * dt
    saved = np.unique(t0 + np.array(parts) * (t1 - t0))
    problem = ODEProblem(pendulum, np.ones(2), t0, t1, np.array(1.0))
    options = check_options(
        problem,
        "diffrax",
        solver="Euler",
        rtol=None,
        atol=None,
        dt=dt,
        saveat=saved,
        adjoint=None,
        event=None,
        max_steps=None,
        progress=False,
        extra={},
    )
    grid = ordinary_grid(problem, options)
    times = np.asarray(grid.times)
    assert times[0] == t0
    assert times[-1] == t1
    lengths = np.diff(times)
    rounding = 4 * np.spacing(max(abs(t0), abs(t1)))
    assert np.all(lengths <= dt * (1 + 2e-8) + rounding)
    assert np.all(lengths > 0)
    rows, reached = np.asarray(grid.rows), np.asarray(grid.reached)
    for row, time in enumerate(saved):
        step = reached[row]
        if step < 0:
            assert time <= t0 + 8 * rounding
            continue
        assert row in rows[step]
        assert times[step] - 8 * rounding <= time <= times[step + 1] + 8 * rounding
    assert sorted(rows[rows < len(saved)]) == [
        r for r in range(len(saved)) if reached[r] >= 0
    ]


def loss(y0, problem, **options):
    moved = eqx.tree_at(lambda p: p.y0, problem, y0)
    return jnp.sum(solve(moved, **options).ys ** 2)


@pytest.mark.parametrize("steps", [pytest.param(60, marks=pytest.mark.slow), 500, 257])
def test_gradients_agree_in_both_modes_with_the_loop(steps):
    """One piece, whole segments, and a number without a divisor near its root."""
    options = {"solver": "Heun", "dt": 1 / steps, "saveat": [0.5, 1.0]}
    y0 = jnp.asarray(PENDULUM.y0)
    reverse = jax.grad(loss)(y0, PENDULUM, **options)
    forward = jax.jacfwd(loss)(y0, PENDULUM, **options, adjoint="forward")
    direct = jax.grad(loss)(y0, PENDULUM, **options, adjoint="direct")
    loop = jax.grad(loss)(y0, PENDULUM, **options, **LOOP)
    limit = steps * 60 * EPS
    for other in (forward, direct, loop):
        np.testing.assert_allclose(reverse, other, rtol=limit)


def test_reverse_mode_keeps_the_square_root_of_many_steps():
    """By the largest array that the backward pass reads: no axis as long as the
    solve."""
    steps = 4096
    problem = ODEProblem(pendulum, jnp.ones(2), 0.0, 1.0, np.array(2.0))

    def kept(adjoint):
        _, pullback = jax.vjp(
            lambda y: loss(y, problem, solver="Euler", dt=1 / steps, adjoint=adjoint),
            jnp.ones(2),
        )
        leaves = jax.tree_util.tree_leaves(pullback)
        # The grid itself, a time and an index a step, is no state.
        floats = [x for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
        return sum(np.size(x) for x in floats if np.ndim(x) >= 2)

    assert kept("recursive_checkpoint") <= 20 * np.sqrt(steps)
    assert kept("direct") >= 2 * steps


def noise_problem(noise, dtype=jnp.float64):
    matrix = jnp.asarray([[0.3, 0.1], [0.0, 0.2]], dtype)
    diffusion = {
        "diagonal": lambda t, y, a: a * jnp.sin(y),
        "additive": lambda t, y, a: matrix * jnp.cos(t),
    }[noise]
    return SDEProblem(
        lambda t, y, a: -(y**3),
        diffusion,
        jnp.ones(2, dtype),
        0.0,
        1.0,
        jnp.asarray(0.4, dtype),
        noise=noise,
        interpretation="ito",
    )


@pytest.mark.parametrize(
    ("noise", "solver"),
    [("diagonal", "Euler"), ("diagonal", "ItoMilstein"), ("additive", "ShARK")],
)
def test_stochastic_steps_are_those_of_the_loop(noise, solver):
    problem, steps = noise_problem(noise), 256
    tree = BrownianPath(jax.random.key(1), 2, 0.0, 1.0, 1 / steps, "space-time")
    path = StoredPath(*tree.increments(), t0=0.0, t1=1.0)
    options = {"solver": solver, "saveat": [0.0, 0.5, 1.0]}
    scan = solve(problem, **options, path=path)
    # A progress meter of Diffrax asks for its loop.
    meter = {"progress": diffrax.NoProgressMeter()}
    loop = solve(problem, **options, path=path, **meter)
    # XLA may contract a product and a sum to one rounding in one program and not in
    # the other: some roundings a step, of numbers below two, contracted from then on.
    np.testing.assert_allclose(scan.ys, loop.ys, atol=steps * 4 * EPS, rtol=0)
    np.testing.assert_array_equal(scan.ts, loop.ts)
    # Along the tree itself the loop takes differences of its values, each a rounding of
    # numbers of size one; of areas, differences over the length of a step. Either is
    # multiplied by a diffusion below one.
    along = solve(problem, **options, path=tree, **meter)
    one = 4 * EPS * (steps if solver == "ShARK" else 1)
    np.testing.assert_allclose(scan.ys, along.ys, atol=steps * one, rtol=0)


def test_a_path_drawn_beforehand_is_the_path_drawn_in_the_program():
    problem, key = noise_problem("diagonal"), jax.random.key(4)
    options = {"solver": "Euler", "dt": 1 / 256}
    plain = solve(problem, key=key, **options).ys
    traced = jax.jit(lambda k: solve(problem, key=k, **options).ys)(key)
    mapped = jax.vmap(lambda k: solve(problem, key=k, **options).ys)(key[None])[0]
    # XLA may contract a product and a sum to one rounding in one program and not in
    # the other: a rounding a step.
    for other in (traced, mapped):
        np.testing.assert_allclose(plain, other, rtol=256 * 4 * EPS)


@pytest.mark.usefixtures("strict_promotion")
def test_single_precision_stays_single_along_a_path():
    problem = noise_problem("diagonal", jnp.float32)
    path = BrownianPath(jax.random.key(0), 2, 0.0, 1.0, 1 / 64, dtype=jnp.float32)
    solution = solve(problem, solver="Euler", path=path, saveat=[0.5, 1.0])
    assert solution.ys.dtype == jnp.float32


class Wall(eqx.Module):
    """No real stage beyond t = 1/2: the implicit equation y = y₀ + h(y² + 10³)."""

    def __call__(self, t, y, args):
        return jnp.where(t > 0.51, y**2 + 1e3, -y)


def test_a_stage_without_a_solution_ends_the_solve_there():
    problem = ODEProblem(Wall(), np.ones(1), 0.0, 1.0)
    solution = solve(
        problem, solver="ImplicitEuler", dt=1 / 8, saveat=[0.25, 0.5, 1.0], throw=False
    )
    assert solution.outcome_name == "nonlinear_solve_failed"
    np.testing.assert_array_equal(solution.ts, [0.25, 0.5])
    # (1 + h)^−k, h = 1/8.
    np.testing.assert_allclose(
        solution.ys[:, 0], [(8 / 9) ** 2, (8 / 9) ** 4], rtol=1e-8
    )
    assert int(solution.stats["num_steps"]) == 4


def test_what_only_the_loop_can_do_is_left_to_it():
    sde = noise_problem("diagonal")
    for extra in ({"saveat": "steps"}, {"adjoint": "backsolve"}, {"progress": True}):
        ordinary = {
            "adjoint": None,
            "event": None,
            "max_steps": None,
            "progress": False,
        }
        ordinary |= {"solver": "Euler", "rtol": None, "atol": None, "dt": 0.1}
        ordinary |= {"saveat": None, "extra": {}} | extra
        checked = check_options(PENDULUM, "diffrax", **ordinary)
        assert ordinary_grid(PENDULUM, checked) is None
    shared = {"solver": "Euler", "rtol": 1e-3, "atol": 1e-3, "dt": None, "path": None}
    shared |= {"key": jax.random.key(0), "saveat": None, "adjoint": None, "extra": {}}
    shared |= {"event": None, "max_steps": None, "progress": False}
    heun = noise_problem("additive")
    shared["solver"] = "Heun"
    assert stochastic_grid(check_options(heun, "diffrax", **shared)) is None
    shared |= {"rtol": None, "atol": None, "dt": 0.25, "solver": "Euler"}
    along = check_options(sde, "diffrax", **shared)
    assert stochastic_grid(along) is not None


@pytest.mark.parametrize("paths", ["shared", "native"])
@pytest.mark.parametrize("adjoint", ["recursive_checkpoint", "direct", "forward"])
def test_derivatives_go_through_blocks_of_a_path(paths, adjoint):
    """Euler's scheme of dy = a y dt + b y dW is y0 Π(1 + a h + b dW): the derivative in
    y0 is y/y0, whichever way the increments are drawn and the steps gone back."""
    steps = 300
    problem = SDEProblem(
        lambda t, y, a: -y,
        lambda t, y, a: 0.5 * y,
        jnp.full(1, 1.5),
        0.0,
        1.0,
        noise="diagonal",
    )

    def end(y0):
        moved = eqx.tree_at(lambda p: p.y0, problem, y0)
        options = {"solver": "Euler", "dt": 1 / steps, "paths": paths}
        key = jax.random.key(4)
        return solve(moved, key=key, adjoint=adjoint, **options).end_state

    mode = jax.jacfwd if adjoint == "forward" else jax.jacrev
    found = jax.jit(lambda y0: (end(y0), mode(end)(y0)))(problem.y0)
    np.testing.assert_allclose(found[1], found[0][None] / 1.5, rtol=8 * steps * EPS)
