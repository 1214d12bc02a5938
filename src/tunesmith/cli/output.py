"""Everything that the command prints.

People read standard output; with `--json` it holds one document and everything else goes to
standard error. A live line is drawn on a terminal only: in a file there are plain lines and no
carriage return. Text that comes from models and files is cleaned of control characters first.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tunesmith.core.errors import MAX_FAULTS_IN_MESSAGE, TunesmithError

# What a file or a pipe is wide: its reader has no terminal to ask.
PLAIN_WIDTH = 120
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def say(text: str | Text = "", *, style: str = "") -> None:
    """Print a line for people."""
    _print(_console(stderr=False), text, style)


def note(text: str | Text, *, style: str = "") -> None:
    """Print a line on standard error."""
    _print(_console(stderr=True), text, style)


def stream(text: str) -> None:
    """Print a piece of a line at once."""
    sys.stdout.write(clean(text))
    sys.stdout.flush()


def show_json(document: object) -> None:
    """Print the one document of `--json`."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def show_error(error: TunesmithError, *, as_json: bool) -> None:
    """Print what was found, where, and what to do."""
    if as_json:
        show_json({"error": describe_error(error)})
        return
    for fault in error.faults[:MAX_FAULTS_IN_MESSAGE]:
        head = Text.assemble(("error: ", "bold red"), clean(fault.found))
        note(head)
        note(f"  where: {clean(fault.where)}")
        note(f"  to do: {clean(fault.fix)}")
    hidden = error.total - len(error.faults[:MAX_FAULTS_IN_MESSAGE])
    if hidden > 0:
        note(f"... and {hidden:,} more faults")  # the first may be the sum of the others


def describe_error(error: TunesmithError) -> dict[str, Any]:
    """The error as `--json` shows it; `total` is more than the faults where not all are kept."""
    faults = [
        {"found": fault.found, "where": fault.where, "fix": fault.fix} for fault in error.faults
    ]
    return {
        "code": error.code,
        "exit_code": error.exit_code,
        "total": error.total,
        "faults": faults,
    }


def show_table(
    rows: Sequence[Sequence[str | Text]],
    headers: Sequence[str],
    *,
    title: str = "",
    right: Sequence[int] = (),
) -> None:
    """Print rows below their headers; the columns numbered in `right` are set to the right."""
    table = Table(
        title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False
    )
    for index, header in enumerate(headers):
        table.add_column(header, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(cell)) if isinstance(cell, str) else cell for cell in row))
    _console(stderr=False).print(table)


def show_pairs(pairs: Mapping[str, str], *, indent: str = "  ") -> None:
    """Print names and values in two columns."""
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        say(f"{indent}{name:<{width}}  {value}")


def clean(text: str) -> str:
    """The text without control characters, which could move the cursor or change the terminal."""
    return CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


def is_terminal() -> bool:
    """Whether standard output is a terminal that can be drawn on."""
    console = _console(stderr=False)
    return console.is_terminal and not console.is_dumb_terminal


@dataclass
class Progress:
    """Lines and, on a terminal, one live line below them."""

    console: Console
    live: Live | None
    last: str = field(default="", init=False)

    def line(self, text: str, *, style: str = "") -> None:
        """Print a line that stays."""
        _print(self.console, text, style)

    def step(self, live: str, plain: str) -> None:
        """Show how far things are: in the live line, or as a line of its own."""
        if self.live is None:
            _print(self.console, plain, "")
            return
        self.last = live
        self.live.update(Text(live, no_wrap=True, overflow="ellipsis"), refresh=True)


@contextmanager
def progress(*, as_json: bool) -> Generator[Progress]:
    """Show progress while inside; with `--json` on standard error."""
    console = _console(stderr=as_json)
    if not console.is_terminal or console.is_dumb_terminal:
        yield Progress(console, None)
        return
    with Live(console=console, transient=True, auto_refresh=False) as live:
        yield Progress(console, live)


def forget_standard_output() -> None:
    """Print into nothing from now on: whoever read our output has gone."""
    with suppress(OSError, ValueError):
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - lives to the end


def _print(console: Console, text: str | Text, style: str) -> None:
    styled = Text(clean(text), style=style) if isinstance(text, str) else text
    console.print(styled, soft_wrap=True)
    console.file.flush()


class _Console(Console):
    """A console that leaves it to its callers what a reader that has gone means."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


@cache
def _console(*, stderr: bool) -> Console:
    file = sys.stderr if stderr else sys.stdout
    width = None if file.isatty() else PLAIN_WIDTH
    return _Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)
