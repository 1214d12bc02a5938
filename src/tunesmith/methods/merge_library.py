"""Merging of the methods that the PEFT library computes, by the library's own products.

The base is held in fp32 as a whole; with our own methods, matrices come one by one from its files.
What is written, and how it is checked, is the same.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from tunesmith.core.errors import Fault, ModelError
from tunesmith.methods.merge import MergeDtype, MergePlan, plan_whole
from tunesmith.methods.peft_library import FAILURES, load_peft
from tunesmith.models.load import load_model
from tunesmith.recipe.adapter_config import CONFIG_FILE, library_word
from tunesmith.recipe.peft_method import ROWS


@torch.no_grad()
def plan_library_merge(base: Path, folder: Path, dtype: MergeDtype) -> MergePlan:
    """Work the adapter into the base's weights, and find their places in the base's files.

    Raises:
        ModelError: the adapter does not fit the base, or its method is no change of weights.
    """
    model = load_model(base, "fp32")
    changed = merge_by_library(model, folder)
    values = dict(model.named_parameters())
    return plan_whole(base, {name: values[name] for name in changed}, dtype)


@torch.no_grad()
def merge_by_library(model: nn.Module, folder: Path) -> list[str]:
    """Work the adapter into a model's own weights; returns the names of those changed.

    Raises:
        ModelError: the adapter does not fit the model, or its method is no change of weights.
    """
    word = library_word(folder)
    assert word is not None, "the adapter is of the library's"
    if not ROWS[word].merges:
        raise ModelError(_no_weights(word, folder), code="merge_unsupported")
    wrapper = load_peft(model, folder).wrapper
    paths = {path for path, module in model.named_modules() if hasattr(module, "base_layer")}
    try:
        wrapper.merge_and_unload(safe_merge=True)
    except FAILURES as error:
        raise ModelError(_refused(word, error, folder), code="merge_unsupported") from error
    return [name for name, _ in model.named_parameters() if name.rpartition(".")[0] in paths]


def _no_weights(word: str, folder: Path) -> Fault:
    return Fault(
        found=f"{word} puts positions before each text: it is no change of weights",
        where=str(folder / CONFIG_FILE),
        fix="serve it as it is: tunesmith chat FOLDER",
    )


def _refused(word: str, error: Exception, folder: Path) -> Fault:
    return Fault(
        found=f"PEFT cannot merge {word}: {error}",
        where=str(folder),
        fix="serve it as it is: tunesmith chat FOLDER",
    )
