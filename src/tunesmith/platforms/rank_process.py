"""One rank of a run as a process of the node that it is on, started and watched from elsewhere.

An actor of the cluster is one of these; it knows nothing of the cluster. Its methods are called
from several threads: `wait` lasts as long as the rank, the others come meanwhile. The rank ends by
itself where the actor is gone (training/strategies/watch.py).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

import tunesmith
from tunesmith.core.errors import Fault
from tunesmith.core.rank_place import LAUNCHER_PID
from tunesmith.core.run_dir import RunDir
from tunesmith.core.threads import with_short_spins
from tunesmith.platforms.command import run_command
from tunesmith.platforms.places import DEVICES

# A file that another machine has just written may take so long to be seen on a network disk.
SEEN_WITHIN_S = 5.0
STACKS_S = 1.0


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """What a rank's node says of itself before the rank is started."""

    version: str
    sees_run: bool
    devices: str | None
    port: int
    fault: Fault | None = None
    """What else the node lacks."""


class RankProcess:
    """A rank's place on a node, and its process once it is started."""

    def __init__(self, folder: Path) -> None:
        self._run_dir = RunDir(folder)
        self._popen: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def describe(self, mark: str) -> NodeFacts:
        """Say what the node has; `mark` is the name of a file that is in the run folder now."""
        return NodeFacts(
            version=tunesmith.__version__,
            sees_run=_is_seen(self._run_dir.path / mark),
            devices=os.environ.get(DEVICES),
            port=self.hold_port(),
        )

    def start(self, rank: int, place: Mapping[str, str], address: str) -> None:
        """Start the rank; `place` are its variables, `address` is the node's own."""
        own = self._run_dir.of_rank(rank)
        own.path.mkdir(parents=True, exist_ok=True)
        environment = {**with_short_spins(), **place, LAUNCHER_PID: str(os.getpid())}
        interface = _interface_of(address)
        if interface:  # else a name that the machine has for itself decides, often its loopback
            for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
                environment.setdefault(name, interface)
        with own.log.open("ab") as log, _no_signal_blocked():
            self._popen = subprocess.Popen(
                run_command(self._run_dir.path, python=sys.executable),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
                env=environment,
            )

    def wait(self) -> int:
        """Wait for the rank's end; the exit code, negative for the signal that ended it."""
        assert self._popen is not None
        return self._popen.wait()

    def send(self, number: int) -> None:
        """Send the rank a signal."""
        if self._popen is not None:
            with suppress(ProcessLookupError):
                self._popen.send_signal(number)

    def end(self, rank: int) -> None:
        """End the rank at once, after it has written down its stacks."""
        if self._popen is None or self._popen.poll() is not None:
            return
        # without the file nobody listens, and the signal would end it without a word
        if (self._run_dir.ranks / f"stacks-{rank}.txt").exists():
            self.send(signal.SIGUSR1)
            self.send(signal.SIGCONT)
            time.sleep(STACKS_S)
        self.end_at_once()

    def end_at_once(self) -> None:
        """End the rank and its children, and let go of the port."""
        if self._socket is not None:
            self._socket.close()
        if self._popen is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()

    def hold_port(self) -> int:
        """Find a free port for the ranks' meeting, and keep it from being given to others.

        The rank itself may still take it: both set SO_REUSEADDR, and this one does not listen.
        """
        if self._socket is None:
            self._socket = socket.socket()
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(("", 0))
        return int(self._socket.getsockname()[1])


@contextmanager
def _no_signal_blocked() -> Generator[None]:
    """A process inherits what its parent's thread blocks, and Ray's workers block SIGINT."""
    before = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_seen(file: Path) -> bool:
    deadline = time.monotonic() + SEEN_WITHIN_S
    while not file.is_file():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _interface_of(address: str) -> str | None:
    """The network interface that has an address."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            return name
    return None
