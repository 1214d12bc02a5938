"""Exact tokens and weights of a conversation with every stand-in for a well-known template."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.fakes.templates import STAND_INS, Kind, make_stand_in
from tunesmith.data.conversation import Conversation, Message
from tunesmith.data.example import Example, fit
from tunesmith.data.render import render_all
from tunesmith.data.rows import RowFault
from tunesmith.data.template import end_of_turn
from tunesmith.data.tokenizer import TextEncoder, load_tokenizer
from tunesmith.recipe.data import DataPart

TURNS = (
    Message("user", "elm"),
    Message("assistant", "oak"),
    Message("user", "fir"),
    Message("assistant", "ash"),
)
SYSTEM = Message("system", "Be brief")

# What is trained stands in brackets. A template that prints earlier turns otherwise than they were
# served has one text a reply.
CHATML = (
    "<|im_start|>user\nelm<|im_end|>\n<|im_start|>assistant\n[oak<|im_end|>]\n"
    "<|im_start|>user\nfir<|im_end|>\n<|im_start|>assistant\n[ash<|im_end|>]\n"
)
CHATML_SYSTEM = "<|im_start|>system\nBe brief<|im_end|>\n"
LLAMA_3 = (
    "<|start_header_id|>user<|end_header_id|>\n\nelm<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n[oak<|eot_id|>]"
    "<|start_header_id|>user<|end_header_id|>\n\nfir<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n[ash<|eot_id|>]"
)
# The control tokens of Phi-3 take in the line break after them.
PHI_3 = (
    "<|user|>elm<|end|><|assistant|>[oak<|end|>]"
    "<|user|>fir<|end|><|assistant|>[ash<|end|>]<|endoftext|>"
)
PHI_4 = (
    "<|im_start|>user<|im_sep|>elm<|im_end|><|im_start|>assistant<|im_sep|>[oak<|im_end|>]"
    "<|im_start|>user<|im_sep|>fir<|im_end|><|im_start|>assistant<|im_sep|>[ash<|im_end|>]"
)
GEMMA = (
    "<bos><start_of_turn>user\nelm<end_of_turn>\n<start_of_turn>model\n[oak<end_of_turn>]\n"
    "<start_of_turn>user\nfir<end_of_turn>\n<start_of_turn>model\n[ash<end_of_turn>]\n"
)
ZEPHYR = (
    "<|user|>\nelm</s>\n<|assistant|>[\noak</s>]\n<|user|>\nfir</s>\n<|assistant|>[\nash</s>]\n"
)
DS_BEGIN = "<\uff5cbegin\u2581of\u2581sentence\uff5c>"
DEEPSEEK = (
    "<\uff5cUser\uff5c>elm<\uff5cAssistant\uff5c>[oak<\uff5cend\u2581of\u2581sentence\uff5c>]"
    "<\uff5cUser\uff5c>fir<\uff5cAssistant\uff5c>[ash<\uff5cend\u2581of\u2581sentence\uff5c>]"
)
QWEN_3 = (
    "<|im_start|>user\nelm<|im_end|>\n"
    "<|im_start|>assistant\n[<think>\n\n</think>\n\noak<|im_end|>]\n",
    "<|im_start|>user\nelm<|im_end|>\n<|im_start|>assistant\noak<|im_end|>\n"
    "<|im_start|>user\nfir<|im_end|>\n"
    "<|im_start|>assistant\n[<think>\n\n</think>\n\nash<|im_end|>]\n",
)
REWRITES = (
    "<|im_start|>user\nelm<|im_end|>\n<|im_start|>assistant\n[oak<|im_end|>]\n",
    "<|im_start|>user\nelm<|im_end|>\n<|im_start|>assistant\n...<|im_end|>\n"
    "<|im_start|>user\nfir<|im_end|>\n<|im_start|>assistant\n[ash<|im_end|>]\n",
)
MISTRAL = ("<s>[INST] ", "elm[/INST][ oak</s>][INST] ", "fir[/INST][ ash</s>]")

# name: (the texts without a system message, the texts with one)
GOLDEN: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "chatml": ((CHATML,), (CHATML_SYSTEM + CHATML,)),
    "strips": ((CHATML,), (CHATML_SYSTEM + CHATML,)),
    "marks": ((CHATML,), (CHATML_SYSTEM + CHATML,)),
    "llama-2": (
        ("<s>[INST] elm [/INST][ oak </s>]<s>[INST] fir [/INST][ ash </s>]",),
        (
            "<s>[INST] <<SYS>>\nBe brief\n<</SYS>>\n\nelm [/INST][ oak </s>]"
            "<s>[INST] fir [/INST][ ash </s>]",
        ),
    ),
    "llama-3": (
        (f"<|begin_of_text|>{LLAMA_3}",),
        (
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief<|eot_id|>"
            + LLAMA_3,
        ),
    ),
    "mistral": (("".join(MISTRAL),), ("Be brief\n\n".join([MISTRAL[0], "".join(MISTRAL[1:])]),)),
    "mistral-system-last": (
        ("".join(MISTRAL),),
        (
            "<s>[INST] Be brief\n\nelm[/INST][ oak</s>]",
            "<s>[INST] elm[/INST] oak</s>[INST] Be brief\n\nfir[/INST][ ash</s>]",
        ),
    ),
    "gemma": ((GEMMA,), (GEMMA.replace("elm", "Be brief\n\nelm"),)),
    "phi-3": ((PHI_3,), (f"<|system|>Be brief<|end|>{PHI_3}",)),
    "phi-4": ((PHI_4,), (f"<|im_start|>system<|im_sep|>Be brief<|im_end|>{PHI_4}",)),
    "qwen-2.5": (
        (f"<|im_start|>system\nBe helpful.<|im_end|>\n{CHATML}",),
        (CHATML_SYSTEM + CHATML,),
    ),
    "qwen-3": (QWEN_3, tuple(CHATML_SYSTEM + text for text in QWEN_3)),
    "deepseek": ((DS_BEGIN + DEEPSEEK,), (f"{DS_BEGIN}Be brief{DEEPSEEK}",)),
    "zephyr": ((f"<s>{ZEPHYR}",), (f"<s><|system|>\nBe brief</s>\n{ZEPHYR}",)),
    "rewrites": (REWRITES, tuple(CHATML_SYSTEM + text for text in REWRITES)),
}
SPLIT = ("qwen-3", "rewrites")
CANNOT_BE_MASKED = ("deepseek-r1", "reverses")


def conversation(*messages: Message) -> Conversation:
    return Conversation(messages=messages, row_id="d.jsonl:4", file="d.jsonl", line=4)


def load(folder: Path, name: str, kind: Kind | None = None) -> TextEncoder:
    return TextEncoder(load_tokenizer(make_stand_in(folder / name, name, kind)))


def examples_of(encoder: TextEncoder, *messages: Message, **values: str) -> tuple[Example, ...]:
    part = DataPart.model_validate({"train": "d.jsonl", "system_role": "fold", **values})
    (rendered,) = render_all([conversation(*messages)], encoder, part, "chat")
    assert not isinstance(rendered, RowFault), rendered
    return rendered


def expected(encoder: TextEncoder, marked: str) -> tuple[list[int], list[float]]:
    """Encode a marked text piece by piece: where it is trained is a border between tokens."""
    ids: list[int] = []
    weights: list[float] = []
    for number, piece in enumerate(_pieces(marked)):
        tokens = encoder.ids(piece) if piece else []
        ids += tokens
        weights += [float(number % 2)] * len(tokens)
    return ids, [0.0, *weights[1:]]


def _pieces(marked: str) -> list[str]:
    """Split at the brackets that mark; those of [INST] belong to the text."""
    text = marked.replace("[INST]", "\0").replace("[/INST]", "\1")
    pieces = text.replace("[", "]").split("]")
    return [piece.replace("\0", "[INST]").replace("\1", "[/INST]") for piece in pieces]


def without_marks(marked: str) -> str:
    return "".join(_pieces(marked))


def trained(example: Example, encoder: TextEncoder) -> str:
    return encoder.decode(example.tokens[example.weights > 0].tolist())


def test_every_stand_in_has_its_golden_text() -> None:
    assert sorted(GOLDEN) == sorted(set(STAND_INS) - set(CANNOT_BE_MASKED))


@pytest.mark.parametrize("with_system", [False, True], ids=["", "system"])
@pytest.mark.parametrize("name", GOLDEN)
def test_tokens_and_weights_are_exactly_those_expected(
    tmp_path: Path, name: str, with_system: bool
) -> None:
    encoder = load(tmp_path, name)
    messages = (SYSTEM, *TURNS) if with_system else TURNS
    examples = examples_of(encoder, *messages)
    texts = GOLDEN[name][with_system]
    assert len(examples) == len(texts)
    for example, text in zip(examples, texts, strict=True):
        ids, weights = expected(encoder, text)
        assert example.tokens.tolist() == ids
        assert example.weights.tolist() == weights
        assert encoder.decode(example.tokens.tolist()) == without_marks(text)
        assert example.has_end
    parts = [example.part for example in examples]
    assert parts == (["reply 1 of 2", "reply 2 of 2"] if len(texts) == 2 else [""])


@pytest.mark.parametrize("name", GOLDEN)
def test_only_the_last_reply_is_trained_where_the_recipe_says_so(tmp_path: Path, name: str) -> None:
    encoder = load(tmp_path, name)
    (example,) = examples_of(encoder, *TURNS, train_on="last-assistant")
    ids, weights = expected(encoder, GOLDEN[name][0][-1])
    assert example.tokens.tolist() == ids
    before = len(expected(encoder, GOLDEN[name][0][-1].rpartition("[")[0])[0])
    assert example.weights.tolist() == [0.0] * before + weights[before:]
    assert example.part == ""


@pytest.mark.parametrize("name", [name for name in GOLDEN if name != "rewrites"])
def test_all_trains_all_tokens_of_the_row_once(tmp_path: Path, name: str) -> None:
    encoder = load(tmp_path, name)
    (example,) = examples_of(encoder, *TURNS, train_on="all")
    assert example.weights.tolist() == [0.0] + [1.0] * (len(example.tokens) - 1)
    assert example.tokens.tolist() == expected(encoder, GOLDEN[name][0][-1])[0]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_reply_of_weight_0_is_read_and_not_trained(tmp_path: Path, name: str) -> None:
    encoder = load(tmp_path, name)
    silent = Message("assistant", "oak", weight=0.0)
    (example,) = examples_of(encoder, TURNS[0], silent, *TURNS[2:])
    assert example.tokens.tolist() == expected(encoder, GOLDEN[name][0][-1])[0]
    assert "oak" not in trained(example, encoder)
    assert "ash" in trained(example, encoder)


@pytest.mark.parametrize("name", GOLDEN)
def test_the_last_reply_can_be_the_one_of_weight_0(tmp_path: Path, name: str) -> None:
    encoder = load(tmp_path, name)
    silent = Message("assistant", "ash", weight=0.0)
    (example,) = examples_of(encoder, *TURNS[:3], silent)
    assert "ash" not in trained(example, encoder)
    assert "oak" in trained(example, encoder)
    assert example.part == ("reply 1 of 2" if name in SPLIT else "")


@pytest.mark.parametrize("name", GOLDEN)
def test_a_row_that_is_cut_keeps_its_tokens_and_weights_up_to_there(
    tmp_path: Path, name: str
) -> None:
    encoder = load(tmp_path, name)
    for example in examples_of(encoder, SYSTEM, *TURNS):
        limit = len(example.tokens) - 3
        (cut,), lost, lost_supervised = fit(example, limit, "truncate")
        assert cut.tokens.tolist() == example.tokens[:limit].tolist()
        assert cut.weights.tolist() == example.weights[:limit].tolist()
        assert (lost, lost_supervised) == (3, int(np.count_nonzero(example.weights[-3:])))


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("kind", ["metaspace-first", "metaspace-always", "unigram", "wordpiece"])
def test_masks_are_exact_with_tokenizers_that_are_not_of_bytes(
    tmp_path: Path, name: str, kind: Kind
) -> None:
    encoder = load(tmp_path, name, kind)
    examples = examples_of(encoder, SYSTEM, *TURNS)
    replies = [trained(example, encoder) for example in examples]
    said = _squeeze("".join(replies)).replace("<think></think>", "")
    end = end_of_turn(encoder)
    assert end is not None
    assert said == _squeeze(f"oak{end}ash{end}")
    (end_id,) = encoder.ids(end)
    assert [example.tokens[example.weights > 0][-1] for example in examples] == [end_id] * len(
        examples
    )


def _squeeze(text: str) -> str:
    """Leave out white space, which these tokenizers print in their own ways."""
    return "".join(text.replace("\u2581", " ").split())


@pytest.mark.parametrize("name", CANNOT_BE_MASKED)
@pytest.mark.parametrize("train_on", ["assistant", "last-assistant"])
def test_a_template_that_does_not_print_what_it_asks_for_is_refused_and_never_guessed(
    tmp_path: Path, name: str, train_on: str
) -> None:
    encoder = load(tmp_path, name)
    part = DataPart.model_validate({"train": "d.jsonl", "train_on": train_on})
    (fault,) = render_all([conversation(*TURNS)], encoder, part, "chat")
    assert isinstance(fault, RowFault)
    assert name in fault.found
    assert "as it is served, does not begin the whole text" in fault.found
    assert fault.row_id == "d.jsonl:4"


@pytest.mark.parametrize("name", SPLIT)
def test_a_template_that_rewrites_earlier_turns_is_an_error_where_the_recipe_says_so(
    tmp_path: Path, name: str
) -> None:
    encoder = load(tmp_path, name)
    part = DataPart(train="d.jsonl", unstable_template="error")
    (fault,) = render_all([conversation(*TURNS)], encoder, part, "chat")
    assert isinstance(fault, RowFault)
    assert name in fault.found
    assert "data.unstable_template: split" in fault.fix
    assert "last-assistant" in fault.fix


@pytest.mark.parametrize("name", SPLIT)
def test_a_row_of_one_reply_is_never_split(tmp_path: Path, name: str) -> None:
    encoder = load(tmp_path, name)
    (example,) = examples_of(encoder, *TURNS[:2])
    assert example.part == ""
    assert example.tokens.tolist() == expected(encoder, GOLDEN[name][0][0])[0]


@pytest.mark.parametrize("name", SPLIT)
def test_all_with_a_weight_0_is_an_error_where_the_reply_cannot_be_found(
    tmp_path: Path, name: str
) -> None:
    encoder = load(tmp_path, name)
    part = DataPart(train="d.jsonl", train_on="all")
    silent = Message("assistant", "oak", weight=0.0)
    (fault,) = render_all([conversation(TURNS[0], silent, *TURNS[2:])], encoder, part, "chat")
    assert isinstance(fault, RowFault)
    assert "data.train_on: assistant" in fault.fix


def test_all_is_an_error_where_a_reply_is_not_printed(tmp_path: Path) -> None:
    encoder = load(tmp_path, "rewrites")
    part = DataPart(train="d.jsonl", train_on="all")
    (fault,) = render_all([conversation(*TURNS)], encoder, part, "chat")
    assert isinstance(fault, RowFault)
    assert "does not print message 1 (role assistant)" in fault.found
