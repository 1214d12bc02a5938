"""Which weights an adapter was trained on, kept beside it as base.json.

adapter_config.json names the base, and a name may come to mean other weights. The hashes of the
base's weight files do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from tunesmith.core.errors import Fault, ModelError
from tunesmith.core.run_dir import read_json, write_json
from tunesmith.models.prepare import PreparedModel

BASE_FILE = "base.json"


def write_base_record(folder: Path, base: PreparedModel) -> None:
    """Write base.json into an adapter's folder.

    Raises:
        RunError: the disk is full or cannot be written.
    """
    record = {"name": base.name, "origin": dict(base.origin), "sha256s": dict(base.sha256s)}
    write_json(folder / BASE_FILE, record)


def require_base(folder: Path, base: PreparedModel) -> bool:
    """Say whether the adapter in `folder` is known to belong to these weights.

    Raises:
        ModelError: it was trained on others.
    """
    file = folder / BASE_FILE
    if not file.is_file():
        return False
    record = cast(dict[str, Any], read_json(file))
    known = cast(Mapping[str, str], record.get("sha256s") or {})
    if sorted(known.values()) == sorted(base.sha256s.values()):
        return True
    fault = Fault(
        found=f"the adapter was trained on other weights ({record.get('name')}) than those of "
        f"{base.name}: their hashes differ",
        where=str(file),
        fix=f"name the base that it was trained on ({record.get('name')}); if these are the same "
        "weights in other files, remove base.json",
    )
    raise ModelError(fault, code="adapter_mismatch")
