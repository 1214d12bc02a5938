"""Control tokens of well-known models, typed into a text where they mean nothing, or too much.

A tokenizer may take them for the real thing. Which ones a model has is known only with its
tokenizer; these are known without.
"""

from __future__ import annotations

import re

_PATTERN = re.compile(
    r"<\|[A-Za-z][\w .-]{0,40}\|>"  # <|im_end|>, <|endoftext|>, <|start_header_id|>
    r"|</?s>|<(?:bos|eos|unk|pad)>"
    r"|<(?:start|end)_of_turn>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]"
    r"|<</?SYS>>"
)


def find_control_text(text: str) -> str | None:
    """Return the first control token that is written in a text, or None."""
    if "<" not in text and "[" not in text:
        return None
    found = _PATTERN.search(text)
    return found.group() if found else None
