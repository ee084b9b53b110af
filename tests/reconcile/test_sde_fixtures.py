"""The stochastic fixtures: right by means other than those that made them."""

import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from hybrid_nds.noise import StoredPath
from hybrid_nds.reconcile import list_fixtures, load_fixture

MAKE = Path(__file__).parents[1] / "fixtures" / "make"
sys.path.insert(0, str(MAKE))

import field_values  # noqa: E402
import plain_paths  # noqa: E402
import plain_stochastic  # noqa: E402
import references  # noqa: E402
import stochastic_schemes  # noqa: E402
import strong_solutions  # noqa: E402

NAMES = list_fixtures("sde")
REQUIRED = {
    *("gbm", "ornstein_uhlenbeck", "arctan", "additive_time", "linear_commutative"),
    *("linear_noncommutative", "lotka_volterra", "double_well", "kubo"),
    *("stiff_linear", "underdamped_langevin", "neural_sde"),
}
# As for ordinary fields (test_fixtures.py): no chain of roundings here is longer.
ROUNDINGS = 80


def field_error(field, fixture, part):
    """The largest error of a field at the tabulated points, in units of its limit."""
    n = fixture.problem.dimension
    table = np.loadtxt(fixture.path / f"{part}.csv", delimiter=",", skiprows=3)
    count = (table.shape[1] - 1 - n) // 2
    worst = 0.0
    for t, *row in table:
        y, value, magnitude = np.split(np.array(row), [n, n + count])
        f = np.ravel(field(jnp.asarray(t), jnp.asarray(y), None))
        limit = ROUNDINGS * 2**-53 * magnitude + np.finfo(float).tiny
        worst = max(worst, np.max(np.abs(f - value) / limit))
    return worst


def test_every_problem_asked_for_is_there():
    assert set(NAMES) >= REQUIRED
    noises = {load_fixture(name).problem.noise for name in NAMES}
    assert noises == {"additive", "scalar", "diagonal", "commutative", "general"}
    assert set(list_fixtures()) == {*NAMES, *list_fixtures("ode")}


@pytest.mark.parametrize("name", NAMES)
def test_loads_in_double_precision_whatever_the_global_flag(name):
    with jax.enable_x64(False):
        fixture = load_fixture(name)
    problem, strong = fixture.problem, fixture.strong
    assert fixture.name == name
    arrays = [leaf for leaf in jax.tree.leaves(problem) if isinstance(leaf, jax.Array)]
    assert {array.dtype for array in arrays} == {np.dtype("float64")}
    m, n = problem.noise_dimension, problem.dimension
    assert strong.increments.shape == strong.areas.shape == (128, 512, m)
    assert strong.states.shape == (128, len(strong.times), n)
    assert strong.times[-1] == problem.t1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", ["drift", "diffusion"])
def test_fields_meet_the_tabulated_ones(name, part):
    fixture = load_fixture(name)
    field = getattr(fixture.problem, part)
    assert field_error(field, fixture, part) <= 1
    # It can fail: each coefficient off by 1e-8 in turn.
    leaves, treedef = jax.tree.flatten(field)
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, jax.Array):
            wrong = [*leaves]
            wrong[i] = leaf * (1 + 1e-8)
            assert field_error(jax.tree.unflatten(treedef, wrong), fixture, part) > 1


def test_increments_are_those_of_brownian_motion():
    w, h = plain_paths.read(2, 1.0)
    root = np.sqrt(1 / plain_paths.STEPS)
    columns = [*(w / root).reshape(-1, 2).T, *(h * np.sqrt(12) / root).reshape(-1, 2).T]
    # Ten tests, each at level 1e-4: together at 1e-3.
    for column in columns:
        assert scipy.stats.kstest(column, "norm").pvalue > 1e-4
    correlations = np.corrcoef(columns)[np.triu_indices(4, 1)]
    bound = scipy.stats.norm.isf(0.5e-4) / np.sqrt(len(columns[0]))
    assert np.max(np.abs(correlations)) < bound


