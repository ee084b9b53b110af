"""Solves in Julia within transformations of JAX: closed forms, and plain calls."""

import functools
import os
import subprocess
import sys
import textwrap
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import Event, ODEProblem, SteadyState, solve
from hybrid_nds.backends.julia import _primitive
from hybrid_nds.backends.julia._shared import SharedSolve
from hybrid_nds.runtime import _internals

pytestmark = pytest.mark.julia

# One field for all tests, so that Julia compiles it once: y'' = -rate y.
FIELD = lambda t, y, rate: jnp.stack([y[1], -rate * y[0]])
TIMES = np.linspace(0.25, 1.0, 4)


def _solve(y0, rate, *, t1: Any = 1.0, solver="Tsit5", **options):
    problem = ODEProblem(FIELD, y0, 0.0, t1, args=rate)
    return solve(problem, "julia", solver=solver, **options)


def _exact(t, rate=1.0):
    """The solution from (1, 0)."""
    w = np.sqrt(rate)
    return np.stack([np.cos(w * t), -w * np.sin(w * t)], axis=-1)


START = jnp.array([1.0, 0.0])


def test_a_compiled_solve_gives_what_a_plain_one_gives(julia):
    traced = jax.jit(functools.partial(_solve, saveat=TIMES, rtol=1e-9, atol=1e-9))
    there = traced(START, jnp.array(2.0))
    here = _solve(START, jnp.array(2.0), saveat=TIMES, rtol=1e-9, atol=1e-9)
    for name in ("ts", "ys", "end_time", "end_state"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))
    assert there.stats == here.stats
    assert (there.outcome_name, there.event_index) == ("success", None)
    # The tolerance, a few times over some twenty steps.
    np.testing.assert_allclose(there.ys, _exact(TIMES, 2.0), atol=1e-7)


def test_weights_of_modules_are_traced(julia):
    class Spring(eqx.Module):
        rate: jax.Array

        def __call__(self, t, y, args):
            return jnp.stack([y[1], -self.rate * y[0]])

    @eqx.filter_jit
    def end(spring):
        return solve(ODEProblem(spring, START, 0.0, 1.0), "julia", solver="Tsit5").ys[0]

    for rate in (1.0, 3.0):
        # The default tolerances of 1e-6 and 1e-9.
        np.testing.assert_allclose(
            end(Spring(jnp.array(rate))), _exact(1.0, rate), atol=1e-4
        )


def test_fields_that_index_are_lowered_within_a_trace(julia):
    order = np.array([1, 0])
    # y₀' = y₁, y₁' = y₀.
    field = lambda t, y, args: args * y[order]

    @jax.jit
    def end(scale):
        problem = ODEProblem(field, jnp.ones(2), 0.0, 1.0, args=scale)
        return solve(problem, "julia", solver="Tsit5").ys[0]

    np.testing.assert_allclose(end(jnp.array(1.0)), np.exp([1.0, 1.0]), rtol=1e-4)


@pytest.mark.parametrize("loop", ["scan", "while_loop", "cond"])
def test_control_flow_of_jax_goes_round_it(julia, loop):
    step = lambda y: _solve(y, jnp.array(1.0), t1=0.25, rtol=1e-9, atol=1e-9).ys[0]

    @jax.jit
    def run(y):
        if loop == "scan":
            return jax.lax.scan(lambda y, _: (step(y), None), y, None, length=4)[0]
        if loop == "while_loop":
            return jax.lax.while_loop(
                lambda c: c[0] < 4, lambda c: (c[0] + 1, step(c[1])), (0, y)
            )[1]
        return jax.lax.cond(y[0] > 0, lambda y: step(step(step(step(y)))), step, y)

    np.testing.assert_allclose(run(START), _exact(1.0), atol=1e-7)


