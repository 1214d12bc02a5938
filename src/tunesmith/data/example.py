"""A row as the model sees it, and what a length limit makes of it.

A text that is cut into chunks loses nothing. Each later chunk begins with the begin token, where
the model has one, and with the last token of the chunk before, which is read again and not trained
again: so each token is a target exactly once, and has the token before it to be predicted from.

    text      <s> a b c d e f g </s>
    chunks    <s> a b c   |   <s> c d e   |   <s> e f g   |   <s> g </s>
    weights    0  1 1 1   |    0  0 1 1   |    0  0 1 1   |    0  0  1

A question's context that is cut up becomes windows that overlap, each behind the question. In one
that does not hold the whole answer there is none.

    context   <s> q ? a b c d e f </s>      (the answer is c d)
    windows   <s> q ? a b c </s>   |   <s> q ? c d e </s>   |   <s> q ? e f </s>     (stride 1)
    answer    none                 |   c d                  |   none
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, assert_never

import numpy as np
import numpy.typing as npt

from tunesmith.data.mask import Weights

START, END = "start", "end"  # the labels of the first and the last token of an answer
NONE = "none"  # that of the row's first token, where there is no answer


@dataclass(frozen=True, eq=False, slots=True)
class Example:
    """A row as the model sees it. `weights[t]` is the weight of token t as a target.

    `part` says which of a row's several examples this is, such as "chosen" or "reply 1 of 3".
    `num_bos` counts the begin tokens in front; a template may print more between turns.
    `places` are those that a head reads, each with its label; a place may have several. Their
    weights are then 1, at the places themselves. `closes` where the tokenizer's own token ends it.
    `control_text` where a text of the row holds what is taken for a control token, and
    `lost_thinking` where the template prints nothing of a reply's reasoning. `is_text` where it is
    a plain text, which may be cut anywhere. `skipped` counts the tokens of a context that come
    before those of a window.
    """

    row_id: str
    file: str
    line: int
    tokens: npt.NDArray[np.int32]
    weights: Weights
    has_end: bool = True
    part: str = ""
    num_bos: int = 0
    control_text: bool = False
    lost_thinking: bool = False
    is_text: bool = False
    places: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    labels: tuple[str, ...] = ()
    closes: bool = False
    skipped: int = 0

    @property
    def supervised_tokens(self) -> int:
        """How many tokens carry weight."""
        return int(np.count_nonzero(self.weights))


class Fitted(NamedTuple):
    """A row after the length limit: none where it does not fit uncut, several where it is cut up.

    `lost_` are tokens that are in no example any more.
    """

    examples: tuple[Example, ...]
    lost_tokens: int
    lost_supervised_tokens: int


def fit(
    example: Example,
    max_length: int,
    overflow: Literal["error", "drop", "truncate", "chunk"],
    *,
    stride: int = 0,
) -> Fitted:
    """Hold an example to the length limit. `truncate` cuts the end off and counts what is lost.

    `chunk` cuts a plain text up and loses nothing, and a question's context into windows that share
    `stride` tokens; any other example that is too long does not fit.
    """
    if len(example.tokens) <= max_length:
        return Fitted((example,), 0, 0)
    match overflow:
        case "chunk" if example.is_text:
            return Fitted(tuple(_chunks(example, max_length)), 0, 0)
        case "chunk" if has_windows(example) and (
            windows := windows_of(example, max_length, stride)
        ):
            return Fitted(tuple(windows), 0, 0)
        case "error" | "drop" | "chunk":
            return Fitted((), len(example.tokens), example.supervised_tokens)
        case "truncate":
            cut = _cut_labelled(example, max_length)
            cut = cut or _part(example, slice(max_length))
            lost_supervised = example.supervised_tokens - cut.supervised_tokens
            return Fitted((cut,), len(example.tokens) - max_length, lost_supervised)
        case _:
            assert_never(overflow)


def _chunks(example: Example, max_length: int) -> Iterator[Example]:
    num_tokens = len(example.tokens)
    # With room for two tokens only, the one before is worth more than the begin token.
    bos = example.tokens[:1] if example.num_bos and max_length > 2 else example.tokens[:0]
    room = max_length - len(bos) - 1
    starts = range(max_length, num_tokens, room)
    total = 1 + len(starts)
    yield replace(_part(example, slice(max_length)), part=f"chunk 1 of {total}")
    for number, start in enumerate(starts, 2):
        weights = np.concatenate([np.zeros(len(bos) + 1), example.weights[start : start + room]])
        yield replace(
            example,
            tokens=np.concatenate([bos, example.tokens[start - 1 : start + room]]),
            weights=weights.astype(np.float32),
            num_bos=len(bos),
            part=f"chunk {number} of {total}",
        )


def has_windows(example: Example) -> bool:
    """Say whether an example is a question with its context and an answer in it, or none."""
    return example.places[:1].tolist() == [0] and not {START, NONE}.isdisjoint(example.labels)


def windows_of(example: Example, max_length: int, stride: int) -> list[Example]:
    """Return a question with a long context as windows, two of which share `stride` tokens.

    They share half a window where that is less. There are none where the question leaves no room,
    or no window holds the whole answer.
    """
    places = np.unique(example.places)  # the first token, and the context
    begin, end = int(places[1]), int(places[-1]) + 1
    room = max_length - (len(example.tokens) - (end - begin))
    if room < 2:
        return []
    step = room - min(stride, room // 2)
    total = 1 + max(0, math.ceil((end - begin - room) / step))
    windows = [
        replace(_window(example, slice(start, min(start + room, end)), begin, end),
                part=f"window {number} of {total}")
        for number, start in enumerate(range(begin, begin + total * step, step), 1)
    ]  # fmt: skip
    is_lost = START in example.labels and not any(START in one.labels for one in windows)
    return [] if is_lost else windows


def _window(example: Example, context: slice, begin: int, end: int) -> Example:
    """Keep a part of the context, which goes from `begin` to `end`."""
    tokens = [example.tokens[:begin], example.tokens[context], example.tokens[end:]]
    skipped = context.start - begin
    marks = list(zip(example.places.tolist(), example.labels, strict=True))
    inside = [(place - skipped, label) for place, label in marks
              if context.start <= place < context.stop]  # fmt: skip
    answer = [label for _, label in inside if label in (START, END)]
    if len(answer) < 2:
        inside = [(place, "") for place, label in inside if not label]
    first = [(0, label) for place, label in marks if place == 0]
    if len(answer) < 2 and START in example.labels:
        first.append((0, NONE))
    kept = [*first, *inside]
    places = np.array([place for place, _ in kept], dtype=np.int32)
    weights = np.zeros(sum(map(len, tokens)), dtype=np.float32)
    weights[places] = 1.0
    return replace(
        example,
        tokens=np.concatenate(tokens),
        weights=weights,
        places=places,
        labels=tuple(label for _, label in kept),
        skipped=skipped,
    )


def _cut_labelled(example: Example, max_length: int) -> Example | None:
    """Cut a row that a head reads; a closing special token stays, and so do labels of the whole.

    Labels of places that are cut off are lost, and counted so.
    """
    if not len(example.places):
        return None
    end = int(example.closes)
    tokens = np.concatenate([example.tokens[: max_length - end], example.tokens[-1:][:end]])
    last = len(example.tokens) - 1
    is_of_whole = bool((example.places == last).all())
    kept = example.places >= 0 if is_of_whole else example.places < max_length - end
    places = np.full_like(example.places, max_length - 1) if is_of_whole else example.places[kept]
    weights = np.zeros(max_length, dtype=np.float32)
    weights[places] = 1.0
    labels = tuple(label for label, keep in zip(example.labels, kept, strict=True) if keep)
    if any((name in example.labels) != (name in labels) for name in (START, END)):
        weights[:] = 0.0  # the answer is cut off, so there is nothing to learn
    return replace(example, tokens=tokens, weights=weights, places=places, labels=labels)


def _part(example: Example, which: slice) -> Example:
    return replace(example, tokens=example.tokens[which], weights=example.weights[which])
