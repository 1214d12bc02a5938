"""What a run is to one of its ranks, and what rank 0 does while the others wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from tunesmith.core import hardware
from tunesmith.core.events import EventLog
from tunesmith.core.run_dir import RunDir, read_json
from tunesmith.core.run_record import Run
from tunesmith.core.stopping import INTERRUPTED, PAUSED, StopRequests
from tunesmith.tracking.beside import Trackers
from tunesmith.training.strategies.base import Strategy
from tunesmith.training.strategies.ranks import Ranks

Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class Job:
    """`run` is this rank's own record; `whole_run` is the folder of the run, rank 0's to write.

    `device` is what this rank computes on.
    """

    run: Run
    whole_run: RunDir
    strategy: Strategy
    stop: StopRequests
    trackers: Trackers
    device: torch.device

    @property
    def ranks(self) -> Ranks:
        """Who takes part."""
        return self.strategy.ranks

    @property
    def run_dir(self) -> RunDir:
        """This rank's own folder."""
        return self.run.run_dir

    @property
    def events(self) -> EventLog:
        """This rank's own events."""
        return self.run.events

    def tell(self, message: str) -> None:
        """Tell people something."""
        self.events.write("note", message=message)

    def origins(self) -> dict[str, Any]:
        """Where each key of the recipe comes from."""
        return read_json(self.whole_run.resolved_json)["origins"]

    def on_main(self, work: Callable[[], Value]) -> Value | None:
        """Do something on rank 0, with the cores of all ranks here, while the other ranks wait."""
        ranks = self.ranks
        with ranks.patient():
            found = None
            if ranks.is_main:
                threads = torch.get_num_threads()
                own = ranks.place.cores
                torch.set_num_threads(own * ranks.place.local_size if own else hardware.cpu_count())
                found = work()
                torch.set_num_threads(threads)
            ranks.wait()
        return found

    def is_asked_to_stop(self) -> bool:
        """Whether any rank was asked to; then all of them are."""
        code = self.stop.asked_code()
        interrupted, paused = self.ranks.sums([code == INTERRUPTED, code == PAUSED])
        if interrupted or paused:
            what = INTERRUPTED if interrupted else PAUSED
            self.stop.ask(what, "another rank was asked to stop")
        return bool(interrupted or paused)
