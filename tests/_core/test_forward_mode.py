"""Fields that have a reverse rule only, against the same fields without one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import ODEProblem, SDEProblem, solve
from hybrid_nds._core import ForwardField, forward_rule
from hybrid_nds.problems import forward_problem
from hybrid_nds.stability import (
    continue_equilibria,
    contraction_rate,
    equilibria,
    fokker_planck,
    jacobian_spectrum,
    lyapunov_spectrum,
    periodic_orbit,
    stiffness,
)


def reverse_only(function):
    """A function of one array whose derivative is known to `jax.custom_vjp` alone."""
    wrapped = jax.custom_vjp(function)

    def forward(y):
        # The rule calls the function again, as many do.
        return wrapped(y), y

    wrapped.defvjp(forward, lambda y, g: jax.vjp(function, y)[1](g))
    return wrapped


def oscillator(y):
    # Van der Pol's oscillator with a slow third component.
    x, v, z = y
    return jnp.stack([v, (1 - x**2) * v - x, -0.1 * z + x])


@pytest.fixture
def pair():
    """The oscillator's problem, plain, and with a reverse rule only."""
    spans = jnp.array([1.0, 0.5, 0.2]), 0.0, 5.0
    hidden = reverse_only(oscillator)
    return (
        ODEProblem(lambda t, y, args: oscillator(y), *spans),
        ODEProblem(lambda t, y, args: hidden(y), *spans),
    )


def test_derivatives_of_all_orders_are_those_of_the_function(pair):
    plain, hidden = pair
    assert forward_rule(plain.field, 0.0, plain.y0, None) == "forward"
    assert forward_rule(hidden.field, 0.0, hidden.y0, None) == "reverse"
    assert forward_problem(plain) is plain
    made = forward_problem(hidden).field
    assert isinstance(made, ForwardField)
    expected = known = lambda y: plain.field(0.0, y, None)
    found = lambda y: made(0.0, y, None)
    for _ in range(3):
        expected, found = jax.jacfwd(expected), jax.jacfwd(found)
        np.testing.assert_allclose(
            jax.jit(found)(plain.y0), jax.jit(expected)(plain.y0), rtol=1e-12
        )
    np.testing.assert_allclose(
        jax.jacrev(lambda y: made(0.0, y, None))(plain.y0),
        jax.jacfwd(known)(plain.y0),
        rtol=1e-12,
    )


def test_jacobians_come_by_reverse_mode(pair):
    plain, hidden = pair
    np.testing.assert_allclose(
        jacobian_spectrum(hidden).jacobian,
        jax.jacfwd(oscillator)(plain.y0),
        rtol=1e-14,
        atol=1e-15,
    )
    rest = equilibria(hidden, region=(-1.0, 1.0), starts=4)
    np.testing.assert_allclose(rest.points, np.zeros((1, 3)), atol=1e-9)
    # At rest: λ² − λ + 1 = 0, and −0.1.
    np.testing.assert_allclose(
        rest.eigenvalues[0],
        [0.5 + 0.75**0.5 * 1j, 0.5 - 0.75**0.5 * 1j, -0.1],
        rtol=1e-7,
    )
    rates = [contraction_rate(p, (-1.0, 1.0), samples=16, refine=1).rate for p in pair]
    np.testing.assert_allclose(*rates, rtol=1e-7)


def test_implicit_solvers_take_them():
    # y' = −y − y³ has y² = e^{−2t}/(1/y₀² + 1 − e^{−2t}).
    field = reverse_only(lambda y: -y - y**3)
    problem = ODEProblem(lambda t, y, args: field(y), jnp.array([1.0]), 0.0, 2.0)
    found = solve(problem, solver="Kvaerno5", rtol=1e-9, atol=1e-12)
    exact = np.exp(-2.0) / np.sqrt(2 - np.exp(-4.0))
    np.testing.assert_allclose(found.ys[-1, 0], exact, rtol=1e-7)
    measured = stiffness(problem)
    # The Jacobian is −1 − 3y², largest at the start.
    np.testing.assert_allclose(measured.radii[0], 4.0, rtol=1e-12)


