"""From what a recipe names to prepared rows in the user's cache, made once.

A second start finds them there: it costs the hash of the files. Small files are prepared in this
process, larger ones on all cores.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import orjson

from tunesmith.core.cache import cache_root, cache_writes, fill_beside, lock
from tunesmith.data.formats import TaskName
from tunesmith.data.prepared.block import Job, Prepared, shared_beginning
from tunesmith.data.prepared.key import KeyParts, key_of, key_parts, what_changed
from tunesmith.data.prepared.room import make_room
from tunesmith.data.prepared.store import Store, StoreWriter, token_type
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.data.prepared.workers import prepare_here, prepare_in_workers
from tunesmith.data.rows import Chunk, FileOptions, Row, read_chunks, read_rows
from tunesmith.data.source import DataFile, find_files
from tunesmith.data.validate import ROWS_TO_JUDGE_BY, Judgement, RowChecker, Tally, judge
from tunesmith.recipe.data import DataPart

SMALL_BYTES = 8 * 2**20
MAX_CACHE_BYTES = 20 * 2**30
_TELL_EVERY_S = 2.0

Tell = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class PreparedFile:
    """The rows of one source: the store, what was judged of it, what was wrong with its rows."""

    source: str
    store: Store
    tally: Tally
    judgement: Judgement

    def dropped_lines(self) -> Iterator[dict[str, Any]]:
        """The rows that are not used, with reasons, in order."""
        with (self.store.folder / "dropped.jsonl").open("rb") as file:
            for line in file:
                yield orjson.loads(line)


def prepare_file(
    source: str,
    part: DataPart,
    task: TaskName | None,
    tokenizer: TokenizerSource | None,
    *,
    keep_below: float = 1.0,
    tell: Tell,
) -> PreparedFile:
    """Read, check and (with a tokenizer) render every row of a source, or find it done.

    Args:
        source: What `data.train` names.
        part: How the rows are read.
        task: What the rows are for; None for whatever their form serves.
        tokenizer: Whose template and tokens; without one the rows are only checked.
        keep_below: The share of rows, by hash, whose samples are kept because they may be held out.
        tell: Is told in one line what takes time.

    Raises:
        DataError: the source does not exist or cannot be read.
    """
    files = find_files(source)
    if tokenizer is None:
        keep_below = 0.0  # rows that are only checked are asked for nothing later
    elif _count_bytes(files) < SMALL_BYTES:
        keep_below = 1.0
    parts = key_parts(files, part, task, tokenizer, keep_below=keep_below)
    folder = prepared_root() / key_of(parts)
    name = Path(source).name
    if found := _find(source, folder):
        if tokenizer:
            tell(f"{name}: cache hit, the rows are ready")
        return found
    if tokenizer:
        tell(f"{name}: cache miss: {what_changed(_parts_before(source, tokenizer), parts)}")
    # A lock for several keys, so that their files do not become many.
    with lock(f"prepared-{folder.name[:2]}", on_progress=tell):
        if found := _find(source, folder):  # another process was faster
            return found
        maker = _Maker(source, files, part, task, tokenizer, keep_below, tell)
        fill_beside(folder, maker.fill)
        made = _open(source, folder)
        _remember_parts(source, tokenizer, parts)
        make_room(folder.parent, MAX_CACHE_BYTES)
    return made


def prepared_root() -> Path:
    """Return where prepared rows are kept."""
    return cache_root() / "prepared"


@dataclass(frozen=True)
class _Maker:
    """Makes the content of one folder."""

    source: str
    files: Sequence[DataFile]
    part: DataPart
    task: TaskName | None
    tokenizer: TokenizerSource | None
    keep_below: float
    tell: Tell

    def fill(self, folder: Path) -> None:
        options = FileOptions.of(self.part)
        first_rows = self._first_rows(options)
        judgement = judge(first_rows, self.part, self.task, file=self.source)
        checker = RowChecker(judgement, self.part)
        first = [sample for row in first_rows if (sample := checker.check(row)) is not None]
        job = Job(
            judgement=judgement,
            part=self.part,
            task=judgement.task,
            files=tuple(file.shown for file in self.files),
            tokenizer=self.tokenizer,
            keep_below=self.keep_below,
            shared_text=shared_beginning(first),
        )
        most = self.tokenizer.largest_id if self.tokenizer else 0
        writer = StoreWriter(folder, token_type(most + 1))
        tally = Tally()
        chunks = read_chunks(self.files, options, self.part.limit)
        try:
            with (folder / "dropped.jsonl").open("wb") as dropped:
                for made in self._told(self._prepare(job, chunks)):
                    writer.add(made.block)
                    tally.merge(made.tally)
                    dropped.write(made.dropped)
        finally:
            writer.close()
        with (folder / "tally.pickle").open("wb") as file:
            pickle.dump((judgement, tally), file)
        writer.finish({"source": self.source, "files": list(job.files)})

    def _first_rows(self, options: FileOptions) -> list[Row]:
        limit = min(self.part.limit or ROWS_TO_JUDGE_BY, ROWS_TO_JUDGE_BY)
        first = islice(read_rows(self.files, limit, options), limit)
        return [row for row in first if isinstance(row, Row)]

    def _prepare(self, job: Job, chunks: Iterable[Chunk]) -> Iterator[Prepared]:
        is_small = _count_bytes(self.files) < SMALL_BYTES
        return prepare_here(job, chunks) if is_small else prepare_in_workers(job, chunks)

    def _told(self, made: Iterable[Prepared]) -> Iterator[Prepared]:
        """Say now and then how far it is."""
        started = last = time.monotonic()
        num_rows = 0
        for one in made:
            num_rows += one.tally.rows_read
            yield one
            now = time.monotonic()
            if now - last >= _TELL_EVERY_S:
                last = now
                rate = num_rows / (now - started)
                self.tell(f"{Path(self.source).name}: {num_rows:,} rows read, {rate:,.0f} a second")


def _count_bytes(files: Sequence[DataFile]) -> int:
    return sum(path.stat().st_size for file in files for path in (file.path, *file.beside))


def _find(source: str, folder: Path) -> PreparedFile | None:
    try:
        found = _open(source, folder)
    except FileNotFoundError:
        return None
    with suppress(OSError):  # the cache may be another user's
        os.utime(folder)
    return found


def _open(source: str, folder: Path) -> PreparedFile:
    store = Store.open(folder)
    with (folder / "tally.pickle").open("rb") as file:
        judgement, tally = cast("tuple[Judgement, Tally]", pickle.load(file))
    return PreparedFile(source, store, tally, judgement)


def _parts_file(source: str, tokenizer: TokenizerSource | None) -> Path:
    what = f"{Path(source).absolute()}\0{tokenizer is not None}"
    name = hashlib.sha256(what.encode(errors="surrogateescape")).hexdigest()[:32]
    return prepared_root() / "last" / f"{name}.json"


def _parts_before(source: str, tokenizer: TokenizerSource | None) -> KeyParts | None:
    try:
        return orjson.loads(_parts_file(source, tokenizer).read_bytes())
    except (OSError, orjson.JSONDecodeError):  # it serves a message only
        return None


def _remember_parts(source: str, tokenizer: TokenizerSource | None, parts: KeyParts) -> None:
    path = _parts_file(source, tokenizer)
    with cache_writes(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(orjson.dumps(dict(parts)))
        unfinished.replace(path)
