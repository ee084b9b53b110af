"""Ensembles in Julia: the same laws, the same paths, the same bits."""

import os
import subprocess
import sys
import tempfile
import textwrap
import tracemalloc
from pathlib import Path

import ensemble_cases as cases
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

from hybrid_nds import JuliaWorker, Moments, SDEProblem, ensemble, solve
from hybrid_nds.runtime import WorkerDiedError

pytestmark = [pytest.mark.julia, pytest.mark.usefixtures("julia")]

KEY = jr.key(11)
OPTIONS = {"key": KEY, "dt": 0.125, "saveat": [0.5, 1.0]}
# The chance that a right program fails one comparison.
LEVEL = 1e-6


def constant_noise(t, y, args):
    return 0.5 * jnp.ones_like(y)


@pytest.mark.slow
def test_shared_paths_are_those_of_diffrax():
    mine = ensemble(cases.gbm(), 700, **OPTIONS)
    theirs = ensemble(cases.gbm(), 700, backend="julia", paths="shared", **OPTIONS)
    assert theirs.paths == "shared"
    assert theirs.provenance.backend == "julia"
    # Twins along one path: rung L1 of the ladder.
    np.testing.assert_allclose(theirs.ys, mine.ys, rtol=1e-12)


@pytest.mark.slow
def test_shared_paths_with_levy_areas():
    problem = SDEProblem(
        cases.minus, constant_noise, jnp.array([1.0]), 0.0, 1.0, noise="additive"
    )
    mine = ensemble(problem, 40, solver="SRA1", **OPTIONS)
    theirs = ensemble(
        problem, 40, backend="julia", paths="shared", solver="SRA1", **OPTIONS
    )
    np.testing.assert_allclose(theirs.ys, mine.ys, rtol=1e-12)


def test_native_paths_have_the_law_of_the_scheme():
    found = ensemble(cases.gbm(), 20_000, backend="julia", reduce=Moments(), **OPTIONS)
    assert found.paths == "native"
    assert found.runner == "lean kernel"
    for time, t in enumerate([0.5, 1.0]):
        for component, y0 in enumerate([1.0, 2.0]):
            mean, variance = cases.gbm_euler_moments(y0, t, 0.125)
            z = (found.reduced.mean[time, component] - mean) / np.sqrt(
                variance / 20_000
            )
            assert abs(z) < stats.norm.isf(LEVEL / 2)


REDUCTIONS = {"plain": Moments(), "all": Moments(order=4, covariance=True)}


def reduced(problem, n, **changes):
    options = {"backend": "julia", "reduce": REDUCTIONS, **OPTIONS}
    return ensemble(problem, n, **(options | changes))


def assert_moments_of(found, values):
    """Moments are NumPy's of the states, to the round-off of their sums.

    Each is a sum of n terms, merged in blocks: at most n roundings of its largest
    partial sum, on either side.
    """
    n = len(values)
    mean = values.mean(axis=0)
    apart = values - mean
    for one in found.values():
        assert one.count == n
        round_off = 2 * n * np.finfo(np.float64).eps
        np.testing.assert_allclose(one.mean, mean, rtol=0, atol=round_off * 4)
        for power, moment in one.central_moments.items():
            size = np.mean(np.abs(apart) ** power, axis=0)
            # The mean's own error moves a power p by p times the power below.
            below = power * np.mean(np.abs(apart) ** (power - 1), axis=0) * 4
            error = np.abs(moment - np.mean(apart**power, axis=0))
            assert np.all(error <= round_off * (size + below))
    covariance = np.einsum("kti,ktj->tij", apart, apart) / (n - 1)
    bound = 8 * round_off * np.sqrt(np.max(covariance)) * (1 + np.max(np.abs(mean)))
    np.testing.assert_allclose(found["all"].covariance, covariance, rtol=0, atol=bound)


def test_moments_are_taken_in_the_loop(monkeypatch):
    states = reduced(cases.gbm(), 3000, reduce=None).ys
    # No state leaves Julia.
    monkeypatch.setattr("hybrid_nds.ensembles._julia_blocks.keep", None)
    found = reduced(cases.gbm(), 3000)
    assert found.ys is None
    assert found.runner == "lean kernel"
    assert_moments_of(found.reduced, states)
    alone = reduced(cases.gbm(), 3000, reduce=Moments())
    assert cases.same(alone.reduced.variance, found.reduced["plain"].variance)


