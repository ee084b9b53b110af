"""Particles, flows, classic systems: their equations in NumPy, their closed forms."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.special
from hypothesis import given, settings, strategies as st

from hybrid_nds import models, solve

seeds = st.integers(0, 2**31 - 1)
TIGHT = {"rtol": 1e-10, "atol": 1e-12, "solver": "Dopri8"}


def sphere(key, tokens, dimension):
    points = jr.normal(key, (tokens, dimension))
    return points / jnp.linalg.norm(points, axis=1, keepdims=True)


def classic(name, y, t):
    """The equations once more, from the books."""
    y = np.asarray(y)
    if name == "Lorenz":
        return [
            10 * (y[1] - y[0]),
            y[0] * (28 - y[2]) - y[1],
            y[0] * y[1] - 8 / 3 * y[2],
        ]
    if name == "VanDerPol":
        return [y[1], 5.0 * (1 - y[0] ** 2) * y[1] - y[0]]
    if name == "Robertson":
        a, b, c = 0.04 * y[0], 3e7 * y[1] ** 2, 1e4 * y[1] * y[2]
        return [-a + c, a - c - b, b]
    if name == "FitzHughNagumo":
        return [y[0] - y[0] ** 3 / 3 - y[1] + 0.5, 0.08 * (y[0] + 0.7 - 0.8 * y[1])]
    return [y[1], 0.5 * np.cos(1.2 * t) - 0.3 * y[1] + y[0] - y[0] ** 3]


@pytest.mark.parametrize(
    "name", ["Lorenz", "VanDerPol", "Robertson", "FitzHughNagumo", "Duffing"]
)
def test_classic_equations(name):
    model = models.VanDerPol(5.0) if name == "VanDerPol" else getattr(models, name)()
    size = 3 if name in ("Lorenz", "Robertson") else 2
    y = jr.normal(jr.key(3), (size,))
    np.testing.assert_allclose(model(0.4, y), classic(name, y, 0.4), rtol=1e-13)


def test_hopf_in_complex_numbers():
    model = models.StochasticHopf(0.7, 1.3, 0.9, 4.0, 0.5)
    z = 0.4 - 1.1j
    moved = (0.7 + 1.3j) * z - (0.9 + 4.0j) * abs(z) ** 2 * z
    y = jnp.array([z.real, z.imag])
    np.testing.assert_allclose(
        model.drift(0.0, y), [moved.real, moved.imag], rtol=1e-13
    )
    np.testing.assert_array_equal(model.diffusion(0.0, y), [0.5, 0.5])


def test_the_double_well_slides_down_its_potential():
    model, y = models.DoubleWell(0.3), jnp.array([0.4, -1.7])
    slope = jax.grad(model.potential)(y)
    np.testing.assert_allclose(model.drift(0.0, y), -slope, rtol=1e-14)
    np.testing.assert_array_equal(model.diffusion(0.0, y), [0.3, 0.3])


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_oscillators_pull_each_other(seed):
    y, frequencies = jr.normal(jr.key(seed), (2, 5))
    angles = np.asarray(y)
    pulls = np.sin(angles[None, :] - angles[:, None]).mean(axis=1)
    expected = np.asarray(frequencies) + 1.7 * pulls
    found = models.Kuramoto(frequencies, 1.7)(0.0, y)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    noisy = models.NoisyKuramoto(frequencies, 1.7, 0.08)
    np.testing.assert_allclose(noisy.drift(0.0, y), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(noisy.diffusion(0.0, y), np.full(5, 0.4), rtol=1e-14)


def test_order_is_one_in_step_and_zero_evenly_spread():
    np.testing.assert_allclose(models.order_parameter(jnp.full((2, 7), 0.3)), 1.0)
    spread = 2 * np.pi * jnp.arange(7) / 7
    assert models.order_parameter(spread) < 1e-15


def attention_by_hand(model, x):
    """The velocities along the sphere, and what they are the projections of."""
    x, beta = np.asarray(x), float(model.inverse_temperature)
    Q, K, V = (np.asarray(m) for m in (model.query, model.key, model.value))
    moved, pulls = np.zeros_like(x), np.zeros_like(x)
    for i in range(len(x)):
        seen = range(i + 1) if model.causal else range(len(x))
        weights = {j: np.exp(beta * (Q @ x[i]) @ (K @ x[j])) for j in seen}
        mean = model.normalization == "mean"
        total = len(weights) if mean else sum(weights.values())
        pull = sum(w * (V @ x[j]) for j, w in weights.items()) / total
        moved[i], pulls[i] = pull - (x[i] @ pull) * x[i], pull
    return moved, pulls


@given(seeds, st.booleans(), st.sampled_from(["softmax", "mean"]))
@settings(max_examples=12, deadline=None)
def test_the_equation_of_attention(seed, causal, normalization):
    keys = jr.split(jr.key(seed), 4)
    query, key, value = jr.normal(keys[0], (3, 3, 3))
    model = models.Attention(
        3,
        1.3,
        normalization=normalization,
        causal=causal,
        query=query,
        key=key,
        value=value,
    )
    x = sphere(keys[1], 4, 3)
    expected, pulls = attention_by_hand(model, x)
    np.testing.assert_allclose(model(0.0, x), expected, rtol=1e-10, atol=1e-12)
    # Along the sphere: rounded are the product with x, its multiple, the difference and
    # the product of this test, and x is of length one up to as much.
    along = np.sum(np.asarray(x) * model(0.0, x), axis=1)
    assert np.all(np.abs(along) <= 16 * 2.0**-53 * np.linalg.norm(pulls, axis=1))


@pytest.mark.parametrize("normalization", ["softmax", "mean"])
def test_tokens_from_an_orthonormal_start(normalization):
    # Geshkovski et al. 2025, theorem 6.8: all products stay equal, and follow this.
    n, beta = 4, 2.0

    def product(t, gamma):
        raised = np.exp(beta * gamma)
        shared = (1 - gamma) * ((n - 1) * gamma + 1)
        if normalization == "softmax":
            return 2 * raised * shared / (np.exp(beta) + (n - 1) * raised)
        return 2 / n * raised * shared

    times = np.array([0.5, 1.0, 2.0, 4.0])
    exact = scipy.integrate.solve_ivp(
        product, (0, 4), [0.0], t_eval=times, rtol=1e-11, atol=1e-13, method="DOP853"
    ).y[0]
    model = models.Attention(n, beta, normalization=normalization)
    problem = model.problem(jnp.eye(n), 0.0, 4.0)
    ys = np.asarray(solve(problem, saveat=times, **TIGHT).ys)
    products = ys @ np.swapaxes(ys, 1, 2)
    away = ~np.eye(n, dtype=bool)
    # Both solves are a hundred times tighter.
    np.testing.assert_allclose(
        products[:, away], np.tile(exact[:, None], 12), atol=1e-8
    )
    np.testing.assert_allclose(products[:, ~away], 1.0, atol=1e-8)


@pytest.mark.parametrize("normalization", ["softmax", "mean"])
def test_the_energy_of_attention_grows(normalization):
    model = models.Attention(3, 2.5, normalization=normalization)
    for seed in range(5):
        x = sphere(jr.key(seed), 6, 3)
        slope = jax.grad(model.energy)(x)
        assert float(jnp.sum(slope * model(0.0, x))) > 0
        if normalization == "mean":
            # The gradient flow up to the number of tokens.
            along = models._attention.tangent(x, 6 * slope)
            np.testing.assert_allclose(model(0.0, x), along, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("beta", "stable"), [(-0.8, True), (-0.5, False)])
def test_three_tokens_evenly_spread(beta, stable):
    # Stable under unnormalized attention iff beta < -2/3.
    angles = 2 * np.pi * jnp.arange(3) / 3
    model = models.CircleAttention(1.0, beta, 0.0)
    A = jax.jacfwd(lambda y: model.drift(0.0, y))(angles)
    rates = np.sort(np.linalg.eigvals(np.asarray(A)).real)
    # One is zero: all may turn together.
    assert np.min(np.abs(rates)) < 1e-14
    others = np.delete(rates, np.argmin(np.abs(rates)))
    assert np.all(others < 0) == stable


def test_the_first_mode_of_attention_on_the_circle_grows_at_its_rate():
    beta, coupling, n = 1.7, 2.3, 64
    angles = 2 * np.pi * jnp.arange(n) / n
    model = models.CircleAttention(coupling, beta, 0.1)
    _, moved = jax.jvp(lambda y: model.drift(0.0, y), (angles,), (jnp.cos(angles),))
    # Threshold K = tau beta / I_1(beta): the mode grows at K I_1(beta)/beta - tau.
    rate = coupling * scipy.special.iv(1, beta) / beta
    np.testing.assert_allclose(moved, rate * np.cos(angles), atol=1e-13)


def test_without_a_temperature_of_attention_it_is_kuramotos():
    y = jr.normal(jr.key(0), (5,))
    kuramoto = models.NoisyKuramoto(jnp.zeros(5), 1.4, 0.2)
    attention = models.CircleAttention(1.4, 0.0, 0.2)
    for part in ("drift", "diffusion"):
        one, other = (getattr(m, part)(0.0, y) for m in (kuramoto, attention))
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_angles_and_points_move_alike():
    angles = jr.normal(jr.key(1), (4,))
    points = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    along = jnp.stack([-jnp.sin(angles), jnp.cos(angles)], axis=-1)
    moved = models.Attention(2, 1.2, normalization="mean")(0.0, points)
    turned = models.CircleAttention(1.0, 1.2, 0.0).drift(0.0, angles)
    np.testing.assert_allclose(moved, turned[:, None] * along, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_noise_stays_on_the_sphere_and_is_isotropic_there():
    model = models.NoisyAttention(models.Attention(3, 1.0), 0.18)
    x = sphere(jr.key(2), 2, 3)
    g = np.asarray(model.diffusion(0.0, x)).reshape(6, 6)
    covariance = g @ g.T
    projections = [np.eye(3) - np.outer(p, p) for p in np.asarray(x)]
    expected = 2 * 0.18 * scipy.linalg.block_diag(*projections)
    np.testing.assert_allclose(covariance, expected, atol=1e-14)
    problem = model.problem(x, 0.0, 0.5)
    end = solve(problem, solver="Heun", dt=1 / 512, key=jr.key(3)).ys[-1]
    # Stratonovich: the norm is an invariant, kept to the strong order of Heun's scheme;
    # in Ito's sense it would grow by a third.
    np.testing.assert_allclose(jnp.linalg.norm(end, axis=1), 1.0, atol=0.02)


def test_the_force_on_particles():
    inputs, targets = jr.normal(jr.key(0), (4, 2)), jnp.array([0.1, -0.4, 0.3, 0.9])
    model = models.MeanFieldLangevin(inputs, targets, decay=0.3, temperature=0.08)
    X = jr.normal(jr.key(1), (3, 4))
    x, z = np.asarray(X), np.asarray(inputs)
    inner = x[:, 1:3] @ z.T + x[:, 3:]
    gaps = (x[:, :1] * np.tanh(inner)).mean(axis=0) - np.asarray(targets)
    bend = x[:, :1] / np.cosh(inner) ** 2
    slopes = np.stack([np.tanh(inner), bend * z[:, 0], bend * z[:, 1], bend], axis=-1)
    expected = -np.mean(gaps[:, None] * slopes, axis=1) - 0.3 * x
    np.testing.assert_allclose(model.drift(0.0, X), expected, rtol=1e-12)
    np.testing.assert_allclose(model.diffusion(0.0, X), np.full((3, 4), 0.4))


def test_the_excess_risk_of_linear_particles():
    # F = (a m - y)^2/2 + alpha E|x|^2/2 in one dimension: the mean of N particles is an
    # Ornstein-Uhlenbeck process of rate alpha + a^2 and variance
    # tau/(N(alpha + a^2)): excess risk a^2 tau/(2N(alpha + a^2)).
    a, y, alpha, tau, n = 1.3, 0.7, 0.5, 0.2, 5
    model = models.MeanFieldLangevin(
        jnp.array([[a]]),
        jnp.array([y]),
        unit=models.linear_unit,
        decay=alpha,
        temperature=tau,
    )
    A = jax.jacfwd(lambda X: model.drift(0.0, X).ravel())(jnp.zeros((n, 1)))
    g = model.diffusion(0.0, jnp.zeros((n, 1))).ravel()
    law = scipy.linalg.solve_continuous_lyapunov(
        np.asarray(A).reshape(n, n), -np.diag(np.asarray(g) ** 2)
    )
    excess = 0.5 * a**2 * law.mean()
    np.testing.assert_allclose(
        excess, a**2 * tau / (2 * n * (alpha + a**2)), rtol=1e-12
    )


def test_the_equation_of_a_wide_residual_network():
    network = models.MeanFieldResNet.independent(3, 4, 2, key=jr.key(0))
    x = np.array([0.5, -0.2])
    for outer, inner in zip(
        np.asarray(network.outer), np.asarray(network.inner), strict=True
    ):
        x = x + sum(u * np.tanh(v @ x) for u, v in zip(outer, inner, strict=True)) / (
            3 * 4
        )
    found = network(jnp.array([0.5, -0.2]))
    np.testing.assert_allclose(found, x, rtol=1e-13)


@pytest.mark.slow
def test_wide_residual_networks_tend_to_their_limit():
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()

    def field(t, x):
        return np.sum(weights * nodes * np.tanh(nodes * x[0]))[None]

    limit = scipy.integrate.solve_ivp(field, (0, 1), [1.0], rtol=1e-10).y[0, -1]
    errors = []
    for depth in (16, 256):
        ends = [
            models.MeanFieldResNet.independent(depth, 1, 1, key=key)(jnp.ones(1))[0]
            for key in jr.split(jr.key(1), 64)
        ]
        errors.append(np.sqrt(np.mean((np.asarray(ends) - limit) ** 2)))
    # Width one: the root mean square falls as the root of the depth, here by 4; that of
    # 64 draws is known to 9 % each (one standard error), 13 % in the ratio: 4 of them.
    np.testing.assert_allclose(errors[0] / errors[1], 4.0, rtol=0.52)


def least_squares(seed=0):
    A = jr.normal(jr.key(seed), (2, 4))
    b = jnp.array([0.5, -0.3])
    return A, b, lambda x: 0.5 * jnp.sum((A @ x - b) ** 2)


@pytest.mark.parametrize(
    "mirror",
    [models.Euclidean(), models.NegativeEntropy(), models.HyperbolicEntropy(0.3)],
)
def test_mirror_maps_are_gradients_and_inverses(mirror):
    x, z = jnp.array([0.2, 1.5, 3.0]), jnp.array([0.7, 0.4, 2.0])
    np.testing.assert_allclose(
        mirror.to_dual(x), jax.grad(mirror.potential)(x), rtol=1e-12
    )
    np.testing.assert_allclose(mirror.to_primal(mirror.to_dual(x)), x, rtol=1e-13)
    assert mirror.divergence(x, z) > 0
    np.testing.assert_allclose(mirror.divergence(x, x), 0.0, atol=1e-15)


def test_the_implicit_bias_of_a_mirror_flow():
    A, b, loss = least_squares()
    flow = models.MirrorFlow(loss, models.HyperbolicEntropy(0.2))
    start = flow.dual(jnp.array([0.1, -0.2, 0.05, 0.3]))
    end = solve(flow.problem(start, 0.0, 300.0), **TIGHT).ys[-1]
    np.testing.assert_allclose(A @ flow.primal(end), b, atol=1e-8)
    _, _, rows = np.linalg.svd(np.asarray(A))
    # The change of the dual stays in the row space: the rest of it is round-off.
    np.testing.assert_allclose(rows[2:] @ np.asarray(end - start), 0.0, atol=1e-8)


def test_squares_of_weights_are_a_hyperbolic_mirror():
    _, _, loss = least_squares()
    a = 0.4
    both = models.GradientFlow(lambda w: loss(w[0] ** 2 - w[1] ** 2))
    w = solve(both.problem(jnp.full((2, 4), a), 0.0, 1.5), **TIGHT).ys[-1]
    flow = models.MirrorFlow(lambda x: 4 * loss(x), models.HyperbolicEntropy(2 * a**2))
    y = solve(flow.problem(jnp.zeros(4), 0.0, 1.5), **TIGHT).ys[-1]
    np.testing.assert_allclose(w[0] ** 2 - w[1] ** 2, flow.primal(y), atol=1e-8)


def test_newtons_flow_forgets_at_rate_one():
    loss = lambda x: jnp.sum(jnp.cosh(x - jnp.arange(3.0)))
    flow = models.NaturalGradientFlow(loss)
    x = jnp.array([0.5, 0.5, 0.5])
    end = solve(flow.problem(x, 0.0, 2.0), **TIGHT).ys[-1]
    before, after = (jax.grad(loss)(u) for u in (x, end))
    np.testing.assert_allclose(after, np.exp(-2.0) * before, rtol=1e-8)


def test_a_gaussian_target_is_reached_as_its_closed_form_says():
    A = np.array([[2.0, 0.5], [0.5, 1.0]])
    centre = np.array([1.0, -1.0])
    potential = lambda x: 0.5 * (x - centre) @ A @ (x - centre)
    flow = models.BuresWassersteinFlow(potential, 2, nodes=2)
    mean, covariance = jnp.array([0.0, 2.0]), jnp.array([[0.5, 0.1], [0.1, 2.0]])
    problem = flow.problem((mean, covariance), 0.0, 0.8)
    m, S = (y[-1] for y in solve(problem, rtol=1e-10, atol=1e-12).ys)
    shrunk = scipy.linalg.expm(-0.8 * A)
    away = np.asarray(covariance) - np.linalg.inv(A)
    np.testing.assert_allclose(S, np.linalg.inv(A) + shrunk @ away @ shrunk, atol=1e-8)
    expected = centre + shrunk @ (np.asarray(mean) - centre)
    np.testing.assert_allclose(m, expected, atol=1e-8)


def test_expectations_of_quartics_are_exact():
    # E x^3 = m^3 + 3 m s, E 3x^2 = 3(m^2 + s).
    flow = models.BuresWassersteinFlow(lambda x: jnp.sum(x**4) / 4, 1, nodes=2)
    m, s = 0.7, 0.3
    slope, spread = flow(0.0, (jnp.array([m]), jnp.array([[s]])))
    np.testing.assert_allclose(slope, [-(m**3 + 3 * m * s)], rtol=1e-13)
    np.testing.assert_allclose(spread, [[2 - 6 * (m**2 + s) * s]], rtol=1e-13)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.Kuramoto(jnp.ones((2, 2))), r"`frequencies` must have shape"),
        (lambda: models.Attention(3, query=jnp.eye(2)), r"`query` must have shape"),
        (lambda: models.Attention(3, normalization="sum"), "must be one of softmax"),
        (lambda: models.NoisyAttention(3), "must be an Attention, got int"),
        (
            lambda: models.MeanFieldLangevin(jnp.ones((3, 2)), jnp.ones(2)),
            r"`targets` must have shape \(3\)",
        ),
        (
            lambda: models.MeanFieldODE(jnp.ones((3, 2)), jnp.ones((2, 3))),
            "`inner` must have shape",
        ),
        (lambda: models.GradientFlow(3), "`loss` must be a callable"),
        (lambda: models.Kuramoto(jnp.array([jnp.nan])), "`frequencies` must be finite"),
        (lambda: models.CircleAttention(temperature=-1.0), "must not be negative"),
        (lambda: models.MirrorFlow(jnp.sum, None), "must be a MirrorMap"),
        (lambda: models.BuresWassersteinFlow(jnp.sum, 20), "100000 points at most"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.slow
def test_states_of_single_precision_stay_so():
    single = jnp.float32
    kinds = {
        "lorenz": (models.Lorenz(dtype=single), 3),
        "van der pol": (models.VanDerPol(dtype=single), 2),
        "robertson": (models.Robertson(dtype=single), 3),
        "fitzhugh": (models.FitzHughNagumo(dtype=single), 2),
        "duffing": (models.Duffing(dtype=single), 2),
        "double well": (models.DoubleWell(dtype=single), 2),
        "hopf": (models.StochasticHopf(dtype=single), 2),
        "kuramoto": (models.Kuramoto(jnp.ones(2, single)), 2),
        "noisy kuramoto": (models.NoisyKuramoto(jnp.ones(2, single)), 2),
        "circle": (models.CircleAttention(dtype=single), 2),
        "mirror": (
            models.MirrorFlow(jnp.sum, models.HyperbolicEntropy(0.3, dtype=single)),
            2,
        ),
    }
    for name, (model, size) in kinds.items():
        problem = model.problem(0.1 * jnp.ones(size, single), 0.0, 0.25)
        options = {"key": jr.key(0)} if hasattr(model, "drift") else {}
        end = solve(problem, solver="Euler", dt=1 / 8, **options).ys
        assert end.dtype == single, name
