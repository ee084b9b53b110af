"""Lyapunov exponents by Julia's loops: against closed forms, and against Diffrax."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from hybrid_nds import BrownianPath, ODEProblem, SDEProblem, solve
from hybrid_nds.analysis import AnalysisError
from hybrid_nds.stability import lyapunov_spectrum

pytestmark = pytest.mark.julia

MATRIX = jnp.array([[-0.5, 2.0, 0.0], [-2.0, -0.5, 1.0], [0.0, 0.0, 0.3]])


def linear_noise(a=-1.0, sigma=0.5, **kwargs):
    return SDEProblem(
        lambda t, y, args: a * y,
        lambda t, y, args: sigma * y,
        jnp.array([1.0]),
        0.0,
        50.0,
        noise="scalar",
        interpretation="ito",
        **kwargs,
    )


def gauss(function):
    """The mean of a function of a standard normal number, by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    return float(weights @ function(nodes)) / np.sqrt(2 * np.pi)


@pytest.mark.parametrize("solver", [None, "Tsit5", "Rodas5P", "FBDF"])
def test_a_linear_flow_has_the_real_parts_of_its_eigenvalues(julia, solver):
    problem = ODEProblem(lambda t, y, args: MATRIX @ y, jnp.ones(3), 0.0, 100.0)
    found = lyapunov_spectrum(
        problem, backend="julia", solver=solver, rtol=1e-9, atol=1e-9, transient=20.0
    )
    # Directions have settled after the transient to e^{−0.8·20}; those of a pair with
    # one real part turn within their plane: averages over all but part of a turn.
    np.testing.assert_allclose(found.exponents[0], 0.3, atol=1e-5)
    np.testing.assert_allclose(found.exponents[1:], -0.5, atol=0.02)
    # Volumes shrink by the trace, which no turning touches.
    np.testing.assert_allclose(sum(found.exponents), -0.7, atol=1e-6)


def test_the_sum_of_lorenz_exponents_is_the_trace(julia):
    def lorenz(t, y, args):
        x, v, z = y
        return jnp.stack([10 * (v - x), x * (28 - z) - v, x * v - 8 / 3 * z])

    problem = ODEProblem(lorenz, jnp.array([1.0, 1.0, 20.0]), 0.0, 300.0)
    found = lyapunov_spectrum(problem, backend="julia", rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.sum, -41 / 3, atol=1e-6)
    # Published: 0.9056, 0, −14.5723 (Sprott 2003); four standard errors.
    expected = np.array([0.9056, 0.0, -14.5723])
    gaps = np.abs(found.exponents - expected)
    assert np.all(gaps < 4 * found.standard_errors + 1e-3)
    assert found.provenance.backend == "julia"
    assert found.provenance.solver == "Vern7"


@pytest.mark.parametrize("noise", ["scalar", "diagonal", "additive", "general"])
@pytest.mark.parametrize("solver", ["Euler", "Heun"])
def test_both_stacks_agree_along_one_path(julia, noise, solver):
    class Drift(eqx.Module):
        mlp: eqx.nn.MLP

        def __call__(self, t, y, args):
            return self.mlp(y) - y

    def diffusion(t, y, args):
        if noise == "general":
            return jnp.stack([0.3 * y, jnp.cos(y)], axis=-1)
        return 0.4 * jnp.ones_like(y) if noise == "additive" else 0.3 * jnp.cos(y)

    problem = SDEProblem(
        Drift(eqx.nn.MLP(2, 2, 8, 1, activation=jnp.tanh, key=jr.key(0))),
        diffusion,
        jnp.array([0.5, -1.0]),
        0.0,
        8.0,
        noise=noise,
        interpretation="ito" if solver == "Euler" else "stratonovich",
    )
    path = BrownianPath(jr.key(1), problem.noise_dimension, 0.0, 8.0, 1 / 64)
    here, there = (
        lyapunov_spectrum(problem, backend=b, solver=solver, path=path)
        for b in ("diffrax", "julia")
    )
    # 512 steps of one scheme along one path, round-off alone.
    np.testing.assert_allclose(there.exponents, here.exponents, rtol=1e-10, atol=1e-11)


def test_implicit_methods_have_the_exponents_of_their_schemes(julia):
    # Steps so long that the scheme's exponent is far from the equation's, a − σ²/2:
    # E log|(1 + σ√h Z)/(1 − ha)| for drift-implicit Euler.
    a, sigma, h = -40.0, 2.0, 0.05
    exact = gauss(lambda z: np.log(np.abs(1 + sigma * np.sqrt(h) * z))) / h
    exact -= np.log(1 - h * a) / h
    found = lyapunov_spectrum(
        linear_noise(a, sigma),
        backend="julia",
        solver="ImplicitEM",
        dt=h,
        time=400.0,
        key=jr.key(2),
        chains=4,
    )
    assert abs(found.exponents[0] - exact) < 4 * found.standard_errors[0]
    assert abs(found.exponents[0] - (a - sigma**2 / 2)) > 1.0


