"""A byte-level tokenizer of a few hundred tokens, made in the test, with a chat template.

Every byte is a token, and a few merges of ordinary English stand in for a real vocabulary, so that
a token can straddle a border. Nothing is downloaded.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, IM_START, IM_END)

_TURN = "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}"
_PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

TEMPLATES = {
    "chatml": "{% for m in messages %}" + _TURN + "{% endfor %}" + _PROMPT,
    # What SmolLM2 does: a default system message where the conversation has none.
    "chatml-default-system": (
        "{% for m in messages %}"
        "{% if loop.first and m['role'] != 'system' %}"
        "{{ '<|im_start|>system\\nBe kind<|im_end|>\\n' }}{% endif %}"
        + _TURN
        + "{% endfor %}"
        + _PROMPT
    ),
    "generation-marks": (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}"
        "{{ '<|im_start|>assistant\\n' }}"
        "{% generation %}{{ m['content'] + '<|im_end|>' + '\\n' }}{% endgeneration %}"
        "{% else %}" + _TURN + "{% endif %}{% endfor %}" + _PROMPT
    ),
    "generation-marks-without-end": (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}"
        "{{ '<|im_start|>assistant\\n' }}"
        "{% generation %}{{ m['content'] }}{% endgeneration %}{{ '<|im_end|>\\n' }}"
        "{% else %}" + _TURN + "{% endif %}{% endfor %}" + _PROMPT
    ),
    "prints-bos": "{{ bos_token }}{% for m in messages %}" + _TURN + "{% endfor %}" + _PROMPT,
    "strips": (
        "{% for m in messages %}"
        "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] | trim + '<|im_end|>' + '\\n' }}"
        "{% endfor %}" + _PROMPT
    ),
    # Earlier replies are shortened: no prefix of the whole rendering shows them as they were
    # served.
    "rewrites-earlier-turns": (
        "{% for m in messages %}"
        "{% if m['role'] == 'assistant' and not loop.last %}"
        "{{ '<|im_start|>assistant\\n...<|im_end|>\\n' }}{% else %}" + _TURN + "{% endif %}"
        "{% endfor %}" + _PROMPT
    ),
    "refuses-system": (
        "{% for m in messages %}{% if m['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        + _TURN
        + "{% endfor %}"
        + _PROMPT
    ),
    "no-end-of-turn": (
        "{% for m in messages %}{{ '### ' + m['role'] + ': ' + m['content'] + '\\n\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '### assistant:' }}{% endif %}"
    ),
    "added-turn-end": (
        "{% for m in messages %}{{ '[' + m['role'] + ']' + m['content'] + '<turn_end>' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
    ),
}

# The byte alphabet writes a space as one letter and a line break as another.
_SPACE, _BREAK = "\u0120", "\u010a"
MERGES = (
    ("t", "h"),
    ("h", "e"),
    ("i", "n"),
    ("e", "r"),
    ("o", "n"),
    (_SPACE, "t"),
    (_SPACE, "a"),
    (f"{_SPACE}t", "he"),
    (_BREAK, _BREAK),
    (_SPACE, _SPACE),
    (_SPACE, "h"),
)


def make_tokenizer(
    folder: Path, template: str | None = "chatml", *, automatic_bos: bool = False
) -> Path:
    """Write tokenizer files into `folder` and return it.

    `template` is a name of TEMPLATES, a template's text, or None. With `automatic_bos` the
    tokenizer puts its begin token in front of every text by itself, as Llama's does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _byte_tokenizer(automatic_bos=automatic_bos).save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT if automatic_bos else IM_START,
        "eos_token": IM_END,
        "pad_token": IM_END,
        "model_max_length": 8192,
        "clean_up_tokenization_spaces": False,
    }
    if template is not None:
        config["chat_template"] = TEMPLATES.get(template, template)
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def byte_vocabulary(first: int) -> dict[str, int]:
    """Return every byte and every merge, numbered from `first` on."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *("".join(merge) for merge in MERGES)]
    return {piece: index for index, piece in enumerate(pieces, first)}


def _byte_tokenizer(*, automatic_bos: bool) -> Tokenizer:
    vocab = byte_vocabulary(len(SPECIAL_TOKENS))
    vocab |= {token: index for index, token in enumerate(SPECIAL_TOKENS)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=list(MERGES)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.add_tokens([AddedToken("<turn_end>", special=False, normalized=False)])
    if automatic_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, 0)]
        )
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer
