"""Work on three hosts, one of which is lost in the middle."""

import os
import sys
import textwrap
import threading
import time
from pathlib import Path

import hosts as machines
import jax.random as jr
import numpy as np
import pytest

from hybrid_nds import Moments, ODEProblem, ensemble
from hybrid_nds.studies import Sweep, executor_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not machines.available(), reason="network namespaces need Linux, root and ip"
    ),
]


@pytest.fixture
def hosts():
    with machines.network(3) as made:
        yield made


@pytest.fixture
def executor(hosts, tmp_path):
    pytest.importorskip("distributed")
    with machines.cluster(hosts, tmp_path) as file:
        for _ in range(300):
            if file.exists():
                break
            time.sleep(0.1)
        with executor_of(f"dask:{file}") as made:
            made._client.wait_for_workers(3, timeout=60)
            yield made


def cut_off_when(host, begun):
    """Cut a host off as soon as something is true."""

    def watch():
        while not begun():
            time.sleep(0.05)
        host.cut_off()

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    return watching


def cubed(point):
    """Leave a mark with the host's address, work, and give the cube."""
    number, folder = point
    mark = f"{number}-{os.getpid()}-{time.time_ns()}"
    (Path(folder) / mark).write_text(Path("/etc/hosts").read_text())
    time.sleep(0.4)
    return float(number) ** 3


def test_a_sweep_loses_one_task_with_a_host(hosts, executor, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()

    def there(host):
        return [m for m in marks.iterdir() if host.address in m.read_text()]

    cutting = cut_off_when(hosts[1], lambda: len(there(hosts[1])) >= 3)
    points = [(k, str(marks)) for k in range(36)]
    found = Sweep("hosts", "diffrax", executor, tmp_path / "points")(cubed, points)
    cutting.join()
    assert [float(value) for value in found] == [float(k) ** 3 for k in range(36)]
    assert all(there(host) for host in hosts)
    begun = [int(mark.name.split("-")[0]) for mark in marks.iterdir()]
    # What it was at ran again, and the next if it had finished the last unheard.
    assert len(begun) - len(set(begun)) <= 2


def decaying(t, y, args):
    return -y


def random_start(key):
    return 1.0 + jr.normal(key, (1,))


def test_an_ensemble_is_the_same_bits_on_hosts(hosts, executor):
    problem = ODEProblem(decaying, np.zeros(1), 0.0, 1.0)
    options = {
        "key": jr.key(3),
        "initial": random_start,
        "solver": "Tsit5",
        "dt": 2e-4,
        "reduce": {"moments": Moments(order=4)},
    }
    cutting = cut_off_when(
        hosts[2], lambda: len(executor._client.processing()) and _some_done(executor)
    )
    far = ensemble(problem, 24_000, executor=executor, batch_size=1024, **options)
    cutting.join()
    near = ensemble(problem, 24_000, **options)
    assert far.to_dict()["reduced"] == near.to_dict()["reduced"]


def _some_done(executor):
    held = executor._client.run_on_scheduler(
        lambda dask_scheduler: len(dask_scheduler.tasks)
    )
    return held > 3


TRAINING = """
    import os, sys
    import jax
    jax.config.update("jax_enable_x64", True)
    rank, first, folder, steps = int(sys.argv[1]), *sys.argv[2:5]
    jax.distributed.initialize(first, 3, rank, heartbeat_timeout_seconds=10)
    import equinox as eqx, jax.numpy as jnp, numpy as np, optax
    from hybrid_nds import solve
    from hybrid_nds.models import NeuralODE
    from hybrid_nds.training import fit

    start = np.random.default_rng(0).normal(size=(48, 2))
    end = start @ np.array([[0.0, 1.0], [-1.0, 0.0]])

    def loss(model, batch, key):
        start, end = batch
        problem = lambda y: model.problem(y, 0.0, 1.0)
        last = lambda y: solve(problem(y), solver="Tsit5", dt=0.1).ys[-1]
        return jnp.mean((jax.vmap(last)(start) - end) ** 2)

    found = fit(
        NeuralODE(2, key=jax.random.key(0)),
        (start, end),
        loss,
        optax.adam(1e-2),
        steps=int(steps),
        batch_size=24,
        key=jax.random.key(1),
        devices=jax.devices(),
        checkpoint=folder,
        checkpoint_every=10,
    )
    leaves = jax.tree.leaves(eqx.filter(found.model, eqx.is_array))
    np.savez(f"{folder}-{rank}", loss=found.history.loss, *map(np.asarray, leaves))
"""


def _train(hosts, folder, port, steps=60):
    """Start a training on all hosts."""
    where = f"{hosts[0].address}:{port}"
    code = textwrap.dedent(TRAINING)
    return [
        host.run([sys.executable, "-c", code, str(k), where, str(folder), str(steps)])
        for k, host in enumerate(hosts)
    ]


def _ended(folder):
    """What the processes ended with, in one array each."""
    files = [np.load(f"{folder}-{k}.npz") for k in range(3)]
    return [np.concatenate([file[n].ravel() for n in file.files]) for file in files]


def test_a_training_goes_on_after_a_host_is_lost(hosts, tmp_path):
    """Every process ends with the same bits, those of a training that was not cut."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert [process.wait(300) for process in _train(hosts, whole, 9701)] == [0, 0, 0]
    expected = _ended(whole)
    assert all(np.array_equal(expected[0], one) for one in expected[1:])
    # It learned: a loss of the untrained model's order would show no training.
    assert np.load(f"{whole}-0.npz")["loss"][-1] < 0.2

    processes = _train(hosts, cut, 9702)
    while not (cut / "steps/20").exists():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)
    hosts[2].end()
    codes = [process.wait(300) for process in processes]
    assert all(codes), "nobody ends well without all"
    assert not Path(f"{cut}-0.npz").exists()
    assert [process.wait(300) for process in _train(hosts, cut, 9703)] == [0, 0, 0]
    assert all(np.array_equal(expected[0], one) for one in _ended(cut))
