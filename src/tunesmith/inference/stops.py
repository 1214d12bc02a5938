"""The tokens that end an answer: the model's end tokens and the template's end of a turn.

A chat template may end turns with a token that is not the tokenizer's end token; the model has
learned to write that one, so an engine that waits for the other never stops.
"""

from __future__ import annotations

from tunesmith.data.template import end_of_turn
from tunesmith.data.tokenizer import Tokenizer, encoder_of


def stop_ids(tokenizer: Tokenizer, model_end: int | list[int] | None) -> frozenset[int]:
    """All tokens after which nothing belongs to the answer.

    Args:
        tokenizer: with the chat template, if the model has one.
        model_end: the `eos_token_id` of the model's generation config.
    """
    found = [tokenizer.eos_token_id, *(model_end if isinstance(model_end, list) else [model_end])]
    encoder = encoder_of(tokenizer)
    closing = end_of_turn(encoder)
    # A turn that ends in several tokens has no stop token; its text ends are the template's matter.
    if closing is not None and len(encoder.ids(closing)) == 1:
        found.extend(encoder.ids(closing))
    return frozenset(token for token in found if token is not None)
