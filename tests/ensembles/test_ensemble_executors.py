"""Ensembles on executors: the same bits wherever they run, and nothing lost."""

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import ensemble_cases as cases
import jax.random as jr
import numpy as np
import pytest

from hybrid_nds import Moments, Quantiles, ensemble
from hybrid_nds.tasks import _executors as executors

KEY = jr.key(5)
OPTIONS = {"key": KEY, "dt": 0.25, "initial": cases.random_start}
REDUCE = {"moments": Moments(order=4), "quantiles": Quantiles()}


@pytest.fixture(scope="module")
def expected():
    return ensemble(cases.decay(), 2000, reduce=REDUCE, **OPTIONS).to_dict()["reduced"]


class Shuffled(Executor):
    """Runs tasks in this thread when asked to wait, the last first."""

    def __init__(self):
        self.tasks = []

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_running_or_notify_cancel()
        self.tasks.append((future, fn, args, kwargs))
        if len(self.tasks) >= 4:
            self.flush()
        else:
            threading.Timer(0.3, self.flush).start()
        return future

    def flush(self):
        while self.tasks:
            future, fn, args, kwargs = self.tasks.pop()
            future.set_result(fn(*args, **kwargs))


def test_the_order_in_which_batches_finish_changes_no_bit(expected):
    found = ensemble(
        cases.decay(),
        2000,
        reduce=REDUCE,
        executor=Shuffled(),
        batch_size=256,
        **OPTIONS,
    )
    assert found.to_dict()["reduced"] == expected


class Weighed(Executor):
    """Runs tasks at once, and keeps the sizes of what travels, there and back."""

    def __init__(self):
        self.there = []
        self.back = []

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        packed = cloudpickle.dumps((fn, args, kwargs))
        self.there.append(len(packed))
        fn, args, kwargs = pickle.loads(packed)
        future.set_result(fn(*args, **kwargs))
        self.back.append(len(cloudpickle.dumps(future.result())))
        return future


def test_what_travels_does_not_grow_with_the_trajectories():
    few, many = Weighed(), Weighed()
    for n, pool in ((512, few), (4096, many)):
        reduce = {"moments": Moments(order=4)}
        ensemble(
            cases.decay(), n, reduce=reduce, executor=pool, batch_size=n, **OPTIONS
        )
    assert max(many.there) < min(few.there) + 100
    # A trajectory brings one byte, its outcome, and a share of its block's reduction:
    # no state, of 8 bytes.
    assert max(many.back) - min(few.back) < 3 * (4096 - 512)


def test_threads_change_no_bit(expected):
    with ThreadPoolExecutor(2) as pool:
        found = ensemble(cases.decay(), 2000, reduce=REDUCE, executor=pool, **OPTIONS)
    assert found.to_dict()["reduced"] == expected


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(expected):
    """Killed as it works: the batches it had are run again by another."""
    batches = []

    def kill_one():
        for _ in range(600):
            victims = multiprocessing.active_children()
            if victims:
                time.sleep(1.0)
                batches.append(victims[0].pid)
                os.kill(victims[0].pid, signal.SIGKILL)
                return
            time.sleep(0.1)

    killer = threading.Thread(target=kill_one)
    killer.start()
    found = ensemble(
        cases.decay(), 2000, reduce=REDUCE, executor=1, batch_size=256, **OPTIONS
    )
    killer.join()
    assert len(batches) == 1
    assert found.to_dict()["reduced"] == expected
    assert not multiprocessing.active_children()


def test_a_broken_pool_of_the_user_is_replaced(expected):
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(os.getpid).result()
        (process,) = multiprocessing.active_children()
        process.kill()
        process.join()
        with pytest.warns(RuntimeWarning, match="died and broke it"):
            found = ensemble(
                cases.decay(), 2000, reduce=REDUCE, executor=pool, **OPTIONS
            )
    assert found.to_dict()["reduced"] == expected


class Deadly(Executor):
    """Every task kills it."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_exception(executors.BrokenExecutor("a process died"))
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        pass


def test_workers_that_always_die_are_given_up(monkeypatch):
    monkeypatch.setattr(executors, "_pool", lambda workers: Deadly())
    with pytest.raises(RuntimeError, match="3 times in a row worker processes died"):
        ensemble(cases.decay(), 2000, executor=2, **OPTIONS)


def test_errors_of_a_worker_arrive(expected):
    with ThreadPoolExecutor(1) as pool, pytest.raises(TypeError, match="no option foo"):
        ensemble(cases.decay(), 2000, executor=pool, foo=1, **OPTIONS)


def test_executors_that_cannot_work_are_refused():
    fork = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(1, mp_context=fork)
    with pool, pytest.raises(ValueError, match="are forked"):
        ensemble(cases.decay(), 10, executor=pool, **OPTIONS)
    pool = ThreadPoolExecutor(1)
    with pool, pytest.raises(ValueError, match="not be a ThreadPoolExecutor"):
        ensemble(cases.decay(), 10, executor=pool, backend="julia", **OPTIONS)
    lock = threading.Lock()

    def locked(key):
        with lock:
            return cases.random_start(key)

    with pytest.raises(TypeError, match=r"cannot travel.*locks"):
        ensemble(cases.decay(), 10, executor=1, **OPTIONS | {"initial": locked})


@pytest.mark.slow
def test_a_dask_cluster_changes_no_bit(expected, tmp_path):
    """On a local cluster of one process, whose worker dies in its first task."""
    program = """
        import json, os, sys, jax
        jax.config.update("jax_enable_x64", True)
        from multiprocessing import current_process
        from distributed import Client, LocalCluster
        import ensemble_cases as cases
        from hybrid_nds import ensemble, Moments, Quantiles

        flag = sys.argv[1]

        # Of this script alone: it travels as it is.
        def start(key):
            here = current_process().name == "MainProcess"
            if not here and not os.path.exists(flag):
                open(flag, "w").close()
                os._exit(1)
            return cases.random_start(key)

        if __name__ == "__main__":
            reduce = {"moments": Moments(order=4), "quantiles": Quantiles()}
            with LocalCluster(
                n_workers=1, threads_per_worker=1, dashboard_address=None
            ) as cluster, Client(cluster) as client:
                found = ensemble(
                    cases.decay(), 2000, reduce=reduce, key=jax.random.key(5),
                    dt=0.25, initial=start, executor=client.get_executor(),
                    batch_size=512,
                )
            print(json.dumps(found.to_dict()["reduced"]))
    """
    path = os.pathsep.join(
        [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    )
    flag = tmp_path / "lost"
    output = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program), str(flag)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert output.returncode == 0, output.stderr
    assert flag.exists()
    found = json.loads(output.stdout.splitlines()[-1])
    assert found == json.loads(json.dumps(expected))


def test_a_client_of_dask_is_no_executor():
    class Client:
        def get_executor(self):
            return None

    with pytest.raises(TypeError, match=r"client\.get_executor\(\)"):
        ensemble(cases.decay(), 10, executor=Client(), **OPTIONS)


def test_states_travel_too():
    starts = np.linspace(0.0, 1.0, 700)[:, None]
    options = {"key": KEY, "dt": 0.25, "initial": starts}
    alone = ensemble(cases.decay(), 700, **options)
    found = ensemble(cases.decay(), 700, executor=Shuffled(), batch_size=256, **options)
    assert cases.same(found.ys, alone.ys)
    assert found.provenance == alone.provenance
