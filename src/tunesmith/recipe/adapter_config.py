"""What a LoRA adapter says of itself in adapter_config.json, the PEFT library's file.

Settings that the layers here compute with are read, those that only mattered in training are passed
over, and those that change what an adapter computes in another way are refused by name. A setting
that this version has never heard of is refused where it has a value, and told where it has none.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from tunesmith.core.errors import Fault, ModelError
from tunesmith.core.run_dir import read_json
from tunesmith.recipe.peft_method import ROWS

log = logging.getLogger(__name__)

CONFIG_FILE = "adapter_config.json"
AdapterType = Literal["lora", "rslora", "dora"]
Number = TypeVar("Number", int, float)

# What a setting does that an adapter here does not; refused where it is used.
REFUSED: dict[str, str] = {
    "alora_invocation_tokens": "it begins to act at certain tokens (aLoRA)",
    "arrow_config": "it chooses among adapters token by token (Arrow)",
    "bias": "it brings biases of the base model's layers",
    "kasa_config": "it computes with singular values of its own (KaSA)",
    "layer_replication": "it runs layers more than once",
    "lora_bias": "it has biases of its own",
    "megatron_config": "it is cut up for Megatron's parallel layers",
    "monteclora_config": "it draws its factors at random (MonteCLoRA)",
    "target_parameters": "it changes parameters that are no linear layer's",
    "trainable_token_indices": "it brings rows of the token embedding",
    "use_bdlora": "its factors are block-diagonal (BD-LoRA)",
    "use_qalora": "it pools its inputs (QA-LoRA)",
    "velora_config": "it compresses what it reads (VeLoRA)",
}
# These starts take something from the base's weights, so the adapter fits the changed base only.
BASE_CHANGING_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")
HARMLESS_STARTS = ("gaussian", "orthogonal", "eva")
READ = {
    "alpha_pattern", "base_model_name_or_path", "exclude_modules", "init_lora_weights",
    "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "modules_to_save",
    "peft_type", "r", "rank_pattern", "target_modules", "use_dora", "use_rslora",
}  # fmt: skip
# Of training, of saving, or of a setting beside them that is refused. fan_in_fan_out says how the
# base keeps its matrix, which its layers tell themselves; ensure_weight_tying, that two modules
# that are trained whole are one, which their values tell.
PASSED_OVER = {
    "auto_mapping", "corda_config", "ensure_weight_tying", "eva_config", "fan_in_fan_out",
    "inference_mode", "loftq_config", "lora_ga_config", "megatron_core", "peft_version",
    "qalora_group_size", "revision", "runtime_config", "task_type",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """What a LoRA adapter is, beside its tensors.

    `rank` and `alpha` hold where no pattern matches a module's path. `targets` are names or, as one
    text, a regular expression (or `all-linear`).
    """

    base: str
    rank: int
    alpha: float
    dropout: float = 0.0
    is_dora: bool = False
    is_rslora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict[str, int])
    alpha_pattern: Mapping[str, float] = field(default_factory=dict[str, float])
    targets: tuple[str, ...] | str = ()
    excluded: tuple[str, ...] | str = ()
    layers: tuple[int, ...] = ()
    layers_pattern: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    """Ends of the paths of modules that were trained whole."""

    @property
    def type(self) -> AdapterType:
        """The method's word in a recipe."""
        if self.is_dora:
            return "dora"
        return "rslora" if self.is_rslora else "lora"

    def rank_of(self, path: str) -> int:
        """The rank of the module at `path`."""
        return _by_pattern(self.rank_pattern, path, self.rank)

    def scale_of(self, path: str) -> float:
        """The factor of the module's update: alpha / rank, with rslora alpha / sqrt(rank)."""
        rank = self.rank_of(path)
        alpha = _by_pattern(self.alpha_pattern, path, self.alpha)
        return alpha / (rank**0.5 if self.is_rslora else rank)

    def aims_at(self, path: str) -> bool:
        """Whether the module at `path` is one of the targets, as PEFT decides it."""
        if (self.excluded and _is_named(self.excluded, path)) or self.is_whole(path):
            return False
        if self.targets == "all-linear":
            return True
        if isinstance(self.targets, str):
            return re.fullmatch(self.targets, path) is not None
        if path in self.targets:
            return True
        return _is_named(self.targets, path) and (not self.layers or self._layer(path))

    def is_whole(self, path: str) -> bool:
        """Whether the module at `path` is one that was trained whole, or in one.

        PEFT takes every module whose path has such an end, also within a word.
        """
        parts = path.split(".")
        above = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
        return any(one.endswith(name) for one in above for name in self.whole)

    def _layer(self, path: str) -> bool:
        """Whether the module is in one of the layers that are counted in `layers`."""
        patterns = [rf"(?:^|.*?\.){name}\.(\d+)\." for name in self.layers_pattern]
        found = (re.match(one, path) for one in patterns or [r".*?\.[^.]*\.(\d+)\."])
        match = next((match for match in found if match), None)
        return match is not None and int(match.group(1)) in self.layers


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Read the adapter_config.json of a folder.

    Raises:
        ModelError: it is not there, or it is of a kind that is not known here, or uses a setting
            that is not known here.
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise ModelError(_no_config(folder))
    values = cast(dict[str, Any], read_json(file))
    faults = [*_kind_faults(values, file), *_setting_faults(values, file)]
    if faults:
        raise ModelError(faults, code="adapter_unsupported")
    return _as_config(values, file)


