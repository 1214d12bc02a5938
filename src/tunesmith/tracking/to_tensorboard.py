"""TensorBoard: an event file in RUN/tracking/tensorboard, written anew by each export."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tunesmith.tracking.numbers import Numbers
from tunesmith.tracking.tracker import TrackedRun


@dataclass(frozen=True, eq=False)
class TensorboardRun:
    """An event file that is being written."""

    folder: Path
    writer: Any

    def log(self, numbers: Numbers) -> None:
        """Write one event with a scalar for each number."""
        # The classes are made when the modules are loaded: no type checker sees them.
        events: Any = import_module("tensorboard.compat.proto.event_pb2")
        summaries: Any = import_module("tensorboard.compat.proto.summary_pb2")
        summary = summaries.Summary(
            value=[
                summaries.Summary.Value(tag=name, simple_value=value)
                for name, value in numbers.values.items()
            ]
        )
        event = events.Event(wall_time=numbers.at, step=numbers.step, summary=summary)
        self.writer.add_event(event)
        self.writer.flush()

    def end(self, *, succeeded: bool) -> str:
        """Close the file; TensorBoard knows no ending."""
        del succeeded
        self.writer.close()
        return f"see it with: tensorboard --logdir {self.folder}"


def begin(run: TrackedRun) -> TensorboardRun:
    """Begin the file."""
    from tensorboard.summary.writer.event_file_writer import EventFileWriter  # pyright: ignore[reportMissingImports]

    shutil.rmtree(run.folder, ignore_errors=True)
    run.folder.mkdir(parents=True)
    return TensorboardRun(run.folder, EventFileWriter(str(run.folder)))
