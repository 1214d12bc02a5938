from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tiny import make_tokenizer
from tunesmith.data.conversation import Message
from tunesmith.data.render import chat_prompt
from tunesmith.data.tokenizer import load_tokenizer
from tunesmith.inference.engine import Generated
from tunesmith.inference.loading import Loaded
from tunesmith.inference.process import StopFlag, serve

HELLO = [{"role": "user", "content": "hello"}]


class FakeEngine:
    """Says three words; may be told to stop after the first."""

    def __init__(self, stop: StopFlag | None = None) -> None:
        self.prompts: list[list[int]] = []
        self.options: list[dict[str, Any]] = []
        self.stop = stop

    def stream(self, prompt: Sequence[int], **options: Any) -> Iterator[str | Generated]:
        self.prompts.append(list(prompt))
        self.options.append(options)
        for word in ("one ", "two ", "three"):
            if self.stop:
                self.stop.set()
            yield word
        yield Generated((1, 2, 3), "stop")

    def generate(self, *_args: Any, **_options: Any) -> list[Generated]:
        raise NotImplementedError

    def decode(self, tokens: Sequence[int]) -> str:
        raise NotImplementedError


def loaded(folder: Path, **changes: Any) -> Loaded:
    tokenizer = load_tokenizer(make_tokenizer(folder))
    fields = {"name": "desk", "base": "tiny", "model": None, "tokenizer": tokenizer, "task": "chat"}
    return Loaded(**{**fields, **changes})


def replies_to(
    requests: Sequence[object], it: Loaded, engine: FakeEngine, stop: StopFlag | None = None
) -> list[dict[str, Any]]:
    lines = "".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in requests)
    replies = io.StringIO()
    serve(it, engine, io.StringIO(lines), replies, stop or StopFlag())
    return [json.loads(line) for line in replies.getvalue().splitlines()]


def test_it_says_what_is_loaded_and_ends_with_its_input(tmp_path: Path) -> None:
    assert replies_to([], loaded(tmp_path), FakeEngine()) == [
        {"ready": {"name": "desk", "base": "tiny", "task": "chat", "system": None}}
    ]


def test_an_answer_is_pieces_and_an_end(tmp_path: Path) -> None:
    replies = replies_to([{"messages": HELLO}], loaded(tmp_path), FakeEngine())[1:]
    assert replies[:3] == [{"delta": "one "}, {"delta": "two "}, {"delta": "three"}]
    done = replies[3]["done"]
    assert (done["finish_reason"], done["tokens"]) == ("stop", 3)


def test_a_conversation_is_rendered_as_in_training(tmp_path: Path) -> None:
    it, engine = loaded(tmp_path), FakeEngine()
    replies_to([{"messages": HELLO}], it, engine)
    assert engine.prompts == [chat_prompt([Message("user", "hello")], it.tokenizer)]


def test_the_system_message_of_training_is_used_where_none_is_given(tmp_path: Path) -> None:
    it, engine = loaded(tmp_path, system="Be brief."), FakeEngine()
    own = {"role": "system", "content": "Be long."}
    replies_to([{"messages": HELLO}, {"messages": [own, *HELLO]}], it, engine)
    texts = [it.tokenizer.decode(prompt) for prompt in engine.prompts]
    assert "Be brief." in texts[0]
    assert "Be brief." not in texts[1]


def test_a_text_is_asked_as_it_is(tmp_path: Path) -> None:
    it, engine = loaded(tmp_path), FakeEngine()
    replies_to([{"prompt": "the text"}], it, engine)
    assert it.tokenizer.decode(engine.prompts[0]) == "the text"


def test_settings_reach_the_engine(tmp_path: Path) -> None:
    engine = FakeEngine()
    options = {"max_new_tokens": 7, "temperature": 0.5, "seed": 3}
    replies_to([{"messages": HELLO, **options}], loaded(tmp_path), engine)
    assert engine.options == [options]


def test_being_asked_to_stop_ends_the_answer_and_not_the_process(tmp_path: Path) -> None:
    stop = StopFlag()
    requests = [{"messages": HELLO}] * 2
    replies = replies_to(requests, loaded(tmp_path), FakeEngine(stop), stop)[1:]
    assert [*replies[0]] == ["delta"]
    assert replies[1]["done"]["finish_reason"] == "stopped"
    assert [*replies[2]] == ["delta"]
    assert len(replies) == 4


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        ("not json", "no valid JSON"),
        ([1], "no object"),
        ({}, "without messages or a prompt"),
        ({"messages": []}, "an empty one"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "robot"),
        ({"messages": [{"role": "user", "content": None}]}, "cannot be used"),
        ({"messages": HELLO, "max_new_tokens": 0}, "max_new_tokens: 0"),
        ({"messages": HELLO, "max_new_tokens": 1.5}, "max_new_tokens: 1.5"),
        ({"messages": HELLO, "temperature": "hot"}, "temperature: 'hot'"),
    ],
)
def test_a_bad_request_is_an_error_and_the_next_is_answered(
    tmp_path: Path, request_: object, found: str
) -> None:
    replies = replies_to([request_, {"messages": HELLO}], loaded(tmp_path), FakeEngine())[1:]
    error = replies[0]["error"]
    assert error["kind"] == "UserError"
    assert found in error["faults"][0]["found"]
    assert [*replies[-1]] == ["done"]


def test_half_a_surrogate_pair_is_replaced(tmp_path: Path) -> None:
    it, engine = loaded(tmp_path), FakeEngine()
    replies_to(['{"prompt": "a\\ud83d b \\ud83d\\ude00"}'], it, engine)
    assert it.tokenizer.decode(engine.prompts[0]) == "a\ufffd b \U0001f600"
