"""Answers rows with one of the labels: the one that a model which writes would rather say.

answer   the label
scores   the likeliest labels, each with its probability among them all
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tunesmith.core.errors import DataError
from tunesmith.data.conversation import Sample
from tunesmith.data.rows import RowFault
from tunesmith.data.tokenizer import Tokenizer, encoder_of
from tunesmith.evaluation.label_choice import choices_of, label_log_probs, rows_at_once
from tunesmith.inference.answerer import MOST_ROWS, cannot_be_rendered
from tunesmith.inference.head_answerer import MOST_SCORES
from tunesmith.recipe.data import DataPart
from tunesmith.tasks.ask import ask
from tunesmith.tasks.candidates import render_candidates
from tunesmith.training.loss import LanguageModel

_DIGITS = 4  # of a probability


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelAnswerer:
    """Reads each label behind each question. `part.max_length` is the most that the model reads."""

    model: LanguageModel
    tokenizer: Tokenizer
    part: DataPart
    labels: tuple[str, ...]
    batch_tokens: int

    @property
    def rows_at_once(self) -> int:
        """As many as have so many candidates between them."""
        return min(MOST_ROWS, rows_at_once(self.labels))

    def refuse(self, samples: Sequence[Sample]) -> list[RowFault | None]:
        """Say of each row why it cannot be asked: its template or its length."""
        return [self._refuse(sample) for sample in samples]

    def answer(self, samples: Sequence[Sample], numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Choose for all rows; nothing is drawn."""
        del numbers
        found = label_log_probs(
            self.model,
            samples,
            self.labels,
            self.tokenizer,
            data=self.part,
            pad_id=self.tokenizer.pad_token_id or 0,
            max_tokens=self.batch_tokens,
        )
        return [self._line(*each) for each in zip(samples, found, strict=True)]

    def _line(self, sample: Sample, log_probs: np.ndarray[Any, Any]) -> dict[str, Any]:
        shares = np.exp(log_probs - log_probs.max())
        shares /= shares.sum()
        likeliest = np.argsort(-shares, kind="stable")[:MOST_SCORES].tolist()
        scores = {self.labels[one]: round(float(shares[one]), _DIGITS) for one in likeliest}
        reference = ask(sample, self.tokenizer, self.part).reference
        return {
            "answer": self.labels[likeliest[0]],
            "scores": scores,
            **({"reference": reference} if reference else {}),
        }

    def _refuse(self, sample: Sample) -> RowFault | None:
        try:
            choices = choices_of([sample], [self._longest])
            list(render_candidates(choices, self.tokenizer, self.part))
        except DataError as error:
            return cannot_be_rendered(sample, error)
        return None

    @cached_property
    def _longest(self) -> str:
        """The label of most tokens: where it fits all do."""
        encoder = encoder_of(self.tokenizer)
        return max(self.labels, key=lambda label: len(encoder.ids(label)))
