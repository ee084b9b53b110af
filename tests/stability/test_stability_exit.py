"""Mean exit times against closed forms and quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given, settings, strategies as st

from hybrid_nds import SDEProblem
from hybrid_nds.analysis import AnalysisError
from hybrid_nds.stability import mean_exit_time
from hybrid_nds.stability.long_run._exit_steps import Crossings, region_levels
from hybrid_nds.stability.long_run._exit_time import _Run

# Every statistical check here is at this many standard errors: one in 15 000 for a
# normal mean, with the keys fixed.
SIGMAS = 4.0


# Functions of the module, made once, and few steps and numbers of trajectories: what
# was compiled for one test serves the others.
def constant_drift(t, y, args):
    return args * jnp.ones_like(y)


def unit_noise(t, y, args):
    return jnp.ones_like(y)


def well_drift(t, y, args):
    return y - y**3


def well_noise(t, y, args):
    return jnp.sqrt(2 * args) * jnp.ones_like(y)


def brownian(y0=0.5, drift=0.0, dimension=1):
    return SDEProblem(
        constant_drift,
        unit_noise,
        jnp.full((dimension,), y0),
        0.0,
        1.0,
        jnp.asarray(drift),
        noise="additive",
    )


def double_well(noise=0.1):
    return SDEProblem(
        well_drift,
        well_noise,
        jnp.array([-1.0]),
        0.0,
        1.0,
        jnp.asarray(noise),
        noise="additive",
    )


# Of Brownian motion with drift, Euler's method has no error of its own.
EXACT = {"dt": 0.01, "solver": "Euler", "check_step": False}
WELL = {"dt": 0.04, "check_step": False}


@pytest.mark.slow
def test_brownian_motion_leaves_an_interval_after_the_product_of_the_distances():
    # E T = x(1 − x) (Itô's formula for x(1 − x)); the bridge is exact for it.
    found = mean_exit_time(
        brownian(0.3), (0.0, 1.0), 1024, key=jax.random.key(1), **EXACT
    )
    # Two boundaries within one step are taken as independent: with steps of 0.01, a
    # crossing of both costs less than exp(−2/0.01·0.25) of the trajectories.
    assert abs(found.mean - 0.21) < SIGMAS * found.standard_error
    assert found.standard_error < 0.04 * 0.21
    # It leaves by the upper end with probability x.
    assert abs(found.shares[1] - 0.3) < SIGMAS * np.sqrt(0.21 / 1024)
    assert found.low < found.mean < found.high
    assert "bridge" in str(found)


def test_drift_carries_it_out():
    # E T from x of drift c on (0, 1): (p − x)/c, p the probability of the upper end
    # (1 − e^{−2cx})/(1 − e^{−2c}) (Karatzas & Shreve 1991, section 5.5.C).
    c, x = 2.0, 0.4
    upper = (1 - np.exp(-2 * c * x)) / (1 - np.exp(-2 * c))
    found = mean_exit_time(
        brownian(x, c), (0.0, 1.0), 1024, key=jax.random.key(11), **EXACT
    )
    assert abs(found.mean - (upper - x) / c) < SIGMAS * found.standard_error
    spread = np.sqrt(upper * (1 - upper) / 1024)
    assert abs(found.shares[1] - upper) < SIGMAS * spread


@pytest.mark.slow
def test_the_step_error_is_the_difference_to_steps_twice_as_long():
    given = {"correction": "none", "key": jax.random.key(12)}
    found = mean_exit_time(
        brownian(), (0.0, 1.0), 1024, **given, **{**EXACT, "check_step": True}
    )
    # (x + δ)² - x² with δ = .5826 √h, once for 2h and once for h; both runs have
    # standard errors of about 0.3/√1024.
    late = [(0.5 + 0.5826 * np.sqrt(h)) ** 2 for h in (0.02, 0.01)]
    spread = np.sqrt(2) * found.standard_error
    assert abs(found.step_error - (late[0] - late[1])) < SIGMAS * spread + 0.01
    assert found.step_error > 0


def test_the_time_of_a_crossing_has_its_law():
    # Brownian motion from 0.4 first reaches zero by t with probability 2Φ(−0.4/√t); the
    # grid is as coarse as the horizon.
    problem = brownian(0.4)
    levels = region_levels("test", (0.0, np.inf), problem)
    random = np.random.default_rng(5)
    n, horizon = 20_000, 1.0
    states = np.full((n, 2, 1), 0.4)
    states[:, 1, 0] += random.standard_normal(n)
    times, through = Crossings(problem, levels, "bridge").first(
        np.array([0.0, horizon]), states, random
    )
    left = np.isfinite(times)
    share = 2 * scipy.stats.norm.cdf(-0.4)
    assert abs(left.mean() - share) < SIGMAS * np.sqrt(share * (1 - share) / n)
    assert set(through[left]) == {0}
    law = scipy.stats.kstest(
        times[left], lambda t: 2 * scipy.stats.norm.cdf(-0.4 / np.sqrt(t)) / share
    )
    assert law.pvalue > 1e-4


@settings(deadline=None, max_examples=20)
@given(st.floats(0.05, 2.0), st.floats(-2.0, 2.0), st.integers(0, 2**31))
def test_times_of_crossings_lie_in_their_step(start, end, seed):
    problem = brownian()
    levels = region_levels("test", (0.0, np.inf), problem)
    states = np.array([[[start], [end]]] * 50)
    times, _ = Crossings(problem, levels, "bridge").first(
        np.array([3.0, 3.5]), states, np.random.default_rng(seed)
    )
    left = np.isfinite(times)
    assert np.all((times[left] >= 3.0) & (times[left] <= 3.5))
    if end <= 0:
        assert left.all()


@pytest.mark.parametrize("correction", ["bridge", "shift", "none"])
def test_only_the_uncorrected_mean_is_late_by_the_root_of_the_step(correction):
    # On a grid of h the interval is as if 0.5826√h wider at each end (Siegmund 1985):
    # E T = (x + δ)(1 − x + δ), here 0.0617 late; what remains of the shift is of order
    # h, by Wald's identity exactly zero but for the overshoot's dependence on the gap.
    dt, delta = EXACT["dt"], 0.5826 * 0.1
    found = mean_exit_time(
        brownian(0.5),
        (0.0, 1.0),
        1024,
        key=jax.random.key(2),
        correction=correction,
        **EXACT,
    )
    late = found.mean - 0.25
    expected = (0.5 + delta) ** 2 - 0.25 if correction == "none" else 0.0
    # The next term is below h itself.
    assert abs(late - expected) < SIGMAS * found.standard_error + dt
    assert np.isnan(found.step_error)


def walk_out(h, inward, start=0.5):
    """The mean exit time of a random walk of normal steps of variance h from (inward,
    1 - inward), by its integral equation T(x) = h + ∫ T(y) φ((y - x)/√h)/√h dy on
    Gauss and Legendre's points."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    low, width = inward, 1 - 2 * inward
    y, w = low + width * (nodes + 1) / 2, weights * width / 2
    root = np.sqrt(h)

    def kernel(x):
        return scipy.stats.norm.pdf((y - x) / root) / root * w

    inside = np.linalg.solve(np.eye(len(y)) - np.stack([kernel(x) for x in y]),
                             np.full(len(y), h))  # fmt: skip
    return h + kernel(start) @ inside


