"""The files of a LoRA adapter, in the layout of the PEFT library, which loads them as its own.

adapter_config.json            what the adapter is: rank, alpha, targets, the base model
adapter_model.safetensors      base_model.model.<path>.lora_A.weight, ...lora_B.weight, fp32
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import safetensors.torch
from torch import Tensor

from tunesmith.core.errors import Fault, ModelError
from tunesmith.core.run_dir import disk_error, read_json, write_json

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."
MAX_NAMES_IN_MESSAGE = 5
# Settings of PEFT that change what an adapter computes and that LoraLinear does not have; an
# adapter that uses one is refused. `None`, `False` and empty mean "not used".
UNKNOWN_EFFECTS = (
    "alpha_pattern",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "trainable_token_indices",
)


AdapterType = Literal["lora", "rslora", "dora"]


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """What a LoRA adapter is, beside its tensors."""

    base: str
    type: AdapterType = "lora"
    rank: int
    alpha: float
    dropout: float


def write_adapter(folder: Path, config: AdapterConfig, tensors: Mapping[str, Tensor]) -> None:
    """Write both files; the weights are read back and compared with what was trained.

    Raises:
        RunError: the disk is full or cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = {PEFT_PREFIX + name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    weights = folder / WEIGHTS_FILE
    try:
        safetensors.torch.save_file(held, weights, metadata={"format": "pt"})
    except (OSError, safetensors.SafetensorError) as error:
        raise disk_error(weights, as_os_error(error)) from error
    written = safetensors.torch.load_file(weights)
    assert written.keys() == held.keys(), "the file holds other names than were trained"
    assert all(written[name].equal(held[name]) for name in held), "the file differs"
    write_json(folder / CONFIG_FILE, _peft_config(config, list(tensors)))


def as_os_error(error: Exception) -> OSError:
    """Find the system's error in one of safetensors', which only quotes its number."""
    if isinstance(error, OSError):
        return error
    number = str(error).partition("os error ")[2].partition(")")[0]
    return OSError(int(number) if number.isdigit() else 5, str(error))


def _peft_config(config: AdapterConfig, names: list[str]) -> dict[str, Any]:
    paths = [name.removesuffix(".lora_A.weight") for name in names if ".lora_A." in name]
    return {
        "base_model_name_or_path": config.base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": config.rank,
        # whole paths: a short name would also match layers that were not trained
        "target_modules": sorted(paths),
        "task_type": "CAUSAL_LM",
        "use_dora": config.type == "dora",
        "use_rslora": config.type == "rslora",
    }


def read_adapter(folder: Path) -> tuple[AdapterConfig, dict[str, Tensor]]:
    """Read an adapter that Tunesmith or PEFT wrote; names come without PEFT's prefix.

    Raises:
        ModelError: the folder holds no adapter, or one of a kind that is not known here.
    """
    values = _read_config(folder)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise ModelError(_no_weights(folder))
    try:
        held = safetensors.torch.load_file(weights)
    except (OSError, safetensors.SafetensorError) as error:
        fix = "copy the adapter again from where it was trained"
        raise ModelError(
            Fault(found=f"unreadable: {error}", where=str(weights), fix=fix)
        ) from error
    config = AdapterConfig(
        base=str(values.get("base_model_name_or_path") or ""),
        type=_type_of(values),
        rank=int(values["r"]),
        alpha=float(values["lora_alpha"]),
        dropout=float(values.get("lora_dropout") or 0.0),
    )
    return config, {name.removeprefix(PEFT_PREFIX): tensor for name, tensor in held.items()}


def _type_of(values: Mapping[str, Any]) -> AdapterType:
    if values.get("use_dora"):
        return "dora"
    return "rslora" if values.get("use_rslora") else "lora"


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise ModelError(_no_config(folder))
    values = cast(dict[str, Any], read_json(file))
    kind = values.get("peft_type")
    unknown = [key for key in UNKNOWN_EFFECTS if values.get(key)]
    if values.get("use_dora") and values.get("use_rslora"):
        unknown += ["use_dora with use_rslora"]
    if kind == "LORA" and not unknown and values.get("bias", "none") == "none":
        return values
    found = f"an adapter of the type {kind}" if kind != "LORA" else f"LoRA with {unknown or 'bias'}"
    fix = "use an adapter of plain LoRA layers"
    raise ModelError(Fault(found=found, where=str(file), fix=fix), code="adapter_unsupported")


def _no_weights(folder: Path) -> Fault:
    older = folder / "adapter_model.bin"
    found = f"no {WEIGHTS_FILE}"
    fix = "copy the adapter again from where it was trained"
    if older.is_file():
        found = "unsupported weight file adapter_model.bin"
        fix = "load it with PEFT and save it with save_pretrained, which writes safetensors"
    return Fault(found=found, where=str(folder), fix=fix)


def _no_config(folder: Path) -> Fault:
    inner = sorted(file.parent.name for file in folder.glob(f"*/{CONFIG_FILE}"))
    found = "no adapter here" + (f"; found {inner[-1]}" if inner else "")
    fix = f"name {folder / inner[-1]}" if inner else "name the folder with adapter_config.json"
    return Fault(found=found, where=str(folder), fix=fix)
