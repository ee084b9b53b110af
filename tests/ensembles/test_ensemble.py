"""Ensembles on Diffrax: distributions, reproducibility, failures, bad arguments."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import ensemble_cases as cases
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

from hybrid_nds import (
    EnsembleError,
    ExitFlags,
    Histogram,
    Moments,
    ODEProblem,
    Quantiles,
    SDEProblem,
    ensemble,
    solve,
)

# The chance that a right program fails one comparison; there are about 10 here.
LEVEL = 1e-6
KEY = jr.key(0)


def z_limit(comparisons):
    return stats.norm.isf(LEVEL / comparisons / 2)


@pytest.fixture(scope="module")
def growth():
    """The same trajectories, kept and reduced."""
    problem = cases.gbm()
    options = {"key": KEY, "dt": 0.125, "saveat": [0.5, 1.0]}
    kept = ensemble(problem, 3000, **options)
    reduce = {
        "moments": Moments(order=4, covariance=True),
        "histogram": Histogram(np.linspace(0.0, 6.0, 13)),
        "quantiles": Quantiles([0.1, 0.5, 0.9]),
        "exits": ExitFlags(lambda y: y[0] < 1.6),
    }
    return kept, ensemble(problem, 3000, reduce=reduce, **options), reduce


def test_moments_are_those_of_the_scheme(growth):
    found = growth[1].reduced["moments"]
    for time, t in enumerate([0.5, 1.0]):
        for component, y0 in enumerate([1.0, 2.0]):
            mean, variance = cases.gbm_euler_moments(y0, t, 0.125)
            # The exact variance of a sample mean: no estimate enters but the mean.
            z = (found.mean[time, component] - mean) / np.sqrt(variance / 3000)
            assert abs(z) < z_limit(4)
        # Independent copies: the sample covariance of n pairs has mean zero and
        # variance σ₁²σ₂²/(n-1).
        product = np.prod(
            [cases.gbm_euler_moments(y0, t, 0.125)[1] for y0 in (1.0, 2.0)]
        )
        assert abs(found.covariance[time, 0, 1]) < z_limit(2) * np.sqrt(product / 2999)


def test_variance_of_an_ornstein_uhlenbeck_process():
    theta, sigma, dt, n = 2.0, 0.5, 0.0625, 4000
    problem = SDEProblem(
        lambda t, y, args: -theta * y,
        lambda t, y, args: sigma * jnp.ones_like(y),
        jnp.array([1.0]),
        0.0,
        1.0,
        noise="additive",
    )
    found = ensemble(problem, n, key=KEY, dt=dt, solver="Euler", reduce=Moments())
    # Euler's scheme is a Gaussian recursion x ← (1-θh)x + σ dW with a closed form.
    factor, steps = 1 - theta * dt, 16
    mean = factor**steps
    variance = sigma**2 * dt * (1 - factor ** (2 * steps)) / (1 - factor**2)
    z = (found.reduced.mean[0, 0] - mean) / np.sqrt(variance / n)
    assert abs(z) < z_limit(1)
    # (n-1)s²/σ² of normal numbers is χ² with n-1 degrees of freedom.
    scaled = (n - 1) * found.reduced.variance[0, 0] / variance
    low, high = stats.chi2.interval(1 - LEVEL, n - 1)
    assert low < scaled < high


def test_reductions_are_those_of_the_states(growth):
    kept, found, _ = growth
    ys = kept.ys
    assert ys.shape == (3000, 2, 2)
    reduced = found.reduced
    # Sums of 3000 numbers in another order: n ulp at the very most.
    near = {"rtol": 1e-12}
    np.testing.assert_allclose(reduced["moments"].mean, ys.mean(axis=0), **near)
    np.testing.assert_allclose(
        reduced["moments"].variance, ys.var(axis=0, ddof=1), **near
    )
    counts, _ = np.histogram(ys[:, 1, 1], np.linspace(0.0, 6.0, 13))
    assert cases.same(reduced["histogram"].counts[1, :, 1], counts)
    outside = ys[:, :, 0] >= 1.6
    first = [outside[:, 0].sum(), (~outside[:, 0] & outside[:, 1]).sum()]
    assert reduced["exits"].exits.tolist() == first
    error = reduced["quantiles"].rank_error
    assert error <= 1e-3
    for place, p in enumerate([0.1, 0.5, 0.9]):
        low, high = np.quantile(
            ys, [p - error, p + error], axis=0, method="inverted_cdf"
        )
        values = reduced["quantiles"].values[:, place]
        assert np.all((values >= low) & (values <= high))


def test_a_trajectory_is_the_solve_with_its_key(growth):
    for index in (0, 1023, 2999):
        key = jr.fold_in(KEY, index)
        alone = solve(cases.gbm(), key=key, dt=0.125, saveat=[0.5, 1.0])
        # Eight steps of a few operations each, compiled for one and for many.
        np.testing.assert_allclose(growth[0].ys[index], alone.ys, rtol=1e-14)


@pytest.mark.parametrize("batch_size", [1, 1000, 5000])
def test_the_size_of_batches_changes_no_bit(growth, batch_size):
    _, found, reduce = growth
    other = ensemble(
        cases.gbm(),
        3000,
        key=KEY,
        dt=0.125,
        saveat=[0.5, 1.0],
        reduce=reduce,
        batch_size=batch_size,
    )
    assert other.to_dict() == found.to_dict()


@pytest.mark.slow
def test_devices_change_no_bit(growth):
    """Two devices, of which the last has nothing to do in the last batch."""
    found = growth[1].reduced["moments"]
    program = """
        import json, jax
        jax.config.update("jax_enable_x64", True)
        import ensemble_cases as cases
        from hybrid_nds import ensemble, Moments
        mesh = jax.make_mesh((2,), ("devices",))
        found = ensemble(
            cases.gbm(), 3000, key=jax.random.key(0), dt=0.125, saveat=[0.5, 1.0],
            reduce=Moments(order=4, covariance=True), mesh=mesh, batch_size=2500,
        )
        print(json.dumps([x.tolist() for x in (
            found.reduced.mean, found.reduced.covariance,
            found.reduced.central_moments[4],
        )]))
    """
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
    }
    output = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=Path(__file__).parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert output.returncode == 0, output.stderr
    parts = json.loads(output.stdout)
    mine = found.mean, found.covariance, found.central_moments[4]
    for one, other in zip(parts, mine, strict=True):
        assert cases.same(one, other)


def test_keys_give_trajectories(growth):
    same = {"dt": 0.125, "saveat": [0.5, 1.0]}
    other = ensemble(cases.gbm(), 3000, key=jr.key(1), **same).ys
    assert len(np.unique([growth[0].ys[:, 0, 0], other[:, 0, 0]])) == 6000
    # An old-style key is the same key.
    again = ensemble(cases.gbm(), 3000, key=jr.PRNGKey(0), **same).ys
    assert cases.same(growth[0].ys, again)


@pytest.mark.slow
def test_initial_states_drawn_from_keys():
    found = ensemble(cases.decay(), 500, key=KEY, initial=cases.random_start, dt=0.5)
    assert len(np.unique(found.ys)) == 500
    # The scheme multiplies every start by the same factor.
    one = ensemble(cases.decay(), 1, key=KEY, initial=np.ones((1, 1)), dt=0.5)
    starts = found.ys[:, 0, 0] / one.ys[0, 0, 0]
    # Normal numbers of mean 1 and deviation 1.
    assert stats.kstest(starts - 1, "norm").pvalue > LEVEL


def test_initial_states_given_as_arrays():
    starts = np.linspace(0.5, 2.0, 700)[:, None]
    found = ensemble(
        cases.decay(),
        700,
        key=KEY,
        initial=starts,
        saveat=[0.5, 1.0],
        rtol=1e-9,
        atol=1e-12,
    )
    exact = starts[:, None] * np.exp(-np.array([0.5, 1.0]))[:, None]
    # Ten errors of the size of the tolerance, as everywhere in the suite.
    np.testing.assert_allclose(found.ys, exact, rtol=1e-8)


def test_states_of_any_structure():
    problem = SDEProblem(
        lambda t, y, args: {"q": y["p"] * jnp.ones((2, 1)), "p": -y["p"]},
        lambda t, y, args: {"q": 0 * y["q"], "p": jnp.ones(())},
        {"q": jnp.zeros((2, 1)), "p": jnp.ones(())},
        0.0,
        1.0,
        noise="scalar",
    )
    kept = ensemble(problem, 5, key=KEY, dt=0.25, saveat=[0.25, 0.5, 1.0])
    assert kept.ys["q"].shape == (5, 3, 2, 1)
    assert kept.ys["p"].shape == (5, 3)
    # Euler's scheme: q gains h·p in each step, the same in both places.
    np.testing.assert_allclose(
        kept.ys["q"][:, 1] - kept.ys["q"][:, 0],
        0.25 * kept.ys["p"][:, 0][:, None, None] * np.ones((2, 1)),
        rtol=1e-12,
    )
    reduced = ensemble(
        problem,
        5,
        key=KEY,
        dt=0.25,
        saveat=[0.25, 0.5, 1.0],
        reduce={"m": Moments(), "q": Quantiles([0.5])},
    )
    assert reduced.reduced["m"].mean["q"].shape == (3, 2, 1)
    assert reduced.reduced["q"].values["p"].shape == (3, 1)


def test_failed_trajectories_are_named_and_left_out():
    starts = np.full((9, 1), 0.5)
    starts[[2, 7], 0] = 4.0, 5.0
    options = {"key": KEY, "initial": starts, "saveat": [0.1, 1.0], "max_steps": 2000}
    with pytest.warns(RuntimeWarning, match="2 of 9 trajectories failed: trajectory 2"):
        kept = ensemble(cases.blow_up(), 9, **options)
    assert [one.index for one in kept.failures] == [2, 7]
    for one, y0 in zip(kept.failures, (4.0, 5.0), strict=True):
        assert one.outcome in ("max_steps_reached", "step_size_too_small", "unstable")
        # It ends at 1/y0, where an adaptive solver stops but for its last step.
        assert one.time == pytest.approx(1 / y0, rel=1e-3)
    assert not kept.succeeded[[2, 7]].any()
    assert kept.succeeded.sum() == 7
    # 0.5/(1 - 0.5 t), to the default tolerance of 1e-6 times ten.
    whole = kept.ys[kept.succeeded, 1, 0]
    np.testing.assert_allclose(whole, 1.0, rtol=1e-5)
    np.testing.assert_allclose(kept.ys[2, 0], 4 / 0.6, rtol=1e-5)
    assert np.isnan(kept.ys[2, 1]).all()
    with pytest.warns(RuntimeWarning, match="failed"):
        reduced = ensemble(cases.blow_up(), 9, reduce=Moments(), **options)
    assert reduced.reduced.count == 7
    np.testing.assert_allclose(reduced.reduced.mean[1], 1.0, rtol=1e-5)
    with pytest.raises(EnsembleError, match="trajectory 7") as caught:
        ensemble(cases.blow_up(), 9, throw=True, **options)
    assert caught.value.ensemble.outcomes.size == 9
    assert "failed: trajectory 2" in repr(kept)


def test_a_stochastic_trajectory_that_is_not_finite():
    problem = SDEProblem(
        lambda t, y, args: jnp.where(y < -0.5, y / 0.0, -y),
        lambda t, y, args: jnp.ones_like(y),
        jnp.array([0.0]),
        0.0,
        2.0,
    )
    times = np.linspace(0.25, 2.0, 8)
    with pytest.warns(RuntimeWarning, match="unstable"):
        found = ensemble(problem, 64, key=KEY, dt=0.25, saveat=times)
    assert 0 < len(found.failures) < 64
    for one in found.failures:
        assert one.outcome == "unstable"
        lost = ~np.isfinite(found.ys[one.index, :, 0])
        assert one.time == times[np.argmax(lost)]
        # And nothing comes back from there.
        assert lost[np.argmax(lost) :].all()
    assert np.isfinite(found.ys[found.succeeded]).all()


def test_it_prints_and_turns_into_plain_data(growth):
    kept, found, _ = growth
    text = repr(found)
    for part in ("3000 trajectories", "Euler of diffrax", "dt=0.125", "shared Brown"):
        assert part in text
    data = json.loads(json.dumps(found.to_dict()))
    assert data["outcomes"] == {"success": 3000}
    assert data["provenance"]["backend"] == "diffrax"
    assert data["reduced"]["moments"]["count"] == 3000
    assert len(kept.to_dict()["ys"]) == 3000


def test_pictures_show_what_was_kept(growth):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    kept, found, _ = growth
    line = kept.plot(1).lines[0].get_ydata()
    np.testing.assert_allclose(line, kept.ys[:, :, 1].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.plot(1).lines[0].get_ydata(), line, rtol=1e-12)
    assert len(kept.plot(kind="paths").lines) > 1
    kept.plot(kind="histogram")
    found.plot(kind="histogram")
    with pytest.raises(ValueError, match="needs states"):
        found.plot(kind="paths")
    with pytest.raises(ValueError, match="`component` must be from 0 to 1"):
        found.plot(2)
    with pytest.raises(ValueError, match="`kind` must be one of"):
        found.plot(kind="pie")
    plt.close("all")


def test_progress_is_shown_where_it_is_asked_for(capsys, monkeypatch):
    options = {"key": KEY, "initial": np.ones((4, 1)), "dt": 0.5}
    ensemble(cases.decay(), 4, **options)
    assert capsys.readouterr().out == ""
    with monkeypatch.context() as patch:
        # Rich draws on terminals alone, and remembers what it took its console for.
        patch.setenv("FORCE_COLOR", "1")
        patch.setattr("rich._console", None)
        ensemble(cases.decay(), 4, progress=True, **options)
    shown = capsys.readouterr().out
    assert "Trajectories" in shown
    assert "4/4" in shown


BAD = [
    ({"problem": "gbm"}, TypeError, "`problem` must be an ODEProblem or an SDE"),
    ({"n": 0}, ValueError, "`n` must be a whole number of at least 1, got 0"),
    ({"n": 2.0}, ValueError, "`n` must be a whole number"),
    ({"key": 3}, TypeError, "`key` must be one random key"),
    ({"key": jr.split(KEY)}, TypeError, "`key` must be one random key"),
    ({"backend": "torch"}, ValueError, "`backend` must be one of"),
    ({"solver": "Eular"}, ValueError, "`solver`"),
    ({"dt": -0.1}, ValueError, "`dt` must be positive"),
    ({"dt": 0.3}, ValueError, "`dt` must divide the span"),
    ({"dt": None}, ValueError, "needs `dt`"),
    ({"saveat": "steps"}, ValueError, "`saveat` must be None, for the final time"),
    ({"saveat": [0.2, 0.1]}, ValueError, "`saveat` must strictly increase"),
    ({"saveat": [0.0, 9.0]}, ValueError, "`saveat`"),
    ({"event": "exit"}, ValueError, "reduce=ExitFlags"),
    ({"path": 3}, TypeError, "takes no `path`"),
    ({"initial": np.ones((3, 2))}, ValueError, r"`initial` must have shape \(4, 2\)"),
    ({"initial": np.full((4, 2), np.nan)}, ValueError, "not for trajectory 0"),
    ({"initial": lambda key: jnp.ones(3)}, ValueError, r"shape \(2,\)"),
    ({"initial": lambda: 1}, ValueError, r"evaluated as initial\(key\)"),
    ({"initial": {"a": 1.0}}, ValueError, "the structure of `y0`"),
    ({"reduce": {}}, ValueError, "`reduce` is an empty dict"),
    ({"reduce": Moments}, TypeError, "not the class"),
    ({"reduce": np.mean}, TypeError, "`reduce` must be None, a reduction"),
    ({"reduce": {"m": 1}}, TypeError, "'m': int"),
    ({"reduce": Moments(of=lambda y: y[5.5])}, ValueError, "could not be evaluated"),
    ({"executor": "processes"}, TypeError, "`executor` must be None, a number"),
    ({"executor": 0}, ValueError, "at least 1 worker"),
    ({"batch_size": 0}, ValueError, "`batch_size`"),
    ({"threads": 2}, ValueError, "`threads` are Julia's"),
    ({"mesh": 2}, TypeError, "`mesh` must be a jax.sharding.Mesh"),
    ({"paths": "own"}, ValueError, "`paths` must be one of"),
    ({"progress": "yes"}, ValueError, "`progress` must be one of True, False"),
    ({"throw": 2}, ValueError, "`throw`"),
    ({"nonsense": 1}, TypeError, "takes no option nonsense"),
]


@pytest.mark.parametrize(
    ("bad", "error", "match"), BAD, ids=[" ".join(map(str, b[0])) for b in BAD]
)
def test_bad_arguments_are_named(bad, error, match):
    good = {"problem": cases.gbm(), "n": 4, "key": KEY, "dt": 0.25}
    given = good | bad
    with pytest.raises(error, match=match):
        ensemble(given.pop("problem"), given.pop("n"), **given)


def test_an_ordinary_problem_needs_initial_states():
    with pytest.raises(ValueError, match="without `initial`"):
        ensemble(cases.decay(), 4, key=KEY)
    with pytest.raises(ValueError, match="has no Brownian `paths`"):
        ensemble(cases.decay(), 4, key=KEY, initial=cases.random_start, paths="shared")
    endless = ODEProblem(lambda t, y, args: -y, jnp.array([0.0]), 0.0, jnp.inf)
    with pytest.raises(ValueError, match=r"`event` must end"):
        ensemble(endless, 4, key=KEY, initial=cases.random_start)


def test_a_traced_problem_is_refused():
    with pytest.raises(TypeError, match="`problem` must be concrete"):
        jax.jit(
            lambda a: (
                ensemble(
                    SDEProblem(
                        lambda t, y, args: args * y,
                        lambda t, y, args: y,
                        jnp.ones(1),
                        0.0,
                        1.0,
                        a,
                    ),
                    4,
                    key=KEY,
                    dt=0.5,
                ).ys
            )
        )(1.0)


@pytest.mark.parametrize(
    ("solver", "options", "limit"),
    [
        # Inside shard_map, which every ensemble on Diffrax runs in.
        ("ImplicitEuler", {"dt": 1 / 64}, 7e-3),
        ("Kvaerno3", {}, 1e-5),
        pytest.param("KenCarp4", {}, 1e-5, marks=pytest.mark.slow),
        pytest.param("Kvaerno5", {}, 1e-5, marks=pytest.mark.slow),
    ],
)
def test_implicit_solvers_run_in_ensembles(solver, options, limit):
    problem = ODEProblem(lambda t, y, a: -(y**3), jnp.ones(1), 0.0, 1.0)
    starts = np.linspace(0.5, 1.0, 4)[:, None]
    found = ensemble(
        problem, 4, key=jr.key(0), initial=starts, solver=solver, **options
    )
    expected = starts / np.sqrt(1 + 2 * starts**2)
    # The local errors of implicit Euler are h²/2 y'', which sum to h/2 of the change of
    # y' at the most, 1/128; or tolerances of 1e-6 over some ten steps.
    np.testing.assert_allclose(found.ys[:, -1], expected, atol=limit)
