"""A stand-in for juliacall that starts at once: for tests of what surrounds Julia."""

import os

__version__ = "0.0.0"
SETTINGS = {
    name.removeprefix("PYTHON_JULIACALL_"): value
    for name, value in os.environ.items()
    if name.startswith("PYTHON_JULIACALL_")
}
CONFIG = {"opt_handle_signals": SETTINGS.get("HANDLE_SIGNALS")}


class JuliaError(Exception):
    """What Julia would raise."""


class _Package:
    def versions(self):
        return "Julia=1.10.8"

    def __init__(self):
        self.read = []
        setattr(self, "take_signals!", self._take)

    def gc_state_address(self, name):
        return 0

    def entry_addresses(self):
        return 0, 0, 0, 0

    def watch_interrupts(self, descriptor):
        self.descriptor = descriptor

    def poll(self):
        """Read one signal, as a solve does between its steps."""
        self.read += os.read(self.descriptor, 1)

    def _take(self):
        taken, self.read = self.read, []
        return taken


class _Main:
    HybridNDS = _Package()

    def seval(self, code):
        return int(SETTINGS["THREADS"]) if code == "Threads.nthreads()" else None


Main = _Main()
