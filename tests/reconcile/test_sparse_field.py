"""L0 of large fields: their Jacobians entry by entry."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rung_cases import Answering, U

from hybrid_nds import ODEProblem
from hybrid_nds.lowering import sparsity
from hybrid_nds.reconcile import reconcile
from hybrid_nds.reconcile._field_rung import (
    field_rung,
    part_depths,
    part_magnitudes,
)
from hybrid_nds.reconcile._ode_plan import plan_ode_problem
from hybrid_nds.reconcile._parts import FieldPoints


def reacting(points, weights=3):
    """A chain that diffuses and reacts, with few parameters and with one a site."""

    def field(t, y, args):
        around = jnp.roll(y, 1) + jnp.roll(y, -1) - 2 * y
        decay = args["rates"].sum() * y**3 * jnp.cos(t)
        return args["sites"] * around - decay + jnp.sin(y) * jnp.roll(y, 1)

    args = {
        "rates": jnp.linspace(0.3, 0.7, weights),
        "sites": 1 + 0.1 * jnp.cos(jnp.arange(float(points))),
    }
    y0 = np.sin(np.arange(points)) + 0.3
    return ODEProblem(field, y0, 0.5, 1.0, args=args)


def looked_at(problem):
    y0 = np.asarray(problem.y0)
    points = np.stack([y0, 0.7 * y0 + 0.1])
    return FieldPoints(problem, points, np.array([0.5, 1.0]), sparsity(problem))


# More parameters than entries are summed by rows, fewer by columns.
@pytest.mark.parametrize("weights", [3, 60])
def test_conditions_are_those_of_whole_matrices(weights):
    problem = reacting(8, weights)
    field = looked_at(problem)
    pattern = field.pattern
    assert pattern is not None
    found = part_magnitudes(field)

    def of(t, u, args):
        return problem.field(t, u, args)

    def sizes(function, t, u):
        """|f| + Σ |xₖ ∂f/∂xₖ| over time, states and parameters, of whole matrices."""
        given = (t, u, problem.args)
        total = jnp.abs(function(*given))
        for place in range(3):
            slopes = jax.jacfwd(function, place)(*given)
            for slope, x in zip(
                jax.tree.leaves(slopes), jax.tree.leaves(given[place]), strict=True
            ):
                whole = jnp.abs(slope.reshape(*total.shape, -1))
                total = total + whole @ jnp.abs(jnp.ravel(x))
        return np.asarray(total)

    for row, (t, u) in enumerate(zip(field.times, field.points, strict=True)):
        t, u = jnp.asarray(t), jnp.asarray(u)
        entries = sizes(jax.jacfwd(of, 1), t, u)
        on_waves = np.where(pattern.matrix().toarray(), entries, 0.0)
        expected = {
            "field": sizes(of, t, u),
            "jacobian entries": entries[pattern.rows, pattern.columns],
            "jacobian on waves": on_waves @ np.abs(np.cos(1.0 + np.arange(8))),
            "time gradient": sizes(jax.jacfwd(of, 0), t, u),
        }
        assert set(expected) == set(found)
        for name, value in expected.items():
            # Sums of some hundred terms in another order.
            np.testing.assert_allclose(found[name][row], value, rtol=1e-13)


@pytest.mark.parametrize("share", [0.3, 3.0])
def test_one_entry_may_differ_by_the_roundings_of_both(share):
    field = looked_at(reacting(8))
    limits = 2 * part_depths(field)["jacobian entries"] * U
    limits = limits * part_magnitudes(field)["jacobian entries"]
    place = (1, 5)

    class Tables(Answering):
        def _table(self, kind, label):
            one = np.zeros_like(limits if "entries" in label else field.points)
            if self.name == "julia" and label == "jacobian entries":
                one[place] += share * limits[place]
            return one

    plan = plan_ode_problem(reacting(300), {}, None, rungs=("L0",))
    plan = dataclasses.replace(plan, fields={"": field})
    result = field_rung(plan, Tables("diffrax"), Tables("julia"))
    (broken,) = [f for f in result.figures if f.share == pytest.approx(share, rel=1e-9)]
    assert broken.claim.startswith("jacobian entries, ")
    assert result.verdict == ("passed" if share < 1 else "failed")


def test_a_large_field_alone_is_planned_without_a_solve():
    def field(t, y, args):
        # Dense matrices of it would take 20 GB, and a solve would run for ever.
        return 1e12 * (jnp.roll(y, 1) - y)

    problem = ODEProblem(field, np.ones(50_000), 0.0, 1.0)
    plan = plan_ode_problem(problem, {}, None, rungs=("L0",))
    (planned,) = plan.fields.values()
    assert planned.pattern is not None
    assert planned.pattern.nonzeros == 100_000
    assert planned.parts[1] == "jacobian entries"
    assert part_magnitudes(planned)["jacobian entries"].shape == (4, 100_000)


@pytest.mark.julia
def test_julia_has_the_entries_of_jax(julia):
    report = reconcile(reacting(400), rungs=("L0",), julia="live")
    (rung,) = report.rungs
    claims = {figure.claim.split(",")[0] for figure in rung.figures}
    assert "jacobian entries" in claims
    assert report.passed