def test_the_shifted_boundary_is_the_one_that_makes_the_mean_right():
    # How far from zero a state is still taken to be out, in steps of h: by bisection.
    h = 0.01
    problem = brownian(0.5)
    crossings = Crossings(problem, region_levels("test", (0.0, 1.0), problem), "shift")
    low, high = 0.0, 0.5
    for _ in range(30):
        ends = np.linspace(low, high, 9)[:, None]
        states = np.stack([np.full_like(ends, 0.5), ends], axis=1)
        times, _ = crossings.first(np.array([0.0, h]), states, np.random.default_rng(0))
        out = np.isfinite(times)
        low, high = ends[out][-1, 0], ends[~out][0, 0]
        if high - low < 1e-12:
            break
    # -ζ(1/2)/√(2π) (Siegmund 1985); ζ(1/2) = -1.4603545088 (OEIS A059750).
    assert low == pytest.approx(1.4603545088095868 / np.sqrt(2 * np.pi) * 0.1, rel=1e-9)
    # That constant is the mean overshoot, whose variance is h/4: by Wald's identity the
    # walk leaves after x(1 - x) + h/4, but for what the one end knows of the other,
    # exp(-2·0.5/√h) or so.
    assert walk_out(h, low) == pytest.approx(0.25 + h / 4, abs=1e-4)
    # A constant one percent off would move the mean by as much of 0.0583.
    assert abs(walk_out(h, 0.99 * low) - 0.25 - h / 4) > 5e-4


