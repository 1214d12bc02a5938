"""What a report says, in order, without a format: tables of text, from facts.

Markdown and HTML are two ways to write the same tables; a number is put into words once, here.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from tunesmith.evaluation.quantities import (
    PLAIN_SCORES,
    bytes_text,
    change_text,
    duration_text,
    number_text,
    score_text,
    share_text,
)
from tunesmith.evaluation.report_facts import Facts, Measure, Values

Pairs = tuple[tuple[str, str], ...]

TRAINED = "On rows that were trained: no evidence of skill"
UNTRAINED = "Without the rows that were also trained"


@dataclass(frozen=True)
class Score:
    """One line of the table of scores."""

    name: str
    before: str
    after: str
    note: str
    is_detail: bool = False


def title(facts: Facts) -> str:
    """The report's heading."""
    model = _of(facts.recipe, "model").get("source") or "a model"
    method = _of(facts.recipe, "method").get("type") or "fine-tuning"
    return f"{model}, {method} on {_data_name(facts)}"


def headline(facts: Facts) -> str:
    """The one sentence for somebody who reads nothing else."""
    changes = [
        f"{metric.name} went from {score_text(metric.name, metric.before)} to "
        f"{score_text(metric.name, metric.after)}"
        for metric in facts.metrics[:1]
        if metric.before is not None and metric.after is not None
    ]
    loss = facts.loss
    if loss is not None and loss.before is not None and loss.after is not None:
        changes.append(f"held-out loss went from {loss.before:.3f} to {loss.after:.3f}")
    if changes:
        rows = (
            facts.metrics[0] if facts.metrics else facts.loss or Measure("", None, None, 0)
        ).rows
        on = f"On {rows:,} held-out rows, " if rows else ""
        return on + " and ".join(changes) + "."
    if loss is not None and loss.after is not None:
        return f"The held-out loss is {loss.after:.3f}; it was not measured before training."
    return "There is no held-out comparison in this run folder."


def scores(facts: Facts) -> tuple[Score, ...]:
    """Loss, perplexity, and each metric with what is behind it."""
    lines: list[Score] = []
    if facts.loss is not None:
        tokens = _int_text(facts.result.get("validation_tokens"))
        unit = _of(facts.recipe, "task").get("loss") or "nats per token"
        note = f"{unit}{f', {tokens} tokens' if tokens else ''}; lower is better"
        lines.append(_line(facts.loss, 4, note))
    if facts.perplexity is not None:
        lines.append(_line(facts.perplexity, 2, "exp of the loss; lower is better"))
    lines += [_line(reward, 3, "in the loss's own units") for reward in facts.rewards]
    for metric in facts.metrics:
        lines.extend(_score_lines(metric))
    if facts.probe is not None:
        lines.extend(_score_lines(facts.probe, "general questions: what falls was forgotten"))
    return tuple(lines)


def trained_scores(facts: Facts) -> tuple[Score, ...]:
    """The scores of rows that are trained."""
    return tuple(line for metric in facts.trained for line in _score_lines(metric))


def untrained_scores(facts: Facts) -> tuple[Score, ...]:
    """The scores of the held-out rows that are not also trained."""
    metrics = facts.overlap.metrics if facts.overlap else ()
    return tuple(line for metric in metrics for line in _score_lines(metric))


def overlap_sentence(facts: Facts) -> str:
    """How many held-out rows are trained, too; empty where none is."""
    if facts.overlap is None:
        return ""
    found, rows = facts.overlap, facts.loss.rows if facts.loss else 0
    count = found.exact + found.near
    share = f" ({count / rows:.1%})" if rows else ""
    left = f"the other {found.rows_without:,} follow" if found.metrics else "no row is left"
    return (
        f"{count:,} of {rows:,} measured held-out rows{share} are also in the training data: "
        f"{found.exact:,} letter by letter, {found.near:,} nearly. The scores above count them; "
        f"those of {left}."
    )


def measuring(facts: Facts) -> Pairs:
    """How the numbers came about: the split, the seeds, how answers were made, the libraries."""
    part, data = _of(facts.recipe, "evaluation"), _of(facts.recipe, "data")
    held_out = _of(facts.data, "validation").get("rows")
    rows = facts.loss.rows if facts.loss else 0
    pairs = {"held-out rows": _validation_text(data.get("validation"), data.get("group"))}
    if rows and isinstance(held_out, int):
        pairs["of these measured"] = (
            f"all {rows:,}" if rows >= held_out else f"{rows:,} of {held_out:,}, evenly spread"
        )
    if facts.rows or facts.metrics:
        pairs["answers"] = _answers_text(facts, part)
    if any(metric.after_interval or metric.before_interval for metric in facts.metrics):
        pairs["intervals"] = (
            "95%: Wilson's of shares, else 1,000 draws of the rows (bootstrap, seed 0); "
            "a change draws the same rows of both sides"
        )
    pairs["seed of the training"] = str(facts.environment.get("seed", ""))
    pairs.update(facts.signatures)
    return _filled(pairs)


