"""Equilibria and spectra of sparse Jacobians, against closed forms of the discrete
Laplacian."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from hybrid_nds import ODEProblem
from hybrid_nds.analysis import AnalysisError
from hybrid_nds.lowering import NoPatternError
from hybrid_nds.stability import equilibria, jacobian_spectrum
from hybrid_nds.stability.local import _sparse

POINTS = 24


def _square(points=POINTS, dtype=np.float64):
    """The Laplacian on the unit square, zero at its edge, by second differences."""

    def field(t, y, args):
        padded = jnp.pad(y, 1)
        around = padded[:-2, 1:-1] + padded[2:, 1:-1]
        around += padded[1:-1, :-2] + padded[1:-1, 2:]
        return (around - 4 * y) * (points + 1) ** 2

    return ODEProblem(field, np.zeros((points, points), dtype), 0.0, 1.0)


def _square_eigenvalues(points=POINTS):
    """Sums of those of the interval, −4 (n + 1)² sin²(kπ / 2(n + 1)) (LeVeque 2007,
    section 2.10), the largest first."""
    angles = np.arange(1, points + 1) * np.pi / 2 / (points + 1)
    one = -4 * (points + 1) ** 2 * np.sin(angles) ** 2
    return np.sort((one[:, None] + one).ravel())[::-1]


def _transport(points=80, rate=30.0):
    """A ring in which everything moves on, of a matrix that is normal with eigenvalues
    rate (exp(2πik/n) − 1)."""
    field = lambda t, y, args: rate * (jnp.roll(y, -1) - y)
    angles = 2 * np.pi * np.arange(points) / points
    return (
        ODEProblem(field, np.zeros(points), 0.0, 1.0),
        rate * (np.exp(1j * angles) - 1),
    )


@pytest.mark.parametrize("near", [None, -1500.0], ids=["largest", "inner"])
def test_eigenvalues_of_the_square(near):
    found = jacobian_spectrum(_square(), jacobian="sparse", number=7, near=near)
    exact = _square_eigenvalues()
    wanted = exact[np.argsort(np.abs(exact - (near or 0.0)), kind="stable")[:7]]
    wanted = np.sort(wanted)[::-1]
    # Pairs of equal ones among them: a method that lost one would shift the others.
    gaps = np.abs(found.eigenvalues - wanted)
    assert np.all(gaps <= found.eigenvalue_errors)
    assert np.all(found.eigenvalue_errors < 1e-9)
    # The matrix is symmetric: its numerical abscissa is its spectral one.
    gap = abs(found.numerical_abscissa - exact[0])
    assert gap <= found.numerical_abscissa_error < 1e-9
    assert found.jacobian is None
    assert found.provenance.solver == "ARPACK"
    assert found.settings["near"] == (near or 0.0)


@pytest.mark.parametrize("near", [0.0, -10 + 25j, -60.0])
def test_complex_eigenvalues_of_a_ring(near):
    ring, exact = _transport()
    found = jacobian_spectrum(ring, jacobian="sparse", number=5, near=near)
    # The ring has zero among its eigenvalues: what is inverted at first is singular.
    distances = np.sort(np.abs(exact - near))
    np.testing.assert_allclose(
        np.sort(np.abs(found.eigenvalues - near)), distances[:5], atol=1e-10
    )
    for value, error in zip(found.eigenvalues, found.eigenvalue_errors, strict=True):
        assert np.min(np.abs(exact - value)) <= error < 1e-9
    np.testing.assert_allclose(found.condition_numbers, 1, rtol=1e-6)
    assert found.numerical_abscissa == pytest.approx(0.0, abs=1e-11)


def test_condition_numbers_are_those_of_the_dense_matrix():
    # Transport and decay that is not the same everywhere: not normal.
    rates = np.linspace(1.0, 4.0, 40)
    field = lambda t, y, args: 5 * (jnp.roll(y, 1) - y) - rates * y
    skew = ODEProblem(field, np.zeros(40), 0.0, 1.0)
    few = jacobian_spectrum(skew, jacobian="sparse", number=5)
    whole = jacobian_spectrum(skew, jacobian="dense")
    order = np.argsort(np.abs(whole.eigenvalues))[:5]
    nearest = order[
        np.lexsort((-whole.eigenvalues[order].imag, -whole.eigenvalues[order].real))
    ]
    np.testing.assert_allclose(few.eigenvalues, whole.eigenvalues[nearest], rtol=1e-9)
    np.testing.assert_allclose(
        few.condition_numbers, whole.condition_numbers[nearest], rtol=1e-6
    )
    assert np.all(few.condition_numbers > 1.5)
    np.testing.assert_allclose(
        few.numerical_abscissa, whole.numerical_abscissa, rtol=1e-9
    )


def test_single_precision_has_its_own_errors():
    found = jacobian_spectrum(_square(12, np.float32), jacobian="sparse", number=3)
    gaps = np.abs(found.eigenvalues - _square_eigenvalues(12)[:3])
    assert np.all(gaps <= found.eigenvalue_errors)
    assert np.all(found.eigenvalue_errors < 1.0)


def test_the_choice_is_by_size_and_fill(monkeypatch):
    monkeypatch.setattr(_sparse, "_SMALLEST_SPARSE", 200)
    ring = lambda points: jacobian_spectrum(_transport(points)[0])
    assert len(ring(200).eigenvalues) == 6
    assert len(ring(199).eigenvalues) == 199
    full = ODEProblem(lambda t, y, a: -y - jnp.sum(y), np.ones(200), 0.0, 1.0)
    assert len(jacobian_spectrum(full).eigenvalues) == 200
    pattern = scipy.sparse.eye_array(30)
    decay = ODEProblem(lambda t, y, a: -2 * y, np.ones(30), 0.0, 1.0)
    found = jacobian_spectrum(decay, jacobian=pattern)
    np.testing.assert_allclose(found.eigenvalues, -2 * np.ones(6), rtol=1e-12)


def _allen_cahn(points=40, diffusion=1.0):
    """u' = D u'' + u − u³ on a periodic interval of length one, by second differences.
    Where 4π²D > 1 all equilibria are constant (every other mode is damped)."""

    def field(t, y, args):
        second = (jnp.roll(y, 1) + jnp.roll(y, -1) - 2 * y) * points**2
        return diffusion * second + y - y**3

    waves = -4 * points**2 * np.sin(np.pi * np.arange(points) / points) ** 2
    return ODEProblem(field, np.zeros(points), 0.0, 1.0), diffusion * waves


def test_equilibria_of_a_reaction_with_diffusion():
    problem, waves = _allen_cahn()
    found = equilibria(
        problem, region=(-2.0, 2.0), starts=24, jacobian="sparse", number=3
    )
    assert found.points.shape == (3, 40)
    for point, constant in zip(found.points, (-1.0, 0.0, 1.0), strict=True):
        np.testing.assert_allclose(point, constant, atol=1e-12)
    assert np.all(np.abs(found.points - [[-1.0], [0.0], [1.0]]).max(1) <= found.errors)
    for values, errors, slope in zip(
        found.eigenvalues, found.eigenvalue_errors, (-2.0, 1.0, -2.0), strict=True
    ):
        exact = np.sort((slope + waves)[np.argsort(np.abs(slope + waves))[:3]])[::-1]
        assert np.all(np.abs(values - exact) <= errors)
    assert found.kinds == ("stable node", "saddle", "stable node")
    assert found.unstable.tolist() == [0, 1, 0]
    assert found.provenance.solver == "Newton, sparse"


def test_equilibria_of_a_rod_with_a_source():
    # u'' = −1 with u(0) = u(1) = 0: the parabola x (1 − x) / 2, of which second
    # differences are exact.
    n = 300
    x = np.linspace(0, 1, n + 2)[1:-1]

    def field(t, y, args):
        padded = jnp.pad(y, 1)
        return (padded[2:] + padded[:-2] - 2 * y) * (n + 1) ** 2 + 1

    rod = ODEProblem(field, np.zeros(n), 0.0, 1.0)
    found = equilibria(rod, region=(-1.0, 1.0), starts=2, jacobian="sparse")
    exact = x * (1 - x) / 2
    assert np.linalg.norm(found.points[0] - exact) <= found.errors[0] < 1e-6
    assert found.hits.tolist() == [2]
    angles = np.arange(1, 7) * np.pi / 2 / (n + 1)
    spectrum = -4 * (n + 1) ** 2 * np.sin(angles) ** 2
    gaps = np.abs(found.eigenvalues[0] - spectrum)
    assert np.all(gaps <= found.eigenvalue_errors[0])


def test_a_singular_jacobian_has_no_isolated_equilibrium():
    ring, _ = _transport()
    found = equilibria(ring, region=(-1.0, 1.0), starts=2, jacobian="sparse")
    assert set(found.kinds) == {"non-hyperbolic"}
    # Of all constants, which are all equilibria.
    assert np.all(found.errors > 1e-3)


def test_where_there_is_none():
    drift = ODEProblem(lambda t, y, a: 1.0 + y**2, np.ones(10), 0.0, 1.0)
    with pytest.raises(AnalysisError, match="no equilibrium found"):
        equilibria(drift, region=(-1.0, 1.0), starts=2, max_steps=20, jacobian="sparse")


@pytest.mark.parametrize(
    ("options", "kind", "match"),
    [
        ({"jacobian": "banded"}, ValueError, "auto, dense, sparse or a pattern"),
        ({"number": 3}, ValueError, "`number` is of the eigenvalues of a sparse"),
        ({"near": 1.0}, ValueError, "`near` is of the eigenvalues of a sparse"),
        ({"jacobian": "sparse", "number": 8}, ValueError, "at most 6, got 8"),
        ({"jacobian": "sparse", "number": 2.5}, ValueError, "whole number"),
        ({"jacobian": "sparse", "near": "left"}, TypeError, "real or complex"),
        ({"jacobian": "sparse", "near": np.inf}, ValueError, "finite"),
        ({"jacobian": np.ones((2, 2))}, ValueError, r"shape \(9, 9\)"),
    ],
)
def test_refused(options, kind, match):
    with pytest.raises(kind, match=match):
        jacobian_spectrum(_square(3), **options)


def test_a_pattern_that_cannot_be_found_is_named(monkeypatch):
    def refuse(problem, most):
        raise NoPatternError("sparsity: unknown. Or pass `pattern`.")

    monkeypatch.setattr(_sparse, "detected", refuse)
    with pytest.raises(NoPatternError, match="jacobian_spectrum: `jacobian`: unknown"):
        jacobian_spectrum(_square(3), jacobian="sparse")
