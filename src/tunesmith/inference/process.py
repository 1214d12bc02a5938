"""The process that runs a model for a chat: `python -m tunesmith.inference.process WHAT`.

With `--adapter FOLDER WEIGHT`, which may be repeated, adapters are added to it.

Reads requests from standard input and answers on standard output as `protocol` says; ends when the
input ends. SIGINT stops the answer that is being given, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any, cast

from tunesmith.core.errors import Fault, TunesmithError, UserError
from tunesmith.core.log import set_up_logging
from tunesmith.data.conversation import ROLES, Message
from tunesmith.data.render import chat_prompt, with_system
from tunesmith.data.tokenizer import encoder_of
from tunesmith.inference.engine import Engine, Generated
from tunesmith.inference.loading import Loaded, load
from tunesmith.inference.protocol import (
    DEFAULT_MAX_NEW_TOKENS,
    Delta,
    Done,
    Ready,
    Reply,
    to_line,
)
from tunesmith.inference.torch_engine import TorchEngine
from tunesmith.methods.attach import Weighted


class StopFlag:
    """Set by SIGINT, cleared when an answer begins."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self, signal_number: int = 0, frame: FrameType | None = None) -> None:
        """Ask for the answer to stop; fits as a signal handler."""
        del signal_number, frame
        self.is_set = True


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the model and answer until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m tunesmith.inference.process")
    parser.add_argument("what", help="a run, a checkpoint, an adapter, or a model")
    parser.add_argument("--adapter", action="append", default=[], nargs=2)
    chosen = parser.parse_args(arguments)
    adapters = [Weighted(Path(folder), float(weight)) for folder, weight in chosen.adapter]
    set_up_logging()
    stop = StopFlag()
    signal.signal(signal.SIGINT, stop.set)
    with _own_standard_output() as replies:
        try:
            loaded = load(chosen.what, adapters)
            loaded.require_writer()
            engine = TorchEngine(loaded.model, loaded.tokenizer)
        except TunesmithError as error:
            replies.write(to_line(error))
            return error.exit_code
        try:
            serve(loaded, engine, sys.stdin, replies, stop)
        except BrokenPipeError:  # whoever asked has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), replies.fileno())
    return 0


def serve(
    loaded: Loaded, engine: Engine, requests: IO[str], replies: IO[str], stop: StopFlag
) -> None:
    """Say that the model is ready, then answer one request a line."""

    def say(reply: Reply | TunesmithError) -> None:
        replies.write(to_line(reply))
        replies.flush()

    say(Ready(loaded.name, loaded.base, loaded.task, loaded.system))
    for line in requests:
        stop.is_set = False
        try:
            for reply in _answer(line, loaded, engine, stop):
                say(reply)
        except TunesmithError as error:
            say(error)


def _answer(line: str, loaded: Loaded, engine: Engine, stop: StopFlag) -> Iterator[Delta | Done]:
    started = time.monotonic()
    request = _parse(line)
    prompt = _prompt(request, loaded)
    num_tokens = 0
    finish_reason = "stopped"
    stream = engine.stream(
        prompt,
        max_new_tokens=_number(request, "max_new_tokens", DEFAULT_MAX_NEW_TOKENS, least=1),
        temperature=_number(request, "temperature", 0.0, least=0),
        seed=_number(request, "seed", 0, least=0),
    )
    for part in stream:
        if isinstance(part, Generated):
            num_tokens, finish_reason = len(part.tokens), part.finish_reason
            break
        yield Delta(part)
        num_tokens += 1
        if stop.is_set:
            break
    yield Done(finish_reason, len(prompt), num_tokens, round(time.monotonic() - started, 3))


def _parse(line: str) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except ValueError as error:
        raise _bad_request(f"no valid JSON: {error}", "send one JSON object a line") from error
    if isinstance(request, dict):
        return cast(dict[str, Any], request)
    raise _bad_request("a request that is no object", "send one JSON object a line")


def _prompt(request: dict[str, Any], loaded: Loaded) -> list[int]:
    """The tokens of the request: a conversation through the template, or a text as it is."""
    if "messages" in request:
        messages = with_system(tuple(_messages(request["messages"])), loaded.system)
        return chat_prompt(messages, loaded.tokenizer, system_role=loaded.system_role)
    if isinstance(request.get("prompt"), str):
        encoder = encoder_of(loaded.tokenizer)
        tokens = encoder.ids(_mended(request["prompt"]))
        return [*encoder.missing_bos(tokens), *tokens]
    raise _bad_request("a request without messages or a prompt", "send messages, or a prompt")


def _messages(given: object) -> Iterator[Message]:
    fix = f"send messages as [{{role, content}}, ...] with roles {', '.join(ROLES)}"
    if not isinstance(given, list) or not given:
        raise _bad_request("messages that are no list, or an empty one", fix)
    for message in cast(list[object], given):
        match message:
            case {"role": "system" | "user" | "assistant" as role, "content": str(content)}:
                yield Message(role, _mended(content))
            case _:
                raise _bad_request(f"a message that cannot be used: {message!r}", fix)


def _mended(text: str) -> str:
    """The text with each half of a surrogate pair (a stray byte of a terminal) replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _number(request: dict[str, Any], name: str, default: float, *, least: int) -> Any:
    """A number of the request, whole where its default is."""
    value = request.get(name, default)
    kinds = (int,) if isinstance(default, int) else (int, float)
    if isinstance(value, kinds) and not isinstance(value, bool) and value >= least:
        return value
    raise _bad_request(f"{name}: {value!r}", f"send a number of {least} or more")


def _bad_request(found: str, fix: str) -> UserError:
    return UserError(Fault(found=found, where="the request", fix=fix), code="bad_request")


def _own_standard_output() -> IO[str]:
    """Standard output for replies only; whatever else is printed goes to standard error."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return replies


if __name__ == "__main__":
    sys.exit(main())