def library_word(folder: Path) -> str | None:
    """The recipe's word for an adapter's method, where the PEFT library computes it."""
    file = folder / CONFIG_FILE
    values: object = read_json(file) if file.is_file() else None
    kind = cast(dict[str, Any], values).get("peft_type") if isinstance(values, dict) else None
    return next((word for word, row in ROWS.items() if row.peft == kind), None)


def base_of(folder: Path) -> str:
    """Which base model an adapter names; a path may be one from the adapter's own folder.

    Raises:
        ModelError: it names none.
    """
    file = folder / CONFIG_FILE
    named = str(cast(dict[str, Any], read_json(file)).get("base_model_name_or_path") or "")
    if not named:
        fix = "name the base model: tunesmith chat BASE --adapter FOLDER"
        raise ModelError(Fault(found="it names no base model", where=str(file), fix=fix))
    beside = folder / named
    is_beside = not Path(named).expanduser().exists() and beside.exists()
    return str(beside.resolve()) if is_beside else named


def adapter_kind(folder: Path) -> str:
    """PEFT's word for the kind of an adapter, such as LORA; empty where the file says none."""
    values = cast(dict[str, Any], read_json(folder / CONFIG_FILE))
    return str(values.get("peft_type") or "")


def _as_config(values: Mapping[str, Any], file: Path) -> AdapterConfig:
    try:
        return AdapterConfig(
            base=str(values.get("base_model_name_or_path") or ""),
            rank=int(values["r"]),
            alpha=float(values["lora_alpha"]),
            dropout=float(values.get("lora_dropout") or 0.0),
            is_dora=bool(values.get("use_dora")),
            is_rslora=bool(values.get("use_rslora")),
            rank_pattern={key: int(rank) for key, rank in _items(values, "rank_pattern")},
            alpha_pattern={key: float(alpha) for key, alpha in _items(values, "alpha_pattern")},
            targets=_names(values.get("target_modules")),
            excluded=_names(values.get("exclude_modules")),
            layers=tuple(map(int, _listed(values.get("layers_to_transform")))),
            layers_pattern=tuple(map(str, _listed(values.get("layers_pattern")))),
            whole=tuple(map(str, _listed(values.get("modules_to_save")))),
        )
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        fix = "copy the adapter again from where it was trained"
        fault = Fault(found=f"{CONFIG_FILE} cannot be used: {reason}", where=str(file), fix=fix)
        raise ModelError(fault, code="adapter_unsupported") from error