def test_moments_do_not_depend_on_batches_and_threads(tmp_path):
    whole = reduced(cases.gbm(), 3000)
    changes = ({"batch_size": 512}, {"threads": 1}, {"save": tmp_path})
    # The last reads what the one before has saved.
    for change in (*changes, {"save": tmp_path}):
        other = reduced(cases.gbm(), 3000, **change)
        for name in REDUCTIONS:
            mine, theirs = whole.reduced[name], other.reduced[name]
            assert cases.same(mine.mean, theirs.mean)
            assert cases.same(mine.central_moments[2], theirs.central_moments[2])
        assert cases.same(
            whole.reduced["all"].covariance, other.reduced["all"].covariance
        )


def test_moments_leave_out_what_fails():
    problem = SDEProblem(falling, constant_noise, jnp.array([0.0]), 0.0, 2.0)
    changes = {"dt": 0.25, "saveat": np.linspace(0.25, 2.0, 8)}
    with pytest.warns(RuntimeWarning, match="unstable"):
        states = reduced(problem, 600, reduce=None, **changes)
    with pytest.warns(RuntimeWarning, match="unstable"):
        found = reduced(problem, 600, **changes)
    assert 0 < len(found.failures) < 600
    assert found.failures == states.failures
    assert_moments_of(found.reduced, states.ys[states.succeeded])


def test_moments_in_single_precision_are_summed_in_double():
    y0 = jnp.array([1.0, 2.0], jnp.float32)
    problem = SDEProblem(cases.growth, cases.proportional_noise, y0, 0.0, 1.0)
    states = reduced(problem, 3000, reduce=None).ys
    assert states.dtype == np.float32
    assert_moments_of(reduced(problem, 3000).reduced, states.astype(np.float64))


