"""Trained positions before each text: embeddings, or keys and values of every layer.

    tokens                    t1 t2 t3         t4            (one by one, with a cache)
    embeddings   v1 v2 v3 v4  e1 e2 e3         e4
    positions    0  1  2  3   4  5  6          7
    given back                h1 h2 h3         h4

The decoder's own forward is wrapped in two hooks, so training, evaluation and generation see the
same. What is read into a cache first has the prompt before it; after that only positions move.

Shapes: B rows, T tokens, P positions of the prompt, C hidden width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

NAME = "virtual_prompt"


class Prompt(nn.Module):
    """What stands before each text: `make` gives embeddings [B, P, C] or a cache of P positions."""

    def __init__(self, make: Callable[[int], Any], length: int) -> None:
        super().__init__()
        self.make = make
        self.length = length
        self.active = True
        self.skip = 0  # positions to cut from what the decoder gives back

    def put_before(
        self, decoder: Any, positional: tuple[Any, ...], given: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Change the decoder's inputs: a forward hook that runs before it."""
        self.skip = 0
        if not self.active:
            return positional, given
        changed = {**dict(zip(("input_ids",), positional, strict=False)), **given}
        tokens: Tensor = changed["input_ids"]
        cache = given.get("cache")
        is_first = cache is None or cache.get_seq_length() == 0
        mask, positions = given.get("attention_mask"), given.get("position_ids")
        if mask is not None:
            ones_BP = mask.new_ones(len(mask), self.length)
            changed["attention_mask"] = torch.cat([ones_BP, mask], dim=1)
        if positions is not None:
            changed["position_ids"] = positions + self.length
        if is_first:
            self._begin(decoder, tokens, changed)
        return (), changed

    def cut(self, _decoder: nn.Module, _inputs: Any, output: Any) -> Any:
        """Give back the texts' own hidden states: a forward hook that runs behind it."""
        if self.skip:
            output.last_hidden_state = output.last_hidden_state[:, self.skip :]
        return output

    def _begin(self, decoder: Any, tokens_BT: Tensor, changed: dict[str, Any]) -> None:
        made = self.make(len(tokens_BT))
        if not isinstance(made, Tensor):
            changed["cache"] = _filled(changed.get("cache"), made)
            return
        texts_BTC = decoder.get_input_embeddings()(tokens_BT)
        changed["input_ids"] = None
        changed["inputs_embeds"] = torch.cat([made.to(texts_BTC.dtype), texts_BTC], dim=1)
        if changed.get("position_ids") is not None:
            own = torch.arange(self.length, device=tokens_BT.device)
            own_BP = own.expand(len(tokens_BT), -1)
            changed["position_ids"] = torch.cat([own_BP, changed["position_ids"]], dim=1)
        self.skip = self.length


def put_prompt(decoder: nn.Module, make: Callable[[int], Any], length: int) -> None:
    """Let the decoder read `length` positions before each text from now on."""
    assert not hasattr(decoder, NAME), "there is a prompt already"
    prompt = Prompt(make, length)
    decoder.add_module(NAME, prompt)
    decoder.register_forward_pre_hook(prompt.put_before, with_kwargs=True)
    decoder.register_forward_hook(prompt.cut)


def prompt_length(model: nn.Module) -> int:
    """How many positions of the model the prompt takes."""
    return next((m.length for m in model.modules() if isinstance(m, Prompt)), 0)


def _filled(cache: Any, made: Any) -> Any:
    """Put the prompt's keys and values into the caller's cache, where it brings one."""
    if cache is None:
        return made
    for index, layer in enumerate(made.layers):
        cache.update(layer.keys, layer.values, index)
    return cache
