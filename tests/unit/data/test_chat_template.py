"""A chat template of the recipe's own: where it comes from, and what our `chatml` prints."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from tests.fakes.tiny import make_tokenizer
from tests.unit.data.preparing import say_nothing, write
from tunesmith.core.errors import RecipeError
from tunesmith.data.conversation import Conversation, Message, ToolCall
from tunesmith.data.pipeline import lay_out
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.data.render import chat_prompt, prompt_tokens, render
from tunesmith.data.show import show_example
from tunesmith.data.tokenizer import Tokenizer, load_tokenizer
from tunesmith.recipe.data import DataPart
from tunesmith.recipe.load import load_recipe

TOOL = json.dumps(
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
)
TURNS = (
    Message("system", "Be brief."),
    Message("user", "Rain?"),
    Message("assistant", "", tool_calls=(ToolCall("weather", '{"city": "Bled"}'),)),
    Message("tool", "no"),
    Message("assistant", "It is dry."),
)
SAMPLE = Conversation(messages=TURNS, tools=(TOOL,), row_id="d.jsonl:1")
PART = DataPart(train="d.jsonl")


@pytest.fixture(name="tokenizer")
def tokenizer_fixture(tmp_path: Path) -> Tokenizer:
    folder = make_tokenizer(tmp_path / "plain", "refuses-system")
    return load_tokenizer(folder, chat_template="chatml")


def test_our_template_prints_tools_calls_and_results(tokenizer: Tokenizer) -> None:
    example = render(SAMPLE, tokenizer, PART, "chat")
    assert tokenizer.decode(example.tokens.tolist()) == (
        "<|im_start|>system\nBe brief.\n\n"
        "You can call functions. Each line between <tools> and </tools> describes one:\n"
        '<tools>\n{"name": "weather", "parameters": {"type": "object"}}\n</tools>\n'
        "To call one, write a JSON object with its name and its arguments between "
        "<tool_call> and </tool_call>.<|im_end|>\n"
        "<|im_start|>user\nRain?<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>{"name": "weather", "arguments": {"city": "Bled"}}'
        "</tool_call><|im_end|>\n"
        "<|im_start|>tool\nno<|im_end|>\n"
        "<|im_start|>assistant\nIt is dry.<|im_end|>\n"
    )
    trained = [piece.text for piece in show_example(example, tokenizer) if piece.weight]
    assert "".join(trained) == (
        '<tool_call>{"name": "weather", "arguments": {"city": "Bled"}}</tool_call><|im_end|>'
        "It is dry.<|im_end|>"
    )


def test_what_is_served_begins_what_is_trained(tokenizer: Tokenizer) -> None:
    tokens = render(SAMPLE, tokenizer, PART, "chat").tokens.tolist()
    prompt = prompt_tokens(SAMPLE, tokenizer, PART, "chat").tokens
    assert prompt == chat_prompt(TURNS[:-1], tokenizer, tools=(TOOL,))
    assert tokens[: len(prompt)] == prompt


def test_a_conversation_without_tools_and_system_has_no_system_turn(tokenizer: Tokenizer) -> None:
    tokens = chat_prompt((Message("user", "Hi"),), tokenizer)
    assert tokenizer.decode(tokens) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_workers_and_saved_folders_have_the_template(tmp_path: Path) -> None:
    folder = make_tokenizer(tmp_path / "plain", "refuses-system")
    own = TokenizerSource(str(folder))
    source = TokenizerSource(str(folder), (), "{{ messages[0]['content'] }}")
    there = pickle.loads(pickle.dumps(source))
    assert there.tokenizer.chat_template == "{{ messages[0]['content'] }}"
    assert there.fingerprints()["chat template"] != own.fingerprints()["chat template"]
    there.tokenizer.save_pretrained(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").chat_template == "{{ messages[0]['content'] }}"


def test_rows_are_prepared_with_the_template(tmp_path: Path) -> None:
    folder = make_tokenizer(tmp_path / "plain", "refuses-system")
    rows = [
        {"messages": [{"role": "system", "content": f"{n}"}, {"role": "user", "content": "a"},
                      {"role": "assistant", "content": "b"}]}
        for n in range(4)
    ]  # fmt: skip
    part = DataPart(train=write(tmp_path / "d.jsonl", *rows))
    data = lay_out(part, "chat", TokenizerSource(str(folder), (), "chatml"), tell=say_nothing)
    assert len(data.train) + len(data.validation) == 4


def test_a_recipe_keeps_the_text_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text("{{ messages }}")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "model: {source: a/b, chat_template: own.jinja}\ntask: chat\ndata: {train: d.jsonl}\n"
    )
    assert load_recipe(recipe).recipe.model.chat_template == "{{ messages }}"
    text = load_recipe(recipe, overrides=["model.chat_template='{{ messages[0] }}'"])
    assert text.recipe.model.chat_template == "{{ messages[0] }}"
    word = load_recipe(recipe, overrides=["model.chat_template=chatml"])
    assert word.recipe.model.chat_template == "chatml"


def test_a_file_that_is_not_there_is_a_fault_beside_the_others(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "model: {source: a/b, chat_template: none.jinja}\ntask: chats\ndata: {train: d.jsonl}\n"
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe)
    text = str(caught.value)
    assert "none.jinja: No such file" in text
    assert "chatml" in text
    assert "chats" in text
