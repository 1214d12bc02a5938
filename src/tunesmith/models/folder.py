"""What a model folder must hold, told from its files alone (nothing is loaded).

config.json                                 the architecture
model.safetensors                           the weights, or
model.safetensors.index.json + its shards
tokenizer.json (or another vocabulary)      the tokenizer
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.core.errors import Fault, ModelError

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tekken.json",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
)
# The JSON at the head of a safetensors file; the format's own limit.
MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a safetensors file, by its header."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def check_model_folder(folder: Path) -> None:
    """Raises a ModelError with every fault of a folder that is to be a model."""
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ModelError(_adapter_fault(folder), code="model_is_adapter")
    if faults := _faults(folder):
        raise ModelError(faults, code="model_incomplete")


def is_model_folder(folder: Path) -> bool:
    """Whether a folder holds a whole model."""
    return not _faults(folder)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a folder; the single file goes before the index, as in loading."""
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    index = read_json(folder / WEIGHTS_INDEX)
    return tuple(folder / name for name in sorted(set(index["weight_map"].values())))


def stored_tensors(path: Path) -> tuple[StoredTensor, ...]:
    """The tensors of a safetensors file; a ValueError where it is cut off or none at all."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else MAX_HEADER_BYTES + 1
        if length > min(size, MAX_HEADER_BYTES):
            raise ValueError("it is not a safetensors file")
        header: dict[str, Any] = json.loads(file.read(length))
    header.pop("__metadata__", None)
    expected = 8 + length + max((t["data_offsets"][1] for t in header.values()), default=0)
    if size != expected:
        raise ValueError(f"it has {size} bytes instead of {expected}")
    return tuple(
        StoredTensor(name, facts["dtype"], tuple(facts["shape"])) for name, facts in header.items()
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; a ValueError where it is none."""
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _faults(folder: Path) -> list[Fault]:
    if not (folder / "config.json").is_file() and not any(folder.glob("*.safetensors")):
        # Not a model at all: one sentence instead of three.
        return [_missing_config(folder)]
    return [*_config_faults(folder), *_weight_faults(folder), *_tokenizer_faults(folder)]


def _adapter_fault(folder: Path) -> Fault:
    try:
        base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    except (OSError, ValueError):
        base = None
    return Fault(
        found=f"{folder} holds an adapter, not a model"
        + (f"; it was trained on {base}" if base else ""),
        where=str(folder / "adapter_config.json"),
        fix=f"name the base model {base} instead" if base else "name its base model instead",
    )


def _config_faults(folder: Path) -> list[Fault]:
    file = folder / "config.json"
    if not file.is_file():
        return [_missing_config(folder)]
    try:
        config = read_json(file)
    except (OSError, ValueError) as error:
        fix = "replace it with the model's own config.json"
        return [Fault(found=f"config.json cannot be read: {error}", where=str(file), fix=fix)]
    if not isinstance(config.get("model_type"), str):
        fix = "replace it with the model's own config.json"
        return [Fault(found="config.json names no model_type", where=str(file), fix=fix)]
    if isinstance(config.get("quantization_config"), dict):
        method = config["quantization_config"].get("quant_method", "an unnamed method")
        return [
            Fault(
                found=f"the weights are stored quantised ({method})",
                where=str(file),
                fix="name the model's unquantised original",
            )
        ]
    return []


def _missing_config(folder: Path) -> Fault:
    inside = [child.name for child in sorted(folder.iterdir()) if _is_model(child)]
    fix = "name a folder that holds config.json, model.safetensors and the tokenizer's files"
    if inside:
        fix = "did you mean " + " or ".join(str(folder / name) for name in inside[:5]) + "?"
    return Fault(found="no config.json: this is not a model folder", where=str(folder), fix=fix)


def _is_model(child: Path) -> bool:
    return child.suffix == ".gguf" or (child.is_dir() and (child / "config.json").is_file())


def _weight_faults(folder: Path) -> list[Fault]:
    if not (folder / WEIGHTS).is_file() and not (folder / WEIGHTS_INDEX).is_file():
        return [_no_weights(folder)]
    try:
        files = weight_files(folder)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        found = f"{WEIGHTS_INDEX} cannot be read: {error}"
        return [Fault(found=found, where=str(folder / WEIGHTS_INDEX), fix="copy it again")]
    return [fault for file in files if (fault := _weight_file_fault(file)) is not None]


def _no_weights(folder: Path) -> Fault:
    pickles = sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt"))
    if pickles:
        return Fault(
            found=f"the weights are in {pickles[0].name}, a pickle file, which can run code "
            "when it is read and is not loaded",
            where=str(folder),
            fix="convert them once: load the model with transformers and save_pretrained it "
            "to a folder, which writes model.safetensors",
        )
    return Fault(
        found=f"no weights: neither {WEIGHTS} nor {WEIGHTS_INDEX}",
        where=str(folder),
        fix="copy the model's safetensors files into the folder",
    )


def _weight_file_fault(file: Path) -> Fault | None:
    try:
        stored_tensors(file)
    except FileNotFoundError:
        reason = "is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"cannot be used: {error}"
    else:
        return None
    return Fault(
        found=f"{file.name} {reason}",
        where=str(file),
        fix="copy or download it again; a Git LFS pointer must be pulled first",
    )


def _tokenizer_faults(folder: Path) -> list[Fault]:
    if any((folder / name).is_file() for name in TOKENIZER_FILES):
        return []
    return [
        Fault(
            found="no tokenizer: none of " + ", ".join(TOKENIZER_FILES),
            where=str(folder),
            fix="copy the tokenizer's files of the model into the folder",
        )
    ]
