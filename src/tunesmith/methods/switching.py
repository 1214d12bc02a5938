"""Takes adapters of every kind out of the computation for a while."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager

from torch import nn

# Our layers have the first attribute, which is True while they count; the PEFT library's have the
# second, which is True while they do not.
ON, OFF = "active", "_disable_adapters"


@contextmanager
def adapters_off(model: nn.Module) -> Generator[None]:
    """Compute as the base model does, for the time of a `with` block."""
    before = [(module, name, getattr(module, name)) for module, name in _switches(model)]
    for module, name, _ in before:
        setattr(module, name, name == OFF)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _switches(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for module in model.modules():
        for name in (ON, OFF):
            if isinstance(getattr(module, name, None), bool):
                yield module, name