def test_every_operand_can_be_mapped_and_each_bit_is_that_of_a_single_solve(julia):
    def one(y0, rate, t1, times, rtol, atol):
        solution = _solve(y0, rate, t1=t1, saveat=times * t1, rtol=rtol, atol=atol)
        return solution.ys, solution.stats["num_steps"]

    values = (
        jnp.array([[1.0, 0.0], [0.5, 1.0]]),
        jnp.array([1.0, 2.0, 3.0]),
        jnp.array([1.0, 1.5]),
        jnp.stack([jnp.asarray(TIMES), jnp.asarray(TIMES) / 2]),
        jnp.array([1e-6, 1e-8, 1e-7]),
        jnp.array([[1e-9, 1e-8], [1e-8, 1e-9]]),
    )
    inner = jax.vmap(one, in_axes=(None, 0, None, None, 0, None))
    both = jax.jit(jax.vmap(inner, in_axes=(0, None, 0, 0, None, 0)))
    states, steps = both(*values)
    assert states.shape == (2, 3, 4, 2)
    for i in range(2):
        for j in range(3):
            y0, rate, t1 = values[0][i], values[1][j], values[2][i]
            single = _solve(
                y0,
                rate,
                t1=t1,
                saveat=np.asarray(values[3][i] * t1),
                rtol=values[4][j],
                atol=values[5][i],
            )
            np.testing.assert_array_equal(states[i, j], single.ys)
            assert steps[i, j] == single.stats["num_steps"]
    assert np.unique(steps).size > 1
    # Without a compiled function round it, and along another axis.
    plain = jax.vmap(lambda y: _solve(y, jnp.array(1.0)).ys[0], in_axes=1, out_axes=1)
    expected = [_solve(y, jnp.array(1.0)).ys[0] for y in values[0]]
    np.testing.assert_array_equal(plain(values[0].T), np.stack(expected, axis=1))


def test_one_trajectory_that_fails_leaves_the_others_alone(julia):
    many = jax.jit(
        jax.vmap(
            lambda rate: _solve(
                START, rate, saveat=TIMES, max_steps=40, throw=False, rtol=1e-6
            )
        )
    )
    rates = jnp.array([1.0, 1e4, 4.0])
    solution = many(rates)
    codes = np.asarray(solution.outcome._value)
    assert codes.tolist() == [0, 2, 0]
    for k in (0, 2):
        np.testing.assert_allclose(
            solution.ys[k], _exact(TIMES, float(rates[k])), atol=1e-3
        )
    assert np.all(np.isinf(solution.ts[1]))
    assert np.all(np.isinf(solution.ys[1]))
    # Some 40 steps of a hundredth of a period each.
    assert 0 < solution.end_time[1] < 0.25


@pytest.mark.parametrize("jit", [jax.jit, eqx.filter_jit])
def test_a_failure_raises_in_julias_words(julia, jit):
    end = jit(lambda rate: _solve(START, rate, max_steps=3).ys)
    with pytest.raises(RuntimeError, match=r"max_steps_reached.*Julia says: MaxIters"):
        jax.block_until_ready(end(jnp.array(1e4)))
    many = jit(jax.vmap(lambda rate: _solve(START, rate, max_steps=40).ys))
    with pytest.raises(RuntimeError, match=r"Trajectory 1 of 3"):
        jax.block_until_ready(many(jnp.array([1.0, 1e4, 1.0])))
    # Julia and JAX go on.
    np.testing.assert_allclose(
        many(jnp.ones(2))[:, 0], np.stack(2 * [_exact(1.0)]), atol=1e-4
    )


class Counting(eqx.Module):
    rate: jax.Array
    calls: jax.Array
    read: bool = eqx.field(static=True)

    def __call__(self, t, y, args):
        factor = self.calls[0] if self.read else 1
        return -self.rate * factor * y


def test_integers_of_a_model_are_compiled_in_or_not_read(julia):
    """Counters beside the weights travel through `jax.jit` as the weights do."""

    @eqx.filter_jit
    def end(field):
        problem = ODEProblem(field, jnp.ones(1), 0.0, 1.0)
        return solve(problem, "julia", solver="Tsit5", rtol=1e-8, atol=1e-8).ys[-1]

    rate, calls = jnp.array(0.5), jnp.arange(1, 4)
    np.testing.assert_allclose(
        end(Counting(rate, calls, False)), np.exp(-0.5), rtol=1e-7
    )
    with pytest.raises(TypeError, match="keep integers out"):
        end(Counting(rate, calls, True))
    with jax.disable_jit():
        known = end(Counting(rate, calls * 2, True))
    np.testing.assert_allclose(known, np.exp(-1.0), rtol=1e-7)


