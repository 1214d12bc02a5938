"""The files of an engine's offload: what is written is read, and nothing fails unseen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tunesmith.core.errors import RunError
from tunesmith.training.strategies.disk_files import CheckedFiles


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_come_back_to_wherever_in_a_buffer(dtype: torch.dtype, tmp_path: Path) -> None:
    handle = CheckedFiles()
    buffer = handle.new_cpu_locked_tensor(3001, torch.empty(0, dtype=dtype))
    values = torch.randn(1001).to(dtype)
    for start in (0, 1, 1999):  # not at multiples of a disk's sectors
        assert handle.async_pwrite(values, str(tmp_path / f"{start}"), 0) == 0
    assert handle.wait() == 3
    for start in (0, 1, 1999):
        buffer.zero_()
        assert handle.async_pread(buffer.narrow(0, start, 1001), str(tmp_path / f"{start}"), 0) == 0
        assert handle.wait() == 1
        assert buffer[start : start + 1001].equal(values)
    assert handle.wait() == 0


def test_a_tensor_is_known_by_the_buffer_that_it_lies_in() -> None:
    handle, other = CheckedFiles(), CheckedFiles()
    buffer = handle.new_cpu_locked_tensor(10, torch.empty(0))
    part = torch.empty(0)
    part.data = buffer.narrow(0, 3, 4).data
    assert handle.is_pinned(part)
    assert not other.is_pinned(part)
    assert not handle.is_pinned(torch.empty(10))
    handle.free_cpu_locked_tensor(buffer)
    assert not handle.is_pinned(part)


def test_a_file_that_is_short_or_gone_and_a_disk_that_is_full_end_the_run(tmp_path: Path) -> None:
    handle, values = CheckedFiles(), torch.ones(100)
    short = tmp_path / "short"
    short.write_bytes(bytes(399))
    handle.async_pread(values, str(short), 0)
    with pytest.raises(RunError, match="ends after 399 bytes"):
        handle.wait()
    handle.async_pread(values, str(tmp_path / "gone"), 0)
    with pytest.raises(RunError, match="No such file"):
        handle.wait()
    if os.path.exists("/dev/full"):
        handle.async_pwrite(values, "/dev/full", 0)
        with pytest.raises(RunError, match="No space") as caught:
            handle.wait()
        assert caught.value.code == "no_space"
    assert handle.wait() == 0
