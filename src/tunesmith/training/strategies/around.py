"""Modules that stand around a model for engines which watch the forward passes of modules.

An engine that spreads weights over ranks puts a module's together before its forward pass and its
backward pass, and it must be told where a step begins and ends. What the loss does by itself (the
output matrix, chunk by chunk) happens inside the forward pass of a module around the whole model.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from tunesmith.models.hidden_states import recompute_layers
from tunesmith.models.packed_llama import SPREAD
from tunesmith.training.loss import LanguageModel

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
)


class Around(nn.Module):
    """A module around a model; its forward pass is whatever it is given."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], Tensor]) -> Tensor:
        """Do it."""
        return work()


class Held(nn.Module):
    """Parameters as a module, for an engine that has to do with them alone."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__()
        self.parameters_held = nn.ParameterList(parameters)


def leave_packed_way(model: nn.Module, scored: LanguageModel) -> None:
    """Let the decoder compute by its own modules' forward passes, which an engine sees.

    The first layer's input gets a gradient even where nothing before it is trained: an engine takes
    a module's weights away once the gradient of its input is there, and without one too early.
    """
    setattr(scored.decoder, SPREAD, True)
    owner: Any = model
    owner.enable_input_require_grads()
    if scored.recompute:
        recompute_layers(model)


@contextmanager
def hooks_off(root: nn.Module) -> Generator[None]:
    """Within the block no module calls its hooks: the weights are in place."""
    kept = [(module, name, getattr(module, name)) for module in root.modules() for name in HOOKS]
    for module, name, hooks in kept:
        setattr(module, name, type(hooks)())
    try:
        yield
    finally:
        for module, name, hooks in kept:
            setattr(module, name, hooks)
