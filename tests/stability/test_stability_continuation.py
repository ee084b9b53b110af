"""Branches of equilibria and their bifurcations, against normal forms."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import ODEProblem
from hybrid_nds.analysis import AnalysisError
from hybrid_nds.stability import continue_equilibria
from hybrid_nds.stability.local._arclength import Walker


def family(field, y0):
    """Problems whose `args` are the parameter."""
    return lambda parameter: ODEProblem(field, y0, 0.0, 1.0, parameter)


def fold(t, y, mu):
    return mu - y**2


def pitchfork(t, y, mu):
    return mu * y - y**3


def fitzhugh_nagumo(t, y, current):
    v, w = y["v"], y["w"]
    return {"v": v - v**3 / 3 - w + current, "w": 0.08 * (v + 0.7 - 0.8 * w)}


class Quadratic(eqx.Module):
    """A rotation with all terms of second and third order: x' = μx − ωy + f(x, y),
    y' = ωx + μy + g(x, y)."""

    omega: float
    second: jax.Array
    third: jax.Array

    def __call__(self, t, y, mu):
        x, z = y
        two, three = jnp.stack([x**2, x * z, z**2]), y**3
        turning = jnp.stack([mu * x - self.omega * z, self.omega * x + mu * z])
        return turning + self.second @ two + self.third * three


def test_the_fold_normal_form():
    branch = continue_equilibria(family(fold, jnp.array([0.7])), 0.5, (-1.0, 1.0))
    # The parabola μ = y², stable above.
    y = branch.points[:, 0]
    np.testing.assert_allclose(branch.parameters, y**2, atol=1e-14)
    assert [one.kind for one in branch.bifurcations] == ["fold"]
    (one,) = branch.find("fold")
    # Across a fold of unit curvature δμ is (δy)², and the bisection resolves δy to
    # some 1e-16.
    assert abs(one.parameter) <= max(one.parameter_error, 1e-30)
    assert abs(one.parameter) < 1e-20
    assert abs(one.point[0]) < 1e-9
    assert branch.ended == ("interval", "interval")
    np.testing.assert_allclose(branch.parameters[[0, -1]], 1.0, atol=1e-12)
    assert np.sign(y[0]) == -np.sign(y[-1])
    away = np.abs(y) > 1e-6
    np.testing.assert_array_equal(branch.stable[away], y[away] > 0)
    np.testing.assert_array_equal(branch.unstable[away], y[away] < 0)
    np.testing.assert_allclose(branch.eigenvalues[:, 0], -2 * y, atol=1e-13)


@pytest.mark.parametrize(("y0", "start"), [(0.0, -0.5), (0.7, 0.5)])
def test_the_pitchfork_normal_form(y0, start):
    branch = continue_equilibria(
        family(pitchfork, jnp.array([y0])), start, (-1.0, 1.0), max_step=0.05
    )
    assert [one.kind for one in branch.bifurcations] == ["branch point"]
    (one,) = branch.bifurcations
    assert abs(one.parameter) <= one.parameter_error + 1e-15
    assert one.parameter_error < 1e-3
    assert abs(one.parameter) < 1e-8
    y, mu = branch.points[:, 0], branch.parameters
    if y0 == 0:
        # Through it, on the axis, which loses its stability.
        np.testing.assert_allclose(y, 0, atol=1e-15)
        np.testing.assert_array_equal(branch.stable, mu < 0)
    else:
        # Round it, on the parabola, which is stable on both sides.
        np.testing.assert_allclose(mu, y**2, atol=1e-9)
        assert y.min() < -0.9
        assert y.max() > 0.9
        assert np.all(branch.stable[np.abs(y) > 1e-3])


def test_the_first_lyapunov_coefficient_by_another_formula():
    draw = np.random.default_rng(4)
    second, third = draw.normal(size=(2, 3)), draw.normal(size=2)
    omega = 1.7
    field = Quadratic(omega, jnp.asarray(second), jnp.asarray(third))
    branch = continue_equilibria(family(field, jnp.zeros(2)), -0.1, (-0.2, 0.2))
    (one,) = branch.find("hopf")
    assert abs(one.parameter) <= one.parameter_error < 1e-12
    assert one.frequency == pytest.approx(omega, abs=1e-12)
    # Guckenheimer & Holmes (1983), equation 3.4.11, for r' = a r³.
    (fxx, fxy, fyy), (gxx, gxy, gyy) = second * np.array([2, 1, 2])
    a = (6 * third[0] + 6 * third[1]) / 16
    quadratic = fxy * (fxx + fyy) - gxy * (gxx + gyy) - fxx * gxx + fyy * gyy
    a += quadratic / (16 * omega)
    # With an eigenvector of unit norm, |x|² = 2|z|² and the time in units of 1/ω.
    assert one.lyapunov_coefficient == pytest.approx(2 * a / omega, rel=1e-9)


