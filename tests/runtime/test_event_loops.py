"""Solves in Julia within programs that run Python for others: IPython and asyncio."""

import signal
import subprocess
import sys
import textwrap
import time

import pytest

pytestmark = [pytest.mark.julia, pytest.mark.slow]

_SOLVES = """
import asyncio, threading
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
import hybrid_nds

field = lambda t, y, rate: jnp.stack([y[1], -rate * y[0]])
hybrid_nds.runtime.session()

def end(rate, t1, steps=100_000):
    problem = hybrid_nds.ODEProblem(field, jnp.ones(2), 0.0, t1, args=rate)
    options = {"solver": "Tsit5", "rtol": 1e-10, "max_steps": steps}
    return hybrid_nds.solve(problem, "julia", **options).ys[0]

# y'' = -rate y from (1, 1), in closed form.
exact = lambda w: np.cos(2 * w) + np.sin(2 * w) / w
rates = [jnp.array(1.0 + k) for k in range(4)]

def check():
    for rate in rates:
        assert abs(end(rate, 2.0)[0] - exact(float(rate) ** 0.5)) < 1e-8
"""


def _start(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _interrupted(command: list[str]) -> list[str]:
    """What a program prints of which a solve is interrupted when it is ready."""
    process = _start(command)
    try:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "ready":
            assert process.poll() is None, process.communicate()
        time.sleep(1.0)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        said = process.stdout.readline().strip()
        # A second is promised; the machine may be busy with others.
        assert time.monotonic() - begin < 10
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return [said, *out.split()]


def test_ipython_interrupts_a_solve(julia):
    pytest.importorskip("IPython")
    code = _SOLVES + textwrap.dedent("""
        check()
        print("ready", flush=True)
        try:
            end(rates[0], 1e12, 2**40)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        check()
        print("alive")
    """)
    script = f"import IPython; IPython.start_ipython(argv=['-c', {code!r}])"
    found = _interrupted([sys.executable, "-c", script])
    assert found == ["interrupted", "alive"]


def test_asyncio_interrupts_a_solve(julia):
    code = _SOLVES + textwrap.dedent("""
        async def main():
            check()
            print("ready", flush=True)
            end(rates[0], 1e12, 2**40)

        try:
            asyncio.run(main())
        except hybrid_nds.SolveError as error:
            # asyncio's handler cancels the task, and raises nothing here.
            print(error.solution.outcome_name, flush=True)
        check()
        print("alive")
    """)
    assert _interrupted([sys.executable, "-c", code]) == ["interrupted", "alive"]


def test_coroutines_solve_in_threads_at_once(julia):
    code = _SOLVES + textwrap.dedent("""
        async def main():
            calls = [asyncio.to_thread(end, rate, 2.0) for rate in rates * 5]
            return await asyncio.gather(*calls)

        found = [float(y[0]) for y in asyncio.run(main())]
        expected = [exact(float(rate) ** 0.5) for rate in rates * 5]
        assert np.allclose(found, expected, rtol=0, atol=1e-8)
        print("alive")
    """)
    process = _start([sys.executable, "-c", code])
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out.split()) == (0, ["alive"]), err
