"""The table that is usually shown, Yes or No without a number, and each of its errors.

Every error says what the table says, what is so, and which comparison of cells shows it. Whether a
comparison shows it here is worked out from the numbers, so that a measurement which speaks for the
table is told as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

from tunesmith.evaluation.matrix.content import BUSY, Verdict, gain, names_text
from tunesmith.evaluation.matrix.document import Matrix
from tunesmith.evaluation.matrix.measured import Measured
from tunesmith.evaluation.matrix.technique import is_of_library

COLUMNS = ("LoRA", "QLoRA", "PEFT", "DeepSpeed", "ZeRO", "DoRA")
NOT_MEASURED = "not measured here"
# Stands for the method of the PEFT library that was chosen as the family's example.
FAMILY = "PEFT"
TECHNIQUE_OF = {
    "LoRA": "lora", "QLoRA": "qlora", FAMILY: FAMILY, "DeepSpeed": "deepspeed", "ZeRO": "zero-3",
    "DoRA": "dora",
}  # fmt: skip
Holds = Literal["below", "above", "not below"]
# Nearer to 1 than this, two quantities are as good as equal.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Line:
    """A row of the usual table; `says` is one answer for each of COLUMNS."""

    name: str
    says: tuple[bool, ...]


@dataclass(frozen=True)
class Comparison:
    """A quantity of one technique by that of another; `holds` is where the truth puts the ratio."""

    quantity: str
    one: str
    other: str
    holds: Holds


@dataclass(frozen=True)
class TableError:
    """What is wrong in some columns of one line; no line where it concerns all of the table."""

    line: str | None
    columns: tuple[str, ...]
    says: str
    truth: str
    comparisons: tuple[Comparison, ...] = ()
    evidence: Callable[[Matrix], str] | None = None


@dataclass(frozen=True)
class Shown:
    """An error with what this table's measurements say of it."""

    number: int
    error: TableError
    evidence: tuple[str, ...]


def _yes_no(text: str) -> tuple[bool, ...]:
    return tuple(word == "Y" for word in text.split())


ADAPTING = "Adapting a trained model to a task or a domain"
LANGUAGE = "Language tasks: classes, named entities, translation"
QUESTIONS = "Answering questions"
CHATBOTS = "Chatbots"
CREATIVE = "Music, art and other creative work"
COST = "Less compute and cost"
MEMORY = "Less memory"
PARAMETERS = "Fewer trained parameters"
PARALLEL = "Memory-efficient data parallelism over all GPUs"

LINES = (
    *(Line(name, _yes_no("Y Y Y Y Y Y")) for name in (
        ADAPTING, LANGUAGE, QUESTIONS, CHATBOTS, CREATIVE,
    )),
    Line(COST, _yes_no("Y Y N Y Y N")),
    Line(MEMORY, _yes_no("N Y N Y Y Y")),
    Line(PARAMETERS, _yes_no("N Y Y N N Y")),
    Line(PARALLEL, _yes_no("N N N Y Y Y")),
)  # fmt: skip


def show_errors(matrix: Matrix) -> list[Shown]:
    """Return every error of the usual table with what was measured of it."""
    return [
        Shown(number, error, tuple(_evidence(matrix, error)))
        for number, error in enumerate(ERRORS, start=1)
    ]


def errors_at(line: str, column: str) -> list[int]:
    """Return the numbers of the errors of one field."""
    return [
        number
        for number, error in enumerate(ERRORS, start=1)
        if error.line == line and column in error.columns
    ]


def compare(matrix: Matrix, comparison: Comparison) -> str:
    """Return the ratio in each scenario that has both cells, and whether they show the truth."""
    one, other = (_technique(matrix, word) for word in (comparison.one, comparison.other))
    _, name = QUANTITIES[comparison.quantity]
    what = f"{name}, {one or comparison.one} by {other or comparison.other}"
    ratios = _ratios(matrix, comparison.quantity, one, other)
    if not ratios:
        return f"{what}: {NOT_MEASURED}{_why_not(matrix, one, other)}"
    shown = ", ".join(f"{scenario} {ratio:.3g}" for scenario, ratio in ratios.items())
    said = f"{what}: {shown}; {_verdict(list(ratios.values()), comparison.holds)}"
    if comparison.quantity == "speed" and _was_disturbed(matrix, ratios, (one, other)):
        said += "; but other work took a part of the processors"
    return said


