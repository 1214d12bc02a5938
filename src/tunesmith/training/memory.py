"""Estimates the peak memory of a run from numbers alone: no model, no clock, no machine.

    process      what the process holds before there is a model, and the kernels' own caches
    weights      the base, in its dtype or quantised
    masters      fp32 copies that full fine-tuning of 16-bit weights steps
    trained      an adapter's values, fp32
    gradients    of all trained values, fp32
    optimizer    its state, by kind
    activations  what one micro-batch keeps between forward and backward, or the layers' inputs and
                 one layer where layers are computed again
    working      one layer's gradients, a chunk of logits, the optimizer's largest tensor, a matrix
                 that is made again from a quantised one
    exchange     what several ranks send each other at once, and what is read from a disk at once
    whole        what weights that are spread need beyond all this while they are put together, to
                 load, evaluate and save
    answers      what answers to held-out rows need beyond all this: keys and values, and fp32
                 copies of weights of 16 bits
    allocator    a share of all but the process, lost between blocks; nothing where large blocks
                 are given back to the system (core/allocator.py)

Of several ranks it is one's; spread.py says what each keeps its part of.

The activations follow what each autograd node of models/packed_llama.py, models/row_attention.py
and methods/lora.py saves. For other architectures they are those of a usual implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from tunesmith.models import flash_attention
from tunesmith.models.facts import ModelFacts
from tunesmith.models.row_attention import KEPT_KEYS, QUERIES_PER_TILE
from tunesmith.recipe.training import OptimizerName
from tunesmith.training.answers_ask import AnswersAsk
from tunesmith.training.loss import logit_chunk_bytes
from tunesmith.training.spread import (
    ALONE,
    BUCKET_VALUES,
    LIVE_VALUES,
    STATE_BUFFERS,
    STEPPED_VALUES,
    WEIGHT_BUFFERS,
    Spread,
)
from tunesmith.training.strategies.ranks import PIECE_BYTES

# Measured on a model of 135 M parameters: the matrix library's kernels, and what the allocator
# holds beyond what it was asked for, where it keeps all blocks.
KERNEL_CACHE_BYTES = 200 * 10**6
ALLOCATOR_SHARE = 0.1
QUANTISED_BLOCK = 64
EMBEDDING_NAMES = frozenset({"embed_tokens", "wte", "embed_in", "word_embeddings"})
HEAD_NAMES = frozenset({"lm_head", "embed_out"})
ON_DISK = ("weights", "masters", "optimizer")
OPTIMIZER_BYTES: dict[OptimizerName, float] = {
    "adamw": 8.0,
    "adamw-8bit": 2.0 + 2 * 4 / 256,
    "paged-adamw-8bit": 2.0 + 2 * 4 / 256,
    "adafactor": 0.05,
}


@dataclass(frozen=True, kw_only=True)
class MemoryAsk:
    """What the estimate depends on. `trainable` counts values; `rank` is 0 where all are trained.

    `tokens` and `longest` describe the largest micro-batch: its tokens without padding, and its
    longest row. `later` are the tokens of the largest that a rank computes when it has gradients of
    others already, 0 where steps are one micro-batch; None: the largest of all is among them.
    `packed` says that rows lie in one line (models/packed_llama.py).
    """

    facts: ModelFacts
    dtype_bytes: int
    trainable: int
    rank: int
    keeps_outputs: bool  # DoRA keeps each layer's output, too
    dropout: bool  # each adapter then has an input of its own
    optimizer: OptimizerName
    tokens: int
    longest: int
    packed: bool
    recompute: bool
    process_bytes: int
    on_gpu: bool = False
    later: int | None = None
    matrices: int = 0  # in fp32 of each layer's size, which some methods keep
    wide_inputs: bool = False  # each linear's input is kept in fp32, too
    base: str | None = None
    double_quant: bool = True
    spread: Spread = ALONE
    answers: AnswersAsk | None = None


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes by part; they are in memory together at the peak."""

    process: int
    weights: int
    masters: int
    trained: int
    gradients: int
    optimizer: int
    activations: int
    working: int
    exchange: int
    whole: int
    answers: int
    allocator: int

    @property
    def total(self) -> int:
        """The peak."""
        return sum(asdict(self).values())

    def as_json(self) -> dict[str, int]:
        """The parts and their sum, as plan.json keeps them."""
        return {**asdict(self), "total": self.total}


def estimate_memory(ask: MemoryAsk) -> MemoryEstimate:
    """Estimate the peak of a run's steps: in a step's first micro-batch, or in a later one."""
    first = _estimate(ask, has_gradients=False)
    if ask.later == 0:
        return first
    tokens = ask.tokens if ask.later is None else ask.later
    later = _estimate(replace(ask, tokens=tokens), has_gradients=True)
    return max(later, first, key=lambda estimate: estimate.total)


