"""Trainings on disk: cut off and gone on with, to the same bits; never mixed up."""

import _thread
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import training_cases as cases

from hybrid_nds.training import TrainingError


@pytest.fixture(scope="module")
def whole():
    """A hundred steps without a break."""
    return cases.bits(cases.train())


def kept(folder):
    """The steps of the checkpoints that are whole."""
    return sorted(int(path.name) for path in (folder / "steps").glob("[0-9]*[0-9]"))


def test_a_training_goes_on_from_its_checkpoint(tmp_path, whole):
    assert cases.bits(cases.train(tmp_path / "new" / "folder")) == whole
    for steps in (4, 55, 100, 100):
        done = cases.train(tmp_path / "parts", steps=steps)
        assert done.steps == steps
    # A shorter training ends with a validation: at 4 and at 55, beside those at 15k.
    losses = done.history.validation_loss
    assert done.history.validation_steps.tolist() == [
        *(4, 15, 30, 45, 55, 60, 75, 90, 100),
    ]
    again = cases.bits(done)
    for name in ("loss", "worst", "0", "1"):
        assert again[name] == whole[name], name
    assert np.delete(losses, [0, 4]).tobytes() == whole["validation"]
    assert kept(tmp_path / "parts") == [90, 100]
    assert done.checkpoint == tmp_path / "parts"


@pytest.mark.slow
def test_a_training_from_an_iterable_goes_on(tmp_path):
    def stream():
        draws = np.random.default_rng(3)
        while True:
            yield cases.PATHS[draws.integers(0, 30, 5)]

    given = {"batch_size": None}
    first = cases.bits(cases.train(data=stream(), **given))
    cases.train(tmp_path, data=stream(), steps=30, **given)
    again = cases.train(tmp_path, data=stream(), **given)
    assert cases.bits(again) == first
    # A finished training is read back, and takes no batch but the first.
    source = stream()
    assert cases.bits(cases.train(tmp_path, data=source, **given)) == first


@pytest.mark.slow
def test_patience_goes_on_counting(tmp_path):
    """Learning backward: the first validation stays the best."""
    given = {"optimizer": optax.sgd(-1e-3), "patience": 4, "validate_every": 5}
    first = cases.train(**given)
    assert (first.steps, first.best_step, first.stopped_early) == (25, 5, True)
    cases.train(tmp_path, steps=15, **given)
    again = cases.train(tmp_path, **given)
    assert cases.bits(again) == cases.bits(first)
    assert cases.bits(cases.train(tmp_path, **given)) == cases.bits(first)


@pytest.mark.slow
def test_an_interrupt_keeps_what_was_done(tmp_path):
    """The interrupt comes in the middle of a segment of compiled steps."""
    calls = []

    def count(_):
        calls.append(1)
        if len(calls) == 38:
            _thread.interrupt_main()

    def loss(model, batch, key):
        jax.debug.callback(count, key)
        return cases.noisy_loss(model, batch, key)

    with pytest.raises(KeyboardInterrupt) as stop:
        cases.train(tmp_path, loss=loss)
    (at,) = kept(tmp_path)[-1:]
    assert 10 <= at <= 50
    assert f"interrupted after {at} steps" in stop.value.__notes__[-1]
    assert f"steps/{at}: the same call goes on" in stop.value.__notes__[-1]
    resumed = cases.bits(cases.train(tmp_path, loss=loss))
    assert resumed == cases.bits(cases.train(loss=loss))


@pytest.mark.slow
def test_a_number_that_is_not_finite_names_the_last_good_checkpoint(tmp_path):
    paths = cases.PATHS[:30].copy()
    paths[3] = np.nan

    def loss(model, batch, key):
        # The bad sample counts from the second of three epochs on.
        return cases.noisy_loss(model, jnp.where(model.calls[0] < 9, batch, 0.0), key)

    class Late:
        def at(self, step):
            return loss if step >= 24 else healthy

    def healthy(model, batch, key):
        return cases.noisy_loss(model, jnp.nan_to_num(batch), key)

    late = Late()
    with pytest.raises(TrainingError) as failure:
        cases.train(tmp_path, data=paths, loss=late)
    error = failure.value
    assert error.step >= 24
    assert 3 in error.batch
    last = error.step // 10 * 10
    assert error.checkpoint == tmp_path / "steps" / str(last)
    assert kept(tmp_path)[-1] == last
    assert str(error.checkpoint) in str(error)


