"""The prepared rows of one file as arrays in a folder, read by memory map.

rows.bin        ROW of every usable row, in the file's order
examples.bin    EXAMPLE of every example; a row may have several
tokens.bin      the tokens of all examples, one after the other
weights.bin     the weight of each token as a target: 0 or 1
marks.bin       MARK of everything that a head is to say
signatures.bin  MinHash values of every row, for near-duplicates
samples.bin     rows that may be held out, as JSON, because they are asked later
dropped.jsonl   the rows that are not used, and why
meta.json       the counts, and what the folder was made from; written last
"""

from __future__ import annotations

import errno
import fcntl
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import orjson

from tunesmith.data.conversation import Sample
from tunesmith.data.prepared.sample_json import sample_from_json
from tunesmith.data.render import Example

# hash: of all that a row says, weights included; side: of its texts alone; group: decides its side.
ROW = np.dtype(
    [
        ("file", "<u4"),
        ("in_array", "?"),
        ("line", "<u4"),
        ("number", "<u4"),
        ("hash_high", "<u8"),
        ("hash_low", "<u8"),
        ("side_high", "<u8"),
        ("side_low", "<u8"),
        ("group", "<u8"),
        ("label", "<i4"),
        ("examples", "<u4"),
    ]
)
# digest: a hash of tokens and weights.
EXAMPLE = np.dtype(
    [
        ("row", "<u4"),
        ("length", "<u4"),
        ("supervised", "<u4"),
        ("digest", "<u8"),
        ("num_bos", "u1"),
        ("flags", "u1"),
        ("marks", "u4"),
        ("part", "S24"),
    ]
)
# What a head is to say: at which token, and the code of the label.
MARK = np.dtype([("place", "<u4"), ("label", "<i4")])
# The row's number and where its JSON lies in samples.bin.
SAMPLE = np.dtype([("row", "<u4"), ("start", "<u8"), ("size", "<u4")])
HAS_END, CONTROL_TEXT, LOST_THINKING, IS_TEXT, CLOSES = 1, 2, 4, 8, 16  # what `flags` holds
NUM_SIGNATURES = 32

Array = npt.NDArray[Any]
ARRAYS: dict[str, np.dtype[Any]] = {
    "rows": ROW,
    "examples": EXAMPLE,
    "weights": np.dtype("u1"),
    "marks": MARK,
    "signatures": np.dtype("<u4"),
    "samples_index": SAMPLE,
    "samples": np.dtype("u1"),
}


@dataclass(frozen=True, kw_only=True)
class Block:
    """What one chunk of rows became. `row` of an example counts from the block's first row."""

    rows: Array
    examples: Array
    tokens: Array
    weights: Array
    signatures: Array
    labels: tuple[str, ...] = ()
    marks: Array = field(default_factory=lambda: np.zeros(0, dtype=MARK))
    samples: tuple[tuple[int, bytes], ...] = ()


class StoreWriter:
    """Appends blocks in order."""

    def __init__(self, folder: Path, token_type: np.dtype[Any]) -> None:
        self.folder = folder
        self.token_type = token_type
        self.num_rows = self.num_examples = self.num_tokens = self._num_sample_bytes = 0
        self._labels: dict[str, int] = {}
        names = (*ARRAYS, "tokens")
        self._files: dict[str, BinaryIO] = {
            name: (folder / f"{name}.bin").open("wb") for name in names
        }

    def add(self, block: Block) -> None:
        """Append a block."""
        rows, examples, marks = block.rows.copy(), block.examples.copy(), block.marks.copy()
        codes = [self._labels.setdefault(label, len(self._labels)) for label in block.labels]
        if codes:
            known = np.array([*codes, -1], dtype=np.int32)  # -1, no label, is the last of these
            rows["label"] = known[rows["label"]]
            marks["label"] = known[marks["label"]]
        examples["row"] += self.num_rows
        self._write("rows", rows)
        self._write("examples", examples)
        self._write("tokens", block.tokens.astype(self.token_type, copy=False))
        self._write("weights", block.weights)
        self._write("marks", marks)
        self._write("signatures", block.signatures)
        self._write_samples(block)
        self.num_rows += len(rows)
        self.num_examples += len(examples)
        self.num_tokens += len(block.tokens)

    def finish(self, meta: Mapping[str, Any]) -> None:
        """Close the files and write what the folder holds."""
        self.close()
        document = {
            **meta,
            "token_type": self.token_type.str,
            "labels": list(self._labels),
            "rows": self.num_rows,
            "examples": self.num_examples,
            "tokens": self.num_tokens,
        }
        (self.folder / "meta.json").write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _write(self, name: str, values: Array) -> None:
        self._files[name].write(np.ascontiguousarray(values).data)

    def _write_samples(self, block: Block) -> None:
        index = np.zeros(len(block.samples), dtype=SAMPLE)
        for place, (row, text) in enumerate(block.samples):
            index[place] = (row + self.num_rows, self._num_sample_bytes, len(text))
            self._num_sample_bytes += len(text)
            self._files["samples"].write(text)
        self._write("samples_index", index)


