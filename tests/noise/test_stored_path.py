"""Paths from given increments: the same on every grid, and as Diffrax's own."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds.noise import BrownianPath, StoredPath


@pytest.fixture
def dyadic():
    """Increments and areas that are multiples of 2⁻²⁰: their sums are exact."""
    generator = np.random.default_rng(5)
    w = np.rint(generator.standard_normal((64, 3)) * 2**17) / 2**20
    h = np.rint(generator.standard_normal((64, 3)) * 2**15) / 2**20
    return w, h


def test_coarser_areas_are_those_of_the_path_itself(dyadic):
    # H is the mean of the path over the step less that of its chord; the mean over
    # many steps comes from the means over each, which are W + dW/2 + H.
    w, h = dyadic
    path = StoredPath(w, h, t0=0.0, t1=1.0)
    starts = np.cumsum(w, axis=0) - w
    means = starts + w / 2 + h
    for steps in (32, 8, 1):
        coarse = path.with_steps(steps)
        whole = w.reshape(steps, -1, 3).sum(1)
        mean = means.reshape(steps, -1, 3).mean(1) - starts[:: 64 // steps]
        np.testing.assert_array_equal(coarse.increments()[0], whole)
        np.testing.assert_array_equal(coarse.increments()[1], mean - whole / 2)
        assert coarse.steps == steps


@pytest.mark.slow
def test_a_drawn_path_stored_is_the_same_path_on_every_grid(getkey):
    drawn = BrownianPath(getkey(), 2, 0.5, 2.5, 2 / 64, "space-time")
    stored = StoredPath(*drawn.increments(), t0=0.5, t1=2.5)
    assert (stored.area, stored.dt, stored.dimension) == ("space-time", drawn.dt, 2)
    np.testing.assert_array_equal(stored.times, drawn.times)
    for one, other in zip(stored.values(), drawn.values(), strict=True):
        np.testing.assert_array_equal(one, other)
    for steps in (32, 4):
        # The tree halves intervals by a sum of terms of order one, of its own.
        pairs = zip(
            stored.with_steps(steps).increments(),
            drawn.with_steps(steps).increments(),
            strict=True,
        )
        for one, other in pairs:
            np.testing.assert_allclose(one, other, atol=1e-14)


@pytest.mark.parametrize("areas", [False, True])
def test_diffrax_follows_it_like_any_path(dyadic, areas):
    w, h = dyadic
    path = StoredPath(w, h if areas else None, t0=0.0, t1=2.0)
    solver = diffrax.ShARK() if areas else diffrax.Euler()

    @eqx.filter_jit
    def run(path):
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, y, args: jnp.zeros_like(y)),
            diffrax.ControlTerm(lambda t, y, args: jnp.eye(3), path),
        )
        saveat = diffrax.SaveAt(steps=True)
        return diffrax.diffeqsolve(
            terms, solver, 0.0, 2.0, 2 / 64, jnp.zeros(3), saveat=saveat, max_steps=64
        ).ys

    # With the identity as its diffusion the solution is the path.
    np.testing.assert_allclose(run(path), np.cumsum(w, axis=0), atol=1e-15)
    np.testing.assert_array_equal(path.evaluate(1.0), np.sum(w[:32], axis=0))


def test_many_paths_under_vmap(dyadic):
    w, _ = dyadic

    def end(dw):
        path = StoredPath(dw, t0=0.0, t1=1.0)
        return path.evaluate(jnp.asarray(0.25), jnp.asarray(0.25 + 1 / 64))

    many = jax.jit(jax.vmap(end))(jnp.stack([w, 2 * w]))
    np.testing.assert_array_equal(many, [w[16], 2 * w[16]])


def test_times_off_the_grid_are_refused(dyadic):
    path = StoredPath(dyadic[0], t0=0.0, t1=1.0)
    with pytest.raises(eqx.EquinoxRuntimeError, match="grid times alone"):
        path.evaluate(0.0, 0.01)
    with pytest.raises(eqx.EquinoxRuntimeError, match="to the next"):
        path.evaluate(0.0, 2 / 64)
    # Rounding of the solver's arithmetic is no other time.
    np.testing.assert_array_equal(path.evaluate(0.1 - 0.1, 1 / 64 + 1e-17), path.dW[0])


@pytest.mark.parametrize(
    ("increments", "areas", "span", "error", "words"),
    [
        (np.zeros(3), None, (0.0, 1.0), ValueError, r"\(steps, m\), got \(3,\)"),
        (np.zeros((2, 1), int), None, (0.0, 1.0), TypeError, "`increments`.*int"),
        (np.full((2, 1), np.nan), None, (0.0, 1.0), ValueError, "finite"),
        (np.zeros((2, 1)), np.zeros((3, 1)), (0.0, 1.0), ValueError, "`areas`"),
        (np.zeros((2, 1)), None, (1.0, 1.0), ValueError, "later than `t0`"),
    ],
)
def test_bad_arguments_are_named(increments, areas, span, error, words):
    with pytest.raises(error, match=words):
        StoredPath(increments, areas, t0=span[0], t1=span[1])


@pytest.mark.parametrize("steps", [0, 3, 128, 2.0, True])
def test_grids_that_the_path_is_not_known_on_are_refused(dyadic, steps):
    with pytest.raises(ValueError, match="power of two"):
        StoredPath(dyadic[0], t0=0.0, t1=1.0).with_steps(steps)
