"""Matrix measures against their definition and what follows from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from hybrid_nds import double_precision
from hybrid_nds.stability import matrix_measure

NORMS = (1, 2, np.inf)
EPS = np.finfo(float).eps
JORDAN = np.array([[-1.0, 4.0], [0.0, -1.0]])

entries = st.floats(-10, 10, allow_subnormal=False)
matrices = hnp.arrays(np.float64, (3, 3), elements=entries)
# Well away from singular: strictly dominant diagonals.
weights = hnp.arrays(np.float64, (3, 3), elements=st.floats(-1, 1)).map(
    lambda m: m + 4 * np.eye(3)
)
few = settings(max_examples=40, deadline=None)


def test_the_nonnormal_matrix_of_the_table():
    # (A + Aᵀ)/2 = [[−1, 2], [2, −1]] has eigenvalues −3 and 1.
    assert matrix_measure(JORDAN) == pytest.approx(1.0, abs=8 * EPS)
    assert matrix_measure(JORDAN, 1) == 3.0
    assert matrix_measure(JORDAN, np.inf) == 3.0
    # diag(1, 40) makes the off-diagonal entry 4/40, and the largest eigenvalue
    # −1 + 1/20.
    weighted = matrix_measure(JORDAN, 2, np.array([1.0, 40.0]))
    assert weighted == pytest.approx(-0.95, abs=8 * EPS)


@pytest.mark.parametrize("norm", NORMS)
def test_the_formulas_for_one_and_infinity_are_transposes(norm):
    A = np.array([[-3.0, 1.0, -2.0], [0.5, 1.0, 0.0], [4.0, -1.0, -6.0]])
    by_hand = {1: max(-3 + 4.5, 1 + 2, -6 + 2), np.inf: max(-3 + 3, 1 + 0.5, -6 + 5)}
    expected = by_hand.get(norm, max(scipy.linalg.eigvalsh((A + A.T) / 2)))
    assert matrix_measure(A, norm) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("norm", NORMS)
@given(A=matrices)
@few
def test_no_eigenvalue_lies_right_of_the_measure(norm, A):
    # Eigenvalues of a non-normal matrix move by up to (‖A‖ε)^⅓‖A‖^⅔ in round-off.
    # A sum, in which no square underflows.
    size = np.sum(np.abs(A))
    slack = 10 * EPS ** (1 / 3) * size
    assert matrix_measure(A, norm) >= np.linalg.eigvals(A).real.max() - slack


@pytest.mark.parametrize("norm", NORMS)
@given(A=matrices, P=weights)
@few
def test_the_measure_is_the_derivative_of_the_norm(norm, A, P):
    h = 1e-6
    similar = P @ A @ np.linalg.inv(P)
    quotient = (np.linalg.norm(np.eye(3) + h * similar, norm) - 1) / h
    measure = float(matrix_measure(A, norm, P))
    # The quotient falls to the measure with h: ‖I + hA‖ ≤ 1 + hμ + h²‖A‖²/2 + …;
    # round-off of the norm, a few ε, is divided by h.
    size = np.linalg.norm(similar)
    round_off = 40 * EPS / h + 100 * EPS * size
    assert measure <= quotient + round_off
    assert quotient <= measure + h * size**2 + round_off


@pytest.mark.parametrize("norm", NORMS)
@given(A=matrices, time=st.floats(0.01, 1.0))
@few
def test_the_bound_on_the_exponential_holds(norm, A, time):
    # Largest exponent 10·3·1: no overflow. expm is good to 1e-12 of the norm.
    grown = np.linalg.norm(scipy.linalg.expm(A * time), norm)
    bound = np.exp(float(matrix_measure(A, norm)) * time)
    assert grown <= bound * (1 + 1e-10) + 1e-13 * np.exp(np.linalg.norm(A) * time)


@given(A=matrices, B=matrices, factor=st.floats(0, 5))
@few
def test_the_measure_is_sublinear(A, B, factor):
    slack = 100 * EPS * (1 + np.linalg.norm(A) + np.linalg.norm(B)) * (1 + factor)
    both = matrix_measure(A + factor * B)
    assert both <= matrix_measure(A) + factor * matrix_measure(B) + slack


def test_it_goes_through_transforms():
    stack = jnp.stack([jnp.asarray(JORDAN), -jnp.eye(2)])
    mapped = jax.jit(jax.vmap(matrix_measure))(stack)
    np.testing.assert_allclose(mapped, [1.0, -1.0], atol=8 * EPS)
    np.testing.assert_allclose(mapped, matrix_measure(stack), atol=8 * EPS)
    # The derivative of a simple largest eigenvalue is vvᵀ, v = (1, 1)/√2.
    slope = jax.grad(matrix_measure)(stack[0])
    np.testing.assert_allclose(slope, np.full((2, 2), 0.5), atol=1e-14)


def test_the_dtype_of_the_data_is_kept():
    assert matrix_measure(np.float32(JORDAN)).dtype == np.float32
    with jax.enable_x64(False):
        assert matrix_measure(JORDAN).dtype == np.float64
        assert matrix_measure(jnp.asarray(JORDAN)).dtype == np.float32
    with double_precision():
        assert matrix_measure(np.array([[1, 2], [3, 4]]), 1) == 6.0


@pytest.mark.parametrize(
    ("A", "options", "words"),
    [
        (np.ones((2, 3)), {}, r"`A` must have shape \(..., n, n\), got \(2, 3\)"),
        (np.full((2, 2), np.nan), {}, "`A` must be finite"),
        (JORDAN, {"norm": 3}, "`norm` must be 1, 2 or inf, got 3"),
        (JORDAN, {"norm": True}, "`norm` must be 1, 2 or inf, got True"),
        (JORDAN, {"weight": np.ones(3)}, r"`weight` must have shape \(2,\) or"),
        (JORDAN, {"weight": np.array([1.0, 0.0])}, "finite and positive"),
        (JORDAN, {"weight": np.ones((2, 2))}, "invertible"),
        (JORDAN, {"weight": np.full((2, 2), np.nan)}, "invertible"),
    ],
)
def test_bad_arguments_are_named(A, options, words):
    with pytest.raises(ValueError, match=words):
        matrix_measure(A, **options)


def test_complex_matrices_are_refused():
    with pytest.raises(TypeError, match="`A` must be real"):
        matrix_measure(JORDAN + 1j)