def _estimate(ask: MemoryAsk, *, has_gradients: bool) -> MemoryEstimate:
    spread, activations = ask.spread, _activation_bytes(ask)
    state = _state_bytes(ask)
    if spread.on_disk:
        state |= dict.fromkeys(ON_DISK, 0)
    steps = {
        "gradients": _gradient_bytes(ask, activations, has_gradients=has_gradients),
        "activations": activations,
        "working": _working_bytes(ask),
        "exchange": _exchange_bytes(ask),
    }
    all_weights = _weight_bytes(ask) + _adapter_bytes(ask)
    put_together = (all_weights + logit_chunk_bytes(on_gpu=ask.on_gpu)) * spread.weights
    whole = max(0, put_together - sum(steps.values()))
    answers = max(0, put_together + _answer_bytes(ask) - sum(steps.values()) - whole)
    parts = {**state, **steps, "whole": whole, "answers": answers}
    return MemoryEstimate(
        process=ask.process_bytes + KERNEL_CACHE_BYTES,
        allocator=0 if spread.weights else int(ALLOCATOR_SHARE * sum(parts.values())),
        **parts,
    )


def offload_bytes(ask: MemoryAsk) -> int:
    """What a rank keeps on a disk: its part of the weights, of fp32 copies, gradients, moments."""
    if not ask.spread.on_disk:
        return 0
    trained = (4 + 4 + OPTIMIZER_BYTES[ask.optimizer]) * ask.trainable
    return ask.spread.part(_weight_bytes(ask) + _adapter_bytes(ask) + trained, spread=True)


def adapter_values(facts: ModelFacts, rank: int) -> int:
    """The values of low-rank factors on all linears of a gated decoder: sum of rank (in + out)."""
    hidden, mlp = facts.hidden, facts.mlp
    query, key = facts.heads * facts.head_width, facts.kv_heads * facts.head_width
    widths = 2 * (hidden + query) + 2 * (hidden + key) + 3 * (hidden + mlp)
    return facts.layers * rank * widths


def _state_bytes(ask: MemoryAsk) -> dict[str, int]:
    """What is held from the first step to the last, by part."""
    spread, trained = ask.spread, _adapter_bytes(ask)
    has_copies = spread.copies or (ask.rank == 0 and ask.dtype_bytes < 4)
    moments = OPTIMIZER_BYTES[ask.optimizer] * ask.trainable
    return {
        "weights": spread.part(_weight_bytes(ask), spread=spread.weights),
        "masters": spread.part(4 * ask.trainable * has_copies, spread=spread.copies),
        "trained": spread.part(trained, spread=spread.weights)
        + trained * (spread.weights and spread.copies),
        "optimizer": spread.part(moments, spread=spread.optimizer),
    }


def _adapter_bytes(ask: MemoryAsk) -> int:
    return 0 if ask.rank == 0 else 4 * ask.trainable


def _layer_values(facts: ModelFacts) -> int:
    """The weights of one layer's linears in a gated decoder."""
    query, key = facts.heads * facts.head_width, facts.kv_heads * facts.head_width
    return facts.hidden * (2 * query + 2 * key + 3 * facts.mlp)


def whole_values(facts: ModelFacts, names: Sequence[str]) -> int:
    """The values of embedding and head among modules that are trained whole; others are small."""
    ends = {name.rpartition(".")[2] for name in names}
    matrices = bool(ends & EMBEDDING_NAMES) + bool(ends & HEAD_NAMES)
    return facts.vocab * facts.hidden * (min(1, matrices) if facts.tied else matrices)


def _gradient_bytes(ask: MemoryAsk, activations: int, *, has_gradients: bool) -> int:
    """What gradients take beside a micro-batch's activations.

    Where there are none of before, they come layer by layer as activations go; the matrices at
    both ends have theirs first. DeepSpeed keeps room for them all the time.
    """
    spread, whole = ask.spread, 4 * ask.trainable
    part = spread.part(whole, spread=spread.optimizer)
    if not has_gradients and not spread.copies:
        ends = 4 * ask.facts.vocab * ask.facts.hidden * (ask.rank == 0 and not spread.weights)
        return min(part, max(ends, part - activations))
    if spread.gradients:
        return part
    return whole + (part if spread.optimizer else 0)


def _exchange_bytes(ask: MemoryAsk) -> int:
    """What an exchange takes beside what is exchanged."""
    facts, spread = ask.facts, ask.spread
    if spread.ranks == 1:
        return _disk_buffer_bytes(ask)
    if spread.weights:  # the layer at work, the one behind it, the matrices at both ends, gradients
        layer, ends = _layer_values(facts), facts.vocab * facts.hidden * (1 if facts.tied else 2)
        live = LIVE_VALUES * (spread.copies and not spread.on_disk)
        values = max(2 * layer + ends, min(facts.parameters, live))
        buffer = 2 * min(ask.trainable, BUCKET_VALUES) * spread.copies
        gradients = layer + ends if ask.rank == 0 else 0
        return values * ask.dtype_bytes + 4 * (buffer + gradients) + _disk_buffer_bytes(ask)
    if spread.optimizer:
        buffer = 2 * 4 * min(ask.trainable, BUCKET_VALUES)  # and what is sent of it
        # After its update a rank is given all others' weights, by gloo in a copy of the whole; with
        # stage 2 the gradients of its part were joined for it.
        weights = ask.trainable * (ask.dtype_bytes if ask.rank == 0 else 4)
        joined = spread.part(4 * ask.trainable, spread=True) if spread.gradients else 0
        return max(buffer, weights + joined)
    return 2 * min(4 * ask.trainable, PIECE_BYTES)


