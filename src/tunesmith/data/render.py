r"""From a sample to tokens and weights, and the prompt of the same sample as it will be served.

    text      <user>elm<end>\n<assistant>oak<end>\n      (printed by the model's own template)
    weights      0   0   0  0      0       1   1   0      (of each as a target; the first has none)

The text is encoded whole, and a reply's border must be a border between tokens there, with the same
tokens before it that the prompt alone has: then what was trained is what is served, token for
token. Where a token would reach over the border of the last reply (a reply that begins with a line
break), the text is encoded in two pieces at that border, which is how a server meets it; over an
earlier border it is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple, assert_never

import numpy as np
import numpy.typing as npt

from tunesmith.core.errors import DataError
from tunesmith.data.conversation import (
    Conversation,
    Message,
    PlainText,
    Preference,
    PromptCompletion,
    Sample,
    texts_of,
)
from tunesmith.data.formats import TaskName
from tunesmith.data.mask import Span, Weights, weigh
from tunesmith.data.rows import RowFault
from tunesmith.data.template import CannotMaskError, render_chat, render_prompt
from tunesmith.data.tokenizer import Encoding, TemplateRefusalError, TextEncoder, Tokenizer
from tunesmith.recipe.data import DataPart

_BATCH = 512  # samples encoded in one call: enough for all cores, little enough to hold
_MAX_PROMPT_OF_TEXT = 64


@dataclass(frozen=True, eq=False, slots=True)
class Example:
    """A row as the model sees it. `weights[t]` is the weight of token t as a target."""

    row_id: str
    file: str
    line: int
    tokens: npt.NDArray[np.int32]
    weights: Weights
    has_end: bool = True
    part: str = ""  # which of a row's several examples this is, such as "chosen"

    @property
    def supervised_tokens(self) -> int:
        """How many tokens carry weight."""
        return int(np.count_nonzero(self.weights))


class Prompt(NamedTuple):
    """What a server would send for a sample, and the answer that the sample gives."""

    tokens: list[int]
    reference: str


class Fitted(NamedTuple):
    """A row after the length limit: the example, or None where it does not fit uncut."""

    example: Example | None
    lost_tokens: int
    lost_supervised_tokens: int


def render(sample: Sample, tokenizer: Tokenizer, part: DataPart, task: TaskName) -> Example:
    """Render one sample; raises DataError where it has no exact rendering."""
    (rendered,) = render_all([sample], TextEncoder(tokenizer), part, task)
    if isinstance(rendered, RowFault):
        raise DataError(rendered.to_fault())
    (example,) = rendered
    return example


def render_all(
    samples: Iterable[Sample], encoder: TextEncoder, part: DataPart, task: TaskName
) -> Iterator[tuple[Example, ...] | RowFault]:
    """Render samples in batches; each becomes its examples or the fault that prevents them."""
    remaining = iter(samples)
    while batch := list(islice(remaining, _BATCH)):
        scripts = [_to_script(sample, encoder, part, task) for sample in batch]
        texts = [script.text for script in scripts if isinstance(script, _Script)]
        encodings = iter(encoder.encode(texts))
        for sample, script in zip(batch, scripts, strict=True):
            if isinstance(script, RowFault):
                yield script
            else:
                example = _to_example(sample, script, next(encodings), encoder)
                yield example if isinstance(example, RowFault) else (example,)


def prompt_tokens(sample: Sample, tokenizer: Tokenizer, part: DataPart, task: TaskName) -> Prompt:
    """Return the prompt of the sample's last reply: a prefix of the sample's own example.

    Of a plain text it is the first half, at most 64 tokens: the model is to go on from there.
    """
    encoder = TextEncoder(tokenizer)
    match sample:
        case Conversation():
            messages = with_system(sample.messages, part.system)
            last = _replies(messages)[-1]
            tokens = chat_prompt(messages[:last], tokenizer)
            return Prompt(tokens, messages[last].content)
        case PromptCompletion():
            ids = encoder.ids(sample.prompt)
            return Prompt([*encoder.missing_bos(ids), *ids], sample.completion)
        case Preference():
            raise NotImplementedError
        case PlainText():
            tokens = render(sample, tokenizer, part, task).tokens.tolist()
            num_given = max(1, min(_MAX_PROMPT_OF_TEXT, len(tokens) // 2))
            rest = tokens[num_given:-1]  # the end token is no text
            return Prompt(tokens[:num_given], encoder.decode(rest))
        case _:
            assert_never(sample)


def chat_prompt(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """Return the tokens that a server sends for a conversation, rendered as in training."""
    encoder = TextEncoder(tokenizer)
    if encoder.template is None:
        raise DataError(_no_template(encoder, "the conversation").to_fault())
    try:
        text = render_prompt(tuple(messages), encoder)
    except TemplateRefusalError as refusal:
        raise DataError(
            _refused(encoder, refusal, RowFault(file="the conversation")).to_fault()
        ) from refusal
    ids = encoder.ids(text)
    return [*encoder.missing_bos(ids), *ids]


def with_system(messages: tuple[Message, ...], system: str | None) -> tuple[Message, ...]:
    """Give a conversation the recipe's system message where it does not bring its own."""
    if system is None or (messages and messages[0].role == "system"):
        return messages
    return (Message("system", system), *messages)


