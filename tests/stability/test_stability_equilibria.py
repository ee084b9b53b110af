"""Equilibria and Jacobian spectra against closed forms."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from hybrid_nds import ODEProblem, SDEProblem
from hybrid_nds.analysis import AnalysisError
from hybrid_nds.stability import equilibria, jacobian_spectrum

EPS = np.finfo(float).eps


def problem(field, y0, args=None):
    return ODEProblem(field, y0, 0.0, 1.0, args)


class Linear(eqx.Module):
    matrix: jax.Array

    def __call__(self, t, y, args):
        return self.matrix @ y


class Network(eqx.Module):
    """A continuous recurrent network: x' = −x + W tanh x."""

    weight: jax.Array

    def __call__(self, t, y, args):
        return -y + self.weight @ jnp.tanh(y)


class Polynomial(eqx.Module):
    """Of third degree; one class for many fields, which then compile once."""

    coefficients: jax.Array

    def __call__(self, t, y, args):
        return jnp.polyval(self.coefficients[::-1], y)


def polynomial(*coefficients):
    return problem(Polynomial(jnp.array(coefficients)), jnp.array([0.3]))


DOUBLE_WELL = (0.0, 1.0, 0.0, -1.0)


def test_the_double_well_of_the_table():
    found = equilibria(polynomial(*DOUBLE_WELL), region=(-2.0, 2.0))
    np.testing.assert_allclose(found.points[:, 0], [-1, 0, 1], atol=4 * EPS)
    np.testing.assert_allclose(found.eigenvalues[:, 0], [-2, 1, -2], atol=16 * EPS)
    assert found.kinds == ("stable node", "unstable node", "stable node")
    assert found.unstable.tolist() == [0, 1, 0]
    assert found.hits.sum() == found.converged == found.starts == 64
    assert np.all(found.hits > 1)
    assert found.unseen == 0
    gaps = np.abs(found.points[:, 0] - np.array([-1, 0, 1]))
    assert np.all(gaps <= found.errors)
    assert found.spectral_abscissas.tolist() == found.eigenvalues[:, 0].real.tolist()


@pytest.mark.parametrize(
    ("matrix", "kind", "unstable"),
    [
        ([[-1.0, 0.0], [0.0, -2.0]], "stable node", 0),
        ([[-1.0, 3.0], [-3.0, -1.0]], "stable focus", 0),
        ([[1.0, 1.0], [0.0, 2.0]], "unstable node", 2),
        ([[0.1, 1.0], [-1.0, 0.1]], "unstable focus", 2),
        ([[1.0, 0.0], [5.0, -1.0]], "saddle", 1),
        ([[0.0, 1.0], [-1.0, 0.0]], "non-hyperbolic", 0),
    ],
)
def test_kinds_of_linear_fields(matrix, kind, unstable):
    linear = problem(Linear(jnp.array(matrix)), jnp.ones(2))
    found = equilibria(linear, region=(-1.0, 1.0), starts=3)
    assert (found.kinds, found.unstable.tolist()) == ((kind,), [unstable])
    np.testing.assert_allclose(found.points, 0, atol=1e-11)


def test_states_are_pytrees():
    def field(t, y, args):
        return {"x": y["x"] - y["x"] ** 3, "z": args - 2 * y["z"]}

    y0 = {"x": jnp.array(0.3), "z": jnp.zeros((2, 1))}
    region = ({"x": 0.5, "z": -1.0}, {"x": 2.0, "z": np.array([[3.0], [4.0]])})
    found = equilibria(problem(field, y0, 1.0), region=region, starts=8)
    assert len(found) == 1
    np.testing.assert_allclose(found.states["x"], [1.0], atol=4 * EPS)
    np.testing.assert_allclose(found.states["z"], np.full((1, 2, 1), 0.5), atol=1e-15)
    # The two decoupled rates, −2 each for x, z₁ and z₂.
    np.testing.assert_allclose(found.eigenvalues, -2 * np.ones((1, 3)), atol=1e-14)


@pytest.mark.slow
def test_a_network_of_two_units_has_the_equilibria_of_its_pitchfork():
    # W = w I makes two copies of x = w tanh x: for w = 1.5 the roots are 0 and ±a, and
    # their pairs are nine equilibria.
    network = problem(Network(1.5 * jnp.eye(2)), jnp.zeros(2))
    found = equilibria(network, region=(-2.0, 2.0), starts=200)
    a = 1.0
    for _ in range(200):
        a = 1.5 * np.tanh(a)
    expected = [[x, y] for x in (-a, 0, a) for y in (-a, 0, a)]
    # Sorting is by components that are equal but for round-off.
    order = np.lexsort(np.round(found.points, 8).T[::-1])
    np.testing.assert_allclose(found.points[order], expected, atol=1e-14)
    stable = np.array(found.kinds)[order] == "stable node"
    assert stable.tolist() == [all(e) for e in expected]
    assert sorted(found.unstable) == [0] * 4 + [1] * 4 + [2]


