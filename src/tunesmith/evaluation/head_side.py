"""One side of the comparison for a model with a head: its loss, and what it says of the rows."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tunesmith.data.conversation import Conversation, Labelled, Sample
from tunesmith.data.example import Example
from tunesmith.data.labelled_render import ReadText, read_texts
from tunesmith.data.tokenizer import Tokenizer, encoder_of
from tunesmith.evaluation.before_after import Measured
from tunesmith.evaluation.compare import Answer, choose_rows
from tunesmith.evaluation.held_out import HeldOut, require_finite
from tunesmith.inference.head_answers import HeadAnswer, answers_of, read_batches
from tunesmith.models.headed import Head, HeadedModel
from tunesmith.recipe.evaluation import EvaluationPart
from tunesmith.recipe.task import Task
from tunesmith.tasks.said import Said
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

    Raises:
        RunError: a loss is not finite.
    """
    started = time.monotonic()
    held_out, answers = read_all(headed, examples, pad_id=pad_id)
    said = [
        say(headed.head, example, sample, answer, tokenizer)
        for example, sample, answer in zip(examples, samples, answers, strict=True)
    ]
    shown = choose_rows(len(examples), part).shown
    return Measured(
        held_out=held_out,
        metrics=scores_of(task, (), said),
        answers=tuple(_shown(samples[index], said[index], headed.head) for index in shown),
        seconds=time.monotonic() - started,
        said=tuple(said),
    )


def read_all(
    headed: HeadedModel, examples: Sequence[Example], *, pad_id: int
) -> tuple[HeldOut, list[HeadAnswer]]:
    """Read every row once; return the loss over all, and each row's answer in their order."""
    total, units, tokens = 0.0, 0, 0
    answers: list[HeadAnswer | None] = [None] * len(examples)
    for read in read_batches(headed, examples, pad_id=pad_id):
        cost, _ = head_cost(headed.head, read.logits_SK, read.batch)
        total += require_finite(float(cost), read.batch)
        units += count_units(headed.head, read.batch)
        tokens += int((read.batch.weights_BT > 0).sum())
        for row, answer in zip(read.rows, answers_of(headed.head, read), strict=True):
            answers[row] = answer
    held_out = HeldOut(total, units, tokens, None, len(examples))
    return held_out, [answer for answer in answers if answer is not None]


def say(
    head: Head, example: Example, sample: Sample, answer: HeadAnswer, tokenizer: Tokenizer
) -> Said:
    """Put an answer and what is right into one form."""
    if head.kind != "span":
        right = tuple(label for label in example.labels if label)
        if head.several:
            return Said(example.row_id, tuple(sorted(answer.labels)), tuple(sorted(right)))
        return Said(example.row_id, answer.labels, right)
    labelled = labelled_of(sample)
    (text,) = read_texts([labelled], encoder_of(tokenizer))
    return Said(example.row_id, (words_of(labelled, text, answer),), labelled.labels)


def words_of(labelled: Labelled, text: ReadText, answer: HeadAnswer) -> str:
    """Return the words of the context that a span stands for."""
    assert answer.span is not None, "a head for spans gives one"
    first, last = (text.offsets[place] for place in answer.span)
    assert first is not None, "only tokens of the context are read"
    assert last is not None, "only tokens of the context are read"
    return labelled.texts[0][first[0] : last[1]].strip()


def labelled_of(sample: Sample) -> Labelled:
    """Return what a labelled row says."""
    assert isinstance(sample, Conversation), "only labelled rows train a head"
    assert sample.labelled is not None, "only labelled rows train a head"
    return sample.labelled


def _shown(sample: Sample, said: Said, head: Head) -> Answer:
    labelled = labelled_of(sample)
    joint = " " if head.kind == "tags" else "\n"
    between = " " if head.kind == "tags" else ", "
    right = said.right[:1] if head.kind == "span" else said.right
    return Answer(
        row_id=said.row_id,
        prompt=joint.join(labelled.texts),
        reference=between.join(right),
        text=between.join(said.said),
        finish_reason="stop",
    )
