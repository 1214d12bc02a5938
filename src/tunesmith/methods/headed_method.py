"""A method on a model with a head: the head is trained whole beside it, and saved with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from torch import nn

from tunesmith.core.errors import Fault, ModelError, RecipeError
from tunesmith.core.run_dir import read_json, write_json
from tunesmith.methods.adapter_files import PEFT_PREFIX, read_weights, write_weights
from tunesmith.methods.attach import continue_adapter
from tunesmith.methods.base import AppliedMethod, Shape
from tunesmith.methods.full import apply_full
from tunesmith.methods.lora_method import AppliedLora, OriginalWeight, apply_lora
from tunesmith.methods.task_word import peft_task
from tunesmith.methods.whole import WholeModules, train_whole
from tunesmith.models.headed import HeadedModel
from tunesmith.recipe.adapter_config import CONFIG_FILE
from tunesmith.recipe.method import FullMethod, LoraMethod, Method
from tunesmith.recipe.peft_method import PeftMethod


@dataclass(frozen=True, eq=False)
class AppliedWithHead:
    """A method of the library's, and the modules that are new in the model."""

    inner: AppliedMethod
    whole: WholeModules
    task: str | None

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """What the method trains, and the head."""
        return {**self.inner.trainable, **self.whole.masters}

    @property
    def rate_factors(self) -> Mapping[str, float]:
        """Those of the method."""
        return self.inner.rate_factors

    def publish(self) -> None:
        """Let the model compute with the values that `trainable` now has."""
        self.inner.publish()
        self.whole.publish()

    def save(self, folder: Path, *, base: str) -> None:
        """Write the adapter as the library does, with the head among its tensors."""
        self.inner.save(folder, base=base)
        values = {PEFT_PREFIX + name: value for name, value in self.whole.saved().items()}
        write_weights(folder, {**read_weights(folder), **values})
        paths = list(dict.fromkeys(name.rpartition(".")[0] for name in self.whole.saved()))
        config = read_json(folder / CONFIG_FILE)
        own = {"modules_to_save": paths, "task_type": self.task}
        write_json(folder / CONFIG_FILE, {**config, **own})

    def saved_shapes(self) -> dict[str, Shape]:
        """The method's, and the head's."""
        own = {PEFT_PREFIX + name: shape for name, shape in self.whole.saved_shapes().items()}
        return {**self.inner.saved_shapes(), **own}


def apply_headed(
    headed: HeadedModel,
    part: Method,
    *,
    seed: int,
    original: OriginalWeight | None = None,
    steps: int = 1,
) -> AppliedMethod:
    """Apply a method to a model with a head, in place; what is new in the model is trained whole.

    Raises:
        RecipeError: the method does not fit the model, or cannot train a head.
        ModelError: the adapter to go on from does not fit the model.
    """
    model, new = headed.model, headed.new
    match part:
        case LoraMethod(adapter=str()):
            return _with_values(continue_adapter(model, part), part, new)
        case LoraMethod():
            whole = (*part.modules_to_save, *(path for path in new))
            part = part.model_copy(update={"modules_to_save": tuple(dict.fromkeys(whole))})
            return apply_lora(model, part, seed=seed, original=original)
        case FullMethod():
            return apply_full(model)
        case PeftMethod():
            _require_room_for_head(part)
            # The library takes a second to import, which few runs need.
            from tunesmith.methods.peft_library import apply_peft

            inner = apply_peft(model, part, seed=seed, steps=steps)
            return AppliedWithHead(inner, train_whole(model, new), peft_task(model))
        case _:
            assert_never(part)


def _with_values(applied: AppliedLora, part: LoraMethod, new: tuple[str, ...]) -> AppliedLora:
    """See to it that an adapter brings the head that the model's folder lacks."""
    held = set(applied.whole.masters) if applied.whole else set[str]()
    lacking = [path for path in new if not any(name.startswith(f"{path}.") for name in held)]
    if lacking:
        fault = Fault(
            found=f"the adapter brings no {lacking[0]}, which the task needs",
            where=f"recipe: method.adapter: {part.adapter}",
            fix="merge it into its base first (tunesmith merge), and train on the result",
        )
        raise ModelError(fault, code="adapter_mismatch")
    return applied


def _require_room_for_head(part: PeftMethod) -> None:
    if part.row.kind != "prompt" and part.row.peft != "ADALORA":
        return
    fault = Fault(
        found=f"method {part.type} with a head, which its files have no place for",
        where="recipe: method.type",
        fix="use method: lora, or set task.head: false",
    )
    raise RecipeError(fault, code="method_unsupported")
