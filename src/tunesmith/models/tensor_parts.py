"""Named tensors in one file, or in parts: each process has written its own rows of every tensor.

    trained-0-of-2.safetensors    w[0:3]    w is rows 0 on of a tensor of shape [5, 4]
    trained-1-of-2.safetensors    w[3:5]    w is rows 3 on of a tensor of shape [5, 4]

Where the rows belong is in each file's metadata, so what is read does not depend on how many
processes have written it, nor on how many read it. A tensor that is no part, such as a count of
steps, is in the first file only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

Shape = tuple[int, ...]
ROWS = "rows"  # the metadata's key
TRAINED = "trained"  # what a checkpoint calls the values of the method


@dataclass(frozen=True)
class Rows:
    """Where a part's rows begin in the whole tensor, and that tensor's shape."""

    start: int
    shape: Shape


def file_name(word: str) -> str:
    """Return the name of the one file."""
    return f"{word}.safetensors"


def part_name(word: str, rank: int, size: int) -> str:
    """Return the name of a process's file."""
    return f"{word}-{rank}-of-{size}.safetensors"


def write_part(file: Path, tensors: Mapping[str, Tensor], rows: Mapping[str, Rows]) -> None:
    """Write a process's file; a tensor without an entry in `rows` is whole.

    Raises:
        SafetensorError: the disk is full or cannot be written.
    """
    places = {name: [one.start, list(one.shape)] for name, one in rows.items() if name in tensors}
    safetensors.torch.save_file(dict(tensors), file, metadata={ROWS: json.dumps(places)})


def has_tensors(folder: Path, word: str) -> bool:
    """Whether a folder has the tensors called so, in one file or in parts."""
    return (folder / file_name(word)).is_file() or bool(_part_files(folder, word))


def open_tensors(folder: Path, word: str) -> Mapping[str, Tensor]:
    """Return the tensors called so by name; parts are put together when they are asked for.

    Raises:
        ValueError: parts do not make a whole.
        OSError: a file cannot be read.
    """
    whole = folder / file_name(word)
    if whole.is_file():
        return safetensors.torch.load_file(whole)
    return Joined(_part_files(folder, word))


class Joined(Mapping[str, Tensor]):
    """Tensors in parts: only the one that is asked for is in memory."""

    def __init__(self, files: list[Path]) -> None:
        self._pieces: dict[str, list[_Piece]] = {}
        for file in files:
            for name, piece in _pieces_of(file):
                self._pieces.setdefault(name, []).append(piece)
        for name, pieces in self._pieces.items():
            pieces.sort(key=lambda piece: (piece.start, piece.stop))
            _require_whole(name, pieces)

    @property
    def shapes(self) -> dict[str, Shape]:
        """The whole tensors' shapes by name."""
        return {name: pieces[0].whole for name, pieces in self._pieces.items()}

    def __getitem__(self, name: str) -> Tensor:
        pieces = [piece.read(name) for piece in self._pieces[name]]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def __iter__(self) -> Iterator[str]:
        return iter(self._pieces)

    def __len__(self) -> int:
        return len(self._pieces)


@dataclass(frozen=True)
class _Piece:
    """Rows `start` to `stop` of a tensor of the shape `whole`, or all of one that is no part."""

    file: Path
    is_part: bool
    start: int
    stop: int
    rest: Shape
    whole: Shape

    def read(self, name: str) -> Tensor:
        with _opened(self.file) as tensors:
            return tensors.get_tensor(name)


def _pieces_of(file: Path) -> Iterator[tuple[str, _Piece]]:
    with _opened(file) as tensors:
        places = json.loads((tensors.metadata() or {}).get(ROWS, "{}"))
        for name in tensors.keys():  # noqa: SIM118 (it is no mapping)
            shape = tuple(tensors.get_slice(name).get_shape())
            if name not in places:
                yield name, _Piece(file, False, 0, 0, (), shape)
                continue
            start, whole = places[name]
            yield name, _Piece(file, True, start, start + shape[0], shape[1:], tuple(whole))


def _require_whole(name: str, pieces: list[_Piece]) -> None:
    """See to it that each row is there once."""
    first = pieces[0]
    if len(pieces) == 1 and not first.is_part:
        return
    end = 0
    for piece in pieces:
        if piece.start != end or piece.whole != first.whole or piece.rest != first.whole[1:]:
            raise ValueError(f"{name}: rows {piece.start} to {piece.stop} follow on row {end}")
        end = piece.stop
    if end != first.whole[0]:
        raise ValueError(f"{name}: rows {end} to {first.whole[0]} are in no part")


def _part_files(folder: Path, word: str) -> list[Path]:
    return sorted(folder.glob(f"{word}-*-of-*.safetensors"))


def _opened(file: Path) -> Any:
    return safe_open(file, framework="pt")
