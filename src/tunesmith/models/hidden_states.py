"""From a padded batch to the hidden states of the positions that are asked for.

Two ways, with the same numbers up to rounding. Decoders of the Llama family run without padding,
and a prefix that all rows share (a system prompt, say) is computed once for the micro-batch; every
other architecture runs its own forward on the padded batch. Right padding needs no mask under
causal attention, yet the padded way passes one, since some architectures derive positions from it.

Where nothing is trained, what rows that follow each other begin with may be computed once, too: the
candidates for an answer share their question.

    rows   S S q q a a      line   S S q q a a b b r c c d d
           S S q q b b             a and b see q, c and d see r, all see S
           S S r c c
           S S r d d

Shapes: B rows, T positions of the padded batch, N tokens in the line, S positions asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.models import packed_llama
from tunesmith.models.row_attention import RowLayout, lay_out

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
    branches: bool = False,
) -> Tensor:
    """Return [S, C]: the last hidden state of every position where `asked_BT` holds, row by row.

    `recompute` is for the way without padding; the padded one is told by `recompute_layers`.
    `branches` computes what neighbouring rows share once, on the way without padding.
    """
    if not packed_llama.supports(decoder):
        return _padded(decoder, tokens_BT, lengths_B)[asked_BT]
    config: Any = decoder.config
    prefix = shared_prefix(tokens_BT, lengths_B, asked_BT) if share_prefix else 0
    line = (line_up_branches if branches and share_prefix else line_up)(
        tokens_BT,
        lengths_B,
        asked_BT,
        prefix=prefix,
        groups=config.num_attention_heads // config.num_key_value_heads,
        dtype=next(decoder.parameters()).dtype,
    )
    hidden_NC = packed_llama.run_packed(
        decoder, line.tokens_N, line.positions_N, line.layout, recompute=recompute
    )
    return hidden_NC[line.asked_S]


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


def _padded(decoder: nn.Module, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
    real_BT = torch.arange(tokens_BT.shape[1])[None, :] < lengths_B[:, None]
    output: Any = decoder(input_ids=tokens_BT, attention_mask=real_BT.long(), use_cache=False)
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
    layout: RowLayout


def line_up(
    tokens_BT: Tensor,
    lengths_B: Tensor,
    asked_BT: Tensor,
    *,
    prefix: int,
    groups: int,
    dtype: torch.dtype,
) -> Line:
    """Lay the rows one after another, their first `prefix` tokens once."""
    positions_T = torch.arange(tokens_BT.shape[1])
    own_BT = (positions_T >= prefix)[None, :] & (positions_T[None, :] < lengths_B[:, None])
    layout = lay_out(
        [int(length) - prefix for length in lengths_B], prefix=prefix, groups=groups, dtype=dtype
    )
    return _fill(tokens_BT, asked_BT, own_BT, prefix, layout)


def line_up_branches(
    tokens_BT: Tensor,
    lengths_B: Tensor,
    asked_BT: Tensor,
    *,
    prefix: int,
    groups: int,
    dtype: torch.dtype,
) -> Line:
    """Do the same with what neighbouring rows share once, and nothing behind what is asked."""
    positions_T = torch.arange(tokens_BT.shape[1])
    stems = shared_stems(tokens_BT, lengths_B, asked_BT, prefix=prefix)
    starts_B = torch.where(stems.is_first_B, prefix, stems.ends_B)
    ends_B = torch.maximum((asked_BT * (positions_T + 1)).amax(1), stems.ends_B)
    own_BT = (positions_T >= starts_B[:, None]) & (positions_T < ends_B[:, None])
    rows_B1 = torch.arange(1, len(tokens_BT) + 1)[:, None]
    branches_BT = torch.where(positions_T < stems.ends_B[:, None], 0, rows_B1)
    group_B = stems.is_first_B.long().cumsum(0) - 1
    lengths_G = torch.zeros(int(group_B[-1]) + 1, dtype=torch.int64)
    lengths_G.index_add_(0, group_B, own_BT.sum(1))
    layout = lay_out(
        lengths_G.tolist(),
        prefix=prefix,
        groups=groups,
        dtype=dtype,
        branches_N=torch.cat([torch.zeros(prefix, dtype=torch.int64), branches_BT[own_BT]]),
    )
    return _fill(tokens_BT, asked_BT, own_BT, prefix, layout)


@dataclass(frozen=True, eq=False)
class Stems:
    """Groups of neighbouring rows: where each begins, and where what its rows share ends."""

    is_first_B: Tensor
    ends_B: Tensor


def shared_stems(tokens_BT: Tensor, lengths_B: Tensor, asked_BT: Tensor, *, prefix: int) -> Stems:
    """Find neighbouring rows that begin alike, up to the first position that is asked for.

    The first two rows of a group say what it shares; a row that shares less begins the next one.
    """
    positions_T = torch.arange(tokens_BT.shape[1])
    free_BT = ~asked_BT & (positions_T < lengths_B[:, None] - 1)
    same_BT = (tokens_BT[1:] == tokens_BT[:-1]) & free_BT[1:] & free_BT[:-1]
    shared = [0, *same_BT.long().cumprod(1).sum(1).tolist()]
    firsts, ends = list[bool](), list[int]()
    first = 0
    for row, num_shared in enumerate(shared):
        is_second = row > 0 and row == first + 1
        joins = num_shared > prefix if is_second else row > 0 and num_shared >= ends[first]
        if joins and is_second:
            ends[first] = num_shared
        if not joins:
            first = row
        firsts.append(not joins)
        ends.append(ends[first] if joins else prefix)
    return Stems(torch.tensor(firsts), torch.tensor(ends))


def _fill(
    tokens_BT: Tensor, asked_BT: Tensor, own_BT: Tensor, prefix: int, layout: RowLayout
) -> Line:
    """Take the prefix from the first row and from each row its own tokens, row by row."""
    positions_T = torch.arange(tokens_BT.shape[1])
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
