"""From a padded batch to the hidden states of the positions that are asked for.

Two ways, with the same numbers up to rounding. Decoders of the Llama family run without padding,
and a prefix that all rows share (a system prompt, say) is computed once for the micro-batch; every
other architecture runs its own forward on the padded batch. Right padding needs no mask under
causal attention, yet the padded way passes one, since some architectures derive positions from it.

Where nothing is trained, rows may form a tree instead, in which whatever some of them begin with is
computed once: the candidates for an answer share their question, and their own first words.

    rows   S S q q a b      line   S S q q a b c d r e f
           S S q q a c             b and c see S S q q a, d sees S S q q, e and f see S S r
           S S q q d
           S S r e
           S S r f

A batch is in the host's memory, where it is laid out; what the layers read goes to their device.

Shapes: B rows, T positions of the padded batch, N tokens in the line, S positions asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunesmith.models import flash_attention, packed_llama, row_attention
from tunesmith.models.packed_llama import Layout
from tunesmith.models.row_attention import Tree

# A shorter shared prefix saves less than the concatenation of its keys costs.
SHORTEST_SHARED_PREFIX = 8


def hidden_states(
    decoder: nn.Module,
    tokens_BT: Tensor,
    lengths_B: Tensor,
    asked_BT: Tensor,
    *,
    share_prefix: bool = True,
    recompute: bool = False,
    as_tree: bool = False,
) -> Tensor:
    """Return [S, C]: the last hidden state of every position where `asked_BT` holds, row by row.

    `recompute` is for the way without padding; the padded one is told by `recompute_layers`.
    `as_tree` shares all that rows have in common, on the way without padding.
    """
    weight = next(decoder.parameters())
    if not packed_llama.supports(decoder):
        return _padded(decoder, tokens_BT, lengths_B, weight.device)[asked_BT.to(weight.device)]
    if as_tree and share_prefix:
        line = line_up_tree(tokens_BT, asked_BT, lay_out=_lay_out_tree(decoder, weight))
    else:
        prefix = shared_prefix(tokens_BT, lengths_B, asked_BT) if share_prefix else 0
        line = line_up(
            tokens_BT, lengths_B, asked_BT, prefix=prefix, lay_out=_lay_out_rows(decoder, weight)
        )
    if weight.device.type != "cpu":
        line = line.to(weight.device)
    hidden_NC = packed_llama.run_packed(
        decoder, line.tokens_N, line.positions_N, line.layout, recompute=recompute
    )
    return hidden_NC[line.asked_S]


class LayOutRows(Protocol):
    """Lays rows of so many own tokens behind a shared prefix."""

    def __call__(self, lengths: Sequence[int], *, prefix: int) -> Layout: ...  # noqa: D102


class LayOutTree(Protocol):
    """Lays a tree, whose first `prefix` places are those of every row."""

    def __call__(self, tree: Tree, *, prefix: int) -> Layout: ...  # noqa: D102


def _lay_out_rows(decoder: Any, weight: Tensor) -> LayOutRows:
    """By the kernels of the device where they can, else in tiles."""
    if flash_attention.computes(weight, packed_llama.head_width_of(decoder)):
        return partial(flash_attention.lay_out, window=packed_llama.window_of(decoder))
    return partial(row_attention.lay_out, **_tiles(decoder, weight))


def _lay_out_tree(decoder: Any, weight: Tensor) -> LayOutTree:
    return partial(row_attention.lay_out_tree, **_tiles(decoder, weight))


def _tiles(decoder: Any, weight: Tensor) -> dict[str, Any]:
    """What tiles depend on beside the rows."""
    config = decoder.config
    return {
        "groups": config.num_attention_heads // config.num_key_value_heads,
        "dtype": weight.dtype,
        "window": packed_llama.window_of(decoder),
    }


def recompute_layers(model: nn.Module) -> bool:
    """Compute layers again in the backward pass from now on; False where the model cannot.

    Without re-entrant backward passes no input needs a gradient: adapters on a frozen base get
    theirs.
    """
    owner: Any = model
    if packed_llama.supports(model.get_submodule(owner.base_model_prefix)):
        return True
    if not getattr(owner, "supports_gradient_checkpointing", False):
        return False
    # transformers renamed it within version 5
    new = getattr(owner, "activation_checkpointing_enable", None)
    enable: Any = new or owner.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    return True


def compile_layers(model: nn.Module) -> None:
    """Compute the layers of a decoder or encoder by compiled functions, in training, from now on.

    The first steps take longer: each function is compiled when it is first called.
    """
    owner: Any = model
    decoder: Any = model.get_submodule(owner.base_model_prefix)
    if packed_llama.supports(decoder):
        packed_llama.compile_layers(decoder)
        return
    for layer in _repeated_layers(decoder):
        layer.compile(dynamic=True)


def _repeated_layers(decoder: nn.Module) -> nn.ModuleList:
    """The longest list of modules, which is that of the layers."""
    lists = [module for module in decoder.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len, default=nn.ModuleList())


def _padded(
    decoder: nn.Module, tokens_BT: Tensor, lengths_B: Tensor, device: torch.device
) -> Tensor:
    real_BT = torch.arange(tokens_BT.shape[1])[None, :] < lengths_B[:, None]
    output: Any = decoder(
        input_ids=tokens_BT.to(device), attention_mask=real_BT.long().to(device), use_cache=False
    )
    return output.last_hidden_state


def shared_prefix(tokens_BT: Tensor, lengths_B: Tensor, asked_BT: Tensor) -> int:
    """Count the leading tokens that all rows share and at which no hidden state is asked for."""
    if len(tokens_BT) < 2:
        return 0
    bound = int(lengths_B.min()) - 1
    same_T = (tokens_BT[:, :bound] == tokens_BT[:1, :bound]).all(0) & ~asked_BT[:, :bound].any(0)
    prefix = int(same_T.long().cumprod(0).sum())
    return prefix if prefix >= SHORTEST_SHARED_PREFIX else 0


@dataclass(frozen=True, eq=False)
class Line:
    """A micro-batch as one line: the shared prefix, each row's own tokens, and the filling."""

    tokens_N: Tensor
    positions_N: Tensor
    asked_S: Tensor  # indices into the line
    layout: Layout

    def to(self, device: torch.device) -> Line:
        """Return it on a device."""
        return Line(
            tokens_N=self.tokens_N.to(device),
            positions_N=self.positions_N.to(device),
            asked_S=self.asked_S.to(device),
            layout=self.layout.to(device),
        )


