"""One side of the comparison for a model with a head: its loss, and what it says of the rows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import groupby

from tunesmith.data.conversation import Sample, labelled_of
from tunesmith.data.example import Example
from tunesmith.data.forms.qa import NO_ANSWER
from tunesmith.data.labelled_render import read_texts, words_at
from tunesmith.data.tokenizer import Tokenizer, encoder_of
from tunesmith.evaluation.before_after import Measured
from tunesmith.evaluation.compare import Answer, choose_rows
from tunesmith.evaluation.held_out import HeldOut, require_finite
from tunesmith.inference.head_answers import HeadAnswer, answer_of_windows, answers_of, read_batches
from tunesmith.models.headed import Head, HeadedModel
from tunesmith.recipe.evaluation import EvaluationPart
from tunesmith.recipe.task import Task
from tunesmith.tasks.said import Said
from tunesmith.tasks.scores.confused import confusion_of
from tunesmith.tasks.scores.table import scores_of
from tunesmith.training.head_objective import count_units, head_cost


def measure_head(
    headed: HeadedModel,
    examples: Sequence[Example],
    samples: Sequence[Sample],
    tokenizer: Tokenizer,
    *,
    task: Task,
    part: EvaluationPart,
    pad_id: int,
) -> Measured:
    """Measure a model with a head on its held-out rows; examples and samples are the same rows.

    A row may have several examples, its windows, one behind the other.

    Raises:
        RunError: a loss is not finite.
    """
    started = time.monotonic()
    held_out, answers = read_all(headed, examples, pad_id=pad_id)
    said = say_all(headed.head, examples, samples, answers, tokenizer)
    shown = choose_rows(len(samples), part).shown
    return Measured(
        held_out=held_out,
        metrics=scores_of(task, (), said),
        answers=tuple(_shown(samples[index], said[index], headed.head) for index in shown),
        seconds=time.monotonic() - started,
        said=tuple(said),
        confusion=confusion_of(task, said),
    )


def read_all(
    headed: HeadedModel, examples: Sequence[Example], *, pad_id: int
) -> tuple[HeldOut, list[HeadAnswer]]:
    """Read every row once; return the loss over all, and each row's answer in their order."""
    total, units, tokens = 0.0, 0, 0
    answers: list[HeadAnswer | None] = [None] * len(examples)
    for read in read_batches(headed, examples, pad_id=pad_id):
        cost, _ = head_cost(headed.head, read.value, read.batch)
        total += require_finite(float(cost), read.batch)
        units += count_units(headed.head, read.batch)
        tokens += int((read.batch.weights_BT > 0).sum())
        for row, answer in zip(read.batch.indices, answers_of(headed.head, read), strict=True):
            answers[row] = answer
    rows = len({one.row_id for one in examples})
    held_out = HeldOut(total, units, tokens, None, rows)
    return held_out, [answer for answer in answers if answer is not None]


def say_all(
    head: Head,
    examples: Sequence[Example],
    samples: Sequence[Sample],
    answers: Sequence[HeadAnswer],
    tokenizer: Tokenizer,
) -> list[Said]:
    """Put answers and what is right into one form."""
    if head.kind == "span":
        windows = groupby(zip(examples, answers, strict=True), key=lambda one: one[0].row_id)
        answers = [answer_of_windows(list(group)) for _, group in windows]
        return list(_spans(samples, answers, tokenizer))
    order = sorted if head.several else list
    said: list[Said] = []
    for example, answer in zip(examples, answers, strict=True):
        right = order(label for label in example.labels if label)
        said.append(Said(example.row_id, tuple(order(answer.labels)), tuple(right)))
    return said


def _spans(
    samples: Sequence[Sample], answers: Sequence[HeadAnswer], tokenizer: Tokenizer
) -> Iterator[Said]:
    rows = [labelled_of(sample) for sample in samples]
    texts = read_texts(rows, encoder_of(tokenizer))
    for sample, row, text, answer in zip(samples, rows, texts, answers, strict=True):
        words, _ = words_at(row, text, answer.span)
        yield Said(sample.row_id, (words,), row.labels)


def _shown(sample: Sample, said: Said, head: Head) -> Answer:
    labelled = labelled_of(sample)
    joint = " " if head.kind == "tags" else "\n"
    # a question first: its text may be cut where it is shown
    texts = labelled.texts[::-1] if head.kind == "span" else labelled.texts
    between = " " if head.kind == "tags" else ", "
    no_text = NO_ANSWER if head.kind == "span" else ""
    right = said.right[:1] if head.kind == "span" else said.right
    return Answer(
        row_id=said.row_id,
        prompt=labelled.whole or joint.join(texts),
        reference=between.join(right) or no_text,
        text=between.join(said.said) or no_text,
        finish_reason="stop",
    )
