"""The fixtures: well formed, and right by means other than those that made them."""

import os
import re
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special

from hybrid_nds.reconcile import list_fixtures, load_fixture, sensitivity
from hybrid_nds.reconcile._fields import FIELDS, SphereAttention
from hybrid_nds.reconcile._observables import OBSERVABLES

MAKE = Path(__file__).parents[1] / "fixtures" / "make"
sys.path.insert(0, str(MAKE))

import atomic  # noqa: E402
import elliptic  # noqa: E402
import extrapolation  # noqa: E402
import field_values  # noqa: E402
import growth  # noqa: E402
import plain_fields  # noqa: E402
import references  # noqa: E402

NAMES = list_fixtures("ode")
REQUIRED = {
    *("robertson", "robertson_long", "hires", "orego", "vdpol", "vdpol_1e6", "pollu"),
    *("prothero_robinson", "brusselator_1d", "pleiades", "lorenz63", "pendulum"),
    *("neural_ode", "attention"),
}

# An evaluation whose longest chain has k roundings is off by at most k u m, with
# u = 2⁻⁵³ and m the magnitude in the table. The longest chain is that of the
# 2-32-32-2 network: two sums of 32 terms and one of 2, and a few besides.
ROUNDINGS = 80


def field_error(field, fixture):
    """The largest error of a field at the tabulated points, in units of its limit."""
    n = fixture.problem.dimension
    lines = (fixture.path / "field.csv").read_text(encoding="utf-8").splitlines()
    rows = [line.split(",") for line in lines if not line.startswith("#")][1:]
    table = np.array(rows, float)
    assert table.shape[1] == 3 * n + 1
    worst = 0.0
    for t, *row in table:
        y, value, magnitude = np.split(np.array(row), 3)
        state = jnp.asarray(y.reshape(fixture.problem.y0.shape))
        f = field(jnp.asarray(t), state, None)
        limit = ROUNDINGS * 2**-53 * magnitude + np.finfo(float).tiny
        worst = max(worst, np.max(np.abs(np.ravel(f) - value) / limit))
    return worst


def test_every_problem_asked_for_is_there():
    assert set(NAMES) >= REQUIRED


@pytest.mark.parametrize("name", NAMES)
def test_loads_in_double_precision_whatever_the_global_flag(name):
    with jax.enable_x64(False):
        fixture = load_fixture(name)
        assert jnp.zeros(1).dtype == jnp.float32
    problem = fixture.problem
    assert fixture.name == name
    arrays = [leaf for leaf in jax.tree.leaves(problem) if isinstance(leaf, jax.Array)]
    assert {array.dtype for array in arrays} == {np.dtype("float64")}
    assert not any(array.weak_type for array in arrays)
    assert fixture.reference.ts[0] > problem.t0
    assert fixture.reference.ts[-1] == problem.t1
    assert fixture.settings.observables
    assert np.all(np.diff(fixture.settings.rtols) < 0)


@pytest.mark.parametrize("name", NAMES)
def test_field_meets_the_tabulated_one(name):
    fixture = load_fixture(name)
    assert field_error(fixture.problem.field, fixture) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_a_coefficient_off_by_1e_minus_8_is_seen(name):
    fixture = load_fixture(name)
    leaves, treedef = jax.tree.flatten(fixture.problem.field)
    # Each array in turn; activation functions are leaves too.
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, jax.Array):
            wrong = [*leaves]
            wrong[i] = leaf * (1 + 1e-8)
            assert field_error(jax.tree.unflatten(treedef, wrong), fixture) > 1


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_those_their_scripts_make(name):
    stored = (references.ROOT / name / "field.csv").read_text(encoding="utf-8")
    if np.finfo(np.longdouble).nmant != 63:
        pytest.skip("the table was made with the 80-bit type, which is not here")
    numbers = [
        [
            [float(entry) for entry in line.split(",")]
            for line in text.splitlines()
            if not line.startswith(("#", "t"))
        ]
        for text in (stored, field_values.tabulate(name))
    ]
    # Magnitudes have four digits; other C libraries may round functions otherwise.
    np.testing.assert_allclose(numbers[0], numbers[1], rtol=2e-3, atol=1e-300)


