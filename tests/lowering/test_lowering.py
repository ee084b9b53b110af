"""Lowered source means what the JAX function means, read without Julia."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from jax.flatten_util import ravel_pytree
from julia_subset import evaluate
from lowering_cases import CASES
from random_programs import programs

import hybrid_nds.lowering as lowering

# Both sides round every operation once; chains here are some tens of operations with
# condition numbers below a thousand: 1e-11 leaves room for those and for nothing else.
TOLERANCE = {"rtol": 1e-11, "atol": 1e-12, "equal_nan": True}
TIME = 0.7
PARTS = ("field", "jacobian", "time_gradient")
DIFFERENTIATED = [name for name in CASES if name.startswith(("program", "layer"))]
LARGEST = 100


@functools.cache
def _case(name):
    return CASES[name]()


def _expected(fn, y, args, parts):
    """The parts of a function's values that lowering makes, from one program of JAX."""
    u, unravel = ravel_pytree(y)

    @eqx.filter_jit
    def evaluate(t, u, args):
        flat = lambda t, u: ravel_pytree(fn(t, unravel(u), args))[0]
        made = {
            "field": flat,
            "jacobian": jax.jacfwd(flat, argnums=1),
            "time_gradient": jax.jacfwd(flat, argnums=0),
        }
        return {part: made[part](t, u) for part in parts}

    return {k: np.asarray(v) for k, v in evaluate(jnp.float64(TIME), u, args).items()}


@functools.cache
def _expected_of_case(name):
    fn, y, args = _case(name)
    derivatives = name in DIFFERENTIATED and ravel_pytree(y)[0].size <= LARGEST
    return _expected(fn, y, args, PARTS if derivatives else PARTS[:1])


def _check(fn, y, args, part, form, unroll, expected):
    t = jnp.float64(TIME)
    lowered = lowering.lower(fn, t, y, args, form=form, part=part, unroll=unroll)
    u = np.asarray(ravel_pytree(y)[0])
    p = lowering.parameter_vector(fn, args, u.dtype)
    got = evaluate(lowered, u, p, t)
    np.testing.assert_allclose(got, expected[part], **TOLERANCE)


@pytest.mark.parametrize(
    ("form", "unroll"),
    [("array", 1200), ("array", -1), ("scalar", -1)],
    ids=["straight", "loops", "scalar"],
)
@pytest.mark.parametrize("name", CASES)
def test_field(name, form, unroll):
    _check(*_case(name), "field", form, unroll, _expected_of_case(name))


@pytest.mark.parametrize("part", ["jacobian", "time_gradient"])
@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_derivatives(name, part):
    if part not in (expected := _expected_of_case(name)):
        pytest.skip("a dense Jacobian this large is slow to read in Python")
    _check(*_case(name), part, "array", -1, expected)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(programs())
def test_random_programs(program):
    field, y, args, _ = program
    expected = _expected(field, y, args, PARTS[:2])
    for form, unroll in (("array", 1200), ("array", -1), ("scalar", -1)):
        _check(field, y, args, "field", form, unroll, expected)
    _check(field, y, args, "jacobian", "array", -1, expected)


def test_float32_stays_float32():
    layer = eqx.nn.MLP(3, 3, 8, 1, key=jax.random.key(0), dtype=jnp.float32)
    y = jnp.array([0.1, 0.2, 0.3], jnp.float32)
    for unroll in (1200, -1):
        lowered = lowering.lower(
            lambda t, y, args: args(y) * 0.1 + t,
            jnp.float32(0),
            y,
            layer,
            unroll=unroll,
        )
        assert lowered.dtype == np.float32
        assert "Float64" not in lowered.source
        assert "0.1f0" in lowered.source
        p = lowering.parameter_vector(None, layer, np.dtype("f4"))
        got = evaluate(lowered, y, p, 0.5)
        assert got.dtype == np.float32
        # Eight-term sums in float32: a few units of 6e-8.
        np.testing.assert_allclose(got, layer(y) * 0.1 + 0.5, rtol=1e-6)


def test_new_weights_need_no_new_source():
    def source(seed):
        layer = eqx.nn.MLP(3, 3, 16, 1, key=jax.random.key(seed))
        return lowering.to_julia(lambda t, y, args: args(y), 0.0, jnp.ones(3), layer)

    assert source(0) == source(1)