def has_control_text(sample: Sample, encoder: TextEncoder) -> bool:
    """Say whether a text holds what the tokenizer takes for a control token, such as <|im_end|>."""
    return any(encoder.control_pattern.search(text) for text in texts_of(sample))


def fit(
    example: Example, max_length: int, overflow: Literal["error", "drop", "truncate", "chunk"]
) -> Fitted:
    """Hold an example to the length limit. Only `truncate` cuts, at the end, and counts."""
    if len(example.tokens) <= max_length:
        return Fitted(example, 0, 0)
    match overflow:
        case "error" | "drop":
            return Fitted(None, len(example.tokens), example.supervised_tokens)
        case "truncate" | "chunk":
            cut = Example(
                row_id=example.row_id,
                file=example.file,
                line=example.line,
                tokens=example.tokens[:max_length],
                weights=example.weights[:max_length],
                has_end=example.has_end,
            )
            lost_supervised = example.supervised_tokens - cut.supervised_tokens
            return Fitted(cut, len(example.tokens) - max_length, lost_supervised)
        case _:
            assert_never(overflow)


@dataclass(frozen=True, slots=True)
class _Script:
    """A text, what of it is trained, and what the tokens get around them."""

    text: str
    spans: tuple[Span, ...]
    base_weight: float = 0.0
    ends_with_eos: bool = False
    has_end: bool = True


def _to_script(
    sample: Sample, encoder: TextEncoder, part: DataPart, task: TaskName
) -> _Script | RowFault:
    match sample:
        case Conversation():
            assert task == "chat", "the checks let no conversation through for another task"
            return _script_of_chat(sample, encoder, part)
        case PromptCompletion():
            start, end = len(sample.prompt), len(sample.prompt) + len(sample.completion)
            return _Script(
                text=sample.prompt + sample.completion,
                spans=(Span(start, end, 1.0, may_split=True),),
                base_weight=1.0 if part.train_on == "all" else 0.0,
                ends_with_eos=True,
            )
        case Preference():
            raise NotImplementedError
        case PlainText():
            return _Script(text=sample.text, spans=(), base_weight=1.0, ends_with_eos=True)
        case _:
            assert_never(sample)


