"""From what a user names to a model that answers: a run, a checkpoint, an adapter, or a model.

runs/desk                       the base model of its recipe, with what final/ holds
runs/desk/checkpoints/step-40   the same base, with what was trained up to step 40
an adapter's folder             the base that adapter_config.json names, with the adapter
anything else                   a model: a catalogue name, a folder, a GGUF file, a hub id

Further adapters are added up on what that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from tunesmith.core.errors import Fault, ModelError
from tunesmith.core.run_dir import RunDir, read_json
from tunesmith.data.tokenizer import Tokenizer, load_tokenizer, separator_of
from tunesmith.methods.attach import Weighted, load_adapter, load_adapters
from tunesmith.methods.headed_method import apply_headed
from tunesmith.methods.select import apply_method
from tunesmith.models.device import choose_device
from tunesmith.models.head_file import read_head
from tunesmith.models.headed import Head, HeadedModel, load_headed
from tunesmith.models.load import load_base
from tunesmith.models.originals import Originals
from tunesmith.models.prepare import prepare_model
from tunesmith.models.tensor_parts import TRAINED, has_tensors, open_tensors
from tunesmith.recipe.adapter_config import CONFIG_FILE, base_of
from tunesmith.recipe.load import recipe_from_resolved
from tunesmith.recipe.model import ModelPart
from tunesmith.recipe.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model that answers, and how its training put conversations.

    `system` is the message put before them, `system_role` what became of one that the chat template
    refuses.
    """

    name: str
    base: str
    model: Any
    tokenizer: Tokenizer
    task: Literal["chat", "completion"]
    system: str | None = None
    system_role: Literal["keep", "fold", "drop"] = "keep"
    headed: HeadedModel | None = None
    """The model with the head that it has in place of the one that writes text."""

    def require_writer(self) -> None:
        """See to it that the model writes text; raises ModelError where it has a head."""
        if self.headed is not None:
            fault = Fault(
                found=f"a model with a head for {self.headed.head.kind}, which writes no text",
                where=self.name,
                fix="ask it with tunesmith predict",
            )
            raise ModelError(fault, code="model_unsupported")


def load(what: str, adapters: Sequence[Weighted] = ()) -> Loaded:
    """Load what `what` names, with the sum of `adapters` on it.

    Raises:
        ModelError: it cannot be loaded, or the adapters do not fit it.
    """
    path = Path(what).expanduser().absolute()
    if (path / "resolved.json").is_file():
        return _load_run(what, RunDir(path), adapters)
    if path.name == "final" and (path.parent / "resolved.json").is_file():
        return _load_run(what, RunDir(path.parent), adapters)
    if has_tensors(path, TRAINED):
        if adapters:
            raise ModelError(_no_stack(path))
        return _load_checkpoint(what, path)
    if (path / CONFIG_FILE).is_file():
        return _load_adapter(what, path, adapters)
    return _with(_load_model(what, ModelPart(source=what)), adapters)


def _with(loaded: Loaded, adapters: Sequence[Weighted]) -> Loaded:
    """Put adapters onto a model; one alone may be of any kind."""
    if len(adapters) == 1 and adapters[0].weight == 1.0:
        load_adapter(loaded.model, adapters[0].folder)
    elif adapters:
        load_adapters(loaded.model, adapters)
    return loaded


def _load_run(what: str, run_dir: RunDir, adapters: Sequence[Weighted]) -> Loaded:
    recipe = recipe_from_resolved(run_dir.resolved_json)
    final = run_dir.final
    if (final / CONFIG_FILE).is_file():
        base = _load_base(what, recipe, read_head(final))
        return _with(base, [Weighted(final), *adapters])
    if (final / "config.json").is_file():
        whole = {"source": str(final), "revision": None, "base": None}
        part = recipe.model.model_copy(update=whole)
        return _with(_of_recipe(_load_model(what, part), recipe), adapters)
    raise ModelError(_not_finished(run_dir), code="run_not_finished")


def _load_checkpoint(what: str, path: Path) -> Loaded:
    run_dir = RunDir.open(path.parent.parent)
    recipe = recipe_from_resolved(run_dir.resolved_json)
    loaded = _load_base(what, recipe, read_head(run_dir.path))
    original = Originals(prepare_model(recipe.model.source, recipe.model.revision).folder).weight
    part, seed = recipe.method, recipe.training.seed
    if loaded.headed is None:
        method = apply_method(loaded.model, part, seed=seed, original=original)
    else:
        method = apply_headed(loaded.headed, part, seed=seed, original=original)
    trained = open_tensors(path, TRAINED)
    with torch.no_grad():
        for name, parameter in method.trainable.items():
            parameter.copy_(trained[name])
    method.publish()
    return loaded


def _load_adapter(what: str, path: Path, adapters: Sequence[Weighted]) -> Loaded:
    loaded = _load_model(what, ModelPart(source=base_of(path)), read_head(path))
    _with(loaded, [Weighted(path), *adapters])
    if (path / "tokenizer.json").is_file():  # it may have special tokens of its own
        return replace(loaded, tokenizer=load_tokenizer(path))
    return loaded


def _load_base(what: str, recipe: Recipe, head: Head | None) -> Loaded:
    return _of_recipe(_load_model(what, recipe.model, head), recipe)


def _load_model(what: str, part: ModelPart, head: Head | None = None) -> Loaded:
    """Load a model, with a head where one is given or its folder says what it has."""
    prepared = prepare_model(part.source, part.revision)
    tokenizer = load_tokenizer(
        prepared.folder,
        special_tokens=part.token_overrides,
        chat_template=part.chat_template,
    )
    head = head or read_head(prepared.folder)
    headed, device = None, choose_device(part)
    if head is not None:
        headed = load_headed(
            prepared.folder,
            part,
            head,
            seed=0,
            pad_id=tokenizer.pad_token_id,
            separator=separator_of(tokenizer),
            device=device,
        )
    model: Any = load_base(prepared.folder, part, device) if headed is None else headed.model
    return Loaded(
        name=what,
        base=prepared.name,
        model=model,
        tokenizer=tokenizer,
        task="chat" if tokenizer.chat_template else "completion",
        headed=headed,
    )


def _of_recipe(loaded: Loaded, recipe: Recipe) -> Loaded:
    """What the recipe says of how the model was trained to be asked."""
    return Loaded(
        name=loaded.name,
        base=recipe.model.source,
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        task="completion" if recipe.task.type == "completion" else "chat",
        system=recipe.data.system,
        system_role=recipe.data.system_role,
        headed=loaded.headed,
    )


def _no_stack(path: Path) -> Fault:
    fix = "name the run, whose final adapter can be added to others"
    return Fault(found="a checkpoint with further adapters", where=str(path), fix=fix)


def _not_finished(run_dir: RunDir) -> Fault:
    steps = sorted(
        run_dir.checkpoints.glob("step-*"), key=lambda path: int(path.name.rpartition("-")[2])
    )
    status = read_json(run_dir.state_json).get("status") if run_dir.state_json.exists() else None
    resume = f"finish it with: tunesmith train --resume --run-dir {run_dir.path}"
    return Fault(
        found=f"the run has no final model yet (status: {status or 'not started'})",
        where=str(run_dir.final),
        fix=f"name its last checkpoint, {steps[-1]}, or {resume}" if steps else resume,
    )