@pytest.mark.slow
def test_memory_does_not_grow_with_trajectories():
    """10⁶ trajectories of ten times would be 80 MB of states."""
    saveat = np.linspace(0.1, 1.0, 10)
    options = {"key": KEY, "dt": 0.1, "saveat": saveat, "reduce": Moments()}
    problem = SDEProblem(cases.growth, cases.proportional_noise, jnp.ones(1), 0.0, 1.0)
    ensemble(problem, 20_000, backend="julia", **options)
    tracemalloc.start()
    found = ensemble(problem, 1_000_000, backend="julia", **options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # One byte a trajectory for its outcome, and what a batch takes.
    assert peak < 5e6
    mean, variance = cases.gbm_euler_moments(1.0, 1.0, 0.1)
    z = (found.reduced.mean[-1, 0] - mean) / np.sqrt(variance / 1_000_000)
    assert abs(z) < stats.norm.isf(LEVEL / 2)
    assert found.reduced.variance[-1, 0] == pytest.approx(variance, rel=0.02)


@pytest.mark.parametrize("paths", ["native", "shared"])
def test_batches_and_threads_change_no_bit(paths):
    options = {"backend": "julia", "paths": paths, **OPTIONS}
    whole = ensemble(cases.gbm(), 1300, **options)
    for changes in ({"batch_size": 256}, {"threads": 1}):
        other = ensemble(cases.gbm(), 1300, **options, **changes)
        assert cases.same(whole.ys, other.ys)


@pytest.mark.slow
def test_initial_states_reach_julia():
    starts = np.random.default_rng(0).standard_normal((300, 2))
    options = {"initial": starts, **OPTIONS}
    mine = ensemble(cases.gbm(), 300, **options)
    theirs = ensemble(cases.gbm(), 300, backend="julia", paths="shared", **options)
    np.testing.assert_allclose(theirs.ys, mine.ys, rtol=1e-12, atol=1e-14)


def falling(t, y, args):
    return jnp.where(y < -0.5, y / 0.0, -y)


@pytest.mark.slow
def test_failed_trajectories_are_those_of_diffrax():
    problem = SDEProblem(falling, constant_noise, jnp.array([0.0]), 0.0, 2.0)
    options = {"key": KEY, "dt": 0.25, "saveat": np.linspace(0.25, 2.0, 8)}
    with pytest.warns(RuntimeWarning, match="unstable"):
        mine = ensemble(problem, 200, **options)
    with pytest.warns(RuntimeWarning, match="unstable"):
        theirs = ensemble(problem, 200, backend="julia", paths="shared", **options)
    assert 0 < len(mine.failures) < 200
    assert theirs.failures == mine.failures
    whole = mine.succeeded
    np.testing.assert_allclose(theirs.ys[whole], mine.ys[whole], rtol=1e-11, atol=1e-13)
    assert cases.same(np.isnan(theirs.ys), np.isnan(mine.ys))


@pytest.mark.slow
def test_solvers_without_a_kernel_run_in_julia_alone():
    options = {"key": KEY, "dt": 0.125, "solver": "SRIW1"}
    found = ensemble(cases.gbm(), 3, backend="julia", paths="shared", **options)
    assert found.runner == "StochasticDiffEq"
    alone = solve(
        cases.gbm(), "julia", key=jr.fold_in(KEY, 2), dt=0.125, solver="SRIW1"
    )
    np.testing.assert_allclose(found.ys[2], alone.ys, rtol=1e-12)
    native = ensemble(cases.gbm(), 3, backend="julia", **options)
    assert native.paths == "native"
    assert not np.any(native.ys == found.ys)


@pytest.mark.slow
def test_adaptive_solves_take_the_paths_of_solve():
    options = {"rtol": 1e-3, "atol": 1e-3, "solver": "SOSRI"}
    found = ensemble(cases.gbm(), 2, key=KEY, backend="julia", **options)
    assert found.paths == "shared"
    assert found.runner == "one solve a trajectory"
    alone = solve(cases.gbm(), "julia", key=jr.fold_in(KEY, 1), **options)
    assert cases.same(found.ys[1], alone.ys)
    with pytest.raises(ValueError, match="but it takes fixed steps"):
        ensemble(cases.gbm(), 2, key=KEY, backend="julia", paths="native", **options)


@pytest.mark.slow
def test_ordinary_problems():
    starts = np.linspace(0.5, 2.0, 5)[:, None]
    found = ensemble(
        cases.decay(),
        5,
        key=KEY,
        initial=starts,
        backend="julia",
        rtol=1e-9,
        atol=1e-12,
    )
    np.testing.assert_allclose(found.ys[:, 0], starts * np.exp(-1.0), rtol=1e-8)


def test_failures_of_ordinary_problems():
    starts = np.full((5, 1), 0.5)
    starts[3] = 4.0
    with pytest.warns(RuntimeWarning, match="1 of 5 trajectories failed: trajectory 3"):
        found = ensemble(
            cases.blow_up(),
            5,
            key=KEY,
            initial=starts,
            backend="julia",
            solver="Tsit5",
            saveat=[0.1, 1.0],
        )
    assert found.failures[0].time == pytest.approx(0.25, rel=1e-3)
    np.testing.assert_allclose(found.ys[found.succeeded, 1], 1.0, rtol=1e-5)
    np.testing.assert_allclose(found.ys[3, 0], 4 / 0.6, rtol=1e-5)
    assert np.isnan(found.ys[3, 1]).all()


@pytest.mark.slow
def test_worker_processes_change_no_bit():
    options = {"backend": "julia", "paths": "native", **OPTIONS}
    here = ensemble(cases.gbm(), 1300, **options)
    there = ensemble(cases.gbm(), 1300, executor=1, **options)
    assert cases.same(here.ys, there.ys)
    assert here.provenance == there.provenance


@pytest.mark.slow
def test_a_julia_worker_is_an_executor():
    """And a process of it that is killed loses nothing."""
    options = {"backend": "julia", "paths": "native", **OPTIONS}
    here = ensemble(cases.gbm(), 1300, **options)
    with JuliaWorker() as worker:
        doomed = worker.submit(os.kill, worker.submit(os.getpid).result(), 9)
        there = ensemble(cases.gbm(), 1300, executor=worker, **options)
        assert isinstance(doomed.exception(), WorkerDiedError)
    assert cases.same(here.ys, there.ys)


@pytest.mark.slow
def test_dask_workers_have_julia_beside_them():
    """Dask runs tasks in threads, and Julia in main threads alone."""
    program = """
        import jax, sys
        jax.config.update("jax_enable_x64", True)
        import dask, numpy as np
        from distributed import Client, LocalCluster
        import ensemble_cases as cases
        from hybrid_nds import ensemble

        def run(executor):
            return ensemble(
                cases.gbm(), 1300, key=jax.random.key(11), dt=0.125,
                saveat=[0.5, 1.0], backend="julia", executor=executor,
            )

        if __name__ == "__main__":
            daemon = sys.argv[1] == "True"
            with dask.config.set({"distributed.worker.daemon": daemon}), LocalCluster(
                n_workers=1, threads_per_worker=1, dashboard_address=None
            ) as cluster, Client(cluster) as client:
                try:
                    np.save(sys.argv[2], run(client.get_executor()).ys)
                except RuntimeError as error:
                    print(error)
    """
    here = ensemble(cases.gbm(), 1300, backend="julia", **OPTIONS)
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "ys.npy"
        for daemon in (True, False):
            script = Path(folder) / "script.py"
            script.write_text(textwrap.dedent(program))
            output = subprocess.run(
                [sys.executable, "-W", "ignore", script, str(daemon), saved],
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
                capture_output=True,
                text=True,
                check=False,
            )
            assert output.returncode == 0, output.stderr
            if daemon:
                assert "distributed.worker.daemon" in output.stdout
        assert cases.same(np.load(saved), here.ys)
