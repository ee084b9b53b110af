"""Every public tool on a solved example in units drawn at random.

The state in units of s about an origin, time in units of τ, both from 1e-12 to 1e12:
the answer, made dimensionless, is that in units of one, or there is a refusal. Units
are powers of two, those of time of four: products with them and their roots, √τ of
Brownian increments among them, are exact, so that the answer is the same to the last
bit.
"""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings, strategies as st
from rescaled_tools import (
    ONE,
    TOOLS,
    Slope,
    exits,
    first_crossing,
    leaves,
    moments,
    penalties,
    rest,
    sampled_law,
    trained,
)

from hybrid_nds.analysis import AnalysisError
from hybrid_nds.training import TrainingError

STATE_UNIT = st.integers(-40, 40).map(lambda power: 2.0**power)
TIME_UNIT = st.integers(-20, 20).map(lambda power: 4.0**power)
REFUSALS = (ValueError, AnalysisError, TrainingError)
CASES = [
    pytest.param(
        tool,
        np.dtype(name),
        marks=[] if name in quick else [pytest.mark.slow],
        id=f"{tool.__name__}-{name}",
    )
    for tool, quick in TOOLS.items()
    for name in ("float64", "float32")
]
# A line through logarithms: these are numbers up to 40, rounded to the last place; the
# fit over two octaves has a condition of ten, which counts at most in square.
SLOPE = 40 * 10**2 * np.finfo(float).eps


@functools.cache
def in_plain_units(tool, dtype):
    return tool(ONE, dtype)


def squared_twice(tool, s):
    return tool is trained and not 2.0**-25 < s < 2.0**25


@pytest.mark.parametrize(("tool", "dtype"), CASES)
def test_answers_do_not_depend_on_units(tool, dtype):
    @settings(max_examples=2, deadline=None, phases=[Phase.generate])
    @given(s=STATE_UNIT, tau=TIME_UNIT)
    def check(s, tau):
        try:
            found = tool((s, tau, 0.0), dtype)
        except REFUSALS:
            # Only where squares of rates come near to where numbers of float32 end, and
            # those that Adam takes of gradients of squares.
            plain = 2.0**-60 < s / tau < 2.0**60
            if dtype == np.float64 or (plain and not squared_twice(tool, s)):
                raise
            return
        plain = leaves(in_plain_units(tool, dtype))
        for a, b in zip(plain, leaves(found), strict=True):
            if isinstance(a, Slope):
                assert abs(a - b) <= SLOPE
            else:
                np.testing.assert_array_equal(b, a)

    check()


# Answers about an origin o are rounded at its size: each step by ε(1 + |o|). These
# tools take some thirty to four hundred steps of up to eight roundings, of which
# contraction by e⁻¹ in sixteen steps leaves less than two hundred; second moments and
# eigenvalues magnify by up to five.
ROUNDINGS = 1000


@pytest.mark.parametrize("origin", [3.0, -20.0])
@pytest.mark.parametrize(
    ("tool", "dtype"),
    [
        pytest.param(
            tool,
            np.dtype(name),
            marks=[] if (tool, name) == (rest, "float32") else [pytest.mark.slow],
            id=f"{tool.__name__}-{name}",
        )
        for tool in (first_crossing, moments, penalties, rest, sampled_law, exits)
        for name in ("float64", "float32")
    ],
)
def test_answers_do_not_depend_on_the_origin(tool, dtype, origin):
    found = tool((1.0, 1.0, origin), dtype)
    limit = ROUNDINGS * float(jnp.finfo(dtype).eps) * (1 + abs(origin))
    if tool is first_crossing:
        # The root of an event is found to the tolerance of the solve.
        limit += 1e-4
    for a, b in zip(leaves(in_plain_units(tool, dtype)), leaves(found), strict=True):
        np.testing.assert_allclose(b, a, rtol=limit, atol=limit)
