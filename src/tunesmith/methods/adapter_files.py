"""The files of a LoRA adapter, in the layout of the PEFT library, which loads them as its own.

adapter_config.json            what the adapter is: rank, alpha, targets, the base model
adapter_model.safetensors      base_model.model.<path>.lora_A.weight, ...lora_B.weight, fp32

Shapes: O outputs, I inputs, R rank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from tunesmith.core.errors import Fault, ModelError
from tunesmith.core.run_dir import disk_error, write_json
from tunesmith.recipe.adapter_config import (
    CONFIG_FILE,
    AdapterConfig,
    AdapterType,
    read_adapter_config,
)

WEIGHTS_FILE = "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."
MAX_NAMES_IN_MESSAGE = 5
FACTOR_A, FACTOR_B = ".lora_A.weight", ".lora_B.weight"
MAGNITUDE = ".lora_magnitude_vector"


@dataclass(frozen=True, eq=False)
class Update:
    """What an adapter does to one matrix: W + scale B A, whose rows DoRA gives `magnitude_O`."""

    a_RI: Tensor
    b_OR: Tensor
    scale: float
    magnitude_O: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter as its files hold it; `updates` by the path of the module that each changes.

    `copies` are weights of the base by name: PEFT adds embeddings where the head is a target.
    `whole` are trained weights by name, which take the place of the base's.
    """

    folder: Path
    config: AdapterConfig
    updates: Mapping[str, Update]
    copies: Mapping[str, Tensor]
    whole: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    def require_copies(self, weight_of: Callable[[str], Tensor | None]) -> None:
        """See to it that what the file holds of the base is what the base has.

        Raises:
            ModelError: it differs: the weights were trained, too.
        """
        for name, copy in self.copies.items():
            own = weight_of(name.replace(".base_layer.", "."))
            if own is None or not _is_same(own, copy):
                found = f"the adapter brings a weight of its own that the base has not: {name}"
                fix = "use an adapter whose embeddings and head are the base's"
                fault = Fault(found=found, where=str(self.folder), fix=fix)
                raise ModelError(fault, code="adapter_unsupported")


