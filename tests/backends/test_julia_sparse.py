"""Solves in Julia with sparse Jacobians, and with products in their place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse

from hybrid_nds import JuliaWorker, ODEProblem, solve
from hybrid_nds.backends.julia import _jacobian

pytestmark = pytest.mark.julia

POINTS = 60
TIGHT = {"rtol": 1e-8, "atol": 1e-10}
OTHERS = (
    "Rosenbrock23",
    "Rodas4",
    "TRBDF2",
    "KenCarp4",
    "Kvaerno5",
    "QNDF",
    "RadauIIA5",
)


def _heat(points=POINTS, dtype=np.float64, scale=1.0, mass_matrix=None):
    """The heat equation on (0, 1) by second differences, with a source in time."""
    x = np.linspace(0, 1, points + 2)[1:-1]

    def field(t, y, args):
        padded = jnp.pad(y["u"], 1)
        laplacian = (padded[:-2] + padded[2:] - 2 * y["u"]) * (points + 1) ** 2
        return {"u": args * laplacian + jnp.asarray(x, dtype) * t}

    y0 = {"u": np.sin(np.pi * x).astype(dtype)}
    args = jnp.asarray(scale, dtype)
    return ODEProblem(field, y0, 0.0, 0.1, args, mass_matrix=mass_matrix)


def _exact(points=POINTS, scale=1.0):
    """The solution of the linear system y' = A y + x t, y(0) = y0 at t = 0.1, by an
    exponential of the system in (y, t, 1)."""
    x = np.linspace(0, 1, points + 2)[1:-1]
    second = np.diag(-2 * np.ones(points)) + np.diag(np.ones(points - 1), 1)
    second += np.diag(np.ones(points - 1), -1)
    matrix = np.zeros((points + 2, points + 2))
    matrix[:points, :points] = scale * (points + 1) ** 2 * second
    matrix[:points, points] = x
    matrix[points, points + 1] = 1
    return (scipy.linalg.expm(0.1 * matrix) @ [*np.sin(np.pi * x), 0, 1])[:points]


def _slow(*solvers):
    """Solvers that Julia compiles for many seconds: not part of the default suite."""
    return [pytest.param(solver, marks=pytest.mark.slow) for solver in solvers]


@pytest.mark.parametrize("solver", ["Rodas5P", "FBDF", *_slow(*OTHERS)])
def test_sparse_solves_take_the_steps_of_dense_ones(julia, solver):
    dense, sparse = (
        solve(_heat(), "julia", solver=solver, jacobian=form, **TIGHT)
        for form in ("dense", "sparse")
    )
    assert sparse.provenance.jacobian == "sparse (178 entries, 3 colours)"
    assert dense.provenance.jacobian == "dense"
    assert dense.stats == sparse.stats
    # Of the same matrices: solutions differ by round-off, times condition numbers
    # below 1e4, in some hundred steps. Methods of several steps amplify it more.
    np.testing.assert_allclose(sparse.ys["u"], dense.ys["u"], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    "solver", ["Rodas5P", *_slow("Rodas4", "KenCarp4", "Kvaerno5", "RadauIIA5", "FBDF")]
)
def test_sparse_solves_hold_their_tolerance(julia, solver):
    solution = solve(_heat(), "julia", solver=solver, jacobian="sparse", **TIGHT)
    # The local error is held to 1e-8; a hundred times that over all steps.
    np.testing.assert_allclose(solution.ys["u"][0], _exact(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("solver", ["Rodas5P", *_slow("KenCarp4", "FBDF", "Rodas4")])
def test_matrix_free_solves_hold_their_tolerance(julia, solver):
    solution = solve(_heat(), "julia", solver=solver, jacobian="matrix-free", **TIGHT)
    assert solution.provenance.jacobian == "matrix-free"
    np.testing.assert_allclose(solution.ys["u"][0], _exact(), rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["sparse", "matrix-free"])
def test_the_default_solver_takes_it(julia, form):
    loose = {"rtol": 1e-5, "atol": 1e-7}
    solution = solve(_heat(), "julia", jacobian=form, **loose)
    # Its first steps are explicit ones at the limit of their stability.
    np.testing.assert_allclose(solution.ys["u"][0], _exact(), atol=1e-3)


@pytest.mark.slow
def test_single_precision(julia):
    solution = solve(
        _heat(dtype=np.float32), "julia", solver="Rodas5P", jacobian="sparse"
    )
    assert solution.ys["u"].dtype == np.float32
    np.testing.assert_allclose(solution.ys["u"][0], _exact(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("form", ["sparse", "matrix-free"])
def test_compiled_and_batched(julia, form):
    scales = jnp.array([0.5, 1.0])

    @jax.jit
    def ends(scales):
        def end(scale):
            problem = _heat()
            problem = ODEProblem(problem.field, problem.y0, 0.0, 0.1, scale)
            options = {"solver": "Rodas5P", "jacobian": form, **TIGHT}
            return solve(problem, "julia", **options).ys["u"][0]

        return jax.vmap(end)(scales)

    expected = [_exact(scale=float(scale)) for scale in scales]
    np.testing.assert_allclose(ends(scales), expected, rtol=1e-6, atol=1e-8)


def test_progress_takes_the_other_way_into_julia(julia):
    sparse = {"solver": "Rodas5P", "jacobian": "sparse", **TIGHT}
    shown = solve(_heat(), "julia", progress=True, **sparse)
    np.testing.assert_array_equal(
        shown.ys["u"], solve(_heat(), "julia", **sparse).ys["u"]
    )


def test_patterns_of_users_are_taken(julia):
    pattern = scipy.sparse.diags_array(
        [np.ones(POINTS)] * 5, offsets=[-2, -1, 0, 1, 2], shape=(POINTS, POINTS)
    )
    solution = solve(_heat(), "julia", solver="Rodas5P", jacobian=pattern, **TIGHT)
    assert solution.provenance.jacobian == "sparse (294 entries, 5 colours)"
    np.testing.assert_allclose(solution.ys["u"][0], _exact(), rtol=1e-6, atol=1e-8)


def test_automatic_choice_is_by_size_and_fill(julia):
    chosen = lambda problem, **options: (
        solve(problem, "julia", **options).provenance.jacobian
    )
    assert chosen(_heat(20), solver="Rodas5P") == "dense"
    large = 2 * _jacobian._SMALLEST_SPARSE
    assert chosen(_heat(large), solver="Rodas5P").startswith("sparse")
    full = ODEProblem(lambda t, y, args: -y - jnp.sum(y), np.ones(large), 0.0, 1.0)
    assert chosen(full, solver="Rodas5P") == "dense"
    assert chosen(full, solver="Tsit5") is None


@pytest.mark.slow
def test_mass_matrices_join_the_pattern(julia):
    """The heat equation by linear finite elements: M y' = −K y, of which the lowest
    mode of the discrete problem is known."""
    n = 80
    h = 1 / (n + 1)
    mass = h / 6 * (4 * np.eye(n) + np.eye(n, k=1) + np.eye(n, k=-1))
    x = np.linspace(0, 1, n + 2)[1:-1]

    def field(t, y, args):
        padded = jnp.pad(y, 1)
        return (padded[:-2] + padded[2:] - 2 * y) / h

    # sin(πx) is an eigenvector of both matrices.
    rate = 6 / h**2 * (1 - np.cos(np.pi * h)) / (2 + np.cos(np.pi * h))
    exact = np.exp(-0.1 * rate) * np.sin(np.pi * x)
    for given in (mass, scipy.sparse.csc_array(mass)):
        problem = ODEProblem(field, np.sin(np.pi * x), 0.0, 0.1, mass_matrix=given)
        for form in ("sparse", "matrix-free"):
            end = solve(problem, "julia", solver="Rodas5P", jacobian=form, **TIGHT)
            np.testing.assert_allclose(end.ys[0], exact, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_worker_processes_get_pattern_and_entries(julia):
    with JuliaWorker() as worker:
        solution = solve(
            _heat(),
            "julia",
            solver="Rodas5P",
            jacobian="sparse",
            worker=worker,
            **TIGHT,
        )
    assert solution.provenance.jacobian == "sparse (178 entries, 3 colours)"
    np.testing.assert_allclose(solution.ys["u"][0], _exact(), rtol=1e-6, atol=1e-8)
