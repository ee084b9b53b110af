"""Solves in Julia with sparse Jacobians, and with products in their place."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse

from hybrid_nds import JuliaWorker, ODEProblem, solve
from hybrid_nds.backends.julia import _derivatives, _jacobian

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
        for by in (
            *({"jacobian": form} for form in ("sparse", "matrix-free")),
            *(
                {"preconditioner": name}
                for name in ("ilu", "multigrid", "block-jacobi")
            ),
        ):
            end = solve(problem, "julia", solver="Rodas5P", **by, **TIGHT)
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


def _weighed(end):
    return jnp.sum(jnp.ravel(end) * jnp.cos(jnp.arange(end.size)))


def _heat_loss(y0, scale, solver="Rodas5P", form="sparse", points=POINTS, **options):
    problem = _heat(points)
    problem = ODEProblem(problem.field, {"u": y0}, 0.0, 0.1, scale)
    how = {"solver": solver, "jacobian": form, **TIGHT, **options}
    # Of a slow mode: what holds the error of the solution then holds the gradient's.
    # Fast ones go as the method's stability function says, not as the equation.
    return jnp.vdot(_mode(points), solve(problem, "julia", **how).ys["u"][0])


def _mode(points=POINTS):
    return np.sin(np.pi * np.linspace(0, 1, points + 2)[1:-1])


def _exact_gradients(points=POINTS):
    """The gradients of `_heat_loss` at y0 and at a scale of one: the transpose of an
    exponential, and its derivative along the Laplacian (Higham 2008, section 10.6)."""
    x = np.linspace(0, 1, points + 2)[1:-1]
    second = np.diag(-2 * np.ones(points)) + np.diag(np.ones(points - 1), 1)
    second += np.diag(np.ones(points - 1), -1)
    matrix = np.zeros((points + 2, points + 2))
    matrix[:points, :points] = (points + 1) ** 2 * second
    along = matrix.copy()
    matrix[:points, points] = x
    matrix[points, points + 1] = 1
    flow, moved = scipy.linalg.expm_frechet(0.1 * matrix, 0.1 * along)
    weights = _mode(points)
    start = [*weights, 0, 1]
    return flow[:points, :points].T @ weights, weights @ (moved @ start)[:points]


@pytest.mark.parametrize("solver", ["Rodas5P", *_slow("Kvaerno5", "RadauIIA5")])
def test_gradients_go_through_sparse_factors(julia, solver):
    found = jax.grad(_heat_loss, (0, 1))(jnp.asarray(_mode()), 1.0, solver)
    # A hundred times the tolerance, as of the solution.
    for one, exact in zip(found, _exact_gradients(), strict=True):
        scale = np.max(np.abs(exact))
        np.testing.assert_allclose(one, exact, rtol=0, atol=1e-6 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["Rosenbrock23", "TRBDF2", "KenCarp4"])
def test_sparse_gradients_are_dense_ones(julia, solver):
    sparse, dense = (
        jax.grad(_heat_loss, (0, 1))(jnp.asarray(_mode()), 1.0, solver, form)
        for form in ("sparse", "dense")
    )
    # Of the same steps, as above.
    for one, other in zip(sparse, dense, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["Rodas5P", "Kvaerno5", "RadauIIA5"])
def test_tangents_go_through_sparse_factors(julia, solver):
    start = jnp.asarray(_mode())
    forward = jax.jacfwd(_heat_loss, (0, 1))(start, 1.0, solver)
    reverse = jax.grad(_heat_loss, (0, 1))(start, 1.0, solver)
    for one, other in zip(forward, reverse, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)


def _brusselator(points):
    """The Brusselator on a periodic grid, with rates of its own at each point."""

    def laplacian(w):
        around = jnp.roll(w, 1, 0) + jnp.roll(w, -1, 0)
        return around + jnp.roll(w, 1, 1) + jnp.roll(w, -1, 1) - 4 * w

    def field(t, y, args):
        (u, v), (diffusion, rates) = y, args
        product = u * u * v
        du = diffusion * laplacian(u) + 1 + product - (rates + 1) * u
        return jnp.stack([du, diffusion * laplacian(v) + rates * u - product])

    rng = np.random.default_rng(0)
    y0 = jnp.asarray(1 + rng.random((2, points, points)))
    rates = jnp.asarray(3 + rng.random((points, points)))
    return field, y0, (jnp.asarray(5.0), rates)


@pytest.mark.parametrize("solver", ["Rodas5P", *_slow("Kvaerno5", "RadauIIA5")])
def test_gradients_are_those_of_the_steps_held_fixed(julia, solver):
    field, y0, args = _brusselator(6)
    how = {"solver": solver, "jacobian": "sparse"}

    def loss(y0, args):
        problem = ODEProblem(field, y0, 0.0, 1.0, args=args)
        return _weighed(solve(problem, "julia", rtol=1e-4, atol=1e-6, **how).ys[0])

    problem = ODEProblem(field, y0, 0.0, 1.0, args=args)
    steps = {"rtol": 1e-4, "atol": 1e-6, "saveat": "steps"}
    span = np.asarray(solve(problem, "julia", **how, **steps).ts)
    gradient = jax.grad(loss, (0, 1))(y0, args)
    rng = np.random.default_rng(1)
    draw = lambda x: jnp.asarray(rng.standard_normal(x.shape))
    along = jax.tree.map(draw, (y0, args))

    def moved(size):
        y, weights = jax.tree.map(lambda x, d: x + size * d, (y0, args), along)
        for start, stop in itertools.pairwise(span):
            step = ODEProblem(field, y, float(start), float(stop), args=weights)
            y = solve(step, "julia", dt=float(stop - start), **how).ys[0]
        return float(_weighed(y))

    h = 1e-3
    difference = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (
        12 * h
    )
    parts = jax.tree.map(lambda g, d: float(jnp.sum(g * d)), gradient, along)
    found = sum(jax.tree.leaves(parts))
    # Fourth order: h⁴ = 1e-12 of fifth derivatives; round-off and, of implicit
    # Runge–Kutta methods, Newton's 64e-6 √ε in every step, over h.
    newton = 0.0 if solver == "Rodas5P" else 1e-12 * (len(span) - 1) * y0.size
    size = sum(float(jnp.sum(jnp.abs(x))) for x in jax.tree.leaves(gradient))
    assert abs(found - difference) <= 1e-9 * size + 2 * newton / h


@pytest.mark.slow
def test_large_systems_have_gradients(julia):
    # More states than dense matrices are differentiated with.
    n = 2400
    rates = jnp.linspace(1.0, 2.0, n)
    field = lambda t, y, args: -args * y + 0.0 * jnp.roll(y, 1)

    def loss(rates, solver, **options):
        problem = ODEProblem(field, jnp.ones(n), 0.0, 1.0, args=rates)
        how = {"solver": solver, **TIGHT, **options}
        return jnp.sum(solve(problem, "julia", **how).ys[0])

    for solver in ("Rodas5P", "Tsit5"):
        found = jax.grad(loss)(rates, solver)
        # Of exp(-rate) at t = 1.
        np.testing.assert_allclose(found, -np.exp(-rates), rtol=1e-6)
    dense = lambda rates: loss(rates, "Rodas5P", jacobian="dense")
    with pytest.raises(TypeError, match=r"more than 2,000 states.*dense Jacobian"):
        jax.eval_shape(jax.grad(dense), rates)


@pytest.mark.slow
def test_mass_matrices_have_gradients(julia):
    """Linear finite elements, as above: of the lowest mode the derivatives by its size
    and by the end are known."""
    n = 80
    h = 1 / (n + 1)
    mass = h / 6 * (4 * np.eye(n) + np.eye(n, k=1) + np.eye(n, k=-1))
    mode = np.sin(np.pi * np.linspace(0, 1, n + 2)[1:-1])

    def field(t, y, args):
        padded = jnp.pad(y, 1)
        return (padded[:-2] + padded[2:] - 2 * y) / h

    rate = 6 / h**2 * (1 - np.cos(np.pi * h)) / (2 + np.cos(np.pi * h))

    def loss(size, end):
        given = scipy.sparse.csc_array(mass)
        problem = ODEProblem(field, size * mode, 0.0, end, mass_matrix=given)
        options = {"solver": "Rodas5P", "jacobian": "sparse", **TIGHT}
        return jnp.sum(solve(problem, "julia", **options).ys[0])

    found = jax.grad(loss, (0, 1))(jnp.array(1.0), jnp.array(0.1))
    exact = np.exp(-0.1 * rate) * mode.sum()
    np.testing.assert_allclose(found, (exact, -rate * exact), rtol=1e-6)


@pytest.mark.slow
def test_times_of_sparse_algebraic_equations_are_held_fixed(julia):
    n = 300
    mass = scipy.sparse.diags_array(np.arange(n) % 2.0)

    def end(t1):
        field = lambda t, y, args: -y
        problem = ODEProblem(field, jnp.zeros(n), 0.0, t1, mass_matrix=mass)
        return jnp.sum(solve(problem, "julia", solver="Rodas5P").ys)

    with pytest.raises(TypeError, match="singular `mass_matrix`"):
        jax.grad(end)(jnp.array(1.0))


@pytest.mark.slow
def test_gradients_in_single_precision(julia):
    problem = _heat(dtype=np.float32)

    def loss(scale):
        moved = ODEProblem(problem.field, problem.y0, 0.0, 0.1, scale)
        solution = solve(moved, "julia", solver="Rodas5P", jacobian="sparse")
        return jnp.vdot(_mode().astype(np.float32), solution.ys["u"][0])

    found = jax.grad(loss)(jnp.asarray(1.0, jnp.float32))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, _exact_gradients()[1], rtol=1e-2)


def test_records_of_many_states_have_room_for_fewer_steps(unchecked_types):
    room = lambda states, **extra: _derivatives.recorded_steps(
        SimpleNamespace(extra=extra), 10**6, states
    )
    assert room(10) == 4096
    # 2 GiB of double precision.
    assert room(2**20) == 255
    assert room(2**20, recorded_steps=700) == 700


@pytest.mark.parametrize("states", [40, 400])
@pytest.mark.parametrize(
    ("block", "singular"),
    [
        ([[2.0, 1.0], [0.0, 3.0]], False),
        ([[0.0, 0.0], [0.0, 3.0]], True),
        # Of full rank by its entries' places alone.
        ([[1.0, 2.0], [2.0, 4.0]], True),
    ],
)
def test_singular_mass_matrices_are_known(states, block, singular):
    mass = scipy.sparse.block_diag([np.eye(states - 2), block], format="csc")
    field = lambda t, y, args: -y
    problem = ODEProblem(field, np.ones(states), 0.0, 1.0, mass_matrix=mass)
    assert _derivatives.singular(problem.mass_matrix) is singular
