"""Deterministic models: their equations in NumPy, and what their structure promises."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from hybrid_nds import models, solve
from hybrid_nds.stability import matrix_measure

seeds = st.integers(0, 2**31 - 1)


def dense(layers, x):
    """A multilayer perceptron with tanh in NumPy."""
    for index, layer in enumerate(layers):
        x = np.asarray(layer.weight) @ x + np.asarray(layer.bias)
        x = np.tanh(x) if index < len(layers) - 1 else x
    return x


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_a_neural_ode_is_its_network(seed):
    model = models.NeuralODE(2, 5, time=True, key=jr.key(seed))
    y = np.array([0.3, -1.2])
    expected = dense(model.network.layers, np.append(y, 0.7))
    # Sums of some numbers of size one, which may cancel.
    np.testing.assert_allclose(
        model(0.7, jnp.asarray(y)), expected, rtol=1e-13, atol=4e-15
    )


def test_weights_are_linear_between_knots_and_constant_after_the_last():
    model = models.DepthVaryingODE(2, 5, 1, knots=3, duration=2.0, key=jr.key(0))
    y = jnp.array([0.3, -1.2])

    def at(share, first):
        mixed = jax.tree.map(
            lambda w: (1 - share) * w[first] + share * w[min(first + 1, 2)],
            eqx.filter(model.networks, eqx.is_array),
        )
        return dense(mixed.layers, np.asarray(y))

    for t, share, first in [(0.25, 0.25, 0), (1.0, 0.0, 1), (1.6, 0.6, 1), (9.0, 0, 2)]:
        np.testing.assert_allclose(model(t, y), at(share, first), rtol=1e-12)


def test_an_augmented_state_starts_with_zeros():
    model = models.AugmentedNeuralODE(2, 3, key=jr.key(0))
    x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    lifted = model.lift(x)
    np.testing.assert_array_equal(lifted[:, 2:], np.zeros((2, 3)))
    np.testing.assert_array_equal(model.project(lifted), x)
    with pytest.raises(ValueError, match="last axis of 2"):
        model.lift(jnp.ones(3))


@pytest.mark.parametrize("blocks", [1, 7])
def test_a_residual_network_is_eulers_scheme_of_its_equation(blocks):
    network = models.ResNet(3, blocks, 6, duration=2.0, key=jr.key(1))
    x = jr.normal(jr.key(2), (3,))
    by_hand = np.asarray(x)
    for index in range(blocks):
        layers = jax.tree.map(
            lambda w, index=index: w[index], eqx.filter(network.networks, eqx.is_array)
        ).layers
        by_hand = by_hand + 2.0 / blocks * dense(layers, by_hand)
    np.testing.assert_allclose(network(x), by_hand, rtol=1e-12)
    problem = network.ode().problem(x, 0.0, 2.0)
    solved = solve(problem, solver="Euler", dt=2.0 / blocks).ys[-1]
    np.testing.assert_allclose(solved, by_hand, rtol=1e-12)


@pytest.mark.slow
def test_both_ways_give_the_network_back():
    network = models.ResNet(3, 5, 6, duration=2.0, key=jr.key(1))
    back = network.ode().resnet(5, 2.0)
    assert back.blocks == 5
    x = jr.normal(jr.key(2), (3,))
    # The weights come back through hats that are one at a knot but for rounding.
    np.testing.assert_allclose(back(x), network(x), rtol=1e-13)
    fine = network.ode().resnet(10, 2.0)
    assert fine.blocks == 10
    with pytest.raises(TypeError, match="must be a DepthVaryingODE"):
        models.ResNet.of(models.NeuralODE(3, key=jr.key(0)), 4)


@pytest.mark.slow
def test_a_deep_network_tends_to_its_equation():
    ode = models.DepthVaryingODE(3, 6, 1, knots=4, key=jr.key(0))
    x = jr.normal(jr.key(2), (3,))
    exact = solve(ode.problem(x, 0.0, 1.0), rtol=1e-10, atol=1e-12).ys[-1]
    errors = [np.linalg.norm(ode.resnet(n)(x) - exact) for n in (120, 240)]
    # First order: the ratio is 2 but for a share of the step.
    np.testing.assert_allclose(errors[0] / errors[1], 2.0, rtol=0.02)


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_the_energy_of_a_hamiltonian_field_stays(seed):
    model = models.HamiltonianODE(2, 6, key=jr.key(seed))
    y = jr.normal(jr.key(seed + 1), (4,))
    slope = jax.grad(model.energy)(y)
    field = model(0.0, y)
    # Of the symplectic form, by finite differences of the energy itself.
    shifts = 1e-6 * np.eye(4)
    by_differences = np.array(
        [(model.energy(y + s) - model.energy(y - s)) / 2e-6 for s in shifts]
    )
    expected = np.concatenate([by_differences[2:], -by_differences[:2]])
    np.testing.assert_allclose(field, expected, atol=1e-8)
    assert abs(float(slope @ field)) < 1e-12


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_a_port_hamiltonian_field_dissipates(seed):
    model = models.PortHamiltonianODE(3, 6, key=jr.key(seed))
    y = jr.normal(jr.key(seed + 1), (3,))
    slope = np.asarray(jax.grad(model.energy)(y))
    lost = np.asarray(model.dissipation).T @ slope
    np.testing.assert_allclose(slope @ model(0.0, y), -lost @ lost, rtol=1e-9)


def test_a_port_lets_the_input_in():
    closed = models.PortHamiltonianODE(3, 6, key=jr.key(0))
    model = models.PortHamiltonianODE(3, 6, inputs=2, key=jr.key(0))
    path = diffrax.LinearInterpolation(jnp.array([0.0, 1.0]), jnp.eye(2))
    y = jnp.array([0.1, 0.2, 0.3])
    through = model(0.25, y, path) - closed(0.25, y)
    expected = np.asarray(model.port) @ np.array([0.75, 0.25])
    np.testing.assert_allclose(through, expected, rtol=1e-12)
    with pytest.raises(TypeError, match="`args` must be a function of time"):
        model(0.25, y, None)


@given(seeds, st.sampled_from(["1", "2", "inf"]), st.floats(0.05, 0.9))
@settings(max_examples=12, deadline=None)
def test_the_matrix_measure_is_below_the_rate(seed, norm, rate):
    model = models.ContractingODE(
        3, rate, norm=norm, widths=(5,), key=jr.key(seed), dtype=jnp.float64
    )
    # Far larger weights than it starts with.
    model = eqx.tree_at(lambda m: m.matrices, model, [30 * V for V in model.matrices])
    y = jr.normal(jr.key(seed + 1), (3,))
    A = jax.jacfwd(lambda u: model(0.0, u))(y)
    kind = {"1": 1, "2": 2, "inf": np.inf}[norm]
    assert matrix_measure(np.asarray(A), kind) <= -rate + 1e-12


def test_solutions_come_together_no_slower_than_the_rate():
    model = models.ContractingODE(4, 0.2, norm="inf", key=jr.key(3))
    ends = [
        solve(model.problem(y, 0.0, 10.0), rtol=1e-10, atol=1e-12).ys[-1]
        for y in jr.normal(jr.key(4), (2, 4))
    ]
    before = jnp.max(jnp.abs(jnp.subtract(*jr.normal(jr.key(4), (2, 4)))))
    assert jnp.max(jnp.abs(ends[0] - ends[1])) <= np.exp(-0.2 * 10.0) * before


def test_the_equation_of_a_contracting_model():
    model = models.ContractingODE(3, 0.25, norm="1", widths=(2,), key=jr.key(3))
    model = eqx.tree_at(
        lambda m: m.biases,
        model,
        tuple(b + 0.1 * (k + 1) for k, b in enumerate(model.biases)),
    )
    y = np.array([0.5, -0.25, 1.0])
    V, U = (np.asarray(m) for m in model.matrices)
    V, U = (m / max(1, np.abs(m).sum(axis=0).max()) for m in (V, U))
    inner = V @ np.tanh(y + 0.1) + 0.2
    expected = -y + 0.75 * U @ np.tanh(inner) + 0.3
    np.testing.assert_allclose(model(0.0, jnp.asarray(y)), expected, rtol=1e-13)


def test_the_equation_of_a_recurrent_model():
    model = models.RecurrentODE(
        3, 2, gain=1.5, time_constant=2.0, activation=jnp.sin, key=jr.key(3)
    )
    y, u = np.array([0.5, -0.25, 1.0]), np.array([0.3, -0.7])
    moved = np.asarray(model.weight) @ np.sin(y) + np.asarray(model.port) @ u - y
    found = model(0.0, jnp.asarray(y), lambda t: jnp.asarray(u))
    np.testing.assert_allclose(found, moved / 2.0, rtol=1e-13)


def test_rest_loses_stability_at_a_gain_of_one():
    # The spectral radius of n by n independent weights tends to the gain (Girko's
    # circular law); for n = 400 it is within a tenth.
    for gain, stable in ((0.8, True), (1.25, False)):
        model = models.RecurrentODE(400, gain=gain, key=jr.key(5))
        A = jax.jacfwd(lambda y, model=model: model(0.0, y))(jnp.zeros(400))
        abscissa = np.max(np.linalg.eigvals(np.asarray(A)).real)
        assert (abscissa < 0) == stable
        assert abs(abscissa + 1 - gain) < 0.1


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_the_energy_of_a_hopfield_network_falls(seed):
    model = models.HopfieldODE(4, gain=1.7, key=jr.key(seed))
    model = eqx.tree_at(lambda m: m.bias, model, jr.normal(jr.key(seed + 2), (4,)))
    y = jr.normal(jr.key(seed + 1), (4,))
    field = np.asarray(model(0.0, y))
    assert model.gain > 0
    change = np.asarray(jax.grad(model.energy)(y)) @ field
    # Each neuron loses its squared velocity times the slope of its response.
    slopes = 1.7 / np.cosh(1.7 * np.asarray(y)) ** 2
    np.testing.assert_allclose(change, -np.sum(slopes * field**2), rtol=1e-9)


def test_patterns_are_remembered():
    pattern = np.array([1.0, -1, 1, 1, -1, -1, 1, -1])
    model = models.HopfieldODE(8, gain=4.0, patterns=pattern[None], key=jr.key(0))
    expected = np.outer(pattern, pattern) / 8 - np.eye(8) / 8
    np.testing.assert_allclose(model.weight, expected, rtol=1e-15)
    spoilt = jnp.asarray(pattern).at[0].set(-1.0)
    end = solve(model.problem(0.5 * spoilt, 0.0, 30.0)).ys[-1]
    np.testing.assert_array_equal(np.sign(end), pattern)
    with pytest.raises(ValueError, match="entries 1 or -1"):
        models.HopfieldODE(8, patterns=jnp.zeros((1, 8)), key=jr.key(0))


def test_a_controlled_equation_follows_its_path():
    model = models.NeuralCDE(3, 4, 2, 8, key=jr.key(0))
    times = jnp.linspace(0.0, 1.0, 5)
    values = jnp.stack([times, times**2, jnp.sin(times)], axis=-1)
    path = diffrax.LinearInterpolation(times, values)
    problem = model.controlled(path)
    np.testing.assert_allclose(problem.y0, model.initial(values[0]), rtol=1e-15)
    z = np.array([0.2, -0.4, 0.1, 0.9])
    matrix = np.asarray(model.matrix(jnp.asarray(z)))
    assert matrix.shape == (4, 3)
    slope = np.asarray((values[1] - values[0]) / 0.25)
    found = model(0.1, jnp.asarray(z), path)
    np.testing.assert_allclose(found, matrix @ slope, rtol=1e-12)
    assert model.readout(problem.y0).shape == (2,)
    with pytest.raises(TypeError, match="must be a Diffrax path"):
        model.controlled(values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda k: models.NeuralODE(0, key=k), "`size` must be a whole number"),
        (lambda k: models.NeuralODE(2, activation=3, key=k), "`activation` must be a"),
        (
            lambda k: models.DepthVaryingODE(2, knots=1, key=k),
            "`knots` must be a whole",
        ),
        (lambda k: models.ContractingODE(2, 1.5, key=k), "`rate` must be a finite"),
        (lambda k: models.ContractingODE(2, norm="3", key=k), "`norm` must be one of"),
        (lambda k: models.ResNet(2, 4, duration=-1.0, key=k), "`duration` must be a"),
        (lambda k: models.RecurrentODE(2, -1, key=k), "`inputs` must be a whole"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make(jr.key(0))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_weights_have_the_precision_asked_for(dtype):
    kinds = [
        models.NeuralODE(2, key=jr.key(0), dtype=dtype),
        models.DepthVaryingODE(2, key=jr.key(0), dtype=dtype),
        models.ResNet(2, 3, key=jr.key(0), dtype=dtype),
        models.HamiltonianODE(1, key=jr.key(0), dtype=dtype),
        models.PortHamiltonianODE(2, key=jr.key(0), dtype=dtype),
        models.ContractingODE(2, key=jr.key(0), dtype=dtype),
        models.RecurrentODE(2, key=jr.key(0), dtype=dtype),
        models.HopfieldODE(2, key=jr.key(0), dtype=dtype),
    ]
    y = jnp.ones(2, dtype)
    for model in kinds:
        leaves = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype(dtype)}
        if isinstance(model, models.ContinuousModel):
            assert model(jnp.asarray(0.0, dtype), y).dtype == dtype
