"""Talks to a model that runs in a process of its own, so that this one need not load torch.

with ChatClient(what) as client:
    ready = client.wait_until_ready()
    for part in client.answer(messages=[{"role": "user", "content": "Hello"}]):
        ...                                            Delta, Delta, ..., Done
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, Self

from tunesmith.core.errors import Fault, RunError
from tunesmith.core.threads import with_short_spins
from tunesmith.inference.protocol import (
    DEFAULT_MAX_NEW_TOKENS,
    Delta,
    Done,
    Ready,
    Reply,
    from_line,
)

GRACE_S = 5.0
LAST_LINES = 8


class ChatClient:
    """One process and one model, with adapters (folder, weight) added. Not for several threads."""

    def __init__(
        self,
        what: str,
        *,
        adapters: Sequence[tuple[str, float]] = (),
        python: str = sys.executable,
    ) -> None:
        self._what = what
        added = [word for name, weight in adapters for word in ("--adapter", name, str(weight))]
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        self._process = subprocess.Popen(
            [python, "-m", "tunesmith.inference.process", what, *added],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="ascii",
            env=with_short_spins(),
            # A session of its own: Ctrl-C at the terminal reaches us, and we pass it on.
            start_new_session=True,
        )
        self._answering = False

    def wait_until_ready(self) -> Ready:
        """Wait for the model to be loaded; raises the error that prevented it."""
        reply = self._read()
        assert isinstance(reply, Ready), "the first line is the ready line"
        return reply

    def answer(
        self,
        *,
        messages: Sequence[Mapping[str, str]] | None = None,
        prompt: str | None = None,
        max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[Delta | Done]:
        """Ask with a conversation or, for a completion model, with a text.

        Leaving the loop early, also by Ctrl-C, stops the answer; the next may then be asked.
        """
        self._send(
            {
                **({"prompt": prompt} if messages is None else {"messages": list(messages)}),
                "max_new_tokens": max_new_tokens,
                "temperature": temperature,
                "seed": seed,
            }
        )
        try:
            while self._answering:
                reply = self._read()
                assert isinstance(reply, (Delta, Done)), "a request is answered by its answer"
                yield reply
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop the answer that is being given, if any, and wait until it has stopped."""
        if not self._answering:
            return
        self._process.send_signal(signal.SIGINT)
        while self._answering:
            self._read()

    def close(self) -> None:
        """End the process."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        for end in (None, process.terminate, process.kill):
            if end is not None:
                end()
            try:
                process.wait(GRACE_S)
                break
            except subprocess.TimeoutExpired:
                continue
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, request: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        assert not self._answering, "the answer before has not ended"
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._died() from error
        self._answering = True

    def _read(self) -> Reply:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            self._answering = False
            raise self._died()
        if not line.startswith('{"delta"'):
            self._answering = False
        return from_line(line)

    def _died(self) -> RunError:
        code = self._process.wait()
        self._errors.seek(0)
        text = self._errors.read().decode("utf-8", errors="replace")
        ending = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        last = "\n".join(text.strip().splitlines()[-LAST_LINES:])
        return RunError(
            Fault(
                found=f"the process that runs the model ended {ending}"
                + (f"; its last words were:\n{last}" if last else ""),
                where=self._what,
                fix="out of memory ends with signal 9: close other programs or use a smaller "
                "model; otherwise report this with the words above",
            ),
            code="model_process_ended",
        )