def test_derivatives_are_refused_in_words(julia):
    loss = lambda rate: _solve(START, rate, solver="FBDF").ys[0, 0]
    with pytest.raises(TypeError, match=r"FBDF have no derivatives .* Rodas5P"):
        jax.grad(loss)(jnp.array(1.0))
    # Where nothing depends on the solve, nothing is refused.
    slope = jax.grad(lambda x: x * loss(jnp.array(1.0)))(jnp.array(2.0))
    np.testing.assert_allclose(slope, np.cos(1.0), atol=1e-4)


def test_events_end_a_compiled_solve(julia):
    event = Event(lambda t, y, rate: y[0], direction="down")

    @jax.jit
    def stop(rate):
        return _solve(
            START, rate, t1=10.0, event=event, rtol=1e-9, atol=1e-9, saveat=[1.0, 9.0]
        )

    solution = stop(jnp.array(4.0))
    assert (solution.outcome_name, int(solution.event_index)) == ("event", 0)
    # cos(2 t) first vanishes at π/4.
    np.testing.assert_allclose(solution.end_time, np.pi / 4, atol=1e-7)
    assert np.all(np.isinf(solution.ts))
    solution = stop(jnp.array(1.0))
    np.testing.assert_allclose(solution.ts, [1.0, np.inf])
    np.testing.assert_allclose(solution.ys[0], _exact(1.0), atol=1e-7)


def test_a_required_event_that_does_not_fire_raises(julia):
    event = Event(lambda t, y, rate: y[0] - 2.0, required=True)
    end = jax.jit(lambda rate: _solve(START, rate, event=event).ys)
    with pytest.raises(RuntimeError, match="`event` is required, but none fired"):
        jax.block_until_ready(end(jnp.array(1.0)))


def test_a_steady_state_is_found_from_any_batch(julia):
    decay = lambda t, y, args: args - y

    @jax.jit
    @jax.vmap
    def rest(level):
        problem = ODEProblem(decay, jnp.zeros(1), 0.0, jnp.inf, args=level)
        return solve(problem, "julia", solver="Rodas5P", event=SteadyState()).ys[0, 0]

    levels = jnp.array([1.0, 5.0])
    # |level - y| is at most atol + rtol y at the end, with the default 1e-6 and 1e-9.
    np.testing.assert_allclose(rest(levels), levels, rtol=2e-6)


def test_mass_matrices_make_algebraic_equations(julia):
    # y' = -y, 0 = z - args y: z = args exp(-t).
    field = lambda t, u, args: jnp.stack([-u[0], u[1] - args * u[0]])
    mass = np.diag([1.0, 0.0])

    @jax.jit
    @jax.vmap
    def end(factor):
        start = jnp.stack([1.0, factor])
        problem = ODEProblem(field, start, 0.0, 1.0, args=factor, mass_matrix=mass)
        return solve(problem, "julia", solver="Rodas5P", rtol=1e-8, atol=1e-8).ys[0]

    factors = np.array([1.0, 3.0])
    exact = np.exp(-1.0) * np.stack([np.ones(2), factors], axis=-1)
    np.testing.assert_allclose(end(jnp.asarray(factors)), exact, atol=1e-6)


def test_traced_tolerances_reach_the_stages_of_radau_methods(julia):
    # y' = -y, 0 = z³ - y: z = exp(-t/3).
    problem = ODEProblem(
        lambda t, u, args: jnp.stack([-u[0], u[1] ** 3 - u[0]]),
        jnp.ones(2),
        *(0.0, 1.0),
        mass_matrix=np.diag([1.0, 0.0]),
    )
    end = lambda rtol: solve(problem, "julia", solver="RadauIIA5", rtol=rtol).ys[0]
    found = jax.jit(jax.vmap(end))(jnp.array([1e-5, 1e-10]))
    for row, rtol in zip(found, (1e-5, 1e-10), strict=True):
        assert np.array_equal(row, end(rtol))
        # Some tens of steps of that tolerance.
        np.testing.assert_allclose(row, np.exp([-1.0, -1 / 3]), rtol=100 * rtol)


