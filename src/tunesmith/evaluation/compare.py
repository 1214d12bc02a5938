"""Answers to held-out rows, and their scores: the side-by-side part of an evaluation.

Which rows are asked depends on the number of rows only, so before and after are asked the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunesmith.evaluation.held_out import HeldOut
from tunesmith.inference.engine import Engine
from tunesmith.recipe.evaluation import EvaluationPart
from tunesmith.tasks.question import Question
from tunesmith.tasks.scores.score import Score, wilson_interval

SEED = 0


@dataclass(frozen=True)
class Answer:
    """One held-out row: what was asked, what was wanted, what the model said."""

    row_id: str
    prompt: str
    reference: str
    text: str
    finish_reason: str


@dataclass(frozen=True)
class Chosen:
    """Indices of held-out rows: `shown` side by side, `scored` by the metrics."""

    shown: tuple[int, ...]
    scored: tuple[int, ...]

    @property
    def asked(self) -> tuple[int, ...]:
        """The rows that are to be answered, each once."""
        return tuple(sorted({*self.shown, *self.scored}))


def choose_rows(num_rows: int, part: EvaluationPart, *, is_scored: bool = False) -> Chosen:
    """Rows spread evenly over the held-out rows, which may be sorted in some way.

    `is_scored`: the task has scores of its own, whatever the recipe asks for.
    """
    needs_answers = is_scored or any(metric != "token-accuracy" for metric in part.metrics)
    wanted = num_rows if part.metric_rows is None else part.metric_rows
    scored = _spread(range(num_rows), wanted) if needs_answers else ()
    # The shown rows are scored ones where that is enough: fewer answers to wait for.
    among = scored if len(scored) >= part.prompts else range(num_rows)
    return Chosen(shown=_spread(among, part.prompts), scored=scored)


def answer_questions(
    engine: Engine,
    questions: Sequence[Question],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
) -> list[Answer]:
    """Ask the model each question; what is drawn at a temperature depends on the question alone."""
    prompts = [question.tokens for question in questions]
    generated = engine.generate(
        prompts, max_new_tokens=max_new_tokens, temperature=temperature, seed=SEED
    )
    return [
        Answer(
            row_id=question.row_id,
            prompt=question.prompt,
            reference=question.reference,
            text=engine.decode(one.tokens),
            finish_reason=one.finish_reason,
        )
        for question, one in zip(questions, generated, strict=True)
    ]


def token_accuracy(held_out: HeldOut) -> dict[str, Score]:
    """The share of supervised tokens that were the likeliest; nothing for other losses.

    No interval: the tokens of a row depend on each other.
    """
    if held_out.token_accuracy is None:
        return {}
    details: Mapping[str, float] = {"tokens": held_out.tokens}
    return {"token-accuracy": Score(held_out.token_accuracy, held_out.rows, details=details)}


def preference_scores(held_out: HeldOut) -> dict[str, Score]:
    """The share of held-out preferences that the model agrees with; nothing for other tasks."""
    accuracy = held_out.preference.get("reward_accuracy")
    if accuracy is None:
        return {}
    low, high = wilson_interval(round(accuracy * held_out.rows), held_out.rows)
    return {"preference-accuracy": Score(accuracy, held_out.rows, low, high)}


def _spread(rows: Sequence[int], wanted: int) -> tuple[int, ...]:
    if wanted >= len(rows):
        return tuple(rows)
    return tuple(rows[index * len(rows) // wanted] for index in range(wanted))
