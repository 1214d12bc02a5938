"""Write a file of short chats: ordinary English sentences from Python's own documentation.

    python benchmarks/make_chats.py OUT.jsonl [ROWS]

A million rows, the default, are about 1.2 GB. The same number of rows gives the same file with the
same version of Python.
"""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path
from pydoc_data.topics import topics  # pyright: ignore[reportAttributeAccessIssue]

SENTENCES_PER_TURN = (1, 2, 3, 4)
EXCHANGES_PER_ROW = (1, 1, 2, 3)


def main() -> None:
    out = Path(sys.argv[1])
    num_rows = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    sentences = read_sentences()
    draw = random.Random(0)
    with out.open("w", encoding="utf-8") as file:
        for number in range(num_rows):
            file.write(json.dumps({"messages": make_chat(draw, sentences, number)}) + "\n")
    print(f"{num_rows:,} rows, {out.stat().st_size:,} bytes")


def read_sentences() -> list[str]:
    text = re.sub(r"\s+", " ", " ".join(topics[name] for name in sorted(topics)))
    return [one for one in re.split(r"(?<=[.!?]) ", text) if 40 <= len(one) <= 250]


def make_chat(draw: random.Random, sentences: list[str], number: int) -> list[dict[str, str]]:
    turns: list[dict[str, str]] = []
    for _ in range(draw.choice(EXCHANGES_PER_ROW)):
        for role in ("user", "assistant"):
            text = " ".join(draw.choices(sentences, k=draw.choice(SENTENCES_PER_TURN)))
            turns.append({"role": role, "content": text})
    turns[0]["content"] += f" (question {number})"
    return turns


if __name__ == "__main__":
    main()