def write_adapter(
    folder: Path,
    updates: Mapping[str, Update],
    *,
    base: str,
    type: AdapterType,
    alphas: Mapping[str, float],
    dropout: float,
    whole: Mapping[str, Tensor] | None = None,
    task: str | None = "CAUSAL_LM",
) -> None:
    """Write both files; the weights are read back and compared with what was trained.

    `whole` are weights that were trained whole, by name; `task` is PEFT's word for what the model
    does.

    Raises:
        RunError: the disk is full or cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named = {**named_tensors(updates), **(whole or {})}
    write_weights(folder, {PEFT_PREFIX + name: value for name, value in named.items()})
    ranks = {path: update.a_RI.shape[0] for path, update in updates.items()}
    values = {
        "base_model_name_or_path": base,
        "lora_dropout": dropout,
        "task_type": task,
        **_whole_config(whole or {}),
    }
    write_json(folder / CONFIG_FILE, {**_peft_config(ranks, alphas, type), **values})


def write_weights(folder: Path, held: Mapping[str, Tensor]) -> None:
    """Write an adapter's tensors by their names in the file; they are read back and compared.

    Raises:
        RunError: the disk is full or cannot be written.
    """
    weights = folder / WEIGHTS_FILE
    try:
        safetensors.torch.save_file(dict(held), weights, metadata={"format": "pt"})
    except (OSError, safetensors.SafetensorError) as error:
        raise disk_error(weights, as_os_error(error)) from error
    written = safetensors.torch.load_file(weights)
    assert written.keys() == held.keys(), "the file holds other names than were trained"
    assert all(written[name].equal(held[name].cpu()) for name in held), "the file differs"


def as_os_error(error: Exception) -> OSError:
    """Find the system's error in one of safetensors', which only quotes its number."""
    if isinstance(error, OSError):
        return error
    number = str(error).partition("os error ")[2].partition(")")[0]
    return OSError(int(number) if number.isdigit() else 5, str(error))


def named_tensors(updates: Mapping[str, Update]) -> dict[str, Tensor]:
    """Return the tensors of updates by their names in the file, without its prefix."""
    named: dict[str, Tensor] = {}
    for path, update in updates.items():
        named[path + FACTOR_A], named[path + FACTOR_B] = update.a_RI, update.b_OR
        if update.magnitude_O is not None:
            named[path + MAGNITUDE] = update.magnitude_O
    return {name: tensor.detach().contiguous() for name, tensor in named.items()}


def _peft_config(
    ranks: Mapping[str, int], alphas: Mapping[str, float], type: AdapterType
) -> dict[str, Any]:
    """The commonest rank and alpha, and patterns for the modules that have others."""
    ((rank, _),) = Counter(ranks.values()).most_common(1)
    ((alpha, _),) = Counter(alphas.values()).most_common(1)
    return {
        "alpha_pattern": {path: value for path, value in alphas.items() if value != alpha},
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": alpha,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {path: value for path, value in ranks.items() if value != rank},
        # whole paths: a short name would also match layers that were not trained
        "target_modules": sorted(ranks),
        "use_dora": type == "dora",
        "use_rslora": type == "rslora",
    }


def _whole_config(whole: Mapping[str, Tensor]) -> dict[str, Any]:
    """Say what was trained whole, by whole paths: `norm` would be any module with that end to PEFT.

    An embedding and a head of equal values are one matrix, and stay one in PEFT.
    """
    paths = list(dict.fromkeys(name.rpartition(".")[0] for name in whole))
    names = {path.rpartition(".")[2] for path in paths}
    values = [value for name, value in whole.items() if name.rpartition(".")[2] == "weight"]
    tied = any(
        one is not other and one.shape == other.shape and one.equal(other)
        for one in values
        for other in values
    )
    return {
        "modules_to_save": paths or None,
        "ensure_weight_tying": tied and {"embed_tokens", "lm_head"} <= names,
    }


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter that Tunesmith or PEFT wrote.

    Raises:
        ModelError: the folder holds no adapter, one of a kind that is not known here, or one whose
            tensors and settings contradict each other.
    """
    config = read_adapter_config(folder)
    held = {
        # copied: where a file's tensors begin decides which kernels multiply them
        name.removeprefix(PEFT_PREFIX): tensor.to(torch.float32, copy=True)
        for name, tensor in read_weights(folder).items()
    }
    if any(".lora_embedding_" in name for name in held):
        raise ModelError(_embedding_fault(folder), code="adapter_unsupported")
    paths = dict.fromkeys(
        name.removesuffix(end)
        for name in held
        for end in (FACTOR_A, FACTOR_B)
        if name.endswith(end)
    )
    faults: list[Fault] = []
    updates: dict[str, Update] = {}
    for path in paths:
        a, b = held.pop(path + FACTOR_A, None), held.pop(path + FACTOR_B, None)
        # `.weight` where the file is of an older version of PEFT
        magnitude = held.pop(path + MAGNITUDE, held.pop(path + MAGNITUDE + ".weight", None))
        fault = _fault_of(path, a, b, magnitude, config)
        if fault or a is None or b is None:
            faults.append(Fault(found=str(fault), where=str(folder), fix=_COPY_AGAIN))
        else:
            updates[path] = Update(a, b, config.scale_of(path), magnitude)
    whole, copies = _whole_weights(held, config)
    faults += [
        Fault(
            found=f"no weight of {name}, which modules_to_save has",
            where=str(folder),
            fix=_COPY_AGAIN,
        )
        for name in config.whole
        if not any(replace(config, whole=(name,)).is_whole(_module_of(weight)) for weight in whole)
    ]
    if held or faults or not updates:
        raise ModelError([*faults, *_left_over(held, len(updates), folder)], code="adapter_damaged")
    return Adapter(folder, config, updates, copies, whole)


