"""The PEFT library's word for what a model does, by which it chooses its own class."""

from __future__ import annotations

from torch import nn

# How transformers' classes end, and the word.
WORDS = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
}


def peft_task(model: nn.Module) -> str | None:
    """Return the word; None where the library has none for such a model."""
    name = type(model).__name__
    writes = hasattr(model, "prepare_inputs_for_generation")
    otherwise = "CAUSAL_LM" if writes else None
    return next((word for end, word in WORDS.items() if name.endswith(end)), otherwise)