@dataclass(frozen=True, eq=False)
class Store:
    """A folder of prepared rows. Arrays are memory maps: only what is read is held."""

    folder: Path
    meta: Mapping[str, Any] = field(hash=False)

    @staticmethod
    def open(folder: Path) -> Store:
        """Open a folder that a writer finished, and hold it against deletion while it is used.

        Raises:
            FileNotFoundError: there is none, or it is just being deleted.
        """
        path = folder / "meta.json"
        file = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(file, fcntl.LOCK_SH)
            if not os.fstat(file).st_nlink:
                raise FileNotFoundError(errno.ENOENT, "deleted meanwhile", str(path))
            store = Store(folder, orjson.loads(path.read_bytes()))
        except BaseException:
            os.close(file)
            raise
        weakref.finalize(store, os.close, file)
        return store

    @cached_property
    def rows(self) -> Array:
        """ROW of every usable row."""
        return self._array("rows", ROW)

    @cached_property
    def examples(self) -> Array:
        """EXAMPLE of every example."""
        return self._array("examples", EXAMPLE)

    @cached_property
    def signatures(self) -> Array:
        """MinHash values, one line a row."""
        return self._array("signatures", np.dtype("<u4")).reshape(-1, NUM_SIGNATURES)

    @cached_property
    def first_example(self) -> Array:
        """Where the examples of each row begin; one more entry than rows."""
        return _starts(self.rows["examples"])

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The names of the label codes."""
        return tuple(self.meta["labels"])

    def example(self, index: int) -> Example:
        """Return one example; its arrays are its own."""
        about = self.examples[index]
        start, end = int(self._token_start[index]), int(self._token_start[index + 1])
        row = self.rows[int(about["row"])]
        marks = self._marks_of(index)
        return Example(
            row_id=self._row_id(row),
            file=self.meta["files"][int(row["file"])],
            line=int(row["line"]),
            tokens=self._tokens[start:end].astype(np.int32),
            weights=self._weights[start:end].astype(np.float32),
            has_end=bool(about["flags"] & HAS_END),
            part=about["part"].decode(),
            num_bos=int(about["num_bos"]),
            control_text=bool(about["flags"] & CONTROL_TEXT),
            lost_thinking=bool(about["flags"] & LOST_THINKING),
            is_text=bool(about["flags"] & IS_TEXT),
            closes=bool(about["flags"] & CLOSES),
            places=marks["place"].astype(np.int32),
            labels=tuple(map(self._label, marks["label"].tolist())),
        )

    def label_codes(self, indices: Array) -> set[int]:
        """Return the codes of the labels that a head is to say of some examples."""
        is_wanted = np.zeros(len(self.examples), dtype=bool)
        is_wanted[indices] = True
        return set(np.unique(self._marks["label"][np.repeat(is_wanted, self.examples["marks"])]))

    def num_labels(self, indices: Array) -> Array:
        """Count the labels that a head is to say of each of some examples; no label counts 0."""
        starts = self._mark_start
        has_one = np.concatenate([[0], np.cumsum(self._marks["label"] >= 0)])
        return has_one[starts[indices + 1]] - has_one[starts[indices]]

    def _marks_of(self, index: int) -> Array:
        return self._marks[int(self._mark_start[index]) : int(self._mark_start[index + 1])]

    def _label(self, code: int) -> str:
        return "" if code < 0 else self.labels[code]

    def sample(self, row: int) -> Sample | None:
        """Return the sample of a row that may be held out, or None where it was not kept."""
        place = int(np.searchsorted(self._samples_index["row"], row))
        if place == len(self._samples_index) or self._samples_index["row"][place] != row:
            return None
        about = self._samples_index[place]
        start = int(about["start"])
        text = self._samples[start : start + int(about["size"])].tobytes()
        at = self.rows[row]
        return sample_from_json(
            text,
            row_id=self._row_id(at),
            file=self.meta["files"][int(at["file"])],
            line=int(at["line"]),
        )

    def row_id(self, row: int) -> str:
        """Return the short name of a row."""
        return self._row_id(self.rows[row])

    def _row_id(self, row: Any) -> str:
        name = Path(self.meta["files"][int(row["file"])]).name
        if not row["line"]:
            return f"{name}#{int(row['number'])}"
        place = f"{name}:{int(row['line'])}"
        return f"{place}#{int(row['number'])}" if row["in_array"] else place

    @cached_property
    def _token_start(self) -> Array:
        return _starts(self.examples["length"])

    @cached_property
    def _mark_start(self) -> Array:
        return _starts(self.examples["marks"])

    @cached_property
    def _marks(self) -> Array:
        return self._array("marks", MARK)

    @cached_property
    def _tokens(self) -> Array:
        return self._array("tokens", np.dtype(self.meta["token_type"]))

    @cached_property
    def _weights(self) -> Array:
        return self._array("weights", np.dtype("u1"))

    @cached_property
    def _samples(self) -> Array:
        return self._array("samples", np.dtype("u1"))

    @cached_property
    def _samples_index(self) -> Array:
        return self._array("samples_index", SAMPLE)

    def _array(self, name: str, kind: np.dtype[Any]) -> Array:
        path = self.folder / f"{name}.bin"
        if path.stat().st_size == 0:  # an empty file cannot be mapped
            return np.zeros(0, dtype=kind)
        return np.memmap(path, dtype=kind, mode="r")


def _starts(counts: Array) -> Array:
    starts = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


def token_type(vocabulary: int) -> np.dtype[Any]:
    """The smallest type that holds every token of a vocabulary."""
    return np.dtype("<u2") if vocabulary <= 2**16 else np.dtype("<u4")


def empty_rows(count: int) -> Array:
    """Rows to be filled in."""
    return np.zeros(count, dtype=ROW)


def concatenate(parts: Sequence[Array], kind: np.dtype[Any]) -> Array:
    """Join arrays, of which there may be none."""
    return np.concatenate(parts) if parts else np.zeros(0, dtype=kind)
