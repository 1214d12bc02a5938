from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from tests.unit.models.tiny_gguf import TEMPLATE, write_gguf
from tunesmith.core.errors import ModelError
from tunesmith.models.gguf import convert_gguf
from tunesmith.models.load import load_model


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A converted folder and the model that the file was written from."""
    folder = tmp_path_factory.mktemp("gguf")
    model = write_gguf(folder / "tiny.gguf")
    (folder / "model").mkdir()
    convert_gguf(folder / "tiny.gguf", folder / "model")
    return folder / "model", model


@pytest.fixture(scope="module")
def tokenizer(converted: tuple[Path, Any]) -> Any:
    return AutoTokenizer.from_pretrained(converted[0], local_files_only=True)


def test_the_folder_holds_all_that_a_run_needs(converted: tuple[Path, Any]) -> None:
    assert sorted(path.name for path in converted[0].iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_every_weight_is_the_original_rounded_to_bf16(converted: tuple[Path, Any]) -> None:
    folder, model = converted
    stored = load_file(folder / "model.safetensors")
    original = model.state_dict()
    original.pop("lm_head.weight", None) if model.config.tie_word_embeddings else None
    assert stored.keys() == original.keys()
    for name, tensor in stored.items():
        assert torch.equal(tensor, original[name].to(torch.bfloat16)), name


def test_the_logits_are_those_of_the_original(converted: tuple[Path, Any]) -> None:
    folder, model = converted
    tokens_BT = torch.arange(3, 40)[None]
    with torch.inference_mode():
        expected_BTV = round_parameters(model)(tokens_BT).logits
        found_BTV = load_model(folder, "fp32")(tokens_BT).logits
    torch.testing.assert_close(found_BTV, expected_BTV, rtol=1e-5, atol=1e-5)


def test_a_quantised_file_comes_out_near_its_original(tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "tiny.gguf", quantised=True)
    (tmp_path / "model").mkdir()
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model")
    tokens_BT = torch.arange(3, 40)[None]
    with torch.inference_mode():
        expected_BTV = model(tokens_BT).logits
        found_BTV = load_model(tmp_path / "model", "fp32")(tokens_BT).logits
    assert (found_BTV - expected_BTV).abs().max() < 0.05 * expected_BTV.abs().max()


def test_the_config_says_what_the_file_says(converted: tuple[Path, Any]) -> None:
    config = json.loads((converted[0] / "config.json").read_text())
    assert config["rms_norm_eps"] == 1e-5
    assert config["rope_parameters"]["rope_theta"] == 50_000.0
    assert config["max_position_embeddings"] == 64
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "quantization_config" not in config
    assert "_model_name_or_path" not in config


def test_digits_are_split_one_by_one_before_merging(tokenizer: Any) -> None:
    assert tokenizer.tokenize("the 12") == ["t", "he", "\u0120", "1", "2"]


def test_control_tokens_are_one_id_and_no_begin_token_is_added(tokenizer: Any) -> None:
    assert tokenizer("<|im_start|>a<|im_end|>")["input_ids"] == [
        1,
        tokenizer.convert_tokens_to_ids("a"),
        2,
    ]
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")


def test_the_chat_template_is_carried_over(tokenizer: Any) -> None:
    assert tokenizer.chat_template == TEMPLATE
    text = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert text == "<|im_start|>user\nhi<|im_end|>\n"


def test_an_unknown_pre_tokenizer_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", pre_tokenizer="of-tomorrow")
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelError, match="pre-tokenizer is 'of-tomorrow'"):
        convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model")


@pytest.mark.parametrize("content", [b"", b"not a model", b"GGUF", b"GGUF\x03\x00\x00\x00" * 9])
def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tiny.gguf").write_bytes(content)
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelError, match=r"tiny\.gguf"):
        convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model")


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    whole = (tmp_path / "tiny.gguf").read_bytes()
    (tmp_path / "tiny.gguf").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelError, match="cannot be converted"):
        convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model")


def round_parameters(model: Any) -> Any:
    """A copy with bf16 values in fp32; the rotary frequencies, a buffer, stay as they are."""
    rounded = deepcopy(model)
    for parameter in rounded.parameters():
        parameter.copy_(parameter.to(torch.bfloat16))
    return rounded
