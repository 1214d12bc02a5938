"""The model's tokenizer and chat template, as far as the data layer uses them.

The only file here that imports transformers. The folder's tokenizer.json is taken as it is: the
classes that transformers picks by a model's name may rebuild the tokenizer and split text
otherwise.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol, cast

from tunesmith.core.errors import Fault, ModelError
from tunesmith.data.chat_template import template_text
from tunesmith.data.special_tokens import set_special_tokens
from tunesmith.data.word_memory import Places, WordMemory

Offset = tuple[int, int]
_GENERATION_MARK = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


class AddedToken(Protocol):
    """A token that is matched as a whole before the text is split."""

    content: str
    special: bool


class Tokenizer(Protocol):
    """What Tunesmith uses of a transformers tokenizer."""

    name_or_path: str
    chat_template: str | dict[str, str] | None
    bos_token: str | None
    eos_token: str | None
    bos_token_id: int | None
    eos_token_id: int | None
    pad_token_id: int | None

    @property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]: ...  # noqa: D102

    @property
    def special_tokens_map(self) -> Mapping[str, str]: ...  # noqa: D102

    @property
    def backend_tokenizer(self) -> Any: ...  # noqa: D102

    def __len__(self) -> int: ...

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = False) -> str: ...  # noqa: D102

    def save_pretrained(self, save_directory: str | Path) -> Any: ...  # noqa: D102


class TemplateRefusalError(Exception):
    """The chat template raised: it does not accept these messages."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A template's output; `marks` are the spans that it wraps in generation marks itself."""

    text: str
    marks: tuple[Offset, ...]


@dataclass(frozen=True, slots=True)
class Encoding:
    """Tokens of a text, and where in it they came from. `raw` is the tokenizer's own result.

    The list of offsets costs more than the encoding of a short text, so it is made only where the
    tokenizer's own look-up does not answer.
    """

    ids: list[int]
    raw: Any

    @property
    def offsets(self) -> list[Offset]:
        """The characters of each token."""
        return self.raw if isinstance(self.raw, list) else self.raw.offsets

    def token_from(self, char: int) -> int:
        """Return the index of the first token that begins at a character or after it."""
        if isinstance(self.raw, Places):
            return self.raw.token_from(char)
        if not isinstance(self.raw, list):
            token = self.raw.char_to_token(char)
            if token is not None and self.raw.token_to_chars(token)[0] == char:
                return token
        return bisect_left(self.offsets, char, key=_start)

    def span(self, token: int) -> Offset:
        """Return the characters of one token."""
        if isinstance(self.raw, Places):
            return self.raw.span(token)
        if isinstance(self.raw, list):
            return self.raw[token]
        return self.raw.token_to_chars(token) or self.raw.offsets[token]


def _start(offset: Offset) -> int:
    return offset[0]


def load_tokenizer(
    folder: Path | str,
    *,
    special_tokens: Mapping[str, str] | None = None,
    chat_template: str | None = None,
) -> Tokenizer:
    """Load the tokenizer of a local model folder; the network is never asked.

    Args:
        folder: The model's folder.
        special_tokens: Tokens of the vocabulary to use as `bos`, `eos` or `pad` instead of the
            folder's own.
        chat_template: A template in place of the folder's own, by its name or as its text.

    Raises:
        ModelError: the folder holds no tokenizer, or a special token is not in the vocabulary.
    """
    folder = Path(folder)
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(
            Fault(
                found="the model folder holds no tokenizer.json",
                where=str(folder),
                fix="add the tokenizer.json that belongs to the model",
            )
        )
    from transformers import PreTrainedTokenizerFast  # a second of imports: only where it is used

    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    if special_tokens:
        set_special_tokens(tokenizer, special_tokens)
    if chat_template is not None:
        tokenizer.chat_template = template_text(chat_template)
    return cast("Tokenizer", tokenizer)


def separator_of(tokenizer: Tokenizer) -> int | None:
    """Return the token that stands between the texts of a pair, as BERT's [SEP]."""
    return tokenizer.backend_tokenizer.token_to_id("[SEP]")