@pytest.mark.parametrize("steps", [256, 64, 4])
def test_python_reads_the_paths_as_the_scripts_do(steps):
    fixture = load_fixture("linear_commutative")
    w, h = plain_paths.read(2, 1.0, steps)
    path = fixture.stored_path(5, steps)
    assert isinstance(path, StoredPath)
    np.testing.assert_array_equal(path.increments()[0], w[5])
    np.testing.assert_array_equal(path.increments()[1], h[5])


@pytest.mark.parametrize("name", plain_stochastic.CLOSED_FORMS)
def test_closed_forms_solve_their_equations(name):
    # Along X(t, w): ∂X/∂wⱼ = gⱼ, and ∂X/∂t + ½ΣΔX = f by Itô's formula; without the
    # second derivatives by Stratonovich's.
    spec = references.load(name)
    form, p = plain_stochastic.CLOSED_FORMS[name], spec["parameters"]
    y0 = np.array(spec["y0"], np.longdouble)
    m = strong_solutions.motions(spec)
    w = np.array([0.3, -0.4], np.longdouble)[:m]
    t, step = np.longdouble(spec["t1"]) * 0.7, np.longdouble(1e-4)

    def at(dt=0.0, dw=0.0):
        return form(t + dt, w + dw, y0, p)

    y = at()
    drift = (at(dt=step * t) - at(dt=-step * t)) / (2 * step * t)
    g = np.reshape(plain_stochastic.DIFFUSIONS[spec["field"]](t, y, p), (len(y), -1))
    if m > 1 and g.shape[1] == 1:
        g = np.diag(g[:, 0])
    for j in range(m):
        e = step * np.eye(m, dtype=np.longdouble)[j]
        up, down = at(dw=e), at(dw=-e)
        # Differences of order two: 1e-8 times third derivatives, b³ ≤ 1e3.
        np.testing.assert_allclose(
            ((up - down) / (2 * step)).astype(float), g[:, j].astype(float), rtol=1e-5
        )
        if spec["interpretation"] == "ito":
            drift = drift + (up - 2 * y + down) / (2 * step**2)
    f = plain_stochastic.DRIFTS[spec["field"]](t, y, p)
    np.testing.assert_allclose(drift.astype(float), f.astype(float), rtol=1e-5)


# Values at (t, w) to 18 digits, evaluated from the textbook's formulas apart from here.
def test_closed_forms_meet_known_values():
    p = {"a": 1.01, "b": 0.87}
    y0 = np.array([0.5])
    ito = plain_stochastic.geometric_ito(1.0, np.array([0.7]), y0, p)
    np.testing.assert_allclose(ito, 1.72875728746283304, rtol=1e-15)
    other = plain_stochastic.geometric_stratonovich(1.0, np.array([0.7]), y0, p)
    np.testing.assert_allclose(other, 2.5240198759752452, rtol=1e-15)
    wave = plain_stochastic.arctan(0.5, np.array([-0.3]), np.array([1.0]), {"a": 0.1})
    np.testing.assert_allclose(wave, 0.991121332433719736, rtol=1e-15)


@pytest.mark.parametrize("name", plain_stochastic.CLOSED_FORMS)
def test_stored_solutions_are_the_closed_forms(name):
    spec = references.load(name)
    gap = strong_solutions.distance(
        strong_solutions.closed(name, spec).astype(float),
        strong_solutions.stored(name),
        spec,
    )
    assert np.max(gap) <= spec["strong"]["accuracy"]