@pytest.mark.slow
def test_tangent_vectors_and_branches_take_them(pair):
    a, b = (lyapunov_spectrum(p, solver="Tsit5", dt=0.05) for p in pair)
    np.testing.assert_allclose(a.exponents, b.exponents, rtol=1e-9)
    a, b = (periodic_orbit(p, jnp.array([2.0, 0.0, 2.0]), 6.66) for p in pair)
    np.testing.assert_allclose(a.period, b.period, rtol=1e-9)

    def hopf(y):
        # Radius² = μ, supercritical: the first Lyapunov coefficient is −1 (Kuznetsov
        # 2004, equation 5.34, of r' = r(μ − r²) with unit eigenvectors: −2/ω · 1/2).
        x, v, mu = y
        r = x**2 + v**2
        return jnp.stack([(mu - r) * x - v, x + (mu - r) * v])

    for function in (hopf, reverse_only(hopf)):
        branch = continue_equilibria(
            lambda mu, f=function: ODEProblem(
                lambda t, y, mu: f(jnp.append(y, mu)), jnp.zeros(2), 0.0, 1.0, mu
            ),
            -0.5,
            (-1.0, 1.0),
        )
        (one,) = branch.find("hopf")
        assert abs(one.parameter) <= one.parameter_error
        assert one.lyapunov_coefficient is not None
        np.testing.assert_allclose(one.lyapunov_coefficient, -2.0, rtol=1e-8)


def test_generators_take_them():
    drift = reverse_only(lambda y: -y)
    problem = SDEProblem(
        lambda t, y, args: drift(y),
        lambda t, y, args: jnp.ones_like(y),
        jnp.array([0.0]),
        0.0,
        1.0,
        noise="additive",
    )
    found = fokker_planck(problem, (-5.0, 5.0), cells=100)
    assert abs(found.gap - 1) <= 2 * found.gap_error


@pytest.mark.parametrize("jit", [False, True])
def test_forward_mode_through_a_solve_names_adjoint(jit):
    def end(y0, **options):
        problem = ODEProblem(lambda t, y, args: -y, y0, 0.0, 1.0)
        return solve(problem, **options).ys[-1]

    wrap = jax.jit if jit else lambda f: f
    with pytest.raises(TypeError, match=r'`adjoint` must .*adjoint="forward"'):
        wrap(jax.jacfwd(end))(jnp.ones(1))
    if not jit:
        moved = jax.jacfwd(lambda y: end(y, adjoint="forward"))(jnp.ones(1))
        np.testing.assert_allclose(moved, np.exp(-1.0), rtol=1e-5)


def test_milstein_takes_a_diffusion_with_a_reverse_rule_only():
    hidden = reverse_only(jnp.sin)

    def problem(noise):
        return SDEProblem(
            lambda t, y, a: -y, lambda t, y, a: 0.3 * noise(y), jnp.ones(1), 0.0, 1.0,
            noise="diagonal",
        )  # fmt: skip

    options = {"solver": "ItoMilstein", "dt": 0.1, "key": jax.random.key(0)}
    plain, found = (solve(problem(f), **options).ys for f in (jnp.sin, hidden))
    np.testing.assert_allclose(found, plain, rtol=1e-14)


def _calls_python(t, y, args):
    shape = jax.ShapeDtypeStruct(y.shape, y.dtype)
    negated = lambda y: -np.asarray(y)
    return jax.pure_callback(negated, shape, y, vmap_method="sequential")


def test_a_field_that_calls_python_is_solved_and_its_derivative_refused():
    problem = ODEProblem(_calls_python, jnp.array([1.0, 2.0]), 0.0, 1.0)
    solution = solve(problem, solver="Tsit5", rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(
        solution.end_state, np.exp(-1) * problem.y0, rtol=1e-7, atol=0
    )
    region = ([-3.0, -3.0], [3.0, 3.0])
    for use in (
        lambda: solve(problem, solver="Kvaerno5"),
        lambda: solve(problem, solver="ImplicitEuler", dt=0.1),
        lambda: equilibria(problem, region=region),
        lambda: contraction_rate(problem, region=region),
        lambda: jacobian_spectrum(problem),
        lambda: stiffness(problem),
        lambda: lyapunov_spectrum(problem),
    ):
        with pytest.raises(TypeError, match=r"jax\.pure_callback .* jax\.custom_jvp"):
            use()
