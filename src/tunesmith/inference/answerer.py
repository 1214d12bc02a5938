"""What answers rows: the seam between `tunesmith predict` and the tasks' own ways to answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from tunesmith.core.errors import DataError
from tunesmith.data.conversation import Sample
from tunesmith.data.render_fault import place_of
from tunesmith.data.rows import RowFault
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.inference.engine import Engine
from tunesmith.recipe.data import DataPart
from tunesmith.tasks.ask import ask
from tunesmith.tasks.question import Question
from tunesmith.tasks.said import entities_of, tags_of

MOST_ROWS = 512


class Answerer(Protocol):
    """Answers rows, some at once; an answer does not depend on which rows stand beside it."""

    @property
    def rows_at_once(self) -> int:
        """How many rows to give at once: so many are answered before any answer is written."""
        ...

    def refuse(self, samples: Sequence[Sample]) -> list[RowFault | None]:
        """Say of each row why it cannot be asked, or None."""
        ...

    def answer(self, samples: Sequence[Sample], numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return of each row the keys of its line but for `row_id`: JSON values.

        A row's number, its place among all, decides what is drawn for it where anything is.
        """
        ...


def cannot_be_rendered(sample: Sample, error: DataError) -> RowFault:
    """Return what keeps a row from being put to the model."""
    fault = error.faults[0]
    return place_of(sample).saying(
        found=fault.found, expected="", fix=fault.fix, reason="cannot be rendered"
    )


class TextAnswerer:
    """Writes an answer to each row.

    answer          the text
    finish_reason   "stop", or "length" where it was cut
    entities        where entities are asked for: those of the answer that the text holds
    reference       the row's own answer, where it has one
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        part: DataPart,
        *,
        max_prompt_tokens: int | None,
        max_new_tokens: int,
        batch_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._part = part
        self._max_prompt_tokens = max_prompt_tokens
        self._max_new_tokens = max_new_tokens
        self._batch_tokens = batch_tokens
        self._temperature = temperature
        self._seed = seed

    @property
    def rows_at_once(self) -> int:
        """As many as their answers alone would fill a batch: with their prompts, a few batches."""
        return max(1, min(MOST_ROWS, self._batch_tokens // self._max_new_tokens))

    def refuse(self, samples: Sequence[Sample]) -> list[RowFault | None]:
        """Say of each row why it cannot be asked: its template or its length."""
        return [self._refuse(sample) for sample in samples]

    def answer(self, samples: Sequence[Sample], numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Ask all rows in batches of similar length."""
        questions = [ask(sample, self._tokenizer, self._part) for sample in samples]
        generated = self._engine.generate(
            [question.tokens for question in questions],
            max_new_tokens=self._max_new_tokens,
            temperature=self._temperature,
            seed=self._seed,
            numbers=numbers,
        )
        return [
            {
                **_said(question, self._engine.decode(one.tokens)),
                "finish_reason": one.finish_reason,
                **({"reference": question.reference} if question.reference else {}),
            }
            for question, one in zip(questions, generated, strict=True)
        ]

    def _refuse(self, sample: Sample) -> RowFault | None:
        try:
            num_tokens = len(ask(sample, self._tokenizer, self._part).tokens)
        except DataError as error:
            return cannot_be_rendered(sample, error)
        most = self._max_prompt_tokens
        if num_tokens and (most is None or num_tokens <= most):
            return None
        return place_of(sample).saying(
            found=f"a prompt of {num_tokens:,} tokens",
            expected="at least 1" + ("" if most is None else f", and {most:,} at most"),
            fix="shorten the row, or leave it out",
            reason="a prompt that does not fit",
        )


def _said(question: Question, text: str) -> dict[str, Any]:
    labelled = question.labelled
    if labelled is None or labelled.kind != "tags":
        return {"answer": text}
    tags, _ = tags_of(text, labelled)
    return {"answer": text, "entities": entities_of(labelled, tags)}
