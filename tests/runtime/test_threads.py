"""Julia called from several threads at once, and from where it cannot be called."""

import subprocess
import sys
import textwrap
import types

import pytest

from hybrid_nds import runtime

_SOLVE = """
    import gc, os, threading
    import jax
    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import numpy as np
    import hybrid_nds
    from hybrid_nds import runtime

    field = lambda t, y, rate: jnp.stack([y[1], -rate * y[0]])

    def solve(rate):
        problem = hybrid_nds.ODEProblem(field, jnp.ones(2), 0.0, 2.0, args=rate)
        return hybrid_nds.solve(problem, "julia", solver="Tsit5", rtol=1e-10).ys[-1]
"""


def _run(code: str, timeout: float = 300) -> str:
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_SOLVE) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.julia
def test_every_thread_solves_while_others_collect_garbage(julia):
    out = _run("""
        session = runtime.session()
        assert session.main_thread_only == ""
        rates = [jnp.array(1.0 + k) for k in range(4)]
        # y'' = -rate y from (1, 1), in closed form.
        expected = [
            np.cos(2 * w) + np.sin(2 * w) / w for w in np.sqrt(1.0 + np.arange(4))
        ]
        wrong = []

        def work(k):
            for _ in range(8):
                error = abs(solve(rates[k])[0] - expected[k])
                # The tolerance, times the growth of errors over two units of time.
                if error > 1e-8:
                    wrong.append((k, error))

        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            session.main.seval("GC.gc()")
            try:
                session.call(session.main.seval("() -> error()"))
            except runtime.JuliaExecutionError:
                pass
            gc.collect()
        print(wrong)
    """)
    assert out.split() == ["[]"]


@pytest.mark.julia
def test_a_forked_process_is_told_so(julia):
    out = _run("""
        import warnings
        warnings.simplefilter("ignore")
        solve(jnp.array(1.0))
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
    """)
    assert "before this process was forked" in out
    assert "spawn" in out


@pytest.mark.julia
def test_julia_without_its_signals_takes_the_main_thread_alone(julia):
    out = _run("""
        os.environ["PYTHON_JULIACALL_HANDLE_SIGNALS"] = "no"
        solve(jnp.array(1.0))
        caught = []

        def work():
            try:
                solve(jnp.array(1.0))
            except RuntimeError as error:
                caught.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        print(caught[0])
    """)
    for words in ("main thread", "HANDLE_SIGNALS=yes", "JuliaWorker"):
        assert words in out


def test_where_the_gc_state_is_not_known_the_main_thread_calls_alone():
    module = types.SimpleNamespace(gc_state_address=lambda name: 0)
    bridge = types.SimpleNamespace(CONFIG={"opt_handle_signals": "yes"})
    reason = runtime._session.open_to_threads(bridge, module)
    assert "not known to let other threads in" in reason


@pytest.mark.julia
def test_every_thread_keeps_steps_and_dense_output(julia):
    out = _run("""
        one = jnp.array(1.0)
        problem = hybrid_nds.ODEProblem(field, jnp.ones(2), 0.0, 2.0, args=one)
        options = {"solver": "Vern7", "rtol": 1e-9, "atol": 1e-9}
        runtime.session()
        wrong = []

        def work():
            try:
                steps = hybrid_nds.solve(problem, "julia", saveat="steps", **options)
                dense = hybrid_nds.solve(problem, "julia", saveat="dense", **options)
                # y'' = -y from (1, 1), in closed form.
                c, s = np.cos, np.sin
                exact = lambda t: np.stack([c(t) + s(t), c(t) - s(t)])
                times = np.linspace(0.0, 2.0, 7)
                for t, y in ((steps.ts, steps.ys), (times, dense.evaluate(times))):
                    if not np.allclose(y, exact(t).T, atol=1e-7):
                        wrong.append(y)
                if len(steps.ts) != steps.stats["num_accepted_steps"] + 1:
                    wrong.append(steps.ts)
            except BaseException as error:
                wrong.append(repr(error))

        work()
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        runtime.session().main.seval("GC.gc()")
        for thread in threads:
            thread.join()
        print(wrong)
    """)
    assert out.split() == ["[]"]


@pytest.mark.julia
def test_what_needs_the_main_thread_says_so(julia):
    out = _run("""
        runtime.session()
        one = jnp.array(1.0)
        problem = hybrid_nds.ODEProblem(field, jnp.ones(2), 0.0, 2.0, args=one)
        key = jax.random.key(0)
        noisy = hybrid_nds.SDEProblem(
            lambda t, y, args: -y, lambda t, y, args: jnp.ones(2), jnp.ones(2), 0.0, 1.0
        )
        calls = [
            lambda: hybrid_nds.solve(problem, "julia", rhs="callback"),
            lambda: hybrid_nds.solve(problem, "julia", progress=True),
            lambda: hybrid_nds.ensemble(noisy, 3, key=key, backend="julia", dt=0.1),
            lambda: hybrid_nds.stability.lyapunov_spectrum(
                problem, backend="julia", interval=0.5, transient=1.0, time=10.0
            ),
        ]
        said = []

        def work(call):
            try:
                call()
            except Exception as error:
                said.append(f"{type(error).__name__}: {error}")

        for call in calls:
            thread = threading.Thread(target=work, args=(call,), name="worker")
            thread.start()
            thread.join()
        print("\\n".join(said))
    """)
    lines = out.splitlines()
    assert len(lines) == 4, out
    for line in lines:
        assert line.startswith(
            "RuntimeError: This use of Julia must be in the main thread, got worker"
        ), line
