"""From one chunk of rows to arrays: check, render, hash. Runs in a worker process, or here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import orjson

from tunesmith.data.beginning import common_beginning
from tunesmith.data.conversation import Conversation, Sample, label_of, texts_of
from tunesmith.data.fields import lookup
from tunesmith.data.formats import TaskName
from tunesmith.data.minhash import signatures
from tunesmith.data.prepared.sample_json import sample_to_json
from tunesmith.data.prepared.store import (
    CLOSES,
    CONTROL_TEXT,
    EXAMPLE,
    HAS_END,
    IS_TEXT,
    LOST_THINKING,
    MARK,
    NUM_SIGNATURES,
    Array,
    Block,
    concatenate,
    empty_rows,
)
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.data.render import Example, render_all
from tunesmith.data.row_hash import content_hash, value_hash, whole_hash
from tunesmith.data.rows import Chunk, Row, RowFault
from tunesmith.data.tokenizer import encoder_of
from tunesmith.data.validate import Judgement, RowChecker, Tally
from tunesmith.recipe.data import DataPart

_ROWS_TO_COMPARE = 20  # fewer may begin alike by chance


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done with every chunk of a file; picklable.

    `keep_below` is the part of all group hashes whose samples are kept: 1 for all, 0 for none.
    `shared_text` begins every row, such as an instruction: it makes no two rows alike.
    """

    judgement: Judgement
    part: DataPart
    task: TaskName
    files: tuple[str, ...]
    tokenizer: TokenizerSource | None
    keep_below: float = 1.0
    shared_text: str = ""


@dataclass(frozen=True)
class Prepared:
    """A chunk's arrays, what was wrong with its rows, and the lines of dropped.jsonl."""

    block: Block
    tally: Tally
    dropped: bytes


class BlockMaker:
    """Prepares chunk after chunk of one file."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._file_codes = {file: code for code, file in enumerate(job.files)}
        self._encoder = encoder_of(job.tokenizer.tokenizer) if job.tokenizer else None

    def make(self, chunk: Chunk) -> Prepared:
        """Prepare one chunk."""
        checker = RowChecker(self.job.judgement, self.job.part)
        rows: list[Row] = []
        samples: list[Sample] = []
        dropped: list[bytes] = []
        for row in chunk.rows():
            sample = checker.check(row)
            if sample is None:
                dropped += _dropped_lines(checker.last_faults)
            else:
                assert isinstance(row, Row), "only a row gives a sample"
                rows.append(row)
                samples.append(sample)
        checker.tally.pass_over(chunk.skipped)
        rendered = self._render(samples)
        kept: list[int] = []
        for place, one in enumerate(rendered):
            if isinstance(one, RowFault):
                checker.tally.refuse([one])
                dropped += _dropped_lines([one])
            else:
                kept.append(place)
        block = self._block(
            [rows[place] for place in kept],
            [samples[place] for place in kept],
            [one for one in rendered if not isinstance(one, RowFault)],
        )
        return Prepared(block, checker.tally, b"".join(dropped))

    def _render(self, samples: list[Sample]) -> list[tuple[Example, ...] | RowFault]:
        if self._encoder is None:
            return [()] * len(samples)
        return list(render_all(samples, self._encoder, self.job.part, self.job.task))

    def _block(
        self, rows: list[Row], samples: list[Sample], rendered: list[tuple[Example, ...]]
    ) -> Block:
        labels: dict[str, int] = {}
        about = empty_rows(len(rows))
        for place, (row, sample, examples) in enumerate(zip(rows, samples, rendered, strict=True)):
            label = label_of(sample)
            code = -1 if label is None else labels.setdefault(label, len(labels))
            for label in (label for one in examples for label in one.labels if label):
                labels.setdefault(label, len(labels))
            content = _two_halves(content_hash(sample))
            name = self.job.part.group
            group = _two_halves(value_hash(lookup(row.values, name))) if name else content
            about[place] = (
                self._file_codes[row.file], row.in_array, row.line, row.number,
                *_two_halves(whole_hash(sample)), *content, group[0],
                code, len(examples),
            )  # fmt: skip
        return Block(
            rows=about,
            examples=_describe(rendered),
            tokens=concatenate([one.tokens for each in rendered for one in each], np.dtype("<i4")),
            weights=concatenate(
                [one.weights for each in rendered for one in each], np.dtype("<f4")
            ).astype(np.uint8),
            signatures=self._signatures(samples),
            labels=tuple(labels),
            marks=_marks(rendered, labels),
            samples=tuple(self._kept_samples(samples, about["group"].tolist())),
        )

    def _kept_samples(
        self, samples: list[Sample], hashes: list[int]
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the samples that may be held out: where no hash is below the limit, the least."""
        if not self.job.keep_below:
            return
        limit = max(int(self.job.keep_below * 2**64), min(hashes, default=0) + 1)
        for place, (sample, hash) in enumerate(zip(samples, hashes, strict=True)):
            if hash < limit:
                yield place, sample_to_json(sample)

    def _signatures(self, samples: list[Sample]) -> Array:
        if self._encoder is None or not samples:
            return np.zeros((len(samples), NUM_SIGNATURES), dtype=np.uint32)
        shared = self.job.shared_text
        return signatures([said_in(sample).removeprefix(shared) for sample in samples])


