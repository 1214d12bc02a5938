import os
from pathlib import Path

import psutil
import pytest

from tunesmith.core import hardware

MIB = 1 << 20


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_cgroups_the_affinity_counts(tmp_path: Path) -> None:
    assert hardware.cpu_count(root=tmp_path) == len(os.sched_getaffinity(0))
    assert hardware.memory_limit_bytes(root=tmp_path) == psutil.virtual_memory().total


def test_cgroup_2_limits_hold(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/box\n",
            "sys/fs/cgroup/pod/box/cpu.max": "100000 100000\n",
            "sys/fs/cgroup/pod/box/memory.max": f"{512 * MIB}\n",
        },
    )
    assert hardware.cpu_count(root=root) == 1
    assert hardware.memory_limit_bytes(root=root) == 512 * MIB


def test_a_limit_of_the_cgroup_above_holds_too(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/box\n",
            "sys/fs/cgroup/pod/memory.max": f"{256 * MIB}\n",
            "sys/fs/cgroup/pod/box/memory.max": "max\n",
            "sys/fs/cgroup/pod/box/cpu.max": "max 100000\n",
        },
    )
    assert hardware.memory_limit_bytes(root=root) == 256 * MIB
    assert hardware.cpu_count(root=root) == len(os.sched_getaffinity(0))


def test_cgroup_1_limits_hold(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/box\n2:cpu,cpuacct:/box\n",
            "sys/fs/cgroup/memory/box/memory.limit_in_bytes": f"{128 * MIB}\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
        },
    )
    assert hardware.memory_limit_bytes(root=root) == 128 * MIB
    assert hardware.cpu_count(root=root) == 1


def test_available_memory_is_never_above_the_limit(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{MIB}\n"},
    )
    assert hardware.available_memory_bytes(root=root) == MIB


@pytest.mark.parametrize(
    ("flags", "fast"),
    [("fpu avx512_bf16", True), ("fpu amx_bf16", True), ("fpu avx2 avx512f", False), ("", False)],
)
def test_bf16_is_fast_where_it_has_instructions(tmp_path: Path, flags: str, fast: bool) -> None:
    root = write(tmp_path, {"proc/cpuinfo": f"processor : 0\nflags\t\t: {flags}\n"})
    assert hardware.has_fast_bf16(root=root) is fast


def test_no_processor_file_means_no_flags(tmp_path: Path) -> None:
    assert hardware.cpu_flags(root=tmp_path) == frozenset()


def test_the_peak_is_at_least_what_is_held_now() -> None:
    block = bytearray(64 * MIB)
    block[::4096] = b"x" * len(block[::4096])
    assert hardware.peak_resident_bytes() >= hardware.resident_bytes() - MIB > 0
    assert hardware.peak_resident_bytes() > 64 * MIB


def test_free_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert hardware.free_disk_bytes(tmp_path / "a" / "b") > 0


def test_the_description_is_whole() -> None:
    described = hardware.describe()
    assert described["cpu_count"] >= 1
    assert described["memory_bytes"] > 0
    assert described["processor"]
