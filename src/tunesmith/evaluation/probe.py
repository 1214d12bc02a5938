"""What a model knew before: a small fixed set of general questions, which measures forgetting.

The questions (probe.jsonl) are of six kinds: general knowledge, simple arithmetic, common sense,
grammar, the meaning of words, and following an instruction to the letter. Each has one right reply
and three wrong ones. The model need not write anything: it is right where the right reply is the
likeliest of the four, so chance is 0.25, and a lost point is lost knowledge and no other wording.

A model with a chat template is asked through it, as anyone would ask it and so without the recipe's
system message; any other gets the question and the reply as a text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from tunesmith.data.conversation import Conversation, Message, PromptCompletion
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.evaluation.choices import log_likelihoods
from tunesmith.recipe.data import DataPart
from tunesmith.tasks.candidates import Choice, render_candidates
from tunesmith.tasks.said import Said
from tunesmith.tasks.scores.choices import true_is_likeliest
from tunesmith.tasks.scores.row_values import PROBE
from tunesmith.tasks.scores.score import Score, share_of
from tunesmith.training.loss import LanguageModel

QUESTIONS = "probe.jsonl"


@dataclass(frozen=True)
class ProbeQuestion:
    """A question with its one right reply and others that are wrong."""

    kind: str
    question: str
    right: str
    wrong: tuple[str, ...]

    @property
    def replies(self) -> tuple[str, ...]:
        """All replies, the right one first; the order has no part in the score."""
        return (self.right, *self.wrong)


@dataclass(frozen=True)
class Probed:
    """Which questions the model has right, their kinds and its replies, in the set's order."""

    hits: tuple[bool, ...]
    kinds: tuple[str, ...]
    chosen: tuple[str, ...]

    @property
    def said(self) -> tuple[Said, ...]:
        """What was answered, in the form in which answers are kept and compared."""
        rows = zip(read_probe(), self.hits, self.chosen, strict=True)
        return tuple(
            Said(question.question, (reply,), (question.right,), values={PROBE: float(hit)})
            for question, hit, reply in rows
        )

    @property
    def score(self) -> Score:
        """The share that is right; the details hold the share of each kind."""
        whole = share_of(self.hits)
        pairs = list(zip(self.kinds, self.hits, strict=True))
        by_kind = {
            kind: share_of([hit for one, hit in pairs if one == kind]).value
            for kind in dict.fromkeys(self.kinds)
        }
        return Score(whole.value, whole.rows, whole.low, whole.high, by_kind)


def read_probe() -> tuple[ProbeQuestion, ...]:
    """Return the questions, always the same ones."""
    text = Path(__file__).with_name(QUESTIONS).read_text(encoding="utf-8")
    rows = [cast("dict[str, Any]", json.loads(line)) for line in text.splitlines()]
    return tuple(
        ProbeQuestion(row["kind"], row["question"], row["right"], tuple(row["wrong"]))
        for row in rows
    )


def measure_probe(
    model: LanguageModel, tokenizer: Tokenizer, part: DataPart, *, pad_id: int = 0
) -> Probed | None:
    """Ask a model all questions; None where they are longer than the model has positions.

    Raises:
        DataError: the chat template has no exact rendering of a question.
        RunError: a likelihood is not finite.
    """
    questions = read_probe()
    choices = [_choice(question, is_chat=bool(tokenizer.chat_template)) for question in questions]
    # A limit on the training rows is none on these.
    part = part.model_copy(update={"system": None, "max_length": 2**31})
    examples = list(render_candidates(choices, tokenizer, part))
    positions = getattr(model.decoder.config, "max_position_embeddings", None)
    longest = max(len(example.tokens) for candidates in examples for example in candidates)
    if positions is not None and longest > cast("int", positions):
        return None
    found = log_likelihoods(model, examples, pad_id=pad_id)
    hits = [true_is_likeliest(one, np.arange(len(one.tokens)) == 0) for one in found]
    chosen = [
        question.replies[int(one.log_probs.argmax())]
        for question, one in zip(questions, found, strict=True)
    ]
    kinds = [question.kind for question in questions]
    return Probed(tuple(hits), tuple(kinds), tuple(chosen))


def _choice(question: ProbeQuestion, *, is_chat: bool) -> Choice:
    if is_chat:
        asked = Conversation(messages=(Message("user", question.question),), row_id=QUESTIONS)
        return Choice(asked, question.replies)
    prompt = f"Question: {question.question}\nAnswer:"
    replies = tuple(f" {reply}" for reply in question.replies)
    return Choice(PromptCompletion(prompt=prompt, completion="", row_id=QUESTIONS), replies)
