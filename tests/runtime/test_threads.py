"""Julia called from several threads at once, and from where it cannot be called."""

import gc
import subprocess
import sys
import textwrap
import threading
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hybrid_nds
from hybrid_nds import runtime


def field(t, y, rate):
    return jnp.stack([y[1], -rate * y[0]])


def problem(rate=1.0):
    return hybrid_nds.ODEProblem(field, jnp.ones(2), 0.0, 2.0, args=jnp.asarray(rate))


def _together(count, work, meanwhile):
    """Run a function in threads, another here until they end; what went wrong."""
    wrong = []

    def guarded(k):
        try:
            wrong.extend(work(k))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=guarded, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        meanwhile()
    return wrong


@pytest.mark.julia
def test_every_thread_solves_while_others_collect_garbage(julia):
    assert julia.main_thread_only == ""
    rates = [1.0 + k for k in range(4)]

    def work(k):
        # y'' = -rate y from (1, 1), in closed form.
        w = np.sqrt(rates[k])
        expected = np.cos(2 * w) + np.sin(2 * w) / w
        for _ in range(4):
            found = hybrid_nds.solve(
                problem(rates[k]), "julia", solver="Tsit5", rtol=1e-10
            )
            # The tolerance, times the growth of errors over two units of time.
            if not abs(found.ys[-1][0] - expected) <= 1e-8:
                yield k, found

    fail = julia.main.seval("() -> error()")
    # Compiled at leisure: every collection of Julia's stops all threads.
    hybrid_nds.solve(problem(), "julia", solver="Tsit5", rtol=1e-10)

    def collect():
        julia.main.seval("GC.gc()")
        with pytest.raises(runtime.JuliaExecutionError):
            julia.call(fail)
        gc.collect()

    assert _together(4, work, collect) == []


@pytest.mark.julia
def test_without_its_signals_or_after_a_fork_julia_refuses(julia):
    code = """
        import os, threading, warnings
        warnings.simplefilter("ignore")
        os.environ["PYTHON_JULIACALL_HANDLE_SIGNALS"] = "no"
        import jax
        jax.config.update("jax_enable_x64", True)
        import jax.numpy as jnp
        import hybrid_nds
        from hybrid_nds import runtime

        problem = hybrid_nds.ODEProblem(lambda t, y, a: -y, jnp.ones(2), 0.0, 2.0)
        solve = lambda: hybrid_nds.solve(problem, "julia", solver="Tsit5")
        solve()
        caught = []

        def work():
            try:
                solve()
            except RuntimeError as error:
                caught.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        print(caught[0])
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                runtime.session()
            except RuntimeError as error:
                os.write(writing, str(error).encode())
            os._exit(0)
        os.waitpid(child, 0)
        print(os.read(reading, 4096).decode())
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    for words in ("main thread", "HANDLE_SIGNALS=yes", "JuliaWorker"):
        assert words in result.stdout
    assert "before this process was forked" in result.stdout
    assert "spawn" in result.stdout


def test_where_the_gc_state_is_not_known_the_main_thread_calls_alone():
    bridge = types.SimpleNamespace(CONFIG={"opt_handle_signals": "yes"})
    reason = runtime._session.open_to_threads(bridge, 0, 0)
    assert "not known to let other threads in" in reason


@pytest.mark.julia
def test_every_thread_keeps_steps_and_dense_output(julia):
    options = {"solver": "Vern7", "rtol": 1e-9, "atol": 1e-9}

    # y'' = -y from (1, 1), in closed form.
    def exact(t):
        return np.stack([np.cos(t) + np.sin(t), np.cos(t) - np.sin(t)]).T

    def work(k):
        del k
        steps = hybrid_nds.solve(problem(), "julia", saveat="steps", **options)
        dense = hybrid_nds.solve(problem(), "julia", saveat="dense", **options)
        times = np.linspace(0.0, 2.0, 7)
        for t, y in ((steps.ts, steps.ys), (times, dense.evaluate(times))):
            if not np.allclose(y, exact(np.asarray(t)), atol=1e-7):
                yield y
        if len(steps.ts) != steps.stats["num_accepted_steps"] + 1:
            yield steps.ts

    assert list(work(0)) == []
    assert _together(3, work, lambda: julia.main.seval("GC.gc()")) == []


@pytest.mark.julia
def test_what_needs_the_main_thread_says_so(julia):
    noisy = hybrid_nds.SDEProblem(
        lambda t, y, args: -y, lambda t, y, args: jnp.ones(2), jnp.ones(2), 0.0, 1.0
    )
    key = jax.random.key(0)
    calls = [
        lambda: hybrid_nds.solve(problem(), "julia", rhs="callback"),
        lambda: hybrid_nds.solve(problem(), "julia", progress=True),
        lambda: hybrid_nds.ensemble(noisy, 3, key=key, backend="julia", dt=0.1),
        lambda: hybrid_nds.stability.lyapunov_spectrum(
            problem(), backend="julia", interval=0.5, transient=1.0, time=10.0
        ),
    ]

    def work(k):
        calls[k]()
        return []

    said = _together(len(calls), work, lambda: time.sleep(0.01))
    assert len(said) == len(calls)
    for error in said:
        assert isinstance(error, RuntimeError), error
        assert str(error).startswith(
            "This use of Julia must be in the main thread, got Thread-"
        )