@pytest.mark.slow
def test_a_disc_is_left_after_its_radius_squared_over_the_dimension():
    # E T = (R² − |x|²)/d. A boundary with curvature, of several components.
    problem = brownian(0.0, dimension=2)
    found = mean_exit_time(
        problem,
        lambda y: 1 - jnp.sqrt(jnp.sum(y**2) + 1e-12),
        1024,
        key=jax.random.key(3),
        **EXACT,
    )
    # A half-plane in place of the disc over one step: a bias of order h.
    assert abs(found.mean - 0.5) < SIGMAS * found.standard_error + 0.01


def kramers(noise):
    """From −1 to 0 in V = x⁴/4 − x²/2: T = ε⁻¹∫e^{V/ε}∫e^{−V/ε}."""

    def potential(x):
        return x**4 / 4 - x**2 / 2

    def inner(y):
        return scipy.integrate.quad(lambda z: np.exp(-potential(z) / noise), -3, y)[0]

    integral = scipy.integrate.quad(
        lambda y: np.exp(potential(y) / noise) * inner(y), -1, 0
    )
    return integral[0] / noise


@pytest.mark.slow
def test_the_double_well_is_left_after_the_time_of_the_integral():
    exact = kramers(0.1)
    # Kramers' formula for the whole way is 18 % low; half its mean leads to the top.
    found = mean_exit_time(
        double_well(),
        (-np.inf, 0.0),
        256,
        key=jax.random.key(4),
        **WELL,
    )
    assert abs(found.mean - exact) < SIGMAS * found.standard_error
    assert found.standard_error < 0.1 * exact


