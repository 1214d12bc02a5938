"""Sends what a run writes on its node to an object store, beside the run, which never waits for it.

A thread looks once a second for checkpoints that are new, and now and then at the other files. A
store that fails is tried again until it has failed for as long as the recipe allows; then the run
is asked to stop, and what was not sent stays on the node.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tunesmith.core.errors import Fault, TunesmithError
from tunesmith.core.run_dir import RunDir
from tunesmith.platforms.stored_run import Sent, StoredRun, whole_steps

LOOK_EVERY_S = 1.0
FILES_EVERY_S = 30.0
LEFT_WITHIN_S = 5.0

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Sender:
    """Sends the folder of a run; `on_failure` is called once where the store fails for too long."""

    run: StoredRun
    run_dir: RunDir
    patience_s: float
    on_failure: Callable[[], None]
    failed: Fault | None = None
    """Why something was not sent."""
    _messages: list[str] = field(default_factory=list[str])
    _sent: Sent = field(default_factory=Sent)
    _stored: set[int] | None = None
    """The checkpoints that the store has, once it has said so."""
    _whole: set[int] = field(default_factory=set[int])
    """Those of them that were sent or fetched whole."""
    _last: Fault | None = None
    _is_over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _files_at: float = 0.0
    _failing_since: float | None = None

    def start(self) -> None:
        """Begin; checkpoints that are here now are those that were fetched."""
        self._whole = set(whole_steps(self.run_dir.checkpoints))
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Send all that is left, once the run has ended; `failed` says whether something is not."""
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()
        # a store that has failed for long enough is asked a last time
        patience_s = 0.0 if self.failed else self.patience_s
        while not self._try(is_over=True):
            if self._has_failed_for(patience_s):
                return
            time.sleep(LOOK_EVERY_S)
        if self.failed is not None:
            self._messages.append("the run was asked to stop as the store had failed; all is there")
            self.failed = None

    def leave(self) -> None:
        """End without sending anything more."""
        self._is_over.set()
        if self._thread is not None:
            self._thread.join(LEFT_WITHIN_S)

    def take_messages(self) -> list[str]:
        """Return what people should know, since the last call."""
        taken, self._messages = self._messages, []
        return taken

    def _look(self) -> None:
        while not self._is_over.wait(LOOK_EVERY_S):
            if not self._try(is_over=False) and self._has_failed_for(self.patience_s):
                self.on_failure()
                return

    def _try(self, *, is_over: bool) -> bool:
        try:
            self._send(is_over=is_over)
        except (TunesmithError, OSError) as error:
            self._note(error)
            return False
        if self._failing_since is not None:
            self._messages.append(f"{self.run.url} takes files again")
        self._failing_since = None
        return True

    def _send(self, *, is_over: bool) -> None:
        if self._stored is None:
            self._stored = set(self.run.steps())
            self._whole &= self._stored
        here = whole_steps(self.run_dir.checkpoints)
        new = sorted(here.keys() - self._whole)
        for step in new:
            if step in self._stored:  # what was there was not whole
                self.run.delete_checkpoint(step)
            try:
                self.run.send_checkpoint(here[step])
            except FileNotFoundError:  # deleted meanwhile, as others came
                continue
            self._stored.add(step)
            self._whole.add(step)
        if here:  # what the run has deleted since
            for step in sorted(step for step in self._stored - here.keys() if step < max(here)):
                self.run.delete_checkpoint(step)
                self._stored.discard(step)
                self._whole.discard(step)
        if is_over or new or time.monotonic() - self._files_at > FILES_EVERY_S:
            self.run.send_files(self.run_dir.path, self._sent, is_over=is_over)
            self._files_at = time.monotonic()

    def _note(self, error: Exception) -> None:
        known = (
            error.faults[0]
            if isinstance(error, TunesmithError)
            else Fault(found=str(error), where=str(self.run_dir.path), fix="see the node's disk")
        )
        if self._failing_since is None:
            self._failing_since = time.monotonic()
            self._messages.append(
                f"{known.found}; it is tried again for {self.patience_s:.0f} s (where: "
                f"{known.where})"
            )
        self._last = known

    def _has_failed_for(self, limit_s: float) -> bool:
        if self._failing_since is None or time.monotonic() - self._failing_since < limit_s:
            return False
        self.failed = self._last
        return True
