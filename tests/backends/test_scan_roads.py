"""Whatever follows fixed steps takes the scan: no descent of a tree, no other loop.

Both are made to raise, so that an analysis that goes their way fails.
"""

import subprocess
import sys
import textwrap

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hybrid_nds import BrownianPath, Moments, SDEProblem, ensemble, solve
from hybrid_nds.discretization import strong_order, weak_order
from hybrid_nds.reconcile import load_fixture, reconcile
from hybrid_nds.stability import invariant_law, lyapunov_spectrum, mean_exit_time
from hybrid_nds.training import fit

DT = 1 / 16


@pytest.fixture(autouse=True)
def no_other_road(monkeypatch):
    def descent(*_, **__):
        raise AssertionError("a descent of the tree to one time")

    def loop(*_, **__):
        raise AssertionError("Diffrax's loop")

    monkeypatch.setattr(diffrax.VirtualBrownianTree, "_evaluate_leaf", descent)
    monkeypatch.setattr(diffrax, "diffeqsolve", loop)


def problem(t1=1.0):
    # Functions of their own: nothing is compiled for them yet.
    return SDEProblem(
        lambda t, y, a: -y,
        lambda t, y, a: 0.5 * jnp.ones_like(y),
        jnp.ones(1),
        0.0,
        t1,
        noise="additive",
    )


KEY = jax.random.key(0)
SCHEME = {"solver": "Euler", "dt": DT}


def solves():
    return jax.vmap(lambda k: solve(problem(), key=k, **SCHEME).ys)(KEY[None])


def long_solves():
    def end(y0):
        made = problem(20.0)
        made = SDEProblem(made.drift, made.diffusion, y0, 0.0, 20.0, noise="additive")
        return jax.vmap(lambda k: solve(made, key=k, **SCHEME).ys)(KEY[None]).sum()

    return jax.grad(end)(jnp.ones(1))


def shared_ensemble():
    return ensemble(problem(), 4, key=KEY, reduce=Moments(), **SCHEME).reduced


def native_ensemble():
    return ensemble(problem(), 4, key=KEY, paths="native", **SCHEME).ys


def trained():
    def loss(model, batch, key):
        made = problem()
        moved = SDEProblem(
            made.drift, made.diffusion, model, 0.0, 1.0, noise="additive"
        )
        return jnp.sum(solve(moved, key=key, **SCHEME).ys ** 2)

    return fit(jnp.ones(1), jnp.ones(2), loss, optax.sgd(0.1), steps=2, key=KEY)


def strong():
    return strong_order(problem(), "Euler", steps=(4, 8, 16), paths=8, key=KEY)


def weak():
    return weak_order(
        problem(), "Euler", lambda y: y[0], steps=(4, 8, 16), paths=64, key=KEY
    )


def exponents():
    return lyapunov_spectrum(problem(), time=20.0, chains=2, key=KEY, **SCHEME)


def exponents_along():
    path = BrownianPath(KEY, 1, 0.0, 64.0, DT)
    return lyapunov_spectrum(problem(64.0), solver="Euler", path=path)


def invariant():
    return invariant_law(problem(), time=64.0, chains=4, key=KEY, **SCHEME)


def exits():
    return mean_exit_time(problem(), (0.5, 1.5), 16, key=KEY, dt=DT, solver="Euler")


def ladder():
    rungs = ["L1", "L2"]
    return reconcile(load_fixture("gbm"), rungs=rungs, julia="recorded").passed


@pytest.mark.parametrize(
    "road",
    [
        solves,
        native_ensemble,
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in (
                long_solves,
                shared_ensemble,
                trained,
                strong,
                weak,
                exponents,
                exponents_along,
                invariant,
                exits,
                ladder,
            )
        ),
    ],
    ids=lambda road: road.__name__,
)
@pytest.mark.filterwarnings("ignore")
def test_takes_the_scan(road):
    assert road() is not None


def test_what_must_descend_is_seen():
    """The guard works: adaptive steps follow the tree."""
    with pytest.raises(AssertionError, match="loop"):
        solve(problem(), solver="ShARK", key=KEY, rtol=1e-2, atol=1e-2)
    path = BrownianPath(KEY, 1, 0.0, 1.0, DT)
    with pytest.raises(AssertionError, match="descent"):
        path.evaluate(np.float64(0.3))


@pytest.mark.slow
def test_a_first_solve_compiles_its_own_program_and_little_else():
    """Every operation on known numbers by JAX would be a program of its own."""
    code = """
        import jax
        jax.config.update("jax_enable_x64", True)
        import numpy as np
        import hybrid_nds

        problem = hybrid_nds.ODEProblem(lambda t, y, a: -y, np.ones(2), 0.0, 1.0)
        programs = []
        jax.monitoring.register_event_duration_secs_listener(
            lambda event, *_, **__: programs.append("backend_compile" in event)
        )
        hybrid_nds.solve(problem, solver="Heun", dt=0.01)
        print(sum(programs))
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    # The scan, its grid put on the device, its count, and two in Diffrax's step.
    assert 1 <= int(result.stdout) <= 5, result.stderr
