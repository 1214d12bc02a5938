"""The answer of a model that writes, chosen among the labels: the one that it would rather say."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.data.conversation import Conversation, Sample
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.evaluation.choices import log_likelihoods
from tunesmith.evaluation.compare import Answer
from tunesmith.recipe.data import DataPart
from tunesmith.recipe.task import ClassificationTask, Task
from tunesmith.tasks.candidates import Choice, render_candidates
from tunesmith.tasks.question import Question
from tunesmith.training.loss import LanguageModel

MAX_LABELS = 500  # each is read behind each question


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
    choices = [Choice(_asked(sample), tuple(labels)) for sample in samples]
    rendered = list(render_candidates(choices, tokenizer, data))
    found = log_likelihoods(model, rendered, pad_id=pad_id)
    return [
        Answer(
            row_id=question.row_id,
            prompt=question.prompt,
            reference=question.reference,
            text=labels[int(one.log_probs.argmax())],
            finish_reason="stop",
        )
        for question, one in zip(questions, found, strict=True)
    ]


def _asked(sample: Sample) -> Conversation:
    assert isinstance(sample, Conversation), "a class is asked for in a conversation"
    return sample
