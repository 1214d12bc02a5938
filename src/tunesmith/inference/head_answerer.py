"""Answers rows with a head: the classes of a text, the entities in it, or words of it.

    task             answer                                beside it
    classification   the label, or a list of several       scores: the likeliest labels, by chance
    ner              a list of {type, words, start, end}   tags: one for each token, in IOB2
    qa               the words of the text; "" for none    start: where, in characters; score

`start` and `end` of an entity count tokens, the end being the first one behind it. Of a row that
has its text they count characters, and `tokens` are beside the tags. `reference` is the row's own
answer in the same form, where it has one (of entities: their tags).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, assert_never

from tunesmith.data.conversation import Labelled, Sample, labelled_of
from tunesmith.data.example import Example, windows_of
from tunesmith.data.forms.labelled import NO_TAG
from tunesmith.data.labelled_render import (
    UNLABELLED,
    ReadText,
    read_places,
    read_texts,
    to_example,
    words_at,
)
from tunesmith.data.render_fault import place_of
from tunesmith.data.rows import RowFault
from tunesmith.data.tokenizer import Tokenizer, encoder_of
from tunesmith.inference.answerer import MOST_ROWS
from tunesmith.inference.head_answers import HeadAnswer, answer_of_windows, answers_of, read_batches
from tunesmith.models.headed import HeadedModel
from tunesmith.recipe.data import DataPart
from tunesmith.tasks.said import entities_of

MOST_SCORES = 5


@dataclass(frozen=True, eq=False)
class _Asked:
    """A row as the head reads it; `words` are the places that are read, None for a token unseen.

    `examples` are the row, or windows of it.
    """

    row: Labelled
    text: ReadText
    examples: tuple[Example, ...]
    words: tuple[int | None, ...]


class HeadAnswerer:
    """Lets a model's head say what it says of each row.

    `part` is how the rows of training were read: contexts in windows if those were.
    """

    def __init__(
        self, headed: HeadedModel, tokenizer: Tokenizer, part: DataPart, *, batch_tokens: int
    ) -> None:
        self._headed = headed
        self._tokenizer = tokenizer
        self._part = part
        self._batch_tokens = batch_tokens
        config: Any = headed.model.config
        self._most: int | None = getattr(config, "max_position_embeddings", None)

    @property
    def rows_at_once(self) -> int:
        """As many as may be: nothing is written, so an answer takes one pass."""
        return MOST_ROWS

    def refuse(self, samples: Sequence[Sample]) -> list[RowFault | None]:
        """Say of each row why it cannot be read: no text, or one too long."""
        asked = self._ask(samples)
        return [self._refuse(*pair) for pair in zip(samples, asked, strict=True)]

    def answer(self, samples: Sequence[Sample], numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Read all rows in batches of similar length."""
        del numbers  # nothing is drawn
        asked = self._ask(samples)
        examples = [example for one in asked for example in one.examples]
        found: dict[int, HeadAnswer] = {}
        for read in read_batches(self._headed, examples, pad_id=0, max_tokens=self._batch_tokens):
            answers = answers_of(self._headed.head, read)
            found.update(zip(read.batch.indices, answers, strict=True))
        said = iter(zip(examples, (found[place] for place in range(len(examples))), strict=True))
        return [self._line(one, list(islice(said, len(one.examples)))) for one in asked]

    def _ask(self, samples: Sequence[Sample]) -> list[_Asked]:
        rows = [labelled_of(sample) for sample in samples]
        texts = read_texts(rows, encoder_of(self._tokenizer))
        return [self._asked(*each) for each in zip(samples, rows, texts, strict=True)]

    def _asked(self, sample: Sample, row: Labelled, text: ReadText) -> _Asked:
        words = read_places(row, text, last=self._headed.is_decoder)
        marks = [(place, UNLABELLED) for place in sorted({one for one in words if one is not None})]
        example = to_example(sample, text, marks, encoder_of(self._tokenizer))
        return _Asked(row, text, self._windows(row, example), tuple(words))

    def _windows(self, row: Labelled, example: Example) -> tuple[Example, ...]:
        most = self._part.max_length
        is_cut = row.kind == "answers" and self._part.overflow == "chunk" and len(example.places)
        if not is_cut or len(example.tokens) <= most:
            return (example,)
        return tuple(windows_of(example, most, self._part.stride)) or (example,)

    def _refuse(self, sample: Sample, asked: _Asked) -> RowFault | None:
        num_tokens = max(len(example.tokens) for example in asked.examples)
        if not len(asked.examples[0].places):
            return place_of(sample).saying(
                found="a text that becomes no token of the model",
                expected="a text that the model's tokenizer can write",
                fix="write the text, or leave the row out",
                reason="a text without tokens",
            )
        if self._most is None or num_tokens <= self._most:
            return None
        return place_of(sample).saying(
            found=f"a text of {num_tokens:,} tokens",
            expected=f"at most {self._most:,}",
            fix="shorten the row, or leave it out",
            reason="a text that does not fit",
        )

    def _line(self, asked: _Asked, read: Sequence[tuple[Example, HeadAnswer]]) -> dict[str, Any]:
        head, row = self._headed.head, asked.row
        ((_, answer), *_) = read
        match head.kind:
            case "classes":
                said = list(answer.labels) if head.several else answer.labels[0]
                likeliest = sorted(answer.scores.items(), key=lambda item: -item[1])
                line: dict[str, Any] = {"answer": said, "scores": dict(likeliest[:MOST_SCORES])}
                right: object = list(row.labels) if head.several else "".join(row.labels[:1])
            case "tags":
                tags = _tags(asked.words, answer.labels)
                line = {"answer": entities_of(row, tags), "tags": tags}
                line |= {"tokens": list(row.texts)} if row.whole else {}
                right = list(row.labels)
            case "span":
                answer = answer_of_windows(read)
                words, start = words_at(row, asked.text, answer.span)
                line = {"answer": words, "start": start, "score": answer.scores["span"]}
                right = list(row.labels)
            case _:
                assert_never(head.kind)
        return {**line, **({"reference": right} if row.labels else {})}


def _tags(words: Sequence[int | None], said: Sequence[str]) -> list[str]:
    read = sorted({place for place in words if place is not None})  # two words may share a piece
    tag_at = dict(zip(read, said, strict=True))
    return [NO_TAG if place is None else tag_at[place] for place in words]