def _verdict(ratios: Sequence[float], holds: Holds) -> str:
    showing = sum(_shows(ratio, holds) for ratio in ratios)
    if showing == len(ratios):
        return "shown here"
    if showing:
        return f"shown in {showing} of {len(ratios)} scenarios"
    equal = sum(abs(ratio - 1) <= TOLERANCE for ratio in ratios)
    if equal == len(ratios):
        return "not shown here: no difference"
    return f"not shown here: {'no difference, or ' if equal else ''}the other way round"


def _shows(ratio: float, holds: Holds) -> bool:
    match holds:
        case "below":
            return ratio < 1 - TOLERANCE
        case "above":
            return ratio > 1 + TOLERANCE
        case "not below":
            return ratio >= 1 - TOLERANCE
        case _:
            assert_never(holds)


def _was_disturbed(
    matrix: Matrix, scenarios: Iterable[str], techniques: Sequence[str | None]
) -> bool:
    cells = [matrix.cell(row, name or "") for row in scenarios for name in techniques]
    return any(cell is not None and (cell.busy or 0) > BUSY for cell in cells)


def _evidence(matrix: Matrix, error: TableError) -> list[str]:
    said = [compare(matrix, comparison) for comparison in error.comparisons]
    if error.evidence is not None:
        said.append(error.evidence(matrix))
    return said or [f"{NOT_MEASURED}: a matter of words, not of numbers"]


def _technique(matrix: Matrix, word: str) -> str | None:
    """Return the technique's name; of the family the first of the library's methods here."""
    if word != FAMILY:
        return word
    names = [technique.name for technique in matrix.techniques]
    return next((name for name in names if is_of_library(name)), None)


def _ratios(matrix: Matrix, quantity: str, one: str | None, other: str | None) -> dict[str, float]:
    read, _ = QUANTITIES[quantity]
    ratios: dict[str, float] = {}
    for scenario in matrix.scenarios:
        sides = [matrix.measured(scenario.name, name or "") for name in (one, other)]
        values = [read(side) if side else None for side in sides]
        if values[0] is not None and values[1]:
            ratios[scenario.name] = values[0] / values[1]
    return ratios


def _why_not(matrix: Matrix, *techniques: str | None) -> str:
    """Return the reason for which the first of the techniques has no numbers, where it has one."""
    for cell in matrix.cells:
        if cell.technique in techniques and cell.measured is None and cell.reasons:
            return f" ({cell.reasons[0].found})"
    return ""


def _tell_gains(matrix: Matrix) -> str:
    """Count which cells became better, and name those that did not."""
    by_verdict: dict[Verdict, list[str]] = {}
    for cell in matrix.cells:
        found = gain(cell.measured, matrix.main_metric(cell.scenario)) if cell.measured else None
        if found is not None:
            by_verdict.setdefault(found.verdict, []).append(cell.name)
    total = sum(map(len, by_verdict.values()))
    if not total:
        return f"score before and after: {NOT_MEASURED}"
    said = f"score before and after: better in {len(by_verdict.get('better', ()))} of {total} cells"
    others: Sequence[tuple[Verdict, str]] = (
        ("not told apart", "no difference shown"), ("worse", "worse"),
    )  # fmt: skip
    for verdict, words in others:
        if names := by_verdict.get(verdict):
            said += f"; {words}: {names_text(names)}"
    return said


def _tell_full(matrix: Matrix) -> str:
    rows = [one.name for one in matrix.scenarios if matrix.measured(one.name, "full")]
    return f"full fine-tuning measured here: {', '.join(rows)}" if rows else NOT_MEASURED


def _tell_axes(matrix: Matrix) -> str:
    shown = [
        f"{one.name} = method {one.method}, base {one.base or 'as it is'}, "
        f"strategy {one.strategy or 'single'}"
        for one in matrix.techniques
    ]
    return "; ".join(shown) or NOT_MEASURED


def _per_value(measured: Measured) -> float | None:
    trained, total = measured.trainable_parameters, measured.total_parameters
    return trained / total if trained is not None and total else None