# Published end values to the digits printed, copied from the publications and not
# from the files: Hairer & Wanner's test set (robertson, hires, orego, vdpol_1e6) and
# the Bari test set (vdpol, pollu, pleiades). Their own errors are below 3e-13.
PUBLISHED = {
    "robertson": (
        1e5,
        [0.1786592114209946e-01, 0.7274751468436319e-07, 0.9821340061103859e00],
    ),
    "robertson_long": (
        1e11,
        [0.2083340149701284e-07, 0.8333360770334744e-13, 0.9999999791665152e00],
    ),
    "hires": (
        421.8122,
        [
            *(0.000670305503581864, 0.000130996846986347, 0.000046862231597733),
            *(0.001044668020551705, 0.000594883830951485, 0.001399628833942774),
            *(0.001014492757718480, 0.004685507242281520),
        ],
    ),
    "orego": (
        360.0,
        [0.1000814870318523e01, 0.1228178521549889e04, 0.1320554942846513e03],
    ),
    "vdpol": (2000.0, [0.1706167732170469e1, -0.8928097010248125e-3]),
    "vdpol_1e6": (11.0, [-0.1590150544829062e01, 0.1040279389212485e01]),
    "pollu": (
        60.0,
        [
            *(0.5646255480022769e-01, 0.1342484130422339, 0.4139734331099427e-08),
            *(0.5523140207484359e-02, 0.2018977262302196e-06, 0.1464541863493966e-06),
            *(0.7784249118997964e-01, 0.3245075353396018, 0.7494013383880406e-02),
            *(0.1622293157301561e-07, 0.1135863833257075e-07, 0.2230505975721359e-02),
            *(0.2087162882798630e-03, 0.1396921016840158e-04, 0.8964884856898295e-02),
            *(0.4352846369330103e-17, 0.6899219696263405e-02, 0.1007803037365946e-03),
            *(0.1772146513969984e-05, 0.5682943292316392e-04),
        ],
    ),
    "pleiades": (
        3.0,
        [
            *(0.3706139143970502, 3.237284092057233, -3.222559032418324),
            *(0.6597091455775310, 0.3425581707156584, 1.562172101400631),
            *(-0.7003092922212495, -3.943437585517392, -3.271380973972550),
            *(5.225081843456543, -2.590612434977470, 1.198213693392275),
            *(-0.2429682344935824, 1.091449240428980, 3.417003806314313),
            *(1.354584501625501, -2.590065597810775, 2.025053734714242),
            *(-1.155815100160448, -0.8072988170223021, 0.5952396354208710),
            *(-3.741244961234010, 0.3773459685750630, 0.9386858869551073),
            *(0.3667922227200571, -0.3474046353808490, 2.344915448180937),
            -1.947020434263292,
        ],
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_reference_ends_at_the_published_values(name):
    t, published = PUBLISHED[name]
    reference = load_fixture(name).reference
    assert reference.ts[-1] == t
    np.testing.assert_allclose(reference.ys[-1], published, rtol=3e-13, atol=0)


def scipy_error(name, rtol, parameters=None):
    """How far SciPy's solution of the plain field is from the reference."""
    spec = references.load(name)
    field = plain_fields.FIELDS[spec["field"]]
    parameters = spec["parameters"] if parameters is None else parameters
    ts, states = references.stored(name)
    solution = scipy.integrate.solve_ivp(
        lambda t, y: field(t, y, parameters),
        (spec["t0"], ts[-1]),
        spec["y0"],
        method="Radau" if spec["stiff"] else "DOP853",
        t_eval=ts,
        rtol=rtol,
        atol=rtol * np.broadcast_to(spec["tolerances"]["scale"], len(spec["y0"])),
    )
    assert solution.success
    return references.difference(solution.y.T, states.astype(float), spec)


# The closed forms are checked for themselves below.
@pytest.mark.parametrize("name", sorted(set(NAMES) - set(references.CLOSED_FORMS)))
def test_reference_is_where_another_solver_goes(name):
    # Local errors of rtol add up over the steps and grow with the flow: by less than
    # ten for the stiff problems, whose flows contract; for Pleiades' quasi-collisions,
    # Lorenz' chaos (e^{0.906·10} ≈ 10⁴) and the rest by less than 10⁴.
    stiff = load_fixture(name).stiff
    rtol, growth = (1e-7, 10) if stiff else (1e-11, 1e4)
    assert scipy_error(name, rtol) <= growth * rtol


def test_another_problem_is_not_where_the_reference_is():
    parameters = references.load("robertson")["parameters"]
    parameters["k2"] *= 1 + 1e-4
    assert scipy_error("robertson", 1e-7, parameters) > 10 * 1e-7


@pytest.mark.parametrize("name", ["lorenz63", "neural_ode", "pleiades"])
def test_reference_is_where_extrapolation_goes(name):
    # Looser than the run that made it, so that the test is quick: local errors of
    # 1e-14, grown by at most 10⁴ as above.
    spec = references.load(name)
    field, parameters = plain_fields.FIELDS[spec["field"]], spec["parameters"]
    ts, states = references.stored(name)
    ys = extrapolation.solve(
        lambda t, y: field(t, y, parameters), spec["y0"], spec["t0"], ts, 1e-14
    )
    assert references.difference(ys, states, spec) <= 1e-10


def test_prothero_robinson_is_the_cosine():
    reference = load_fixture("prothero_robinson").reference
    np.testing.assert_allclose(
        reference.ys[:, 0], np.cos(reference.ts), rtol=1e-15, atol=1e-16
    )


def test_pendulum_is_scipys_elliptic_one():
    fixture = load_fixture("pendulum")
    gravity = fixture.parameters["gravity"]
    sn, cn, dn, _ = scipy.special.ellipj(np.sqrt(gravity) * fixture.reference.ts, 0.5)
    angle = 2 * np.arcsin(np.sqrt(0.5) * cn / dn)
    rate = -np.sqrt(gravity) * sn / dn
    expected = np.stack(
        [
            np.sin(angle),
            -np.cos(angle),
            np.cos(angle) * rate,
            np.sin(angle) * rate,
            rate**2 + gravity * np.cos(angle),
        ],
        axis=1,
    )
    # The argument reaches 12.5, its rounding 2e-15, and λ changes at the rate of 100.
    np.testing.assert_allclose(fixture.reference.ys, expected, rtol=0, atol=1e-12)


def test_pendulum_reference_solves_the_algebraic_equation():
    fixture = load_fixture("pendulum")
    for t, y in zip(fixture.reference.ts, fixture.reference.ys, strict=True):
        f = fixture.problem.field(t, jnp.asarray(y), None)
        # Its terms are at most 30: a few roundings of that.
        assert abs(f[4]) <= 1e-14 * 30


@pytest.mark.parametrize("name", NAMES)
def test_reference_keeps_the_invariants(name):
    fixture = load_fixture(name)
    ys = fixture.reference.ys.reshape(-1, *fixture.problem.y0.shape)
    known = [o for o in fixture.settings.observables if o.expected is not None]
    for observable in known:
        value = observable.function(fixture.reference.ts, ys)
        # Sums of terms of up to 50, each right to 1e-15 and a rounding.
        assert abs(value - observable.expected) <= 50 * 1e-15 * max(
            1, abs(observable.expected)
        )
        # Each can fail: it moves with the states.
        assert sensitivity(
            observable.function, fixture.reference.ts, ys, fixture.settings.scale
        )


def test_initial_states_are_those_of_their_formulas():
    brusselator = load_fixture("brusselator_1d").problem.y0
    x = np.arange(1, 65) / 65
    np.testing.assert_allclose(
        brusselator, [1 + np.sin(2 * np.pi * x) / 2, 3 + 0 * x], rtol=1e-15
    )
    tokens = load_fixture("attention").problem.y0
    i = np.arange(8)
    height, longitude = 0.9 - 1.2 * i / 7, i * np.pi * (3 - np.sqrt(5))
    flat = np.sqrt(1 - height**2)
    expected = [flat * np.cos(longitude), flat * np.sin(longitude), height]
    np.testing.assert_allclose(tokens, np.transpose(expected), atol=5e-15)
    np.testing.assert_allclose(np.linalg.norm(tokens, axis=1), 1, rtol=1e-15)


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.9])
def test_attention_from_equal_angles_follows_the_scalar_equation(angle):
    # Tokens that all meet at the same inner product γ keep it common, and
    # γ̇ = 2 e^{βγ}(1 − γ)((n − 1)γ + 1)/(e^β + (n − 1)e^{βγ}).
    n, beta = 4, 3.0
    gram = np.full((n, n), angle) + (1 - angle) * np.eye(n)
    tokens = jnp.asarray(np.linalg.cholesky(gram))
    velocity = SphereAttention(jnp.asarray(beta))(0.0, tokens, None)
    rates = velocity @ tokens.T + tokens @ velocity.T
    pull = np.exp(beta * angle)
    expected = (
        2 * pull * (1 - angle) * ((n - 1) * angle + 1) / (np.exp(beta) + 3 * pull)
    )
    np.testing.assert_allclose(rates[~np.eye(n, dtype=bool)], expected, rtol=1e-13)
    np.testing.assert_allclose(np.diag(rates), 0, atol=1e-15)


