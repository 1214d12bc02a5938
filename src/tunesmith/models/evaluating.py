"""The state in which a model is asked and not trained."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """No gradients and no dropout inside; afterwards each module is in the mode it was in.

    Not inference mode: its tensors must not be seen by later training, and weights are shared.
    """
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
