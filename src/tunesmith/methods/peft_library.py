"""Methods that the PEFT library computes: the only place that imports it.

Its layers replace the model's own in place; its wrapper is kept for files alone and never computes.
Prompts are made by its encoders and put before the texts by methods/prompts.py.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import peft.tuners.boft.layer as boft_layers
import safetensors
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from torch import Tensor, nn

from tunesmith.core.errors import Fault, ModelError, RecipeError
from tunesmith.core.run_dir import write_json
from tunesmith.methods.adalora import AppliedAdalora
from tunesmith.methods.adapter_files import PEFT_PREFIX, read_weights, write_weights
from tunesmith.methods.base import AppliedMethod, Shape
from tunesmith.methods.prompts import put_prompt
from tunesmith.methods.targets import find_targets
from tunesmith.methods.task_word import peft_task
from tunesmith.methods.whole import put_whole
from tunesmith.models.linear import is_linear
from tunesmith.models.load import backbone
from tunesmith.recipe.adapter_config import CONFIG_FILE, library_word
from tunesmith.recipe.peft_method import ROWS, PeftMethod

ADAPTER = "default"  # the library's name for the only adapter
# The linear layers that (IA)^3 scales: keys, values and what enters the MLP's last product.
IA3_OUTPUTS = ("k_proj", "v_proj", "qkv_proj", "c_attn", "key", "value", "key_proj", "value_proj")
IA3_INPUTS = ("mlp.down_proj", "mlp.c_proj", "mlp.fc2", "output.dense")
# What the library raises for a file that is damaged or belongs to another model.
FAILURES = (ValueError, TypeError, KeyError, RuntimeError, OSError, safetensors.SafetensorError)
# AdaLoRA starts with half as many ranks again, and is left alone at both ends of a run.
ADALORA_SURPLUS = 1.5
ADALORA_BEGINNING, ADALORA_END = 0.1, 0.3

if not torch.cuda.is_available():
    # It would start a compiler for a CUDA extension, once for each layer, and go on without one.
    boft_layers.get_fbd_cuda = lambda: None


@dataclass(frozen=True, eq=False)
class AppliedPeft:
    """A method of the library in place; `wrapper` is its own view of the model."""

    wrapper: Any
    trainable: dict[str, nn.Parameter]

    @property
    def rate_factors(self) -> Mapping[str, float]:
        """All values learn at one rate."""
        return {}

    def publish(self) -> None:
        """Nothing: the layers compute with the trained values themselves."""

    def save(self, folder: Path, *, base: str) -> None:
        """Write the adapter as the library does; the weights are read back and compared.

        Raises:
            RunError: the disk is full or cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        state = _state(self.wrapper)
        # cloned: the library may have one tensor under two names, a file may not
        write_weights(folder, {name: value.detach().clone() for name, value in state.items()})
        own = {"base_model_name_or_path": base, "inference_mode": True}
        write_json(folder / CONFIG_FILE, {**_as_json(self.wrapper.peft_config[ADAPTER]), **own})

    def saved_shapes(self) -> dict[str, Shape]:
        """What the library saves."""
        return {name: tuple(value.shape) for name, value in _state(self.wrapper).items()}


def apply_peft(model: nn.Module, part: PeftMethod, *, seed: int, steps: int) -> AppliedMethod:
    """Apply a method of the library's to the model, in place, for a run of so many steps.

    Its random starts come from `seed` alone, the same in every process.

    Raises:
        RecipeError: the targets match nothing, or the method cannot be applied to such layers.
    """
    config = _config(model, part, steps)
    kept = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        try:
            wrapper: Any = peft.get_peft_model(model, config, adapter_name=ADAPTER)  # pyright: ignore[reportArgumentType]
        except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
            for parameter, was_trained in kept:
                parameter.requires_grad_(was_trained)
            raise RecipeError(_cannot(part, error), code="method_unsupported") from error
    _settle(model, wrapper, part.type)
    wrapper.train(model.training)
    applied = AppliedPeft(wrapper, _trainable(wrapper))
    if part.row.start_scale != 1.0:
        for value in applied.trainable.values():
            value.data.mul_(part.row.start_scale)
    if part.row.peft == "ADALORA":
        return AppliedAdalora(applied, wrapper.base_model, wrapper.peft_config[ADAPTER])
    return applied


def load_peft(model: nn.Module, folder: Path) -> AppliedPeft:
    """Put an adapter that the library knows, and this project does not compute, onto the model.

    A head that was trained beside it takes the place of the model's.

    Raises:
        ModelError: the adapter cannot be read, or does not fit.
    """
    word = library_word(folder)
    assert word is not None, "the adapter is of the library's"
    held = read_weights(folder)
    config: Any = peft.PeftConfig.from_pretrained(str(folder))
    whole = _take_whole(held, config.modules_to_save) if _has_whole(config) else {}
    if whole:
        put_whole(model, whole)
        config.modules_to_save = config.task_type = None  # by a task it would wrap the head again
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with torch.random.fork_rng(devices=[]):  # it draws values that the file's replace
                wrapper: Any = peft.PeftModel.from_pretrained(model, str(folder), config=config)  # pyright: ignore[reportArgumentType]
        except FAILURES as error:
            raise ModelError(_unfit(folder, str(error)), code="adapter_mismatch") from error
    _require_all(held, wrapper, folder)
    _settle(model, wrapper, word)
    wrapper.eval()
    return AppliedPeft(wrapper, _trainable(wrapper))


