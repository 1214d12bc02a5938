"""The model of a run with its method in place: one that writes text, or one with a head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from tunesmith.data.tokenizer import Tokenizer, separator_of
from tunesmith.methods.base import AppliedMethod
from tunesmith.methods.headed_method import apply_headed
from tunesmith.methods.select import apply_method
from tunesmith.models.device import CPU
from tunesmith.models.facts import ModelFacts
from tunesmith.models.headed import Head, HeadedModel, load_headed
from tunesmith.models.hidden_states import compile_layers, recompute_layers
from tunesmith.models.load import load_base
from tunesmith.models.originals import Originals
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.strategy import has_own_masters
from tunesmith.training.head_objective import HeadObjective
from tunesmith.training.loss import LanguageModel, language_model


@dataclass(frozen=True, eq=False)
class Assembled:
    """`scored` is what the loop computes with; `head_objective` what it minimises with a head."""

    model: nn.Module
    method: AppliedMethod
    scored: LanguageModel
    headed: HeadedModel | None = None
    head_objective: HeadObjective | None = None


def assemble(
    folder: Path,
    facts: ModelFacts,
    recipe: Recipe,
    tokenizer: Tokenizer,
    head: Head | None,
    *,
    steps: int,
    recompute: bool,
    device: torch.device = CPU,
    tell: Callable[[str], None],
) -> Assembled:
    """Load the base onto a device, put the method on it, and say what is computed with.

    Raises:
        ModelError: the folder holds no such model, or an adapter to go on from does not fit it.
        RecipeError: the method does not fit the model.
    """
    seed, part = recipe.training.seed, recipe.method
    original = Originals(folder).weight
    shares = shares_prefix(recipe)
    if head is None:
        model = load_base(folder, recipe.model, device)
        method = apply_method(
            model,
            part,
            seed=seed,
            original=original,
            steps=steps,
            masters=not has_own_masters(recipe.strategy),
        )
        _set_up_layers(model, recipe, recompute, tell)
        scored = language_model(model, facts, share_prefix=shares, recompute=recompute)
        return Assembled(model, method, scored)
    headed = load_headed(
        folder,
        recipe.model,
        head,
        seed=seed,
        pad_id=tokenizer.pad_token_id,
        separator=separator_of(tokenizer),
        device=device,
    )
    method = apply_headed(headed, part, seed=seed, original=original, steps=steps)
    _set_up_layers(headed.model, recipe, recompute, tell)
    objective = HeadObjective(headed, share_prefix=shares, recompute=recompute)
    scored = LanguageModel(decoder=headed.model, head=headed.last_layer)
    return Assembled(headed.model, method, scored, headed, objective)


def _set_up_layers(
    model: nn.Module, recipe: Recipe, recompute: bool, tell: Callable[[str], None]
) -> None:
    if recipe.training.compile_layers:
        compile_layers(model)
        tell("the layers are compiled when the first rows are computed, which takes a while")
    if recompute and not recompute_layers(model):
        tell("this architecture keeps its activations: activation_checkpointing has no effect")


def shares_prefix(recipe: Recipe) -> bool:
    """With dropout each row draws its own mask, so nothing of a row is computed for all."""
    return not getattr(recipe.method, "dropout", None)
