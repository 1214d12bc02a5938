"""AdaLoRA (Zhang et al., 2023) over a run: a penalty, and ranks that go where they matter.

The update of a layer is B diag(E) A. A penalty keeps A and B orthogonal,

    weight * mean over all A and B of |P P^T - I|_F

and after each step the library takes the least important ranks of all layers out (their E is 0),
down to the target by the last third of the run. What it remembers for that is in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.methods.base import AppliedMethod, Shape

AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # the library's names for what it remembers


@dataclass(eq=False)
class AppliedAdalora:
    """AdaLoRA in place; `tuner` is the library's own view of it, `config` its settings."""

    applied: AppliedMethod
    tuner: Any
    config: Any
    _step: int = field(default=0)

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """A, B and E of every layer."""
        return self.applied.trainable

    @property
    def rate_factors(self) -> Mapping[str, float]:
        """All values learn at one rate."""
        return self.applied.rate_factors

    def save(self, folder: Path, *, base: str) -> None:
        """Write the adapter with the ranks that are left."""
        self.applied.save(folder, base=base)

    def saved_shapes(self) -> dict[str, Shape]:
        """Those of the ranks that are left."""
        return self.applied.saved_shapes()

    def add_gradients(self) -> None:
        """Add the penalty's gradient, once a step."""
        factors = {name: value for name, value in self.trainable.items() if _is_factor(name)}
        with torch.enable_grad():
            grams = [_gram(name, value) for name, value in factors.items()]
            spread = [torch.linalg.matrix_norm(gram - _one(gram)) for gram in grams]
            penalty = self.config.orth_reg_weight * torch.stack(spread).mean()
        gradients = torch.autograd.grad(penalty, list(factors.values()))
        for value, gradient in zip(factors.values(), gradients, strict=True):
            value.grad = gradient if value.grad is None else value.grad.add_(gradient)

    def publish(self) -> None:
        """Measure importance after a step and take ranks out; without gradients there was none."""
        if all(value.grad is None for value in self.trainable.values()):
            return
        self._step += 1
        for value in self.trainable.values():
            if value.grad is None:
                value.grad = torch.zeros_like(value)
        self.tuner.update_and_allocate(self._step)

    @property
    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep beside the trained values."""
        allocator = self.tuner.rankallocator
        kept = {
            f"{average}/{name}": value
            for average in AVERAGES
            for name, value in getattr(allocator, average).items()
        }
        ranks: Mapping[str, list[bool]] = self.config.rank_pattern or {}
        masks = {f"rank_pattern/{name}": torch.tensor(mask) for name, mask in ranks.items()}
        return {"step": torch.tensor(self._step), **kept, **masks}

    def put_back(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what a checkpoint kept."""
        self._step = int(state["step"])
        device = next(iter(self.trainable.values())).device
        read: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            kind, _, name = key.partition("/")
            read.setdefault(kind, {})[name] = value
        for average in AVERAGES:
            kept = {name: value.to(device) for name, value in read.get(average, {}).items()}
            setattr(self.tuner.rankallocator, average, kept)
        ranks = {name: mask.tolist() for name, mask in read.get("rank_pattern", {}).items()}
        self.config.rank_pattern = ranks or None


def _is_factor(name: str) -> bool:
    return ".lora_A" in name or ".lora_B" in name


def _gram(name: str, value: Tensor) -> Tensor:
    return value @ value.T if ".lora_A" in name else value.T @ value


def _one(gram: Tensor) -> Tensor:
    return torch.eye(len(gram), device=gram.device)
