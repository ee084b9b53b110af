"""The worker processes: an executor that survives crashes, Ctrl-C and its program.

Julia itself is a stand-in here: what is tested is what surrounds it.
"""

import concurrent.futures
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

# ruff: noqa: F811
from stand_in_worker import environment, worker  # noqa: F401

import hybrid_nds
from hybrid_nds import runtime
from hybrid_nds.runtime import WorkerDiedError


def _settings():
    import juliacall

    return juliacall.SETTINGS


def _gone(process: int) -> bool:
    """Wait for a process to end; one that is dead but not collected has not."""
    for _ in range(200):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        # Without its parent it is for the system to collect.
        status = Path(f"/proc/{process}/stat")
        if status.is_file() and status.read_text().split()[2] == "Z":
            parent = int(status.read_text().split()[3])
            if parent != os.getpid():
                return True
        time.sleep(0.1)
    return False


def test_tasks_run_in_the_main_thread_of_another_process(worker):
    offset = 2
    process, main, value = worker.submit(
        lambda x, *, y: (
            os.getpid(),
            threading.current_thread() is threading.main_thread(),
            x + y + offset,
        ),
        3,
        y=4,
    ).result()
    assert process != os.getpid()
    assert main
    assert value == 9


def test_it_is_used_from_any_thread(worker):
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(worker.call, pow, 2, k) for k in range(12)]
        assert [call.result() for call in calls] == [2**k for k in range(12)]


def test_julia_starts_with_one_thread_and_its_signals(worker):
    settings = worker.call(_settings)
    assert settings["THREADS"] == "1"
    assert settings["HANDLE_SIGNALS"] == "yes"
    # They are for Julia's start alone.
    assert "PYTHON_JULIACALL_THREADS" not in worker.call(lambda: dict(os.environ))
    assert "PYTHON_JULIACALL_THREADS" not in os.environ


def test_an_argument_comes_before_the_environment(environment, monkeypatch):
    monkeypatch.setenv("PYTHON_JULIACALL_THREADS", "2")
    with hybrid_nds.JuliaWorker(threads=3) as one:
        settings = one.call(_settings)
        session = one.call(lambda: runtime.session().threads)
    assert (settings["THREADS"], settings["HANDLE_SIGNALS"]) == ("3", "yes")
    assert session == 3


def test_jax_takes_no_device_there(worker):
    there = worker.call(lambda: dict(os.environ))
    # The precision is that of this process.
    assert (there["JAX_PLATFORMS"], there["JAX_ENABLE_X64"]) == ("cpu", "1")


class _OwnError(Exception):
    def __init__(self, what, where):
        super().__init__(f"{what} in {where}")


def _fail(error):
    raise error


def test_exceptions_come_back(worker):
    with pytest.raises(KeyError, match="mine"):
        worker.call(_fail, KeyError("mine"))
    with pytest.raises(runtime.JuliaExecutionError, match="left its domain") as caught:
        worker.call(_fail, runtime.JuliaExecutionError("DomainError", "sqrt"))
    assert caught.value.kind == "DomainError"


def test_exceptions_that_pickle_cannot_make_again_come_back(worker):
    def fail():
        raise _OwnError("a leak", "the boat")

    with pytest.raises(_OwnError, match="a leak in the boat"):
        worker.call(fail)
    assert worker.call(pow, 2, 3) == 8


def test_exceptions_that_cannot_be_pickled_come_back_in_words(worker):
    def fail():
        raise ValueError("held by", threading.Lock())

    with pytest.raises(RuntimeError, match="ValueError: "):
        worker.call(fail)
    assert worker.call(pow, 2, 3) == 8


def test_what_cannot_travel_is_refused(worker):
    with pytest.raises(TypeError, match="cannot travel to another process"):
        worker.submit(threading.Lock().acquire)

    def value():
        import juliacall

        return {"main": juliacall.Main}

    with pytest.raises(TypeError, match="Julia value cannot leave its process"):
        worker.call(value)


def test_a_killed_process_is_replaced(worker):
    process = worker.call(os.getpid)
    running = worker.submit(time.sleep, 60)
    waiting = worker.submit(pow, 2, 2)
    os.kill(process, signal.SIGKILL)
    for future in (running, waiting):
        with pytest.raises(WorkerDiedError, match="the next task starts a new process"):
            future.result(timeout=60)
    other = worker.call(os.getpid)
    assert other != process


def test_a_waiting_task_can_be_cancelled(worker):
    running = worker.submit(time.sleep, 1)
    tasks = [worker.submit(pow, 2, k) for k in range(5)]
    # The queue of the pool holds one task ahead of the one that runs.
    assert tasks[-1].cancel()
    assert tasks[-1].cancelled()
    assert not concurrent.futures.wait(tasks, timeout=60).not_done
    assert running.result() is None
    assert [task.result() for task in tasks[:-1]] == [2**k for k in range(4)]


def test_several_processes_share_the_work(environment):
    with hybrid_nds.JuliaWorker(2) as two:
        # Each waits until both run.
        meet = lambda me, other, folder: (
            Path(folder, me).touch(),
            [time.sleep(0.05) for _ in range(600) if not Path(folder, other).exists()],
            os.getpid(),
        )
        folder = environment["HYBRID_NDS_CONFIG"]
        found = two.map(meet, "ab", "ba", [folder, folder])
        assert len({result[-1] for result in found}) == 2
        assert list(two.map(pow, range(10), [2] * 10)) == [k**2 for k in range(10)]