@pytest.mark.parametrize("u", [0.1, 1.0, 5.0, 12.3])
@pytest.mark.parametrize("k", [0.2, 0.5**0.5, 0.99])
def test_elliptic_functions_are_scipys(u, k):
    # SciPy's are in double precision, with the argument's rounding u·ε magnified by
    # derivatives of up to one.
    values = [float(value) for value in elliptic.jacobi(u, k)]
    expected = scipy.special.ellipj(u, k**2)[:3]
    np.testing.assert_allclose(values, expected, atol=1e-13)
    quarter = elliptic.quarter_period(k)
    np.testing.assert_allclose(float(quarter), scipy.special.ellipk(k**2), rtol=1e-14)


def test_a_write_cut_off_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "reference.csv"
    atomic.write_atomically(target, "old")

    def cut_off(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", cut_off)
    with pytest.raises(KeyboardInterrupt):
        atomic.write_atomically(target, "new")
    assert target.read_text(encoding="utf-8") == "old"
    assert os.listdir(tmp_path) == ["reference.csv"]


def edited(tmp_path, file, old, new, name="lorenz63"):
    """A copy of a fixture with one piece of one file replaced."""
    folder = tmp_path / name
    shutil.copytree(load_fixture(name).path, folder)
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new), encoding="utf-8")
    return folder


