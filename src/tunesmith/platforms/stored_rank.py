"""One rank of a run on a node that shares no disk: its run folder is the node's own.

An actor of the cluster is one of these, as of RankProcess, which starts the rank. Before that it
fetches what the rank needs from an object store; meanwhile it answers with what the rank has
written; rank 0's also sends checkpoints and results to the store.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tunesmith
from tunesmith.core.cache import cache_root
from tunesmith.core.errors import Fault, TunesmithError
from tunesmith.core.placed import INPUTS
from tunesmith.core.run_dir import RunDir, disk_error
from tunesmith.platforms.news import Change, News, Told, changes_of, pass_over, put_down
from tunesmith.platforms.object_store import check_store, open_store
from tunesmith.platforms.places import DEVICES
from tunesmith.platforms.rank_process import NodeFacts, RankProcess
from tunesmith.platforms.sender import Sender
from tunesmith.platforms.stored_inputs import fetch_inputs
from tunesmith.platforms.stored_run import StoredRun, whole_steps

FOLDER = "stored-runs"
NODE_LETTERS = 8


@dataclass(frozen=True, kw_only=True)
class Brought:
    """What a node has to say when its folder is ready."""

    warnings: list[str] = field(default_factory=list[str])
    fault: Fault | None = None


class StoredRank:
    """A rank's place on a node, its folder there, and its process once it is started."""

    def __init__(self, url: str, name: str, node: str, storage_wait_s: float) -> None:
        self._url = url
        self._name = name
        self._wait_s = storage_wait_s
        # two nodes of a cluster may be one machine
        self._run_dir = RunDir(cache_root() / FOLDER / f"{name}-{node[:NODE_LETTERS]}")
        self._inputs = Path(f"{self._run_dir.path}.inputs")
        self._process = RankProcess(self._run_dir.path)
        self._run: StoredRun | None = None
        self._sender: Sender | None = None
        self._rank = -1
        self._told = Told()

    def describe(self, mark: str) -> NodeFacts:
        """Say what the node has, and whether it reaches the store."""
        del mark
        fault: Fault | None = None
        try:
            store = open_store(self._url)
            check_store(store)
            self._run = StoredRun(store, self._name)
        except TunesmithError as error:
            fault = error.faults[0]
        return NodeFacts(
            version=tunesmith.__version__,
            sees_run=True,
            devices=os.environ.get(DEVICES),
            port=self._process.hold_port(),
            fault=fault,
        )

    def send_left(self) -> Brought:
        """Send checkpoints that an earlier start has left on this node and the store has not."""
        assert self._run is not None
        warnings: list[str] = []
        try:
            stored = self._run.steps()
            here = whole_steps(self._run_dir.checkpoints)
            for step in sorted(here.keys() - set(stored)):
                if step > max(stored, default=0):
                    self._run.send_checkpoint(here[step])
                    warnings.append(f"step {step} was left on a node, and is in the store now")
        except (TunesmithError, OSError) as error:
            return Brought(warnings=warnings, fault=self._fault(error))
        return Brought(warnings=warnings)

    def bring(self, *, everything: bool) -> Brought:
        """Fetch what ranks on this node need; `everything` also means older checkpoints."""
        assert self._run is not None
        warnings: list[str] = []
        folder = self._run_dir.path
        try:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self._run_dir.ranks, ignore_errors=True)
            self._run_dir.ranks.mkdir()
            self._run_dir.log.unlink(missing_ok=True)  # the driver has it
            self._run.fetch_small_files(folder)
            checkpoints = self._run_dir.checkpoints
            checkpoints.mkdir(exist_ok=True)
            self._run.fetch_checkpoints(
                checkpoints, only_newest=not everything, tell=warnings.append
            )
            fetch_inputs(self._run, self._inputs)
        except (TunesmithError, OSError) as error:
            return Brought(warnings=warnings, fault=self._fault(error))
        return Brought(warnings=warnings)

    def start(self, rank: int, place: Mapping[str, str], address: str) -> None:
        """Start the rank; rank 0's folder is sent from now on."""
        assert self._run is not None
        self._rank = rank
        pass_over(self._run_dir, rank, self._told)
        self._process.start(rank, {**place, INPUTS: str(self._inputs)}, address)
        if rank == 0:
            self._sender = Sender(
                self._run, self._run_dir, self._wait_s, lambda: self.send(signal.SIGTERM)
            )
            self._sender.start()

    def wait(self) -> int:
        """Wait for the rank's end, and until all of it is sent; the exit code."""
        code = self._process.wait()
        if self._sender is not None:
            self._sender.finish()
        return code

    def news(self) -> News:
        """Say what the rank has written since the last time."""
        sender = self._sender
        return News(
            changes=changes_of(self._run_dir, self._rank, self._told) if self._rank >= 0 else [],
            messages=sender.take_messages() if sender else [],
            unsent=sender.failed if sender else None,
        )

    def take(self, changes: list[Change]) -> None:
        """Write down what ranks on other nodes have to tell."""
        for change in changes:
            put_down(change, self._run_dir.path)

    def send(self, number: int) -> None:
        """Send the rank a signal."""
        self._process.send(number)

    def end(self, rank: int) -> None:
        """End the rank at once, after it has written down its stacks."""
        self._process.end(rank)

    def end_at_once(self) -> None:
        """End the rank and its children, and let go of the port."""
        self._process.end_at_once()
        if self._sender is not None:
            self._sender.leave()

    def where(self) -> str:
        """Return the run's folder on this node."""
        return str(self._run_dir.path)

    def clear(self) -> None:
        """Delete the run's folder on this node: all of it is in the store."""
        for folder in (self._run_dir.path, self._inputs):
            shutil.rmtree(folder, ignore_errors=True)

    def _fault(self, error: Exception) -> Fault:
        known = (
            error
            if isinstance(error, TunesmithError)
            else disk_error(self._run_dir.path, error)
            if isinstance(error, OSError)
            else None
        )
        assert known is not None
        return known.faults[0]