def test_shutdown_ends_the_process(environment):
    one = hybrid_nds.JuliaWorker()
    process = one.call(os.getpid)
    one.shutdown()
    assert _gone(process)
    with pytest.raises(RuntimeError, match="was shut down"):
        one.submit(pow, 2, 2)
    one.shutdown()


@pytest.mark.parametrize("processes", [0, -1, 1.5, "two"])
def test_a_number_of_processes_that_makes_no_sense(processes):
    with pytest.raises(ValueError, match=f"at least 1, got {processes!r}"):
        hybrid_nds.JuliaWorker(processes)


def test_without_julia_the_task_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRID_NDS_CONFIG", str(tmp_path))
    monkeypatch.setenv("PYTHON_JULIACALL_EXE", "/nowhere/julia")
    monkeypatch.setenv("PYTHON_JULIACALL_PROJECT", str(tmp_path))
    with (
        hybrid_nds.JuliaWorker() as one,
        pytest.raises(runtime.JuliaNotFoundError, match="/nowhere/julia"),
    ):
        one.call(pow, 2, 2)


@contextlib.contextmanager
def _program(folder, environment, code):
    """A program without a guard around its top level, in a group of its own."""
    script = folder / "program.py"
    script.write_text(textwrap.dedent(code))
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


_START = """
    import os, signal, sys, time
    import hybrid_nds
    print("top", flush=True)
    worker = hybrid_nds.JuliaWorker()
    print(worker.call(os.getpid), flush=True)
"""


def test_the_program_runs_once_and_its_end_ends_the_worker(tmp_path, environment):
    with _program(tmp_path, environment, _START) as program:
        out, err = program.communicate(timeout=60)
    assert program.returncode == 0, err
    assert err == ""
    assert out.split()[0] == "top"
    assert len(out.split()) == 2
    assert _gone(int(out.split()[1]))


def test_a_killed_program_takes_its_worker_along(tmp_path, environment):
    code = _START + "    time.sleep(600)\n"
    with _program(tmp_path, environment, code) as program:
        assert program.stdout.readline() == "top\n"
        process = int(program.stdout.readline())
        program.kill()
        assert _gone(process)


@pytest.mark.parametrize("whom", ["program", "group", "both"])
def test_interrupts_stop_the_task_and_leave_the_worker_alive(
    tmp_path, environment, whom
):
    # From the keyboard the signal goes to the whole group, from a notebook to the
    # program alone; a second one finds the worker at rest.
    code = (
        _START
        + """
    def task():
        print("running", flush=True)
        time.sleep(600)
    try:
        worker.call(task)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print(worker.call(os.getpid), flush=True)
    """
    )
    with _program(tmp_path, environment, code) as program:
        assert program.stdout.readline() == "top\n"
        process = program.stdout.readline()
        assert program.stdout.readline() == "running\n"
        # The program first: with its answer it ends, and would be hit while it does.
        if whom != "group":
            os.kill(program.pid, signal.SIGINT)
        if whom != "program":
            os.kill(int(process), signal.SIGINT)
        out, err = program.communicate(timeout=60)
    assert out.split() == ["interrupted", process.strip()], err
    assert err == ""


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_an_interrupt_while_a_task_is_handed_over(worker, monkeypatch, before):
    """Ctrl-C comes while the pool takes the task: it must not run on."""
    hand_over = hybrid_nds.JuliaWorker._hand_over
    handed: list[concurrent.futures.Future] = []

    def interrupted(self, number, task, environment):
        if before:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
        handed.append(hand_over(self, number, task, environment))
        if not before:
            while not handed[0].running():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
        return handed[0]

    process = worker.call(os.getpid)
    with monkeypatch.context() as patch:
        patch.setattr(hybrid_nds.JuliaWorker, "_hand_over", interrupted)
        with pytest.raises(KeyboardInterrupt):
            worker.call(time.sleep, 600)
        # Stopped where it runs, or cancelled before.
        while not handed:
            time.sleep(0.01)
        concurrent.futures.wait(handed, timeout=60)
    assert handed[0].done()
    assert worker.call(os.getpid) == process


def test_an_interrupt_at_any_line_leaves_the_worker_whole(worker):
    """Wherever Ctrl-C comes while a task is waited for, no lock may stay taken."""
    process = worker.call(os.getpid)
    places: list[int] = []

    def interrupt_at(place):
        def trace(frame, event, argument):
            # What this package and the standard library run while it waits.
            if Path(frame.f_code.co_filename).name not in (
                *("_worker.py", "_base.py", "threading.py"),
            ):
                return None
            places[-1] += 1
            if places[-1] == place:
                raise KeyboardInterrupt
            return trace

        return trace

    for place in range(1, 200):
        places.append(0)
        sys.settrace(interrupt_at(place))
        try:
            worker.call(time.sleep, 0.01)
        except KeyboardInterrupt:
            pass
        else:
            break
        finally:
            sys.settrace(None)
        # A lock that stays taken is waited for without end.
        assert worker.submit(os.getpid).result(timeout=30) == process
    assert 10 < len(places) < 199


def test_a_task_that_waits_does_not_run_once_interrupted(worker, tmp_path):
    """It stands in the queue of the pool, where futures cannot be cancelled."""
    worker.call(os.getpid)
    running = worker.submit(time.sleep, 2)
    timer = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        worker.call(lambda: (tmp_path / "ran").touch())
    assert running.result() is None
    assert worker.call(pow, 2, 3) == 8
    assert not (tmp_path / "ran").exists()


def test_interrupts_at_rest_do_nothing(worker):
    process = worker.call(os.getpid)
    os.kill(process, signal.SIGINT)
    assert worker.call(os.getpid) == process
