"""The answer of a model that writes, chosen among the labels: the one that it would rather say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tunesmith.data.conversation import Conversation, Sample
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.evaluation.choices import log_likelihoods
from tunesmith.evaluation.compare import Answer
from tunesmith.inference.batches import BATCH_TOKENS
from tunesmith.recipe.data import DataPart
from tunesmith.recipe.task import ClassificationTask, Task
from tunesmith.tasks.candidates import Choice, render_candidates
from tunesmith.tasks.question import Question
from tunesmith.training.loss import LanguageModel

MAX_LABELS = 500  # each is read behind each question
MOST_CANDIDATES = 8192  # rendered at once


def chooses_label(task: Task, labels: Sequence[str]) -> bool:
    """Say whether answers are chosen among labels, and not written freely."""
    is_single = isinstance(task, ClassificationTask) and not task.multi_label
    return is_single and 2 <= len(labels) <= MAX_LABELS


def choose_labels(
    model: LanguageModel,
    questions: Sequence[Question],
    samples: Sequence[Sample],
    labels: Sequence[str],
    tokenizer: Tokenizer,
    *,
    data: DataPart,
    pad_id: int,
) -> list[Answer]:
    """Answer each question with the likeliest label.

    Raises:
        RunError: a likelihood is not finite, or memory runs out at one label.
        DataError: a question with a label is longer than `data.max_length`.
    """
    found = label_log_probs(model, samples, labels, tokenizer, data=data, pad_id=pad_id)
    return [
        Answer(
            row_id=question.row_id,
            prompt=question.prompt,
            reference=question.reference,
            text=labels[int(log_probs.argmax())],
            finish_reason="stop",
        )
        for question, log_probs in zip(questions, found, strict=True)
    ]


def label_log_probs(
    model: LanguageModel,
    samples: Sequence[Sample],
    labels: Sequence[str],
    tokenizer: Tokenizer,
    *,
    data: DataPart,
    pad_id: int,
    max_tokens: int = BATCH_TOKENS,
) -> list[npt.NDArray[np.float64]]:
    """Return of each row the log-likelihood of each label as its reply.

    So many rows at a time as have a bounded number of candidates.

    Raises:
        RunError: a likelihood is not finite, or memory runs out at one label.
        DataError: a question with a label is longer than `data.max_length`.
    """
    found: list[npt.NDArray[np.float64]] = []
    step = rows_at_once(labels)
    for first in range(0, len(samples), step):
        choices = choices_of(samples[first : first + step], labels)
        rendered = list(render_candidates(choices, tokenizer, data))
        likelihoods = log_likelihoods(model, rendered, pad_id=pad_id, max_tokens=max_tokens)
        found += [one.log_probs for one in likelihoods]
    return found


def rows_at_once(labels: Sequence[str]) -> int:
    """How many rows' candidates are held at a time."""
    return max(1, MOST_CANDIDATES // len(labels))


def choices_of(samples: Sequence[Sample], labels: Sequence[str]) -> list[Choice]:
    """Return each row's question with the labels as its candidates."""
    return [Choice(_asked(sample), tuple(labels)) for sample in samples]


def _asked(sample: Sample) -> Conversation:
    assert isinstance(sample, Conversation), "a class is asked for in a conversation"
    return sample
