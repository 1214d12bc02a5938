"""Reports about masks and labels: which tokens of a row are trained.

Where a report speaks of labels of -100, tokens have weight 0 here. Left out because the product
does not have them yet: the prompts of exported models (B043), and the generation config of an
export (B041), in whose place stand the tokens at which the chat stops.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.templates import Kind, make_stand_in
from tests.fakes.tiny import make_tokenizer
from tests.field.doors import (
    Capsys,
    assistant,
    chat,
    command,
    examples_of,
    lay,
    messages_of,
    pair,
    samples_in,
    trained,
    user,
    whole,
    write_rows,
)
from tunesmith.core.errors import DataError
from tunesmith.data.examine import examine, require_useful
from tunesmith.data.pipeline import require_trainable
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.data.render import chat_prompt, prompt_tokens
from tunesmith.data.tokenizer import load_tokenizer
from tunesmith.inference.stops import stop_ids


def tokenizer_with(folder: Path, template: str, **options: Any) -> TokenizerSource:
    """Make a tokenizer with one of the tiny templates; the folder has the template's name."""
    return TokenizerSource(str(make_tokenizer(folder / template, template, **options)))


def test_b034_replies_are_trained_though_the_template_marks_none(
    tmp_path: Path, chatml: TokenizerSource
) -> None:
    assert "generation %}" not in str(chatml.tokenizer.chat_template)
    path = write_rows(tmp_path / "rows.jsonl", pair("Name a colour", "teal"))
    (example,) = examples_of(path, chatml)
    assert trained(example, chatml) == "teal<|im_end|>"


def test_b034_a_run_never_starts_with_nothing_to_train(
    tmp_path: Path, chatml: TokenizerSource
) -> None:
    row = chat(user("Name a colour"), assistant("teal", weight=0))
    data = lay(write_rows(tmp_path / "rows.jsonl", row), chatml)
    with pytest.raises(DataError, match=r"0 trainable tokens .* tiny-chatml"):
        require_trainable(data, chatml)


def test_b034_a_template_that_shows_no_reply_is_refused_by_name(tmp_path: Path) -> None:
    reverses = TokenizerSource(str(make_stand_in(tmp_path / "reverses", "reverses")))
    path = write_rows(tmp_path / "rows.jsonl", pair("Name a colour", "teal"))
    with pytest.raises(DataError, match="0 of 1 rows usable") as caught:
        lay(path, reverses)
    assert "the chat template of reverses does not show where the replies are" in str(caught.value)


@pytest.mark.parametrize("kind", ["bytes", "metaspace-first", "unigram"])
@pytest.mark.parametrize(("space", "reply"), [("", " hello"), (" ", "hello")])
def test_b035_a_reply_behind_a_marker_is_trained_however_the_marker_is_split(
    tmp_path: Path, kind: Kind, space: str, reply: str
) -> None:
    tokenizer = TokenizerSource(str(make_stand_in(tmp_path / kind, "chatml", kind)))
    prompt = f"### User: hi\n\n### Assistant:{space}"
    path = write_rows(tmp_path / "rows.jsonl", {"prompt": prompt, "completion": reply})
    (example,) = examples_of(path, tokenizer, task="completion")
    assert trained(example, tokenizer).removeprefix(" ") == "hello<|im_end|>"


def test_b035_a_template_of_plain_markers_is_masked_in_context(tmp_path: Path) -> None:
    markers = tokenizer_with(tmp_path, "no-end-of-turn")
    (example,) = examples_of(write_rows(tmp_path / "rows.jsonl", pair("hi", "hello")), markers)
    assert whole(example, markers) == "### user: hi\n\n### assistant: hello\n\n"
    assert trained(example, markers) == " hello\n\n"


