"""Continuation of large systems by sparse matrices, against closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from hybrid_nds import ODEProblem
from hybrid_nds.stability import continue_equilibria


def laplacian(u):
    """The second difference over (0, 1) with zero ends."""
    padded = jnp.pad(u, 1)
    return (padded[2:] - 2 * u + padded[:-2]) * (u.size + 1) ** 2


def gelfand(points, dtype=jnp.float64, unit=1.0, hours=1.0):
    """Bratu and Gelfand's problem, in units of its own."""

    def of(parameter):
        return ODEProblem(
            lambda t, u, a: (
                unit * (laplacian(u / unit) + a * jnp.exp(u / unit)) / hours
            ),
            jnp.zeros(points, dtype),
            0.0,
            1.0,
            args=parameter,
        )

    return of


def upright(points):
    """Chafee and Infante's problem: zero is an equilibrium for every parameter."""

    def of(parameter):
        return ODEProblem(
            lambda t, u, a: laplacian(u) + a * (u - u**3),
            jnp.zeros(points),
            0.0,
            1.0,
            args=parameter,
        )

    return of


def brusselator(points, diffusion=0.02):
    """The Brusselator on an interval that nothing leaves, with A = 1."""

    def spread(w):
        padded = jnp.pad(w, 1, mode="edge")
        return diffusion * (padded[2:] - 2 * w + padded[:-2]) * points**2

    def field(t, state, b):
        u, v = state
        return jnp.stack(
            [1 + u**2 * v - (b + 1) * u + spread(u), b * u - u**2 * v + spread(v)]
        )

    def of(parameter):
        start = jnp.stack([jnp.ones(points), parameter * jnp.ones(points)])
        return ODEProblem(field, start, 0.0, 1.0, args=parameter)

    return of


STEPS = {"step": 0.03, "max_step": 0.1}


def test_a_fold_is_where_the_dense_one_is():
    dense, sparse = (
        continue_equilibria(gelfand(24), 3.3, (3.2, 4.0), jacobian=form, **STEPS)
        for form in ("dense", "sparse")
    )
    assert sparse.settings["jacobian"] == "sparse"
    assert sparse.eigenvalues.shape == (len(sparse.parameters), 6)
    (one,), (other,) = dense.find("fold"), sparse.find("fold")
    assert one.index == other.index
    error = one.parameter_error + other.parameter_error
    assert abs(one.parameter - other.parameter) <= error < 1e-8
    # The same points, as far as Newton's method goes.
    np.testing.assert_allclose(sparse.points, dense.points, rtol=1e-7)
    np.testing.assert_array_equal(sparse.unstable, dense.unstable)
    np.testing.assert_array_equal(sparse.stable, dense.stable)


@pytest.mark.slow
def test_the_fold_of_gelfand_as_cells_shrink():
    # λ = 8 (ξ / cosh ξ)² at ξ tanh ξ = 1: 3.513830719 (Davis 1962).
    xi = 1.1996786402577339
    exact = 8 * (xi / np.cosh(xi)) ** 2
    off = []
    for points in (499, 999):
        branch = continue_equilibria(
            gelfand(points), 3.0, (2.9, 4.0), jacobian="sparse", **STEPS
        )
        (fold,) = branch.find("fold")
        off.append(exact - fold.parameter)
    # Of second order in the width of cells.
    assert off[0] / off[1] == pytest.approx(4.0, rel=0.02)
    assert abs((4 * (exact - off[1]) - (exact - off[0])) / 3 - exact) < 1e-8


def test_branch_points_at_the_eigenvalues_of_the_laplacian():
    points = 31
    exact = [4 * 32**2 * np.sin(k * np.pi / 64) ** 2 for k in (1, 2)]
    branch = continue_equilibria(
        upright(points), 1.0, (0.0, 50.0), jacobian="sparse", **STEPS
    )
    found = branch.find("branch point")
    assert len(found) == len(branch.bifurcations) == 2
    for one, value in zip(found, exact, strict=True):
        assert abs(one.parameter - value) <= one.parameter_error + 1e-9 * value
    assert branch.unstable.tolist()[-1] == 2


def test_a_hopf_bifurcation_and_its_orbits():
    # The uniform state loses its stability at B = 1 + A², with the frequency A; other
    # modes have diffusion against them.
    options = {"number": 6, "near": 1j}
    sparse = continue_equilibria(
        brusselator(12), 1.5, (1.4, 2.3), jacobian="sparse", **options, **STEPS
    )
    dense = continue_equilibria(
        brusselator(12), 1.5, (1.4, 2.3), jacobian="dense", **STEPS
    )
    (one,), (other,) = sparse.find("hopf"), dense.find("hopf")
    assert len(sparse.bifurcations) == 1
    assert abs(one.parameter - 2.0) <= one.parameter_error + 1e-9
    assert one.frequency == pytest.approx(1.0, rel=1e-8)
    assert one.lyapunov_coefficient == pytest.approx(
        other.lyapunov_coefficient, rel=1e-6
    )


@pytest.mark.parametrize(
    ("unit", "hours", "dtype"),
    [(2.0**-30, 2.0**12, jnp.float64), (1.0, 1.0, jnp.float32)],
)
def test_units_and_precision(unit, hours, dtype):
    plain, other = (
        continue_equilibria(problem, 3.3, (3.2, 4.0), jacobian="sparse", **STEPS)
        for problem in (gelfand(24), gelfand(24, dtype, unit, hours))
    )
    (one,), (fold,) = plain.find("fold"), other.find("fold")
    single = dtype == jnp.float32
    # Roots of field values that are rounded to 6e-8 of 24² and more.
    assert fold.parameter == pytest.approx(one.parameter, rel=1e-3 if single else 1e-9)
    if not single:
        np.testing.assert_allclose(other.points, unit * plain.points, rtol=1e-7)
        np.testing.assert_allclose(
            other.eigenvalues * hours, plain.eigenvalues, rtol=1e-6
        )


def test_a_given_pattern_and_one_that_misses_an_entry():
    whole = scipy.sparse.diags_array(
        [np.ones(23), np.ones(24), np.ones(23)], offsets=[-1, 0, 1]
    )
    given = {"interval": (1.4, 1.8), "start": 1.5, **STEPS}
    branch = continue_equilibria(gelfand(24), jacobian=whole, **given)
    detected = continue_equilibria(gelfand(24), jacobian="sparse", **given)
    np.testing.assert_allclose(branch.points, detected.points, rtol=1e-9)
    half = scipy.sparse.diags_array([np.ones(24), np.ones(23)], offsets=[0, 1])
    with pytest.raises(ValueError, match="continue_equilibria: `jacobian`"):
        continue_equilibria(gelfand(24), jacobian=half, **given)
    with pytest.raises(ValueError, match="must be auto, dense, sparse or a pattern"):
        continue_equilibria(gelfand(24), jacobian="banded", **given)
    with pytest.raises(ValueError, match="`number` is of the eigenvalues of a sparse"):
        continue_equilibria(gelfand(24), number=3, **given)


def test_a_branch_that_was_cut_off_goes_on(tmp_path):
    given = {"interval": (1.4, 1.8), "start": 1.5, "jacobian": "sparse", **STEPS}
    whole = continue_equilibria(gelfand(24), **given)
    file = tmp_path / "branch.npz"
    continue_equilibria(gelfand(24), save=file, **given)
    again = continue_equilibria(gelfand(24), save=file, **given)
    np.testing.assert_array_equal(again.points, whole.points)
    np.testing.assert_array_equal(again.eigenvalues, whole.eigenvalues)
