"""To Diffrax's own arguments and back."""

import functools

import diffrax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import (
    Event,
    ODEProblem,
    SteadyState,
    from_diffrax,
    solve,
    to_diffrax,
)


def oscillator(t, y, args):
    return jnp.stack([y[1], -args * y[0]])


@pytest.fixture
def problem():
    return ODEProblem(oscillator, np.array([1.0, 0.0]), 0.0, 3.0, np.array(2.0))


OPTIONS = {
    "defaults": {},
    "times": {"saveat": [1.0, 2.0], "rtol": 1e-8, "solver": "Dopri8"},
    "steps": {"saveat": "steps", "solver": "Kvaerno3", "max_steps": 500},
    "fixed": {"dt": 0.1, "solver": "Euler"},
    "imex": {"solver": "KenCarp4"},
    "event": {"event": Event(lambda t, y, a: y[0])},
    "controller": {"stepsize_controller": diffrax.PIDController(1e-5, 1e-5, dtmax=0.1)},
}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(
            options,
            id=name,
            marks=pytest.mark.slow if name in ("steps", "imex") else (),
        )
        for name, options in OPTIONS.items()
    ],
)
def test_there_and_back(problem, options):
    ours = solve(problem, **options)
    arguments = to_diffrax(problem, **options)
    theirs = diffrax.diffeqsolve(**arguments)
    times = np.asarray(theirs.ts)[np.isfinite(theirs.ts)]
    np.testing.assert_array_equal(times, ours.ts)
    # In fixed steps times are t0 + k dt here and sums of steps there, each off by a
    # rounding of t1 or less: the state moves by |f| times that, and is rounded itself.
    rounding = 0.0 if "dt" not in options else 30 * 4 * np.finfo(float).eps
    same = functools.partial(np.testing.assert_allclose, rtol=rounding, atol=rounding)
    same(np.asarray(theirs.ys)[: len(times)], ours.ys)
    back, again = from_diffrax(**arguments)
    assert back.field is problem.field
    assert back.args is problem.args
    same(solve(back, **again).ys, ours.ys)


def test_a_diffrax_solve_becomes_a_problem_for_both_backends():
    problem, options = from_diffrax(
        diffrax.ODETerm(oscillator),
        diffrax.Tsit5(),
        0,
        3,
        0.1,
        jnp.array([1.0, 0.0]),
        jnp.array(2.0),
        stepsize_controller=diffrax.PIDController(rtol=1e-7, atol=1e-8),
        saveat=diffrax.SaveAt(ts=jnp.array([1.0, 3.0])),
        progress_meter=diffrax.NoProgressMeter(),
        throw=False,
    )
    assert (options["rtol"], options["atol"], options["dt"]) == (1e-7, 1e-8, 0.1)
    assert set(options) == {"solver", "dt", "rtol", "atol", "saveat"}
    ys = np.asarray(solve(problem, **options).ys)
    phase = np.sqrt(2.0) * np.array([1.0, 3.0])
    exact = np.stack([np.cos(phase), -np.sqrt(2) * np.sin(phase)], axis=-1)
    np.testing.assert_allclose(ys, exact, atol=1e-5)


def test_fixed_steps_become_dt():
    _, options = from_diffrax(
        diffrax.ODETerm(oscillator), diffrax.Euler(), 0.0, 1.0, 0.1, jnp.ones(2), 1.0
    )
    assert options["dt"] == 0.1
    assert not {"stepsize_controller", "rtol", "atol"} & set(options)


def test_events_come_back_as_they_were(problem):
    events = [
        Event(lambda t, y, a: y[0], "down"),
        SteadyState(1e-3, 1e-3),
        Event(lambda t, y, a: y[1]),
    ]
    _, options = from_diffrax(**to_diffrax(problem, event=events))
    back = options["event"]
    # Crossings first, then states of rest.
    assert [type(one) for one in back] == [Event, Event, SteadyState]
    assert back[0].condition is events[0].condition
    assert [one.direction for one in back[:2]] == ["down", None]
    theirs = diffrax.Event(lambda t, y, args, **kwargs: y[0])
    _, options = from_diffrax(**to_diffrax(problem, event=theirs))
    assert options["event"] is theirs


REFUSED = {
    "control": (
        diffrax.ControlTerm(oscillator, diffrax.LinearInterpolation),
        "must be a diffrax.ODETerm, got ControlTerm",
    ),
    "split": (
        diffrax.MultiTerm(diffrax.ODETerm(oscillator), diffrax.ODETerm(oscillator)),
        "MultiTerm splits the field",
    ),
}


@pytest.mark.parametrize(("terms", "match"), REFUSED.values(), ids=REFUSED)
def test_refuses_terms_that_are_no_ode(terms, match):
    with pytest.raises(TypeError, match=match):
        from_diffrax(terms, diffrax.Euler(), 0.0, 1.0, 0.1, jnp.ones(2))


def test_refuses_arguments_it_would_lose():
    terms = diffrax.ODETerm(oscillator)
    with pytest.raises(TypeError, match="cannot carry over the argument solver_state"):
        from_diffrax(terms, None, 0.0, 1.0, 0.1, jnp.ones(2), 1.0, solver_state=1)


def test_to_diffrax_checks_as_solve_does(problem):
    with pytest.raises(ValueError, match="`rtol` must be finite"):
        to_diffrax(problem, rtol=-1.0)
    with pytest.raises(TypeError, match="takes no option rhs"):
        to_diffrax(problem, rhs="callback")
    with pytest.raises(TypeError, match="or an SDEProblem, got function"):
        to_diffrax(oscillator)  # pyright: ignore