def _answers_text(facts: Facts, part: Values) -> str:
    task = _of(facts.recipe, "task")
    if task.get("head"):
        return "the head's likeliest"
    names = {metric.name for metric in facts.metrics}
    if "mc1" in names:
        return "the candidate with the greatest log-likelihood (not divided by its length)"
    if task.get("type") == "classification" and not task.get("multi_label"):
        return "the label with the greatest log-likelihood; of more than 500 labels, written"
    most = f"at most {part.get('max_new_tokens')} new tokens"
    if part.get("temperature"):
        return f"drawn at temperature {part['temperature']} (seed 0), {most}"
    return f"written greedily, {most}"


def _score_lines(metric: Measure, meaning: str = "") -> list[Score]:
    """A metric, and under it what is behind it."""
    line = Score(
        name=metric.name,
        before=_with_interval(metric.name, metric.before, metric.before_interval),
        after=_with_interval(metric.name, metric.after, metric.after_interval),
        note="; ".join(text for text in (meaning, _note(metric)) if text),
    )
    details = [
        Score(name, share_text(before), share_text(after), "", is_detail=True)
        for name, before, after in metric.details
        if name != "tokens"
    ]
    return [line, *details]


def _note(metric: Measure) -> str:
    """How many rows, and how much better: a change whose interval holds 0 may be chance."""
    rows = f"{metric.rows:,} rows" if metric.rows else ""
    if metric.change is None:
        return rows
    unit = "" if metric.name in PLAIN_SCORES else " points"
    change = f"change {change_text(metric.name, metric.change.value)}{unit}"
    if metric.change.interval is not None:
        low, high = (change_text(metric.name, end) for end in metric.change.interval)
        change += f" [{low} to {high}]"
    return f"{rows}; {change}" if rows else change


def training(facts: Facts) -> Pairs:
    """What was trained, how long, and what it took."""
    result, curve = facts.result, facts.curve
    trainable, total = result.get("trainable_parameters"), result.get("total_parameters")
    pairs: dict[str, str] = {"status": str(result.get("status") or "")}
    if trainable and total:
        share = f"{trainable / total:.2%}"
        pairs["trained parameters"] = f"{trainable:,} of {total:,} ({share})"
    if curve.steps:
        pairs["steps"] = f"{curve.steps[-1]:,}"
    if result.get("train_loss") is not None:
        pairs["training loss at the end"] = f"{result['train_loss']:.4f}"
    pairs["tokens seen"] = _int_text(result.get("tokens"))
    pairs["tokens trained on"] = _int_text(result.get("supervised_tokens"))
    if result.get("seconds"):
        pairs["time, all in all"] = duration_text(result["seconds"])
    if result.get("tokens_per_second"):
        pairs["training speed"] = f"{result['tokens_per_second']:,.0f} tokens/s"
    pairs["peak memory"] = _memory(result)
    return _filled(pairs)


def data(facts: Facts) -> Pairs:
    """How many rows came in, and what became of them."""
    event, result = facts.data, facts.result
    counts, train, held_out = (_of(event, name) for name in ("counts", "train", "validation"))
    part = _of(facts.recipe, "data")
    pairs = {
        "training rows from": str(part.get("train") or ""),
        "held-out rows from": _validation_text(part.get("validation"), part.get("group")),
        "format": str(event.get("format") or part.get("format") or ""),
        "rows read": _int_text(counts.get("rows_read")),
        "duplicates, used once": _int_text(counts.get("duplicates")),
        "rows trained on": _int_text(result.get("rows_used", train.get("rows"))),
        "held-out rows": _int_text(held_out.get("rows") or (facts.loss and facts.loss.rows)),
        "rows cut to the length limit": _int_text(train.get("rows_truncated")),
        "rows left out": "none",
    }
    if facts.dropped:
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in facts.dropped)
        pairs["rows left out"] = f"{sum(count for _, count in facts.dropped):,} ({reasons})"
    return _filled(pairs)


