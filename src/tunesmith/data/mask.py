"""From spans of characters to the weight of every token, exactly or not at all.

A span may only begin where the tokens before it are those that the text before it has on its own: a
server that sends that text sends the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith.data.tokenizer import Encoding, TextEncoder

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Span:
    """Characters trained with a weight; `may_split` if the text may be encoded in two there.

    Only the last span of a text may: a server encodes all earlier ones together.
    """

    start: int
    end: int
    weight: float
    may_split: bool


@dataclass(frozen=True, slots=True)
class Weighed:
    """Tokens and the weight of each as a target."""

    ids: list[int]
    weights: Weights


def weigh(
    text: str,
    encoding: Encoding,
    spans: Sequence[Span],
    encoder: TextEncoder,
    *,
    base_weight: float,
) -> Weighed | None:
    """Give every token its weight; None where one reaches over a border that cannot be split."""
    firsts = [_border(text, span.start, encoding, encoder) for span in spans]
    if spans and spans[-1].may_split and firsts[-1] is None:
        split = _split(text, spans[-1].start, encoding, encoder)
        if split is None:
            return None
        encoding = split
        firsts = [_border(text, span.start, encoding, encoder) for span in spans]
    weights = np.full(len(encoding.ids), base_weight, dtype=np.float32)
    for span, first in zip(spans, firsts, strict=True):
        last = _end(text, span.end, encoding)
        if first is None or last is None:
            return None
        weights[first:last] = span.weight
    return Weighed(encoding.ids, weights)


def _border(text: str, at: int, encoding: Encoding, encoder: TextEncoder) -> int | None:
    """Return how many tokens lie before a border, or None if they are not those of the text alone.

    Only the part from the last control token on is encoded again: control tokens are cut out of a
    text before anything else, so nothing before them depends on what follows.
    """
    ids, control_ids = encoding.ids, encoder.control_ids
    anchor = encoding.token_from(at)
    while anchor > 0 and ids[anchor - 1] not in control_ids:
        anchor -= 1
    first = max(anchor - 1, 0)
    from_char = encoding.span(first)[0] if anchor > 0 else 0
    alone = encoder.ids(text[from_char:at])
    border = first + len(alone)
    return border if ids[first:border] == alone else None


def _end(text: str, at: int, encoding: Encoding) -> int | None:
    """Return the index after the last token of a span that ends at a character."""
    if at == len(text):
        return len(encoding.ids)
    border = encoding.token_from(at)
    # Some tokenizers leave spaces out of the offsets: a token of spaces is then empty, at its end.
    while border < len(encoding.ids) and encoding.span(border) == (at, at):
        border += 1
    # A special token may take in the white space after it; any other token over the border is
    # wrong.
    last_char = encoding.span(border - 1)[1] if border > 0 else 0
    return None if text[at:last_char].strip() else border


def _split(text: str, at: int, whole: Encoding, encoder: TextEncoder) -> Encoding | None:
    """Encode a text in two pieces, as a server meets it: the prompt, then what is generated."""
    before, after = encoder.encode([text[:at], text[at:]])
    ids = before.ids + after.ids
    offsets = before.offsets + [(start + at, end + at) for start, end in after.offsets]
    # Some tokenizers put a space before every piece: then two pieces are not the same text.
    return Encoding(ids, offsets) if encoder.decode(ids) == encoder.decode(whole.ids) else None
