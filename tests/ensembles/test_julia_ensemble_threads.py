"""Julia's threads beside JAX in one process, and Ctrl-C while a kernel runs."""

import signal
import subprocess
import sys
import textwrap
import time

import pytest

pytestmark = pytest.mark.julia

_SETUP = """
    import jax, jax.numpy as jnp, numpy as np
    jax.config.update("jax_enable_x64", True)
    from hybrid_nds import SDEProblem, runtime
    from hybrid_nds.backends.julia._ensemble import KernelMoments, run_ensemble
    runtime.session(threads=THREADS)
    problem = SDEProblem(lambda t, y, a: -a * y, lambda t, y, a: 0.3 * y,
        jnp.ones(2), 0.0, 1.0, jnp.array(0.5))
    def run(n, threads, **more):
        return run_ensemble(problem, np.arange(n), key=jax.random.key(0), dt=1 / 64,
            reduce=KernelMoments(1024, 4, True), threads=threads, **more)
"""


def script(threads, code):
    parts = (_SETUP.replace("THREADS", str(threads)), code)
    return "\n".join(textwrap.dedent(part) for part in parts)


@pytest.mark.slow
def test_threads_beside_jax_change_nothing(julia):
    code = """
        @jax.jit
        def work(x):
            return jax.lax.fori_loop(0, 20, lambda i, x: jnp.tanh(x @ x.T) / 8, x)

        x = jnp.ones((200, 200)) / 200
        right, alone = np.asarray(work(x)), run(5000, 1)
        seen = []
        for k in range(50):
            running = work(x)  # XLA's threads are at work while Julia's are.
            both = run(5000, 2, progress=seen.append)
            np.testing.assert_array_equal(both.states, alone.states)
            for name in ("count", "mean", "powers", "products"):
                np.testing.assert_array_equal(
                    getattr(both.moments, name), getattr(alone.moments, name))
            np.testing.assert_array_equal(running, right)
        print("fifty", flush=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", script(2, code)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "fifty"


@pytest.mark.slow
def test_interrupt_stops_a_kernel_and_leaves_the_process_alive(julia):
    code = """
        run(10, 1)
        print("ready", flush=True)
        try:
            run(20_000_000, 1, save=False)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        result = run(10, 1)
        print(result.done, result.interrupted, flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", script(1, code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, err[-2000:]
    assert out.split() == ["interrupted", "10", "False"]
