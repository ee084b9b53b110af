"""What the Julia backend refuses, before Julia is started."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import ODEProblem, runtime, solve
from hybrid_nds.backends.julia._prepared import ParameterSource, StateLayout
from hybrid_nds.backends.julia._structure import structure_key


def _problem(**options):
    return ODEProblem(lambda t, y, args: -y, np.ones(2), 0.0, 1.0, **options)


def _with_mass():
    return _problem(mass_matrix=np.diag([1.0, 0.0]))


REFUSED = {
    "unknown-option": (
        _problem,
        {"root_finder": 1},
        TypeError,
        "no option root_finder",
    ),
    "adjoint": (_problem, {"adjoint": "direct"}, ValueError, "`adjoint` is for"),
    "rhs": (_problem, {"rhs": "native"}, ValueError, "`rhs` must be one of"),
    "form": (_problem, {"form": "vector"}, ValueError, "`form` must be one of"),
    "specialize": (_problem, {"specialize": "full"}, TypeError, "`specialize` must be"),
    "scalar-callback": (
        _problem,
        {"form": "scalar", "rhs": "callback"},
        ValueError,
        "a form of lowered code",
    ),
    "scalar-mass": (_with_mass, {"form": "scalar"}, ValueError, "no `mass_matrix`"),
    "scalar-large": (
        lambda: ODEProblem(lambda t, y, args: -y, np.ones(101), 0.0, 1.0),
        {"form": "scalar"},
        ValueError,
        "at most 100 scalars.*got 101",
    ),
    "mass-explicit": (
        _with_mass,
        {"solver": "Tsit5"},
        ValueError,
        "Tsit5 takes no `mass_matrix`; these solvers do: .*Rodas5P",
    ),
    "mass-full": (
        lambda: _problem(mass_matrix=np.array([[1.0, 1.0], [0.0, 1.0]])),
        {"solver": "Rosenbrock23"},
        ValueError,
        "a diagonal `mass_matrix` alone.*off the diagonal; take Rodas5P",
    ),
    "newton-explicit": (
        _problem,
        {"solver": "Tsit5", "newton_tolerance": 1e-3},
        ValueError,
        "Tsit5 takes no `newton_tolerance`.*Kvaerno5",
    ),
    "newton-negative": (
        _problem,
        {"solver": "Kvaerno5", "newton_tolerance": -1.0},
        ValueError,
        "`newton_tolerance` must be a number between 0 and 1",
    ),
    "step-to-saveat": (
        _problem,
        {"step_to_saveat": "yes"},
        TypeError,
        "`step_to_saveat` must be",
    ),
    "jacobian": (
        _problem,
        {"jacobian": "banded"},
        ValueError,
        "`jacobian` must be one",
    ),
    "jacobian-explicit": (
        _problem,
        {"solver": "Tsit5", "jacobian": "sparse"},
        ValueError,
        "Tsit5 is explicit and has no use for a `jacobian`",
    ),
    "jacobian-callback": (
        _problem,
        {"solver": "Rodas5P", "jacobian": "sparse", "rhs": "callback"},
        ValueError,
        'rhs="callback"` has dense Jacobians alone',
    ),
    "jacobian-scalar": (
        _problem,
        {"solver": "Rodas5P", "jacobian": "matrix-free", "form": "scalar"},
        ValueError,
        'form="scalar"` has dense Jacobians alone',
    ),
    "jacobian-radau": (
        _problem,
        {"solver": "RadauIIA5", "jacobian": "matrix-free"},
        ValueError,
        "RadauIIA5 takes no `jacobian=.matrix-free.`; these solvers do: .*Rodas5P",
    ),
    "jacobian-shape": (
        _problem,
        {"solver": "Rodas5P", "jacobian": np.ones((3, 3))},
        ValueError,
        r"`jacobian` must have shape \(2, 2\)",
    ),
    "jacobian-missing": (
        lambda: ODEProblem(lambda t, y, args: -y[::-1], np.ones(2), 0.0, 1.0),
        {"solver": "Rodas5P", "jacobian": np.eye(2)},
        ValueError,
        r"`jacobian` misses the entry \(0, 1\)",
    ),
    "jacobian-memory": (
        lambda: ODEProblem(lambda t, y, args: -y, np.ones(10**6), 0.0, 1.0),
        {"solver": "Rodas5P", "jacobian": "dense"},
        MemoryError,
        'dense Jacobian of 1,000,000 states takes some 29,802 GiB.*jacobian="sparse"',
    ),
    "jacobian-singular": (
        lambda: ODEProblem(
            lambda t, y, args: jnp.stack([y[0], y[0]]),
            np.ones(2),
            0.0,
            1.0,
            mass_matrix=np.zeros((2, 2)),
        ),
        {"solver": "Rodas5P", "jacobian": "sparse"},
        ValueError,
        "1 of the 2 equations.*have no unknown of their own",
    ),
    "progress": (_problem, {"progress": "bar"}, TypeError, "`progress` must be True"),
    "euler-adaptive": (
        _problem,
        {"solver": "Euler"},
        ValueError,
        "Euler has no error estimate",
    ),
    "not-in-julia": (
        _problem,
        {"solver": "ReversibleHeun", "dt": 0.1},
        ValueError,
        "exists only on the diffrax backend",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, monkeypatch):
    problem, options, kind, words = REFUSED[case]

    def no_julia():
        raise AssertionError("Julia was asked for before the options were checked")

    monkeypatch.setattr(runtime, "session", no_julia)
    with pytest.raises(kind, match=words):
        solve(problem(), "julia", **options)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"saveat": "steps"}, r'`saveat="steps"`.*give the times to save'),
        ({"saveat": "dense"}, r'`saveat="dense"`.*give the times to save'),
        ({"rhs": "callback"}, '`rhs="callback"`.*leave it out inside jax.jit'),
        ({"progress": True}, "`progress` cannot be shown"),
    ],
)
def test_what_a_traced_solve_cannot_do(options, match):
    @jax.jit
    def end(scale):
        problem = ODEProblem(lambda t, y, args: -args * y, np.ones(1), 0.0, 1.0, scale)
        return solve(problem, "julia", **options).ys[0, 0]

    with pytest.raises(ValueError, match=match):
        end(jnp.asarray(1.0))


def test_a_traced_mass_matrix_is_refused():
    @jax.jit
    def end(mass):
        problem = ODEProblem(
            lambda t, y, args: -y, np.ones(2), 0.0, 1.0, mass_matrix=mass
        )
        return solve(problem, "julia", solver="Rodas5P").ys

    with pytest.raises(TypeError, match="`mass_matrix` must be concrete"):
        end(jnp.eye(2))


def test_structure_key_ignores_values_of_weights_only():
    field = lambda t, y, args: -y
    key = lambda args: structure_key((field, args))
    assert key(np.array([1.0, 2.0])) == key(np.array([3.0, 4.0]))
    assert key(np.array([1.0, 2.0])) != key(np.array([1.0, 2.0, 3.0]))
    assert key(np.array([1.0])) != key(np.array([1.0], np.float32))
    # Compiled in: integers, Python numbers, functions.
    assert key(np.array([1])) != key(np.array([2]))
    assert key(1.0) != key(2.0)
    assert key(0.0) != key(-0.0)
    assert key(1) != key(1.0)
    assert key(jnp.sin) != key(jnp.cos)
    assert key(float("nan")) == key(float("nan"))


def test_structure_without_a_hash_has_no_key():
    assert structure_key({"options": {1, 2}}) is None


def test_parameters_follow_changes():
    target = np.zeros(3)
    array = np.array([1.0, 2.0])
    tree = {"a": array, "b": jnp.array(3.0), "c": 7}
    source = ParameterSource(tree, target)
    np.testing.assert_array_equal(target, [1.0, 2.0, 3.0])
    array[0] = 5.0
    source.fill(tree)
    np.testing.assert_array_equal(target, [5.0, 2.0, 3.0])
    source.fill({"a": jnp.array([8.0, 9.0]), "b": jnp.array(4.0), "c": 7})
    np.testing.assert_array_equal(target, [8.0, 9.0, 4.0])


def test_state_layout_is_row_major():
    y0 = {"m": np.arange(6.0).reshape(2, 3), "s": np.array(7.0)}
    layout = StateLayout(y0)
    flat = np.zeros(7)
    layout.flatten(y0, flat)
    np.testing.assert_array_equal(flat, np.arange(7.0) + (np.arange(7) == 6))
    back = layout.unflatten(np.stack([flat, flat + 1.0]))
    np.testing.assert_array_equal(back["m"][1], y0["m"] + 1.0)
    np.testing.assert_array_equal(back["s"], [7.0, 8.0])
