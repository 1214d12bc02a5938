"""One side of the comparison, before or after: loss, scores and answers on the held-out rows."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from tunesmith.core.run_dir import RunDir, read_json, write_bytes, write_json
from tunesmith.data.conversation import Sample
from tunesmith.data.render import Example
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.data.units import Units
from tunesmith.evaluation.compare import (
    Answer,
    answer_questions,
    choose_rows,
    preference_scores,
    token_accuracy,
)
from tunesmith.evaluation.held_out import (
    HeldOut,
    held_out_loss,
    held_out_preference,
)
from tunesmith.evaluation.label_choice import choose_labels, chooses_label
from tunesmith.inference.batches import BATCH_TOKENS
from tunesmith.inference.engine import Engine
from tunesmith.models.evaluating import evaluating
from tunesmith.recipe.data import DataPart
from tunesmith.recipe.evaluation import EvaluationPart, own_metrics
from tunesmith.recipe.task import Task
from tunesmith.tasks.ask import ask
from tunesmith.tasks.said import Said, understand
from tunesmith.tasks.scores.score import Difference, Score
from tunesmith.tasks.scores.table import scores_of
from tunesmith.training.loss import LanguageModel, summed_loss
from tunesmith.training.objective import Objective

When = Literal["before", "after"]


@dataclass(frozen=True)
class Measured:
    """What was found. `answers` are the ones to show side by side."""

    held_out: HeldOut
    metrics: dict[str, Score]
    answers: tuple[Answer, ...]
    seconds: float
    said: tuple[Said, ...] = ()
    """What was answered to every row that is scored."""

    def as_json(self) -> dict[str, Any]:
        """The form in which evaluation.json keeps it."""
        perplexity = self.held_out.perplexity
        return {
            "loss": self.held_out.loss,
            "perplexity": None if perplexity == math.inf else perplexity,
            "tokens": self.held_out.tokens,
            "rows": self.held_out.rows,
            "token_accuracy": self.held_out.token_accuracy,
            **({"preference": dict(self.held_out.preference)} if self.held_out.preference else {}),
            "metrics": {name: asdict(score) for name, score in self.metrics.items()},
            "answers": [asdict(answer) for answer in self.answers],
            "seconds": self.seconds,
        }


@dataclass(frozen=True, eq=False)
class HeldOutPreference:
    """How held-out preferences are measured: which examples are one, and by what objective."""

    objective: Objective
    units: Units


def measure(
    model: LanguageModel,
    engine: Engine,
    tokenizer: Tokenizer,
    samples: Sequence[Sample],
    examples: Sequence[Example],
    *,
    task: Task,
    data: DataPart,
    part: EvaluationPart,
    labels: Sequence[str] = (),
    pad_id: int = 0,
    max_tokens: int = BATCH_TOKENS,
    preference: HeldOutPreference | None = None,
) -> Measured:
    """Measure a model on its held-out rows; `samples` and `examples` are the same rows.

    With `labels` an answer is the likeliest of these; a text that is none of them is none.

    `model` and `engine` compute with the same weights. Without rows there is nothing to measure,
    which is the caller's decision.
    """
    started = time.monotonic()
    held_out = measure_loss(
        model, examples, pad_id=pad_id, max_tokens=max_tokens, preference=preference
    )
    chosen = choose_rows(len(samples), part, is_scored=bool(own_metrics(task)))
    asked = [samples[index] for index in chosen.asked]
    questions = [ask(sample, tokenizer, data) for sample in asked]
    if chooses_label(task, labels):
        answers = choose_labels(
            model, questions, asked, labels, tokenizer, data=data, pad_id=pad_id
        )
    else:
        answers = answer_questions(engine, questions, max_new_tokens=part.max_new_tokens)
    by_row = dict(zip(chosen.asked, answers, strict=True))
    question_of = dict(zip(chosen.asked, questions, strict=True))
    said = tuple(
        understand(question_of[index], by_row[index].text, labels) for index in chosen.scored
    )
    return Measured(
        held_out=held_out,
        metrics={
            **preference_scores(held_out),
            **scores_of(task, part.metrics, said),
            **(token_accuracy(held_out) if "token-accuracy" in part.metrics else {}),
        },
        answers=tuple(by_row[index] for index in chosen.shown),
        seconds=time.monotonic() - started,
        said=said,
    )


def measure_loss(
    model: LanguageModel,
    examples: Sequence[Example],
    *,
    pad_id: int = 0,
    max_tokens: int = BATCH_TOKENS,
    preference: HeldOutPreference | None = None,
) -> HeldOut:
    """The held-out loss alone; the model is left in the mode that it was in."""
    with evaluating(model.decoder):
        if preference is not None:
            return held_out_preference(
                model,
                preference.objective,
                preference.units,
                examples,
                pad_id=pad_id,
                max_tokens=max_tokens,
            )
        return held_out_loss(
            lambda batch: summed_loss(model, batch), examples, pad_id=pad_id, max_tokens=max_tokens
        )


def write_side(run_dir: RunDir, when: When, measured: Measured) -> None:
    """Add one side to evaluation.json, and what was said to predictions/; the other side stays."""
    path = run_dir.evaluation_json
    sides: dict[str, Any] = read_json(path) if path.exists() else {}
    write_json(path, {**sides, when: measured.as_json()})
    if measured.said:
        lines = b"".join(orjson.dumps(asdict(one)) + b"\n" for one in measured.said)
        file = predictions_file(run_dir, when)
        file.parent.mkdir(exist_ok=True)
        write_bytes(file, lines)


def write_differences(run_dir: RunDir, found: Mapping[str, Difference]) -> None:
    """Add to evaluation.json how much better each score became."""
    if found:
        sides = read_json(run_dir.evaluation_json)
        values = {name: asdict(one) for name, one in found.items()}
        write_json(run_dir.evaluation_json, {**sides, "differences": values})


def predictions_file(run_dir: RunDir, when: When) -> Path:
    """Where what was said on one side is kept, one row a line."""
    return run_dir.path / "predictions" / f"{when}.jsonl"


def read_said(run_dir: RunDir, when: When) -> tuple[Said, ...]:
    """Return what was said on one side; nothing where that was not scored."""
    file = predictions_file(run_dir, when)
    if not file.is_file():
        return ()
    return tuple(_said(orjson.loads(line)) for line in file.read_bytes().splitlines())


def _said(values: dict[str, Any]) -> Said:
    said, right = tuple(values["said"]), tuple(values["right"])
    return Said(values["row_id"], said, right, values["lost"])
