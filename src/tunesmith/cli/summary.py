"""From a finished run's folder to what its user wants to see: before, after, and what is next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from tunesmith.cli import output
from tunesmith.cli.next_commands import next_commands
from tunesmith.cli.program import shown_path
from tunesmith.cli.quantities import bytes_text, count_text, duration_text, share_text
from tunesmith.core.run_dir import RunDir, read_json

SHOWN_ANSWERS = 3
LONGEST_ANSWER = 240


@dataclass(frozen=True)
class Scores:
    """One side of the comparison, as far as it was measured."""

    loss: float | None
    perplexity: float | None
    metrics: Mapping[str, float]
    answers: tuple[Mapping[str, Any], ...]


def read_optional(run_dir: RunDir, name: str) -> dict[str, Any]:
    """A JSON file of the folder; empty when the run has not written it."""
    path = run_dir.path / name
    content = read_json(path) if path.exists() else {}
    return cast(dict[str, Any], content) if isinstance(content, dict) else {}


def read_scores(run_dir: RunDir, when: str) -> Scores:
    """The scores of `when`: before or after."""
    side = read_optional(run_dir, "evaluation.json").get(when) or {}
    metrics = {
        name: float(score["value"])
        for name, score in (side.get("metrics") or {}).items()
        if score.get("value") is not None
    }
    return Scores(side.get("loss"), side.get("perplexity"), metrics, tuple(side.get("answers", ())))


def show_summary(run_dir: RunDir) -> None:
    """Print the comparison, the run's numbers, some answers, and where the report is."""
    before, after = read_scores(run_dir, "before"), read_scores(run_dir, "after")
    rows = compare(before, after)
    if rows:
        output.say()
        output.show_table(
            rows, ("held-out rows", "before", "after"), title="Before and after", right=(1, 2)
        )
    facts = describe_result(read_optional(run_dir, "result.json"))
    if facts:
        output.say()
        output.say("The run", style="bold")
        output.show_pairs(facts)
    _show_answers(before, after)
    output.say()
    output.say(f"run folder  {shown_path(run_dir.path)}")
    for report in (run_dir.report_html, run_dir.report_md):
        if report.exists():
            output.say(f"report      {shown_path(report)}")
    if run_dir.xray_html.exists():
        output.say(f"the data    {shown_path(run_dir.xray_html)}")


def show_next(run_dir: RunDir) -> None:
    """Print what to do with a finished run."""
    output.say()
    output.say("What to do next", style="bold")
    output.show_pairs(next_commands(run_dir))


def compare(before: Scores, after: Scores) -> list[tuple[str, str, str]]:
    """Rows of name, before and after; what was measured on neither side is left out."""
    rows = [
        ("loss", _number(before.loss, 4), _number(after.loss, 4)),
        ("perplexity", _number(before.perplexity, 2), _number(after.perplexity, 2)),
    ]
    for name in dict.fromkeys((*before.metrics, *after.metrics)):
        rows.append(
            (name, _number(before.metrics.get(name), 3), _number(after.metrics.get(name), 3))
        )
    return [row for row in rows if row[1:] != ("-", "-")]


def describe_result(result: Mapping[str, Any]) -> dict[str, str]:
    """The run's numbers in words; what is missing is left out."""
    facts: dict[str, str] = {}
    trainable, total = result.get("trainable_parameters"), result.get("total_parameters")
    if trainable and total:
        share = share_text(trainable, total)
        facts["trained"] = f"{count_text(trainable)} of {count_text(total)} parameters ({share})"
    if result.get("tokens"):
        supervised = result.get("supervised_tokens")
        of_these = f", {count_text(supervised)} of them trained on" if supervised else ""
        facts["tokens"] = count_text(result["tokens"]) + of_these
    if result.get("rows_used"):
        facts["rows"] = count_text(result["rows_used"]) + _dropped(result.get("rows_dropped"))
    if result.get("tokens_per_second"):
        facts["speed"] = f"{count_text(result['tokens_per_second'])} tokens/s"
    if result.get("peak_device_memory_bytes"):
        facts["peak GPU memory"] = bytes_text(result["peak_device_memory_bytes"])
    if result.get("peak_memory_bytes"):
        facts["peak memory"] = bytes_text(result["peak_memory_bytes"])
    if result.get("seconds"):
        facts["time"] = duration_text(result["seconds"])
    return facts


def _dropped(rows: object) -> str:
    """How many rows were left out: the field is a count, or reasons with counts or with rows."""
    if isinstance(rows, Mapping):
        counts = {
            str(reason): len(what) if isinstance(what, (list, tuple)) else int(what or 0)
            for reason, what in cast(Mapping[str, Any], rows).items()
        }
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
        return f" (left out: {reasons})" if reasons else ""
    count = len(cast(list[Any], rows)) if isinstance(rows, list) else rows
    return f" ({count} left out)" if count else ""


def _show_answers(before: Scores, after: Scores) -> None:
    earlier = {str(answer.get("row_id")): answer for answer in before.answers}
    for answer in after.answers[:SHOWN_ANSWERS]:
        pair = earlier.get(str(answer.get("row_id")), {})
        output.say()
        output.say("asked", style="bold")
        output.say(f"  {_short(_last_question(answer.get('prompt')))}")
        shown = {"before": pair.get("text"), "after": answer.get("text")}
        shown["wanted"] = answer.get("reference")
        output.show_pairs({name: _short(text) for name, text in shown.items() if text is not None})


def _last_question(prompt: object) -> str:
    """The prompt's last message, whether it is kept as text or as messages."""
    if isinstance(prompt, list) and prompt:
        last = cast(list[Any], prompt)[-1]
        if isinstance(last, Mapping):
            return str(cast(Mapping[str, Any], last).get("content"))
        return str(last)
    return str(prompt or "")


def _short(text: object) -> str:
    flat = " ".join(str(text).split())
    return flat if len(flat) <= LONGEST_ANSWER else flat[:LONGEST_ANSWER] + " ..."


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