def test_a_folder_of_ones_own_is_a_fixture(tmp_path):
    folder = edited(tmp_path, "problem.toml", "rho = 28.0", "rho = 27.0")
    for path in (folder, str(folder), folder / "problem.toml"):
        fixture = load_fixture(path)
        assert fixture.problem.field.rho == 27.0
        assert fixture.path == folder


def test_an_unknown_fixture_lists_those_there_are():
    with pytest.raises(FileNotFoundError, match=r"'robertsen'.*hires.*robertson"):
        load_fixture("robertsen")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("problem.toml", "t0 = 0.0", "t0 = ", "not valid TOML"),
        ("problem.toml", "t0 = 0.0", "", "lacks `t0`"),
        ("problem.toml", '"lorenz"', '"lorentz"', "`field` must be one of.*'lorentz'"),
        ("problem.toml", '"ode"', '"pde"', "`kind` must be one of ode, dae"),
        ("problem.toml", "rho = 28.0", "", r"must hold `rho`; it holds .*'beta'"),
        ("problem.toml", "[1.0, 1.0, 1.0]", "[[1.0], [1.0]]", "`y0` must be a flat"),
        ("problem.toml", "y0 =", "shape = [2, 2]\ny0 =", "the 4 numbers"),
        ("problem.toml", "[1.0, 1.0, 1.0]", "[1.0, nan, 1.0]", "finite"),
        ("problem.toml", "y0 =", "mass_diagonal = [1]\ny0 =", "belongs to"),
        ("problem.toml", "scale = 1.0", "scale = [1.0]", "`tolerances.scale`"),
        ("problem.toml", "scale = 1.0", "scale = -1.0", "none negative"),
        (
            "problem.toml",
            '"computed"',
            '"guessed"',
            "reference.kind. must be one of published",
        ),
        ("problem.toml", '"end"', '"beginning"', "must be one of bodies_energy"),
        ("problem.toml", "component = 2", "komponent = 2", "observable `end`.*kompo"),
        ("reference.csv", "t,y1,y2,y3", "t,y1,y2", "as many as reference.csv has"),
        ("reference.csv", "\n2.0,", "\n2.0,0.0,", "must hold 4 numbers"),
        ("reference.csv", "\n2.0,", "\n0.5,", "times increasing"),
        ("reference.csv", "\n2.0,", "\nnan,", "must be finite"),
    ],
)
def test_a_malformed_fixture_says_what_is_wrong(tmp_path, file, old, new, message):
    folder = edited(tmp_path, file, old, new)
    with pytest.raises(ValueError, match=message) as error:
        load_fixture(folder)
    assert re.search(re.escape(str(folder)), str(error.value))


def test_layers_that_do_not_chain_are_refused():
    layers = [{"weight": [[1.0, 2.0]], "bias": [0.0]}] * 2
    with pytest.raises(ValueError, match="`layers` must chain"):
        FIELDS["neural"]({"layers": layers})


def test_sensitivity_is_that_of_the_closed_form():
    # The sum of components moves by Σ (|y| + scale); their norm has a kink at zero and
    # moves by the scales.
    ts, scale = np.array([1.0, 2.0]), np.array([0.5, 2.0])
    ys = np.array([[3.0, -4.0], [1.0, -6.0]])
    total = sensitivity(OBSERVABLES["sum"]({}, components=[0, 1]), ts, ys, scale)
    np.testing.assert_allclose(total, 1.5 + 8.0, rtol=1e-9)
    norm = sensitivity(OBSERVABLES["norm"]({}), ts, 0 * ys, scale)
    np.testing.assert_allclose(norm, 2.5, rtol=1e-9)


@pytest.mark.parametrize("name", ["lorenz63", "neural_ode", "vdpol"])
def test_growth_is_no_less_than_measured(name):
    # A number of one digit: errors of 1e-7, a thousandth of the moves, are enough.
    found = growth.growth(name, stiff_rtol=1e-7)
    assert found <= load_fixture(name).settings.growth
