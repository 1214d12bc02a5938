"""Reads and writes the files of DeepSpeed's offload to a disk, in place of its own operator.

The engine's operator, `async_io`, submits reads and writes to the kernel and never looks at how
they ended (`_do_io_complete`, as of 0.19.8): a disk that is full, one that fails, and a read to an
address that is not a multiple of its sectors leave old numbers in memory, and training goes on with
them. It also wants a compiler and libaio. Here every transfer is checked, by a few threads.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunesmith.core.errors import Fault, RunError

THREADS = 4


class CheckedFiles:
    """What the engine calls a handle: transfers go on until `wait`, which tells what failed."""

    def __init__(self, *, pins: bool = False) -> None:
        self._pins = pins
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="offload")
        self._pending: list[tuple[str, Future[None]]] = []
        self._own: dict[int, Tensor] = {}

    def new_cpu_locked_tensor(self, values: int, example: Tensor) -> Tensor:
        """Make a buffer that is read into and written from."""
        buffer = torch.empty(values, dtype=example.dtype, device="cpu", pin_memory=self._pins)
        self._own[buffer.untyped_storage().data_ptr()] = buffer
        return buffer

    def free_cpu_locked_tensor(self, buffer: Tensor) -> None:
        """Forget a buffer."""
        self._own.pop(buffer.untyped_storage().data_ptr(), None)

    def is_pinned(self, tensor: Tensor) -> bool:
        """Whether a tensor lies in a buffer of this handle's."""
        return tensor.untyped_storage().data_ptr() in self._own

    def async_pread(self, buffer: Tensor, path: str, offset: int) -> int:
        """Begin to read a file."""
        return self._begin(_read, buffer, path, offset)

    def async_pwrite(self, buffer: Tensor, path: str, offset: int) -> int:
        """Begin to write a file."""
        return self._begin(_write, buffer, path, offset)

    def wait(self) -> int:
        """Wait until all is done that was begun; how much it was.

        Raises:
            RunError: a file cannot be read or written as a whole.
        """
        pending, self._pending = self._pending, []
        for path, transfer in pending:
            try:
                transfer.result()
            except OSError as error:
                raise _failed(path, error) from error
        return len(pending)

    def _begin(
        self, transfer: Callable[[memoryview, str, int], None], buffer: Tensor, path: str, at: int
    ) -> int:
        values: Any = buffer.detach().view(torch.uint8).numpy()
        held = memoryview(values)
        self._pending.append((path, self._threads.submit(transfer, held, path, at)))
        return 0


@dataclass(frozen=True, kw_only=True)
class Builder:
    """Stands for the engine's builder of its operator; `pins` buffers for copies to a GPU."""

    pins: bool

    def load(self, **_: object) -> Builder:
        """Return what would have been compiled."""
        return self

    def aio_handle(self, **_: object) -> CheckedFiles:
        """Make a handle; sizes and depths are the operator's."""
        return CheckedFiles(pins=self.pins)


def _failed(path: str, error: OSError) -> RunError:
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    fault = Fault(
        found=f"what lies on the disk cannot be read or written: {error.strerror or error}",
        where=path,
        fix="free some space, or name a folder on another disk with --set "
        "strategy.offload_path=FOLDER, and resume",
    )
    return RunError(fault, code="no_space" if is_full else "offload_failed")


def _read(held: memoryview, path: str, offset: int) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        done = 0
        while done < len(held):
            count = os.preadv(file, [held[done:]], offset + done)
            if count == 0:
                raise OSError(errno.EIO, f"the file ends after {offset + done:,} bytes")
            done += count
    finally:
        os.close(file)


def _write(held: memoryview, path: str, offset: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        done = 0
        while done < len(held):
            done += os.pwrite(file, held[done:], offset + done)
    finally:
        os.close(file)