def test_b035_rows_with_nothing_to_train_are_counted_and_many_stop_the_run(
    tmp_path: Path, chatml: TokenizerSource
) -> None:
    silent = chat(user("silent"), assistant("b", weight=0))
    few = write_rows(tmp_path / "few.jsonl", *(pair(f"a{n}", "b") for n in range(150)), silent)
    held_out = str(write_rows(tmp_path / "held-out.jsonl", pair("x", "y")))
    data = lay(few, chatml, validation=held_out)
    assert data.dropped_reasons() == {"no supervised token": 1}
    require_useful(examine(data, chatml), data)
    many = write_rows(tmp_path / "many.jsonl", *(pair(f"a{n}", "b") for n in range(50)), silent)
    data = lay(many, chatml, validation=held_out)
    with pytest.raises(DataError, match="no token to train in 1 of 51 training rows, more than 1%"):
        require_useful(examine(data, chatml), data)


def test_b040_a_completion_ends_in_one_end_token(tmp_path: Path, chatml: TokenizerSource) -> None:
    eos = chatml.tokenizer.eos_token_id
    rows = [{"prompt": "2+3=", "completion": completion} for completion in ("5", "5<|im_end|>")]
    path = write_rows(tmp_path / "sums.jsonl", *rows)
    for example in examples_of(path, chatml, task="completion"):
        assert example.tokens.tolist().count(eos) == 1
        assert example.tokens[-1] == eos
        assert trained(example, chatml) == "5<|im_end|>"
    without, with_own = examples_of(path, chatml, task="completion", end_token=False)
    assert trained(without, chatml) == "5"
    assert not without.has_end
    assert trained(with_own, chatml) == "5<|im_end|>"


