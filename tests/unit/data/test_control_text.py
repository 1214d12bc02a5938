from __future__ import annotations

import pytest

from tunesmith.data.control_text import find_control_text


@pytest.mark.parametrize(
    "token",
    ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|start_header_id|>", "<|eot_id|>", "<s>",
     "</s>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<start_of_turn>", "<end_of_turn>",
     "<eos>", "<bos>", "<unk>", "<pad>"],
)  # fmt: skip
def test_control_tokens_are_found_in_a_text(token: str) -> None:
    assert find_control_text(f"before {token} after") == token


@pytest.mark.parametrize(
    "text", ["a < b", "<b>bold</b>", "[1]", "<think>", "<|>", "a <| b |> c <|", "<strong>", ""]
)
def test_other_brackets_are_text(text: str) -> None:
    assert find_control_text(text) is None