def test_another_mass_matrix_is_another_solve(julia):
    field = lambda t, u, args: jnp.stack([args * u[1], u[0]])
    start = jnp.array([1.0, 1.0])

    def end(mass):
        problem = ODEProblem(
            field, start, 0.0, 1.0, args=jnp.array(1.0), mass_matrix=mass
        )
        return solve(problem, "julia", solver="Rodas5P", rtol=1e-8, atol=1e-8).ys[0]

    # M u' = A u with M of no symmetry, by the matrix exponential of inv(M) A.
    mass = np.array([[1.0, 2.0], [0.0, 1.0]])
    rates, vectors = np.linalg.eig(np.linalg.inv(mass) @ np.array([[0, 1], [1, 0]]))
    exact = (vectors * np.exp(rates)) @ np.linalg.inv(vectors) @ np.ones(2)
    np.testing.assert_allclose(end(mass), exact.real, rtol=1e-6)


def test_single_precision_stays_single(julia):
    end = jax.jit(lambda y: _solve(y, jnp.float32(1.0), saveat=TIMES).ys)
    states = end(START.astype(jnp.float32))
    assert states.dtype == np.float32
    # The default rtol is 1e-4 in float32.
    np.testing.assert_allclose(states, _exact(TIMES), atol=1e-2)


def test_fixed_steps_are_those_of_the_scheme(julia):
    step = jax.jit(lambda dt: _solve(START, jnp.array(1.0), dt=dt, solver="Euler"))
    solution = step(jnp.array(0.25))
    growth = np.linalg.matrix_power(np.array([[1.0, 0.25], [-0.25, 1.0]]), 4)
    np.testing.assert_allclose(solution.ys[0], growth[:, 0], rtol=1e-14)
    assert int(solution.stats["num_steps"]) == 4


@pytest.fixture
def by_callback(julia):
    """A session whose JAX has an interface that is not known."""
    reason = _internals.register_handler(1, (0, 99))
    assert "0.99" in reason
    object.__setattr__(julia, "no_handler", reason)
    _primitive.warn_of_callback.cache_clear()
    try:
        yield
    finally:
        object.__setattr__(julia, "no_handler", "")


def test_a_jax_of_an_unknown_interface_goes_through_python(by_callback):
    def end(rate):
        return _solve(START, rate, saveat=TIMES, throw=False)

    rates = jnp.array([1.0, 2.0])
    with pytest.warns(RuntimeWarning, match="through Python.*0.99"):
        there = jax.jit(jax.vmap(end))(rates)
    # The warning comes once, and warnings are errors here.
    jax.jit(lambda rate: end(rate).ys)(jnp.array(1.0))
    for k, rate in enumerate(rates):
        here = end(rate)
        np.testing.assert_array_equal(there.ys[k], here.ys)
        assert there.stats["num_steps"][k] == here.stats["num_steps"]


@pytest.mark.filterwarnings("ignore:Compiled JAX programs reach Julia:RuntimeWarning")
def test_a_batch_goes_to_the_host_and_back_once(by_callback, monkeypatch):
    # As on a GPU, whose arrays a solve in Julia cannot read.
    moved, run = [], SharedSolve.run

    def counted(self, operands, integer):
        results = run(self, operands, integer)
        moved.append([sum(x.nbytes for x in arrays) for arrays in (operands, results)])
        return results

    monkeypatch.setattr(SharedSolve, "run", counted)

    def end(rate):
        return _solve(START, rate, saveat=TIMES, throw=False).ys

    jax.block_until_ready(jax.jit(jax.vmap(end))(jnp.arange(1.0, 9.0)))
    # Eight rates; what they share, once: two states, two times and two tolerances with
    # a first step, and the four times to save.
    # Eight times: four times with two states each, the end with its time, nine counts.
    assert moved == [[8 * (8 + 2 + 5 + 4), 8 * 8 * (4 * 3 + 3 + 9)]]
    moved.clear()
    step = lambda y, _: (_solve(y, jnp.array(1.0), t1=0.1, throw=False).ys[0], None)
    jax.block_until_ready(jax.jit(lambda y: jax.lax.scan(step, y, None, 5)[0])(START))
    assert len(moved) == 5


