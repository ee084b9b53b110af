"""Problem files of a user's own: a small language, and what is wrong with a file."""

import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from hybrid_nds import ODEProblem, double_precision, solve
from hybrid_nds.reconcile.loading import load_problem
from hybrid_nds.reconcile.loading._expression import FUNCTIONS, parse_expression

NAMES = {"x": 0.7, "speed_2": -1.3, "t": 2.5}
# Python's own arithmetic, an implementation that shares nothing with ours.
PYTHON = {
    name: getattr(math, name)
    for name in ("cos", "cosh", "exp", "expm1", "sin", "sinh", "tan", "tanh", "log1p")
}
PYTHON |= {"abs": abs, "arctan": math.atan, "arctan2": math.atan2}
PYTHON |= {"maximum": max, "minimum": min, "pi": math.pi, "e": math.e}
PYTHON |= {"where": lambda condition, x, y: x if condition else y}
PYTHON |= {"sign": lambda x: (x > 0) - (x < 0)}
PYTHON |= {"sigmoid": lambda x: 1 / (1 + math.exp(-x))}
PYTHON |= {"softplus": lambda x: math.log1p(math.exp(x))}
PYTHON |= {"log": math.log, "sqrt": math.sqrt}


def grow(inner):
    binary = st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner)
    power = st.builds("({})**{}".format, inner, st.sampled_from(["2", "3", "-1"]))
    one = [name for name, (count, _) in FUNCTIONS.items() if count == 1]
    bounded = sorted({*one} - {"log", "sqrt", "log1p", "exp", "cosh", "sinh", "expm1"})
    call = st.builds("{}({})".format, st.sampled_from(bounded), inner)
    two = st.sampled_from(["maximum", "minimum", "arctan2"])
    pair = st.builds("{}({}, {})".format, two, inner, inner)
    either = st.builds("where({} < {}, {}, {})".format, *(inner,) * 4)
    return binary | power | call | pair | either | st.builds("-{}".format, inner)


LEAVES = st.sampled_from([*NAMES, "pi", "e", "0.5", "3", "1e-2"])


@settings(max_examples=150, deadline=None)
@given(st.recursive(LEAVES, grow, max_leaves=8))
def test_expressions_mean_what_they_mean_in_python(text):
    with double_precision():
        values = {name: jnp.asarray(x) for name, x in NAMES.items()}
        found = float(parse_expression(text, NAMES)(values))
    try:
        expected = eval(text, {"__builtins__": {}}, PYTHON | NAMES)
    except (ZeroDivisionError, OverflowError, ValueError):
        return
    scale = max(1.0, abs(expected))
    # Some tens of operations; a tangent near its pole is as steep as its square.
    steep = scale**2 if "tan(" in text or "**" in text else scale
    assert abs(found - expected) <= 1e-12 * steep, (found, expected)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_function_is_the_one_of_its_name(name):
    count, _ = FUNCTIONS[name]
    text = f"{name}({'x > 0.5, ' if name == 'where' else ''}x, t)"
    text = f"{name}(x)" if count == 1 else text
    with double_precision():
        found = parse_expression(text, NAMES)(
            {k: jnp.asarray(v) for k, v in NAMES.items()}
        )
    assert float(found) == pytest.approx(eval(text, PYTHON | NAMES), rel=1e-14)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("__import__('os').system('true')", "not understood"),
        ("x.real", "not understood"),
        ("x[0]", "not understood"),
        ("(lambda: x)()", "not understood"),
        ("[x for x in (1, 2)]", "not understood"),
        ("'text'", "not understood"),
        ("f'{x}'", "not understood"),
        ("True", "not understood"),
        ("1j", "not understood"),
        ("x if x > 0 else t", "not understood"),
        ("x > 0", "not understood"),
        ("x @ x", "not understood"),
        ("sin(x, out=t)", "not understood"),
        ("sin(*x)", "not understood"),
        ("(y := x)", "not understood"),
        ("where(x, 1, 2)", "no condition"),
        ("where(0 < x < 1, 1, 2)", "no condition"),
        ("open(x)", "function 'open' is not known"),
        ("z + 1", "name 'z' is not known; there are x"),
        ("sin", "lacks its arguments"),
        ("sin(x, x)", "has 2 arguments, and takes 1"),
        ("x +", "no arithmetic expression"),
        ("", "no arithmetic expression"),
        ("x; t", "no arithmetic expression"),
        ("x" + "+x" * 6000, "characters long"),
        ("(" * 3000 + "x" + ")" * 3000, "nested too deeply|no arithmetic"),
        ("-" * 9000 + "x", "nested too deeply"),
    ],
)
def test_nothing_else_is_evaluated(text, match):
    with pytest.raises(ValueError, match=match):
        parse_expression(text, NAMES)


LORENZ = """
kind = "ode"
t0 = 0.0
t1 = 2.0
stiff = true
[y0]
x = 1.0
y = 1
z = 1.0
[parameters]
sigma = 10
rho = 28.0
[field]
x = "sigma * (y - x)"
y = "x * (rho - z) - y"
z = "x*y - 8/3*z"
"""


def write(tmp_path, text):
    file = tmp_path / "own.toml"
    file.write_text(text)
    return file


