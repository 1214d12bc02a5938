"""How likely a model finds each candidate for an answer.

The candidates of a question stay together in a batch: where the architecture allows it, their
question is computed once for all of them (models/hidden_states.py). Questions of similar length
share a batch. Neither changes a number, apart from rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tunesmith.core.errors import Fault, RunError
from tunesmith.data.collate import Batch
from tunesmith.data.example import Example
from tunesmith.inference.batches import BATCH_TOKENS, compute_batches
from tunesmith.models.evaluating import evaluating
from tunesmith.tasks.scores.choices import Likelihoods
from tunesmith.training.loss import LanguageModel
from tunesmith.training.row_loss import row_log_probs


def log_likelihoods(
    model: LanguageModel,
    questions: Sequence[Sequence[Example]],
    *,
    pad_id: int = 0,
    max_tokens: int = BATCH_TOKENS,
) -> list[Likelihoods]:
    """Return the candidates' log-likelihoods of each question, in order.

    A question is its candidates, each an example whose weights say what counts
    (tasks/candidates.py). The model is left in the mode that it was in.

    Raises:
        RunError: a log-likelihood is not finite, or one candidate alone does not fit into memory.
    """
    examples = [example for question in questions for example in question]
    found = np.full(len(examples), np.nan)
    with evaluating(model.decoder):
        for computed in compute_batches(
            lambda batch: row_log_probs(model, batch, as_tree=True).numpy(),
            examples,
            list(_groups(questions, max_tokens)),
            pad_id=pad_id,
        ):
            if not np.isfinite(computed.value).all():
                raise RunError(_not_finite(computed.batch), code="loss_not_finite")
            found[list(computed.batch.indices)] = computed.value
    ends = np.cumsum([len(question) for question in questions])[:-1]
    return [
        Likelihoods(log_probs, np.array([example.supervised_tokens for example in question]))
        for question, log_probs in zip(questions, np.split(found, ends), strict=True)
    ]


def _groups(questions: Sequence[Sequence[Example]], max_tokens: int) -> Iterator[list[int]]:
    """Whole questions, the longest first, in batches of at most `max_tokens` with their padding.

    Only a question that is too large by itself is divided.
    """
    longest = [max(len(example.tokens) for example in question) for question in questions]
    firsts = np.cumsum([0, *map(len, questions)]).tolist()
    group: list[int] = []
    room = 0
    for index in sorted(range(len(questions)), key=lambda index: -longest[index]):
        rows = range(firsts[index], firsts[index + 1])
        if len(group) + len(rows) > room:
            if group:
                yield group
            group, room = [], max(1, max_tokens // longest[index])
        while len(rows) > room:
            yield list(rows[:room])
            rows = rows[room:]
        group = [*group, *rows]
    if group:
        yield group


def _not_finite(batch: Batch) -> Fault:
    return Fault(
        found="a candidate's likelihood that is no number",
        where="rows " + ", ".join(dict.fromkeys(batch.row_ids[:10])),
        fix="lower training.learning_rate; if it was so before training, use another base model "
        "or model.dtype: fp32",
    )
