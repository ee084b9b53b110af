"""Signals during a solve: to Julia, and to whoever listened for them before."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

STAND_IN = Path(__file__).parents[1] / "stand_in"


@pytest.fixture
def pipe():
    """The pipe of a session whose Julia is a stand-in, and that Julia."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(STAND_IN))
        patch.delitem(sys.modules, "juliacall", raising=False)
        import juliacall

        from hybrid_nds.runtime._interrupt import InterruptPipe

        # Not by the patch, which would bring the stand-in back for later tests.
        del sys.modules["juliacall"]
        package = type(juliacall.Main.HybridNDS)()
        made = InterruptPipe(package)
        package.descriptor = made.descriptor
        return made, package


@pytest.fixture
def listener():
    """Somebody who listens for signals, as an event loop does."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    ours.setblocking(False)
    caught = []
    handler = signal.signal(signal.SIGUSR1, lambda number, frame: caught.append(number))
    before = signal.set_wakeup_fd(theirs.fileno())
    try:
        yield ours
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGUSR1, handler)
        ours.close()
        theirs.close()


def test_signals_are_passed_on_whether_julia_read_them_or_not(pipe, listener):
    interrupts, package = pipe
    number = bytes([signal.SIGUSR1])
    with interrupts.armed():
        os.kill(os.getpid(), signal.SIGUSR1)
        package.poll()
        os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(BlockingIOError):
            listener.recv(10)
    assert listener.recv(10) == 2 * number
    with interrupts.armed():
        pass
    with pytest.raises(BlockingIOError):
        listener.recv(10)
    # The listener is back in its place.
    os.kill(os.getpid(), signal.SIGUSR1)
    assert listener.recv(10) == number


def test_signals_of_a_time_without_a_listener_are_for_nobody(pipe, listener):
    interrupts, package = pipe
    listening = signal.set_wakeup_fd(-1)
    with interrupts.armed():
        os.kill(os.getpid(), signal.SIGUSR1)
        package.poll()
    signal.set_wakeup_fd(listening, warn_on_full_buffer=False)
    with interrupts.armed():
        pass
    with pytest.raises(BlockingIOError):
        listener.recv(10)


def test_an_interrupt_left_over_does_not_stop_the_next_solve(pipe, listener):
    interrupts, package = pipe
    with interrupts.armed():
        os.kill(os.getpid(), signal.SIGUSR1)
    with interrupts.armed(), pytest.raises(BlockingIOError):
        package.poll()
