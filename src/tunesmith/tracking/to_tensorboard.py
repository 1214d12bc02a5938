"""TensorBoard: an event file in RUN/tracking/tensorboard, written anew by each export."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
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
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportMissingImports]
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportMissingImports]

        values = [Summary.Value(tag=name, simple_value=it) for name, it in numbers.values.items()]
        event = Event(wall_time=numbers.at, step=numbers.step, summary=Summary(value=values))
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