def test_the_brusselator():
    A = 1.3

    def field(t, y, B):
        x, z = y
        return jnp.stack([A + x**2 * z - (B + 1) * x, B * x - x**2 * z])

    branch = continue_equilibria(
        family(field, jnp.array([1.2, 1.0])), 1.0, (0.5, 4.0), max_step=0.05
    )
    B = branch.parameters
    np.testing.assert_allclose(branch.points[:, 0], A, atol=1e-12)
    np.testing.assert_allclose(branch.points[:, 1], B / A, atol=1e-12)
    assert [one.kind for one in branch.bifurcations] == ["hopf"]
    (one,) = branch.bifurcations
    assert abs(one.parameter - (1 + A**2)) <= one.parameter_error < 1e-11
    # det J = A², and the trace is zero.
    assert one.frequency == pytest.approx(A, abs=1e-11)
    # Supercritical for every A (Hassard, Kazarinoff & Wan 1981, chapter 2).
    assert one.lyapunov_coefficient < 0
    below = B[one.index] <= one.parameter
    assert below
    np.testing.assert_array_equal(branch.unstable, np.where(B < 1 + A**2, 0, 2))


def test_fitzhugh_nagumo_loses_and_regains_its_stability():
    y0 = {"v": jnp.array(-1.2), "w": jnp.array(-0.6)}
    branch = continue_equilibria(family(fitzhugh_nagumo, y0), 0.0, (0.0, 2.0))
    first, second = branch.find("hopf")
    # tr J = 1 − v² − 0.064 = 0, and the current that holds this state.
    v = np.sqrt(1 - 0.064) * np.array([-1, 1])
    current = v**3 / 3 - v + (v + 0.7) / 0.8
    for one, vs, currents in zip((first, second), v, current, strict=True):
        assert one.point[0] == pytest.approx(vs, abs=1e-10)
        assert abs(one.parameter - currents) <= one.parameter_error + 1e-15
        # det J = −0.064 (1 − v²) + 0.08 with 1 − v² = 0.064.
        assert one.frequency == pytest.approx(np.sqrt(0.08 - 0.064**2), abs=1e-11)
    assert branch.states["v"].shape == branch.parameters.shape
    assert len(branch.bifurcations) == 2


def test_a_neural_field_with_its_gain():
    # x' = −x + g W tanh x at 0 has the eigenvalues −1 + g(1 ± 2i): Hopf at g = 1.
    class Network(eqx.Module):
        weight: jax.Array
        gain: jax.Array

        def __call__(self, t, y, args):
            return -y + self.gain * (self.weight @ jnp.tanh(y))

    weight = jnp.array([[1.0, -2.0], [2.0, 1.0]])

    def problem_of(gain):
        field = Network(weight, jnp.asarray(gain))
        return ODEProblem(field, jnp.full(2, 0.1), 0.0, 1.0)

    branch = continue_equilibria(problem_of, 0.5, (0.0, 2.0), max_step=0.1)
    (one,) = branch.bifurcations
    assert one.kind == "hopf"
    assert abs(one.parameter - 1) <= one.parameter_error < 1e-12
    assert one.frequency == pytest.approx(2.0, abs=1e-12)
    # The cubic terms are −W (x³, z³)/3, of which Guckenheimer & Holmes' formula takes
    # f_xxx + g_zzz = −4, over 16; and times 2/ω, as above.
    assert one.lyapunov_coefficient == pytest.approx(-0.25, rel=1e-9)


@pytest.mark.slow
def test_the_bratu_problem_of_two_solutions():
    """u'' + λ e^u = 0 with u(0) = u(1) = 0, in second-order differences."""
    n = 31

    def field(t, u, parameter):
        wide = jnp.pad(u, 1)
        second = (wide[2:] - 2 * u + wide[:-2]) * (n + 1) ** 2
        return second + parameter * jnp.exp(u)

    branch = continue_equilibria(
        family(field, jnp.zeros(n)), 0.0, (0.0, 4.0), max_points=300
    )
    # On the way up to ever higher solutions, where λ falls to nothing, the branch
    # stands upright, and the sign of its lean is noise.
    assert [one.kind for one in branch.bifurcations] == ["fold"]
    # λ = 8 (θ/cosh θ)² is largest where θ tanh θ = 1.
    # In differences the mode of the fold, near sin πx, has an eigenvalue smaller by the
    # share (πh)²/12, and λ about the same: 2.8e-3. Twice that is allowed.
    theta = 1.199678640257734
    highest = 8 * (theta / np.cosh(theta)) ** 2
    assert highest == pytest.approx(3.513830719, abs=1e-9)
    assert (
        abs(branch.bifurcations[0].parameter - highest)
        < 2 * highest * (np.pi / 32) ** 2 / 12
    )


