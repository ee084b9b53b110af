"""Sparsity patterns against closed forms and dense Jacobians, and lowered entries."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from jax.flatten_util import ravel_pytree
from julia_subset import evaluate
from lowering_cases import CASES

from hybrid_nds import ODEProblem, SDEProblem, lowering
from hybrid_nds.lowering import NoPatternError, Sparsity, _detection, sparsity
from hybrid_nds.lowering._terms import NotTermsError

# Of every kind of movement, reduction, product and control flow.
PROGRAMS = (
    *("layer-mlp", "layer-conv2d", "layer-group_norm", "layer-avg_pool"),
    *("program-pytree_state", "program-scalar_state", "program-constant"),
    *("program-scan", "program-while", "program-cond", "program-custom_jvp"),
    *("program-solve", "program-scatter", "program-dynamic_gather", "program-sort"),
    *("program-flip_roll_pad", "program-where", "program-cumulative"),
    *("program-concatenate", "program-mixed_precision"),
)
TIME = 0.7


def _heat(n, periodic=False):
    """Second differences, Dirichlet or periodic, times a parameter that is zero."""

    def field(t, y, args):
        if periodic:
            return args * (jnp.roll(y, 1) + jnp.roll(y, -1) - 2 * y)
        padded = jnp.pad(y, 1)
        return args * (padded[:-2] + padded[2:] - 2 * y)

    return ODEProblem(field, np.ones(n), 0.0, 1.0, args=jnp.array(0.0))


def _bands(n, offsets, periodic=False):
    row, column = np.indices((n, n))
    apart = (column - row) % n if periodic else column - row
    wanted = np.asarray(offsets) % n if periodic else offsets
    return np.isin(apart, wanted)


def _network(points):
    cell = eqx.nn.MLP(2, 2, 8, 1, key=jax.random.key(0))
    field = lambda t, y, args: jax.vmap(args)(y)
    return ODEProblem(field, np.ones((points, 2)), 0.0, 1.0, args=cell)


def _gathered(n):
    order = np.random.default_rng(0).permutation(n)
    field = lambda t, y, args: jnp.sin(y[order]) - y
    return ODEProblem(field, np.ones(n), 0.0, 1.0), order


@pytest.fixture(params=["scalars", "terms", "asdex"])
def source(request, monkeypatch):
    """One of the ways of finding patterns, and no other; what results say of it."""
    if request.param != "scalars":
        monkeypatch.setattr(_detection, "_QUICK", 0)
    if request.param == "asdex":
        pytest.importorskip("asdex")
        _no_terms(monkeypatch)
    return "asdex" if request.param == "asdex" else "jaxpr"


def _no_terms(monkeypatch):
    def refuse(problem):
        raise NotTermsError

    monkeypatch.setattr(_detection, "_by_terms", refuse)


@pytest.mark.parametrize(
    ("problem", "expected", "colors"),
    [
        (_heat(9), _bands(9, [-1, 0, 1]), 3),
        (_heat(9, periodic=True), _bands(9, [-1, 0, 1], periodic=True), 3),
        (_network(4), np.kron(np.eye(4), np.ones((2, 2))) > 0, 2),
    ],
    ids=["dirichlet", "periodic", "network at each point"],
)
def test_patterns_of_closed_form(source, problem, expected, colors):
    found = sparsity(problem)
    np.testing.assert_array_equal(found.matrix().toarray(), expected)
    assert found.source == source
    assert found.products == colors
    assert found.nonzeros == expected.sum()
    assert found.fill == expected.mean()


def test_convolutions_are_known_to_asdex():
    pytest.importorskip("asdex")
    kernel = jnp.array([1.0, 4.0, -1.0])
    field = lambda t, y, args: jnp.convolve(y, kernel, mode="same") * t
    found = sparsity(ODEProblem(field, np.ones(8), 0.0, 1.0))
    np.testing.assert_array_equal(found.matrix().toarray(), _bands(8, [-1, 0, 1]))
    assert found.source == "asdex"


def test_what_nobody_knows_counts_as_full():
    # Neither follows the sums of a window; what is beside them is followed.
    def field(t, y, args):
        sums = jax.lax.reduce_window(y[:3], 0.0, jax.lax.add, (2,), (1,), "SAME")
        return jnp.concatenate([sums, -y[3:]])

    found = sparsity(ODEProblem(field, np.ones(5), 0.0, 1.0))
    expected = np.zeros((5, 5), bool)
    expected[:3, :3] = expected[3, 3] = expected[4, 4] = True
    np.testing.assert_array_equal(found.matrix().toarray(), expected)


def test_gathers_of_known_places(source):
    problem, order = _gathered(12)
    expected = np.eye(12, dtype=bool)
    expected[np.arange(12), order] = True
    np.testing.assert_array_equal(sparsity(problem).matrix().toarray(), expected)


def test_rules_of_custom_derivatives_count_as_written(source):
    @jax.custom_jvp
    def rounded(x):
        return jnp.round(x)

    # A straight-through estimator: the function is constant almost everywhere, its
    # derivative is that of the identity.
    rounded.defjvp(lambda primals, tangents: (jnp.round(primals[0]), tangents[0]))
    problem = ODEProblem(lambda t, y, args: rounded(y), np.ones(3), 0.0, 1.0)
    np.testing.assert_array_equal(sparsity(problem).matrix().toarray(), np.eye(3) > 0)


def test_what_vanishes_now_alone_is_not_left_out(source):
    # At t = 0, y = 0 and with zero weights the Jacobian is zero.
    def field(t, y, args):
        return t * y[::-1] + args * y[jnp.array([1, 2, 0])] + y**2

    problem = ODEProblem(field, np.zeros(3), 0.0, 1.0, args=jnp.zeros(()))
    expected = np.eye(3) + np.eye(3)[::-1] + np.roll(np.eye(3), 1, axis=1)
    np.testing.assert_array_equal(sparsity(problem).matrix().toarray(), expected > 0)


def _sharing(pattern):
    """Pairs of columns of one colour with a row in common."""
    matrix = pattern.matrix().astype(int)
    together = (matrix.T @ matrix).toarray() > 0
    same = pattern.colors[:, None] == pattern.colors[None, :]
    return np.argwhere(together & same & ~np.eye(pattern.states, dtype=bool))


def test_columns_of_one_colour_have_no_row_in_common():
    rng = np.random.default_rng(0)
    for fill in (0.01, 0.05, 0.3, 1.0):
        given = rng.random((60, 60)) < fill
        problem = ODEProblem(lambda t, y, args: 0 * y, np.ones(60), 0.0, 1.0)
        found = sparsity(problem, given)
        assert not len(_sharing(found))
        np.testing.assert_array_equal(found.matrix().toarray(), given)
        # No colouring has fewer colours than the fullest row has entries.
        assert given.sum(axis=1).max() <= found.products <= 60


@functools.cache
def _dense(name):
    """A case, and its dense Jacobian by JAX."""
    fn, y, args = CASES[name]()
    u, unravel = ravel_pytree(y)
    flat = lambda u: ravel_pytree(fn(jnp.float64(TIME), unravel(u), args))[0]
    return fn, y, args, np.asarray(u), np.asarray(jax.jit(jax.jacfwd(flat))(u))


@pytest.mark.parametrize("unroll", [1200, -1], ids=["straight", "loops"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_entries_are_lowered(name, unroll):
    fn, y, args, u, dense = _dense(name)
    found = sparsity(ODEProblem(fn, y, TIME, 1.0, args=args))
    assert not np.any(dense[~found.matrix().toarray()])
    lowered = lowering.lower(
        fn, TIME, y, args, part="jacobian", sparsity=found, unroll=unroll
    )
    assert lowered.output_shape == (found.nonzeros,)
    p = lowering.parameter_vector(fn, args, u.dtype)
    entries = evaluate(lowered, u, p, TIME)
    # As in test_lowering: some tens of roundings, condition numbers below a thousand.
    np.testing.assert_allclose(
        entries, dense[found.rows, found.columns], rtol=1e-11, atol=1e-12
    )


def _stencil():
    """Of everything that terms follow: shifts, edges, a network at each point, choices
    by values, sums over a short axis, and elements taken from known places."""
    cell = eqx.nn.MLP(2, 2, 5, 1, activation=jnp.tanh, key=jax.random.key(1))
    order = np.random.default_rng(0).permutation(12)

    def field(t, y, args):
        network, scale = args
        u, v = y["u"], y["v"]
        both = jax.vmap(jax.vmap(network))(jnp.stack([u, v], -1))
        padded = jnp.pad(u, ((1, 1), (0, 0)))
        across = padded[2:] - padded[:-2] + jnp.roll(v, 1, 1) / (1 + u**2)
        chosen = jnp.where(u > 0, u * v, -jnp.flip(v, 0))
        moved = jnp.ravel(v)[order].reshape(u.shape) + v.at[1].set(2 * u[0])
        mean = jnp.mean(jnp.stack([u, v**2]), axis=0)
        return {
            "u": scale * across + both[..., 0] * t + chosen,
            "v": both[..., 1] + moved * u + mean,
        }

    rng = np.random.default_rng(2)
    y = {name: rng.standard_normal((3, 4)) for name in ("u", "v")}
    return field, y, (cell, jnp.array([0.3]))


@pytest.mark.parametrize("unroll", [1200, -1], ids=["straight", "loops"])
def test_entries_are_followed_as_terms(unroll):
    field, y, args = _stencil()
    u, unravel = ravel_pytree(y)
    flat = lambda u: ravel_pytree(field(jnp.float64(TIME), unravel(u), args))[0]
    dense = np.asarray(jax.jacfwd(flat)(u))
    pattern = _detection._by_terms(ODEProblem(field, y, TIME, 1.0, args=args))
    assert not np.any(dense[~pattern.matrix().toarray()])
    # One entry too many, as a pattern of the user's may have, is zero.
    missing = np.argwhere(~pattern.matrix().toarray())[0]
    more = pattern.joined(missing[:1], missing[1:])
    how = {"part": "jacobian", "sparsity": more, "unroll": unroll}
    lowered = lowering.lower(field, TIME, y, args, **how)
    p = lowering.parameter_vector(field, args, u.dtype)
    entries = evaluate(lowered, np.asarray(u), p, TIME)
    # As in test_lowering: some tens of roundings, condition numbers below a thousand.
    expected = dense[more.rows, more.columns]
    np.testing.assert_allclose(entries, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    "field",
    [
        lambda t, y, a: jnp.cumsum(y),
        lambda t, y, a: jnp.full(100, jnp.sum(y)),
        lambda t, y, a: jnp.ones((100, 100)) @ y,
        lambda t, y, a: jax.lax.fori_loop(0, 3, lambda k, y: jnp.sin(y), y),
        lambda t, y, a: y[jnp.array(t, int) + jnp.arange(100)],
    ],
    ids=["cumulative", "sum", "product", "loop", "moving"],
)
def test_what_is_no_sum_of_few_terms_is_left_to_others(field):
    with pytest.raises(NotTermsError):
        _detection._by_terms(ODEProblem(field, np.ones(100), 0.0, 1.0))


@pytest.mark.parametrize("name", ["program-pytree_state", "layer-mlp", "layer-conv2d"])
def test_products_are_lowered(name):
    fn, y, args = CASES[name]()
    u, unravel = ravel_pytree(y)
    t = jnp.float64(0.7)
    v = np.random.default_rng(0).normal(size=u.size)
    lowered = lowering.lower(fn, t, y, args, part="product", unroll=-1)
    p = lowering.parameter_vector(fn, args, u.dtype)
    product = evaluate(lowered, np.concatenate([u, v]), p, t)
    flat = lambda u: ravel_pytree(fn(t, unravel(u), args))[0]
    expected = jax.jvp(flat, (u,), (v,))[1]
    np.testing.assert_allclose(product, expected, rtol=1e-11, atol=1e-12)


def test_source_does_not_grow_with_the_states():
    lengths = []
    for n in (10_000, 100_000):
        problem = _heat(n)
        row, offsets = np.arange(n), np.array([-1, 0, 1])
        columns = row[:, None] + offsets
        inside = (columns >= 0) & (columns < n)
        rows = np.broadcast_to(row[:, None], columns.shape)[inside]
        # Three colours, as a band of three has.
        pattern = Sparsity(rows, columns[inside], (row % 3).astype(np.int32), "given")
        order = np.lexsort((pattern.rows, pattern.columns))
        pattern = Sparsity(
            pattern.rows[order], pattern.columns[order], pattern.colors, "given"
        )
        at = problem.field, problem.t0, problem.y0, problem.args
        parts = ("field", "time_gradient", "product", "jacobian")
        for part in parts:
            known = pattern if part == "jacobian" else None
            lowered = lowering.lower(*at, part=part, sparsity=known)
            lengths.append(len(lowered.source))
    small, large = np.array(lengths).reshape(2, -1)
    # Only the numbers in it have more digits.
    assert np.all(large < small + 100)


@functools.cache
def _small():
    return _heat(4)


@pytest.mark.parametrize(
    "given",
    [
        _bands(4, [-1, 0, 1]),
        _bands(4, [-1, 0, 1]).astype(float),
        scipy.sparse.csr_matrix(_bands(4, [-1, 0, 1])),
        scipy.sparse.coo_array(_bands(4, [-1, 0, 1]).astype(int)),
        # Stored zeros are entries.
        scipy.sparse.csr_matrix(_bands(4, [-1, 0, 1])) * 0.0,
    ],
    ids=["boolean", "numbers", "csr", "coo", "stored zeros"],
)
def test_patterns_of_users(given):
    found = sparsity(_small(), given)
    np.testing.assert_array_equal(found.matrix().toarray(), _bands(4, [-1, 0, 1]))
    assert found.source == "given"
    assert sparsity(_small(), found) is found


def _missing(row, column):
    pattern = _bands(30, [-1, 0, 1], periodic=True)
    pattern[row, column] = False
    problem = _heat(30, periodic=True)
    return ODEProblem(
        problem.field, np.arange(30.0), 0.0, 1.0, args=jnp.array(1.0)
    ), pattern


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 4), (29, 0)])
def test_missing_entries_are_named(row, column):
    problem, pattern = _missing(row, column)
    with pytest.raises(ValueError, match=rf"misses the entry \({row}, {column}\)"):
        sparsity(problem, pattern)


def test_entries_too_many_are_no_fault():
    problem, _ = _missing(0, 0)
    assert sparsity(problem, np.ones((30, 30))).products == 30


@pytest.mark.parametrize(
    ("problem", "given", "kind", "match"),
    [
        (_heat(3), np.ones((3, 2)), ValueError, r"shape \(3, 3\).*got \(3, 2\)"),
        (_heat(3), np.ones(3), TypeError, "two axes, got ndarray"),
        (_heat(3), "tridiagonal", TypeError, "sparse matrix of SciPy.*got str"),
        (None, None, TypeError, "must be an ODEProblem, got SDEProblem"),
    ],
    ids=["shape", "axes", "text", "stochastic"],
)
def test_refused(problem, given, kind, match):
    if problem is None:
        field = lambda t, y, args: -y
        problem = SDEProblem(field, field, np.ones(2), 0.0, 1.0, noise="diagonal")
    with pytest.raises(kind, match=match):
        sparsity(problem, given)


def test_without_asdex_large_fields_say_so(monkeypatch):
    monkeypatch.setattr(_detection.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(_detection, "_QUICK", 100)
    monkeypatch.setattr(_detection, "_PATIENT", 200)
    _no_terms(monkeypatch)
    with pytest.raises(NoPatternError, match=r"hybrid_nds\[sparse\]"):
        sparsity(_heat(100))


def test_full_patterns_are_not_looked_for_where_they_are_of_no_use():
    n = 300
    weights = jnp.ones((n, n))
    full = ODEProblem(lambda t, y, a: jnp.tanh(a @ y), np.ones(n), 0.0, 1.0, weights)
    with pytest.raises(NoPatternError, match="sums of 300 terms"):
        _detection.detected(full, 0.03)
    assert _detection.detected(_heat(n), 0.03).products == 3


def test_summary_equality_and_plot(tmp_path):
    found, again, other = sparsity(_heat(5)), sparsity(_heat(5)), sparsity(_heat(6))
    assert str(found) == ("Sparsity of 5 × 5: 13 entries (52 %), 3 colours, by jaxpr")
    assert found == again
    assert hash(found) == hash(again)
    assert found != other
    figure = found.plot(tmp_path / "pattern.png")
    places = figure.axes[0].collections[0].get_offsets()
    expected = np.argwhere(_bands(5, [-1, 0, 1]))[:, ::-1]
    np.testing.assert_allclose(np.asarray(places), expected)
    assert (tmp_path / "pattern.png").stat().st_size > 1000
