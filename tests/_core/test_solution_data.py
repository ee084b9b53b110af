"""Solutions and ensembles as pictures and as datasets."""

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from result_cases import a_solution, an_ensemble

from hybrid_nds import (
    ExitFlags,
    Histogram,
    Moments,
    ODEProblem,
    Outcome,
    Quantiles,
    solve,
)

matplotlib.use("Agg")


def test_a_solution_is_a_dataset_of_the_leaves_of_its_state():
    solution = a_solution()
    dataset = solution.to_xarray()
    assert dataset["ys.x"].dims == ("time",)
    assert dataset["ys.v"].dims == ("time", "v.component")
    np.testing.assert_array_equal(dataset["ys.v"], solution.ys["v"])
    np.testing.assert_array_equal(dataset["time"], solution.ts)
    np.testing.assert_array_equal(dataset["ys.x"].sel(time=1.0), solution.ys["x"][-1])
    assert dataset["outcome"].item() == "success"
    assert dataset.attrs["stats.num_steps"] == solution.stats["num_steps"]
    assert solution.to_dict()["ys"]["x"] == np.asarray(solution.ys["x"]).tolist()
    assert solution.to_dict()["outcome"] == "success"


def test_the_lines_of_a_solution_are_its_states():
    import matplotlib.pyplot as plt

    solution = a_solution()
    lines = solution.plot().lines
    # In the order of ravel_pytree: by name.
    expected = [*np.asarray(solution.ys["v"]).T, np.asarray(solution.ys["x"])]
    assert [line.get_label() for line in lines] == ["v[0]", "v[1]", "x"]
    for line, states in zip(lines, expected, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), solution.ts)
        np.testing.assert_array_equal(line.get_ydata(), states)
    (alone,) = solution.plot(2).lines
    np.testing.assert_array_equal(alone.get_ydata(), expected[2])
    assert solution.plot(2).get_ylabel() == "x"
    for component in (3, -1, [0, 3], []):
        with pytest.raises(ValueError, match="`component` must be from 0 to 2"):
            solution.plot(component)
    plt.close("all")


def test_dense_output_is_drawn_over_its_span():
    import matplotlib.pyplot as plt

    problem = ODEProblem(lambda t, y, args: -y, jnp.ones(1), 1.0, 3.0)
    solution = solve(problem, saveat="dense")
    (line,) = solution.plot().lines
    t = np.asarray(line.get_xdata())
    assert (t[0], t[-1], t.size > 100) == (1.0, 3.0, True)
    np.testing.assert_array_equal(line.get_ydata(), solution.evaluate(t)[:, 0])
    plt.close("all")


def _decay(y0, t1=1.0):
    problem = ODEProblem(lambda t, y, args: -y, y0, 0.0, t1)
    return solve(problem, saveat=jnp.linspace(0, 1, 5))


@pytest.mark.slow
def test_a_batch_of_solutions_has_a_dimension_more():
    import matplotlib.pyplot as plt

    y0 = jnp.arange(1.0, 7.0).reshape(3, 2)
    batch = eqx.filter_vmap(_decay)(y0)
    dataset = batch.to_xarray()
    assert dataset["ys"].dims == ("batch", "time", "component")
    assert dataset["end_time"].dims == dataset["outcome"].dims == ("batch",)
    np.testing.assert_array_equal(dataset["ys"], batch.ys)
    np.testing.assert_array_equal(dataset["time"], jnp.linspace(0, 1, 5))
    assert batch.to_dict()["outcome"] == ["success"] * 3
    assert str(batch).startswith("3 solutions by Tsit5 of diffrax: success at t = 1")
    lines = batch.plot(1).lines
    for line, states in zip(lines, batch.ys[:, :, 1], strict=True):
        np.testing.assert_array_equal(line.get_ydata(), states)
    grid = eqx.filter_vmap(eqx.filter_vmap(_decay))(y0[None])
    assert grid.to_xarray()["ys"].dims == ("batch_0", "batch_1", "time", "component")
    plt.close("all")


