"""What this machine has: cores, memory, disk, processor features. Read from the system, no torch.

Containers surprise here: the machine's own numbers are larger than what the container may use, so
cores and memory are the least of the machine's, the process's affinity and every cgroup above it.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

ROOT = Path("/")
# cgroup version 1 writes "no limit" as a number near 2**63
UNLIMITED_BYTES = 1 << 60


def cpu_count(*, root: Path = ROOT) -> int:
    """The cores that this process may use, at least 1."""
    allowed = _affinity()
    quotas = [math.ceil(quota) for quota in _cpu_quotas(root)]
    return max(1, min([allowed, *quotas]))


def memory_limit_bytes(*, root: Path = ROOT) -> int:
    """The memory that this process may use: the machine's, or a container's limit below it."""
    return min([psutil.virtual_memory().total, *_memory_limits(root)])


def available_memory_bytes(*, root: Path = ROOT, swap: bool = False) -> int:
    """What can be taken now, never more than a container has left; without swapping by default."""
    machine = psutil.virtual_memory().available
    if swap:
        machine += _kilobytes(root / "proc/meminfo", "SwapFree:")
    return min([machine, memory_limit_bytes(root=root), *_memory_left(root)])


def private_bytes() -> int:
    """The private writable memory that this process has mapped, touched or not (Linux)."""
    return _kilobytes(ROOT / "proc/self/status", "VmData:")


def free_disk_bytes(path: Path) -> int:
    """Free bytes on the disk that holds `path`, or would hold it once it is made."""
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def cpu_flags(*, root: Path = ROOT) -> frozenset[str]:
    """The processor's feature words as Linux names them; none on other systems."""
    for line in _read(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def count_gpus(*, root: Path = ROOT) -> int:
    """The NVIDIA devices that a process may use, told without CUDA."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return len([one for one in chosen.split(",") if one.strip() not in ("", "-1")])
    return len([path for path in (root / "dev").glob("nvidia*") if path.name[6:].isdigit()])


def busy_share(seconds: float = 0.5) -> float:
    """How much of the processors' time is taken, by whomever, over the next `seconds`: 0 to 1."""
    return psutil.cpu_percent(interval=seconds) / 100


def has_fast_bf16(*, root: Path = ROOT) -> bool:
    """Whether matrix products in bf16 have instructions of their own here."""
    return bool(cpu_flags(root=root) & {"avx512_bf16", "amx_bf16"})


def resident_bytes() -> int:
    """The memory that this process holds now."""
    return psutil.Process().memory_info().rss


def peak_resident_bytes() -> int:
    """The most that this process has held since it started.

    Not `ru_maxrss` where it can be avoided: on Linux a child inherits its parent's.
    """
    if peak := _kilobytes(ROOT / "proc/self/status", "VmHWM:"):
        return peak
    import resource  # absent on Windows, so not at the top

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def describe() -> dict[str, Any]:
    """The machine's facts for environment.json, reports and benchmarks."""
    return {
        "system": platform.platform(),
        "machine": platform.machine(),
        "processor": processor_name(),
        "cpu_count": cpu_count(),
        "memory_bytes": memory_limit_bytes(),
        "fast_bf16": has_fast_bf16(),
        "python": platform.python_version(),
    }


def processor_name(*, root: Path = ROOT) -> str:
    """The processor's name as the system gives it."""
    for line in _read(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_quotas(root: Path) -> Iterator[float]:
    for folder in _cgroup_folders(root, "cpu"):
        quota, period = (_read(folder / "cpu.max").split() or ["max", ""])[:2]
        if quota != "max":
            yield int(quota) / int(period)
        quota = _read(folder / "cpu.cfs_quota_us").strip()
        period = _read(folder / "cpu.cfs_period_us").strip()
        if quota and period and int(quota) > 0:
            yield int(quota) / int(period)


def _memory_limits(root: Path) -> Iterator[int]:
    for folder in _cgroup_folders(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name).strip()
            if text.isdigit() and 0 < int(text) < UNLIMITED_BYTES:
                yield int(text)


def _memory_left(root: Path) -> Iterator[int]:
    """What each container's limit leaves, its page cache counted as free."""
    for folder in _cgroup_folders(root, "memory"):
        for limit_name, used_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, used = _read(folder / limit_name).strip(), _read(folder / used_name).strip()
            if not (limit.isdigit() and used.isdigit() and 0 < int(limit) < UNLIMITED_BYTES):
                continue
            statistics = dict(
                line.split()[:2] for line in _read(folder / "memory.stat").splitlines()
            )
            cache = sum(int(statistics.get(f"{kind}_file", 0)) for kind in ("active", "inactive"))
            yield max(0, int(limit) - max(0, int(used) - cache))


def _kilobytes(file: Path, key: str) -> int:
    """A line such as `VmData:   12 kB` of a file under /proc, in bytes; 0 where it has none."""
    for line in _read(file).splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return 0


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """This process's cgroup and all above it, in version 2 and for `controller` in version 1."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, inner = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = mount / controllers if controllers else mount
        folder = top / inner.strip("/")
        yield from (folder, *(parent for parent in folder.parents if parent.is_relative_to(top)))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
