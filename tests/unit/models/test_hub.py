from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from tests.unit.models.tiny_models import save_model
from tunesmith.core.errors import ModelError
from tunesmith.models import hub
from tunesmith.models.hub import fetch_snapshot
from tunesmith.models.prepare import prepare_model

COMMIT = "a" * 40


def ignore(_line: str) -> None:
    pass


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and a hub at an address where nothing listens."""
    cache = tmp_path / "hub"
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{_free_port()}")
    return cache


def keep_snapshot(hub_cache: Path) -> Path:
    """A snapshot of owner/tiny as the hub's library keeps it."""
    repo = hub_cache / "models--owner--tiny"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    return save_model(repo / "snapshots" / COMMIT)


def test_a_whole_local_snapshot_needs_no_network(hub_cache: Path) -> None:
    snapshot = keep_snapshot(hub_cache)
    prepared = prepare_model("owner/tiny")
    assert prepared.folder == snapshot
    assert prepared.origin == {"kind": "hub", "id": "owner/tiny", "commit": COMMIT}


def test_an_unreachable_hub_is_told_within_seconds() -> None:
    start = time.monotonic()
    with pytest.raises(ModelError) as caught:
        fetch_snapshot("owner/tiny", None, on_progress=ignore)
    assert time.monotonic() - start < 10
    assert caught.value.code == "model_not_fetched"
    assert "hf download owner/tiny" in str(caught.value)


def test_a_snapshot_that_lacks_weights_is_not_taken_for_whole(hub_cache: Path) -> None:
    (keep_snapshot(hub_cache) / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="is not whole on this machine"):
        fetch_snapshot("owner/tiny", None, on_progress=ignore)


def test_offline_by_the_user_s_wish_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(hub, "_look_up", lambda *_: pytest.fail("the network was asked"))
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        fetch_snapshot("owner/tiny", None, on_progress=ignore)


def test_what_is_fetched_is_pinned_to_the_commit_and_brings_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def download(_repo: str, **how: Any) -> str:
        if how.get("local_files_only"):
            raise huggingface_hub.errors.LocalEntryNotFoundError("nothing here")
        asked.append(how)
        return str(save_model(tmp_path / COMMIT))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(hub, "_look_up", lambda *_: COMMIT)
    folder = fetch_snapshot("owner/tiny", "main", on_progress=ignore)
    assert folder.name == COMMIT
    assert asked[0]["revision"] == COMMIT
    wanted = huggingface_hub.utils.filter_repo_objects(
        [
            "config.json",
            "model-00001-of-00002.safetensors",
            "tokenizer.json",
            "chat_template.jinja",
            "modeling_own.py",
            "pytorch_model.bin",
            "original/consolidated.safetensors",
            "onnx/config.json",
        ],
        allow_patterns=asked[0]["allow_patterns"],
        ignore_patterns=asked[0]["ignore_patterns"],
    )
    assert list(wanted) == [
        "config.json",
        "model-00001-of-00002.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
    ]


def test_a_download_that_is_not_a_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_model(tmp_path / COMMIT)
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr(hub, "_look_up", lambda *_: COMMIT)
    monkeypatch.setattr(hub, "_download", lambda *_: folder)
    with pytest.raises(ModelError, match="no weights"):
        fetch_snapshot("owner/tiny", None, on_progress=ignore)
    shutil.rmtree(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