def _kind_faults(values: Mapping[str, Any], file: Path) -> list[Fault]:
    kind = values.get("peft_type")
    if kind == "LORA":
        return []
    fix = "use an adapter of LoRA layers (lora, rslora, dora)"
    return [Fault(found=f"an adapter of the type {kind}", where=str(file), fix=fix)]


def _setting_faults(values: Mapping[str, Any], file: Path) -> list[Fault]:
    fix = "use an adapter without it; PEFT itself may merge this one into its base model"
    faults = [
        Fault(found=f"LoRA with {key}: {reason}", where=str(file), fix=fix)
        for key, reason in REFUSED.items()
        if _is_used(values.get(key)) and values.get(key) != "none"
    ]
    start = values.get("init_lora_weights", True)
    if isinstance(start, str) and not start.startswith(HARMLESS_STARTS):
        faults.append(_start_fault(start, file))
    unknown = sorted(values.keys() - READ - PASSED_OVER - REFUSED.keys())
    faults += [_unknown_fault(key, values, file) for key in unknown if _is_used(values[key])]
    unused = [key for key in unknown if not _is_used(values[key])]
    if unused and not faults:
        log.warning("%s has settings that are not known here and not used: %s", file, unused)
    return faults


def _is_used(value: object) -> bool:
    return value is not None and value is not False and value not in ("", [], {})


def _start_fault(start: str, file: Path) -> Fault:
    if start.startswith(BASE_CHANGING_STARTS):
        found = f"init_lora_weights {start}: it fits a base whose weights that start has changed"
        fix = "save it with PEFT's path_initial_model_for_weight_conversion, which makes it plain"
        if start == "loftq":
            fix = "merge it with PEFT into the quantised base that it was trained on"
        return Fault(found=found, where=str(file), fix=fix)
    fix = "use an adapter with another start"
    return Fault(found=f"init_lora_weights {start} is not known", where=str(file), fix=fix)


def _unknown_fault(key: str, values: Mapping[str, Any], file: Path) -> Fault:
    theirs = values.get("peft_version") or "a version that it does not name"
    found = f"{key}: {values[key]!r} is not known here; written by peft {theirs}"
    return Fault(
        found=f"{found}, this machine has {_installed()}",
        where=str(file),
        fix=f"use a version of Tunesmith that knows {key}",
    )


def _installed() -> str:
    try:
        return f"peft {version('peft')}"
    except PackageNotFoundError:
        return "no peft"


def _by_pattern(pattern: Mapping[str, Number], path: str, otherwise: Number) -> Number:
    """The first pattern counts that matches the end of a path, at a dot or at its beginning."""
    for key, value in pattern.items():
        if re.match(rf"(.*\.)?({key})$", path):
            return value
    return otherwise


def _is_named(names: tuple[str, ...] | str, path: str) -> bool:
    if isinstance(names, str):
        return re.fullmatch(names, path) is not None
    return any(path == name or path.endswith("." + name) for name in names)


def _items(values: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    return list(cast(dict[str, Any], values.get(key) or {}).items())


def _names(value: object) -> tuple[str, ...] | str:
    return value if isinstance(value, str) else tuple(map(str, _listed(value)))


def _listed(value: object) -> Sequence[Any]:
    if value is None:
        return ()
    return cast("list[Any]", value) if isinstance(value, list) else (value,)


def _no_config(folder: Path) -> Fault:
    inner = sorted(file.parent.name for file in folder.glob(f"*/{CONFIG_FILE}"))
    found = "no adapter here" + (f"; found {inner[-1]}" if inner else "")
    fix = f"name {folder / inner[-1]}" if inner else f"name the folder with {CONFIG_FILE}"
    return Fault(found=found, where=str(folder), fix=fix)
