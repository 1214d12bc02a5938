from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.core import hardware, memory_bound

BEYOND = """
import torch
from tunesmith.core import hardware
from tunesmith.core.memory_bound import bound_memory

hardware.available_memory_bytes = lambda **_: 600 * 2**20
bound_memory()
fits = torch.ones(300 * 2**20, dtype=torch.uint8)
try:
    torch.ones(600 * 2**20, dtype=torch.uint8)
except RuntimeError as error:
    assert "can't allocate memory" in str(error), error
    print("caught")
hardware.available_memory_bytes = lambda **_: 2 * 2**30
bound_memory()
torch.ones(600 * 2**20, dtype=torch.uint8)
print("and raised again")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA bounds it on Linux")
def test_an_allocation_beyond_the_bound_fails_and_can_be_caught() -> None:
    result = subprocess.run(
        [sys.executable, "-c", BEYOND], capture_output=True, text=True, check=False
    )
    assert result.stdout.split("\n")[:2] == ["caught", "and raised again"], result.stderr


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_bound.sys, "platform", "darwin")
    assert memory_bound.bound_memory() is None


def test_a_container_gives_what_its_limit_leaves_and_its_page_cache(tmp_path: Path) -> None:
    folder = tmp_path / "sys/fs/cgroup/job"
    folder.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/job\n")
    (folder / "memory.max").write_text(f"{100 * 2**20}\n")
    (folder / "memory.current").write_text(f"{70 * 2**20}\n")
    cache = f"anon 1\nactive_file {5 * 2**20}\ninactive_file {15 * 2**20}\n"
    (folder / "memory.stat").write_text(cache)
    assert hardware.available_memory_bytes(root=tmp_path) == 50 * 2**20
