from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tiny import make_tokenizer
from tests.fakes.tiny_llama import make_llama
from tunesmith.data.conversation import Conversation, Labelled, Message, PromptCompletion
from tunesmith.data.render import chat_prompt
from tunesmith.data.tokenizer import Tokenizer, load_tokenizer
from tunesmith.inference.answerer import MOST_ROWS, TextAnswerer
from tunesmith.inference.engine import Engine, Generated
from tunesmith.inference.torch_engine import TorchEngine
from tunesmith.recipe.data import DataPart

PART = DataPart(train="rows.jsonl")


class Recorder:
    """An engine that answers with a number of tokens and keeps how it was asked."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}

    def generate(self, prompts: Sequence[Sequence[int]], **options: Any) -> list[Generated]:
        self.options = options
        return [Generated(tuple(prompt[-3:]), "stop") for prompt in prompts]

    def stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def decode(self, tokens: Sequence[int]) -> str:
        return f"{len(tokens)} tokens"


@pytest.fixture(name="tokenizer")
def tokenizer_fixture(tmp_path: Path) -> Tokenizer:
    return load_tokenizer(make_tokenizer(tmp_path / "tokenizer"))


def conversation(question: str, answer: str = "", line: int = 1) -> Conversation:
    turns = (Message("user", question), Message("assistant", answer))
    return Conversation(messages=turns, file="rows.jsonl", line=line, row_id=f"rows.jsonl:{line}")


def answerer(engine: Engine, tokenizer: Tokenizer, **changes: Any) -> TextAnswerer:
    options = {"max_prompt_tokens": 60, "max_new_tokens": 9, "batch_tokens": 8192, **changes}
    part = options.pop("part", PART)
    return TextAnswerer(engine, tokenizer, part, **options)


def test_an_answer_has_a_reference_only_where_the_row_has_one(tokenizer: Tokenizer) -> None:
    asked = [conversation("elm?"), conversation("elm?", "oak")]
    assert answerer(Recorder(), tokenizer).answer(asked, [0, 1]) == [
        {"answer": "3 tokens", "finish_reason": "stop"},
        {"answer": "3 tokens", "finish_reason": "stop", "reference": "oak"},
    ]


def test_entities_that_are_written_are_looked_up_in_the_text(tokenizer: Tokenizer) -> None:
    class Writer(Recorder):
        def decode(self, tokens: Sequence[int]) -> str:
            del tokens
            return "PER: Ada\nLOC: Paris"

    labelled = Labelled(kind="tags", texts=("So", "Ada", "said"), labels=())
    row = replace(conversation("So Ada said"), labelled=labelled)
    (line,) = answerer(Writer(), tokenizer).answer([row], [0])
    assert line["answer"] == "PER: Ada\nLOC: Paris"
    assert line["entities"] == [{"type": "PER", "words": "Ada", "start": 1, "end": 2}]


def test_settings_and_numbers_reach_the_engine(tokenizer: Tokenizer) -> None:
    engine = Recorder()
    answerer(engine, tokenizer, temperature=0.5, seed=3).answer([conversation("elm?")], [41])
    assert engine.options == {
        "max_new_tokens": 9, "temperature": 0.5, "seed": 3, "numbers": [41],
    }  # fmt: skip


def test_a_prompt_that_does_not_fit_is_refused(tokenizer: Tokenizer) -> None:
    rows = [conversation("elm?"), conversation("elm " * 50, line=7)]
    first, second = answerer(Recorder(), tokenizer).refuse(rows)
    assert first is None
    assert second is not None
    assert (second.row_id, second.line) == ("rows.jsonl:7", 7)
    assert "at least 1, and 60 at most" in second.expected
    assert answerer(Recorder(), tokenizer, max_prompt_tokens=None).refuse(rows) == [None, None]


def test_the_longest_prompt_is_one_that_the_engine_takes(tokenizer: Tokenizer) -> None:
    model = make_llama(vocab_size=len(tokenizer), max_position_embeddings=64)
    engine = TorchEngine(model, tokenizer)
    most = engine.max_prompt_tokens
    assert most == 63
    row = PromptCompletion(prompt="#" * most, completion="", row_id="r:1")
    longer = PromptCompletion(prompt="#" * (most + 1), completion="", row_id="r:2")
    ready = answerer(engine, tokenizer, max_prompt_tokens=most)
    assert [one is None for one in ready.refuse([row, longer])] == [True, False]
    (answer,) = ready.answer([row], [0])
    assert answer["finish_reason"] == "length"


def test_a_conversation_that_the_template_refuses_is_a_fault_of_its_row(tmp_path: Path) -> None:
    strict = load_tokenizer(make_tokenizer(tmp_path / "strict", "refuses-system"))
    part = DataPart(train="rows.jsonl", system="Be kind.")
    (fault,) = answerer(Recorder(), strict, part=part).refuse([conversation("elm?", line=4)])
    assert fault is not None
    assert fault.line == 4
    assert "takes no system message" in fault.found
    folded = DataPart(train="rows.jsonl", system="Be kind.", system_role="fold")
    assert answerer(Recorder(), strict, part=folded).refuse([conversation("elm?")]) == [None]


def test_a_conversation_for_a_model_without_a_template_is_a_fault(tmp_path: Path) -> None:
    plain = load_tokenizer(make_tokenizer(tmp_path / "plain", None))
    (fault,) = answerer(Recorder(), plain).refuse([conversation("elm?")])
    assert fault is not None
    assert "no chat template" in fault.found


def test_so_many_rows_at_once_as_make_some_batches(tokenizer: Tokenizer) -> None:
    def rows_at_once(**options: int) -> int:
        return answerer(Recorder(), tokenizer, **options).rows_at_once

    assert rows_at_once(batch_tokens=8192, max_new_tokens=512) == 16
    assert rows_at_once(batch_tokens=8192, max_new_tokens=8) == MOST_ROWS
    assert rows_at_once(batch_tokens=8, max_new_tokens=512) == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_is_the_same_alone_and_in_any_company(
    tokenizer: Tokenizer, temperature: float
) -> None:
    model = make_llama(vocab_size=len(tokenizer))
    model.generation_config.eos_token_id = list(range(20, 24))
    rows = [conversation("elm " * (line % 7) + str(line), line=line) for line in range(16)]
    together = answerer(
        TorchEngine(model, tokenizer), tokenizer, temperature=temperature, max_new_tokens=20
    )
    alone = [together.answer([row], [number])[0] for number, row in enumerate(rows)]
    assert together.answer(rows, range(16)) == alone
    backwards = together.answer(rows[::-1], range(16)[::-1])
    assert backwards[::-1] == alone
    narrow = answerer(
        TorchEngine(model, tokenizer, batch_tokens=100), tokenizer,
        temperature=temperature, max_new_tokens=20,
    )  # fmt: skip
    assert narrow.answer(rows, range(16)) == alone
    assert {one["finish_reason"] for one in alone} == {"stop", "length"}


def test_the_prompt_is_what_a_chat_sends(tokenizer: Tokenizer) -> None:
    model = make_llama(vocab_size=len(tokenizer))
    engine = TorchEngine(model, tokenizer)
    (answer,) = answerer(engine, tokenizer).answer([conversation("elm?", "oak")], [0])
    prompt = chat_prompt([Message("user", "elm?")], tokenizer)
    (said,) = engine.generate([prompt], max_new_tokens=9)
    assert answer["answer"] == engine.decode(said.tokens)
