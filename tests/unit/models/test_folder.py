from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.models.tiny_models import save_model
from tunesmith.core.errors import ModelError
from tunesmith.models.folder import check_model_folder, stored_tensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_model(tmp_path / "tiny")


def faults_of(folder: Path) -> list[str]:
    with pytest.raises(ModelError) as caught:
        check_model_folder(folder)
    return [str(fault) for fault in caught.value.faults]


def test_a_whole_folder_has_no_faults(folder: Path) -> None:
    check_model_folder(folder)


def test_all_that_is_missing_is_named_at_once(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "tokenizer.json").unlink()
    weights, tokenizer = faults_of(folder)
    assert "no weights" in weights
    assert "no tokenizer" in tokenizer


def test_an_adapter_folder_names_its_base(tmp_path: Path) -> None:
    text = json.dumps({"base_model_name_or_path": "some/base"})
    (tmp_path / "adapter_config.json").write_text(text)
    (message,) = faults_of(tmp_path)
    assert "holds an adapter, not a model; it was trained on some/base" in message
    assert "name the base model some/base instead" in message


def test_a_folder_above_the_model_names_the_one_inside(tmp_path: Path) -> None:
    save_model(tmp_path / "checkpoint-40")
    (message,) = faults_of(tmp_path)
    assert f"did you mean {tmp_path / 'checkpoint-40'}?" in message


def test_a_folder_of_something_else_is_one_fault(tmp_path: Path) -> None:
    (message,) = faults_of(tmp_path)
    assert "this is not a model folder" in message


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{", "config.json cannot be read"),
        ("[]", "not a JSON object"),
        ("{}", "names no model_type"),
        (
            '{"model_type": "llama", "quantization_config": {"quant_method": "gptq"}}',
            "the weights are stored quantised (gptq)",
        ),
    ],
)
def test_a_config_that_cannot_be_used_is_refused(folder: Path, content: str, found: str) -> None:
    (folder / "config.json").write_text(content)
    (message,) = faults_of(folder)
    assert found in message


def test_truncated_weights_are_found(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    (message,) = faults_of(folder)
    assert "model.safetensors cannot be used: it has" in message


def test_a_pointer_in_place_of_weights_is_found(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    (message,) = faults_of(folder)
    assert "it is not a safetensors file" in message


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    (message,) = faults_of(folder)
    assert "model-00002-of-00002.safetensors is missing" in message


def test_pickled_weights_are_refused_with_a_way_out(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (message,) = faults_of(folder)
    assert "a pickle file, which can run code" in message
    assert "save_pretrained" in message


def test_the_header_gives_names_types_and_shapes(folder: Path) -> None:
    by_name = {tensor.name: tensor for tensor in stored_tensors(folder / "model.safetensors")}
    embedding = by_name["model.embed_tokens.weight"]
    assert (embedding.dtype, embedding.shape) == ("F32", (300, 32))