def test_names_come_from_the_program():
    def field(t, concentration, args):
        fast_reaction = jnp.exp(concentration[0]) * concentration[1]
        return jnp.stack([fast_reaction, -fast_reaction])

    source = lowering.to_julia(field, 0.0, jnp.ones(2))
    assert "fast_reaction_" in source


def test_module_weights_are_named():
    class Field(eqx.Module):
        hidden_weight: jax.Array

        def __call__(self, t, y, args):
            return jnp.tanh(self.hidden_weight @ y)

    source = lowering.to_julia(Field(jnp.ones((40, 40))), 0.0, jnp.ones(40))
    assert "hidden_weight_" in source


def test_an_elementwise_chain_is_one_loop():
    def field(t, y, args):
        return jnp.tanh(jnp.sin(y) * 2 + jnp.exp(-y)) / 3

    lowered = lowering.lower(field, 0.0, jnp.ones(2000))
    assert lowered.workspace == ()
    assert lowered.source.count("for ") == 1


def test_source_holds_no_text_of_the_caller():
    weights = {'"; run(`rm -rf /`) #': jnp.ones(3), "end; error()": jnp.ones(3)}

    def field(t, y, args):
        return y * sum(args.values())

    source = lowering.to_julia(field, 0.0, jnp.ones(3), weights)
    for text in ("run(", "rm -rf", "error(", "`", '"', "#"):
        assert text not in source
    loops = lowering.to_julia(field, 0.0, jnp.ones(3), weights, unroll=-1)
    for text in ("run(", "rm -rf", "error(", "`", '"', "#"):
        assert text not in loops


def test_structural_zeros_are_not_computed():
    source = lowering.to_julia(
        lambda t, y, args: jnp.sin(y), 0.0, jnp.ones(10), part="jacobian"
    )
    assert source.count("cosine(") == 10
    assert "fill!(out, 0.0)" in source


def test_unknown_primitive_says_what_to_do():
    def field(t, y, args):
        return jnp.linalg.svd(jnp.outer(y, y))[1]

    with pytest.raises(lowering.UnsupportedPrimitiveError) as caught:
        lowering.lower(field, 0.0, jnp.ones(3))
    message = str(caught.value)
    assert "'svd'" in message
    assert "test_lowering.py" in message
    assert "register" in message
    assert 'rhs="callback"' in message


def test_registered_rule_is_used(monkeypatch):
    from jax.extend.core import Primitive

    from hybrid_nds.lowering import _rules

    mine = Primitive("mine_own")
    mine.def_abstract_eval(lambda x: x)

    def field(t, y, args):
        return 2.0 * mine.bind(y)

    with pytest.raises(lowering.UnsupportedPrimitiveError, match="mine_own"):
        lowering.lower(field, 0.0, jnp.ones(3))
    # Registered for this test alone.
    monkeypatch.setitem(_rules.RULES, "mine_own", None)
    lowering.register_rule("mine_own", "tanh")
    lowered = lowering.lower(field, 0.0, jnp.ones(3))
    u = np.array([0.1, 0.5, -0.3])
    np.testing.assert_allclose(evaluate(lowered, u, [], 0.0), 2 * np.tanh(u))


def test_a_rule_is_a_name_and_no_code():
    with pytest.raises(ValueError, match="`rule`"):
        lowering.register_rule("mine", "sin(x); run")
    with pytest.raises(ValueError, match="cost"):
        lowering.register_rule("mine", "sin", cost=-1)


def test_complex_numbers_are_refused():
    def field(t, y, args):
        return jnp.fft.fft(y).real

    with pytest.raises(lowering.LoweringError, match="complex128"):
        lowering.lower(field, 0.0, jnp.ones(4))


@pytest.mark.parametrize(("name", "value"), [("form", "vector"), ("part", "hessian")])
def test_unknown_choices_are_refused(name, value):
    with pytest.raises(ValueError, match=f"`{name}`"):
        lowering.lower(lambda t, y, args: y, 0.0, jnp.ones(2), **{name: value})


def test_integer_state_is_refused():
    with pytest.raises(lowering.LoweringError, match="floating-point"):
        lowering.lower(lambda t, y, args: y, 0.0, jnp.ones(2, int))


def test_unused_random_keys_do_not_matter():
    attention = eqx.nn.MultiheadAttention(2, 4, key=jax.random.key(0))

    def field(t, y, args):
        return args(y, y, y, key=jax.random.key(3), inference=True)

    y = jnp.ones((3, 4)) * 0.1
    expected = _expected(field, y, attention, PARTS[:1])
    _check(field, y, attention, "field", "array", -1, expected)
