"""Hosts on one machine: network namespaces, each with an address of its own.

They need Linux, root and the command `ip`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_BRIDGE = "hnds0"
_HERE = "10.197.53.1"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def available() -> bool:
    """Whether hosts can be made here: tried."""
    if shutil.which("ip") is None or not hasattr(os, "geteuid") or os.geteuid():
        return False
    try:
        _ip("netns", "add", "hnds-try")
        _ip("netns", "del", "hnds-try")
    except subprocess.CalledProcessError:
        return False
    return True


class Host:
    """A namespace with an address, which its host's name stands for."""

    def __init__(self, number: int):
        self.name = f"hnds{number}"
        self.address = f"10.197.53.{10 + number}"
        self.cable = f"hnds-v{number}"
        self._names = Path("/etc/netns") / self.name
        self._made: list[subprocess.Popen] = []

    def connect(self) -> None:
        _ip("netns", "add", self.name)
        end = f"hnds-e{self.name[-1]}"
        _ip("link", "add", self.cable, "type", "veth", "peer", "name", end)
        _ip("link", "set", end, "netns", self.name)
        _ip("link", "set", self.cable, "master", _BRIDGE, "up")
        _ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", end)
        _ip("-n", self.name, "link", "set", end, "up")
        _ip("-n", self.name, "link", "set", "lo", "up")
        # `ip netns exec` shows its processes this file as /etc/hosts.
        self._names.mkdir(parents=True)
        names = f"127.0.0.1 localhost\n{self.address} {socket.gethostname()}\n"
        (self._names / "hosts").write_text(names)

    def run(self, command: Sequence[str], **options: Any) -> subprocess.Popen:
        """Start a command there, as a launcher such as `srun` does."""
        inside = ["ip", "netns", "exec", self.name, *command]
        self._made.append(subprocess.Popen(inside, start_new_session=True, **options))
        return self._made[-1]

    def cut_off(self) -> None:
        """Pull its cable: what is sent is lost, and nobody is told."""
        _ip("link", "set", self.cable, "down")

    def end(self) -> None:
        """Kill all that runs there."""
        listed = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True
        )
        for number in listed.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(number), 9)
        for process in self._made:
            process.wait()

    def disconnect(self) -> None:
        self.end()
        for gone in (("link", "del", self.cable), ("netns", "del", self.name)):
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip(*gone)
        shutil.rmtree(self._names, ignore_errors=True)


@contextlib.contextmanager
def network(number: int) -> Iterator[list[Host]]:
    """So many hosts that reach each other and this process."""
    hosts = [Host(k) for k in range(1, number + 1)]
    try:
        _ip("link", "add", _BRIDGE, "type", "bridge")
        _ip("addr", "add", f"{_HERE}/24", "dev", _BRIDGE)
        _ip("link", "set", _BRIDGE, "up")
        for host in hosts:
            host.connect()
        yield hosts
    finally:
        for host in hosts:
            host.disconnect()
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "del", _BRIDGE)


@contextlib.contextmanager
def cluster(hosts: Sequence[Host], folder: Path) -> Iterator[Path]:
    """A scheduler of Dask here, a worker on each host; gives the scheduler's file."""
    file = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    # What is silent for so long is lost; Dask takes no less than 11 s.
    quiet = {
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s",
        "DASK_DISTRIBUTED__WORKER__DAEMON": "False",
        # Functions of the tests travel by name.
        "PYTHONPATH": str(Path(__file__).parent),
    }
    options: dict[str, Any] = {
        "env": os.environ | quiet,
        "cwd": folder,
        "stderr": subprocess.DEVNULL,
    }
    scheduler = subprocess.Popen(
        [
            *(*dask, "scheduler", "--host", _HERE, "--port", "0"),
            *("--no-dashboard", "--scheduler-file", str(file)),
        ],
        **options,
    )
    try:
        worker = ["worker", "--scheduler-file", str(file), "--nthreads", "1"]
        for host in hosts:
            host.run([*dask, *worker, "--no-dashboard"], **options)
        yield file
    finally:
        for host in hosts:
            host.end()
        scheduler.kill()
        scheduler.wait()
