"""Ensembles on disk: cut short and gone on with, to the same bits; never mixed up."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import ensemble_cases as cases
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from hybrid_nds import Moments, ODEProblem, Quantiles, ensemble

KEY = jr.key(7)
OPTIONS = {"key": KEY, "dt": 0.25, "initial": cases.random_start}
REDUCE = {"moments": Moments(order=4), "quantiles": Quantiles()}


def run(save, n=2000, **changes):
    given = {"reduce": REDUCE, "batch_size": 256} | OPTIONS | changes
    problem = given.pop("problem", cases.decay())
    return ensemble(problem, n, save=save, **given)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("blocks-*.npz")}


def test_a_finished_run_is_read_back(tmp_path):
    first = run(tmp_path)
    written = files(tmp_path)
    assert len(written) == 8
    again = run(tmp_path)
    assert again.to_dict() == first.to_dict()
    assert files(tmp_path) == written
    assert first.to_dict() == run(None).to_dict()


def test_missing_batches_are_solved_again_whatever_their_size(tmp_path):
    first = run(tmp_path)
    names = sorted(files(tmp_path))
    for name in (names[0], names[3], names[4], names[7]):
        (tmp_path / name).unlink()
    again = run(tmp_path, batch_size=700)
    assert again.to_dict() == first.to_dict()
    # Blocks 3 and 4 in one batch, now that two fit.
    assert "blocks-00000003-00000004.npz" in files(tmp_path)


def test_native_paths_go_on_to_the_same_bits(tmp_path):
    """Increments straight from the key, of blocks that were solved in other batches."""
    given = {"problem": cases.gbm(), "paths": "native", "solver": "Euler"}
    given |= {"initial": None, "dt": 0.125}
    first = run(tmp_path, **given)
    for name in sorted(files(tmp_path))[2:5]:
        (tmp_path / name).unlink()
    assert run(tmp_path, batch_size=512, **given).to_dict() == first.to_dict()
    assert run(None, batch_size=2000, **given).to_dict() == first.to_dict()
    # Not the shared paths' numbers.
    other = run(None, **given | {"paths": "shared"})
    assert other.to_dict() != first.to_dict()


def test_states_are_read_back(tmp_path):
    starts = np.linspace(0.0, 1.0, 600)[:, None]
    first = run(tmp_path, 600, reduce=None, initial=starts, saveat=[0.5, 1.0])
    (tmp_path / "blocks-00000001-00000001.npz").unlink()
    again = run(tmp_path, 600, reduce=None, initial=starts, saveat=[0.5, 1.0])
    assert cases.same(first.ys, again.ys)
    assert again.provenance == first.provenance


def test_failures_are_read_back(tmp_path):
    starts = np.full((300, 1), 0.5)
    starts[270] = 4.0
    options = {"problem": cases.blow_up(), "initial": starts, "max_steps": 500}
    with pytest.warns(RuntimeWarning, match="trajectory 270"):
        first = run(tmp_path, 300, dt=None, **options)
    with pytest.warns(RuntimeWarning, match="trajectory 270"):
        again = run(tmp_path, 300, dt=None, **options)
    assert again.failures == first.failures


PROGRAM = """
    import sys, jax
    jax.config.update("jax_enable_x64", True)
    import ensemble_cases as cases
    from hybrid_nds import ensemble, Moments, Quantiles
    try:
        ensemble(
            cases.decay(), 20_000, key=jax.random.key(7), dt=2.0**-10,
            initial=cases.random_start, save=sys.argv[1], batch_size=1024,
            reduce={"moments": Moments(order=4), "quantiles": Quantiles()},
        )
    except KeyboardInterrupt as stop:
        print(stop.__notes__[0])
        sys.exit(17)
"""


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(folder)],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_run_that_was_killed_goes_on(tmp_path, how):
    process = start(tmp_path)
    deadline = time.monotonic() + 300
    while len(files(tmp_path)) < 3 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, how)
    output, errors = process.communicate()
    if how == signal.SIGINT:
        assert process.returncode == 17, errors
        assert "the same call goes on" in output
    else:
        assert process.returncode == -signal.SIGKILL, errors
    kept = files(tmp_path)
    assert 3 <= len(kept) < 20
    # Whole files alone bear their names.
    for name in kept:
        with np.load(tmp_path / name) as file:
            assert file["numbers"].size == 1
    options = {"dt": 2.0**-10, "batch_size": 2000}
    again = run(tmp_path, 20_000, **options)
    after = files(tmp_path)
    assert {name: after[name] for name in kept} == kept
    assert again.to_dict() == run(None, 20_000, **options).to_dict()


def other_start(key):
    return 2.0 + jr.normal(key, (1,))


class Decay:
    """A field with a number in it."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, t, y, args):
        return -self.rate * y


OTHERS = {
    "key": {"key": jr.key(8)},
    "n": {"n": 2001},
    "options": {"dt": 0.125},
    "saveat": {"saveat": [0.5, 1.0]},
    "initial states": {"initial": other_start},
    "reductions": {"reduce": REDUCE | {"quantiles": Quantiles([0.5])}},
    "problem": {
        "problem": ODEProblem(Decay(1.5), jnp.array([0.0]), 0.0, 1.0),
    },
}


@pytest.mark.parametrize("what", OTHERS)
def test_the_folder_of_another_run_is_refused(tmp_path, what):
    run(tmp_path)
    with pytest.raises(ValueError, match=f"with another .*{what}"):
        run(tmp_path, **OTHERS[what])


def test_a_field_is_known_by_what_it_computes(tmp_path):
    """The same mathematics in another place is the same problem; other numbers in the
    same place are not."""
    problem = ODEProblem(Decay(1.5), jnp.array([0.0]), 0.0, 1.0)
    first = run(tmp_path, problem=problem)
    same = ODEProblem(lambda t, y, args: -1.5 * y, jnp.array([0.0]), 0.0, 1.0)
    assert run(tmp_path, problem=same).to_dict() == first.to_dict()
    other = ODEProblem(Decay(1.25), jnp.array([0.0]), 0.0, 1.0)
    with pytest.raises(ValueError, match="another problem"):
        run(tmp_path, problem=other)


def test_weights_belong_to_the_problem(tmp_path):
    def field(t, y, args):
        return args @ y

    one = ODEProblem(field, jnp.zeros(1), 0.0, 1.0, jnp.array([[1.0]]))
    run(tmp_path, problem=one)
    other = ODEProblem(field, jnp.zeros(1), 0.0, 1.0, jnp.array([[1.0 + 1e-15]]))
    with pytest.raises(ValueError, match="another problem"):
        run(tmp_path, problem=other)


def test_folders_with_other_things_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="holds other files"):
        run(tmp_path)
    with pytest.raises(ValueError, match="must be a folder"):
        run(tmp_path / "thesis.tex")


def test_damaged_files_are_named(tmp_path):
    run(tmp_path)
    path = tmp_path / "blocks-00000002-00000002.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"blocks-00000002-00000002\.npz is damaged"):
        run(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="manifest that cannot be read"):
        run(tmp_path)
