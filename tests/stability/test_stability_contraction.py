"""Contraction rates against closed forms, and the bound against solutions."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import ODEProblem, solve
from hybrid_nds.analysis import AnalysisError
from hybrid_nds.stability import contraction_rate, jacobian_spectrum

INF = np.inf


class Network(eqx.Module):
    """A continuous recurrent network: x' = −x + W tanh x."""

    weight: jax.Array

    def __call__(self, t, y, args):
        return -y + self.weight @ jnp.tanh(y)


@pytest.fixture(scope="module")
def network():
    """Of four units, with a diagonal that is not negative, and ‖W‖_∞ < 1."""
    draw = np.random.default_rng(2).uniform(-1, 1, (4, 4))
    np.fill_diagonal(draw, np.abs(np.diag(draw)))
    weight = 0.8 * draw / np.abs(draw).sum(axis=1).max()
    return ODEProblem(Network(jnp.asarray(weight)), jnp.zeros(4), 0.0, 3.0), weight


def test_the_contracting_network_of_the_table(network):
    problem, weight = network
    found = contraction_rate(problem, (-2.0, 2.0), norm=INF, samples=256)
    # The rows of J are those of −I + W diag(tanh'), and tanh' is largest, 1, at 0. The
    # ascent ends where it gains less than some 1e-9 of the rate.
    expected = -1 + np.linalg.norm(weight, INF)
    assert found.sampled_rate < found.rate <= expected + 1e-15
    assert found.rate == pytest.approx(expected, abs=1e-7)
    rows = np.abs(weight).sum(axis=1)
    used = np.abs(weight[np.argmax(rows)]) > 0
    np.testing.assert_allclose(found.worst_point[used], 0, atol=1e-2)
    assert np.all(found.measures <= expected)
    assert len(found.measures) == 256


def test_solutions_keep_to_the_bound(network):
    problem, _ = network
    found = contraction_rate(problem, (-2.0, 2.0), norm=INF, samples=64)
    times = np.linspace(0.0, 3.0, 7)
    starts = np.random.default_rng(5).uniform(-2, 2, (6, 4))
    runs = []
    for start in starts:
        begun = eqx.tree_at(lambda p: p.y0, problem, jnp.asarray(start))
        runs.append(np.asarray(solve(begun, saveat=times, rtol=1e-9, atol=1e-12).ys))
    for one in runs:
        for other in runs:
            gaps = np.abs(one - other).max(axis=1)
            # Solved to 1e-9; the ascent stops within 1e-7 of the rate.
            assert np.all(gaps <= found.bound(times, gaps[0]) * (1 + 1e-6) + 1e-8)


def test_a_weight_makes_a_linear_field_contract():
    matrix = jnp.array([[-1.0, 4.0], [0.0, -1.0]])
    problem = ODEProblem(lambda t, y, args: matrix @ y, jnp.ones(2), 0.0, 1.0)
    plain = contraction_rate(problem, (-1.0, 1.0), samples=8)
    assert plain.rate == pytest.approx(1.0, abs=1e-14)
    assert "no contraction" in str(plain)
    weighted = contraction_rate(problem, (-1, 1), samples=8, weight=np.array([1, 40]))
    assert weighted.rate == pytest.approx(-0.95, abs=1e-14)
    assert weighted.refined_by == 0
    full = contraction_rate(problem, (-1, 1), samples=8, weight=np.diag([1.0, 40.0]))
    assert full.rate == pytest.approx(-0.95, abs=1e-14)


def test_the_worst_point_of_a_pytree_state():
    # ∂(y − y³)/∂y = 1 − 3y² on [0.5, 2] is largest at the end 0.5, where it is 1/4.
    def field(t, y, args):
        return {"a": y["a"] - y["a"] ** 3, "b": -y["b"]}

    y0 = {"a": jnp.ones(()), "b": jnp.ones((2,))}
    problem = ODEProblem(field, y0, 0.0, 1.0)
    found = contraction_rate(problem, (0.5, 2.0), samples=32, norm=1)
    assert found.rate == pytest.approx(0.25, abs=1e-14)
    assert found.worst_state["a"] == 0.5
    assert found.worst_state["b"].shape == (2,)