def test_a_multiple_zero_is_one_and_not_hyperbolic():
    found = equilibria(polynomial(0.0, 0.0, 0.0, -1.0), region=(-2.0, 2.0))
    assert found.kinds == ("non-hyperbolic",)
    # Newton's step is a third of the way to a triple zero.
    assert abs(found.points[0, 0]) <= 4 * found.errors[0]
    assert abs(found.points[0, 0]) < 1e-5


def test_a_line_of_equilibria_is_not_isolated():
    def field(t, y, args):
        return jnp.stack([-y[0], 0 * y[1]])

    found = equilibria(problem(field, jnp.ones(2)), region=(-1.0, 1.0), starts=5)
    assert set(found.kinds) == {"non-hyperbolic"}
    assert np.all(np.isinf(found.errors))


def test_single_precision_stays():
    well = Polynomial(jnp.array(DOUBLE_WELL, jnp.float32))
    single = problem(well, jnp.array([0.3], jnp.float32))
    found = equilibria(single, region=(-2.0, 2.0))
    assert found.points.dtype == np.float32
    np.testing.assert_allclose(found.points[:, 0], [-1, 0, 1], atol=1e-5)
    assert np.all(np.abs(found.points[:, 0] - np.array([-1, 0, 1])) <= found.errors)


def test_double_precision_needs_no_flag():
    double = polynomial(*DOUBLE_WELL)
    with jax.enable_x64(False):
        found = equilibria(double, region=(-2.0, 2.0))
    assert found.points.dtype == np.float64


def test_no_equilibrium_says_what_was_tried():
    above = polynomial(1.0, 0.0, 1.0, 0.0)
    words = r"from 64 starts of up to 256.*\|f\| reached is 1.*`starts`"
    with pytest.raises(AnalysisError, match=words):
        equilibria(above, region=(-2.0, 2.0))
    far = polynomial(10.0, -1.0, 0.0, 0.0)
    with pytest.raises(AnalysisError, match=r"outside it.*\(10\).*enlarge `region`"):
        equilibria(far, region=(-2.0, 2.0))
    holes = problem(lambda t, y, args: jnp.sqrt(y - 5), jnp.array([6.0]))
    with pytest.raises(AnalysisError, match="not finite where they ended"):
        equilibria(holes, region=(-2.0, 2.0), starts=4)


def test_a_field_that_depends_on_time_is_frozen_on_request():
    driven = problem(lambda t, y, args: t - y, jnp.array([0.0]))
    with pytest.raises(ValueError, match="depends on time; give `t`"):
        equilibria(driven, region=(-1.0, 1.0), starts=4)
    found = equilibria(driven, region=(-1.0, 1.0), starts=4, t=0.25)
    np.testing.assert_allclose(found.points, [[0.25]], atol=4 * EPS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"region": (1.0, 1.0)}, "low below high"),
        ({"region": 3.0}, r"pair \(low, high\)"),
        ({"region": (np.zeros(2), 1.0)}, r"region\[0\].*shapes of `problem.y0`"),
        ({"region": (0.0, np.nan)}, "finite"),
        ({"region": ({"x": 0.0}, 1.0)}, "structure of `problem.y0`"),
        ({"starts": 0}, "`starts` must be a whole number of at least 1"),
        ({"max_steps": 2.5}, "`max_steps`"),
        ({"rtol": -1.0}, "`rtol` must be a positive"),
        ({"merge": np.inf}, "`merge`"),
        ({"t": np.nan}, "`t` must be a finite number"),
    ],
)
def test_bad_arguments_are_named(options, words):
    double = polynomial(*DOUBLE_WELL)
    with pytest.raises(ValueError, match=words):
        equilibria(double, **({"region": (-1.0, 1.0)} | options))


def test_problems_of_another_kind_are_refused():
    y0 = jnp.array([0.3])
    well = Polynomial(jnp.array(DOUBLE_WELL))
    noisy = SDEProblem(well, well, y0, 0.0, 1.0)
    with pytest.raises(TypeError, match=r"take ODEProblem\(problem.drift"):
        equilibria(noisy, region=(-1.0, 1.0))
    with pytest.raises(TypeError, match="must be an ODEProblem, got int"):
        jacobian_spectrum(3)
    weighed = ODEProblem(well, y0, 0.0, 1.0, mass_matrix=np.eye(1))
    with pytest.raises(ValueError, match="no mass matrix"):
        jacobian_spectrum(weighed)
    with pytest.raises(TypeError, match="concrete"):
        jax.jit(lambda y: jacobian_spectrum(problem(well, y)).jacobian)(y0)


def test_equilibria_print_plot_and_turn_into_data(tmp_path):
    found = equilibria(polynomial(*DOUBLE_WELL), region=(-2.0, 2.0))
    text = str(found)
    assert "3 equilibria from 64 starts" in text
    assert "(-1)" in text
    assert "unstable node, leading eigenvalue 1 " in text
    data = json.loads(json.dumps(found.to_dict()))
    assert data["kinds"] == list(found.kinds)
    dataset = found.to_xarray()
    assert dataset["points"].dims == ("equilibrium", "component")
    assert dataset.attrs["low"] == [-2.0]
    assert len(found.plot(tmp_path / "e.png").axes[0].lines) == 5