def test_b040_the_switch_for_end_tokens_is_shown_with_the_recipe(
    tmp_path: Path, capsys: Capsys
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: m\ntask: completion\ndata: {train: sums.jsonl, end_token: false}\n")
    outcome = command(capsys, "recipe", str(recipe), "--json")
    assert outcome.exit_code == 0
    assert json.loads(outcome.said)["recipe"]["data"]["end_token"] is False


def test_b041_the_end_of_a_turn_is_trained_though_it_is_not_the_end_token(tmp_path: Path) -> None:
    tokenizer = tokenizer_with(tmp_path, "added-turn-end")
    row = chat(user("elm"), assistant("oak"), user("fir"), assistant("ash"))
    (example,) = examples_of(write_rows(tmp_path / "rows.jsonl", row), tokenizer)
    assert trained(example, tokenizer) == "oak<turn_end>ash<turn_end>"
    turn_end = tokenizer.tokenizer.backend_tokenizer.token_to_id("<turn_end>")
    eos = tokenizer.tokenizer.eos_token_id
    assert turn_end != eos
    assert {turn_end, eos} <= stop_ids(tokenizer.tokenizer, eos)


def test_b041_rows_without_any_end_are_a_warning(tmp_path: Path) -> None:
    tokenizer = tokenizer_with(tmp_path, "no-end-of-turn")
    data = lay(write_rows(tmp_path / "rows.jsonl", pair("elm", "oak")), tokenizer)
    (verdict,) = examine(data, tokenizer).verdicts
    assert verdict.sentence.startswith("the end of a reply is not trained in any training row")


@pytest.mark.parametrize("template", ["prints-bos", "chatml"])
def test_b043_there_is_one_begin_token_at_every_door(tmp_path: Path, template: str) -> None:
    source = tokenizer_with(tmp_path, template, automatic_bos=True)
    data = lay(write_rows(tmp_path / "rows.jsonl", pair("Hi", "Hello")), source)
    example = data.train_side.file.store.example(0)
    (sample,) = samples_in(data)
    measured = prompt_tokens(sample, source.tokenizer, data.part, "chat").tokens
    served = chat_prompt(messages_of(sample)[:1], source.tokenizer)
    for tokens in (example.tokens.tolist(), measured, served):
        assert tokens.count(source.tokenizer.bos_token_id) == 1
        assert tokens[0] == source.tokenizer.bos_token_id
        assert tokens[:8] == served[:8]
    assert example.num_bos == 1


OVERRIDES = {"eos": "<|eot|>", "pad": "<|end|>"}


def with_more_tokens(folder: Path) -> Path:
    """Make a tokenizer that begins texts by itself, and whose turns end in <|eot|>."""
    turn = "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + eos_token }}"
    ask = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    template = "{% for m in messages %}" + turn + "{% endfor %}" + ask
    path = make_tokenizer(folder, template, automatic_bos=True) / "tokenizer.json"
    content = json.loads(path.read_text())
    number = max(token["id"] for token in content["added_tokens"])
    for text in OVERRIDES.values():
        number += 1
        content["added_tokens"].append(
            {**content["added_tokens"][0], "id": number, "content": text, "special": False}
        )
    path.write_text(json.dumps(content))
    return folder


def test_b044_other_end_and_padding_tokens_leave_the_begin_token_alone(tmp_path: Path) -> None:
    folder = with_more_tokens(tmp_path / "model")
    source = TokenizerSource(str(folder), tuple(OVERRIDES.items()))
    (example,) = examples_of(write_rows(tmp_path / "rows.jsonl", pair("Hi", "Hello")), source)
    assert example.tokens.tolist().count(source.tokenizer.bos_token_id) == 1
    assert trained(example, source) == "Hello<|eot|>"
    last = example.tokens[example.weights > 0][-1]
    assert last == source.tokenizer.eos_token_id
    source.tokenizer.save_pretrained(tmp_path / "final")
    saved = load_tokenizer(tmp_path / "final")
    assert saved.eos_token == OVERRIDES["eos"]
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(saved, name) == getattr(source.tokenizer, name)


def test_b044_the_tokens_that_are_set_are_shown_with_the_recipe(
    tmp_path: Path, capsys: Capsys
) -> None:
    recipe = tmp_path / "recipe.yaml"
    model = json.dumps({"source": "m", "special_tokens": OVERRIDES})
    recipe.write_text(f"model: {model}\ntask: chat\ndata: {{train: rows.jsonl}}\n")
    outcome = command(capsys, "recipe", str(recipe), "--json")
    assert outcome.exit_code == 0
    shown = json.loads(outcome.said)["recipe"]["model"]["special_tokens"]
    assert {name: token for name, token in shown.items() if token} == OVERRIDES


TREES = ("elm", "oak", "fir", "ash")


def four_turns(space: str = "", **first_reply: Any) -> dict[str, Any]:
    elm, oak, fir, ash = (f"{space}{tree}{space}" for tree in TREES)
    return chat(user(elm), assistant(oak, **first_reply), user(fir), assistant(ash))


@pytest.mark.parametrize("space", ["", " "])
def test_b050_replies_of_several_turns_are_exact_though_spaces_are_stripped(
    tmp_path: Path, space: str
) -> None:
    strips = tokenizer_with(tmp_path, "strips")
    rows = [four_turns(space), four_turns(space, weight=0)]
    both, last = examples_of(write_rows(tmp_path / "rows.jsonl", *rows), strips)
    assert trained(both, strips) == "oak<|im_end|>ash<|im_end|>"
    assert trained(last, strips) == "ash<|im_end|>"


def test_b050_a_template_that_rewrites_earlier_turns_makes_an_example_of_each_reply(
    tmp_path: Path,
) -> None:
    """Decided otherwise than in the report, see docs/decisions/2026-11-25-field-cases.md."""
    rewrites = tokenizer_with(tmp_path, "rewrites-earlier-turns")
    path = write_rows(tmp_path / "rows.jsonl", four_turns())
    first, second = examples_of(path, rewrites)
    assert trained(first, rewrites) == "oak<|im_end|>"
    assert trained(second, rewrites) == "ash<|im_end|>"
    assert [first.part, second.part] == ["reply 1 of 2", "reply 2 of 2"]
    with pytest.raises(DataError, match="rewrites-earlier-turns does not show where the replies"):
        lay(path, rewrites, unstable_template="error")