# Made in its test: collecting compiles nothing.
OTHERS = {
    "model": lambda: {"model": cases.Field(jr.key(1), width=9)},
    "start of the model": lambda: {"model": cases.Field(jr.key(3))},
    "optimizer": lambda: {"optimizer": cases.optimizer(2e-2)},
    "data": lambda: {"data": cases.PATHS[1:31]},
    "batch size": lambda: {"batch_size": 6},
    "key": lambda: {"key": jr.key(4)},
    "loss": lambda: {"loss": lambda *given: cases.noisy_loss(*given)[0]},
    "validation data": lambda: {"validation": cases.PATHS[31:]},
}


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The folder of ten steps."""
    folder = tmp_path_factory.mktemp("short")
    cases.train(folder, steps=10)
    return folder


@pytest.mark.parametrize("what", OTHERS)
def test_the_checkpoint_of_another_training_is_refused(short, what):
    with pytest.raises(ValueError, match=f"with another .*{what}"):
        cases.train(short, **OTHERS[what]())


def test_fewer_steps_than_were_taken_are_refused(short):
    with pytest.raises(ValueError, match=r"holds 10 steps .* `steps` is 9"):
        cases.train(short, steps=9)


def test_other_versions_of_libraries_do_not_stop_a_training(short, tmp_path):
    """How they trace a loss may differ; the model and the data may not."""
    folder = tmp_path / "copy"
    shutil.copytree(short, folder)
    path = folder / "training.json"
    manifest = json.loads(path.read_text())
    manifest["versions"]["jax"] = "0.6.0"
    manifest["fingerprint"]["loss"] = "as another version writes it"
    path.write_text(json.dumps(manifest))
    with pytest.warns(UserWarning, match=r"jax 0\.6\.0"):
        cases.train(folder, steps=11)
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="another key"):
        cases.train(folder, key=jr.key(4))


def test_folders_with_other_things_are_refused(short, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="holds other files"):
        cases.train(tmp_path)
    with pytest.raises(ValueError, match="must be a folder"):
        cases.train(tmp_path / "thesis.tex")
    folder = tmp_path / "copy"
    shutil.copytree(short, folder)
    for path in (folder / "steps" / "10").rglob("*"):
        if path.is_file() and path.name != "_CHECKPOINT_METADATA":
            path.write_bytes(path.read_bytes()[:7])
    with pytest.raises(ValueError, match=r"steps/10 is damaged"):
        cases.train(folder)
    (folder / "training.json").write_text("{")
    with pytest.raises(ValueError, match="manifest that cannot be read"):
        cases.train(folder)


PROGRAM = """
    import sys, jax
    jax.config.update("jax_enable_x64", True)
    import training_cases as cases
    loss = getattr(cases, sys.argv[3])
    cases.train(sys.argv[1], steps=int(sys.argv[2]), loss=loss)
"""


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), *map(str, arguments)],
        cwd=Path(__file__).parent,
        stderr=subprocess.PIPE,
        text=True,
    )


def latest(folder):
    return max(kept(folder), default=0)


@pytest.mark.parametrize(
    ("kills", "steps", "loss"),
    [
        pytest.param(2, 200, "noisy_loss", marks=pytest.mark.slow),
        pytest.param(20, 2000, "diffrax_loss", marks=pytest.mark.slow),
    ],
)
def test_a_training_that_is_killed_again_and_again(tmp_path, kills, steps, loss):
    """At random moments after the first new checkpoint, and twice before it."""
    draws = random.Random(kills)
    for kill in range(kills):
        before, process = latest(tmp_path), start(tmp_path, steps, loss)
        if kill % 10 == 9:
            time.sleep(draws.uniform(0.0, 3.0))
        else:
            new = before + 10 * draws.randint(1, 4)
            deadline = time.monotonic() + 300
            while latest(tmp_path) < new and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            time.sleep(draws.uniform(0.0, 0.03))
        assert process.poll() is None, process.communicate()[1]
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.communicate()
        # At most the steps since the last checkpoint are lost.
        assert latest(tmp_path) >= before
    assert 0 < latest(tmp_path) < steps
    given = {"steps": steps, "loss": getattr(cases, loss)}
    done = cases.train(tmp_path, **given)
    assert cases.bits(done) == cases.bits(cases.train(**given))
