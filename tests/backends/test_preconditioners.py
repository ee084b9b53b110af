"""Implicit solves in Julia by GMRES with a preconditioner."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from hybrid_nds import JuliaWorker, ODEProblem, solve

NAMES = ("block-jacobi", "ilu", "multigrid")
POINTS = 12


def _reaction_diffusion(points=POINTS, units=(1.0, 1.0), hours=1.0):
    """Two linear species that diffuse on a square with zero boundaries and turn into
    each other, in units of their own, time in another one.

    **Returns:** the problem, and its state at the end: the Laplacian's eigenvectors are
    products of sines, and what is left are two equations with constant coefficients.
    """
    x = np.linspace(0, 1, points + 2)[1:-1]
    mode = np.outer(np.sin(np.pi * x), np.sin(2 * np.pi * x))
    rate = lambda k: 4 * (points + 1) ** 2 * np.sin(np.pi * k / (2 * (points + 1))) ** 2
    decay = rate(1) + rate(2)
    unit = np.asarray(units)

    def laplacian(w):
        padded = jnp.pad(w, 1)
        around = padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:]
        return (around + padded[1:-1, :-2] - 4 * w) * (points + 1) ** 2

    def field(t, state, args):
        u, v = state[0] / unit[0], state[1] / unit[1]
        du = laplacian(u) - 30.0 * u + 10.0 * v
        dv = 0.1 * laplacian(v) + 30.0 * u - 10.0 * v
        return jnp.stack([unit[0] * du, unit[1] * dv]) / hours

    coupled = np.array([[-decay - 30.0, 10.0], [30.0, -0.1 * decay - 10.0]])
    start = np.stack([unit[0] * mode, -0.5 * unit[1] * mode])
    end = scipy.linalg.expm(0.05 * coupled) @ [1.0, -0.5]
    exact = np.stack([unit[0] * end[0] * mode, unit[1] * end[1] * mode])
    return ODEProblem(field, start, 0.0, 0.05 * hours), exact


def _slow(*cases):
    """What Julia compiles for many seconds: not part of the default suite."""
    return [pytest.param(case, marks=pytest.mark.slow) for case in cases]


def _preconditioned(problem, preconditioner, solver="FBDF", **options):
    tight = {"rtol": 1e-7, "atol": 1e-9} | options
    return solve(
        problem, "julia", solver=solver, preconditioner=preconditioner, **tight
    )


@pytest.mark.julia
@pytest.mark.parametrize("name", ["ilu", *_slow("multigrid", "block-jacobi")])
@pytest.mark.parametrize("solver", ["FBDF", *_slow("QNDF", "Rodas5P", "Kvaerno4")])
def test_solutions_are_those_of_a_factorization(julia, solver, name):
    problem, _ = _reaction_diffusion()
    found = _preconditioned(problem, name, solver)
    assert found.provenance.jacobian == (
        f"sparse ({_entries()} entries, 10 colours), GMRES with {name}"
    )
    direct = _preconditioned(problem, None, solver, jacobian="sparse")
    assert found.stats["num_steps"] == direct.stats["num_steps"]
    # Each system is solved to a tenth of the tolerance; the problem damps errors.
    np.testing.assert_allclose(found.ys, direct.ys, rtol=1e-7, atol=1e-9)


@pytest.mark.julia
def test_solutions_hold_their_tolerance(julia):
    problem, exact = _reaction_diffusion()
    # The local error is held to 1e-7; a hundred times that over all steps.
    solution = _preconditioned(problem, "ilu")
    np.testing.assert_allclose(solution.ys[0], exact, rtol=1e-5, atol=1e-7)


def _entries():
    """Of two fields, each with a Laplacian's entries and those of the other field."""
    return f"{2 * (5 * POINTS**2 - 4 * POINTS) + 2 * POINTS**2:,}"


@pytest.mark.julia
@pytest.mark.parametrize("name", ["ilu", *_slow("multigrid", "block-jacobi")])
def test_units_of_states_and_time_do_not_matter(julia, name):
    plain, _ = _reaction_diffusion()
    units = np.array([2.0**-30, 2.0**20])[:, None, None]
    other, _ = _reaction_diffusion(units=np.ravel(units))
    atol = np.broadcast_to(1e-9 * units, other.y0.shape)
    one, two = _preconditioned(plain, name), _preconditioned(other, name, atol=atol)
    # Powers of two change no digit.
    np.testing.assert_array_equal(two.ys[0] / units, one.ys[0])
    assert one.stats == two.stats
    # The steps of FBDF depend on the unit of time, with factorizations, too.
    later, exact = _reaction_diffusion(hours=2.0**12)
    three = _preconditioned(later, name)
    np.testing.assert_allclose(three.ys[0], exact, rtol=1e-5, atol=1e-7)


