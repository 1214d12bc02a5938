"""Writes a model in transformers' layout."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict


def save_model(model: Any, folder: Path) -> None:
    """Write config and weights; what libraries print meanwhile goes to standard error.

    Where DeepSpeed is installed transformers loads it here, to see whether the model is one of its
    engines, and its log goes to what standard output is then, which may be a command's document.
    """
    with redirect_stdout(sys.stderr):
        model.save_pretrained(folder)


def saved_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of what `save_model` writes, without making a copy.

    Some architectures are written under other names, and in other pieces, than they compute with.
    """
    state = remove_tied_weights_from_state_dict(dict(model.state_dict()), model)
    for name in model._keys_to_ignore_on_save or ():
        state.pop(name, None)
    on_meta = {name: weight.to("meta") for name, weight in state.items()}
    written = revert_weight_conversion(model, on_meta)
    return {name: tuple(weight.shape) for name, weight in written.items()}
