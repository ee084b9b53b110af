"""The Fokker–Planck equation in the plane, against closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from hybrid_nds import SDEProblem, to_stratonovich
from hybrid_nds.problems import NoiseKind
from hybrid_nds.stability import fokker_planck_plane, mean_exit_time


def planar(drift, noise, kind: NoiseKind = "general", states=2):
    return SDEProblem(
        lambda t, u, args: drift(u),
        lambda t, u, args: noise(u),
        jnp.zeros(states),
        0.0,
        1.0,
        noise=kind,
        interpretation="ito",
    )


def linear(drift, noise):
    return planar(lambda u: jnp.asarray(drift) @ u, lambda u: jnp.asarray(noise))


def brownian():
    return planar(lambda u: 0 * u, jnp.ones_like, "additive")


def centres(found):
    return np.meshgrid(found.x, found.y, indexing="ij")


def distance(found, weight):
    """In the L¹ norm, from the density of this weight."""
    area = (found.x[1] - found.x[0]) * (found.y[1] - found.y[0])
    return np.abs(found.stationary * area - weight / weight.sum()).sum()


ROTATING = np.array([[-1.0, 1.5], [-1.0, -1.2]])


@pytest.mark.parametrize(
    ("noise", "positive"),
    [
        ([[0.6, 0.0], [0.25, 0.5]], True),
        # Nearly one noise for both states in the ratio 2:1, on square cells.
        ([[0.6, 0.0], [0.3, 0.02]], False),
    ],
)
def test_ornstein_uhlenbeck_is_second_order(noise, positive):
    # The covariance C of AC + CAᵀ + GGᵀ = 0; the eigenvalues of the generator are the
    # sums of those of A (Metafune, Pallara & Priola 2002).
    noise = np.array(noise)
    exact = scipy.linalg.solve_continuous_lyapunov(ROTATING, -noise @ noise.T)
    # Six standard deviations of the wider state, and more of the other.
    far = 6 * float(np.sqrt(exact.diagonal().max()))
    box = ((-far, far), (-far, far))
    coarse, fine = (
        fokker_planck_plane(linear(ROTATING, noise), box, cells=(n, n))
        for n in (48, 96)
    )
    assert fine.positive is positive
    assert coarse.covariance is not None
    assert fine.covariance is not None
    if positive:
        assert fine.stationary is not None
        assert fine.stationary.min() >= 0
    slowest = np.linalg.eigvals(ROTATING)
    slowest = slowest[np.argsort(slowest.imag)]
    for large, small, limit in (
        (coarse.covariance, fine.covariance, exact),
        (coarse.eigenvalues[:2], fine.eigenvalues[:2], slowest),
    ):
        before, after = (np.abs(given - limit).max() for given in (large, small))
        assert 1.7 < np.log2(before / after) < 2.3
        # The order 1.7 leaves the extrapolated value 1 - (2^1.7 - 1)/3 < 1/4 of it.
        assert np.abs((4 * small - large) / 3 - limit).max() < after / 4
    assert abs(fine.gap + slowest[0].real) < fine.gap_error


def test_noise_on_the_velocity_alone_has_the_density_of_gibbs():
    temperature = 0.4
    problem = planar(
        lambda u: jnp.stack([u[1], u[0] - u[0] ** 3 - u[1]]),
        lambda u: jnp.array([[0.0], [np.sqrt(2 * temperature)]]),
    )
    found = []
    errors = []
    for n in (60, 120):
        law = fokker_planck_plane(problem, ((-2.6, 2.6), (-3.5, 3.5)), cells=(n, n))
        x, v = centres(law)
        energy = v**2 / 2 + x**4 / 4 - x**2 / 2
        found.append(law)
        errors.append(distance(law, np.exp(-energy / temperature)))
    order = np.log2(errors[0] / errors[1])
    # Upwind: of first order. The change is e(2^p - 1), above e/1.5 from p = 0.74.
    assert 0.8 < order < 1.2
    assert errors[1] < 1.5 * found[1].stationary_error
    assert found[1].positive
    assert found[1].stationary.min() >= 0


def test_a_noisy_limit_cycle_has_its_radial_density():
    # dx = (x(1 - r²) + ω Jx) dt + σ dW: p ∝ exp(2Φ/σ²), Φ = r²/2 - r⁴/4, since the
    # rotation follows the levels of Φ. On f(r)e^{iθ} it is iω, beside an operator that
    # is symmetric in the weight p.
    sigma, turn = 0.5, 2.0
    problem = planar(
        lambda u: u * (1 - u @ u) + turn * jnp.stack([-u[1], u[0]]),
        lambda u: sigma * jnp.ones_like(u),
        "additive",
    )
    laws = [
        fokker_planck_plane(problem, ((-2.2, 2.2), (-2.2, 2.2)), cells=(n, n))
        for n in (40, 80)
    ]
    errors = []
    for law in laws:
        x, y = centres(law)
        q = x**2 + y**2
        errors.append(distance(law, np.exp(2 * (q / 2 - q**2 / 4) / sigma**2)))
    assert np.log2(errors[0] / errors[1]) > 1.7
    assert errors[1] < laws[1].stationary_error
    before, after = (abs(law.eigenvalues[1].imag - turn) for law in laws)
    assert 1.7 < np.log2(before / after) < 2.3


def test_brownian_motion_leaves_a_square():
    # -½Δτ = 1 on (0, 1)²: τ = Σ 32 sin(mπx) sin(nπy) / π⁴mn(m² + n²), m and n odd.
    odd = np.arange(1, 400, 2)
    m, n = np.meshgrid(odd, odd)
    series = 32 / (np.pi**4 * m * n * (m**2 + n**2))
    errors, gaps = [], []
    for cells in (16, 32):
        found = fokker_planck_plane(
            brownian(),
            ((0.0, 1.0), (0.0, 1.0)),
            cells=(cells, cells),
            boundary="absorbing",
        )
        assert found.exit_times is not None
        assert found.exit_time_errors is not None
        modes = np.sin(np.pi * np.outer(odd, found.x))
        off = np.abs(found.exit_times - modes.T @ series @ modes)
        assert off.max() < found.exit_time_errors.max()
        errors.append(off.max())
        gaps.append(np.pi**2 - found.gap)
        assert abs(gaps[-1]) < found.gap_error
        assert found.stationary is None
    assert 1.7 < np.log2(errors[0] / errors[1]) < 2.3
    assert 1.7 < np.log2(gaps[0] / gaps[1]) < 2.3


def test_brownian_motion_leaves_a_disc():
    # τ = (1 - r²)/2.
    found = fokker_planck_plane(
        brownian(),
        ((-1.1, 1.1), (-1.2, 1.2)),
        cells=(44, 48),
        region=lambda u: 1 - u @ u,
    )
    x, y = centres(found)
    inside = x**2 + y**2 < 1
    np.testing.assert_array_equal(found.region, inside)
    assert found.exit_times is not None
    assert np.all(np.isnan(found.exit_times[~inside]))
    # The border of cells lies within half a diagonal of the circle, which moves times
    # by the change of R²/2 with R, and by its square.
    half = 0.05 / np.sqrt(2)
    off = np.abs(found.exit_times - (1 - x**2 - y**2) / 2)[inside]
    assert off.max() < half + half**2 / 2


def test_a_side_may_absorb_alone():
    # Brownian motion along x between walls at 0 and 1, whatever y is: τ = x(1 - x).
    found = fokker_planck_plane(
        brownian(),
        ((0.0, 1.0), (0.0, 3.0)),
        cells=(16, 8),
        boundary=("absorbing", "reflecting"),
    )
    # The five-point scheme solves polynomials of second degree exactly but for the
    # walls, half a cell away, where it is off by h²/4.
    exact = found.x * (1 - found.x) + (1 / 16) ** 2 / 4
    assert found.exit_times is not None
    np.testing.assert_allclose(
        found.exit_times, np.tile(exact[:, None], 8), rtol=0, atol=1e-12
    )


def test_interpretations_agree_where_noise_multiplies():
    ito = planar(
        lambda u: jnp.stack([u[1] - u[0], -u[0] - u[1]]),
        lambda u: 0.5 + 0.2 * jnp.cos(u),
        "diagonal",
    )
    box = ((-2.0, 2.0), (-2.0, 2.0))
    first = fokker_planck_plane(ito, box, cells=(16, 16))
    other = fokker_planck_plane(to_stratonovich(ito), box, cells=(16, 16))
    assert first.stationary is not None
    assert other.stationary is not None
    # Round-off of the drift, times some hundred cells.
    np.testing.assert_allclose(first.stationary, other.stationary, rtol=1e-11)
    np.testing.assert_allclose(first.gap, other.gap, rtol=1e-11)


def in_units(unit, hour, origin, dtype=jnp.float64):
    """A turning double well with noise that multiplies and mixes, and inertia."""
    unit, origin = jnp.asarray(unit), jnp.asarray(origin)

    def back(u):
        return (u - origin) / unit

    def drift(t, u, args):
        x, v = back(u)
        return (unit * jnp.stack([v, x - x**3 - v]) / hour).astype(dtype)

    def diffusion(t, u, args):
        x = back(u)[0]
        columns = jnp.array([[0.3, 0.1], [0.0, 0.8]]) * (1 + 0.1 * jnp.cos(x))
        return (unit[:, None] * columns / jnp.sqrt(hour)).astype(dtype)

    y0 = jnp.asarray(origin, dtype)
    return SDEProblem(
        drift, diffusion, y0, 0.0, 1.0, noise="general", interpretation="ito"
    )


@pytest.mark.parametrize("boundary", ["reflecting", "absorbing"])
def test_units_and_origin_change_results_as_they_must(boundary):
    def solved(unit, hour, origin):
        unit, origin = np.asarray(unit), np.asarray(origin)
        low, high = origin - unit * [2.0, 3.0], origin + unit * [2.0, 3.0]
        return fokker_planck_plane(
            in_units(unit, hour, origin),
            ((low[0], high[0]), (low[1], high[1])),
            cells=(16, 24),
            boundary=boundary,
        )

    plain = solved((1.0, 1.0), 1.0, (0.0, 0.0))
    other = solved((1e-6, 1e5), 3600.0, (2e-6, -1e5))
    assert other.positive == plain.positive
    # Centres of cells are rounded to 4 eps of the domain, a change of logarithms of
    # rates by 1e-14, and the long run sums up to some hundred of them.
    np.testing.assert_allclose(other.gap * 3600, plain.gap, rtol=1e-10)
    for name, factor in (("stationary", 1e-6 * 1e5), ("exit_times", 1 / 3600)):
        before, after = (getattr(result, name) for result in (plain, other))
        assert (before is None) == (after is None)
        if before is not None:
            np.testing.assert_allclose(after * factor, before, rtol=1e-9)


def test_a_problem_in_single_precision():
    box = ((-2.0, 2.0), (-3.0, 3.0))
    single, double = (
        fokker_planck_plane(
            in_units((1.0, 1.0), 1.0, (0.0, 0.0), dtype), box, cells=(16, 24)
        )
        for dtype in (jnp.float32, jnp.float64)
    )
    assert single.stationary is not None
    assert double.stationary is not None
    # Fields are rounded to 6e-8; logarithms of densities are sums of up to 40 rates.
    np.testing.assert_allclose(single.gap, double.gap, rtol=1e-5)
    np.testing.assert_allclose(single.stationary, double.stationary, rtol=1e-4)


def test_a_state_of_two_leaves_and_a_box_for_region():
    flat = in_units((1.0, 1.0), 1.0, (0.0, 0.0))

    def drift(t, state, args):
        f = flat.drift(t, jnp.stack([state["a"], state["b"]]), args)
        return {"a": f[0], "b": f[1]}

    def diffusion(t, state, args):
        g = flat.diffusion(t, jnp.stack([state["a"], state["b"]]), args)
        return {"a": g[0], "b": g[1]}

    parts = SDEProblem(
        drift,
        diffusion,
        {"a": jnp.zeros(()), "b": jnp.zeros(())},
        0.0,
        1.0,
        noise="general",
        interpretation="ito",
    )
    box = ((-2.0, 2.0), (-3.0, 3.0))
    half = ((-jnp.inf, -2.0), (0.1, jnp.inf))
    whole = fokker_planck_plane(flat, box, cells=(16, 24), region=half)
    split = fokker_planck_plane(
        parts,
        box,
        cells=(16, 24),
        region=lambda s: jnp.stack([0.1 - s["a"], s["b"] + 2.0]),
    )
    np.testing.assert_array_equal(whole.region, split.region)
    np.testing.assert_allclose(split.gap, whole.gap, rtol=1e-12)


@pytest.mark.slow
def test_particles_leave_a_well_at_the_mean_exit_time():
    # Noise on both states, so that the particles' exits are corrected by bridges.
    problem = in_units((1.0, 1.0), 1.0, (-1.0, 0.0))
    region = lambda u: -u[0] - 1.0
    times = fokker_planck_plane(
        problem,
        ((-3.4, -1.0), (-3.2, 3.2)),
        cells=(96, 128),
        boundary=("absorbing", "reflecting"),
    )
    # The far side is two standard deviations of the deepest excursions away; what it
    # absorbs is less than the error below.
    start = jnp.array([-2.0, 0.0])
    at = np.argmin(np.abs(times.x + 2.0)), np.argmin(np.abs(times.y))
    assert times.exit_times is not None
    assert times.exit_time_errors is not None
    moved = eqx.tree_at(lambda p: p.y0, problem, start)
    found = mean_exit_time(moved, region, 4000, key=jax.random.key(0), dt=2e-3)
    gap = abs(found.mean - times.exit_times[at])
    assert gap < 4 * found.standard_error + times.exit_time_errors[at]


def test_too_many_cells_for_the_memory():
    with pytest.raises(MemoryError, match=r"would take about .* GiB"):
        fokker_planck_plane(
            brownian(), ((-1.0, 1.0), (-1.0, 1.0)), cells=(10**6, 10**6)
        )


def test_the_result_shows_itself(tmp_path):
    box = ((-2.0, 2.0), (-2.0, 2.0))
    law = fokker_planck_plane(linear(-np.eye(2), np.eye(2)), box, cells=(16, 12))
    assert "16 × 12 cells, positive" in str(law)
    assert law.to_xarray()["stationary"].shape == (16, 12)
    assert len(law.plot(tmp_path / "density.png").axes) == 1
    left = fokker_planck_plane(brownian(), box, cells=(16, 12), region=lambda u: -u[0])
    assert "longest mean exit time" in str(left)
    assert len(left.plot(tmp_path / "times.png").axes) == 1
    assert left.to_xarray()["exit_times"].shape == (16, 12)
    assert "longest mean exit time" in left._repr_html_()
    assert left.mean is None
    assert left.covariance is None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"domain": (-1.0, 1.0)}, "`domain` must be two pairs"),
        ({"domain": ((1.0, -1.0), (0.0, 1.0))}, "`domain` must be two pairs"),
        ({"cells": (7, 8)}, "`cells` must be a pair of even"),
        ({"cells": 100}, "`cells` must be a pair of even"),
        ({"boundary": "open"}, "`boundary` must be"),
        ({"region": ((5.0, -1.0), (6.0, 1.0))}, "`region` must hold"),
        ({"region": lambda u: u[0] > 0}, "`region` must return"),
    ],
)
def test_bad_input_is_named(change, match):
    given = {"domain": ((-1.0, 1.0), (-1.0, 1.0)), "cells": (8, 8), **change}
    with pytest.raises(ValueError, match=match):
        fokker_planck_plane(brownian(), **given)


@pytest.mark.parametrize(
    ("problem", "match"),
    [
        (planar(lambda u: -u, jnp.ones_like, "additive", 1), "take fokker_planck"),
        (planar(lambda u: -u, jnp.ones_like, "additive", 3), "take invariant_law"),
        (planar(lambda u: -1 / u, jnp.ones_like, "additive"), "is not finite at"),
        (planar(lambda u: -u, jnp.zeros_like, "diagonal"), "must not vanish"),
        (
            planar(
                lambda u: jnp.stack([u[0] - 2 * u[0] ** 3, -u[1]]),
                lambda u: jnp.array([[0.0], [1.0]]),
            ),
            "2 parts of `domain` that nothing leaves",
        ),
    ],
)
def test_problems_that_cannot_be_are_named(problem, match):
    # A corner of cells is at zero.
    with pytest.raises(ValueError, match=match):
        fokker_planck_plane(problem, ((-1.0, 1.0), (-1.0, 1.0)), cells=(8, 8))


def test_cells_narrower_than_single_precision_are_refused():
    single = SDEProblem(
        lambda t, u, args: -u,
        lambda t, u, args: jnp.ones_like(u),
        jnp.zeros(2, jnp.float32),
        0.0,
        1.0,
        noise="additive",
    )
    far = ((1e6, 1e6 + 0.1), (-1.0, 1.0))
    with pytest.raises(ValueError, match="wide in state 0, must be wider"):
        fokker_planck_plane(single, far, cells=(8, 8))


@pytest.mark.parametrize("moving", [jnp.sin, jnp.cos])
def test_fields_that_move_are_refused(moving):
    problem = SDEProblem(
        lambda t, u, args: -u + moving(t),
        lambda t, u, args: jnp.ones_like(u),
        jnp.zeros(2),
        0.0,
        1.0,
        noise="additive",
    )
    with pytest.raises(ValueError, match="must not depend on time"):
        fokker_planck_plane(problem, ((-1.0, 1.0), (-1.0, 1.0)), cells=(8, 8))
    with pytest.raises(TypeError, match="must be an SDEProblem"):
        fokker_planck_plane(jax.numpy.ones(2), ((-1.0, 1.0), (-1.0, 1.0)))  # pyright: ignore[reportArgumentType]