def test_the_spectrum_of_the_nonnormal_matrix():
    matrix = jnp.array([[-1.0, 4.0], [0.0, -1.0]])
    found = jacobian_spectrum(problem(Linear(matrix), jnp.ones(2)))
    np.testing.assert_array_equal(found.eigenvalues, [-1, -1])
    np.testing.assert_allclose(found.numerical_abscissa, 1.0, atol=8 * EPS)
    # A Jordan block: what moves the matrix by ε moves its eigenvalues by √(4ε).
    assert np.all(found.eigenvalue_errors > np.sqrt(4 * EPS))
    assert found.spectral_abscissa_error < 1e-6
    np.testing.assert_array_equal(found.jacobian, matrix)


# Without entries whose squares underflow, which LAPACK alone does not survive.
entries = st.floats(-10, 10).map(lambda x: x if abs(x) > 1e-100 else 0.0)


@given(
    matrix=hnp.arrays(np.float64, (3, 3), elements=entries),
    change=hnp.arrays(np.float64, (3, 3), elements=st.floats(-1, 1)),
)
@settings(max_examples=25, deadline=None)
def test_errors_hold_what_round_off_does(matrix, change):
    found = jacobian_spectrum(problem(Linear(jnp.asarray(matrix)), jnp.ones(3)))
    # Entries off by a half of their last place.
    other = np.linalg.eigvals(matrix * (1 + EPS / 2 * change))
    for value in other:
        nearest = np.argmin(np.abs(found.eigenvalues - value))
        gap = abs(found.eigenvalues[nearest] - value)
        # The bound counts for each of the two decompositions.
        assert gap <= 2 * np.max(found.eigenvalue_errors)
    assert found.numerical_abscissa >= found.spectral_abscissa - 2 * max(
        found.numerical_abscissa_error, found.spectral_abscissa_error
    )
    assert np.all(np.diff(found.eigenvalues.real) <= 0)


def test_the_spectrum_at_a_state_of_a_network():
    weight = jnp.array([[0.5, -1.0], [2.0, 0.3]])
    y = np.array([0.7, -0.4])
    found = jacobian_spectrum(problem(Network(weight), jnp.zeros(2)), y)
    by_hand = -np.eye(2) + np.asarray(weight) / np.cosh(y) ** 2
    np.testing.assert_allclose(found.jacobian, by_hand, atol=4 * EPS)
    trace, determinant = np.trace(by_hand), np.linalg.det(by_hand)
    root = np.sqrt(complex(trace**2 / 4 - determinant))
    np.testing.assert_allclose(
        found.eigenvalues, [trace / 2 + root, trace / 2 - root], atol=1e-14
    )
    assert found.spectral_abscissa == found.eigenvalues[0].real
    assert found.spectral_radius == pytest.approx(np.abs(trace / 2 + root))


def test_a_spectrum_prints_plots_and_turns_into_data(tmp_path):
    found = jacobian_spectrum(
        problem(Linear(jnp.diag(-jnp.arange(1.0, 12.0))), jnp.ones(11))
    )
    assert "spectral abscissa -1 ±" in str(found)
    assert "… and 3 more" in str(found)
    assert found.to_xarray()["jacobian"].dims == ("row", "column")
    assert json.loads(json.dumps(found.to_dict()))["spectral_radius"] == 11.0
    found.plot(tmp_path / "s.png")


def test_very_small_matrices_keep_their_eigenvalues():
    small = 1e-172 * jnp.array([[1.0, 2.0], [2.0, 1.0]])
    found = jacobian_spectrum(problem(Linear(small), jnp.ones(2)))
    np.testing.assert_allclose(1e172 * found.eigenvalues, [3, -1], rtol=1e-14)
    assert np.all(found.eigenvalue_errors > 0)


def test_a_jacobian_that_is_not_finite_is_named():
    with pytest.raises(AnalysisError, match="check that the field is differentiable"):
        jacobian_spectrum(problem(lambda t, y, a: jnp.sqrt(y), jnp.zeros(1)))


def test_single_precision_says_what_was_tried():
    """1 + x² has no zero, and its least value is one in each of two components."""
    none = ODEProblem(lambda t, y, a: 1 + y**2, np.zeros(2, np.float32), 0.0, 1.0)
    with pytest.raises(
        AnalysisError, match=r"from 4 starts .* \|f\| reached is 1\.41,"
    ):
        equilibria(none, region=(-1.0, 1.0), starts=4)
    outside = ODEProblem(lambda t, y, a: y - 5, np.zeros(2, np.float32), 0.0, 1.0)
    with pytest.raises(AnalysisError, match=r"1 equilibria outside it.*\(5, 5\)"):
        equilibria(outside, region=(-1.0, 1.0), starts=4)
