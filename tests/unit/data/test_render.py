"""Golden tokens: the exact ids and weights of small conversations, for each kind of template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.templates import Kind, make_stand_in
from tests.fakes.tiny import TEMPLATES, make_tokenizer
from tunesmith.core.errors import DataError
from tunesmith.data.conversation import (
    Conversation,
    Message,
    PlainText,
    PromptCompletion,
    Sample,
)
from tunesmith.data.formats import TaskName
from tunesmith.data.render import (
    Example,
    chat_prompt,
    prompt_tokens,
    render,
    render_all,
    with_system,
)
from tunesmith.data.rows import RowFault
from tunesmith.data.template import end_of_turn
from tunesmith.data.tokenizer import TextEncoder, Tokenizer, load_tokenizer
from tunesmith.data.word_memory import WordMemory
from tunesmith.recipe.data import DataPart

Make = Callable[..., Tokenizer]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def load(template: str | None = "chatml", *, automatic_bos: bool = False) -> Tokenizer:
        return load_tokenizer(
            make_tokenizer(tmp_path / "tiny-model", template, automatic_bos=automatic_bos)
        )

    return load


def part(**values: Any) -> DataPart:
    return DataPart(train="d.jsonl", **values)


def talk(*contents: str, system: str | None = None, **weights: float) -> Conversation:
    """Make a conversation of user and assistant in turn; `m1=0.0` gives message 1 a weight."""
    roles = ("user", "assistant")
    messages = tuple(
        Message(roles[index % 2], content, weights.get(f"m{index}"))
        for index, content in enumerate(contents)
    )
    if system is not None:
        messages = (Message("system", system), *messages)
    return Conversation(messages=messages, row_id="d.jsonl:4", file="d.jsonl", line=4)


def examples_of(
    sample: Sample, tokenizer: Tokenizer, task: TaskName = "chat", **values: Any
) -> tuple[Example, ...]:
    (rendered,) = render_all([sample], TextEncoder(tokenizer), part(**values), task)
    assert not isinstance(rendered, RowFault), rendered
    return rendered


def trained(example: Example, tokenizer: Tokenizer) -> str:
    assert set(np.unique(example.weights)) <= {0.0, 1.0}
    return tokenizer.decode(example.tokens[example.weights > 0].tolist())


def whole(example: Example, tokenizer: Tokenizer) -> str:
    return tokenizer.decode(example.tokens.tolist())


def assert_prompt_is_prefix(
    sample: Sample, tokenizer: Tokenizer, task: TaskName = "chat", **values: Any
) -> None:
    example = render(sample, tokenizer, part(**values), task)
    prompt = prompt_tokens(sample, tokenizer, part(**values), task)
    assert example.tokens[: len(prompt.tokens)].tolist() == prompt.tokens
    assert len(prompt.tokens) < len(example.tokens)


ELM_OAK = talk("elm", "oak")
TWO_TURNS = talk("elm", "oak", "fir", "ash")

# The tiny vocabulary: 1 is <|im_start|>, 2 is <|im_end|>, a letter is 3 + (its code - 33), 201 is
# the line break, and 262 is the merge "er".
GOLDEN = (
    # token ids                                            whether they are trained
    ([1, 87, 85, 262, 201], False),  #                     <|im_start|> u s er \n
    ([71, 78, 79, 2, 201], False),  #                      e l m <|im_end|> \n
    ([1, 67, 85, 85, 75, 85, 86, 67, 80, 86, 201], False),  # <|im_start|> a s s i s t a n t \n
    ([81, 67, 77, 2], True),  #                            o a k <|im_end|>
    ([201], False),  #                                     \n
    ([1, 87, 85, 262, 201], False),  #                     <|im_start|> u s er \n
    ([72, 75, 84, 2, 201], False),  #                      f i r <|im_end|> \n
    ([1, 67, 85, 85, 75, 85, 86, 67, 80, 86, 201], False),  # <|im_start|> a s s i s t a n t \n
    ([67, 85, 74, 2], True),  #                            a s h <|im_end|>
    ([201], False),  #                                     \n
)


@pytest.mark.parametrize(("sample", "num_groups"), [(ELM_OAK, 5), (TWO_TURNS, 10)])
@pytest.mark.parametrize(
    "template", ["chatml", "generation-marks", "generation-marks-without-end", "strips"]
)
def test_golden_tokens_and_weights(
    make: Make, template: str, sample: Sample, num_groups: int
) -> None:
    example = render(sample, make(template), part(), "chat")
    groups = GOLDEN[:num_groups]
    assert example.tokens.tolist() == [token for tokens, _ in groups for token in tokens]
    assert example.weights.tolist() == [
        float(is_trained) for tokens, is_trained in groups for _ in tokens
    ]
    assert (example.tokens.dtype, example.weights.dtype) == (np.int32, np.float32)
    assert (example.row_id, example.file, example.line) == ("d.jsonl:4", "d.jsonl", 4)


def test_golden_tokens_of_a_reply_of_weight_0(make: Make) -> None:
    example = render(talk("elm", "oak", "fir", "ash", m1=0.0), make(), part(), "chat")
    whole_row = [token for tokens, _ in GOLDEN for token in tokens]
    assert example.tokens.tolist() == whole_row
    assert example.weights.tolist() == [0.0] * 47 + [1.0] * 4 + [0.0]


def test_golden_tokens_with_a_bos_that_the_template_prints(make: Make) -> None:
    tokenizer = make("prints-bos", automatic_bos=True)
    example = render(ELM_OAK, tokenizer, part(), "chat")
    assert example.tokens.tolist() == [0, *(token for tokens, _ in GOLDEN[:5] for token in tokens)]
    assert example.weights.tolist() == [0.0] * 22 + [1.0] * 4 + [0.0]


@pytest.mark.parametrize(
    "template",
    [
        "chatml", "chatml-default-system", "generation-marks", "generation-marks-without-end",
        "prints-bos", "strips", "refuses-system",
    ],
)  # fmt: skip
@pytest.mark.parametrize("automatic_bos", [False, True])
@pytest.mark.parametrize(
    ("sample", "train_on", "expected"),
    [
        (ELM_OAK, "assistant", "oak<|im_end|>"),
        (TWO_TURNS, "assistant", "oak<|im_end|>ash<|im_end|>"),
        (TWO_TURNS, "last-assistant", "ash<|im_end|>"),
        (talk("elm", "oak", "fir", "ash", m1=0.0), "assistant", "ash<|im_end|>"),
        (talk("elm", "oak", "fir", "ash", m3=0.0), "assistant", "oak<|im_end|>"),
        (talk("elm", "oak", "fir", "ash", m1=1.0, m3=1.0), "last-assistant", "ash<|im_end|>"),
        (talk("elm", "oak", "fir", "ash", m1=0.0, m3=0.0), "assistant", ""),
    ],
)
def test_replies_and_their_end_of_turn_are_trained_and_nothing_else(
    make: Make, template: str, automatic_bos: bool, sample: Sample, train_on: str, expected: str
) -> None:
    tokenizer = make(template, automatic_bos=automatic_bos)
    example = render(sample, tokenizer, part(train_on=train_on), "chat")
    assert trained(example, tokenizer) == expected
    assert example.has_end
    assert example.supervised_tokens == len(TextEncoder(tokenizer).ids(expected))
    assert_prompt_is_prefix(sample, tokenizer, train_on=train_on)


def test_all_trains_every_token_but_the_first(make: Make) -> None:
    tokenizer = make()
    example = render(TWO_TURNS, tokenizer, part(train_on="all"), "chat")
    assert example.weights.tolist() == [0.0] + [1.0] * (len(example.tokens) - 1)


def test_all_leaves_out_a_reply_of_weight_0(make: Make) -> None:
    tokenizer = make()
    sample = talk("elm", "oak", "fir", "ash", m1=0.0)
    text = trained(render(sample, tokenizer, part(train_on="all"), "chat"), tokenizer)
    assert "oak" not in text
    assert "ash<|im_end|>" in text


@pytest.mark.parametrize(
    ("template", "automatic_bos", "bos"),
    [
        ("chatml", True, "<|endoftext|>"),
        ("prints-bos", True, "<|endoftext|>"),
        ("chatml", False, ""),
    ],
)
def test_there_is_exactly_one_bos_where_the_model_has_one(
    make: Make, template: str, automatic_bos: bool, bos: str
) -> None:
    tokenizer = make(template, automatic_bos=automatic_bos)
    example = render(ELM_OAK, tokenizer, part(), "chat")
    assert whole(example, tokenizer).startswith(f"{bos}<|im_start|>user")
    assert whole(example, tokenizer).count("<|endoftext|>") == bool(bos)
    served = chat_prompt(ELM_OAK.messages[:1], tokenizer)
    evaluated = prompt_tokens(ELM_OAK, tokenizer, part(), "chat").tokens
    assert example.tokens[:8].tolist() == served[:8] == evaluated[:8]


def test_a_default_system_message_is_the_same_in_training_and_serving(make: Make) -> None:
    tokenizer = make("chatml-default-system")
    example = render(ELM_OAK, tokenizer, part(), "chat")
    assert whole(example, tokenizer).startswith("<|im_start|>system\nBe kind<|im_end|>")
    assert tokenizer.decode(chat_prompt(ELM_OAK.messages[:1], tokenizer)) == (
        "<|im_start|>system\nBe kind<|im_end|>\n<|im_start|>user\nelm<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_recipes_system_message_is_used_where_a_row_brings_none(make: Make) -> None:
    tokenizer = make("chatml-default-system")
    example = render(ELM_OAK, tokenizer, part(system="Be brief"), "chat")
    assert "system\nBe brief<|im_end|>" in whole(example, tokenizer)
    assert "Be kind" not in whole(example, tokenizer)
    assert_prompt_is_prefix(ELM_OAK, tokenizer, system="Be brief")
    own = talk("elm", "oak", system="Be bold")
    assert "Be brief" not in whole(
        render(own, tokenizer, part(system="Be brief"), "chat"), tokenizer
    )
    assert with_system(own.messages, "Be brief") == own.messages


def test_a_template_that_strips_is_masked_exactly(make: Make) -> None:
    tokenizer = make("strips")
    sample = talk(" elm ", "  oak\n", "fir", "\nash ")
    assert trained(render(sample, tokenizer, part(), "chat"), tokenizer) == (
        "oak<|im_end|>ash<|im_end|>"
    )
    assert_prompt_is_prefix(sample, tokenizer)


def test_a_template_that_rewrites_earlier_turns_is_refused_by_name(make: Make) -> None:
    tokenizer = make("rewrites-earlier-turns")
    with pytest.raises(DataError) as caught:
        render(TWO_TURNS, tokenizer, part(unstable_template="error"), "chat")
    assert "tiny-model" in str(caught.value)
    assert "d.jsonl:4" in str(caught.value)
    assert "last-assistant" in str(caught.value)


def test_a_template_that_rewrites_earlier_turns_can_train_the_last_one(make: Make) -> None:
    tokenizer = make("rewrites-earlier-turns")
    example = render(TWO_TURNS, tokenizer, part(train_on="last-assistant"), "chat")
    assert trained(example, tokenizer) == "ash<|im_end|>"
    weighed = talk("elm", "oak", "fir", "ash", m1=0.0)
    assert trained(render(weighed, tokenizer, part(), "chat"), tokenizer) == "ash<|im_end|>"


def test_a_served_prompt_that_does_not_begin_the_training_text_is_refused(make: Make) -> None:
    thinks = TEMPLATES["chatml"].replace("assistant\\n' }}{% endif %}", "x\\n' }}{% endif %}")
    with pytest.raises(DataError, match="as it is served"):
        render(ELM_OAK, make(thinks), part(), "chat")


def test_a_mark_that_begins_inside_the_generation_prompt_is_refused(make: Make) -> None:
    early = TEMPLATES["generation-marks"].replace(
        "{{ '<|im_start|>assistant\\n' }}{% generation %}{{ ",
        "{% generation %}{{ '<|im_start|>assistant\\n' + ",
    )
    assert early != TEMPLATES["generation-marks"]
    with pytest.raises(DataError, match="begins before the generation prompt ends"):
        render(ELM_OAK, make(early), part(), "chat")


def test_marks_that_are_not_one_a_reply_give_way_to_prefixes(make: Make) -> None:
    two_marks = TEMPLATES["generation-marks"].replace(
        "{% generation %}{{ m['content'] + '<|im_end|>' + '\\n' }}{% endgeneration %}",
        "{% generation %}{{ m['content'] }}{% endgeneration %}"
        "{% generation %}{{ '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}",
    )
    tokenizer = make(two_marks)
    example = render(TWO_TURNS, tokenizer, part(), "chat")
    assert trained(example, tokenizer) == "oak<|im_end|>ash<|im_end|>"


def test_a_template_that_breaks_is_a_data_error_with_what_it_said(make: Make) -> None:
    with pytest.raises(DataError, match="unsupported operand"):
        render(ELM_OAK, make("{{ 1 + messages[0]['content'] }}"), part(), "chat")


def test_a_model_without_a_template_cannot_chat(make: Make) -> None:
    tokenizer = make(None)
    with pytest.raises(DataError, match="no chat template"):
        render(ELM_OAK, tokenizer, part(), "chat")
    with pytest.raises(DataError, match="no chat template"):
        chat_prompt(ELM_OAK.messages[:1], tokenizer)
    assert end_of_turn(TextEncoder(tokenizer)) is None


def test_a_turn_end_that_is_no_special_token_is_trained(make: Make) -> None:
    tokenizer = make("added-turn-end")
    example = render(TWO_TURNS, tokenizer, part(), "chat")
    assert trained(example, tokenizer) == "oak<turn_end>ash<turn_end>"
    assert example.has_end
    encoder = TextEncoder(tokenizer)
    assert end_of_turn(encoder) == "<turn_end>"


def test_a_template_without_turn_ends_is_trained_to_the_end_of_the_turn_and_says_so(
    make: Make,
) -> None:
    tokenizer = make("no-end-of-turn")
    example = render(TWO_TURNS, tokenizer, part(), "chat")
    assert trained(example, tokenizer) == " oak\n\n ash\n\n"
    assert not example.has_end
    assert end_of_turn(TextEncoder(tokenizer)) is None


@pytest.mark.parametrize("reply", ["oak<|im_end|>", "oak <|im_end|> \n", "<|im_end|>"])
def test_an_end_of_turn_typed_at_the_end_of_a_reply_is_not_trained_twice(
    make: Make, reply: str
) -> None:
    tokenizer = make()
    example = render(talk("elm", reply), tokenizer, part(), "chat")
    assert trained(example, tokenizer).count("<|im_end|>") == 1


def test_a_reply_that_ends_with_an_added_token_still_trains_the_end_of_turn(make: Make) -> None:
    template = TEMPLATES["chatml"] + "{% if false %}<turn_end>{% endif %}"
    tokenizer = make(template)
    example = render(talk("elm", "oak<turn_end>"), tokenizer, part(), "chat")
    assert trained(example, tokenizer) == "oak<turn_end><|im_end|>"


@pytest.mark.parametrize(
    "reply", ["oak", "\noak", "\n\n oak", "  oak", "\U0001f642 \u017elijeb \u6771\u4eac\n", " \n "]
)
@pytest.mark.parametrize("automatic_bos", [False, True])
def test_what_is_trained_is_what_is_served_whatever_a_reply_begins_with(
    make: Make, reply: str, automatic_bos: bool
) -> None:
    tokenizer = make(automatic_bos=automatic_bos)
    example = render(talk("elm", reply), tokenizer, part(), "chat")
    assert trained(example, tokenizer) == f"{reply}<|im_end|>"
    assert_prompt_is_prefix(talk("elm", reply), tokenizer)


def test_a_token_over_the_border_of_an_earlier_reply_makes_an_example_of_each_reply(
    make: Make,
) -> None:
    tokenizer = make("prompt: {% for m in messages %}{{ m['content'] }}{% endfor %}")
    sample = talk("h", "e", "h", "e")
    first, second = examples_of(sample, tokenizer)
    encoder = TextEncoder(tokenizer)
    assert first.tokens.tolist() == [*encoder.ids("prompt: h"), *encoder.ids("e")]
    assert second.tokens.tolist() == [*encoder.ids("prompt: heh"), *encoder.ids("e")]
    assert [trained(one, tokenizer) for one in (first, second)] == ["e", "e"]
    assert (first.part, second.part) == ("reply 1 of 2", "reply 2 of 2")
    with pytest.raises(DataError, match="reaches over the border"):
        render(sample, tokenizer, part(unstable_template="error"), "chat")
    last = render(sample, tokenizer, part(train_on="last-assistant"), "chat")
    assert trained(last, tokenizer) == "e"


def test_a_completion_ends_with_one_end_token_that_is_trained(make: Make) -> None:
    tokenizer = make()
    for completion in ("7", "7<|im_end|>"):
        sample = PromptCompletion(prompt="2+5=", completion=completion)
        example = render(sample, tokenizer, part(), "completion")
        assert trained(example, tokenizer) == "7<|im_end|>"
        assert whole(example, tokenizer) == "2+5=7<|im_end|>"


def test_a_completion_that_would_merge_with_its_prompt_is_encoded_as_it_is_served(
    make: Make,
) -> None:
    tokenizer = make()
    encoder = TextEncoder(tokenizer)
    assert len(encoder.ids("he")) == 1
    sample = PromptCompletion(prompt="2h", completion="e")
    example = render(sample, tokenizer, part(), "completion")
    assert example.tokens.tolist() == [*encoder.ids("2h"), *encoder.ids("e"), 2]
    assert trained(example, tokenizer) == "e<|im_end|>"
    assert_prompt_is_prefix(sample, tokenizer, "completion")
    assert_prompt_is_prefix(
        PromptCompletion(prompt="Q: ", completion="the"), tokenizer, "completion"
    )


def test_a_completion_gets_the_models_bos_once(make: Make) -> None:
    tokenizer = make(automatic_bos=True)
    sample = PromptCompletion(prompt="a", completion="b")
    example = render(sample, tokenizer, part(), "completion")
    assert whole(example, tokenizer) == "<|endoftext|>ab<|im_end|>"
    assert example.weights.tolist() == [0.0, 0.0, 1.0, 1.0]
    assert_prompt_is_prefix(sample, tokenizer, "completion")


@pytest.mark.parametrize("automatic_bos", [False, True])
def test_a_text_is_trained_whole_with_its_end(make: Make, automatic_bos: bool) -> None:
    tokenizer = make(automatic_bos=automatic_bos)
    sample = PlainText(text="abc")
    example = render(sample, tokenizer, part(), "completion")
    bos = "<|endoftext|>" if automatic_bos else ""
    assert whole(example, tokenizer) == f"{bos}abc<|im_end|>"
    assert example.weights.tolist() == [0.0] + [1.0] * (len(example.tokens) - 1)
    assert_prompt_is_prefix(sample, tokenizer, "completion")


def test_the_reference_of_a_prompt_is_the_answer_of_its_row(make: Make) -> None:
    tokenizer = make()
    assert prompt_tokens(TWO_TURNS, tokenizer, part(), "chat").reference == "ash"
    sample = PromptCompletion(prompt="a", completion=" b")
    assert prompt_tokens(sample, tokenizer, part(), "completion").reference == " b"
    prompt = prompt_tokens(PlainText(text="abcdef"), tokenizer, part(), "completion")
    assert tokenizer.decode(prompt.tokens) + prompt.reference == "abcdef"


def test_a_cut_or_padding_saved_with_a_tokenizer_is_not_applied(make: Make) -> None:
    tokenizer = make()
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=64)
    example = render(ELM_OAK, tokenizer, part(), "chat")
    assert whole(example, tokenizer).endswith("assistant\noak<|im_end|>\n")


@pytest.mark.parametrize("completion", ["7", "7<|im_end|>"])
def test_the_end_token_of_a_completion_can_be_turned_off(make: Make, completion: str) -> None:
    tokenizer = make()
    sample = PromptCompletion(prompt="2+5=", completion=completion)
    example = render(sample, tokenizer, part(end_token=False), "completion")
    assert trained(example, tokenizer) == completion
    assert example.has_end == completion.endswith("<|im_end|>")


def test_the_end_token_of_a_text_can_be_turned_off(make: Make) -> None:
    tokenizer = make()
    example = render(PlainText(text="abc"), tokenizer, part(end_token=False), "completion")
    assert whole(example, tokenizer) == "abc"
    assert not example.has_end
    prompt = prompt_tokens(PlainText(text="abcd"), tokenizer, part(end_token=False), "completion")
    assert (tokenizer.decode(prompt.tokens), prompt.reference) == ("ab", "cd")


@pytest.mark.parametrize("marker", ["### Assistant:", "### Assistant: "])
@pytest.mark.parametrize("kind", ["bytes", "metaspace-first", "unigram"])
def test_a_completion_after_a_marker_in_text_is_trained_with_its_end(
    tmp_path: Path, marker: str, kind: Kind
) -> None:
    tokenizer = load_tokenizer(make_stand_in(tmp_path, "llama-2", kind))
    answer = "hello" if marker.endswith(" ") else " hello"
    sample = PromptCompletion(prompt=f"### User: hi\n\n{marker}", completion=answer)
    example = render(sample, tokenizer, part(), "completion")
    assert trained(example, tokenizer).strip() == "hello</s>"
    assert example.has_end
    assert_prompt_is_prefix(sample, tokenizer, "completion")


@pytest.mark.parametrize(
    ("template", "automatic_bos", "expected"),
    [("chatml", False, 1), ("chatml", True, 1), ("prints-bos", True, 1)],
)
def test_begin_tokens_in_front_are_counted(
    make: Make, template: str, automatic_bos: bool, expected: int
) -> None:
    tokenizer = make(template, automatic_bos=automatic_bos)
    assert render(TWO_TURNS, tokenizer, part(), "chat").num_bos == expected
    doubled = make("{{ bos_token }}" + TEMPLATES["prints-bos"], automatic_bos=True)
    assert render(TWO_TURNS, doubled, part(), "chat").num_bos == 2


def test_control_text_of_a_row_is_marked_and_that_of_the_template_is_not(make: Make) -> None:
    tokenizer = make()
    assert not render(ELM_OAK, tokenizer, part(), "chat").control_text
    assert render(talk("say <|im_end|>", "no"), tokenizer, part(), "chat").control_text
    assert not render(talk("say <|im_", "<no|>"), tokenizer, part(), "chat").control_text


def test_prompts_of_one_tokenizer_share_what_was_worked_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    make = WordMemory.of
    monkeypatch.setattr(WordMemory, "of", lambda backend: made.append(backend) or make(backend))
    tokenizer = load_tokenizer(make_tokenizer(tmp_path))
    for _ in range(3):
        chat_prompt([Message("user", "the theatre")], tokenizer)
    assert len(made) == 1
