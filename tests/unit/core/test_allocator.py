"""What of freed memory a process keeps."""

from __future__ import annotations

import subprocess
import sys

import pytest

FREE_EVERY_OTHER = """
import psutil
from tunesmith.core.allocator import NEVER, SMALL_BLOCK, keep_freed_memory

assert keep_freed_memory({smaller_than})
blocks = [bytearray(b"1") * 2**22 for _ in range(40)]
before = psutil.Process().memory_info().rss
del blocks[::2]
print(before - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tells glibc")
@pytest.mark.parametrize(("smaller_than", "is_kept"), [("NEVER", True), ("SMALL_BLOCK", False)])
def test_freed_blocks_between_others_are_kept_or_given_back(
    smaller_than: str, is_kept: bool
) -> None:
    """As weights that were put together lie between activations that stay."""
    script = [sys.executable, "-c", FREE_EVERY_OTHER.format(smaller_than=smaller_than)]
    given_back = int(subprocess.run(script, capture_output=True, text=True, check=True).stdout)
    assert (given_back < 2**20) if is_kept else (given_back > 19 * 2**22)
