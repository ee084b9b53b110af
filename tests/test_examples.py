"""The examples run, and find what they are to show."""

import importlib
import math
import sys
from pathlib import Path

import matplotlib
import pytest

from hybrid_nds import runtime

EXAMPLES = Path(__file__).parent.parent / "examples"
# By example: what a whole run must find, between these bounds.
CLAIMS = {
    # Two solves at tolerances of 1e-10 and 1e-12.
    "attention_clustering": {
        "largest difference, softmax": (0.0, 1e-8),
        "largest difference, mean": (0.0, 1e-8),
    },
    # The noise of the data is 0.03: its mean square is 9e-4.
    "certified_spiral": {
        "mean squared error": (5e-4, 1.5e-3),
        # That of the equation behind the data is -0.4.
        "spectral abscissa at rest": (-0.45, -0.35),
        "top Lyapunov exponent, diffrax": (-0.45, -0.35),
        "top Lyapunov exponent, julia": (-0.45, -0.35),
        "rungs that hold": (3.0, 3.0),
    },
    # 41 times 3 standardized numbers: independent normal ones lose log(2πe)/2 nats
    # each, 174.5 in all; the noise of 0.05 alone allows 194 at most.
    "latent_lorenz": {
        "log-likelihood, last 20 steps": (-174.5, 194.0),
        "bound, last 20 steps": (-174.5, 194.0),
        # One by construction; independent of the bound.
        "spread of x at t = 1, prior": (0.5, 2.0),
    },
    # Six strengths: the largest of six deviations, at four standard errors.
    "noise_stabilised": {
        "exponent without noise": (0.0, 1.0),
        "largest error over its standard error, diffrax": (0.0, 4.0),
        "largest error over its standard error, julia": (0.0, 4.0),
        "exponent at σ = 1.5, diffrax": (-2.0, -0.1),
        "exponent at σ = 1.5, julia": (-2.0, -0.1),
    },
    # First order in the depth; points that were not seen.
    "resnet_to_ode": {
        "slope of the distance over depth": (-1.02, -0.98),
        "share of unseen points told right": (0.99, 1.0),
        "the same by the equation": (0.95, 1.0),
        "equation on both backends, largest difference": (0.0, 1e-6),
    },
    "stiff_kinetics": {
        "loss": (0.0, 1e-4),
        "ends on both backends, largest difference": (0.0, 1e-6),
        "implicit steps to 40 s, learned": (10.0, 200.0),
        # The explicit solver gives up.
        "explicit steps to 40 s, learned": (10_000.0, 10_000.0),
    },
    "stiff_switch": {
        # The standard error of an energy distance of 512 samples is some 0.003.
        "energy distance at the end, unseen": (-0.02, 0.02),
        "largest error of the rate": (0.0, 0.15),
        # 0.35 in the equation behind the data.
        "strength of the noise": (0.3, 0.42),
        # In 128 steps by the factor 1 - 200/16 each.
        "decades that Euler's explicit steps grow": (120.0, 140.0),
    },
    # The entropy of the law itself is a lower bound; a normal distribution has 2.7
    # nats.
    "two_moons": {
        "minus mean log-density of unseen data": (1.0, 1.8),
        "integral of the density": (0.99, 1.01),
        "least p-value of samples against data": (0.01, 1.0),
    },
}


@pytest.fixture
def example(monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.syspath_prepend(EXAMPLES)

    def load(name):
        return importlib.import_module(name)

    yield load
    for name in ("command", *CLAIMS):
        sys.modules.pop(name, None)


def test_every_example_makes_claims():
    names = {path.stem for path in EXAMPLES.glob("*.py")} - {"command"}
    assert names == set(CLAIMS)


@pytest.mark.parametrize("name", CLAIMS)
def test_what_an_example_imports_is_there(name, example):
    assert callable(example(name).example)


# Of these, compiling alone takes a quarter of a minute each.
LONG = (
    "attention_clustering",
    "certified_spiral",
    "latent_lorenz",
    "resnet_to_ode",
    "stiff_kinetics",
    "stiff_switch",
    "two_moons",
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in CLAIMS],
)
def test_examples_run(name, example, tmp_path, monkeypatch):
    command = example("command")
    # As where there is no Julia.
    monkeypatch.setattr(command, "backends", lambda: ("diffrax",))
    found = {}

    def kept(quick):
        figure, found_here = example(name).example(quick)
        found.update(found_here)
        return figure, found_here

    command.run(name, kept, ["--quick", "--output", str(tmp_path)])
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert found
    assert all(map(math.isfinite, found.values())), found


@pytest.mark.slow
@pytest.mark.parametrize("name", CLAIMS)
def test_examples_find_what_they_claim(name, example):
    from hybrid_nds import double_precision

    with double_precision():
        _, found = example(name).example(False)
    for claim, (low, high) in CLAIMS[name].items():
        live = any(word in claim for word in ("julia", "both backends", "rungs"))
        if live and not runtime.configured():
            continue
        assert low <= found[claim] <= high, (claim, found[claim])
