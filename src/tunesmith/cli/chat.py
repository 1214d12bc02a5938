"""`tunesmith chat`: talk to a model at the terminal, by a pipe (one message a line), or once."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from tunesmith.cli import output
from tunesmith.cli.what import find_what, weighted_adapter
from tunesmith.core.errors import Fault, UserError
from tunesmith.inference.client import ChatClient
from tunesmith.inference.protocol import DEFAULT_MAX_NEW_TOKENS, Delta, Ready

COMMANDS = "/reset begins anew, /quit ends; Ctrl-C stops an answer"
PROMPT = "you> "


@dataclass
class Conversation:
    """What has been said, and how answers are asked for."""

    client: ChatClient
    ready: Ready
    system: str | None
    max_new_tokens: int
    temperature: float
    messages: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def reset(self) -> None:
        """Forget everything but the system message."""
        self.messages = [{"role": "system", "content": self.system}] if self.system else []

    def say(self, text: str) -> str:
        """Send a message and print the answer as it comes; an interrupted one is kept so far."""
        self.messages.append({"role": "user", "content": text})
        parts: list[str] = []
        try:
            for part in self._answer(text):
                parts.append(part)
                output.stream(part)
        finally:
            output.stream("\n")
            self.messages.append({"role": "assistant", "content": "".join(parts)})
        return "".join(parts)

    def _answer(self, text: str) -> Iterator[str]:
        is_chat = self.ready.task == "chat"
        replies = self.client.answer(
            messages=self.messages if is_chat else None,
            prompt=None if is_chat else text,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
        )
        for reply in replies:
            if isinstance(reply, Delta):
                yield reply.text
            elif reply.finish_reason == "length":
                output.note(f"\n(cut at {self.max_new_tokens} tokens: --max-new-tokens)")


def chat(
    what: str,
    /,
    *,
    adapter: tuple[str, ...] = (),
    message: str | None = None,
    system: str | None = None,
    max_new_tokens: Annotated[int, Parameter(validator=Number(gte=1))] = DEFAULT_MAX_NEW_TOKENS,
    temperature: Annotated[float, Parameter(validator=Number(gte=0))] = 0.0,
) -> int:
    """Talk to a run's model, a catalogue model, or a model folder.

    Parameters
    ----------
    what:
        A run's folder or its name in ./runs, a catalogue model, a hub id, or a model folder.
    adapter:
        A LoRA adapter to add, as FOLDER or FOLDER=WEIGHT. May be repeated: they add up.
    message:
        Ask this once, print the answer, and end.
    system:
        The system message; by default the one that the run was trained with, if any.
    max_new_tokens:
        The most tokens of an answer; by default 512.
    temperature:
        How freely words are drawn; by default 0, always the likeliest.
    """
    if message is not None and not message.strip():
        fix = "write the message: --message 'Hello'"
        raise UserError(Fault(found="an empty message", where="--message", fix=fix))
    is_terminal = message is None and sys.stdin.isatty()
    added = [weighted_adapter(text) for text in adapter]
    with ChatClient(find_what(what), adapters=added) as client:
        if is_terminal:
            output.note(f"loading {what} ...")
        ready = client.wait_until_ready()
        conversation = Conversation(client, ready, system, max_new_tokens, temperature)
        conversation.reset()
        if is_terminal:
            _greet(ready, system)
            _talk(conversation)
        else:
            _answer_lines(conversation, [message] if message is not None else sys.stdin)
    return 0


def _greet(ready: Ready, system: str | None) -> None:
    base = f" (base {ready.base})" if ready.base != ready.name else ""
    output.say(f"{ready.name}{base}; {COMMANDS}", style="bold")
    if ready.task == "completion":
        output.say("this model continues a text; each line stands by itself")
    if system or ready.system:
        output.say(f"system: {system or ready.system}", style="dim")


def _talk(conversation: Conversation) -> None:
    """Ask until /quit, the end of input, or Ctrl-C at the prompt."""
    with suppress(ImportError):
        import_module("readline")  # gives input() its line editing and history
    while True:
        try:
            text = input(PROMPT).strip()
        except (EOFError, KeyboardInterrupt):
            output.say()
            return
        if text == "/quit":
            return
        with suppress(KeyboardInterrupt):  # stops this answer only
            _take(conversation, text)


def _answer_lines(conversation: Conversation, lines: Iterable[str]) -> None:
    for line in lines:
        text = line.strip()
        if text == "/quit":
            return
        _take(conversation, text)


def _take(conversation: Conversation, text: str) -> None:
    if text == "/reset":
        conversation.reset()
    elif text:
        conversation.say(text)