def test_a_closed_curve_is_walked_once():
    # The circle μ² + y² = 1/4 has a fold at either side.
    def field(t, y, mu):
        return 0.25 - mu**2 - y**2

    branch = continue_equilibria(family(field, jnp.array([0.5])), 0.0, (-1.0, 1.0))
    assert branch.ended == ("closed", "closed")
    folds = sorted(one.parameter for one in branch.find("fold"))
    np.testing.assert_allclose(folds, [-0.5, 0.5], atol=1e-12)
    turns = np.unwrap(np.arctan2(branch.points[:, 0], branch.parameters))
    assert abs(turns[-1] - turns[0]) == pytest.approx(2 * np.pi, abs=1e-9)


def test_two_real_eigenvalues_that_cross_at_once_are_no_hopf():
    branch = continue_equilibria(
        family(lambda t, y, mu: mu * y - y**3, jnp.zeros(2)), -0.5, (-1.0, 1.0)
    )
    assert {one.kind for one in branch.bifurcations} == {"branch point"}
    assert abs(branch.bifurcations[0].parameter) < 1e-10


def test_single_precision_stays():
    branch = continue_equilibria(
        family(fold, jnp.array([0.7], jnp.float32)), 0.5, (-1.0, 1.0)
    )
    (one,) = branch.bifurcations
    assert one.kind == "fold"
    assert abs(one.parameter) < 1e-6


def test_a_branch_that_ends_keeps_what_there_is():
    # y = √μ, and no field below.
    rough = family(lambda t, y, mu: jnp.sqrt(mu) - y, jnp.array([0.7]))
    with pytest.raises(AnalysisError, match="could not be followed past") as failure:
        continue_equilibria(rough, 0.5, (-1.0, 1.0))
    branch = failure.value.result
    assert branch.ended == ("step", "interval")
    assert 0 <= branch.parameters[0] < 1e-3
    gaps = np.abs(branch.points[:, 0] - np.sqrt(branch.parameters))
    # Their own error, and the last place of the root of so small a number.
    assert np.all(gaps <= branch.errors + 1e-15)
    assert "a step that was too short" in str(branch)


def test_a_fold_is_a_start():
    branch = continue_equilibria(family(fold, jnp.zeros(1)), 0.0, (-1.0, 1.0))
    np.testing.assert_allclose(branch.parameters, branch.points[:, 0] ** 2, atol=1e-14)
    np.testing.assert_allclose(branch.parameters[[0, -1]], 1.0, atol=1e-12)
    assert [one.kind for one in branch.bifurcations] == ["fold"]
    assert abs(branch.bifurcations[0].parameter) < 1e-12


def test_the_lorenz_equations():
    sigma, beta = 10.0, 8 / 3

    def field(t, y, rho):
        a, b, c = y
        return jnp.stack([sigma * (b - a), a * (rho - c) - b, a * b - beta * c])

    branch = continue_equilibria(
        family(field, jnp.array([6.0, 6.0, 14.0])), 15.0, (0.0, 30.0)
    )
    # Round the pitchfork at ρ = 1 to the mirror image; each half loses its stability
    # where (Guckenheimer & Holmes 1983, section 2.3), to unstable orbits.
    critical = sigma * (sigma + beta + 3) / (sigma - beta - 1)
    assert [b.kind for b in branch.bifurcations] == ["hopf", "branch point", "hopf"]
    assert abs(branch.find("branch point")[0].parameter - 1) < 1e-8
    for one in branch.find("hopf"):
        assert abs(one.parameter - critical) <= one.parameter_error < 1e-10
        # λ³ + (σ + β + 1) λ² + β(σ + ρ) λ + … with λ = iω.
        expected = np.sqrt(beta * (sigma + critical))
        assert one.frequency == pytest.approx(expected, abs=1e-10)
        assert one.lyapunov_coefficient > 0
    first, second = branch.find("hopf")
    assert first.lyapunov_coefficient == pytest.approx(second.lyapunov_coefficient)
    mirror = np.array([-1, -1, 1])
    np.testing.assert_allclose(first.point, mirror * second.point, atol=1e-9)


