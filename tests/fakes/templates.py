"""Stand-ins for the chat templates of well-known models, each with a small tokenizer of its kind.

They are written for the tests and print what the families print: the markers, where the system
message goes, what is stripped, what is refused, and what happens to earlier turns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from tests.fakes.tiny import MERGES, byte_vocabulary

Kind = Literal[
    "bytes", "bytes-lines", "metaspace-first", "metaspace-always", "unigram", "wordpiece"
]


@dataclass(frozen=True)
class StandIn:
    """A template and the special tokens that it needs.

    `takes_white_space` are special tokens that take in the white space after them; `automatic_bos`
    where the tokenizer puts its begin token before a text by itself.
    """

    template: str
    special: tuple[str, ...]
    eos: str
    bos: str | None = None
    pad: str | None = None
    automatic_bos: bool = False
    kind: Kind = "bytes"
    takes_white_space: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()  # added tokens that are not special


_CHATML_TURN = "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
_CHATML_ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

_CHATML = "{% for m in messages %}" + _CHATML_TURN + "{% endfor %}" + _CHATML_ASK

# The system text stands inside the first user turn; every turn begins with the begin token.
_LLAMA_2 = """\
{%- set ns = namespace(system='') -%}
{%- for m in messages -%}
{%- if m['role'] == 'system' -%}
{%- set ns.system = '<<SYS>>\\n' + m['content'] + '\\n<</SYS>>\\n\\n' -%}
{%- elif m['role'] == 'user' -%}
{{- bos_token + '[INST] ' + ns.system + m['content'] | trim + ' [/INST]' -}}
{%- set ns.system = '' -%}
{%- elif m['role'] == 'assistant' -%}
{{- ' ' + m['content'] | trim + ' ' + eos_token -}}
{%- else -%}
{{- raise_exception('only system, user and assistant turns') -}}
{%- endif -%}
{%- endfor -%}
"""

_LLAMA_3 = """\
{{- bos_token -}}
{%- for m in messages -%}
{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' -}}
{{- m['content'] | trim + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
"""

# {which} is 0 or -1: the system text goes before the first or before the last user text.
_MISTRAL = """\
{%- set system = messages[0]['content'] + '\\n\\n' if messages[0]['role'] == 'system' else '' -%}
{%- set turns = messages[1:] if system else messages -%}
{%- set marked = (turns | selectattr('role', 'equalto', 'user') | list)[WHICH] -%}
{{- bos_token -}}
{%- for m in turns -%}
{%- if m['role'] == 'user' -%}
{{- '[INST] ' + (system if m is sameas marked else '') + m['content'] + '[/INST]' -}}
{%- elif m['role'] == 'assistant' -%}
{{- ' ' + m['content'] + eos_token -}}
{%- else -%}
{{- raise_exception('turns must be of the user and the assistant') -}}
{%- endif -%}
{%- endfor -%}
"""

_GEMMA = """\
{{- bos_token -}}
{%- for m in messages -%}
{%- if m['role'] == 'system' -%}{{- raise_exception('System role not supported') -}}{%- endif -%}
{{- '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n' -}}
{{- m['content'] | trim + '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}
"""

# The whole text ends with the end token, but only where no answer is asked for.
_PHI_3 = """\
{%- for m in messages -%}
{{- '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- else -%}{{- eos_token -}}{%- endif -%}
"""

_PHI_4 = """\
{%- for m in messages -%}
{{- '<|im_start|>' + m['role'] + '<|im_sep|>' + m['content'] + '<|im_end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant<|im_sep|>' -}}{%- endif -%}
"""

# Tools are listed in the system turn, calls are JSON in a tag, results come in a user turn.
_TOOL_SYSTEM = """\
{%- set own = messages[0]['content'] if messages[0]['role'] == 'system' else DEFAULT -%}
{%- if tools -%}
{{- '<|im_start|>system\\n' + own + '\\n\\n<tools>' -}}
{%- for tool in tools -%}{{- '\\n' + tool | tojson -}}{%- endfor -%}
{{- '\\n</tools><|im_end|>\\n' -}}
{%- elif own -%}
{{- '<|im_start|>system\\n' + own + '<|im_end|>\\n' -}}
{%- endif -%}
"""
_TOOL_CALLS = """\
{%- for call in m['tool_calls'] or [] -%}
{{- '\\n' if m['content'] or not loop.first else '' -}}
{{- '<tool_call>\\n{"name": "' + call['function']['name'] + '", "arguments": ' -}}
{{- call['function']['arguments'] | tojson + '}\\n</tool_call>' -}}
{%- endfor -%}
"""
_TOOL_RESULT = """\
{{- '<|im_start|>user' if loop.first or loop.previtem['role'] != 'tool' else '' -}}
{{- '\\n<tool_response>\\n' + m['content'] + '\\n</tool_response>' -}}
{{- '<|im_end|>\\n' if loop.last or loop.nextitem['role'] != 'tool' else '' -}}
"""
_QWEN_25 = (
    _TOOL_SYSTEM.replace("DEFAULT", "'Be helpful.'")
    + """\
{%- for m in messages -%}
{%- if m['role'] == 'user' -%}
{{- '<|im_start|>user\\n' + m['content'] + '<|im_end|>\\n' -}}
{%- elif m['role'] == 'assistant' -%}
{{- '<|im_start|>assistant\\n' + m['content'] -}}
"""
    + _TOOL_CALLS
    + """\
{{- '<|im_end|>\\n' -}}
{%- elif m['role'] == 'tool' -%}
"""
    + _TOOL_RESULT
    + "{%- endif -%}\n{%- endfor -%}\n"
    + _CHATML_ASK
)

# Reasoning is printed for replies after the last question only, and the last reply always has a
# block for it, if an empty one.
_QWEN_3 = (
    _TOOL_SYSTEM.replace("DEFAULT", "''")
    + """\
{%- set ns = namespace(last=-1) -%}
{%- for m in messages -%}
{%- if m['role'] == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- for m in messages -%}
{%- if m['role'] == 'user' -%}
{{- '<|im_start|>user\\n' + m['content'] + '<|im_end|>\\n' -}}
{%- elif m['role'] == 'assistant' -%}
{%- set thinking = m['reasoning_content'] or '' -%}
{%- set said = m['content'] -%}
{%- if '</think>' in said -%}
{%- set thinking = said.split('</think>')[0].split('<think>')[-1] | trim -%}
{%- set said = said.split('</think>')[-1].lstrip('\\n') -%}
{%- endif -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if loop.index0 > ns.last and (loop.last or thinking) -%}
{{- '<think>\\n' + thinking + '\\n</think>\\n\\n' -}}
{%- endif -%}
{{- said -}}
"""
    + _TOOL_CALLS
    + """\
{{- '<|im_end|>\\n' -}}
{%- elif m['role'] == 'tool' -%}
"""
    + _TOOL_RESULT
    + "{%- endif -%}\n{%- endfor -%}\n"
    + _CHATML_ASK
)

# The bars are full-width and the spaces are low blocks, so that nobody types them by accident.
_DS_BEGIN = "<\uff5cbegin\u2581of\u2581sentence\uff5c>"
_DS_END = "<\uff5cend\u2581of\u2581sentence\uff5c>"
_DS_USER, _DS_ASSISTANT = "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>"
_DEEPSEEK = (
    """\
{{- bos_token -}}
{%- for m in messages -%}
{%- if m['role'] == 'system' -%}{{- m['content'] -}}
{%- elif m['role'] == 'user' -%}{{- 'USER' + m['content'] -}}
{%- elif m['role'] == 'assistant' -%}
{{- 'ASSISTANT' + m['content'].split('</think>')[-1] -}}
{%- for call in m['tool_calls'] or [] -%}
{{- '\\n```json\\n' + call['function']['name'] + ' ' + call['function']['arguments'] + '\\n```' -}}
{%- endfor -%}
{{- eos_token -}}
{%- else -%}{{- '\\n' + m['content'] -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT' -}}{%- endif -%}
"""
).replace("USER", _DS_USER).replace("ASSISTANT", _DS_ASSISTANT)  # fmt: skip
# It asks with an opened block of reasoning, and prints replies without any.
_DEEPSEEK_R1 = _DEEPSEEK.replace(
    f"{{{{- '{_DS_ASSISTANT}' -}}}}{{%- endif -%}}",
    f"{{{{- '{_DS_ASSISTANT}<think>\\n' -}}}}{{%- endif -%}}",
)

# The markers are no special tokens, and the one that asks lacks its line break.
_ZEPHYR = """\
{%- for m in messages -%}
{{- '<|' + m['role'] + '|>\\n' + m['content'] + eos_token + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""

_STRIPS = _CHATML.replace("m['content']", "m['content'] | trim")

# Earlier replies are shortened.
_REWRITES = (
    "{% for m in messages %}{% if m['role'] == 'assistant' and not loop.last %}"
    "{{ '<|im_start|>assistant\\n...<|im_end|>\\n' }}{% else %}" + _CHATML_TURN + "{% endif %}"
    "{% endfor %}" + _CHATML_ASK
)

# The newest turn comes first.
_REVERSES = _CHATML.replace("in messages", "in messages | reverse")

_MARKS = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ '<|im_start|>assistant\\n' }}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}"
    "{% else %}" + _CHATML_TURN + "{% endif %}{% endfor %}" + _CHATML_ASK
)

_IM = ("<|im_start|>", "<|im_end|>")
_LLAMA_TOKENS = ("<s>", "</s>")


def _chatml_kind(template: str, *more: str) -> StandIn:
    return StandIn(template, (*_IM, "<|endoftext|>", *more), eos="<|im_end|>", pad="<|endoftext|>")


def _llama_kind(template: str, *, automatic_bos: bool = True) -> StandIn:
    return StandIn(
        template, _LLAMA_TOKENS, eos="</s>", bos="<s>", pad="</s>", automatic_bos=automatic_bos
    )


STAND_INS: Mapping[str, StandIn] = {
    "chatml": _chatml_kind(_CHATML),
    "llama-2": _llama_kind(_LLAMA_2),
    "llama-3": StandIn(
        _LLAMA_3,
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        eos="<|eot_id|>",
        bos="<|begin_of_text|>",
        automatic_bos=True,
        kind="bytes-lines",
    ),
    "mistral": _llama_kind(_MISTRAL.replace("WHICH", "0")),
    "mistral-system-last": _llama_kind(_MISTRAL.replace("WHICH", "-1")),
    "gemma": StandIn(
        _GEMMA,
        ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
        eos="<eos>",
        bos="<bos>",
        pad="<pad>",
        automatic_bos=True,
    ),
    "phi-3": StandIn(
        _PHI_3,
        ("<s>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        eos="<|endoftext|>",
        bos="<s>",
        takes_white_space=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    ),
    "phi-4": _chatml_kind(_PHI_4, "<|im_sep|>"),
    "qwen-2.5": _chatml_kind(_QWEN_25),
    "qwen-3": StandIn(
        _QWEN_3,
        (*_IM, "<|endoftext|>"),
        eos="<|im_end|>",
        pad="<|endoftext|>",
        plain=("<think>", "</think>", "<tool_call>", "</tool_call>"),
    ),
    "deepseek": StandIn(
        _DEEPSEEK, (_DS_BEGIN, _DS_END), eos=_DS_END, bos=_DS_BEGIN, automatic_bos=True,
        plain=(_DS_USER, _DS_ASSISTANT),
    ),
    "deepseek-r1": StandIn(
        _DEEPSEEK_R1, (_DS_BEGIN, _DS_END), eos=_DS_END, bos=_DS_BEGIN, automatic_bos=True,
        plain=(_DS_USER, _DS_ASSISTANT),
    ),
    "zephyr": _llama_kind(_ZEPHYR),
    "strips": _chatml_kind(_STRIPS),
    "rewrites": _chatml_kind(_REWRITES),
    "reverses": _chatml_kind(_REVERSES),
    "marks": _chatml_kind(_MARKS),
}  # fmt: skip


def make_stand_in(folder: Path, name: str, kind: Kind | None = None) -> Path:
    """Write the tokenizer files of a stand-in into `folder` and return it."""
    stand_in = STAND_INS[name]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _TOKENIZERS[kind or stand_in.kind]()
    tokenizer.add_special_tokens(
        [
            AddedToken(text, normalized=False, rstrip=text in stand_in.takes_white_space)
            for text in stand_in.special
        ]
    )
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in stand_in.plain])
    if stand_in.automatic_bos:
        assert stand_in.bos is not None
        bos_id = tokenizer.token_to_id(stand_in.bos)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{stand_in.bos} $A", special_tokens=[(stand_in.bos, bos_id)]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": stand_in.bos,
        "eos_token": stand_in.eos,
        "pad_token": stand_in.pad,
        "clean_up_tokenization_spaces": False,
        "chat_template": stand_in.template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def _bytes() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab=byte_vocabulary(0), merges=list(MERGES)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _bytes_lines() -> Tokenizer:
    """Make one that keeps line breaks together and apart from what follows, as newer ones do."""
    tokenizer = _bytes()
    words = Regex(r"\s*[\r\n]+| ?[^\s]+|\s+(?!\S)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


_SPACE = "\u2581"
_LETTERS = [_SPACE, "\n", *map(chr, range(33, 127))]
_WORDS = ("th", "the", f"{_SPACE}t", f"{_SPACE}th", f"{_SPACE}the", "el", "elm", "oa", "oak")
_WORD_MERGES = (
    ("t", "h"), ("th", "e"), (_SPACE, "t"), (f"{_SPACE}t", "h"), (_SPACE, "the"), ("e", "l"),
    ("el", "m"), ("o", "a"), ("oa", "k"),
)  # fmt: skip


def _metaspace(scheme: Literal["first", "always"]) -> Tokenizer:
    """Make what SentencePiece models become: spaces are letters, and every byte has a token."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *_LETTERS, *_WORDS]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary, merges=list(_WORD_MERGES), unk_token="<unk>",
            byte_fallback=True, fuse_unk=True,
        )
    )  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(_SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def _unigram() -> Tokenizer:
    pieces = [("<unk>", 0.0), *((letter, -4.0) for letter in _LETTERS)]
    pieces += [(word, -3.0) for word in _WORDS]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    return tokenizer


def _wordpiece() -> Tokenizer:
    letters = list(map(chr, range(33, 127)))
    pieces = ["[UNK]", *letters, *(f"##{letter}" for letter in letters), "elm", "oak", "user"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


_TOKENIZERS = {
    "bytes": _bytes,
    "bytes-lines": _bytes_lines,
    "metaspace-first": lambda: _metaspace("first"),
    "metaspace-always": lambda: _metaspace("always"),
    "unigram": _unigram,
    "wordpiece": _wordpiece,
}
