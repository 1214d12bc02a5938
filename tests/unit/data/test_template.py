"""What a chat template does with a conversation: systems, tools, thinking, and what it leaves out.

Here are also the proofs that a template is run as transformers runs it to serve.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.templates import STAND_INS, make_stand_in
from tests.fakes.tiny import TEMPLATES, make_tokenizer
from tunesmith.core.errors import DataError
from tunesmith.data.conversation import Conversation, Message, ToolCall, as_template_input
from tunesmith.data.render import Example, chat_prompt, prompt_tokens, render_all
from tunesmith.data.rows import RowFault
from tunesmith.data.template import end_of_turn, render_prompt, render_text
from tunesmith.data.tokenizer import TextEncoder, load_tokenizer
from tunesmith.recipe.data import DataPart

SYSTEM = Message("system", "Answer in Croatian")
ASKED = (Message("user", "Hi"), Message("assistant", "Bok"))
WEATHER = json.dumps(
    {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
)
CALL = ToolCall("get_weather", '{"city":"Zagreb"}', "abcdefghi")
WITH_TOOLS = (
    Message("user", "How is it outside?"),
    Message("assistant", "", tool_calls=(CALL,)),
    Message("tool", "21 degrees", name="get_weather", tool_call_id="abcdefghi"),
    Message("assistant", "Warm."),
)


def stand_in(folder: Path, name: str) -> TextEncoder:
    return TextEncoder(load_tokenizer(make_stand_in(folder / name, name)))


def own(folder: Path, template: str) -> TextEncoder:
    return TextEncoder(load_tokenizer(make_tokenizer(folder / "tiny-model", template)))


def rendered(
    encoder: TextEncoder, *messages: Message, tools: tuple[str, ...] = (), **values: Any
) -> tuple[Example, ...] | RowFault:
    sample = Conversation(
        messages=messages, tools=tools, row_id="d.jsonl:4", file="d.jsonl", line=4
    )
    part = DataPart.model_validate({"train": "d.jsonl", **values})
    (result,) = render_all([sample], encoder, part, "chat")
    return result


def examples_of(encoder: TextEncoder, *messages: Message, **values: Any) -> tuple[Example, ...]:
    result = rendered(encoder, *messages, **values)
    assert not isinstance(result, RowFault), result
    return result


def fault_of(encoder: TextEncoder, *messages: Message, **values: Any) -> RowFault:
    result = rendered(encoder, *messages, **values)
    assert isinstance(result, RowFault)
    return result


def trained(example: Example, encoder: TextEncoder) -> str:
    return encoder.decode(example.tokens[example.weights > 0].tolist())


def whole(example: Example, encoder: TextEncoder) -> str:
    return encoder.decode(example.tokens.tolist())


@pytest.mark.parametrize("name", STAND_INS)
@pytest.mark.parametrize("asks", [False, True])
def test_a_template_is_run_as_transformers_runs_it_to_serve(
    tmp_path: Path, name: str, asks: bool
) -> None:
    encoder = stand_in(tmp_path, name)
    messages = (*ASKED, Message("user", "And?"), Message("assistant", "Da", thinking="Short."))
    messages = messages[:3] if asks else messages
    transformers_tokenizer: Any = encoder.tokenizer
    served = transformers_tokenizer.apply_chat_template(
        as_template_input(messages), tokenize=False, add_generation_prompt=asks
    )
    assert (render_prompt if asks else render_text)(messages, encoder) == served


def test_tools_reach_a_template_as_they_do_when_it_is_served(tmp_path: Path) -> None:
    encoder = stand_in(tmp_path, "qwen-2.5")
    transformers_tokenizer: Any = encoder.tokenizer
    served = transformers_tokenizer.apply_chat_template(
        as_template_input(WITH_TOOLS), tools=[json.loads(WEATHER)], tokenize=False
    )
    assert render_text(WITH_TOOLS, encoder, (WEATHER,)) == served


def test_a_template_of_its_own_for_tools_is_used_where_tools_are_offered(tmp_path: Path) -> None:
    encoder = own(tmp_path, "chatml")
    encoder.tokenizer.chat_template = {
        "default": STAND_INS["chatml"].template,
        "tool_use": STAND_INS["qwen-2.5"].template,
    }
    (example,) = examples_of(encoder, *WITH_TOOLS, tools=(WEATHER,))
    assert "<tools>" in whole(example, encoder)
    (plain,) = examples_of(encoder, *ASKED)
    assert "Be helpful." not in whole(plain, encoder)


def test_a_system_message_that_is_refused_is_an_error_with_two_choices(tmp_path: Path) -> None:
    fault = fault_of(stand_in(tmp_path, "gemma"), SYSTEM, *ASKED)
    assert "system" in fault.found
    assert "gemma" in fault.found
    assert "System role not supported" in fault.found
    assert "data.system_role: fold" in fault.fix
    assert "data.system_role: drop" in fault.fix
    assert fault.row_id == "d.jsonl:4"


def test_a_folded_system_message_begins_the_first_user_message(tmp_path: Path) -> None:
    encoder = stand_in(tmp_path, "gemma")
    (example,) = examples_of(encoder, SYSTEM, *ASKED, system_role="fold")
    text = whole(example, encoder)
    assert text.startswith("<bos><start_of_turn>user\nAnswer in Croatian\n\nHi<end_of_turn>")
    assert trained(example, encoder) == "Bok<end_of_turn>"


def test_a_dropped_system_message_is_not_there(tmp_path: Path) -> None:
    encoder = stand_in(tmp_path, "gemma")
    (example,) = examples_of(encoder, SYSTEM, *ASKED, system_role="drop")
    assert whole(example, encoder).startswith("<bos><start_of_turn>user\nHi<end_of_turn>")


@pytest.mark.parametrize("system_role", ["fold", "drop"])
def test_a_system_message_stays_where_the_template_takes_it(
    tmp_path: Path, system_role: str
) -> None:
    encoder = stand_in(tmp_path, "chatml")
    (example,) = examples_of(encoder, SYSTEM, *ASKED, system_role=system_role)
    assert "<|im_start|>system\nAnswer in Croatian<|im_end|>" in whole(example, encoder)


@pytest.mark.parametrize("system_role", ["fold", "drop"])
def test_what_is_served_is_folded_as_in_training(tmp_path: Path, system_role: Any) -> None:
    encoder = stand_in(tmp_path, "gemma")
    (example,) = examples_of(encoder, SYSTEM, *ASKED, system_role=system_role)
    served = chat_prompt([SYSTEM, ASKED[0]], encoder.tokenizer, system_role=system_role)
    assert example.tokens[: len(served)].tolist() == served
    part = DataPart(train="d", system_role=system_role)
    sample = Conversation(messages=(SYSTEM, *ASKED))
    assert prompt_tokens(sample, encoder.tokenizer, part, "chat").tokens == served


def test_a_served_system_message_that_is_refused_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.system_role: fold"):
        chat_prompt([SYSTEM, ASKED[0]], stand_in(tmp_path, "gemma").tokenizer)


def test_a_system_message_that_a_template_ignores_is_an_error_or_folded(tmp_path: Path) -> None:
    ignores = TEMPLATES["chatml"].replace(
        "in messages %}", "in messages if m['role'] != 'system' %}"
    )
    encoder = own(tmp_path, ignores)
    fault = fault_of(encoder, SYSTEM, *ASKED)
    assert "does not print the system message" in fault.found
    assert "data.system_role: fold" in fault.fix
    (example,) = examples_of(encoder, SYSTEM, *ASKED, system_role="fold")
    assert "user\nAnswer in Croatian\n\nHi<|im_end|>" in whole(example, encoder)


def test_the_recipes_system_message_is_folded_too(tmp_path: Path) -> None:
    encoder = stand_in(tmp_path, "gemma")
    (example,) = examples_of(encoder, *ASKED, system_role="fold", system="Be brief")
    assert "user\nBe brief\n\nHi<end_of_turn>" in whole(example, encoder)


CALL_TEXT = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zagreb"}}\n</tool_call>'


def test_a_tool_call_is_trained_with_its_end_and_a_result_is_not(tmp_path: Path) -> None:
    encoder = stand_in(tmp_path, "qwen-2.5")
    (example,) = examples_of(encoder, *WITH_TOOLS, tools=(WEATHER,))
    assert trained(example, encoder) == f"{CALL_TEXT}<|im_end|>Warm.<|im_end|>"
    assert "<tool_response>\n21 degrees\n</tool_response>" in whole(example, encoder)
    assert '"get_weather"' in whole(example, encoder).split("</tools>")[0]


def test_a_tool_call_that_is_printed_otherwise_later_has_an_example_of_its_own(
    tmp_path: Path,
) -> None:
    encoder = stand_in(tmp_path, "qwen-3")
    called, said = examples_of(encoder, *WITH_TOOLS, tools=(WEATHER,))
    assert trained(called, encoder) == f"<think>\n\n</think>\n\n{CALL_TEXT}<|im_end|>"
    assert trained(said, encoder) == "<think>\n\n</think>\n\nWarm.<|im_end|>"
    assert (called.part, said.part) == ("reply 1 of 2", "reply 2 of 2")


def test_serving_a_conversation_with_tools_equals_training(tmp_path: Path) -> None:
    encoder = stand_in(tmp_path, "qwen-2.5")
    (example,) = examples_of(encoder, *WITH_TOOLS, tools=(WEATHER,))
    served = chat_prompt(WITH_TOOLS[:3], encoder.tokenizer, tools=(WEATHER,))
    assert example.tokens[: len(served)].tolist() == served
    sample = Conversation(messages=WITH_TOOLS, tools=(WEATHER,))
    asked = prompt_tokens(sample, encoder.tokenizer, DataPart(train="d"), "chat")
    assert (asked.tokens, asked.reference) == (served, "Warm.")


def test_the_reference_of_a_reply_that_calls_a_tool_is_the_printed_call(tmp_path: Path) -> None:
    encoder = stand_in(tmp_path, "qwen-2.5")
    sample = Conversation(messages=WITH_TOOLS[:2], tools=(WEATHER,))
    asked = prompt_tokens(sample, encoder.tokenizer, DataPart(train="d"), "chat")
    assert asked.reference == CALL_TEXT


def test_a_template_that_prints_no_tool_calls_is_an_error(tmp_path: Path) -> None:
    fault = fault_of(stand_in(tmp_path, "chatml"), *WITH_TOOLS)
    assert "does not print tool calls (here of get_weather)" in fault.found
    assert fault.field == "messages[1].tool_calls"


def test_a_call_is_missed_even_where_its_name_stands_elsewhere(tmp_path: Path) -> None:
    lists_tools = "{{ tools | tojson }}" + TEMPLATES["chatml"]
    fault = fault_of(own(tmp_path, lists_tools), *WITH_TOOLS, tools=(WEATHER,))
    assert "does not print tool calls" in fault.found


def test_a_template_that_prints_no_tools_is_an_error(tmp_path: Path) -> None:
    fault = fault_of(stand_in(tmp_path, "chatml"), *ASKED, tools=(WEATHER,))
    assert "does not print the tools on offer (here get_weather)" in fault.found
    assert fault.field == "tools[0]"


def test_arguments_are_given_as_text_to_a_template_that_wants_text(tmp_path: Path) -> None:
    encoder = stand_in(tmp_path, "deepseek")
    (example,) = examples_of(encoder, *WITH_TOOLS)
    assert trained(example, encoder).startswith('\n```json\nget_weather {"city":"Zagreb"}\n```')
    as_it_is = TEMPLATES["chatml"].replace(
        "m['content'] +", "m['content'] ~ (m['tool_calls'] or [{}])[0].get('function', '') ~"
    )
    assert as_it_is != TEMPLATES["chatml"]
    (printed,) = examples_of(own(tmp_path, as_it_is), *WITH_TOOLS)
    assert '{"city":"Zagreb"}' in trained(printed, own(tmp_path, as_it_is))


def test_a_message_that_a_template_leaves_out_is_an_error(tmp_path: Path) -> None:
    no_tools = TEMPLATES["chatml"].replace(
        "in messages %}", "in messages if m['role'] != 'tool' %}"
    )
    result = Message("tool", "21 degrees")
    fault = fault_of(own(tmp_path, no_tools), *ASKED, result, Message("assistant", "Warm."))
    assert "does not print message 2 (role tool)" in fault.found
    assert fault.field == "messages[2]"


def test_a_message_that_is_printed_in_another_way_is_not_missed(tmp_path: Path) -> None:
    as_json = TEMPLATES["chatml"].replace("m['content']", "(m['content'] | tojson)")
    encoder = own(tmp_path, as_json)
    (example,) = examples_of(encoder, Message("user", 'a "b"\n'), ASKED[1])
    assert trained(example, encoder) == '"Bok"<|im_end|>'


def test_a_reply_of_which_only_a_part_is_printed_is_not_missed(tmp_path: Path) -> None:
    encoder = stand_in(tmp_path, "deepseek")
    for said in ("a", "b"):  # whatever the template is tried with
        reply = Message("assistant", f"<think>Short.</think>{said}")
        (example,) = examples_of(encoder, ASKED[0], reply)
        assert trained(example, encoder).startswith(said)


def test_white_space_alone_is_nothing_to_miss(tmp_path: Path) -> None:
    encoder = stand_in(tmp_path, "strips")
    (example,) = examples_of(encoder, Message("user", " \n"), ASKED[1])
    assert trained(example, encoder) == "Bok<|im_end|>"


def test_thinking_is_trained_where_the_template_prints_it(tmp_path: Path) -> None:
    encoder = stand_in(tmp_path, "qwen-3")
    reply = Message("assistant", "Bok", thinking="A greeting.")
    (example,) = examples_of(encoder, ASKED[0], reply)
    assert trained(example, encoder) == "<think>\nA greeting.\n</think>\n\nBok<|im_end|>"
    assert not example.lost_thinking
    typed = Message("assistant", "<think>\nA greeting.\n</think>\n\nBok")
    (same,) = examples_of(encoder, ASKED[0], typed)
    assert same.tokens.tolist() == example.tokens.tolist()


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("chatml", Message("assistant", "Bok", thinking="A greeting.")),
        ("deepseek", Message("assistant", "<think>\nA greeting.\n</think>Bok")),
    ],
)
def test_thinking_that_a_template_leaves_out_is_marked_and_no_error(
    tmp_path: Path, name: str, reply: Message
) -> None:
    encoder = stand_in(tmp_path, name)
    (example,) = examples_of(encoder, ASKED[0], reply)
    assert example.lost_thinking
    assert trained(example, encoder).startswith("Bok")


def test_each_reply_of_a_thinking_model_begins_where_the_server_stops(tmp_path: Path) -> None:
    encoder = stand_in(tmp_path, "qwen-3")
    turns = (*ASKED, Message("user", "And?"), Message("assistant", "Da", thinking="Short."))
    first, second = examples_of(encoder, *turns)
    for example, asked in ((first, turns[:1]), (second, turns[:3])):
        served = chat_prompt(asked, encoder.tokenizer)
        assert encoder.decode(served).endswith("<|im_start|>assistant\n")
        assert example.tokens[: len(served)].tolist() == served
        assert not example.weights[: len(served)].any()
        assert example.weights[len(served)] == 1
    assert trained(first, encoder) == "<think>\n\n</think>\n\nBok<|im_end|>"
    assert trained(second, encoder) == "<think>\nShort.\n</think>\n\nDa<|im_end|>"


def test_replies_after_one_question_need_no_split(tmp_path: Path) -> None:
    encoder = stand_in(tmp_path, "qwen-3")
    call = Message("assistant", "", thinking="Look.", tool_calls=(CALL,))
    turns = (WITH_TOOLS[0], call, WITH_TOOLS[2], Message("assistant", "Warm.", thinking="So."))
    (example,) = examples_of(encoder, *turns, tools=(WEATHER,))
    assert trained(example, encoder).count("<|im_end|>") == 2
    assert "<think>\nLook.\n</think>" in trained(example, encoder)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chatml", "<|im_end|>"), ("llama-2", "</s>"), ("llama-3", "<|eot_id|>"),
        ("gemma", "<end_of_turn>"), ("phi-3", "<|end|>"), ("phi-4", "<|im_end|>"),
        ("qwen-3", "<|im_end|>"), ("zephyr", "</s>"), ("deepseek-r1", None),
    ],
)  # fmt: skip
def test_the_token_that_ends_a_turn_is_found_though_it_is_not_the_end_token(
    tmp_path: Path, name: str, expected: str | None
) -> None:
    assert end_of_turn(stand_in(tmp_path, name)) == expected