_COPY_AGAIN = "copy the adapter again from where it was trained"


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read an adapter's tensors by their names in the file.

    Raises:
        ModelError: the file is not there, cannot be read, or holds values that are not finite.
    """
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise ModelError(_no_weights(folder))
    try:
        held = safetensors.torch.load_file(weights)
    except (OSError, safetensors.SafetensorError) as error:
        fault = Fault(found=f"unreadable: {error}", where=str(weights), fix=_COPY_AGAIN)
        raise ModelError(fault) from error
    wrong = [name for name, tensor in held.items() if not bool(torch.isfinite(tensor).all())]
    if wrong:
        found = f"values that are not finite (NaN or infinite) in {len(wrong)} tensors: {wrong[0]}"
        fix = "train it again: a run that diverges leaves such values"
        raise ModelError(Fault(found=found, where=str(weights), fix=fix), code="not_finite")
    return held


def _is_whole_weight(name: str) -> bool:
    return name.endswith(".weight") and "lora_" not in name


def _whole_weights(
    held: dict[str, Tensor], config: AdapterConfig
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Take out the weights that were trained whole, and those that are copies of the base's."""
    whole = {name: held.pop(name) for name in [*held] if _is_trained_whole(name, config)}
    copies = {name: held.pop(name) for name in [*held] if _is_whole_weight(name)}
    # PEFT writes the head beside an embedding that it is tied to, without naming it.
    for name in [*copies] if whole else []:
        if any(_is_same(value, copies[name]) for value in whole.values()):
            whole[name] = copies.pop(name)
    return whole, copies


def _is_trained_whole(name: str, config: AdapterConfig) -> bool:
    return "lora_" not in name and config.is_whole(_module_of(name))


def _module_of(name: str) -> str:
    return name.rpartition(".")[0]


def _is_same(own: Tensor, copy: Tensor) -> bool:
    return own.shape == copy.shape and own.float().equal(copy.to(own.dtype).float())


def _fault_of(
    path: str, a: Tensor | None, b: Tensor | None, magnitude: Tensor | None, config: AdapterConfig
) -> str | None:
    if a is None or b is None:
        return f"{path} has no factor lora_{'A' if a is None else 'B'}"
    rank = config.rank_of(path)
    if a.shape[0] != rank or b.shape[1] != rank:
        return f"{path} has factors of rank {a.shape[0]} and {b.shape[1]}; its settings say {rank}"
    if (magnitude is not None) != config.is_dora:
        has = "a length" if magnitude is not None else "no length"
        return f"{path} has {has}, and use_dora is {config.is_dora}"
    if not config.aims_at(path):
        return f"{path} has factors, and target_modules do not name it"
    return None


def _embedding_fault(folder: Path) -> Fault:
    return Fault(
        found="factors of the token embedding, which adapters here do not change",
        where=str(folder / WEIGHTS_FILE),
        fix="merge it into its base with PEFT, or train it again with modules_to_save",
    )


def _left_over(held: Mapping[str, Tensor], num_updates: int, folder: Path) -> list[Fault]:
    if not held and num_updates:
        return []
    named = ", ".join(sorted(held)[:MAX_NAMES_IN_MESSAGE])
    found = f"{len(held)} tensors that are no pair of factors: {named}" if held else "no factors"
    return [Fault(found=found, where=str(folder / WEIGHTS_FILE), fix=_COPY_AGAIN)]


def _no_weights(folder: Path) -> Fault:
    older = folder / "adapter_model.bin"
    found = f"no {WEIGHTS_FILE}"
    fix = _COPY_AGAIN
    if older.is_file():
        found = "unsupported weight file adapter_model.bin"
        fix = "load it with PEFT and save it with save_pretrained, which writes safetensors"
    return Fault(found=found, where=str(folder), fix=fix)