def machine(facts: Facts) -> Pairs:
    """Where it ran and with what."""
    environment = facts.environment
    hardware, model = _of(environment, "machine"), _of(environment, "model")
    packages = _of(environment, "packages")
    memory = hardware.get("memory_bytes")
    pairs = {
        "processor": str(hardware.get("processor") or ""),
        "cores": _int_text(hardware.get("cpu_count")),
        "memory": bytes_text(memory) if memory else "",
        "system": str(hardware.get("system") or ""),
        "device": str(environment.get("device") or ""),
        "base weights": _base(model.get("name"), environment.get("dtype")),
        "seed": str(environment.get("seed", "")),
        "tunesmith": str(environment.get("tunesmith") or ""),
        "Python": str(hardware.get("python") or ""),
        **{name: str(version) for name, version in packages.items()},
    }
    return _filled(pairs)


def recipe(facts: Facts) -> tuple[tuple[str, str, str], ...]:
    """Every value of the recipe with where it came from."""
    return tuple(
        (path, value, str(facts.origins.get(path) or ""))
        for path, value in _leaves(facts.recipe, "")
    )


def next_commands(facts: Facts) -> Pairs:
    """What to do with the result, as commands for a shell."""
    folder = shlex.quote(str(facts.folder))
    source = _of(facts.recipe, "model").get("source")
    pairs = {
        "Talk to it": f"tunesmith chat {folder}",
        "Talk to what it was before": f"tunesmith chat {shlex.quote(str(source))}"
        if source
        else "",
        "Run the same recipe again": f"tunesmith train {folder}/recipe.yaml",
    }
    return _filled(pairs)


def python_example(facts: Facts) -> str:
    """How to use the result from Python without Tunesmith."""
    final = str(facts.folder / "final")
    base = str(_of(facts.environment, "model").get("folder") or "the base model's folder")
    is_adapter = _of(facts.recipe, "method").get("type") != "full"
    lines = ["from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
    if is_adapter:
        lines.insert(0, "from peft import PeftModel")
        lines += [
            f"base = AutoModelForCausalLM.from_pretrained({json.dumps(base)})",
            f"model = PeftModel.from_pretrained(base, {json.dumps(final)})",
        ]
    else:
        lines.append(f"model = AutoModelForCausalLM.from_pretrained({json.dumps(final)})")
    lines.append(f"tokenizer = AutoTokenizer.from_pretrained({json.dumps(final)})")
    return "\n".join(lines)


def _of(values: Values, name: str) -> Values:
    part = values.get(name)
    return cast(Values, part) if isinstance(part, Mapping) else {}


def _data_name(facts: Facts) -> str:
    train = str(_of(facts.recipe, "data").get("train") or "its data")
    return train if train.startswith("sample:") else train.rpartition("/")[2]


def _line(measure: Measure, digits: int, note: str) -> Score:
    before, after = (number_text(v, digits=digits) for v in (measure.before, measure.after))
    return Score(measure.name, before, after, note)


def _with_interval(name: str, value: float | None, interval: tuple[float, float] | None) -> str:
    if interval is None:
        return score_text(name, value)
    low, high = interval
    if name in PLAIN_SCORES:
        return f"{score_text(name, value)} ({low:.2f} to {high:.2f})"
    return f"{score_text(name, value)} ({low * 100:.0f} to {high * 100:.0f})"


def _int_text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else ""


def _memory(result: Values) -> str:
    host, planned = result.get("peak_memory_bytes"), result.get("planned_memory_bytes")
    if not host:
        return ""
    expected = f" (planned: {bytes_text(planned)})" if planned else ""
    if device := result.get("peak_device_memory_bytes"):  # for which the plan is
        return f"{bytes_text(device)} of the GPU's{expected}, {bytes_text(host)} of the host's"
    return bytes_text(host) + expected


def _validation_text(value: Any, group: Any) -> str:
    """A file, or a share such as 10% of the rows or of their groups."""
    text = str(value or "")
    if not text.endswith("%"):
        return text
    return f"{text} of the rows, split off by a hash of " + (
        f"{group}: all rows of one are on one side" if group else "what they say"
    )


def _base(name: Any, dtype: Any) -> str:
    return ", ".join(str(part) for part in (name, dtype) if part)


def _leaves(values: Values, above: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        path = f"{above}.{key}" if above else key
        if isinstance(value, Mapping) and value:
            yield from _leaves(cast(Values, value), path)
        else:
            yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _filled(pairs: Mapping[str, str]) -> Pairs:
    return tuple((name, text) for name, text in pairs.items() if text)