def said_in(sample: Sample) -> str:
    """Return the texts of a row, without the system message that rows of a file often share."""
    match sample:
        case Conversation():
            return "\n".join(
                message.content for message in sample.messages if message.role != "system"
            )
        case _:
            return "\n".join(texts_of(sample))


def shared_beginning(samples: Sequence[Sample]) -> str:
    """Return the words that begin every one of the first rows of a file, if those are many."""
    if len(samples) < _ROWS_TO_COMPARE:
        return ""
    shared = common_beginning([said_in(sample) for sample in samples])
    return shared[: max(shared.rfind(" "), shared.rfind("\n")) + 1]


def _describe(rendered: list[tuple[Example, ...]]) -> Array:
    described = [
        (
            place, len(one.tokens), one.supervised_tokens, _digest(one), min(one.num_bos, 255),
            _flags(one), len(one.labels), one.part.encode(),
        )
        for place, examples in enumerate(rendered)
        for one in examples
    ]  # fmt: skip
    return np.array(described, dtype=EXAMPLE)


def _marks(rendered: list[tuple[Example, ...]], codes: Mapping[str, int]) -> Array:
    marks = [
        (place, codes.get(label, -1))
        for examples in rendered
        for one in examples
        for place, label in zip(one.places.tolist(), one.labels, strict=True)
    ]
    return np.array(marks, dtype=MARK)


def _flags(example: Example) -> int:
    return (
        HAS_END * example.has_end
        | CONTROL_TEXT * example.control_text
        | LOST_THINKING * example.lost_thinking
        | IS_TEXT * example.is_text
        | CLOSES * example.closes
    )


def _digest(example: Example) -> int:
    digest = blake2b(example.tokens.tobytes(), digest_size=8)
    digest.update(example.weights.tobytes())
    digest.update("\0".join(example.labels).encode())
    return int.from_bytes(digest.digest(), "little")


def _two_halves(digest: bytes) -> tuple[int, int]:
    return int.from_bytes(digest[:8]), int.from_bytes(digest[8:])


def _dropped_lines(faults: list[RowFault]) -> list[bytes]:
    return [_dropped_line(fault) + b"\n" for fault in faults if fault.row_id]


def _dropped_line(fault: RowFault) -> bytes:
    values: dict[str, Any] = {
        "row_id": fault.row_id,
        "file": fault.file,
        "line": fault.line,
        "reason": fault.reason,
        "found": fault.to_fault().found,
        "field": fault.field,
    }
    return orjson.dumps(values)
