"""How fast samples become examples in one process: rows a second, and where the time goes.

    .venv/bin/python benchmarks/render_rate.py [MODEL_FOLDER]

The rows are chats of about 1 KB with one to three replies, made up from a fixed seed. The tokenizer
is that of the given model folder, else of the first one in the user's cache. `bare` is the time
that the tokenizer alone needs for the same texts; `template` renders them and finds the replies,
`mask` makes the tokens' weights. Each number is the best of five rounds.
"""

from __future__ import annotations

import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core, as in a worker process

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tunesmith.core.cache import cache_root
from tunesmith.data.conversation import Conversation, Message
from tunesmith.data.render import render_all
from tunesmith.data.script import to_scripts
from tunesmith.data.tokenizer import TextEncoder, load_tokenizer
from tunesmith.recipe.data import DataPart

ROWS = 2000
CHARACTERS = 1000
BATCH = 512
WORDS = """
the order arrived late and one of two cups was broken so please send another by Friday we are sorry
to hear that a new parcel leaves tomorrow 42 list(range(10)) value = data[key] return Zagreb
na\u00efve \u0161ljiva question? answer! because, however; it's re-checked (twice)
"""


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else _cached_model()
    encoder = TextEncoder(load_tokenizer(folder))
    part = DataPart(train="made up")
    samples = make_chats(random.Random(0))
    scripts = [script for sample in samples for script in to_scripts(sample, encoder, part)]
    batches = [[script.text for script in scripts[at : at + BATCH]] for at in range(0, ROWS, BATCH)]
    backend = encoder.tokenizer.backend_tokenizer
    bare = best(
        lambda: [len(backend.encode_batch(one, add_special_tokens=False)) for one in batches]
    )
    template = best(lambda: sum(len(to_scripts(one, encoder, part)) for one in samples))
    encode = best(lambda: [len(encoder.encode(batch)) for batch in batches])
    total = best(lambda: sum(1 for _ in render_all(samples, encoder, part, "chat")))
    limit = 1.3 * bare + 60
    print(f"model folder  {folder.name}")
    print(f"rows          {ROWS} of {sum(map(len, batches[0])) // len(batches[0])} characters")
    print(f"template      {template:6.0f} us a row")
    print(f"encode        {encode:6.0f} us a row")
    print(f"mask          {total - template - encode:6.0f} us a row")
    print(f"total         {total:6.0f} us a row, {1e6 / total:,.0f} rows a second")
    print(f"bare          {bare:6.0f} us a row; 1.3 x bare + 60 is {limit:.0f}")


def make_chats(rng: random.Random) -> list[Conversation]:
    chats: list[Conversation] = []
    for number in range(ROWS):
        num_turns = 2 * (1 + rng.randrange(3))
        messages = tuple(
            Message("assistant" if turn % 2 else "user", make_text(rng, CHARACTERS // num_turns))
            for turn in range(num_turns)
        )
        chats.append(Conversation(messages=messages, row_id=f"made:{number}", file="made", line=1))
    return chats


def make_text(rng: random.Random, characters: int) -> str:
    known, words = WORDS.split(), list[str]()
    while sum(map(len, words)) + len(words) < characters:
        words += rng.choices(known, k=8)
    return " ".join(words)


def best(run: Callable[[], object]) -> float:
    """Return the microseconds a row of the fastest of five rounds."""
    seconds: list[float] = []
    for _ in range(5):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds) / ROWS * 1e6


def _cached_model() -> Path:
    found = sorted(path.parent for path in cache_root().glob("models/*/tokenizer.json"))
    if not found:
        sys.exit("no model in the cache: run tunesmith quickstart once, or name a model's folder")
    return found[0]


if __name__ == "__main__":
    main()
