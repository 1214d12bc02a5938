"""One side of the comparison, before or after: loss, scores and answers on the held-out rows."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tunesmith.core.run_dir import RunDir, read_json, write_json
from tunesmith.data.conversation import Sample
from tunesmith.data.render import Example
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.data.units import Units
from tunesmith.evaluation.batches import BATCH_TOKENS
from tunesmith.evaluation.compare import (
    Answer,
    answer_questions,
    choose_rows,
    preference_scores,
    score_answers,
)
from tunesmith.evaluation.held_out import (
    HeldOut,
    held_out_loss,
    held_out_preference,
)
from tunesmith.inference.engine import Engine
from tunesmith.models.evaluating import evaluating
from tunesmith.recipe.data import DataPart
from tunesmith.recipe.evaluation import EvaluationPart
from tunesmith.tasks.ask import ask
from tunesmith.tasks.scores.score import Score
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
    data: DataPart,
    part: EvaluationPart,
    pad_id: int = 0,
    max_tokens: int = BATCH_TOKENS,
    preference: HeldOutPreference | None = None,
) -> Measured:
    """Measure a model on its held-out rows; `samples` and `examples` are the same rows.

    `model` and `engine` compute with the same weights. Without rows there is nothing to measure,
    which is the caller's decision.
    """
    started = time.monotonic()
    held_out = measure_loss(
        model, examples, pad_id=pad_id, max_tokens=max_tokens, preference=preference
    )
    chosen = choose_rows(len(samples), part)
    questions = [ask(samples[index], tokenizer, data) for index in chosen.asked]
    answers = answer_questions(engine, questions, max_new_tokens=part.max_new_tokens)
    by_row = dict(zip(chosen.asked, answers, strict=True))
    scored = [by_row[index] for index in chosen.scored]
    return Measured(
        held_out=held_out,
        metrics={
            **preference_scores(held_out),
            **score_answers(part.metrics, scored, held_out),
        },
        answers=tuple(by_row[index] for index in chosen.shown),
        seconds=time.monotonic() - started,
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
    """Add one side to evaluation.json; the other stays as it is."""
    path = run_dir.evaluation_json
    sides: dict[str, Any] = read_json(path) if path.exists() else {}
    write_json(path, {**sides, when: measured.as_json()})
