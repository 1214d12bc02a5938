"""Works an adapter into a model with a head that is in memory, in fp32; its head takes its place.

The PEFT library's methods are merged by its own products. Each of our merged matrices is held
beside the adapter's own layer, as where weight files are written one tensor at a time (merge.py).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from tunesmith.core.errors import RunError
from tunesmith.methods.adapter_files import Adapter, read_adapter
from tunesmith.methods.attach import require_fit
from tunesmith.methods.merge import merge_differs, merged_weight
from tunesmith.methods.whole import put_whole
from tunesmith.models.linear import is_transposed
from tunesmith.recipe.adapter_config import library_word


@torch.no_grad()
def merge_into(model: nn.Module, folder: Path) -> list[str]:
    """Change a model's own weights as the adapter does; returns the names of those changed.

    Raises:
        ModelError: the adapter does not fit the model, or its method is no change of weights.
        RunError: a merged matrix does not compute what the adapter's layer does.
    """
    if library_word(folder) is not None:
        # The library takes a second to import, which few merges need.
        from tunesmith.methods.merge_library import merge_by_library

        return merge_by_library(model, folder)
    adapter = read_adapter(folder)
    require_fit(model, adapter)
    adapter.require_copies(dict(model.named_parameters(remove_duplicate=False)).get)
    put_whole(model, adapter.whole)
    return [*adapter.whole, *(_merge_one(model, path, adapter) for path in adapter.updates)]


def _merge_one(model: nn.Module, path: str, adapter: Adapter) -> str:
    linear, update = model.get_submodule(path), adapter.updates[path]
    weight = linear.get_parameter("weight")
    weight_OI = weight.T if is_transposed(linear) else weight
    merged_OI = merged_weight(weight_OI, update)
    fault = merge_differs(path, weight_OI, update, merged_OI, adapter.folder)
    if fault is not None:
        raise RunError(fault, code="merge_differs")
    weight.copy_(merged_OI.T if is_transposed(linear) else merged_OI)
    return f"{path}.weight"