@pytest.mark.parametrize(
    "name", sorted(set(NAMES) - set(plain_stochastic.CLOSED_FORMS))
)
def test_euler_maruyama_nears_the_computed_solutions(name):
    # An independent method of order one half or one: a sixteenth of the step has at
    # most 0.4 of the error.
    spec = references.load(name)
    p, field = spec["parameters"], spec["field"]
    reference = strong_solutions.stored(name)[:16]
    errors = []
    for steps in (32, 512):
        w, _ = plain_paths.read(strong_solutions.motions(spec), 1.0, steps)

        def step(drift, diffusion, t, y, h, w, area):
            g = diffusion(t, y)
            return y + h * drift(t, y) + (g @ w if g.ndim == 2 else g * w)

        states = [
            stochastic_schemes.follow(
                step,
                lambda t, y: plain_stochastic.DRIFTS[field](t, y, p),
                lambda t, y: plain_stochastic.DIFFUSIONS[field](t, y, p),
                *(0.0, 1.0, np.array(spec["y0"]), path, path, 4),
            )
            for path in w[:16]
        ]
        errors.append(np.mean(np.abs(np.array(states) - reference)))
    assert errors[1] < 0.4 * errors[0]


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("gbm", stochastic_schemes.sri1w1), ("additive_time", stochastic_schemes.sra1)],
)
def test_the_schemes_of_the_scripts_have_their_order(name, scheme):
    spec = references.load(name)
    p, field = spec["parameters"], spec["field"]
    truth = strong_solutions.stored(name)
    errors = []
    for steps in (16, 128):
        w, h = plain_paths.read(strong_solutions.motions(spec), 1.0, steps)
        states = [
            stochastic_schemes.follow(
                scheme,
                lambda t, y: plain_stochastic.DRIFTS[field](t, y, p),
                lambda t, y: plain_stochastic.DIFFUSIONS[field](t, y, p),
                *(0.0, 1.0, np.array(spec["y0"]), w[i], h[i], 4),
            )
            for i in range(64)
        ]
        errors.append(np.mean(np.abs(np.array(states) - truth[:64])))
    # Eight times shorter steps at order 1.5 or more: 22.6; at order one, 8.
    assert errors[0] / errors[1] > 15


def linear_moments(fixture):
    """First and second moments of dX = (AX + c) dt + Σ (BⱼX + dⱼ) dWⱼ by the matrix
    exponential of the equations that they follow together."""
    problem = fixture.problem
    n, zero = problem.dimension, jnp.zeros(problem.dimension)
    drift, g = problem.flat_drift(), problem.flat_diffusion()

    def columns(u):
        value = g(0.0, u)
        if problem.matrix_noise:
            return value
        if problem.noise in ("diagonal", "additive"):
            return jnp.diag(value)
        return value[:, None]

    a, c = np.asarray(jax.jacfwd(drift, 1)(0.0, zero)), np.asarray(drift(0.0, zero))
    b = np.moveaxis(np.asarray(jax.jacfwd(columns)(zero)), 1, 0)
    d = np.asarray(columns(zero)).T
    if problem.interpretation == "stratonovich":
        a = a + 0.5 * np.einsum("jik,jkl->il", b, b)
    eye = np.eye(n)
    second = np.kron(a, eye) + np.kron(eye, a) + sum(np.kron(x, x) for x in b)
    mixed = np.kron(c[:, None], eye) + np.kron(eye, c[:, None])
    mixed += sum(
        np.kron(x, y[:, None]) + np.kron(y[:, None], x)
        for x, y in zip(b, d, strict=True)
    )
    constant = sum(np.kron(y, y) for y in d)
    size = n * n + n + 1
    generator = np.zeros((size, size))
    generator[: n * n] = np.hstack([second, mixed, constant[:, None]])
    generator[n * n : -1] = np.hstack([np.zeros((n, n * n)), a, c[:, None]])
    y0 = np.asarray(problem.y0)
    start = np.concatenate([np.kron(y0, y0), y0, [1.0]])
    end = scipy.linalg.expm(generator * fixture.law.t1) @ start
    return end[n * n : -1], end[: n * n].reshape(n, n)


LINEAR = (
    *("gbm", "gbm_stratonovich", "kubo", "linear_commutative", "linear_noncommutative"),
    *("ornstein_uhlenbeck", "stiff_linear", "underdamped_langevin"),
)


@pytest.mark.parametrize("name", LINEAR)
def test_moments_of_linear_problems_follow_their_equations(name):
    fixture = load_fixture(name)
    mean, second = linear_moments(fixture)
    assert len(fixture.law.moments) >= 2
    for moment in fixture.law.moments:
        places = np.repeat(np.arange(len(moment.powers)), moment.powers)
        expected = mean[places[0]] if len(places) == 1 else second[tuple(places)]
        # Matrix exponentials of norms up to ten in double precision.
        np.testing.assert_allclose(moment.value, expected, rtol=1e-11, atol=1e-13)


