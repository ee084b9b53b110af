"""Mean exit times from the loops in Julia."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_stability_exit import SIGMAS, double_well, kramers

from hybrid_nds import SDEProblem
from hybrid_nds.analysis import AnalysisError
from hybrid_nds.stability import mean_exit_time

pytestmark = pytest.mark.julia


def test_julia_finds_the_same_mean(julia):
    found = mean_exit_time(
        double_well(),
        (-np.inf, 0.0),
        1000,
        key=jax.random.key(4),
        dt=0.02,
        backend="julia",
        check_step=False,
    )
    assert abs(found.mean - kramers(0.1)) < SIGMAS * found.standard_error
    assert found.provenance.backend == "julia"
    assert found.settings["runner"] == "exit loop"


@pytest.mark.parametrize(
    ("solver", "correction", "runner"),
    [
        ("Heun", "bridge", "exit loop"),
        ("Heun", "shift", "lean kernel"),
    ],
)
def test_julia_leaves_a_disc(julia, solver, correction, runner):
    # Two motions in a matrix that turns with time, which changes no law: E T = (R² −
    # |x|²)/d again.
    def diffusion(t, y, args):
        c, s = jnp.cos(3 * t), jnp.sin(3 * t)
        return jnp.array([[c, -s], [s, c]])

    problem = SDEProblem(
        lambda t, y, args: 0 * y,
        diffusion,
        jnp.array([0.3, 0.0]),
        0.0,
        1.0,
        noise="commutative",
        interpretation="stratonovich",
    )
    found = mean_exit_time(
        problem,
        lambda y: 1 - jnp.sqrt(jnp.sum(y**2) + 1e-12),
        1024,
        key=jax.random.key(3),
        dt=0.01,
        backend="julia",
        solver=solver,
        correction=correction,
        check_step=False,
    )
    # A half-plane in place of the disc over one step: a bias of order h.
    exact = (1 - 0.09) / 2
    assert abs(found.mean - exact) < SIGMAS * found.standard_error + 0.01
    assert found.settings["runner"] == runner


def test_a_run_in_julia_goes_on_where_it_stopped(julia, tmp_path, monkeypatch):
    from hybrid_nds.stability.long_run import _exit_native as native

    given = {
        "key": jax.random.key(6),
        "dt": 0.02,
        "backend": "julia",
        "check_step": False,
    }
    # A trajectory at a time: the clock must change no bit.
    monkeypatch.setattr(native, "_SEGMENT", 0.0)
    monkeypatch.setattr(native, "_FIRST", 1)
    whole = mean_exit_time(double_well(), (-np.inf, 0.0), 32, **given)
    path = tmp_path / "exits.npz"
    saved, calls = native.SavedProgress.write, []

    def cut_off(self, arrays):
        saved(self, arrays)
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(native.SavedProgress, "write", cut_off)
    with pytest.raises(KeyboardInterrupt):
        mean_exit_time(double_well(), (-np.inf, 0.0), 32, save=path, **given)
    monkeypatch.setattr(native.SavedProgress, "write", saved)
    monkeypatch.setattr(native, "_FIRST", 16)
    found = mean_exit_time(double_well(), (-np.inf, 0.0), 32, save=path, **given)
    np.testing.assert_array_equal(found.times, whole.times)
    np.testing.assert_array_equal(found.through, whole.through)


def test_exits_that_fail_in_julia_are_named(julia):
    given = {"key": jax.random.key(7), "dt": 0.02, "backend": "julia"}
    with pytest.raises(AnalysisError, match="16 of 16 trajectories were still inside"):
        mean_exit_time(double_well(0.02), (-np.inf, 0.5), 16, max_time=0.1, **given)
    explosive = SDEProblem(
        lambda t, y, args: jnp.array([0.0, 1e3]) * y**3,
        lambda t, y, args: jnp.ones_like(y),
        jnp.array([0.0, 5.0]),
        0.0,
        1.0,
        noise="additive",
        interpretation="ito",
    )
    region = (np.array([-9.0, -np.inf]), np.array([9.0, np.inf]))
    with pytest.raises(AnalysisError, match="trajectory 0 failed before it left"):
        mean_exit_time(explosive, region, 4, **given)
