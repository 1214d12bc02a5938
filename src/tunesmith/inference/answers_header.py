"""The header of a file of answers: everything that an answer depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from tunesmith import __version__
from tunesmith.core.file_hash import file_sha256
from tunesmith.data.asked import AskedRows
from tunesmith.data.rows import DataFile
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.inference.loading import Loaded


def what_answers_depend_on(
    loaded: Loaded, rows: AskedRows, files: Sequence[DataFile], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that an answer depends on; hashes of what is large."""
    judgement, part = rows.judgement, rows.part
    return {
        "tunesmith": __version__,
        "input_sha256": _files_sha256(files),
        "model_sha256": weights_sha256(loaded.model),
        "tokenizer_sha256": _tokenizer_sha256(loaded.tokenizer),
        "task": judgement.task,
        "form": judgement.form,
        "columns": dict(judgement.columns),
        "renamed": dict(rows.renamed),
        "system": part.system,
        "system_role": part.system_role,
        "turn_order": part.turn_order,
        "head": asdict(loaded.headed.head) if loaded.headed else None,
        **settings,
    }


def weights_sha256(model: torch.nn.Module) -> str:
    """The hash of all that a model computes with, its adapters too."""
    digest = hashlib.sha256()
    state: dict[str, Any] = model.state_dict()
    for name, tensor in sorted(state.items()):
        if not isinstance(tensor, torch.Tensor):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _tokenizer_sha256(tokenizer: Tokenizer) -> str:
    text = tokenizer.backend_tokenizer.to_str() + str(tokenizer.chat_template)
    return hashlib.sha256(text.encode()).hexdigest()


def _files_sha256(files: Sequence[DataFile]) -> str:
    hashes = [file_sha256(path) for file in files for path in (file.path, *file.beside)]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