def values(name):
    return {m.powers: m.value for m in load_fixture(name).law.moments}


def test_moments_of_the_other_problems_keep_their_identities():
    # Gauss and Hermite's quadrature, where the fixture took an adaptive one.
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / np.sum(weights)
    arctan = np.arctan(0.1 * nodes + np.tan(1.0))
    for power in (1, 2):
        np.testing.assert_allclose(
            values("arctan")[power,], weights @ arctan**power, rtol=1e-13
        )
    # Stationary: the mean of the generator of x² vanishes, 2E[x² − x⁴] + σ².
    well = values("double_well")
    np.testing.assert_allclose(2 * (well[2,] - well[4,]) + 1, 0, atol=1e-14)
    x = np.linspace(-6, 6, 4001)
    density = np.exp(x**2 - x**4 / 2)
    np.testing.assert_allclose(
        well[2,], np.sum(x**2 * density) / np.sum(density), rtol=1e-13
    )
    # Of log x and log y: α − βEy − μEx = σ²/2 and −γ + δEx − νEy = ρ²/2.
    prey = values("lotka_volterra")
    p = load_fixture("lotka_volterra").parameters
    x, y = prey[1, 0], prey[0, 1]
    growth = p["alpha"] - p["beta"] * y - p["mu"] * x - p["sigma"] ** 2 / 2
    loss = -p["gamma"] + p["delta"] * x - p["nu"] * y - p["rho"] ** 2 / 2
    np.testing.assert_allclose([growth, loss], 0, atol=1e-14)
    # Independent components, normal: means and variances of the closed form.
    p, faded = load_fixture("additive_time").parameters, values("additive_time")
    beta = np.array(p["beta"])
    mean = (1 + beta) / np.sqrt(2)
    second = np.outer(mean, mean) + np.diag((p["alpha"] * beta) ** 2 / 2)
    expected = [*mean, second[0, 0], second[0, 1], second[1, 1]]
    np.testing.assert_allclose(list(faded.values()), expected, rtol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_those_their_scripts_make(name):
    if np.finfo(np.longdouble).nmant != 63:
        pytest.skip("the tables were made with the 80-bit type, which is not here")
    for file, text in field_values.tables(name).items():
        old = np.loadtxt(references.ROOT / name / file, delimiter=",", skiprows=3)
        new = np.loadtxt(text.splitlines(), delimiter=",", skiprows=3)
        np.testing.assert_allclose(old, new, rtol=2e-3, atol=1e-300)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("problem.toml", '"kubo"\ninter', '"cubo"\ninter', "`field` must be one of"),
        ("problem.toml", '"scalar"', '"salar"', "`noise` must be one of"),
        ("problem.toml", "t1 = 1.0\ny0", "t1 = 2.0\ny0", "power of four"),
        ("problem.toml", "sigma = 1.0", "", "must hold `sigma`"),
        ("problem.toml", '"closed form"', '"guessed"', "`strong.kind`"),
        ("problem.toml", "[16, 32, 64,", "[16, 64,", "each twice"),
        ("problem.toml", "powers = [1, 0]", "powers = [1]", "`law.moments.powers`"),
        ("problem.toml", "paths = 128", "paths = 100", "as many rows for each of 100"),
        ("strong.csv", "path,t,y1,y2", "path,t,y1", "must be path,t,y1,…,y2"),
        ("strong.csv", "\n1,0.25", "\n2,0.25", "paths must be in order"),
    ],
)
def test_a_malformed_fixture_says_what_is_wrong(tmp_path, file, old, new, message):
    folder = tmp_path / "kubo"
    shutil.copytree(load_fixture("kubo").path, folder)
    shutil.copytree(references.ROOT / "brownian", tmp_path / "brownian")
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_fixture(folder)


def test_kinds_of_fixtures_are_named():
    with pytest.raises(ValueError, match='"ode", "sde" or None'):
        list_fixtures("pde")  # pyright: ignore
