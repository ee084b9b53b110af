"""What the annotations of a result say of its data."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from jaxtyping import Complex, Float, PyTree

from hybrid_nds._core import (
    COLORS,
    Along,
    Axis,
    DrawnResult,
    Panels,
    Records,
    Result,
    Unit,
)
from hybrid_nds._core._members import Member, members, names_of

matplotlib.use("Agg")


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    size: float | None
    seconds: Annotated[float, Unit("s")]

    @property
    def double(self) -> float:
        return 2 * self.seconds


@dataclasses.dataclass(frozen=True)
class Inner(Result):
    loss: Float[np.ndarray, " step"]

    def summary(self) -> str:
        return "inner"

    def plot(self, *args: Any, **kwargs: Any) -> Any:
        return None


@dataclasses.dataclass(frozen=True)
class Outer(DrawnResult):
    times: Axis[Float[np.ndarray, " time"]]
    ys: PyTree[Float[np.ndarray, "time ..."]]
    spectrum: Complex[np.ndarray, "time eigenvalue=2"]
    rows: Annotated[tuple[Row, ...], Records("row")]
    kinds: Annotated[tuple[str, ...], Along("kind")]
    loss: float
    inner: Inner
    bare: np.ndarray
    model: PyTree
    none: Float[np.ndarray, " time"] | None
    notes: tuple[str, ...]
    settings: Mapping[str, Any]

    def summary(self) -> str:
        return "outer"

    def draw(self, panels: Panels) -> None:
        panels.subplots().plot(self.times, color="C1")


def _outer(**changes):
    fields = {
        "times": np.arange(3.0),
        "ys": {"a": np.ones((3, 2)), "b": [np.zeros(3), np.zeros((3, 4, 5))]},
        "spectrum": np.full((3, 2), 1 + 2j),
        "rows": (Row("a", 1.0, 2.0), Row("b", None, 3.0)),
        "kinds": ("x", "y", "z", "w"),
        "loss": 1.0,
        "inner": Inner(np.arange(6.0)),
        "bare": np.zeros((2, 2)),
        "model": object(),
        "none": None,
        "notes": ("one",),
        "settings": {"norm": None, "at": (1, 2), "weights": jnp.ones(2)},
    }
    return Outer(**(fields | changes))


def test_annotations_name_dimensions():
    data = _outer().to_xarray()
    assert {name: data[name].dims for name in data} == {
        "times": ("time",),
        "ys.a": ("time", "a.component"),
        "ys.b.0": ("time",),
        "ys.b.1": ("time", "b.1.component_0", "b.1.component_1"),
        "spectrum_real": ("time", "eigenvalue"),
        "spectrum_imaginary": ("time", "eigenvalue"),
        "row_name": ("row",),
        "row_size": ("row",),
        "row_seconds": ("row",),
        "row_double": ("row",),
        "kinds": ("kind",),
        "loss": (),
        "inner.loss": ("step",),
        "bare": ("bare_0", "bare_1"),
    }
    np.testing.assert_array_equal(data["spectrum_imaginary"], np.full((3, 2), 2.0))
    np.testing.assert_array_equal(data["row_size"], [1.0, np.nan])
    assert data["row_seconds"].attrs == {"long_name": "row seconds", "units": "s"}
    weights = {"weights": [1.0, 1.0]}
    assert data.attrs == {"notes": ["one"], "norm": "None", "at": [1, 2]} | weights
    assert list(data.coords) == ["time"]


def test_annotations_make_plain_data():
    data = _outer().to_dict()
    assert data["rows"][1] == {"name": "b", "size": None, "seconds": 3.0, "double": 6.0}
    assert data["ys"]["b"][0] == [0.0, 0.0, 0.0]
    assert data["spectrum_imaginary"] == [[2.0, 2.0]] * 3
    assert data["inner"] == {"loss": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]}
    assert data["none"] is None
    assert "model" not in data


def test_an_array_of_another_rank_is_an_error():
    with pytest.raises(ValueError, match=r"`times` must have the dimensions \(time\)"):
        _outer(times=np.ones((2, 2))).to_xarray()
    with pytest.raises(ValueError, match="`ys`"):
        names_of(("time", "bin", "..."), 1, "ys")


def test_colors_of_the_cycle_are_settled_in_the_look():
    (line,) = _outer().plot().axes[0].lines
    assert line.get_color() == COLORS[1]


def test_members_are_told_once():
    assert members(Outer) is members(Outer)
    assert Member("loss", "number", ()) in members(Outer)


def test_without_xarray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "xarray", None)
    with pytest.raises(ImportError, match=r"pip install 'hybrid_nds\[xarray\]'"):
        _outer().to_xarray()