def _script_of_chat(
    sample: Conversation, encoder: TextEncoder, part: DataPart
) -> _Script | RowFault:
    place = RowFault(file=sample.file, line=sample.line, row_id=sample.row_id, field="messages")
    if encoder.template is None:
        return _no_template(encoder, sample.file)
    messages = with_system(sample.messages, part.system)
    weights = _reply_weights(messages, part.train_on)
    base_weight = 1.0 if part.train_on == "all" else 0.0
    wanted = tuple(index for index, weight in weights.items() if weight != base_weight)
    try:
        chat = render_chat(messages, wanted, encoder)
    except TemplateRefusalError as refusal:
        return _refused(encoder, refusal, place)
    except CannotMaskError as reason:
        return _cannot_mask(encoder, str(reason), place)
    last = _replies(messages)[-1]
    spans = tuple(
        Span(reply.start, reply.end, weights[reply.message], may_split=reply.message == last)
        for reply in chat.replies
    )
    has_end = all(reply.has_end for reply in chat.replies)
    return _Script(text=chat.text, spans=spans, base_weight=base_weight, has_end=has_end)


def _replies(messages: Sequence[Message]) -> list[int]:
    return [index for index, message in enumerate(messages) if message.role == "assistant"]


def _reply_weights(
    messages: tuple[Message, ...], train_on: Literal["assistant", "last-assistant", "all"]
) -> dict[int, float]:
    """Return each reply's weight: its own where the row gives one, else what `train_on` says."""
    replies = _replies(messages)
    trained = replies[-1:] if train_on == "last-assistant" else replies
    asked = {index: messages[index].weight for index in replies}
    return {
        index: (1.0 if weight is None else weight) if index in trained else 0.0
        for index, weight in asked.items()
    }


def _to_example(
    sample: Sample, script: _Script, encoding: Encoding, encoder: TextEncoder
) -> Example | RowFault:
    weighed = weigh(script.text, encoding, script.spans, encoder, base_weight=script.base_weight)
    if weighed is None:
        return _straddle(RowFault(file=sample.file, line=sample.line, row_id=sample.row_id))
    bos = encoder.missing_bos(weighed.ids)
    ids = [*bos, *weighed.ids]
    eos = encoder.tokenizer.eos_token_id
    num_eos = int(script.ends_with_eos and eos is not None and ids[-1:] != [eos])
    ids += [eos] * num_eos
    weights = np.pad(weighed.weights, (len(bos), num_eos), constant_values=(0.0, 1.0))
    weights[:1] = 0.0  # nothing comes before the first token that could predict it
    return Example(
        row_id=sample.row_id,
        file=sample.file,
        line=sample.line,
        tokens=np.array(ids, dtype=np.int32),
        weights=weights,
        has_end=script.has_end,
    )


def _no_template(encoder: TextEncoder, file: str) -> RowFault:
    return RowFault(
        file=file,
        found=f"the model {encoder.name} has no chat template",
        expected="a model that can chat",
        fix="choose an instruct model, or task: completion",
        reason="no chat template",
    )


def _refused(encoder: TextEncoder, refusal: TemplateRefusalError, place: RowFault) -> RowFault:
    about_system = "system" in str(refusal).lower()
    return place.saying(
        found=f"the chat template of {encoder.name} does not accept this conversation: {refusal}",
        expected="messages that it accepts",
        fix=(
            "put the system text at the start of the first user message, or drop the system "
            "message (data.system too, where the recipe sets it)"
            if about_system
            else "change the row's roles or their order to what the model knows, or remove the row"
        ),
        reason="refused by the chat template",
    )


def _cannot_mask(encoder: TextEncoder, why: str, place: RowFault) -> RowFault:
    return place.saying(
        found=f"the chat template of {encoder.name} does not show where the replies are: {why}",
        expected="a template that prints earlier turns as they were served",
        fix=(
            "set data.train_on: last-assistant, split the conversation into rows of one reply, or "
            "put {% generation %} marks into the template"
        ),
        reason="no exact mask from the chat template",
    )


def _straddle(place: RowFault) -> RowFault:
    return place.saying(
        found="one token reaches over the border between a prompt and its reply",
        expected="a reply that begins with a token of its own",
        fix="remove the white space at the reply's start, or set data.train_on: last-assistant",
        reason="a token over the border of a reply",
    )
