"""Derivatives of stochastic solves in Julia along their paths: closed forms,
differences along the same path, Diffrax's twins, and refusals."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from hybrid_nds import SDEProblem, StoredPath, solve

pytestmark = pytest.mark.julia

STEPS = 16
EPS = np.finfo(float).eps
START = jnp.array([0.8, -0.3])
RATES = jnp.array([1.3, 0.7])


def drift(t, y, a):
    """Neither linear nor autonomous."""
    return jnp.stack([a[1] * y[0] * y[1] - a[0] * y[0], jnp.cos(t) - y[1] ** 2])


def componentwise(t, y, a):
    return a[1] * jnp.sin(y) * (1 + t)


def matrix(t, y, a):
    last = jnp.stack([0.3 * y[1], 0.2 * a[0] + 0 * t, a[1] * y[0]])
    return jnp.stack([jnp.stack([a[1] * jnp.sin(y[0]), 0.1 * t + y[1], y[0]]), last])


def commuting(t, y, a):
    return jnp.stack([a[1] * y, a[0] * (1 + t) * y], axis=-1)


DIFFUSIONS = {
    "additive": lambda t, y, a: a[1] * jnp.ones_like(y),
    "diagonal": componentwise,
    "scalar": componentwise,
    "general": matrix,
    "commutative": commuting,
}


def path(noise, key=0, steps=STEPS):
    """Increments and areas of a path over the unit span."""
    motions = {"scalar": 1, "general": 3}.get(noise, 2)
    dw, h = np.random.default_rng(key).normal(size=(2, steps, motions))
    return StoredPath(dw / math.sqrt(steps), h / math.sqrt(12 * steps), t0=0.0, t1=1.0)


def end(y0, rates, noise, solver, *, backend="julia", along=None, **options):
    problem = SDEProblem(
        drift,
        DIFFUSIONS[noise],
        y0,
        0.0,
        1.0,
        args=rates,
        noise=noise,
        interpretation=options.pop("interpretation", "ito"),
    )
    along = path(noise) if along is None else along
    ys = solve(problem, backend, solver=solver, path=along, **options).ys
    return ys[0] if options.get("saveat") is None else ys


METHODS: list[tuple[str, tuple[str, ...], str, dict[str, Any]]] = [
    ("EM", ("additive", "diagonal", "scalar", "general"), "ito", {}),
    ("Heun", ("additive", "diagonal", "scalar", "general"), "stratonovich", {}),
    ("RKMil", ("diagonal", "scalar"), "ito", {}),
    ("RKMil", ("diagonal",), "stratonovich", {}),
    ("RKMilCommute", ("diagonal", "commutative"), "ito", {}),
    ("RKMilCommute", ("commutative",), "stratonovich", {}),
    ("SRA1", ("additive",), "ito", {}),
    ("SOSRA", ("additive",), "ito", {}),
    ("SRIW1", ("diagonal", "scalar"), "ito", {}),
    ("LambaEM", ("diagonal", "general"), "ito", {}),
    ("ImplicitEM", ("additive", "diagonal", "scalar", "general"), "ito", {}),
    ("ImplicitEM", ("diagonal",), "ito", {"theta": 0.5}),
    ("STrapezoid", ("general",), "ito", {}),
    ("ISSEM", ("diagonal", "scalar"), "ito", {"theta": 0.7}),
    ("ImplicitEulerHeun", ("diagonal", "general"), "stratonovich", {}),
    ("ISSEulerHeun", ("diagonal", "general"), "stratonovich", {}),
    ("ImplicitRKMil", ("diagonal",), "ito", {"theta": 0.6}),
]
# One explicit method and one that is implicit in each run; the others take seconds.
QUICK = [("EM", "diagonal", {}), ("ImplicitEM", "general", {})]
CASES = [
    pytest.param(
        name,
        noise,
        interpretation,
        options,
        id="-".join([name, noise, interpretation, *map(str, options.values())]),
        marks=() if (name, noise, options) in QUICK else pytest.mark.slow,
    )
    for name, kinds, interpretation, options in METHODS
    for noise in kinds
]


@pytest.mark.parametrize(("solver", "noise", "interpretation", "options"), CASES)
def test_derivatives_are_those_of_the_steps(
    julia, solver, noise, interpretation, options
):
    run = lambda *at: end(*at, noise, solver, interpretation=interpretation, **options)
    at = (START, RATES)
    forward = jax.jit(jax.jacfwd(run, (0, 1)))(*at)
    reverse = jax.jit(jax.jacrev(run, (0, 1)))(*at)
    for one, other in zip(forward, reverse, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)
    # Of fourth order: h⁴ = 1e-12 of fifth derivatives, and round-off over h. Stages are
    # solved to κ = 1e-6 of 64 √ε in the solves that differences are taken of.
    h = 1e-3
    newton = 64e-6 * math.sqrt(EPS) * STEPS * (solver[:2] in ("Im", "IS", "ST"))
    for position, values in enumerate(at):
        for k in range(values.size):

            def moved(share, k=k, position=position):
                points = list(at)
                points[position] = points[position].at[k].add(share * h)
                return np.asarray(run(*points))

            slope = (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * h)
            found = forward[position][:, k]
            limit = 1e-9 * np.max(np.abs(found)) + 1e-10 + 18 / 12 * newton / h
            np.testing.assert_allclose(found, slope, rtol=0, atol=limit)


def test_gradients_are_those_of_the_closed_form(julia):
    # Euler's and Maruyama's steps of dy = a y dt + b y dW are products.
    along = path("diagonal")
    dw = np.asarray(along.increments()[0])

    def closed(y0, rates):
        return jnp.sum(y0 * jnp.prod(1 + rates[0] / STEPS + rates[1] * dw, axis=0))

    def found(y0, rates):
        problem = SDEProblem(
            lambda t, y, a: a[0] * y,
            lambda t, y, a: a[1] * y,
            y0,
            0.0,
            1.0,
            args=rates,
        )
        return jnp.sum(solve(problem, "julia", solver="EM", path=along).ys)

    for one, other in zip(
        jax.grad(found, (0, 1))(START, RATES),
        jax.grad(closed, (0, 1))(START, RATES),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-13)


@pytest.mark.parametrize(
    ("solver", "noise", "interpretation"),
    [
        ("Euler", "diagonal", "ito"),
        ("Euler", "general", "ito"),
        ("Heun", "diagonal", "stratonovich"),
        ("SRA1", "additive", "ito"),
    ],
)
def test_twins_have_one_gradient(julia, solver, noise, interpretation):
    times = np.array([0.25, 0.5, 1.0])

    def loss(y0, rates, backend):
        ys = end(
            y0,
            rates,
            noise,
            solver,
            backend=backend,
            interpretation=interpretation,
            saveat=times,
        )
        return jnp.sum(jnp.sin(3 * ys) * jnp.arange(1.0, 4.0)[:, None])

    here, there = (
        jax.grad(loss, (0, 1))(START, RATES, backend)
        for backend in ("julia", "diffrax")
    )
    # Sums over sixteen steps of a dozen roundings each, of numbers up to ten.
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=10 * 12 * STEPS * EPS)


def test_a_mean_over_paths_has_the_mean_of_their_gradients(julia):
    keys = jax.random.split(jax.random.key(3), 5)

    def one(rates, key):
        problem = SDEProblem(drift, DIFFUSIONS["diagonal"], START, 0.0, 1.0, args=rates)
        solution = solve(
            problem, "julia", solver="EM", dt=1 / STEPS, key=key, saveat=[0.5, 1.0]
        )
        return jnp.sum(solution.ys**2)

    def mean(rates, keys):
        return jnp.mean(jax.vmap(one, (None, 0))(rates, keys))

    compiled = jax.jit(jax.grad(mean))
    expected = np.mean([jax.grad(one)(RATES, key) for key in keys], axis=0)
    np.testing.assert_allclose(compiled(RATES, keys), expected, rtol=1e-13)
    pushed = jax.jacfwd(mean)(RATES, keys)
    np.testing.assert_allclose(pushed, expected, rtol=1e-12)
    # Rows of a Jacobian are directions of one solve.
    rows = jax.vmap(jax.jacrev(lambda y0: end(y0, RATES, "diagonal", "EM")))(
        jnp.stack([START, 2 * START])
    )
    single = jax.jacfwd(lambda y0: end(y0, RATES, "diagonal", "EM"))(2 * START)
    np.testing.assert_allclose(rows[1], single, rtol=1e-12, atol=1e-14)


def test_weights_of_both_functions_have_gradients_in_their_structure(julia):
    class Rate(eqx.Module):
        value: jax.Array
        name: str

        def __call__(self, t, y, args):
            return {"x": args * self.value * y["x"]}

    fields = Rate(jnp.array(-1.0, jnp.float32), "f"), Rate(jnp.array(0.5), "g")
    along = path("diagonal")
    dw = np.asarray(along.increments()[0])

    @eqx.filter_grad
    def gradient(fields):
        problem = SDEProblem(
            *fields, {"x": START}, 0.0, 1.0, args=jnp.array([1.0, 2.0])
        )
        return jnp.sum(solve(problem, "julia", solver="EM", path=along).ys["x"])

    def closed(f, g):
        factors = 1 + jnp.array([1.0, 2.0]) * (f / STEPS + g * dw)
        return jnp.sum(START * jnp.prod(factors, axis=0))

    found, expected = gradient(fields), jax.grad(closed, (0, 1))(-1.0, 0.5)
    assert found[0].value.dtype == jnp.float32
    np.testing.assert_allclose(found[0].value, expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1].value, expected[1], rtol=1e-13)


def test_single_precision_has_gradients(julia):
    along = path("diagonal")
    short = StoredPath(
        *(np.asarray(one, np.float32) for one in along.increments()), t0=0.0, t1=1.0
    )
    loss = lambda y0, along: jnp.sum(
        end(y0, RATES.astype(y0.dtype), "diagonal", "ImplicitEM", along=along)
    )
    found = jax.grad(loss)(START.astype(np.float32), short)
    assert found.dtype == jnp.float32
    # Sixteen steps of some ten roundings of 6e-8.
    np.testing.assert_allclose(found, jax.grad(loss)(START, along), rtol=1e-5)


def test_values_beside_a_gradient_are_those_of_the_plain_solve(julia):
    loss = lambda y0: jnp.sum(end(y0, RATES, "general", "ImplicitEM"))
    value, _ = jax.value_and_grad(loss)(START)
    np.testing.assert_array_equal(value, loss(START))


def test_traced_arguments_need_not_be_known(julia):
    # Without a derivative, too: the plain solve within jax.jit.
    along = path("diagonal")
    run = lambda rates: end(START, rates, "diagonal", "EM", along=along)
    np.testing.assert_array_equal(jax.jit(run)(RATES), run(RATES))


@pytest.mark.slow
@settings(max_examples=4, deadline=None)
@given(
    width=st.integers(1, 7),
    states=st.integers(1, 3),
    matrix_noise=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_random_networks_have_one_derivative_in_both_modes(
    julia, width, states, matrix_noise, seed
):
    keys = jax.random.split(jax.random.key(seed), 6)
    motions = 2 if matrix_noise else states
    size = states * motions if matrix_noise else states
    networks = [
        eqx.nn.MLP(states, out, width, 1, jnp.tanh, key=key)
        for out, key in zip((states, size), keys, strict=False)
    ]
    y0 = jax.random.normal(keys[2], (states,))
    weights, rest = eqx.partition(networks, eqx.is_inexact_array)
    shape = (states, motions) if matrix_noise else (states,)
    dw = np.random.default_rng(seed).normal(size=(STEPS, motions)) / 4
    along = StoredPath(dw, t0=0.0, t1=1.0)

    def run(y0, weights, backend="julia", solver="ImplicitEM"):
        problem = SDEProblem(
            lambda t, y, nets: nets[0](y) * (1 + 0.1 * t),
            lambda t, y, nets: 0.3 * nets[1](y).reshape(shape),
            y0,
            0.0,
            1.0,
            args=eqx.combine(weights, rest),
            noise="general" if matrix_noise else "diagonal",
        )
        return solve(problem, backend, solver=solver, path=along).ys[0]

    tangent = jax.tree.map(lambda x: jax.random.normal(keys[3], x.shape), (y0, weights))
    cotangent = jax.random.normal(keys[4], (states,))
    _, pushed = jax.jvp(run, (y0, weights), tangent)
    _, pull = jax.vjp(run, y0, weights)
    products = jax.tree.leaves(jax.tree.map(jnp.vdot, pull(cotangent), tangent))
    size = sum(abs(one) for one in products)
    np.testing.assert_allclose(
        jnp.vdot(cotangent, pushed), sum(products), rtol=0, atol=1e-12 * size
    )
    gradients = [
        jax.vjp(lambda y, w, b=b: run(y, w, b, "Euler"), y0, weights)[1](cotangent)
        for b in ("julia", "diffrax")
    ]
    for one, other in zip(*map(jax.tree.leaves, gradients), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * (1 + size))


def _grad(**options):
    noise, solver = options.pop("noise", "diagonal"), options.pop("solver", "EM")
    loss = lambda y0: jnp.sum(end(y0, RATES, noise, solver, **options))
    return jax.grad(loss)(START)


def test_what_has_no_derivative_says_so(julia):
    with pytest.raises(TypeError, match=r"by DRI1 have no derivatives .*ImplicitEM"):
        _grad(solver="DRI1", noise="general")
    key = jax.random.key(0)

    def adaptive(y0):
        problem = SDEProblem(drift, componentwise, y0, 0.0, 1.0, args=RATES)
        how: Any = {"rtol": 1e-2, "atol": 1e-2, "key": key}
        return jnp.sum(solve(problem, "julia", solver="RKMil", **how).ys)

    with pytest.raises(TypeError, match=r"error control have no .* pass `dt` alone"):
        jax.grad(adaptive)(START)
    increments, areas = path("diagonal").increments()

    def by_path(increments):
        along = StoredPath(increments, areas, t0=0.0, t1=1.0)
        return jnp.sum(end(START, RATES, "diagonal", "EM", along=along))

    with pytest.raises(TypeError, match="or the path, which its steps follow"):
        jax.grad(by_path)(increments)

    def by_time(t1):
        problem = SDEProblem(drift, componentwise, START, 0.0, t1, args=RATES)
        along = StoredPath(increments, areas, t0=0.0, t1=t1)
        return jnp.sum(solve(problem, "julia", solver="EM", path=along).ys)

    with pytest.raises(TypeError, match="no derivatives by t0, t1"):
        jax.grad(by_time)(jnp.array(1.0))
    with pytest.raises(TypeError, match="no second derivatives"):
        jax.hessian(lambda y0: jnp.sum(end(y0, RATES, "diagonal", "EM")))(START)


def test_a_loss_without_a_derivative_is_named(julia):
    loss = lambda y0: jnp.sqrt(jnp.sum(0 * end(y0, RATES, "diagonal", "EM")))
    with pytest.raises(Exception, match="NaN or infinite"):
        jax.block_until_ready(jax.grad(loss)(START))
