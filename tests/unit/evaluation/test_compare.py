from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.tiny import make_tokenizer
from tests.fakes.tiny_llama import language_model, make_llama
from tunesmith.core.run_dir import RunDir, read_json
from tunesmith.data.conversation import Conversation, Message
from tunesmith.data.render import render
from tunesmith.data.tokenizer import load_tokenizer
from tunesmith.evaluation.before_after import measure
from tunesmith.evaluation.compare import answer_questions, choose_rows, token_accuracy
from tunesmith.evaluation.held_out import HeldOut
from tunesmith.evaluation.sides import write_part
from tunesmith.inference.torch_engine import TorchEngine
from tunesmith.recipe.data import DataPart
from tunesmith.recipe.evaluation import EvaluationPart
from tunesmith.recipe.task import WrittenTask
from tunesmith.tasks.ask import ask


def part(**values: object) -> EvaluationPart:
    return EvaluationPart.model_validate(values)


def test_all_rows_are_scored_and_some_of_them_shown() -> None:
    chosen = choose_rows(80, part(prompts=8, metrics=["exact-match"]))
    assert chosen.scored == tuple(range(80))
    assert chosen.shown == (0, 10, 20, 30, 40, 50, 60, 70)
    assert chosen.asked == chosen.scored


def test_without_metrics_of_answers_only_the_shown_rows_are_asked() -> None:
    chosen = choose_rows(80, part(prompts=4, metrics=["token-accuracy"]))
    assert chosen.asked == chosen.shown == (0, 20, 40, 60)


def test_few_scored_rows_are_among_the_shown_ones_or_the_other_way() -> None:
    fewer = choose_rows(80, part(prompts=8, metric_rows=40, metrics=["json-match"]))
    assert set(fewer.shown) <= set(fewer.scored)
    more = choose_rows(80, part(prompts=8, metric_rows=2, metrics=["json-match"]))
    assert (len(more.shown), len(more.scored)) == (8, 2)


@pytest.mark.parametrize("num_rows", [0, 1, 3])
def test_few_rows_are_all_taken(num_rows: int) -> None:
    chosen = choose_rows(num_rows, part(prompts=8, metrics=["exact-match"]))
    assert chosen.shown == chosen.scored == tuple(range(num_rows))


def test_token_accuracy_comes_from_the_loss_and_has_no_interval() -> None:
    held_out = HeldOut(loss_sum=8.0, weight=4.0, tokens=4, correct=3, rows=2)
    score = token_accuracy(held_out)["token-accuracy"]
    assert (score.value, score.low) == (0.75, None)
    rated = HeldOut(loss_sum=8.0, weight=4.0, tokens=4, correct=None, rows=2)
    assert token_accuracy(rated) == {}


def test_both_sides_are_measured_on_the_same_rows_and_kept_together(tmp_path: Path) -> None:
    llama = make_llama(vocab_size=300)
    tokenizer = load_tokenizer(make_tokenizer(tmp_path / "tokenizer"))
    data = DataPart(train="rows.jsonl")
    samples = [
        Conversation(
            messages=(Message("user", f"row {row}?"), Message("assistant", "oak" * row)),
            row_id=f"rows.jsonl:{row}",
        )
        for row in range(1, 6)
    ]
    run_dir = RunDir.create(tmp_path / "run")
    for when in ("before", "after"):
        measured = measure(
            language_model(llama),
            TorchEngine(llama, tokenizer),
            tokenizer,
            samples,
            [render(sample, tokenizer, data, "chat") for sample in samples],
            task=WrittenTask(type="chat"),
            data=data,
            part=part(prompts=2, max_new_tokens=5, metrics=["exact-match", "token-accuracy"]),
        )
        write_part(run_dir, when, measured.as_json())
    sides = read_json(run_dir.evaluation_json)
    assert sides["before"]["loss"] == sides["after"]["loss"] > 0
    assert sides["before"]["answers"] == sides["after"]["answers"]
    assert [answer["row_id"] for answer in sides["after"]["answers"]] == [
        "rows.jsonl:1", "rows.jsonl:3",
    ]  # fmt: skip
    assert sides["after"]["metrics"]["exact-match"]["rows"] == 5


def test_answers_are_drawn_at_a_temperature_and_alike_each_time(tmp_path: Path) -> None:
    llama = make_llama(vocab_size=300)
    tokenizer = load_tokenizer(make_tokenizer(tmp_path / "tokenizer"))
    engine = TorchEngine(llama, tokenizer)
    sample = Conversation(messages=(Message("user", "row?"), Message("assistant", "oak")))
    questions = [ask(sample, tokenizer, DataPart(train="rows.jsonl"))] * 3

    def texts(temperature: float) -> list[str]:
        answers = answer_questions(engine, questions, max_new_tokens=8, temperature=temperature)
        return [answer.text for answer in answers]

    assert len(set(texts(0.0))) == 1
    assert len(set(texts(1.0))) == 3
    assert texts(1.0) == texts(1.0)