# What can be compared: how it is read, and what it is called.
QUANTITIES: dict[str, tuple[Callable[[Measured], float | None], str]] = {
    "memory": (lambda m: m.peak_memory_bytes, "peak memory"),
    "speed": (lambda m: m.tokens_per_second, "tokens a second"),
    "parameters": (_per_value, "trained share of the parameters"),
}

ERRORS = (
    TableError(
        None,
        COLUMNS,
        "Six columns of one kind.",
        "They are of three kinds. LoRA and DoRA are methods, and PEFT is the family that both "
        "belong to; QLoRA is LoRA on a base in 4 bits; DeepSpeed spreads work over devices by any "
        "method, and ZeRO is a part of DeepSpeed.",
        evidence=_tell_axes,
    ),
    TableError(
        None,
        COLUMNS,
        "Less, lower and fewer, without a column to compare with.",
        "A comparison needs full fine-tuning beside it, the same data and a number.",
        evidence=_tell_full,
    ),
    TableError(
        None,
        COLUMNS,
        "Yes for every technique in every task.",
        "That tells no technique from another. What helps, and by how much, depends on the task, "
        "the rows and the learning rate, and is known when a score has an interval.",
        evidence=_tell_gains,
    ),
    TableError(
        COST,
        ("QLoRA",),
        "QLoRA: Yes, like LoRA.",
        "It needs a smaller device and pays in time: each matrix is made again from 4 bits at each "
        "product, so it is slower than LoRA.",
        (Comparison("speed", "qlora", "lora", "below"),),
    ),
    TableError(
        COST,
        (FAMILY,),
        "PEFT: No, though LoRA and QLoRA have a Yes.",
        "Both are PEFT. What trains few values needs no gradients and no optimizer states of the "
        "others, and a step is cheaper than one of full fine-tuning.",
        (Comparison("speed", FAMILY, "full", "above"),),
    ),
    TableError(
        COST,
        ("DeepSpeed", "ZeRO"),
        "DeepSpeed and ZeRO: Yes.",
        "They spread memory over devices and save no arithmetic; gathering weights (stage 3) and "
        "offloading cost time.",
        (
            Comparison("speed", "deepspeed", "full", "below"),
            Comparison("speed", "zero-3", "full", "below"),
        ),
    ),
    TableError(
        COST,
        ("DoRA",),
        "DoRA: No, beside LoRA's Yes.",
        "It costs more than LoRA of the same rank and less than full fine-tuning.",
        (
            Comparison("speed", "dora", "lora", "below"),
            Comparison("speed", "dora", "full", "above"),
            Comparison("memory", "dora", "full", "below"),
        ),
    ),
    TableError(
        MEMORY,
        ("LoRA",),
        "LoRA: No.",
        "The frozen weights have no gradients and no optimizer states, which are most of what full "
        "fine-tuning keeps.",
        (Comparison("memory", "lora", "full", "below"),),
    ),
    TableError(
        MEMORY,
        (FAMILY,),
        "PEFT: No, though its members QLoRA and DoRA have a Yes.",
        "What holds of its members holds of the family.",
        (Comparison("memory", FAMILY, "full", "below"),),
    ),
    TableError(
        MEMORY,
        ("DeepSpeed", "ZeRO"),
        "DeepSpeed and ZeRO: Yes.",
        "Only for each device, where there is more than one, or with offloading; with one process "
        "and none there is no gain.",
        (
            Comparison("memory", "deepspeed", "full", "below"),
            Comparison("memory", "zero-3", "full", "below"),
        ),
    ),
    TableError(
        PARAMETERS,
        ("LoRA",),
        "LoRA: No, though QLoRA, which is LoRA, has a Yes.",
        "To train few parameters is what LoRA is.",
        (
            Comparison("parameters", "lora", "full", "below"),
            Comparison("parameters", "qlora", "full", "below"),
        ),
    ),
    TableError(
        PARALLEL,
        ("DoRA",),
        "DoRA: Yes.",
        "It is a form of adapter and spreads nothing over devices; on one device it takes no less "
        "memory than LoRA.",
        (Comparison("memory", "dora", "lora", "not below"),),
    ),
)
