from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.core import cache
from tunesmith.core.errors import MachineError
from tunesmith.models.cache import find_fault, obtain_entry

CONTENT = b"weights" * 1000


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def ignore(_line: str) -> None:
    pass


def build_files(folder: Path) -> dict[str, str]:
    (folder / "model.safetensors").write_bytes(CONTENT)
    (folder / "config.json").write_text("{}")
    return {"kind": "test"}


def refuse(_folder: Path) -> dict[str, str]:
    raise AssertionError("built although the entry is whole")


def test_an_entry_is_built_once_and_then_only_read() -> None:
    first = obtain_entry("m", build_files, on_progress=ignore)
    second = obtain_entry("m", refuse, on_progress=ignore)
    assert first == second
    assert set(first.sha256s) == {"model.safetensors", "config.json"}
    assert first.origin == {"kind": "test"}


def truncate(file: Path) -> None:
    file.write_bytes(CONTENT[:-1])


def corrupt(file: Path) -> None:
    file.write_bytes(b"X" + CONTENT[1:])


def remove_manifest(file: Path) -> None:
    (file.parent / "manifest.json").unlink()


def cut_manifest(file: Path) -> None:
    (file.parent / "manifest.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (truncate, "model.safetensors has 6999 bytes instead of 7000"),
        (corrupt, "model.safetensors has changed content"),
        (Path.unlink, "model.safetensors is missing"),
        (remove_manifest, "manifest.json is missing"),
        (cut_manifest, "unreadable"),
    ],
)
def test_a_damaged_entry_is_found_and_built_again(
    damage: Callable[[Path], object], fault: str
) -> None:
    folder = obtain_entry("m", build_files, on_progress=ignore).folder
    damage(folder / "model.safetensors")
    assert fault in str(find_fault(folder))
    lines: list[str] = []
    entry = obtain_entry("m", build_files, on_progress=lines.append)
    assert fault in lines[0]
    assert find_fault(entry.folder) is None
    assert (entry.folder / "model.safetensors").read_bytes() == CONTENT


def test_a_build_that_fails_leaves_nothing_behind(root: Path) -> None:
    def fail(folder: Path) -> dict[str, str]:
        build_files(folder)
        raise ValueError("stopped half-way")

    with pytest.raises(ValueError, match="half-way"):
        obtain_entry("m", fail, on_progress=ignore)
    assert list((root / "models").iterdir()) == []


def test_what_a_killed_build_left_is_ignored_and_removed(root: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=build_and_hang)
    process.start()
    left = root / "models" / ".building-m" / "model.safetensors"
    wait_for(left.exists)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    entry = obtain_entry("m", build_files, on_progress=ignore)
    assert find_fault(entry.folder) is None
    assert [path.name for path in (root / "models").iterdir()] == ["m"]


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    log = tmp_path / "builds"
    both = [context.Process(target=build_slowly, args=(log,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert log.read_text() == "built\n"


def test_a_disk_without_room_is_told_with_the_remedy(root: Path) -> None:
    def fill(_folder: Path) -> dict[str, str]:
        raise OSError(errno.ENOSPC, "No space left on device", "model.safetensors")

    with pytest.raises(MachineError) as caught:
        obtain_entry("m", fill, on_progress=ignore)
    assert "No space left on device" in str(caught.value)
    assert "TUNESMITH_CACHE" in str(caught.value)
    assert list((root / "models").iterdir()) == []


def test_too_little_room_is_refused_before_the_work() -> None:
    with pytest.raises(MachineError, match="the cache entry needs 1000000000000 MB in the cache"):
        cache.require_space(10**18)


def test_a_cache_that_cannot_be_written_is_told(root: Path) -> None:
    root.write_text("a file where the folder should be")
    with pytest.raises(MachineError, match="the cache cannot be written"):
        obtain_entry("m", build_files, on_progress=ignore)


def test_the_manifest_names_every_file_with_size_and_hash() -> None:
    folder = obtain_entry("m", build_files, on_progress=ignore).folder
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["files"]["model.safetensors"]["bytes"] == len(CONTENT)
    assert len(manifest["files"]["config.json"]["sha256"]) == 64


def test_the_root_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUNESMITH_CACHE")
    monkeypatch.setattr(cache.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_root() == tmp_path / "tunesmith"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_root() == Path.home() / ".cache" / "tunesmith"


def build_and_hang() -> None:
    def build(folder: Path) -> dict[str, str]:
        origin = build_files(folder)
        time.sleep(60)
        return origin

    obtain_entry("m", build, on_progress=ignore)


def build_slowly(log: Path) -> None:
    def build(folder: Path) -> dict[str, str]:
        time.sleep(0.3)
        with log.open("a") as file:
            file.write("built\n")
        return build_files(folder)

    obtain_entry("m", build, on_progress=ignore)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "the other process did not get that far"
        time.sleep(0.01)