@pytest.mark.slow
def test_an_ornstein_uhlenbeck_process_leaves_after_the_time_of_the_integral():
    """dx = −x dt + dW from 0 out of (−1, 1): T = 2∫₀¹ e^{y²} ∫₀^y e^{−z²}."""
    problem = SDEProblem(
        lambda t, y, args: -y,
        unit_noise,
        jnp.zeros(1),
        0.0,
        1.0,
        noise="additive",
    )
    exact = scipy.integrate.dblquad(
        lambda z, y: 2 * np.exp(y**2 - z**2), 0, 1, 0, lambda y: y
    )[0]
    found = mean_exit_time(
        problem, (-1.0, 1.0), 1024, key=jax.random.key(13), dt=0.04, check_step=False
    )
    # The bridge takes the drift as constant over a step: a bias of order h.
    assert abs(found.mean - exact) < SIGMAS * found.standard_error + 0.04 * exact
    assert abs(found.shares[1] - 0.5) < SIGMAS * 0.5 / np.sqrt(1024)


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    given = {"key": jax.random.key(6), **WELL}
    whole = mean_exit_time(double_well(), (-np.inf, 0.0), 64, **given)
    segment, calls = _Run._segment, []

    def cut_off(self, *args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return segment(self, *args)

    monkeypatch.setattr(_Run, "_segment", cut_off)
    path = tmp_path / "exits.npz"
    with pytest.raises(KeyboardInterrupt):
        mean_exit_time(double_well(), (-np.inf, 0.0), 64, save=path, **given)
    monkeypatch.setattr(_Run, "_segment", segment)
    found = mean_exit_time(double_well(), (-np.inf, 0.0), 64, save=path, **given)
    np.testing.assert_array_equal(found.times, whole.times)
    again = mean_exit_time(double_well(), (-np.inf, 0.0), 64, save=path, **given)
    assert again.provenance == found.provenance
    with pytest.raises(ValueError, match="written with another"):
        mean_exit_time(double_well(), (-np.inf, 0.1), 64, save=path, **given)


def test_trajectories_still_inside_are_no_mean():
    with pytest.raises(AnalysisError, match=r"were still inside after 256 steps"):
        mean_exit_time(
            double_well(),
            (-np.inf, 0.0),
            16,
            key=jax.random.key(7),
            max_time=10.22,
            **WELL,
        )


@pytest.mark.slow
def test_trajectories_that_fail_inside_are_named():
    unstable = SDEProblem(
        lambda t, y, args: jnp.array([0.0, 1e3]) * y**3,
        lambda t, y, args: jnp.ones_like(y),
        jnp.array([0.0, 5.0]),
        0.0,
        1.0,
        noise="additive",
        interpretation="ito",
    )
    with pytest.raises(AnalysisError, match="failed before they left, the first at"):
        mean_exit_time(
            unstable, (np.array([-9.0, -np.inf]), np.array([9.0, np.inf])), 8,
            key=jax.random.key(8), dt=0.01,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"region": (0.6, 1.0)}, "4 of 4 trajectories start outside `region`"),
        ({"region": (1.0, 0.0)}, "must have low < high"),
        ({"region": (-np.inf, np.inf)}, "must be bounded somewhere"),
        ({"region": lambda y: y > 0}, "return a distance in place of a comparison"),
        ({"region": lambda y: y["a"]}, "`region` could not be evaluated at y0"),
        ({"region": 3.0}, "must be a pair"),
        ({"n": 1}, "`n` must be"),
        ({"dt": 0.0}, "`dt` must be a positive finite"),
        ({"correction": "half"}, "`correction` must be"),
        ({"level": 1.0}, "`level` must be"),
        ({"initial": np.zeros((3, 1))}, "leading axis of n = 4"),
    ],
)
def test_bad_input_is_named(change, match):
    given = {"region": (0.0, 1.0), "n": 4, "dt": 0.01, **change}
    region, n = given.pop("region"), given.pop("n")
    with pytest.raises(ValueError, match=match):
        mean_exit_time(brownian(), region, n, key=jax.random.key(0), **given)


@pytest.mark.slow
def test_single_precision_is_kept():
    problem = SDEProblem(
        constant_drift,
        unit_noise,
        jnp.full((1,), 0.5, jnp.float32),
        0.0,
        1.0,
        jnp.float32(0.0),
        noise="additive",
    )
    # In single precision 256 steps of 0.01 are no whole number of steps of 0.01.
    found = mean_exit_time(problem, (0.0, 1.0), 64, key=jax.random.key(14), **EXACT)
    assert abs(found.mean - 0.25) < SIGMAS * found.standard_error


@pytest.mark.slow
def test_the_result_shows_itself(tmp_path):
    found = mean_exit_time(
        brownian(),
        (0.0, 1.0),
        64,
        key=jax.random.key(9),
        **EXACT,
        initial=lambda key: jax.random.uniform(key, (1,), minval=0.2, maxval=0.8),
    )
    found.plot(tmp_path / "exits.png")
    dataset = found.to_xarray()
    assert dataset["times"].shape == (64,)
    np.testing.assert_allclose(dataset["shares"].sum(), 1.0)


@pytest.mark.parametrize("time", [np.nan, np.inf, "a", -1.0, 0.0])
def test_a_time_to_give_up_that_is_no_positive_number_is_refused(time):
    with pytest.raises(ValueError, match="`max_time` must be a positive finite"):
        mean_exit_time(
            brownian(), (0.0, 1.0), 4, key=jax.random.key(0), dt=0.1, max_time=time
        )


def test_a_key_that_is_none_is_refused():
    with pytest.raises(TypeError, match="mean_exit_time: `key` must be one random key"):
        mean_exit_time(brownian(), (0.0, 1.0), 4, key=0, dt=0.1)
