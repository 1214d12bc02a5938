"""The model's tokenizer and chat template, as far as the data layer uses them.

The only file here that imports transformers. The folder's tokenizer.json is taken as it is: the
classes that transformers picks by a model's name may rebuild the tokenizer and split text
otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, cast

from tunesmith.core.errors import Fault, ModelError

Offset = tuple[int, int]


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
    marks: tuple[Offset, ...] = ()


@dataclass(frozen=True, slots=True)
class Encoding:
    """Tokens of a text, each with the characters it came from."""

    ids: list[int]
    offsets: list[Offset]


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """Load the tokenizer of a local model folder; the network is never asked."""
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
    return cast("Tokenizer", tokenizer)


class TextEncoder:
    """Turns text into tokens without adding any, and remembers what short texts became."""

    _MAX_REMEMBERED_CHARS = 200
    _MAX_REMEMBERED = 10_000

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self._remembered: dict[str, list[int]] = {}

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode many texts at once, on all cores."""
        # tokenizer.json may carry a cut or a padding that its author used; neither is wanted here.
        self._backend.no_truncation()
        self._backend.no_padding()
        encoded = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [Encoding(ids=one.ids, offsets=one.offsets) for one in encoded]

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

    @cached_property
    def control_pattern(self) -> re.Pattern[str]:
        """Match the text of any control token."""
        return re.compile(self._control_texts)

    @cached_property
    def closing_patterns(self) -> tuple[re.Pattern[str], ...]:
        """Match the control tokens that end a text, spaces aside; group 1 is the first of them.

        Special tokens are tried first. Tokens that a template writes without calling them special
        come second, because a reply may itself end with one, such as a closing tag.
        """
        template = self.template or ""
        written = self._texts(lambda _, text: text in template and not text.isspace())
        return tuple(
            re.compile(rf"({texts})(?:\s|{texts})*\Z") for texts in (self._control_texts, written)
        )

    @cached_property
    def _control_texts(self) -> str:
        return self._texts(lambda id, _: id in self.control_ids)

    def _texts(self, wanted: Callable[[int, str], bool]) -> str:
        tokens = self.tokenizer.added_tokens_decoder.items()
        texts = [token.content for id, token in tokens if wanted(id, token.content)]
        longest_first = sorted(texts, key=len, reverse=True)
        return "|".join(map(re.escape, longest_first)) or "(?!)"  # (?!) never matches

    @cached_property
    def template(self) -> str | None:
        """The model's chat template, or None."""
        template = self.tokenizer.chat_template
        return template.get("default") if isinstance(template, dict) else template

    @property
    def name(self) -> str:
        """What to call the template in a message: the folder or id that it came with."""
        return Path(self.tokenizer.name_or_path).name or "the tokenizer"

    def apply_template(
        self, messages: list[dict[str, str]], *, add_generation_prompt: bool, marks: bool = False
    ) -> Rendered:
        """Render messages with the model's own chat template, as transformers does to serve."""
        from transformers.utils import chat_template_utils

        special_tokens: dict[str, Any] = dict(self.tokenizer.special_tokens_map)
        assert self.template is not None, "the caller checks that there is a template"
        try:
            rendered: Any = chat_template_utils.render_jinja_template(
                conversations=[messages],
                chat_template=self.template,
                return_assistant_tokens_mask=marks,
                add_generation_prompt=add_generation_prompt,
                **special_tokens,
            )
        except Exception as error:  # a template is a program: whatever it raises is its answer
            raise TemplateRefusalError(str(error) or type(error).__name__) from error
        texts, spans = rendered
        return Rendered(text=texts[0], marks=tuple(spans[0]) if marks else ())