def test_all_times_of_the_span_count():
    # The rate −1 + sin t is largest at π/2.
    problem = ODEProblem(
        lambda t, y, args: (-1 + jnp.sin(t)) * y, jnp.ones(1), 0.0, 3.0
    )
    found = contraction_rate(problem, (-1.0, 1.0), samples=64)
    assert found.rate == pytest.approx(0.0, abs=1e-10)
    assert found.worst_time == pytest.approx(np.pi / 2, abs=1e-4)
    frozen = contraction_rate(problem, (-1.0, 1.0), samples=4, t=0.0)
    assert frozen.rate == -1.0
    endless = ODEProblem(problem.field, problem.y0, 0.0, np.inf)
    with pytest.raises(ValueError, match="span is infinite; give `t`"):
        contraction_rate(endless, (-1.0, 1.0))


@pytest.mark.slow
def test_the_share_that_exceeds_the_samples_is_as_stated():
    # In one dimension 1 − 3y² exceeds its largest sample on |y| < min |sample|: a share
    # min |sample| of [−1, 1]. Of 200 keys, 0.95 keep below the bound: 190 ± 3.1;
    # from four deviations below.
    problem = ODEProblem(lambda t, y, args: y - y**3, jnp.ones(1), 0.0, 1.0)
    held = 0
    for seed in range(200):
        found = contraction_rate(
            problem, (-1.0, 1.0), samples=10, refine=0, key=jax.random.key(seed)
        )
        share = np.sqrt((1 - found.sampled_rate) / 3)
        held += share <= found.exceeding_fraction
    assert 178 <= held < 200


def test_single_precision_stays():
    problem = ODEProblem(
        lambda t, y, args: -y + jnp.tanh(y) / 2, jnp.ones(2, jnp.float32), 0.0, 1.0
    )
    found = contraction_rate(problem, (-1.0, 1.0), samples=16)
    assert found.worst_point.dtype == np.float32
    assert found.rate == pytest.approx(-0.5, abs=1e-4)


def test_a_rate_prints_plots_and_turns_into_data(network, tmp_path):
    found = contraction_rate(network[0], (-2.0, 2.0), samples=64)
    assert "while both stay in the region" in str(found)
    assert "lower bound" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["rate"] == found.rate
    assert found.to_xarray()["measures"].shape == (64,)
    found.plot(tmp_path / "c.png")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norm": 3}, "`norm` must be 1, 2 or inf"),
        ({"samples": 0}, "`samples`"),
        ({"refine": -1}, "`refine`"),
        ({"level": 1.0}, "`level` must be a finite number above 0"),
        ({"weight": np.ones(3)}, "`weight` must have shape"),
        ({"region": (1.0, 0.0)}, "low below high"),
    ],
)
def test_bad_arguments_are_named(network, options, words):
    arguments = {"region": (-1.0, 1.0), "samples": 4} | options
    with pytest.raises(ValueError, match=words):
        contraction_rate(network[0], **arguments)
    found = contraction_rate(network[0], (-1.0, 1.0), samples=4, refine=0)
    with pytest.raises(ValueError, match="`t` must be 0 or more"):
        found.bound(-1.0)


def test_a_field_without_derivative_is_named():
    rough = ODEProblem(lambda t, y, args: jnp.sqrt(y), jnp.ones(1), 0.0, 1.0)
    with pytest.raises(AnalysisError, match="not finite at"):
        contraction_rate(rough, (-1.0, 1.0), samples=8)


@pytest.mark.parametrize(
    "field",
    [lambda y: jnp.where(y > 0.5, jnp.nan, -y), lambda y: -jnp.log(y)],
    ids=["beyond", "logarithm"],
)
def test_a_field_that_is_not_finite_is_refused(field):
    # Its Jacobian is: that of a constant, and one over y.
    problem = ODEProblem(lambda t, y, args: field(y), jnp.array([0.25]), 0.0, 1.0)
    with pytest.raises(AnalysisError, match="field or its Jacobian is not finite at"):
        contraction_rate(problem, (-2.0, 2.0), key=jax.random.key(0))
    where = jnp.array([1.0 if np.isnan(field(1.0)) else -1.0])
    with pytest.raises(AnalysisError, match="field or its Jacobian at t = 0 is not"):
        jacobian_spectrum(problem, where)
    assert contraction_rate(problem, (0.1, 0.4), key=jax.random.key(0)).rate < 0
