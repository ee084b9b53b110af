"""ODEProblem: what it keeps, and what it refuses."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hybrid_nds
from hybrid_nds import ODEProblem


def decay(t, y, args):
    return jax.tree.map(lambda leaf: -leaf, y)


def test_keeps_what_it_is_given():
    y0 = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}
    problem = ODEProblem(decay, y0, 0, 2.5, args=(1.0, "name"))
    assert problem.dimension == 3
    assert problem.dtype == np.float64
    assert float(problem.t0) == 0.0
    assert float(problem.t1) == 2.5
    assert problem.t0.dtype == np.float64
    assert problem.args == (1.0, "name")
    assert problem.mass_matrix is None


def test_times_follow_the_precision_of_the_state():
    problem = ODEProblem(decay, jnp.ones(2, jnp.float32), 0.0, np.float64(1.0))
    assert problem.t0.dtype == problem.t1.dtype == np.float32


def test_python_numbers_are_not_weakly_typed():
    problem = ODEProblem(decay, 1.0, 0.0, 1.0)
    assert not problem.y0.weak_type
    assert not problem.t0.weak_type


def test_is_a_pytree_of_its_arrays():
    mlp = eqx.nn.MLP(2, 2, 4, 1, key=jax.random.key(0))
    problem = ODEProblem(lambda t, y, a: mlp(y), jnp.ones(2), 0.0, 1.0)
    other = eqx.tree_at(lambda p: p.y0, problem, 2 * problem.y0)
    np.testing.assert_array_equal(other.y0, [2.0, 2.0])


def test_can_be_built_inside_jit_vmap_and_grad():
    def end(y0, t1):
        problem = ODEProblem(decay, y0, 0.0, t1)
        return problem.y0 * problem.t1

    assert float(jax.jit(end)(2.0, 3.0)) == 6.0
    assert jax.vmap(end, (0, None))(jnp.arange(3.0), 2.0).tolist() == [0, 2, 4]
    assert float(jax.grad(end)(2.0, 3.0)) == 3.0


def test_an_infinite_end_is_allowed():
    assert np.isinf(ODEProblem(decay, 1.0, 0.0, np.inf).t1)


def test_a_singular_mass_matrix_is_kept_in_the_dtype_of_the_state():
    mass = [[1, 0], [0, 0]]
    problem = ODEProblem(decay, jnp.ones(2), 0.0, 1.0, mass_matrix=mass)
    assert problem.mass_matrix is not None
    assert problem.mass_matrix.dtype == np.float64
    np.testing.assert_array_equal(problem.mass_matrix, mass)


STATES = {
    "empty": ((), ValueError, "`y0` holds no arrays"),
    "text": ({"a": "b"}, TypeError, r"`y0\['a'\]` must be a floating-point array"),
    "integers": (jnp.arange(3), TypeError, "got dtype int64"),
    "booleans": (jnp.array([True]), TypeError, "got dtype bool"),
    "complex": (jnp.ones(2, complex), TypeError, "real and imaginary"),
    "half": (jnp.ones(2, jnp.float16), TypeError, "must be float32 or float64"),
    "nan": (jnp.array([1.0, np.nan]), ValueError, "must be finite"),
    "infinity": ([1.0, np.inf], ValueError, r"`y0\[1\]` must be finite"),
    "mixed": (
        {"a": np.float32(1), "b": np.float64(1)},
        TypeError,
        r"one dtype throughout, got y0\['a'\]: float32, y0\['b'\]: float64",
    ),
}


@pytest.mark.parametrize(("y0", "error", "match"), STATES.values(), ids=STATES)
def test_refuses_a_bad_state(y0, error, match):
    with pytest.raises(error, match=match):
        ODEProblem(decay, y0, 0.0, 1.0)


SPANS = {
    "empty": (1.0, 1.0, ValueError, "`t1` must differ from `t0`"),
    "nan": (0.0, np.nan, ValueError, "`t1` must be finite, got nan"),
    "infinite start": (-np.inf, 0.0, ValueError, "`t0` must be finite, got -inf"),
    "array": (0.0, jnp.ones(2), TypeError, r"`t1` must be a real number.*\(2,\)"),
    "complex": (0.0, 1j, TypeError, "`t1` must be a real number"),
    "boolean": (False, 1.0, TypeError, "`t0` must be a real number"),
    "text": ("now", 1.0, TypeError, "`t0` must be a real number"),
}


@pytest.mark.parametrize(("t0", "t1", "error", "match"), SPANS.values(), ids=SPANS)
def test_refuses_a_bad_span(t0, t1, error, match):
    with pytest.raises(error, match=match):
        ODEProblem(decay, 1.0, t0, t1)


def test_refuses_a_span_that_is_empty_in_the_precision_of_the_state():
    # 1 + 1e-9 is 1 in float32, and not in float64.
    ODEProblem(decay, np.float64(1), 1.0, 1.0 + 1e-9)
    with pytest.raises(ValueError, match="must differ from `t0` in float32"):
        ODEProblem(decay, np.float32(1), 1.0, 1.0 + 1e-9)


def test_refuses_a_bad_span_inside_jit():
    with pytest.raises(ValueError, match="`t1` must differ"):
        jax.jit(lambda y0: ODEProblem(decay, y0, 1.0, 1.0).y0)(1.0)


FIELDS = {
    "structure": (lambda t, y, a: (y["a"],), ValueError, "structure of `y0`"),
    "shape": (
        lambda t, y, a: {"a": jnp.ones(3)},
        ValueError,
        r"at y0\['a'\] expected float64\[2\], got float64\[3\]",
    ),
    "dtype": (
        lambda t, y, a: {"a": jnp.ones(2, jnp.float32)},
        ValueError,
        r"expected float64\[2\], got float32\[2\]",
    ),
    "python number": (lambda t, y, a: {"a": 1.0}, ValueError, "shapes and dtypes"),
    "raises": (
        lambda t, y, a: y["missing"],
        ValueError,
        "`field` could not be evaluated.*KeyError: 'missing'",
    ),
    "too few arguments": (lambda t, y: y, ValueError, "could not be evaluated"),
    "no callable": (jnp.ones(2), TypeError, "`field` must be a callable"),
}


@pytest.mark.parametrize(("field", "error", "match"), FIELDS.values(), ids=FIELDS)
def test_refuses_a_bad_field(field, error, match):
    with pytest.raises(error, match=match):
        ODEProblem(field, {"a": jnp.ones(2)}, 0.0, 1.0)


MASSES = {
    "shape": (jnp.ones((2, 3)), ValueError, r"shape \(2, 2\).*got \(2, 3\)"),
    "nan": (np.full((2, 2), np.nan), ValueError, "`mass_matrix` must be finite"),
    "complex": (np.eye(2) * 1j, TypeError, "`mass_matrix` must be real"),
}


@pytest.mark.parametrize(("mass", "error", "match"), MASSES.values(), ids=MASSES)
def test_refuses_a_bad_mass_matrix(mass, error, match):
    with pytest.raises(error, match=match):
        ODEProblem(decay, jnp.ones(2), 0.0, 1.0, mass_matrix=mass)


@pytest.mark.parametrize("where", ["y0", "args", "mass_matrix", "field"])
def test_refuses_double_precision_where_jax_has_none(where):
    double = np.ones(2)
    single = np.ones(2, np.float32)
    parts = {"y0": single, "args": None, "mass_matrix": None}
    field = decay
    match where:
        case "mass_matrix":
            parts["mass_matrix"] = np.eye(2)
        case "field":
            field = eqx.Partial(lambda weight, t, y, a: -y, double)
        case _:
            parts[where] = double
    with (
        jax.enable_x64(False),
        pytest.raises(ValueError, match=rf"`{where}.*` is float64, but JAX runs in 32"),
    ):
        ODEProblem(field, parts.pop("y0"), 0.0, 1.0, **parts)


def test_numbers_without_a_declared_precision_pass_in_single_precision():
    with jax.enable_x64(False):
        problem = ODEProblem(decay, [1.0, 2.0], 0.0, np.float64(1.0), np.sqrt(2))
        assert problem.dtype == np.float32


def test_double_precision_holds_for_a_block():
    with jax.enable_x64(False):
        with hybrid_nds.double_precision():
            problem = ODEProblem(decay, np.ones(2), 0.0, 1.0)
            assert problem.dtype == np.float64
            assert hybrid_nds.solve(problem).ys.dtype == np.float64
        assert jnp.ones(2).dtype == np.float32
        with pytest.raises(ValueError, match="state of `problem` is float64"):
            hybrid_nds.solve(problem)


def test_a_problem_is_replaced_as_a_dataclass():
    problem = ODEProblem(lambda t, y, args: -args * y, jnp.ones(2), 0.0, 1.0, 2.0)
    longer = dataclasses.replace(problem, t1=3.0)
    assert (float(longer.t1), float(longer.args)) == (3.0, 2.0)
    names = {field.name for field in dataclasses.fields(problem)}
    assert names == {"field", "y0", "t0", "t1", "args", "mass_matrix"}