def test_a_branch_that_was_cut_off_goes_on(tmp_path, monkeypatch):
    def follow(save):
        return continue_equilibria(
            family(fold, jnp.array([0.7])), 0.5, (-1.0, 1.0), save=save
        )

    whole = follow(None)
    path = tmp_path / "branch.npz"
    at, count = Walker.at, 0

    def cut_off(self, place, length):
        nonlocal count
        count += 1
        if count == 60:
            raise KeyboardInterrupt
        return at(self, place, length)

    monkeypatch.setattr(Walker, "at", cut_off)
    with pytest.raises(KeyboardInterrupt):
        follow(path)
    assert path.exists()
    steps = []
    monkeypatch.setattr(
        Walker, "at", lambda *given: steps.append(1) or at(*given), raising=True
    )
    resumed = follow(path)
    np.testing.assert_array_equal(resumed.points, whole.points)
    np.testing.assert_array_equal(resumed.eigenvalues, whole.eigenvalues)
    assert resumed.to_dict() == whole.to_dict()
    # Less than the whole way again; the bisection of the fold takes at most 61.
    assert len(steps) - 61 < len(whole.points) - 25
    with pytest.raises(ValueError, match="written with another problem"):
        continue_equilibria(
            family(pitchfork, jnp.array([0.7])), 0.5, (-1.0, 1.0), save=path
        )


def test_starts_that_are_none_are_named():
    with pytest.raises(AnalysisError, match=r"equilibria\(problem_of\(-0.5\)"):
        continue_equilibria(family(fold, jnp.array([0.7])), -0.5, (-1.0, 1.0))
    with pytest.raises(AnalysisError, match="more than one branch"):
        continue_equilibria(family(pitchfork, jnp.zeros(1)), 0.0, (-1.0, 1.0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start": 2.0}, "`interval` must be a pair"),
        ({"interval": (1.0, -1.0)}, "`interval` must be a pair"),
        ({"interval": (-np.inf, 1.0)}, "`interval` must be a pair"),
        ({"max_points": 1}, "`max_points`"),
        ({"step": 0.1}, "must rise"),
        ({"step": 0.0}, "`step` must be a positive"),
        ({"tolerance": -1.0}, "`tolerance`"),
        ({"guess": jnp.ones(2)}, "shapes of `problem.y0`"),
    ],
)
def test_bad_arguments_are_named(options, words):
    arguments = {"start": 0.5, "interval": (-1.0, 1.0)} | options
    with pytest.raises(ValueError, match=words):
        continue_equilibria(family(fold, jnp.array([0.7])), **arguments)


def test_bad_families_are_named():
    with pytest.raises(TypeError, match="`problem_of` must be a function"):
        continue_equilibria(3.0, 0.5, (-1.0, 1.0))
    with pytest.raises(TypeError, match="must be an ODEProblem"):
        continue_equilibria(lambda mu: mu, 0.5, (-1.0, 1.0))


def test_a_branch_prints_plots_and_turns_into_data(tmp_path):
    branch = continue_equilibria(family(fold, jnp.array([0.7])), 0.5, (-1.0, 1.0))
    assert "fold at" in str(branch)
    data = json.loads(json.dumps(branch.to_dict()))
    assert [one["kind"] for one in data["bifurcations"]] == ["fold"]
    assert list(branch.to_xarray()["bifurcation_kind"]) == ["fold"]
    assert branch.to_xarray()["points"].dims == ("point", "component")
    branch.plot(tmp_path / "b.png")
    with pytest.raises(ValueError, match="`kind` must be one of"):
        branch.find("cusp")


@jax.custom_vjp
def reverse_cube(y):
    return y**3


reverse_cube.defvjp(
    lambda y: (reverse_cube(y), y), lambda y, pulled: (3 * y**2 * pulled,)
)


def test_a_parameter_closed_over_beside_a_reverse_rule_is_continued():
    def problem_of(mu):
        return ODEProblem(
            lambda t, y, args: mu * y - reverse_cube(y), jnp.ones(1), 0.0, 1.0
        )

    branch = continue_equilibria(problem_of, 1.0, (0.5, 2.0), step=0.03)
    # y² = μ; round-off in float32 is 1e-7, and Newton's tolerance 1e-4, quadratically.
    np.testing.assert_allclose(branch.points[:, 0] ** 2, branch.parameters, rtol=1e-4)
    assert len(branch.parameters) > 5


def test_a_reverse_rule_that_closes_over_the_parameter_is_refused():
    def problem_of(mu):
        turned = jax.custom_vjp(lambda y: y**3 - mu * y)
        turned.defvjp(
            lambda y: (y**3 - mu * y, y), lambda y, pulled: (3 * y**2 * pulled,)
        )
        return ODEProblem(lambda t, y, args: -turned(y), jnp.ones(1), 0.0, 1.0)

    with pytest.raises(TypeError, match="closes over it"):
        continue_equilibria(problem_of, 1.0, (0.5, 2.0))
