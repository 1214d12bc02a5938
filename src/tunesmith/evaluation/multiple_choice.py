"""Rows with candidates: which of them the model itself would rather say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunesmith.data.conversation import Conversation, Sample, labelled_of
from tunesmith.data.forms.choices import BEST, RIGHT, WRONG
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.evaluation.choices import log_likelihoods
from tunesmith.evaluation.compare import Answer
from tunesmith.recipe.data import DataPart
from tunesmith.tasks.candidates import Choice, render_candidates
from tunesmith.tasks.question import Question
from tunesmith.tasks.said import Said, right_candidates
from tunesmith.tasks.scores.choices import Likelihoods, share_of_true, true_is_likeliest
from tunesmith.tasks.scores.row_values import MC1, MC2
from tunesmith.training.loss import LanguageModel

ROWS_AT_ONCE = 256


def have_candidates(samples: Sequence[Sample]) -> bool:
    """Say whether rows are questions with candidates; a file is of one form."""
    return len(samples) > 0 and _has_candidates(samples[0])


def choose_candidates(
    model: LanguageModel,
    questions: Sequence[Question],
    samples: Sequence[Sample],
    tokenizer: Tokenizer,
    *,
    data: DataPart,
    pad_id: int,
) -> tuple[list[Answer], list[Said]]:
    """Answer each question with the likeliest candidate, and score it as MC1 and MC2.

    Raises:
        RunError: a likelihood is not finite, or memory runs out at one candidate.
        DataError: a question with a candidate is longer than `data.max_length`.
    """
    answers: list[Answer] = []
    said: list[Said] = []
    for first in range(0, len(samples), ROWS_AT_ONCE):
        some = samples[first : first + ROWS_AT_ONCE]
        choices = [_choice(sample) for sample in some]
        rendered = list(render_candidates(choices, tokenizer, data))
        found = log_likelihoods(model, rendered, pad_id=pad_id)
        asked = questions[first : first + ROWS_AT_ONCE]
        for question, sample, likelihoods in zip(asked, some, found, strict=True):
            answer = _answer(question, sample, likelihoods)
            answers.append(answer)
            said.append(_said(answer, sample, likelihoods))
    return answers, said


def _has_candidates(sample: Sample) -> bool:
    labelled = sample.labelled if isinstance(sample, Conversation) else None
    return labelled is not None and labelled.kind == "choices"


def _choice(sample: Sample) -> Choice:
    assert isinstance(sample, Conversation), "candidates are replies"
    return Choice(sample, labelled_of(sample).texts)


def _answer(question: Question, sample: Sample, likelihoods: Likelihoods) -> Answer:
    return Answer(
        row_id=question.row_id,
        prompt=question.prompt,
        reference=question.reference,
        text=labelled_of(sample).texts[int(likelihoods.log_probs.argmax())],
        finish_reason="stop",
    )


def _said(answer: Answer, sample: Sample, likelihoods: Likelihoods) -> Said:
    labelled = labelled_of(sample)
    marks = np.array(labelled.labels)
    single = np.isin(marks, [BEST, WRONG])
    one = Likelihoods(likelihoods.log_probs[single], likelihoods.tokens[single])
    values = {
        MC1: float(true_is_likeliest(one, marks[single] == BEST)),
        MC2: share_of_true(likelihoods, np.isin(marks, [BEST, RIGHT])),
    }
    return Said(answer.row_id, (answer.text,), right_candidates(labelled), values=values)
