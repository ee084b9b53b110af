"""What all analyses share: results as data, figures and tables; saved progress."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Float

from hybrid_nds._core import atomic_file
from hybrid_nds.analysis import (
    AnalysisResult,
    SavedProgress,
    analysis_provenance,
    progress_bar,
)
from hybrid_nds.solution import Provenance


@dataclasses.dataclass(frozen=True)
class Slopes(AnalysisResult):
    values: Float[np.ndarray, " index"]
    settings: Mapping[str, Any]
    provenance: Provenance

    def summary(self):
        return f"{len(self.values)} slopes"

    def draw(self, panels):
        panels.subplots().plot(self.values)


@pytest.fixture
def slopes():
    made = analysis_provenance("jax", "QR", dt=0.1)
    settings = {"steps": 3, "weights": jnp.ones(2), "norm": "two", "region": None}
    return Slopes(np.array([1.0, -0.5]), settings, made)


def test_a_result_is_plain_data(slopes):
    data = json.loads(json.dumps(slopes.to_dict()))
    assert data["values"] == [1.0, -0.5]
    assert data["settings"] == {
        "steps": 3,
        "weights": [1.0, 1.0],
        "norm": "two",
        "region": "None",
    }
    assert data["provenance"]["solver"] == "QR"
    assert data["provenance"]["dt"] == 0.1
    assert str(slopes) == "2 slopes"


def test_a_result_is_a_dataset(slopes):
    dataset = slopes.to_xarray()
    assert dataset["values"].dims == ("index",)
    np.testing.assert_array_equal(dataset["values"], [1.0, -0.5])
    assert dataset.attrs["steps"] == 3
    assert "jax" in json.loads(dataset.attrs["provenance"])["versions"]


def test_a_figure_is_written_whole(slopes, tmp_path):
    figure = slopes.plot(tmp_path / "new" / "slopes.svg")
    assert (tmp_path / "new" / "slopes.svg").read_text().startswith("<?xml")
    assert len(figure.axes[0].lines) == 1
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["slopes.svg"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "kept"
    path.write_text("before")

    def cut_off():
        with atomic_file(path) as file:
            file.write(b"after")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_saved_progress_goes_on_where_it_was(tmp_path):
    path = tmp_path / "run.npz"
    first = SavedProgress("lyapunov", path, {"problem": "a"})
    assert first.read() is None
    first.write({"sums": np.arange(3.0)})
    first.write({"sums": np.arange(4.0)})
    found = SavedProgress("lyapunov", path, {"problem": "a"}).read()
    assert found is not None
    assert list(found) == ["sums"]
    np.testing.assert_array_equal(found["sums"], np.arange(4.0))


def test_saved_progress_of_another_analysis_is_refused(tmp_path):
    path = tmp_path / "run.npz"
    SavedProgress("lyapunov", path, {"problem": "a", "steps": "2"}).write({})
    with pytest.raises(ValueError, match="written with another steps"):
        SavedProgress("lyapunov", path, {"problem": "a", "steps": "3"}).read()


@pytest.mark.parametrize("damage", ["text", "cut"])
def test_damaged_progress_is_named(tmp_path, damage):
    path = tmp_path / "run.npz"
    saved = SavedProgress("lyapunov", path, {})
    saved.write({"sums": np.arange(3000.0)})
    whole = path.read_bytes()
    path.write_bytes(b"sums" if damage == "text" else whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"`save` cannot be read.*run\.npz"):
        saved.read()


def test_no_path_keeps_nothing():
    saved = SavedProgress("lyapunov", None, {})
    saved.write({"sums": np.zeros(1)})
    assert saved.read() is None


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ValueError, match="must be a file"):
        SavedProgress("lyapunov", tmp_path, {})


@pytest.mark.parametrize("shown", [True, False])
def test_a_bar_counts(shown, capsys, monkeypatch):
    # A console of its own that takes what it writes to for a terminal.
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("rich._console", None)
    with progress_bar(shown, "Intervals", 3) as advance:
        for _ in range(3):
            advance(1)
    assert ("3/3" in capsys.readouterr().out) == shown


def test_a_result_without_errors_of_its_figures_has_no_interval(slopes):
    with pytest.raises(TypeError, match="Slopes has no interval"):
        slopes.interval()


@dataclasses.dataclass(frozen=True)
class Mean(Slopes):
    estimate: ClassVar = ("values", "low", "high")

    low: np.ndarray
    high: np.ndarray
    converged: bool = True


@dataclasses.dataclass(frozen=True)
class Period(Slopes):
    estimate: ClassVar = ("values", "error")

    error: float


def test_an_interval_is_values_and_half_widths(slopes):
    shared = (slopes.values, slopes.settings, slopes.provenance)
    values, half = Mean(*shared, slopes.values - 0.25, slopes.values + 0.25).interval()
    np.testing.assert_array_equal(values, slopes.values)
    np.testing.assert_array_equal(half, [0.25, 0.25])
    np.testing.assert_array_equal(Period(*shared, 0.5).interval()[1], [0.5])


def test_an_interval_that_has_not_converged_is_none_to_rely_on(slopes):
    shared = (slopes.values, slopes.settings, slopes.provenance)
    _, half = Mean(*shared, slopes.values, slopes.values, converged=False).interval()
    assert np.all(np.isnan(half))


def test_provenance_goes_through_json_and_back():
    made = Provenance("julia", "EM", (("a", "1"),), 1e-3, (1e-6, 1e-7), None, "lowered")
    assert Provenance.from_dict(json.loads(json.dumps(made.as_dict()))) == made