@pytest.mark.parametrize("version", [None, (1, 0), (0, 4)])
def test_only_known_versions_of_the_interface_are_used(version):
    assert "known are 0.1 to 0.3" in _internals.register_handler(1, version)


def test_the_version_of_this_jax_is_known(julia):
    assert julia.no_handler == ""


def test_a_solve_that_is_gone_is_named(julia):
    compiled = jax.jit(lambda rate: _solve(START, rate, max_steps=777).ys)
    compiled = compiled.lower(jnp.array(1.0)).compile()
    compiled(jnp.array(1.0))
    context = next(c for c in julia._contexts.values() if hasattr(c, "_shared"))
    solve_of_it = next(reversed(context._shared._known.values()))
    julia.bridge.number("forget!", solve_of_it.number)
    with pytest.raises(Exception, match="compiled program refers to is gone"):
        jax.block_until_ready(compiled(jnp.array(1.0)))
    context._shared._known.popitem()


def _run(code, *arguments, timeout=300, **environment):
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | environment,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


_BATCH = """
    import sys
    import jax
    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import numpy as np
    import hybrid_nds
    from hybrid_nds import runtime

    session = runtime.session(threads=int(sys.argv[1]))
    field = lambda t, y, rate: jnp.stack([y[1], -rate * y[0]])

    def end(rate):
        problem = hybrid_nds.ODEProblem(field, jnp.ones(2), 0.0, 5.0, args=rate)
        return hybrid_nds.solve(problem, "julia", solver="Tsit5", rtol=1e-9).ys[0]

    rates = jnp.linspace(1.0, 50.0, 64)
"""


@pytest.mark.slow
def test_the_bits_do_not_depend_on_the_number_of_threads(julia):
    code = (
        _BATCH
        + """
    import hashlib
    print(session.threads)
    states = np.asarray(jax.jit(jax.vmap(end))(rates))
    single = np.stack([end(rate) for rate in rates])
    assert np.array_equal(states, single)
    print(hashlib.sha256(states.tobytes()).hexdigest())
    """
    )
    printed = [_run(code, str(n)).split() for n in (1, 2, 4)]
    assert [words[0] for words in printed] == ["1", "2", "4"]
    assert len({words[1] for words in printed}) == 1


@pytest.mark.slow
def test_devices_of_a_mesh_share_a_batch(julia):
    code = (
        _BATCH
        + """
    from jax.sharding import Mesh, PartitionSpec as P
    mesh = Mesh(np.array(jax.devices()), "rows")
    assert len(jax.devices()) == 2
    every = jax.vmap(end)
    sharded = jax.jit(jax.shard_map(every, mesh=mesh, in_specs=P("rows"),
                                    out_specs=P("rows")))
    assert np.array_equal(sharded(rates), jax.jit(every)(rates))
    print("equal")
    """
    )
    flags = "--xla_force_host_platform_device_count=2"
    assert _run(code, "2", XLA_FLAGS=flags).split() == ["equal"]


@pytest.mark.slow
def test_without_double_precision_counts_are_of_32_bits(julia):
    code = (
        _BATCH.replace("True", "False")
        + """
    solution = jax.jit(lambda rate: hybrid_nds.solve(hybrid_nds.ODEProblem(
        field, jnp.ones(2), 0.0, 1.0, args=rate), "julia", solver="Tsit5"))(rates[0])
    print(solution.ys.dtype, solution.stats["num_steps"].dtype, solution.outcome_name)
    # From (1, 1) with rate 1.
    assert abs(float(solution.ys[0, 0]) - np.cos(1.0) - np.sin(1.0)) < 1e-2
    """
    )
    assert _run(code, "1").split() == ["float32", "int32", "success"]
