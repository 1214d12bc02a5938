"""What holds between the parts of a recipe, each of which is right by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tunesmith.core.errors import Fault
from tunesmith.recipe.method import FullMethod, LoraMethod
from tunesmith.recipe.peft_method import ROWS, PeftMethod
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.strategy import (
    DdpStrategy,
    DeepSpeedStrategy,
    FsdpStrategy,
    SingleStrategy,
    spreads_weights,
)
from tunesmith.recipe.target import RayTarget
from tunesmith.recipe.task import PreferenceTask, has_head
from tunesmith.recipe.yaml_text import KeyPath

ON_QUANTISED = ("lora", "dora", *(word for word, row in ROWS.items() if row.on_quantised))

SPREADABLE = ("adamw",)  # optimizers whose state can be cut into equal parts
STORED = {"int8": "int8 with fp32 scales", "nf4": "uint8", "fp4": "uint8"}


def contradictions(recipe: Recipe, locate: Callable[[KeyPath], str]) -> Iterator[Fault]:
    """Yield a fault for each pair of values that cannot go together."""
    base, method = recipe.model.base, recipe.method
    yield from _strategy_faults(recipe, locate)
    yield from _storage_faults(recipe, locate)
    if recipe.training.head_learning_rate is not None and not has_head(recipe.task):
        yield Fault(
            found=f"a learning rate for a head, and task {recipe.task.type} trains none here",
            where=locate(("training", "head_learning_rate")),
            fix="remove it, or set task.head: true where the task has one",
        )
    if isinstance(method, PeftMethod):
        yield from _foreign_settings(method, locate)
        if base is not None and not method.row.on_quantised:
            yield Fault(
                found=f"method {method.type} reads the base's weights, and model.base {base} keeps "
                "them quantised",
                where=locate(("model", "base")),
                fix=f"leave model.base out, or use one of {', '.join(ON_QUANTISED)}",
            )
    if base is None and isinstance(method, LoraMethod) and method.init == "loftq":
        yield Fault(
            found="method.init loftq makes up for what quantising takes, and the base is not "
            "quantised",
            where=locate(("method", "init")),
            fix="set model.base: nf4, or leave method.init out",
        )
    if base is not None and isinstance(method, FullMethod):
        yield Fault(
            found=f"method full trains the base's weights, and model.base {base} keeps them frozen",
            where=locate(("model", "base")),
            fix="leave model.base out (training.optimizer: adamw-8bit saves memory, too), or use "
            "method: lora",
        )
    if base is not None and isinstance(method, LoraMethod) and method.init == "pissa":
        yield Fault(
            found=f"method.init pissa starts from the base's own weights, and model.base {base} "
            "rounds them",
            where=locate(("method", "init")),
            fix="use method.init: loftq, which starts from what was rounded away, or leave "
            "model.base out",
        )


def _storage_faults(recipe: Recipe, locate: Callable[[KeyPath], str]) -> Iterator[Fault]:
    """Parts of a checkpoint become one folder, which machines without a shared disk have not."""
    strategy, target = recipe.strategy, recipe.target
    in_parts = isinstance(strategy, FsdpStrategy) and strategy.checkpoints == "parts"
    if in_parts and isinstance(target, RayTarget) and target.storage is not None:
        yield Fault(
            found="strategy.checkpoints: parts needs a disk that all nodes have, and target.storage"
            " is for nodes without one",
            where=locate(("strategy", "checkpoints")),
            fix="set strategy.checkpoints: whole, or remove target.storage",
        )


def _strategy_faults(recipe: Recipe, locate: Callable[[KeyPath], str]) -> Iterator[Fault]:
    """What engines that spread state cannot do with a recipe, each with the reason."""
    strategy, method, training = recipe.strategy, recipe.method, recipe.training
    match strategy:
        case SingleStrategy() | DdpStrategy():
            return
        case DeepSpeedStrategy():
            engine, lower = f"ZeRO {strategy.zero}", "set strategy.zero: 2"
            where = locate(("strategy", "zero"))
            yield from _disk_faults(strategy, locate)
        case FsdpStrategy():
            engine, lower = "FSDP", "use strategy: {type: deepspeed, zero: 2} or ddp"
            where = locate(("strategy", "type"))
    if training.optimizer not in SPREADABLE:
        moved = (
            f", and strategy.offload: {strategy.offload} moves these" if strategy.offload else ""
        )
        yield Fault(
            found=f"training.optimizer: {training.optimizer} with {engine}, which cuts values into "
            f"equal parts{moved}; the optimizer would find no matrices there and other blocks",
            where=locate(("training", "optimizer")),
            fix=f"use training.optimizer: {' or '.join(SPREADABLE)}, whose state is spread over "
            "the processes",
        )
    if method.type == "adalora":
        yield Fault(
            found="method adalora adds a penalty to the whole gradient, which "
            f"{engine} cuts into parts",
            where=locate(("strategy", "type")),
            fix="use strategy: ddp, or method: lora",
        )
    if spreads_weights(strategy):
        yield from _spread_faults(recipe, engine, where, lower)


def _disk_faults(strategy: DeepSpeedStrategy, locate: Callable[[KeyPath], str]) -> Iterator[Fault]:
    """What offload to a disk needs."""
    path = ("strategy", "offload_path")
    if strategy.offload != "disk":
        if strategy.offload_path is not None:
            yield Fault(
                found=f"strategy.offload_path: {strategy.offload_path}, and nothing is to lie on "
                "a disk",
                where=locate(path),
                fix="set strategy.offload: disk, or remove strategy.offload_path",
            )
        return
    if strategy.zero != 3:
        yield Fault(
            found=f"strategy.offload: disk with ZeRO {strategy.zero}, which keeps whole weights at "
            "hand; the engine moves state to a disk with ZeRO 3 only",
            where=locate(("strategy", "zero")),
            fix="set strategy.zero: 3, or strategy.offload: cpu",
        )
    if strategy.offload_path is None:
        yield Fault(
            found="strategy.offload: disk, and no folder for it",
            where=locate(path),
            fix="set strategy.offload_path to a folder on a fast disk of the machine's own",
        )


def _spread_faults(recipe: Recipe, engine: str, where: str, lower: str) -> Iterator[Fault]:
    """What does not go with weights that are spread over the ranks."""
    method, task, base = recipe.method, recipe.task, recipe.model.base
    if recipe.training.compile_layers:
        yield Fault(
            found=f"training.compile_layers with {engine}, which puts a layer's weights together "
            "while the layer computes: one function of the layer would not see that",
            where=where,
            fix=f"{lower}, or leave training.compile_layers out",
        )
    if base is not None:
        dtype = recipe.model.dtype
        computes = "the model's own type" if dtype == "auto" else dtype
        yield Fault(
            found=f"{engine} cuts all weights into parts of one type, and there are three: "
            f"model.base: {base} is stored in {STORED[base]}, computes in {computes} and has "
            "adapters in fp32",
            where=where,
            fix=f"{lower}, or leave model.base out",
        )
    if isinstance(method, PeftMethod) and method.type != "adalora":
        yield Fault(
            found=f"method {method.type} computes with weights of modules that {engine} does not "
            "see at work",
            where=where,
            fix=f"{lower}, or use method: lora, dora or full",
        )
    is_kto = isinstance(task, PreferenceTask) and task.loss == "kto"
    if has_head(task) or is_kto:
        what = "a head" if has_head(task) else "kto's reference point"
        yield Fault(
            found=f"{what} is computed beside the passes in which {engine} puts weights together",
            where=where,
            fix=lower,
        )


def _foreign_settings(method: PeftMethod, locate: Callable[[KeyPath], str]) -> Iterator[Fault]:
    known = [*method.row.takes, *(["targets"] if method.row.has_targets else [])]
    for name in method.foreign:
        yield Fault(
            found=f"method {method.type} has no {name}",
            where=locate(("method", name)),
            fix=f"remove it; {method.type} has {', '.join(known) or 'no settings'}",
        )
