"""Taking many problems up the ladder, in this process or in several."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import functools
import multiprocessing
import os
import queue
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..tasks import guarded_result, run_guarded

if TYPE_CHECKING:
    from ..reconcile import Report, RungResult

Notify = Callable[[str, str, "RungResult | None"], None]
"""Told of each problem's rung: without a result when it begins, with it at its end."""

# One of these at the end would keep one core busy and leave the others idle.
_LONGEST = ("double_well", "ornstein_uhlenbeck", "gbm", "neural_sde", "additive_time")
# Each process holds a Julia of its own, a gigabyte and more.
_MOST_JULIAS = 8


def default_jobs(problems: int, mode: str) -> int:
    """As many processes as there are cores and problems."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min(cores, problems, _MOST_JULIAS if mode == "live" else cores))


def climb(
    names: Sequence[str], rungs: Sequence[str], mode: str, jobs: int, notify: Notify
) -> Iterator[tuple[Report, bytes]]:
    """Take fixtures up the ladder.

    **Arguments:** their names; the rungs; where Julia's results come from; in how many
    processes; and what is told of every rung.

    **Returns:** the reports as they are finished, each with its plot as PNG.

    **Raises:** what a problem raises; `RuntimeError` where a process died.
    """
    if jobs == 1:
        for name in names:
            yield climb_fixture(name, rungs, mode, notify)
        return
    # JAX and Julia both hold threads that do not survive a fork.
    context = multiprocessing.get_context("spawn")
    messages: Any = context.Queue()
    pool = concurrent.futures.ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_listen, initargs=(messages,)
    )
    ordered = sorted(names, key=lambda n: (n not in _LONGEST, names.index(n)))
    there = functools.partial(_climb_there, rungs, mode)
    try:
        waiting = {pool.submit(run_guarded, there, name) for name in ordered}
        while waiting:
            done, waiting = concurrent.futures.wait(waiting, timeout=0.1)
            _drain(messages, notify)
            for task in done:
                yield guarded_result(task)
    except concurrent.futures.process.BrokenProcessPool as error:
        raise RuntimeError(
            f"a process died, perhaps for want of memory; --jobs {jobs - 1 or 1} needs "
            "less of it."
        ) from error
    finally:
        _stop(pool)
        messages.close()


def climb_fixture(
    name: str, rungs: Sequence[str], mode: str, notify: Notify
) -> tuple[Report, bytes]:
    """Take one fixture up the ladder, and draw its report."""
    from ..reconcile import draw, load_fixture, reconcile

    report = reconcile(
        load_fixture(name),
        rungs=rungs,
        julia=mode,
        progress=lambda rung: notify(name, rung, None),
        finished=lambda result: notify(name, result.rung, result),
    )
    return report, draw(report)


_messages: list[Any] = []


def _listen(messages: Any) -> None:
    """In a worker: where to tell of rungs."""
    _messages[:] = [messages]


def _climb_there(rungs: Sequence[str], mode: str, name: str) -> tuple[Report, bytes]:
    def notify(*message: Any) -> None:
        _messages[0].put(message)

    return climb_fixture(name, rungs, mode, notify)


def _drain(messages: Any, notify: Notify) -> None:
    with_message = functools.partial(messages.get, block=False)
    while True:
        try:
            notify(*with_message())
        except queue.Empty:
            return


def _stop(pool: concurrent.futures.ProcessPoolExecutor) -> None:
    """End the pool, without waiting for what nobody waits for any more."""
    workers = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()
