"""Writes safetensors files tensor by tensor, so that no more than one is held in memory.

    8 bytes   length of the header, little endian
    header    JSON: {name: {"dtype", "shape", "data_offsets": [begin, end]}}, spaces to 8 bytes
    data      the tensors' bytes, one behind the other

That is the format's own layout (https://huggingface.co/docs/safetensors). The library's writer
takes all tensors of a file at once.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunesmith.models.folder import StoredTensor

ALIGNMENT = 8
TORCH_DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class WrittenFile:
    """A file of weights, its size and its hash while it was written."""

    path: Path
    bytes: int
    sha256: str


def bytes_of(tensor: StoredTensor) -> int:
    """How much room a tensor's values take."""
    return math.prod(tensor.shape) * TORCH_DTYPES[tensor.dtype].itemsize


def write_shard(
    path: Path, tensors: Sequence[StoredTensor], values: Iterator[Tensor]
) -> WrittenFile:
    """Write a file with these tensors, whose values come one by one in the same order.

    Raises:
        OSError: the disk is full or fails; what has been written so far stays.
    """
    head = _header(tensors)
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for part in _parts(head, tensors, values):
            file.write(part)
            digest.update(part)
            size += len(part)
    return WrittenFile(path, size, digest.hexdigest())


def _header(tensors: Sequence[StoredTensor]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for tensor in tensors:
        end = begin + bytes_of(tensor)
        shape = list(tensor.shape)
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": shape, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _parts(
    head: bytes, tensors: Sequence[StoredTensor], values: Iterator[Tensor]
) -> Iterator[bytes | memoryview]:
    yield head
    for tensor, value in zip(tensors, values, strict=True):
        assert value.dtype == TORCH_DTYPES[tensor.dtype], tensor.name
        assert tuple(value.shape) == tensor.shape, tensor.name
        flat: Any = value.contiguous().reshape(-1).view(torch.uint8).numpy()
        yield memoryview(flat)