@pytest.mark.julia
@pytest.mark.slow
def test_compiled_batched_and_differentiated(julia):
    problem, _ = _reaction_diffusion()

    def loss(scale, **by):
        moved = ODEProblem(
            lambda t, y, scale: scale * problem.field(t, y, None),
            problem.y0,
            0.0,
            problem.t1,
            args=scale,
        )
        options = {"solver": "Rodas5P", "rtol": 1e-9, "atol": 1e-11, **by}
        return jnp.sum(jnp.asarray(solve(moved, "julia", **options).ys[0]) ** 2)

    scales = jnp.array([0.5, 1.0])
    by = {"preconditioner": "block-jacobi"}
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(lambda s: loss(s, **by))))(
        scales
    )
    for scale, value, slope in zip(scales, values, slopes, strict=True):
        # The state at the end is exp(0.05 s A) of the start, whatever s.
        direct, by_factors = jax.value_and_grad(lambda s: loss(s, jacobian="sparse"))(
            scale
        )
        np.testing.assert_allclose(value, direct, rtol=1e-7)
        np.testing.assert_allclose(slope, by_factors, rtol=1e-6)


@pytest.mark.julia
@pytest.mark.slow
@pytest.mark.parametrize("solver", ["ImplicitEuler", "Rodas5P"])
def test_units_in_fixed_steps(julia, solver):
    units = (2.0**-30, 2.0**20)
    problem, _ = _reaction_diffusion(units=units)
    steps = {"solver": solver, "dt": problem.t1 / 16}
    direct = solve(problem, "julia", jacobian="sparse", **steps).ys
    found = solve(problem, "julia", preconditioner="ilu", **steps).ys
    # Residuals of 1e-12 in every unit, of matrices of condition below 1e4.
    for one, other in zip(direct[0], found[0], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8 * np.max(abs(one)))


@pytest.mark.julia
@pytest.mark.slow
@pytest.mark.parametrize("name", ["block-jacobi", "ilu"])
def test_single_precision(julia, name):
    problem, exact = _reaction_diffusion()
    single = ODEProblem(
        lambda t, y, args: jnp.asarray(problem.field(t, y, args), jnp.float32),
        *(np.float32(problem.y0), 0.0, problem.t1),
    )
    solution = _preconditioned(single, name, rtol=1e-3, atol=1e-5)
    assert solution.ys.dtype == np.float32
    np.testing.assert_allclose(solution.ys[0], exact, rtol=1e-1, atol=1e-3)


@pytest.mark.julia
def test_functions_made_in_julia_precondition(julia):
    import juliacall

    main = juliacall.Main
    main.seval("import LinearAlgebra")
    problem, exact = _reaction_diffusion()
    diagonal = main.seval("B -> LinearAlgebra.Diagonal(LinearAlgebra.diag(B))")
    solution = _preconditioned(problem, diagonal)
    assert "GMRES with a function in Julia" in str(solution.provenance.jacobian)
    np.testing.assert_allclose(solution.ys[0], exact, rtol=1e-5, atol=1e-7)
    with JuliaWorker() as worker, pytest.raises(ValueError, match="cannot reach a"):
        _preconditioned(problem, diagonal, worker=worker)
    broken = main.seval("B -> LinearAlgebra.Diagonal(zeros(size(B, 1)))")
    with pytest.raises(Exception, match="the preconditioner broke down"):
        _preconditioned(problem, broken)


@pytest.mark.julia
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"preconditioner": "jacobi"}, ValueError, "one of ilu, multigrid, block-jac"),
        ({"preconditioner": ("ilu", 2.0)}, ValueError, "between 0 and 1, got 2.0"),
        ({"preconditioner": ("ilu", True)}, ValueError, "between 0 and 1, got True"),
        ({"preconditioner": ("block-jacobi", 0)}, ValueError, "from 1 to 1024, got 0"),
        ({"preconditioner": ("multigrid", 1)}, ValueError, "takes no parameter; got 1"),
        ({"preconditioner": lambda B: B}, TypeError, "made in Julia; got a function"),
        (
            {"preconditioner": "ilu", "jacobian": "dense"},
            ValueError,
            "made of a sparse Jacobian.*got 'dense'",
        ),
        (
            {"preconditioner": "ilu", "solver": "RadauIIA5"},
            ValueError,
            "RadauIIA5 takes no `preconditioner`; these solvers do: ImplicitEuler",
        ),
        (
            {"preconditioner": "ilu", "solver": "Tsit5"},
            ValueError,
            "Tsit5 takes no `preconditioner`",
        ),
        (
            {"preconditioner": "ilu", "form": "scalar"},
            ValueError,
            "has dense Jacobians alone",
        ),
    ],
)
def test_refused_options(julia, options, error, message):
    problem = ODEProblem(lambda t, y, args: -y, np.ones(3), 0.0, 1.0)
    with pytest.raises(error, match=message):
        solve(problem, "julia", **({"solver": "FBDF"} | options))
