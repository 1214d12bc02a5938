"""What a run's numbers depend on beside its recipe: versions, machine, hashes of data and base.

A run that is resumed compares: with other data, another base model or another compute type it would
not be the same run, and is refused; another machine or version is only said.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from tunesmith import __version__
from tunesmith.core import hardware
from tunesmith.core.errors import Fault, UserError
from tunesmith.core.placed import as_named
from tunesmith.models.prepare import PreparedModel

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")
MUST_STAY = ("data_sha256", "base_sha256s", "dtype", "base", "seed")


def describe_environment(
    *,
    prepared: PreparedModel,
    data_sha256: Mapping[str, str],
    special_tokens: Mapping[str, int | None],
    dtype: str,
    device: str = "cpu",
    base: str | None,
    seed: int,
    ranks: int = 1,
) -> dict[str, Any]:
    """Return the content of environment.json."""
    return {
        "tunesmith": __version__,
        "packages": {name: version(name) for name in PACKAGES},
        "device": device,
        "ranks": ranks,
        "threads": torch.get_num_threads(),
        "machine": hardware.describe(),
        "dtype": dtype,
        "base": base,
        "seed": seed,
        "model": {
            "name": prepared.name,
            "folder": as_named(prepared.folder),
            "origin": dict(prepared.origin),
            "special_tokens": dict(special_tokens),
        },
        "base_sha256s": dict(prepared.sha256s),
        "data_sha256": dict(data_sha256),
    }


def compare_environments(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what else is different now, for a resumed run to say.

    Raises:
        UserError: data, base model, its form or the compute type changed since the start.
    """
    changed = [key for key in MUST_STAY if before.get(key) != now.get(key)]
    if changed:
        raise UserError(
            [
                Fault(
                    found=f"{key.replace('_', ' ')} changed since the run was started",
                    where=f"environment.json: {key}",
                    fix="put back what the run was started with, or start a new run",
                )
                for key in changed
            ],
            code="run_changed",
        )
    notes = [
        f"{key} changed since the run was started: the last digits of its numbers may differ"
        for key in ("tunesmith", "packages", "device", "ranks", "threads", "machine")
        if before.get(key, now.get(key)) != now.get(key)
    ]
    return notes