def test_a_field_of_expressions_is_the_field(tmp_path):
    made = load_problem(write(tmp_path, LORENZ))
    assert (made.name, made.components, made.stiff) == ("own", ("x", "y", "z"), True)

    def lorenz(t, y, args):
        return jnp.stack(
            [10 * (y[1] - y[0]), y[0] * (28 - y[2]) - y[1], y[0] * y[1] - 8 / 3 * y[2]]
        )

    with double_precision():
        other = ODEProblem(lorenz, np.ones(3), 0.0, 2.0)
        own, known = (solve(p, rtol=1e-6, atol=1e-6) for p in (made.problem, other))
        # A difference of a rounding grows by a hundred or less.
        np.testing.assert_allclose(own.end_state, known.end_state, rtol=1e-11)
        # Parameters are arguments: others need no new field.
        args = made.problem.args | {"rho": jnp.asarray(0.5)}
        value = made.problem.field(0.0, jnp.ones(3), args)
        np.testing.assert_allclose(value, [0.0, -1.5, -5 / 3], rtol=1e-15)
    assert pickle.loads(pickle.dumps(made)).components == made.components


@pytest.mark.julia
def test_a_field_of_expressions_is_lowered(tmp_path, julia):
    made = load_problem(write(tmp_path, LORENZ))
    with double_precision():
        here, there = (
            solve(made.problem, backend, rtol=1e-10, atol=1e-10).end_state
            for backend in ("diffrax", "julia")
        )
    np.testing.assert_allclose(here, there, rtol=1e-6)


def test_constraints_and_noise(tmp_path):
    text = """
kind = "dae"
t0 = 0.0
t1 = 1.0
mass_diagonal = [1.0, 0.0]
[y0]
a = 1.0
b = 0.0
[field]
a = "-a"
b = "a + b - 1"
"""
    problem = load_problem(write(tmp_path, text)).problem
    np.testing.assert_array_equal(problem.mass_matrix, [[1.0, 0.0], [0.0, 0.0]])
    text = """
kind = "sde"
t0 = 0.0
t1 = 1.0
noise = "general"
interpretation = "stratonovich"
[y0]
a = 1.0
b = 2.0
[drift]
a = "-a*t"
b = "a"
[diffusion]
a = ["b", "0.1", "t"]
b = ["0", "a*b", "1"]
"""
    problem = load_problem(write(tmp_path, text)).problem
    assert problem.interpretation == "stratonovich"
    y = jnp.array([3.0, 5.0])
    found = problem.diffusion(2.0, y, problem.args)
    np.testing.assert_array_equal(
        found, [[5.0, np.asarray(0.1, y.dtype), 2.0], [0, 15, 1]]
    )
    np.testing.assert_array_equal(problem.drift(2.0, y, problem.args), [-6.0, 3.0])


def test_a_field_of_the_package_needs_no_reference(tmp_path):
    text = """
kind = "ode"
field = "lorenz"
t0 = 0.0
t1 = 1.0
y0 = [1.0, 2.0, 3.0]
[parameters]
sigma = 10.0
rho = 28.0
beta = 2.5
"""
    problem = load_problem(write(tmp_path, text)).problem
    y = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(
        problem.field(0.0, jnp.asarray(y), None), [10.0, 23.0, -5.5], rtol=1e-6
    )
    assert load_problem("lorenz63").fixture is not None


FAULTS = {
    'x = "sigma * (y - x)"\n': ('x = "sigma * (y - w)"\n', r"`field\.x`: the name 'w'"),
    'z = "x*y - 8/3*z"\n': ("", r"\[field\] must have .* it lacks z"),
    "z = 1.0\n[": ('z = 1.0\nt = "2"\n[', r"`y0\.t`: 't' is no name"),
    "rho = 28.0\n": ("rho = 28.0\nx = 1.0\n", "x stand both in"),
    "sigma = 10\n": ("sigma = 10\nexp = 1.0\n", r"`parameters\.exp`: 'exp' is no name"),
    "rho = 28.0": ('rho = "28"', r"`parameters\.rho` must be a number"),
    "t1 = 2.0": ("t1 = 0.0", "`t1` must differ"),
    "stiff = true": ("stif = true", "`stif` mean nothing"),
    "stiff = ": (
        "mass_diagonal = [1.0, 1.0, 0.0]\nstiff = ",
        'belongs to `kind = "dae"',
    ),
    'kind = "ode"': ('kind = "pde"', "`kind` must be one of"),
    "y = 1\n": ("y = nan\n", r"`y0\.y` must be a finite number"),
    'y = "x * (rho - z) - y"': ("y = 3", r"`field\.y` must be a text"),
    'z = "x*y': ('z = ["x", "y"]\n#', r"`field\.x` must be a list of texts"),
}


@pytest.mark.parametrize("old", FAULTS)
def test_what_is_wrong_is_named_with_its_file(tmp_path, old):
    new, match = FAULTS[old]
    assert old in LORENZ
    file = write(tmp_path, LORENZ.replace(old, new, 1))
    with pytest.raises(ValueError, match=match) as error:
        load_problem(file)
    assert str(file) in str(error.value)


def test_derivatives_pass_through(tmp_path):
    made = load_problem(write(tmp_path, LORENZ)).problem
    with double_precision():
        jacobian = jax.jacfwd(lambda y: made.field(0.0, y, made.args))(jnp.ones(3))
    expected = [[-10.0, 10.0, 0.0], [27.0, -1.0, -1.0], [1.0, 1.0, -8 / 3]]
    np.testing.assert_allclose(jacobian, expected, rtol=1e-15)
