from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from tests.unit.models.tiny_gguf import write_gguf
from tests.unit.models.tiny_models import save_model
from tunesmith.core.errors import ModelError
from tunesmith.models import catalog, prepare
from tunesmith.models.catalog import SMOLLM2_135M_INSTRUCT, CatalogModel
from tunesmith.models.facts import read_facts
from tunesmith.models.fetch import wheel_path
from tunesmith.models.load import load_model
from tunesmith.models.prepare import main, prepare_model


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache and no way to an index or a hub."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


@pytest.fixture
def catalogue_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CatalogModel:
    """A catalogue model `tiny` whose wheel, with a real small GGUF, lies in the cache."""
    write_gguf(tmp_path / "tiny.gguf")
    wheel = tmp_path / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(tmp_path / "tiny.gguf", "tiny_model/tiny.gguf")
    model = replace(
        SMOLLM2_135M_INSTRUCT,
        name="tiny",
        wheel_name=wheel.name,
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="tiny_model/tiny.gguf",
        member_bytes=(tmp_path / "tiny.gguf").stat().st_size,
    )
    monkeypatch.setitem(catalog.CATALOG, "tiny", model)
    wheel_path(model).parent.mkdir(parents=True)
    wheel.rename(wheel_path(model))
    return model


def test_a_catalogue_model_is_converted_once_and_then_needs_nothing(
    catalogue_model: CatalogModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    first = prepare_model("tiny", on_progress=lines.append)
    assert any("converting tiny once" in line for line in lines)
    assert first.origin["wheel_sha256"] == catalogue_model.wheel_sha256
    assert list(first.sha256s) == ["model.safetensors"]
    assert not list(first.folder.glob("*.gguf"))
    wheel_path(catalogue_model).unlink()
    monkeypatch.setattr(prepare, "convert_gguf", lambda *_: pytest.fail("converted again"))
    assert prepare_model("tiny") == first


@pytest.mark.usefixtures("catalogue_model")
def test_a_damaged_model_is_rebuilt_from_the_cached_wheel() -> None:
    first = prepare_model("tiny")
    weights = first.folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    lines: list[str] = []
    again = prepare_model("tiny", on_progress=lines.append)
    assert "model.safetensors has changed content" in lines[0]
    assert again == first


def test_without_model_wheel_and_index_the_error_says_what_to_do(
    catalogue_model: CatalogModel, tmp_path: Path
) -> None:
    wheel_path(catalogue_model).unlink()
    with pytest.raises(ModelError, match="tiny is not in the cache"):
        prepare_model("tiny")
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_a_gguf_file_is_converted_once_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    first = prepare_model(str(tmp_path / "tiny.gguf"))
    assert first.origin["kind"] == "gguf"
    assert read_facts(first.folder).max_positions == 64
    monkeypatch.setattr(prepare, "convert_gguf", lambda *_: pytest.fail("converted again"))
    (tmp_path / "other").mkdir()
    (tmp_path / "tiny.gguf").rename(tmp_path / "other" / "tiny.gguf")
    assert prepare_model(str(tmp_path / "other" / "tiny.gguf")).folder == first.folder


def test_a_prepared_model_loads_and_its_tokenizer_too(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    folder = prepare_model(str(tmp_path / "tiny.gguf")).folder
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokens_BT = torch.tensor([tokenizer("hello")["input_ids"]])
    assert load_model(folder, "bf16")(tokens_BT).logits.shape == (1, tokens_BT.shape[1], 263)


def test_a_local_folder_is_used_where_it_lies(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "tiny")
    prepared = prepare_model(str(folder))
    assert prepared.folder == folder
    sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert prepared.sha256s == {"model.safetensors": sha256}
    assert not (tmp_path / "cache").exists()


def test_the_process_answers_with_one_json_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    assert main([str(tmp_path / "tiny.gguf")]) == 0
    output = capsys.readouterr()
    (line,) = output.out.splitlines()
    assert set(json.loads(line)) == {"folder", "name", "sha256s", "origin"}
    assert all("progress" in json.loads(line) for line in output.err.splitlines())


def test_the_process_reports_a_fault_as_json_with_exit_code_2(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tunesmith.models.prepare", str(tmp_path / "nothing")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "model_not_found"
    assert set(error["faults"][0]) == {"found", "where", "fix"}
    assert result.stderr == ""
