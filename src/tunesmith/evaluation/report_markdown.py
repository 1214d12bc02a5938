"""The report as Markdown, for terminals, pull requests and model cards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tunesmith.evaluation import report_content as content
from tunesmith.evaluation.report_confusion import confusion_table
from tunesmith.evaluation.report_facts import Facts, Row

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&!])")


def write_markdown(facts: Facts, *, pictures: Sequence[tuple[str, str]]) -> str:
    """The whole page; `pictures` are titles and files beside it."""
    parts = [
        f"# {_text(content.title(facts))}",
        _text(content.headline(facts)),
        *(f"![{title}]({file})" for title, file in pictures),
        *_scores("Before and after", content.scores(facts)),
        *_confusion(facts),
        *_also_trained(facts),
        *_scores(content.TRAINED, content.trained_scores(facts)),
        *_pairs("How it was measured", content.measuring(facts)),
        *_pairs("Training", content.training(facts)),
        *_pairs("Data", content.data(facts)),
        *_warnings(facts),
        *_answers(facts),
        *_next(facts),
        *_pairs("Machine", content.machine(facts)),
        *_recipe(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _also_trained(facts: Facts) -> list[str]:
    sentence = content.overlap_sentence(facts)
    if not sentence:
        return []
    table = _scores(content.UNTRAINED, content.untrained_scores(facts))
    return [f"Warning: {_text(sentence)}", *table]


def _scores(title: str, lines: Sequence[content.Score]) -> list[str]:
    if not lines:
        return []
    rows = [
        ((": " if line.is_detail else "") + line.name, line.before, line.after, line.note)
        for line in lines
    ]
    return [f"## {title}", _table(("", "before", "after", ""), rows)]


def _confusion(facts: Facts) -> list[str]:
    table = confusion_table(facts)
    if table is None:
        return []
    rows = [_table(table.head, table.rows)] if table.rows else []
    return [f"## {_text(table.title)}", _text(table.note), *rows]


def _pairs(title: str, pairs: content.Pairs) -> list[str]:
    return [f"## {title}", _table(("", ""), pairs)] if pairs else []


def _warnings(facts: Facts) -> list[str]:
    return ["\n".join(f"- Warning: {_text(text)}" for text in facts.warnings)] * bool(
        facts.warnings
    )


def _answers(facts: Facts) -> list[str]:
    if not facts.rows:
        return []
    return ["## Answers side by side", *(_answer(row) for row in facts.rows)]


def _answer(row: Row) -> str:
    sides = {"asked": row.prompt, "wanted": row.reference, "before": row.before, "after": row.after}
    shown = {name: text for name, text in sides.items() if text is not None}
    blocks = "\n\n".join(f"{name}\n\n{_block(text)}" for name, text in shown.items())
    return f"### {_text(row.row_id)}\n\n{blocks}"


def _next(facts: Facts) -> list[str]:
    commands = [f"{name}:\n\n{_block(text)}" for name, text in content.next_commands(facts)]
    example = _block(content.python_example(facts), "python")
    return ["## How to go on", *commands, "Use it from Python:", example]


def _recipe(facts: Facts) -> list[str]:
    rows = content.recipe(facts)
    if not rows:
        return []
    return ["## The recipe as it was run", _table(("value", "", "from"), rows)]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_text(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _text(text: str) -> str:
    """Text that means nothing to Markdown, on one line."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _block(text: str, language: str = "") -> str:
    """Text as it is; the fence is longer than any that is inside."""
    fences = re.findall(r"`+", text)
    fence = "`" * max(3, max((len(run) + 1 for run in fences), default=3))
    return f"{fence}{language}\n{text}\n{fence}"