def test_euler_has_the_exponent_of_its_scheme(julia):
    a, sigma, h = -1.0, 0.5, 1 / 16
    exact = gauss(lambda z: np.log(np.abs(1 + h * a + sigma * np.sqrt(h) * z))) / h
    found = lyapunov_spectrum(
        linear_noise(a, sigma),
        backend="julia",
        solver="Euler",
        dt=h,
        time=1000.0,
        key=jr.key(4),
        chains=8,
    )
    assert abs(found.exponents[0] - exact) < 4 * found.standard_errors[0]
    assert found.standard_errors[0] < 0.01


@pytest.mark.parametrize("solver", ["Euler", "ImplicitEM", "Tsit5"])
def test_a_run_goes_on_to_the_same_bits(julia, tmp_path, monkeypatch, solver):
    stochastic = solver != "Tsit5"
    problem = (
        linear_noise()
        if stochastic
        else ODEProblem(lambda t, y, args: MATRIX @ jnp.sin(y), jnp.ones(3), 0.0, 50.0)
    )
    given = {"backend": "julia", "solver": solver}
    if stochastic:
        given |= {"dt": 1 / 16, "key": jr.key(6), "chains": 2}
    whole = lyapunov_spectrum(problem, **given)
    from hybrid_nds.backends.julia._stability import JuliaTangentFlow

    advance, calls = JuliaTangentFlow.advance, []

    def cut_off(self, *args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return advance(self, *args)

    monkeypatch.setattr(JuliaTangentFlow, "advance", cut_off)
    path = tmp_path / "run.npz"
    with pytest.raises(KeyboardInterrupt):
        lyapunov_spectrum(problem, save=path, **given)
    monkeypatch.setattr(JuliaTangentFlow, "advance", advance)
    found = lyapunov_spectrum(problem, save=path, **given)
    np.testing.assert_array_equal(found.exponents, whole.exponents)


def test_an_orbit_that_diverges_says_when(julia):
    # Infinite at t = 1/y₀ = 0.8333.
    problem = ODEProblem(lambda t, y, args: y**2, jnp.full(1, 1.2), 0.0, 20.0)
    with pytest.raises(AnalysisError, match=r"between t = 0\.8 and t = 0\.9"):
        lyapunov_spectrum(problem, backend="julia", interval=0.1, transient=0.0)
    stochastic = SDEProblem(
        lambda t, y, args: y**3,
        lambda t, y, args: y,
        jnp.ones(1),
        0.0,
        50.0,
        noise="scalar",
        interpretation="ito",
    )
    with pytest.raises(AnalysisError, match="diverged between"):
        lyapunov_spectrum(
            stochastic, backend="julia", solver="Euler", dt=0.1, key=jr.key(1), chains=2
        )


@pytest.mark.slow
def test_theta_weighs_the_end_of_the_step(julia):
    # For dX = aX dt + σX dW along one path: X₁/X₀ = (1 + (1−θ)ha + σΔW)/(1 − θha).
    problem = linear_noise(-3.0, 0.4)
    problem = eqx.tree_at(lambda p: p.t1, problem, jnp.array(1.0))
    path = BrownianPath(jr.key(8), 1, 0.0, 1.0, 1 / 8)
    w = np.asarray(path.increments()[0])[:, 0]
    h = 1 / 8
    for theta in (0.25, 0.5, 1.0):
        exact = np.prod((1 - (1 - theta) * h * 3 + 0.4 * w) / (1 + theta * h * 3))
        found = solve(problem, "julia", solver="ImplicitEM", path=path, theta=theta)
        # Newton's iteration stops at a fraction of 1e-6 of its tolerance.
        np.testing.assert_allclose(found.ys[-1], exact, rtol=1e-7)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"solver": "EM", "theta": 0.5}, "has no `theta`"),
        ({"solver": "ImplicitEM", "theta": 0.0}, "`theta` must be a number above 0"),
        ({"solver": "ImplicitEM", "theta": "half"}, "`theta` must be a number"),
    ],
)
def test_bad_weights_are_named(julia, options, match):
    path = BrownianPath(jr.key(8), 1, 0.0, 50.0, 1.0)
    with pytest.raises(ValueError, match=match):
        solve(linear_noise(), "julia", path=path, **options)