def _as_json(config: Any) -> dict[str, Any]:
    """Sort what the library keeps in sets, so that the same adapter is the same file."""
    return {
        key: sorted(value) if isinstance(value, set) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        for key, value in sorted(config.to_dict().items())
    }


def _has_whole(config: Any) -> bool:
    return bool(getattr(config, "modules_to_save", None))


def _take_whole(held: dict[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Take the weights of whole modules out of what a file holds; return them by their names."""
    ends = tuple(names)
    modules = {name: name.removeprefix(PEFT_PREFIX).rpartition(".")[0] for name in held}
    chosen = [name for name, module in modules.items() if module.endswith(ends)]
    return {name.removeprefix(PEFT_PREFIX): held.pop(name).float() for name in chosen}


def _require_all(held: Mapping[str, Tensor], wrapper: Any, folder: Path) -> None:
    """See to it that every tensor found its place, which the library only warns of."""
    wrong = sorted(held.keys() ^ _state(wrapper).keys())
    if wrong:
        reason = f"{len(wrong)} tensors are in one of them only, such as {wrong[0]}"
        raise ModelError(_unfit(folder, reason), code="adapter_mismatch")


def _state(wrapper: Any) -> dict[str, Tensor]:
    """Return what is saved; "auto" for the embeddings would ask the hub about the base."""
    return peft.get_peft_model_state_dict(
        wrapper, adapter_name=ADAPTER, save_embedding_layers=False
    )


def _trainable(wrapper: Any) -> dict[str, nn.Parameter]:
    """Find what the library made trainable, by its names without the adapter's."""
    return {
        name.removeprefix(PEFT_PREFIX).replace(f".{ADAPTER}", ""): parameter
        for name, parameter in wrapper.named_parameters()
        if parameter.requires_grad
    }


def _settle(model: nn.Module, wrapper: Any, word: str) -> None:
    """Do what the library leaves to its users."""
    for name, parameter in wrapper.named_parameters():
        if ".ranknum." in name:  # AdaLoRA's number of ranks, which a cast makes trainable
            parameter.requires_grad_(False)
    if ROWS[word].peft == "SHIRA":
        torch.sparse.check_sparse_tensor_invariants.disable()  # said so, torch does not warn of it
    if ROWS[word].kind == "prompt":
        length = wrapper.peft_config[ADAPTER].num_virtual_tokens
        put_prompt(backbone(model), wrapper.get_prompt, length)


def _config(model: nn.Module, part: PeftMethod, steps: int) -> Any:
    row = part.row
    values: dict[str, Any] = {
        # of a model with a head the library would wrap the head, too, which is trained beside it
        "task_type": "CAUSAL_LM" if peft_task(model) == "CAUSAL_LM" else None,
        **row.fixed,
        **{row.names[name]: value for name, value in part.settings.items()},
    }
    if row.peft == "ADALORA":
        values |= {
            "init_r": math.ceil(ADALORA_SURPLUS * values["target_r"]),
            "total_step": steps,
            "tinit": int(ADALORA_BEGINNING * steps),
            "tfinal": int(ADALORA_END * steps),
        }
    match row.kind:
        case "layers":
            values["target_modules"] = _targets(model, part, values)
        case "norms":
            values["target_modules"] = _norms(model)
        case "prompt":
            pass
    kind: Any = PEFT_TYPE_TO_CONFIG_MAPPING[row.peft]  # pyright: ignore[reportArgumentType]
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise RecipeError(_cannot(part, error), code="method_unsupported") from error


def _targets(model: nn.Module, part: PeftMethod, values: dict[str, Any]) -> list[str]:
    """Return whole paths: a short name would also match layers that were not chosen."""
    is_ia3 = part.row.peft == "IA3"
    words = part.targets or (_ia3_layers(model) if is_ia3 else "all-linear")
    chosen = list(find_targets(model, words, part.exclude_targets))
    if is_ia3:
        values["feedforward_modules"] = [path for path in chosen if _ends(path, IA3_INPUTS)]
    return chosen


def _ia3_layers(model: nn.Module) -> tuple[str, ...]:
    paths = [path for path, module in model.named_modules() if is_linear(module)]
    chosen = tuple(path for path in paths if _ends(path, (*IA3_OUTPUTS, *IA3_INPUTS)))
    if not chosen:
        fault = Fault(
            found="this model names its keys, values and MLP in a way that is not known",
            where="recipe: method.targets",
            fix="set method.targets to the names of those layers",
        )
        raise RecipeError(fault)
    return chosen


def _ends(path: str, names: tuple[str, ...]) -> bool:
    return any(path.endswith(f".{name}") for name in names)


def _norms(model: nn.Module) -> list[str]:
    return [
        path
        for path, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        and next(module.parameters(False), None) is not None
    ]


def _cannot(part: PeftMethod, error: Exception) -> Fault:
    return Fault(
        found=f"method {part.type} cannot be applied to this model: {error}",
        where="recipe: method",
        fix="change what the message names, or use method: lora, which takes every linear layer",
    )


def _unfit(folder: Path, reason: str) -> Fault:
    return Fault(
        found=f"the adapter cannot be put onto this model: {reason}",
        where=str(folder),
        fix="use the base model that adapter_config.json names",
    )
