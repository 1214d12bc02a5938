"""From prompts to answers with a model in this process: batches by length, cache, early leaving.

Prompts of similar length share a batch. What all of them begin with (a system message) is read
once; the rest is padded on the left, so that all rows go on in the last column:

    prompts   S S a b c     reads    S S     then    a b c     positions   2 3 4
              S S d e                                . d e                 . 2 3

A row that has ended leaves the batch. Logits are computed for the last column only.

Shapes: B rows of the batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.core.errors import Fault, UserError
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.inference.engine import Generated
from tunesmith.inference.grouping import group_by_length
from tunesmith.inference.incremental import IncrementalDecoder
from tunesmith.inference.kv_cache import is_plain, make_cache
from tunesmith.inference.sampling import Sampler
from tunesmith.inference.stops import stop_ids
from tunesmith.methods.prompts import prompt_length
from tunesmith.models.evaluating import evaluating
from tunesmith.recipe.evaluation import TOKENS_ANSWERED_AT_ONCE

# Below this many common tokens a second pass over the model costs more than it saves.
MIN_SHARED_TOKENS = 8


class TorchEngine:
    """Runs a transformers model and leaves it as it was, also in its training mode."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer,
        *,
        batch_tokens: int = TOKENS_ANSWERED_AT_ONCE,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._batch_tokens = batch_tokens
        generation = model.generation_config
        self._stop_ids = stop_ids(tokenizer, generation.eos_token_id if generation else None)
        positions: int | None = getattr(model.config, "max_position_embeddings", None)
        self._max_positions = None if positions is None else positions - prompt_length(model)
        # A sliding window counts columns: padding between a trained prompt and a text would widen
        # the distance between them.
        self._pads = not prompt_length(model) or is_plain(make_cache(model.config))

    @property
    def max_prompt_tokens(self) -> int | None:
        """The most tokens of a prompt, with room for one of an answer; None without a limit."""
        return None if self._max_positions is None else self._max_positions - 1

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        numbers: Sequence[int] | None = None,
    ) -> list[Generated]:
        """Answer all prompts, in their order."""
        limits = [self._limit(prompt, max_new_tokens) for prompt in prompts]
        sizes = [len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True)]
        draws = range(len(prompts)) if numbers is None else numbers
        sampler = Sampler(temperature=temperature, seed=seed, numbers=draws)
        answers: list[list[int]] = [[] for _ in prompts]
        for rows in self._batches(prompts, sizes):
            for step in self._steps(rows, prompts, limits, sampler):
                for row, token in step.items():
                    answers[row].append(token)
        return [self._generated(tokens) for tokens in answers]

    def stream(
        self,
        prompt: Sequence[int],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[str | Generated]:
        """Answer one prompt in pieces of text as they arise; the last item is the whole answer."""
        limit = self._limit(prompt, max_new_tokens)
        sampler = Sampler(temperature=temperature, seed=seed, numbers=[0])
        text, tokens = IncrementalDecoder(self.decode), list[int]()
        for step in self._steps([0], [prompt], [limit], sampler):
            tokens.append(step[0])
            if piece := text.push(step[0]):
                yield piece
        if piece := text.flush():
            yield piece
        yield self._generated(tokens)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of an answer's tokens, without special ones."""
        # Not the outer tokenizer's method: that one may tidy up spaces, which no piece can know.
        return self._tokenizer.backend_tokenizer.decode(list(tokens), skip_special_tokens=True)

    def _batches(
        self, prompts: Sequence[Sequence[int]], sizes: Sequence[int]
    ) -> Iterator[Sequence[int]]:
        """Yield the rows of each batch; of one length where they cannot be padded."""
        for rows in group_by_length(sizes, max_tokens=self._batch_tokens):
            if self._pads:
                yield rows
                continue
            of_length: dict[int, list[int]] = {}
            for row in rows:
                of_length.setdefault(len(prompts[row]), []).append(row)
            yield from of_length.values()

    def _steps(
        self,
        rows: Sequence[int],
        prompts: Sequence[Sequence[int]],
        limits: Sequence[int],
        sampler: Sampler,
    ) -> Iterator[dict[int, int]]:
        """Yield the next token of each row of one batch that still runs, step after step."""
        running = list(rows)
        room = max(len(prompts[row]) for row in running) + max(limits[row] for row in running)
        batch = _Batch(self._model, [prompts[row] for row in running], room)
        num_tokens = 0
        while running:
            tokens = sampler.choose(batch.read(), running)
            num_tokens += 1
            yield dict(zip(running, tokens, strict=True))
            kept = [
                index
                for index, row in enumerate(running)
                if tokens[index] not in self._stop_ids and num_tokens < limits[row]
            ]
            running = [running[index] for index in kept]
            batch.go_on([tokens[index] for index in kept], kept)

    def _limit(self, prompt: Sequence[int], max_new_tokens: int) -> int:
        """How many tokens the answer may have: as asked, and what the model has room for."""
        room = max_new_tokens
        if self._max_positions is not None:
            room = min(room, self._max_positions - len(prompt))
        if prompt and room > 0:
            return room
        most = "" if self._max_positions is None else f" and {self._max_positions - 1} at most"
        raise UserError(
            Fault(
                found=f"a prompt of {len(prompt)} tokens, to be answered with {max_new_tokens}",
                where="the text that is to be answered",
                fix=f"give a prompt of 1 token at least{most}, and allow an answer of 1 at least",
            )
        )

    def _generated(self, tokens: list[int]) -> Generated:
        if tokens and tokens[-1] in self._stop_ids:
            return Generated(tuple(tokens[:-1]), "stop")
        return Generated(tuple(tokens), "length")


class _Batch:
    """The rows that run: what is to be read next, and the cache of what has been read."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], room: int) -> None:
        self._model = model
        self._cache = make_cache(model.config, room=room)
        # A sliding window counts columns, and the padding behind shared tokens would widen it.
        self._num_shared = _num_shared(prompts) if is_plain(self._cache) else 0
        self._num_read = 0
        if self._num_shared:
            self._read_shared(prompts[0][: self._num_shared], len(prompts))
        rests = [prompt[self._num_shared :] for prompt in prompts]
        width = max(len(rest) for rest in rests)
        pads = [width - len(rest) for rest in rests]
        padded = [[0] * pad + list(rest) for pad, rest in zip(pads, rests, strict=True)]
        self._pads_B1 = torch.tensor(pads).to(model.device)[:, None]
        self._tokens_BT = torch.tensor(padded).to(model.device)

    def read(self) -> Tensor:
        """Read the tokens that are to be read; the logits after the last one, shaped BV."""
        width = self._num_read + self._tokens_BT.shape[1]
        columns_1T = torch.arange(width, device=self._tokens_BT.device)[None, :]
        is_pad_BT = (columns_1T >= self._num_shared) & (
            columns_1T < self._num_shared + self._pads_B1
        )
        positions_BT = (columns_1T[:, self._num_read :] - self._pads_B1).clamp_(min=0)
        return self._forward(
            self._tokens_BT,
            # Without padding no mask: attention then takes its faster path.
            mask_BT=~is_pad_BT if bool(self._pads_B1.any()) else None,
            positions_BT=positions_BT,
        )

    def go_on(self, tokens: Sequence[int], kept: Sequence[int]) -> None:
        """Keep only some rows, and give each its token to read next."""
        device = self._tokens_BT.device
        if 0 < len(kept) < len(self._pads_B1):
            indices = torch.tensor(kept).to(device)
            self._cache.batch_select_indices(indices)
            self._pads_B1 = self._pads_B1[indices]
        self._tokens_BT = torch.tensor(tokens, dtype=torch.int64).to(device)[:, None]

    def _read_shared(self, tokens: Sequence[int], num_rows: int) -> None:
        """Read for one row what all begin with, and give it to all."""
        tokens_1T = torch.tensor([list(tokens)]).to(self._model.device)
        positions_1T = torch.arange(len(tokens), device=tokens_1T.device)[None, :]
        self._forward(tokens_1T, mask_BT=None, positions_BT=positions_1T)
        copies = torch.zeros(num_rows, dtype=torch.int64, device=tokens_1T.device)
        self._cache.batch_select_indices(copies)

    def _forward(
        self, tokens_BT: Tensor, *, mask_BT: Tensor | None, positions_BT: Tensor
    ) -> Tensor:
        last_column = torch.tensor([tokens_BT.shape[1] - 1]).to(tokens_BT.device)
        with evaluating(self._model):
            output = self._model(
                input_ids=tokens_BT,
                attention_mask=mask_BT,
                position_ids=positions_BT,
                cache=self._cache,
                use_cache=True,
                # As a tensor, which gives rows that lie together: of a slice of a wide batch the
                # product with the head copies the head once a row (56 MB for 49,152 tokens).
                logits_to_keep=last_column,
            )
        self._num_read += tokens_BT.shape[1]
        return output.logits[:, -1]


def _num_shared(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with, leaving each at least one of its own."""
    if len(prompts) < 2:
        return 0
    longest = min(len(prompt) for prompt in prompts) - 1
    shared = 0
    while shared < longest and len({prompt[shared] for prompt in prompts}) == 1:
        shared += 1
    return shared if shared >= MIN_SHARED_TOKENS else 0