def _disk_buffer_bytes(ask: MemoryAsk) -> int:
    """What the engine reads from a disk into: parts of weights, and a group that is stepped."""
    if not ask.spread.on_disk:
        return 0
    largest = -(-ask.facts.vocab * ask.facts.hidden // ask.spread.ranks)
    group = min(-(-ask.trainable // ask.spread.ranks), STEPPED_VALUES + largest)
    weights = WEIGHT_BUFFERS * largest + group  # and what a stepped group is written through
    return weights * ask.dtype_bytes + STATE_BUFFERS * 4 * group


def _weight_bytes(ask: MemoryAsk) -> int:
    facts = ask.facts
    if ask.base is None:
        return facts.parameters * ask.dtype_bytes
    kept = facts.vocab * facts.hidden * (1 if facts.tied else 2)
    quantised = max(0, facts.parameters - kept)
    match ask.base:
        case "int8":
            a_value = 1.0
        case _ if ask.double_quant:  # a byte a block, and the blocks' scales in blocks of 256
            a_value = 0.5 + 1 / QUANTISED_BLOCK + 4 / (QUANTISED_BLOCK * 256)
        case _:
            a_value = 0.5 + 4 / QUANTISED_BLOCK
    return int(quantised * a_value) + kept * ask.dtype_bytes


def _activation_bytes(ask: MemoryAsk) -> int:
    facts, tokens = ask.facts, ask.tokens
    layer = tokens * _layer_bytes_a_token(ask) + 4 * ask.matrices * _layer_values(facts)
    inputs = tokens * facts.hidden * ask.dtype_bytes
    end = 3 * inputs  # the last norm, hidden states where they are asked for, their gradient
    if ask.recompute:
        return int(facts.layers * inputs + layer + end)
    return int(facts.layers * layer + end)


def _answer_bytes(ask: MemoryAsk) -> int:
    if ask.answers is None:
        return 0
    facts, size = ask.facts, 4 if ask.answers.exact else ask.dtype_bytes
    copies = 4 * facts.parameters * (size > ask.dtype_bytes)
    keys = 2 * facts.layers * facts.kv_heads * facts.head_width
    layer = 2 * facts.mlp + 4 * facts.hidden
    return copies + size * (keys * ask.answers.cached + layer * ask.answers.read)


def _layer_bytes_a_token(ask: MemoryAsk) -> float:
    facts = ask.facts
    query, key = facts.heads * facts.head_width, facts.kv_heads * facts.head_width
    # Inputs of norms and of the linears behind them, queries, keys, values, the attention's
    # output, gate, up and their product.
    values = 4 * facts.hidden + 2 * query + 2 * key + 3 * facts.mlp + 7 * ask.rank
    if ask.keeps_outputs:
        values += 2 * facts.hidden + query + 2 * key + 2 * facts.mlp
    if ask.dropout:  # the dropped input and its mask
        values += int(1.5 * (5 * facts.hidden + query + facts.mlp))
    if ask.wide_inputs and ask.dtype_bytes < 4:
        values += 4 // ask.dtype_bytes * (5 * facts.hidden + query + facts.mlp)
    if ask.packed and ask.on_gpu and flash_attention.take(ask.dtype_bytes, facts.head_width):
        return ask.dtype_bytes * values + 4 * facts.heads  # a normalizer for each query
    if ask.packed:
        return ask.dtype_bytes * (values + facts.heads * _kept_keys(ask.longest))
    # Norms in fp32, activations kept apart, rotated beside unrotated; scores of all keys.
    values += 4 * facts.hidden + query + key + facts.mlp
    return ask.dtype_bytes * (values + facts.heads * ask.longest) + 8 * facts.hidden


def _kept_keys(longest: int) -> float:
    """How many keys' probabilities a query keeps on average: none in tiles of too many keys."""
    reach = KEPT_KEYS - QUERIES_PER_TILE
    if longest <= reach:
        return QUERIES_PER_TILE + longest / 2
    return (QUERIES_PER_TILE + reach / 2) * reach / longest


def _working_bytes(ask: MemoryAsk) -> int:
    facts, size = ask.facts, ask.dtype_bytes
    layer = ask.tokens * size * (4 * facts.mlp + 4 * facts.hidden)
    logits = logit_chunk_bytes(on_gpu=ask.on_gpu) * (1 if size == 4 else 2)
    largest = 0
    if ask.rank == 0:
        largest = facts.vocab * facts.hidden * 4
        if ask.optimizer != "adamw":
            largest *= 4  # one tensor's moments and values in fp32 while it is stepped
    rebuilt = facts.hidden * facts.mlp * size if ask.base else 0  # one matrix at a time
    return layer + logits + largest + rebuilt