@pytest.mark.slow
def test_a_batch_that_failed_in_part_is_drawn_as_far_as_it_came():
    import matplotlib.pyplot as plt

    def blow_up(y0):
        problem = ODEProblem(lambda t, y, args: y**2, y0, 0.0, 1.0)
        return solve(problem, saveat=jnp.linspace(0, 1, 9), max_steps=64, throw=False)

    # y = y0 / (1 - y0 t), which has no state at t = 1 for the second.
    batch = eqx.filter_vmap(blow_up)(jnp.array([[0.5], [2.0]]))
    axes = batch.plot()
    assert axes.get_title("left") == "NOT SOLVED TO THE END"
    whole, part = (len(line.get_xdata()) for line in axes.lines)
    assert whole == 9 > part
    plt.close("all")


@pytest.mark.parametrize("function", ["plot", "to_xarray", "to_dict"])
def test_a_traced_solution_is_refused(function):
    def inside(y):
        getattr(_decay(y), function)()
        return y

    with pytest.raises(TypeError, match=rf"Solution\.{function}.*are traced"):
        jax.jit(inside)(jnp.ones(2))


def test_a_solution_prints_while_it_is_traced_and_passes_through_jit():
    found = []

    @eqx.filter_jit
    def inside(y):
        solution = _decay(y)
        found.append(str(solution))
        return solution

    solution = inside(jnp.ones(2))
    assert "[5,2]" in found[0]
    assert solution.outcome == Outcome.success
    assert solution.to_xarray().sizes["time"] == 5


@pytest.mark.usefixtures("unchecked_types")
def test_several_sets_of_times_are_no_dataset():
    import diffrax

    subs = [diffrax.SubSaveAt(t1=True), diffrax.SubSaveAt(ts=jnp.linspace(0, 1, 3))]
    problem = ODEProblem(lambda t, y, args: -y, jnp.ones(2), 0.0, 1.0)
    solution = solve(problem, saveat=diffrax.SaveAt(subs=subs))
    for function in (solution.plot, solution.to_xarray):
        with pytest.raises(TypeError, match="several sets of times"):
            function()


def test_a_dataset_goes_through_a_file(tmp_path):
    import xarray

    dataset = a_solution().to_xarray()
    # NetCDF 3 through SciPy has no integers of 64 bits, which come back in 32.
    dataset.to_netcdf(tmp_path / "solution.nc", engine="scipy")
    with xarray.open_dataset(tmp_path / "solution.nc", engine="scipy") as again:
        np.testing.assert_array_equal(again["ys.v"], dataset["ys.v"])
        assert again.attrs["provenance"] == dataset.attrs["provenance"]


def test_an_ensemble_is_a_dataset_with_its_reductions():
    kept = an_ensemble().to_xarray()
    assert kept["ys"].dims == ("trajectory", "time", "component")
    np.testing.assert_array_equal(kept["ys"], an_ensemble().ys)
    kinds = (Moments(), Histogram(np.linspace(-2, 2, 9)), Quantiles((0.1, 0.5)))
    names = ("moments", "histogram", "quantiles")
    found = an_ensemble(reduce=_Hashable(zip(names, kinds, strict=True)))
    data = found.to_xarray()
    for name, dims in {
        "moments.mean": ("time", "component"),
        "moments.central_moments.2": ("time", "component"),
        "histogram.counts": ("time", "bin", "component"),
        "quantiles.values": ("time", "probability", "component"),
    }.items():
        assert data[name].dims == dims
    np.testing.assert_allclose(
        data["moments.mean"], kept["ys"].mean("trajectory"), rtol=1e-5
    )
    np.testing.assert_array_equal(data["probability"], [0.1, 0.5])


class _Hashable(dict):
    def __hash__(self):  # pyright: ignore
        return hash(tuple(self))


def test_reductions_draw_their_numbers():
    exits = ExitFlags(lambda y: y[0] > 0.4)
    names = ("moments", "quantiles", "exits")
    kinds = (Moments(), Quantiles((0.1, 0.9)), exits)
    found = an_ensemble(reduce=_Hashable(zip(names, kinds, strict=True))).reduced
    moments, quantiles, left = (found[name] for name in names)
    for k, axes in enumerate(moments.plot().axes):
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), moments.mean[:, k])
    for k, axes in enumerate(quantiles.plot().axes):
        drawn = np.array([line.get_ydata() for line in axes.lines]).T
        np.testing.assert_array_equal(drawn, quantiles.values[:, :, k])
    (line,) = left.plot().axes[0].lines
    np.testing.assert_array_equal(line.get_ydata(), left.probability)
