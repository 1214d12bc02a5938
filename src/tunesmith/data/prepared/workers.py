"""Processes that each prepare whole chunks, so that every core works on its own rows.

A worker is `python -m tunesmith.data.prepared.workers`: it reads pickled jobs and chunks from its
standard input and writes what they became to its standard output. Processes of our own, and not the
standard library's pools, because those import the program's main module into every worker, and that
may hold torch.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from queue import SimpleQueue
from typing import IO, cast

from tunesmith.core.errors import Fault, RunError
from tunesmith.core.hardware import cpu_count
from tunesmith.data.prepared.block import BlockMaker, Job, Prepared
from tunesmith.data.rows import Chunk

_WAITING_PER_WORKER = 2


def prepare_here(job: Job, chunks: Iterable[Chunk]) -> Iterator[Prepared]:
    """Prepare chunks one after the other in this process."""
    maker = BlockMaker(job)
    for chunk in chunks:
        yield maker.make(chunk)


def prepare_in_workers(
    job: Job, chunks: Iterable[Chunk], *, num_workers: int | None = None
) -> Iterator[Prepared]:
    """Prepare chunks in processes, one a core by default; results come in the chunks' order.

    Raises:
        Exception: what a worker raised; RunError where one ended by itself.
    """
    count = num_workers or cpu_count()
    with ExitStack() as stack:
        idle: SimpleQueue[_Worker] = SimpleQueue()
        for _ in range(count):
            worker = _Worker(job)
            stack.callback(worker.close)
            idle.put(worker)
        threads = stack.enter_context(ThreadPoolExecutor(count))
        remaining = iter(chunks)

        def work(chunk: Chunk) -> Prepared:
            worker = idle.get()
            try:
                return worker.prepare(chunk)
            finally:
                idle.put(worker)

        waiting: deque[Future[Prepared]] = deque()
        try:
            for chunk in islice(remaining, count * _WAITING_PER_WORKER):
                waiting.append(threads.submit(work, chunk))
            while waiting:
                yield waiting.popleft().result()
                for chunk in islice(remaining, 1):
                    waiting.append(threads.submit(work, chunk))
        finally:
            for future in waiting:
                future.cancel()


class _Worker:
    """One process."""

    def __init__(self, job: Job) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tunesmith.data.prepared.workers"],  # -P: not from here
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # Ctrl-C is for the process that asks: it says when it is over
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
        )
        assert self._process.stdin, "the process was given a pipe"
        assert self._process.stdout, "the process was given a pipe"
        self._to = self._process.stdin
        self._from = self._process.stdout
        self._send(job)

    def prepare(self, chunk: Chunk) -> Prepared:
        self._send(chunk)
        try:
            answer = pickle.load(self._from)
        except (EOFError, pickle.UnpicklingError) as error:  # the latter within an answer
            raise self._ended() from error
        if isinstance(answer, Exception):
            raise answer
        return cast("Prepared", answer)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._from.close()
        # what was not sent yet is not wanted: the process is gone
        try:
            self._to.close()
        except OSError:
            return

    def _send(self, message: Job | Chunk) -> None:
        try:
            pickle.dump(message, self._to, protocol=pickle.HIGHEST_PROTOCOL)
            self._to.flush()
        except OSError as error:
            raise self._ended() from error

    def _ended(self) -> RunError:
        code = self._process.wait()
        cause = "killed, perhaps for want of memory" if code == -9 else f"exit code {code}"
        return RunError(
            Fault(
                found=f"a process that prepares rows ended by itself ({cause})",
                where=f"process {self._process.pid}",
                fix="free some memory, then start again; the error stream may say more",
            ),
            code="worker_ended",
        )


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """The worker's side: prepare every chunk that comes, until there are no more."""
    maker = BlockMaker(cast("Job", pickle.load(source)))
    while True:
        try:
            chunk = cast("Chunk", pickle.load(source))
        except EOFError:
            return
        try:
            answer: Prepared | Exception = maker.make(chunk)
        except Exception as error:  # the process that asked raises it
            answer = error
        pickle.dump(answer, sink, protocol=pickle.HIGHEST_PROTOCOL)
        sink.flush()


if __name__ == "__main__":
    sink = sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing else may write between the answers
    serve(sys.stdin.buffer, sink)