class TextEncoder:
    """Turns text into tokens without adding any, and remembers what short texts became."""

    _MAX_REMEMBERED_CHARS = 200
    _MAX_REMEMBERED = 10_000

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self._remembered: dict[str, list[int]] = {}
        self._programs: dict[str | None, Any] = {}

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode many texts at once, on all cores."""
        # tokenizer.json may carry a cut or a padding that its author used; neither is wanted here.
        self._backend.no_truncation()
        self._backend.no_padding()
        if self._words is not None:
            return [Encoding(*self._words.encode(text)) for text in texts]
        encoded = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [Encoding(one.ids, one) for one in encoded]

    def encode_whole(self, texts: Sequence[Any]) -> list[Any]:
        """Encode texts and pairs of texts with what the tokenizer itself puts around them."""
        self._backend.no_truncation()
        self._backend.no_padding()
        return self._backend.encode_batch(list(texts), add_special_tokens=True)

    @cached_property
    def separates_pairs(self) -> bool:
        """Whether the tokenizer puts a token of its own between the two texts of a pair."""
        (pair,) = self.encode_whole([("a", "b")])
        first = pair.sequence_ids.index(0) if 0 in pair.sequence_ids else 0
        return None in pair.sequence_ids[first : pair.sequence_ids.index(1)]

    @cached_property
    def _words(self) -> WordMemory | None:
        """The faster way to the same tokens, where there is one."""
        return WordMemory.of(self._backend)

    def ids(self, text: str) -> list[int]:
        """Encode one text."""
        if text in self._remembered:
            return self._remembered[text]
        ids = self.encode([text])[0].ids
        if len(text) <= self._MAX_REMEMBERED_CHARS and len(self._remembered) < self._MAX_REMEMBERED:
            self._remembered[text] = ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones included."""
        return self.tokenizer.decode(ids, skip_special_tokens=False)

    @cached_property
    def automatic_bos(self) -> int | None:
        """The id of the token that the tokenizer itself puts before a text, or None."""
        bos = self.tokenizer.bos_token_id
        added = self._backend.encode("", add_special_tokens=True).ids
        return bos if added and added[0] == bos else None

    def missing_bos(self, ids: Sequence[int]) -> list[int]:
        """Return BOS where the model has one and the text does not bring it, else nothing."""
        bos = self.automatic_bos
        return [] if bos is None or list(ids[:1]) == [bos] else [bos]

    @cached_property
    def control_ids(self) -> frozenset[int]:
        """Tokens that steer the model and are no text: the special ones, and the end token."""
        special = {id for id, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        eos = self.tokenizer.eos_token_id
        return frozenset(special if eos is None else special | {eos})

    def holds_control_text(self, text: str) -> bool:
        """Say whether a text holds what is taken for a control token, such as <|im_end|>."""
        # Searching for the few ways in which they begin costs less than the pattern.
        for first, openings in self._control_openings.items():
            if first in text and any(opening in text for opening in openings):
                return bool(self._control_pattern.search(text))
        return False

    @cached_property
    def _control_openings(self) -> dict[str, set[str]]:
        openings: dict[str, set[str]] = {}
        for text in self._control_texts:
            openings.setdefault(text[0], set()).add(text[:2])
        return openings

    @cached_property
    def _control_pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, self._control_texts)) or "(?!)")  # never matches

    def closing_of(self, turn: str) -> Offset | None:
        """Find the token that ends a turn: the first of the control tokens that it ends with.

        Special tokens are tried first. Tokens that a template writes without calling them special
        come second, because a reply may itself end with one, such as a closing tag.
        """
        for texts in self._closing_texts:
            if texts and (closing := _first_of_last(turn, texts)):
                return closing
        return None

    @cached_property
    def _closing_texts(self) -> tuple[tuple[str, ...], ...]:
        template = self.template or ""
        written = self._texts(lambda _, text: text in template and not text.isspace())
        return self._control_texts, written

    @cached_property
    def _control_texts(self) -> tuple[str, ...]:
        return self._texts(lambda id, _: id in self.control_ids)

    def _texts(self, wanted: Callable[[int, str], bool]) -> tuple[str, ...]:
        """Return the texts of added tokens, the longest first."""
        tokens = self.tokenizer.added_tokens_decoder.items()
        texts = [token.content for id, token in tokens if wanted(id, token.content)]
        return tuple(sorted(filter(None, texts), key=len, reverse=True))

    @property
    def template(self) -> str | None:
        """The model's chat template, or None."""
        return self._template_for(with_tools=False)

    def _template_for(self, *, with_tools: bool) -> str | None:
        template = self.tokenizer.chat_template
        if not isinstance(template, dict):
            return template
        # The rule by which transformers serves: a template of its own where tools are offered.
        named = template.get("tool_use") if with_tools else None
        return named or template.get("default")

    @property
    def name(self) -> str:
        """What to call the template in a message: the folder or id that it came with."""
        return Path(self.tokenizer.name_or_path).name or "the tokenizer"

    def apply_template(
        self,
        messages: list[dict[str, Any]],
        *,
        tools: list[dict[str, Any]] | None = None,
        add_generation_prompt: bool,
    ) -> str:
        """Render messages with the model's own chat template, as transformers does to serve.

        Raises:
            TemplateRefusalError: the template raised.
        """
        try:
            return self._program(with_tools=tools is not None).render(
                messages=messages,
                tools=tools,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._special_texts,
            )
        except Exception as error:  # a template is a program: whatever it raises is its answer
            raise TemplateRefusalError(str(error) or type(error).__name__) from error

    def has_marks(self, *, with_tools: bool) -> bool:
        """Say whether the chat template marks what the model generates."""
        return bool(_GENERATION_MARK.search(self._template_for(with_tools=with_tools) or ""))

    def apply_template_with_marks(
        self, messages: list[dict[str, Any]], *, tools: list[dict[str, Any]] | None
    ) -> Rendered:
        """Render messages and return what the template wraps in generation marks.

        Raises:
            TemplateRefusalError: the template raised.
        """
        from transformers.utils import chat_template_utils

        template = self._template_for(with_tools=tools is not None)
        assert template is not None, "the caller checks that there is a template"
        special: dict[str, Any] = dict(self._special_texts)
        try:
            rendered: Any = chat_template_utils.render_jinja_template(
                conversations=[messages],
                tools=cast("Any", tools),
                chat_template=template,
                return_assistant_tokens_mask=True,
                add_generation_prompt=False,
                **special,
            )
        except Exception as error:
            raise TemplateRefusalError(str(error) or type(error).__name__) from error
        texts, spans = rendered
        return Rendered(text=texts[0], marks=tuple(spans[0]))

    def _program(self, *, with_tools: bool) -> Any:
        """The compiled template, in the environment in which transformers runs it."""
        template = self._template_for(with_tools=with_tools)
        if template not in self._programs:
            from transformers.utils import chat_template_utils

            # The public function takes as long again as a short conversation: it copies all that
            # the template sees. What it sees here is plain already.
            compile_template = chat_template_utils._compile_jinja_template  # pyright: ignore[reportPrivateUsage]
            environment: Any = compile_template(template).environment
            # jinja keeps a template's globals as a chain of dicts, and walks it for every rendering
            # (5 of 12 us); one dict with the same content is read at once.
            self._programs[template] = environment.template_class.from_code(
                environment, environment.compile(template), dict(environment.globals)
            )
        return self._programs[template]

    @cached_property
    def _special_texts(self) -> dict[str, str]:
        return dict(self.tokenizer.special_tokens_map)


@lru_cache(maxsize=4)
def encoder_of(tokenizer: Tokenizer) -> TextEncoder:
    """Return the encoder of a tokenizer; what it works out and remembers serves every call."""
    return TextEncoder(tokenizer)


def _first_of_last(turn: str, texts: tuple[str, ...]) -> Offset | None:
    """Take tokens off the end of a turn, spaces aside; return where the last one taken is."""
    found: Offset | None = None
    rest = turn.rstrip()
    while rest.endswith(texts):
        text = next(text for text in texts if rest.endswith(text))
        found = (len(rest) - len(text), len(rest))
        rest = rest[: found[0]].rstrip()
    return found
