"""A run's folder in a store: whole checkpoints only, and all that the run has left."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tunesmith.core.errors import MachineError
from tunesmith.core.run_dir import RunDir
from tunesmith.platforms.object_store import open_store
from tunesmith.platforms.sender import Sender
from tunesmith.platforms.stored_run import Sent, StoredRun, whole_steps


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the store has the run."""
    (tmp_path / "store").mkdir()
    return tmp_path / "store" / "run-1"


@pytest.fixture
def run(tmp_path: Path, place: Path) -> StoredRun:
    return StoredRun(open_store(f"file://{tmp_path}/store"), place.name)


def make_checkpoint(folder: Path, step: int, content: bytes = b"values") -> Path:
    made = folder / f"step-{step}"
    made.mkdir(parents=True)
    (made / "trained.safetensors").write_bytes(content)
    listed = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (made / "manifest.json").write_text(json.dumps({"files": {"trained.safetensors": listed}}))
    return made


def steps_fetched(run: StoredRun, into: Path, *, only_newest: bool) -> tuple[list[int], list[str]]:
    told: list[str] = []
    run.fetch_checkpoints(into, only_newest=only_newest, tell=told.append)
    return sorted(whole_steps(into)), told


def test_checkpoints_come_back_as_they_were(run: StoredRun, tmp_path: Path) -> None:
    for step in (8, 12):
        run.send_checkpoint(make_checkpoint(tmp_path / "here", step, b"values of %d" % step))
    assert run.steps() == [12, 8]
    assert steps_fetched(run, tmp_path / "newest", only_newest=True) == ([12], [])
    assert steps_fetched(run, tmp_path / "all", only_newest=False) == ([8, 12], [])
    file = tmp_path / "newest" / "step-12" / "trained.safetensors"
    assert file.read_bytes() == b"values of 12"
    run.delete_checkpoint(12)
    assert run.steps() == [8]


@pytest.mark.parametrize("damage", ["no manifest", "half a manifest", "half a file", "changed"])
def test_a_checkpoint_that_is_not_whole_falls_back_to_the_one_before(
    run: StoredRun, place: Path, tmp_path: Path, damage: str
) -> None:
    for step in (8, 12):
        run.send_checkpoint(make_checkpoint(tmp_path / "here", step))
    newest = place / "checkpoints" / "step-12"
    manifest = newest / "manifest.json"
    match damage:
        case "no manifest":
            manifest.unlink()
        case "half a manifest":
            manifest.write_text(manifest.read_text()[:30])
        case "half a file":
            (newest / "trained.safetensors").write_bytes(b"val")
        case _:
            (newest / "trained.safetensors").write_bytes(b"VALUES")
    steps, told = steps_fetched(run, tmp_path / "back", only_newest=True)
    assert steps == [8]
    assert (damage == "no manifest") or "passing over the damaged checkpoint" in told[0]
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["step-8"]


def test_a_manifest_is_sent_last(
    run: StoredRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(type(run.store), "put", lambda _, name, _file: sent.append(name))
    run.send_checkpoint(make_checkpoint(tmp_path / "here", 4))
    assert [name.rpartition("/")[2] for name in sent] == ["trained.safetensors", "manifest.json"]


def test_what_a_run_has_left_comes_back_and_is_held_beside_its_list(
    run: StoredRun, place: Path, tmp_path: Path
) -> None:
    here, back = tmp_path / "here", tmp_path / "back"
    for name in ("result.json", "final/adapter.safetensors", "ranks/beat-0", "lock", ".half.tmp"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(name)
    run.send_files(here, Sent())
    assert not (place / "final").exists()  # it may be half written while the run goes on
    run.send_files(here, Sent(), is_over=True)
    run.fetch_results(back, but=())
    found = {str(path.relative_to(back)) for path in back.rglob("*") if path.is_file()}
    assert found == {"result.json", "final/adapter.safetensors"}
    shutil.rmtree(back)
    (place / "final" / "adapter.safetensors").write_text("another")
    with pytest.raises(MachineError, match="not what the run has sent"):
        run.fetch_results(back, but=())


def make_sender(run: StoredRun, folder: Path, patience_s: float) -> tuple[Sender, list[str]]:
    calls: list[str] = []
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    sender = Sender(run, RunDir(folder), patience_s, lambda: calls.append("stop"))
    return sender, calls


def test_a_sender_keeps_in_the_store_what_the_run_keeps(run: StoredRun, tmp_path: Path) -> None:
    checkpoints = tmp_path / "here" / "checkpoints"
    for step in (4, 8):
        make_checkpoint(checkpoints, step)
    sender, calls = make_sender(run, tmp_path / "here", 1.0)
    sender.start()
    sender.finish()
    assert run.steps() == [8, 4]
    make_checkpoint(checkpoints, 12)
    shutil.rmtree(checkpoints / "step-4")
    sender.finish()
    assert (run.steps(), sender.failed, calls) == ([12, 8], None, [])


def test_a_damaged_checkpoint_in_the_store_is_replaced_once_it_is_made_again(
    run: StoredRun, place: Path, tmp_path: Path
) -> None:
    run.send_checkpoint(make_checkpoint(tmp_path / "before", 8))
    (place / "checkpoints" / "step-8" / "trained.safetensors").write_bytes(b"half")
    sender, _ = make_sender(run, tmp_path / "here", 1.0)
    sender.start()
    make_checkpoint(tmp_path / "here" / "checkpoints", 8)
    sender.finish()
    assert steps_fetched(run, tmp_path / "back", only_newest=True) == ([8], [])


def test_a_store_that_fails_is_tried_again_and_then_stops_the_run(
    run: StoredRun, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.platforms.sender.LOOK_EVERY_S", 0.05)
    sender, calls = make_sender(run, tmp_path / "here", 0.3)
    sender.start()
    place.write_text("a file, where the run's folder should be")
    make_checkpoint(tmp_path / "here" / "checkpoints", 4)
    assert sender._thread is not None
    sender._thread.join(10)
    assert calls == ["stop"]
    sender.finish()
    assert sender.failed is not None
    assert "the object store" in sender.failed.found
    (message,) = sender.take_messages()
    assert "tried again for 0 s" in message
    assert (tmp_path / "here" / "checkpoints" / "step-4").is_dir()
    place.unlink()  # the store is back
    later, _ = make_sender(run, tmp_path / "here", 0.3)
    later.start()
    later.finish()
    assert (run.steps(), later.failed) == ([4], None)
