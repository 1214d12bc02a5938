"""One side of the comparison, before or after: loss, scores and answers on the held-out rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

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
from tunesmith.evaluation.multiple_choice import choose_candidates, have_candidates
from tunesmith.inference.batches import BATCH_TOKENS
from tunesmith.inference.engine import Engine
from tunesmith.models.evaluating import evaluating
from tunesmith.recipe.data import DataPart
from tunesmith.recipe.evaluation import EvaluationPart, own_metrics
from tunesmith.recipe.task import Task
from tunesmith.tasks.ask import ask, until_last_call
from tunesmith.tasks.question import Question
from tunesmith.tasks.said import Said, understand
from tunesmith.tasks.scores.confused import confusion_of
from tunesmith.tasks.scores.score import Score
from tunesmith.tasks.scores.table import scores_of
from tunesmith.tasks.scores.tunes import TuneScores
from tunesmith.training.loss import LanguageModel, summed_loss
from tunesmith.training.objective import Objective


@dataclass(frozen=True)
class Measured:
    """What was found. `answers` are the ones to show side by side."""

    held_out: HeldOut
    metrics: dict[str, Score]
    answers: tuple[Answer, ...]
    seconds: float
    said: tuple[Said, ...] = ()
    """What was answered to every row that is scored."""
    confusion: Mapping[str, Any] | None = None
    """Which classes were taken for which, where a text has one."""

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
            **({"confusion": dict(self.confusion)} if self.confusion else {}),
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
    tunes: TuneScores | None = None,
    answering: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Measured:
    """Measure a model on its held-out rows; `samples` and `examples` are the same rows.

    With `labels` an answer is the likeliest of these; a text that is none of them is none. Rows
    with candidates are answered by the likeliest of theirs. With `tunes` what is written is scored
    as a tune, together with the beginning that was given.

    `model` and `engine` compute with the same weights, and answers are found, written or chosen,
    within what `answering` gives, such as another dtype of them. Without rows there is nothing to
    measure, which is the caller's decision.
    """
    started = time.monotonic()
    held_out = measure_loss(
        model, examples, pad_id=pad_id, max_tokens=max_tokens, preference=preference
    )
    is_scored = bool(own_metrics(task)) or have_candidates(samples)
    chosen = choose_rows(len(samples), part, is_scored=is_scored)
    asked = [samples[index] for index in chosen.asked]
    if "tool-call" in part.metrics:
        asked = [until_last_call(sample) for sample in asked]
    questions = [ask(sample, tokenizer, data) for sample in asked]
    with answering() if questions else nullcontext():
        if have_candidates(samples):
            answers, understood = choose_candidates(
                model, questions, asked, tokenizer, data=data, pad_id=pad_id
            )
        elif chooses_label(task, labels):
            answers = choose_labels(
                model, questions, asked, labels, tokenizer, data=data, pad_id=pad_id
            )
            understood = _understand_all(questions, answers, labels)
        else:
            answers = answer_questions(
                engine,
                questions,
                max_new_tokens=part.max_new_tokens,
                temperature=part.temperature,
            )
            understood = _understand_all(questions, answers, labels)
    if tunes is not None:
        understood = _as_tunes(questions, answers, understood, tunes)
    place = {index: place for place, index in enumerate(chosen.asked)}
    said = tuple(understood[place[index]] for index in chosen.scored)
    return Measured(
        held_out=held_out,
        metrics={
            **preference_scores(held_out),
            **scores_of(task, part.metrics, said),
            **(token_accuracy(held_out) if "token-accuracy" in part.metrics else {}),
        },
        answers=tuple(answers[place[index]] for index in chosen.shown),
        seconds=time.monotonic() - started,
        said=said,
        confusion=confusion_of(task, said),
    )


def _understand_all(
    questions: Sequence[Question], answers: Sequence[Answer], labels: Sequence[str]
) -> list[Said]:
    pairs = zip(questions, answers, strict=True)
    return [understand(question, answer.text, labels) for question, answer in pairs]


def _as_tunes(
    questions: Sequence[Question],
    answers: Sequence[Answer],
    said: Sequence[Said],
    tunes: TuneScores,
) -> list[Said]:
    """Score the beginnings that were given with what was written behind them."""
    return [
        replace(
            one,
            values=tunes.values_of(
                question.prompt + answer.text,
                cut_from=len(question.prompt) if answer.finish_reason == "length" else None,
            ),
        )
        for question, answer, one in zip(questions, answers, said, strict=True)
    ]


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