def line_up(
    tokens_BT: Tensor,
    lengths_B: Tensor,
    asked_BT: Tensor,
    *,
    prefix: int,
    lay_out: LayOutRows,
) -> Line:
    """Lay the rows one after another, their first `prefix` tokens once."""
    positions_T = torch.arange(tokens_BT.shape[1])
    own_BT = (positions_T >= prefix)[None, :] & (positions_T[None, :] < lengths_B[:, None])
    layout = lay_out([int(length) - prefix for length in lengths_B], prefix=prefix)
    tokens_N = torch.zeros(layout.length, dtype=tokens_BT.dtype)
    positions_N = torch.zeros(layout.length, dtype=torch.int64)
    used = prefix + int(own_BT.sum())
    tokens_N[:prefix], tokens_N[prefix:used] = tokens_BT[0, :prefix], tokens_BT[own_BT]
    positions_N[:prefix] = positions_T[:prefix]
    positions_N[prefix:used] = positions_T.expand_as(tokens_BT)[own_BT]
    return Line(
        tokens_N=tokens_N,
        positions_N=positions_N,
        asked_S=prefix + asked_BT[own_BT].nonzero()[:, 0],
        layout=layout,
    )


def line_up_tree(tokens_BT: Tensor, asked_BT: Tensor, *, lay_out: LayOutTree) -> Line:
    """Lay the rows as a tree, each up to the last position that is asked for."""
    ends_B = (asked_BT * torch.arange(1, tokens_BT.shape[1] + 1)).amax(1)
    rows = [tokens[:end] for tokens, end in zip(tokens_BT.tolist(), ends_B.tolist(), strict=True)]
    order = sorted(range(len(rows)), key=rows.__getitem__)
    tree = _grow(rows, order, width=tokens_BT.shape[1])
    prefix = _count_alike(rows[order[0]], rows[order[-1]])
    layout = lay_out(tree, prefix=prefix)
    filling = (0, layout.length - len(tree.rows_N))
    return Line(
        tokens_N=F.pad(tokens_BT[tree.rows_N, tree.positions_N], filling),
        positions_N=F.pad(tree.positions_N, filling),
        asked_S=tree.places_BT[asked_BT],
        layout=layout,
    )


def _grow(rows: Sequence[Sequence[int]], order: Sequence[int], *, width: int) -> Tree:
    """Give a place to each token that the row before does not have.

    Sorted, each row begins with as much of the row before it as of any row.
    """
    places_BT = torch.zeros(len(rows), width, dtype=torch.int64)
    owners, positions = list[int](), list[int]()
    before = order[0]
    for index in order:
        num_shared = _count_alike(rows[before], rows[index]) if owners else 0
        num_new = len(rows[index]) - num_shared
        places_BT[index, :num_shared] = places_BT[before, :num_shared]
        places_BT[index, num_shared : num_shared + num_new] = len(owners) + torch.arange(num_new)
        owners += [index] * num_new
        positions += range(num_shared, num_shared + num_new)
        before = index
    return Tree(places_BT, torch.tensor(owners), torch.tensor(positions))


def _count_alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the tokens with which both begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
