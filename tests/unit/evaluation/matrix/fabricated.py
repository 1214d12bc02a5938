"""A table made of numbers that nobody measured, to test what is said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tunesmith.evaluation.matrix.document import (
    CellResult,
    Matrix,
    Reason,
    ScenarioFacts,
    TechniqueFacts,
)
from tunesmith.evaluation.matrix.measured import Measured, Side, Value

NO_STRATEGY = Reason(
    found="strategy: deepspeed is not available in this version",
    where="--set strategy=deepspeed",
    fix="leave the cell empty",
)


def value(share: float, *, half: float = 0.02, rows: int = 500) -> Value:
    """A score with an interval around it."""
    return Value(value=share, low=share - half, high=share + half, rows=rows)


def measured(
    after: float = 0.8,
    *,
    before: float = 0.1,
    metric: str | None = "accuracy",
    losses: tuple[float, float] = (4.0, 0.5),
    **numbers: Any,
) -> Measured:
    """A cell's numbers, with those given in place of the usual ones."""
    scores = [{metric: value(share)} if metric else {} for share in (before, after)]
    sides = [Side(loss=loss, rows=500, metrics=scores[place]) for place, loss in enumerate(losses)]
    usual: dict[str, Any] = {
        "trainable_parameters": 4_884_480,
        "total_parameters": 134_515_008,
        "peak_memory_bytes": 1_500_000_000,
        "tokens_per_second": 400.0,
        "training_seconds": 723.0,
        "seconds": 800.0,
        "weights_bytes": 19_600_000,
        "steps": 100,
        "rows_used": 900,
        "tunesmith": "0.1.0",
        "packages": {"torch": "2.13.0"},
    }
    return Measured(before=sides[0], after=sides[1], **{**usual, **numbers})


def cell(scenario: str, technique: str, numbers: Measured | None, **fields: Any) -> CellResult:
    """A field of the table."""
    usual: dict[str, Any] = {
        "status": "measured" if numbers else "waiting",
        "learning_rate": 2e-4,
        "rate_origin": "the recipe's",
        "recipe_hash": "0123abcd",
        "folder": f"{scenario}/{technique}-0123abcd",
    }
    return CellResult(
        scenario=scenario, technique=technique, measured=numbers, **{**usual, **fields}
    )


FULL = {
    "trainable_parameters": 134_515_008,
    "peak_memory_bytes": 3_900_000_000,
    "tokens_per_second": 300.0,
    "weights_bytes": 538_000_000,
}
QLORA = {"peak_memory_bytes": 1_400_000_000, "tokens_per_second": 340.0}


def make_matrix() -> Matrix:
    """Two scenarios, one judged by accuracy and one by its loss, and a strategy that is not."""
    techniques = (
        ("full", "full", None, None),
        ("lora", "lora", None, None),
        ("qlora", "lora", "nf4", None),
        ("dora", "dora", None, None),
        ("ia3", "ia3", None, None),
        ("deepspeed", "full", None, "{type: deepspeed, zero: 2}"),
    )
    chat = {"metric": None, "losses": (1.6, 1.5)}
    return Matrix(
        date="2026-11-29T03:00:00+00:00",
        command="tunesmith matrix --steps 100",
        tunesmith="0.1.0",
        machine={"processor": "a processor", "cpu_count": 2, "memory_bytes": 25_000_000_000},
        scenarios=(
            ScenarioFacts(
                name="banking", kind="classification", recipe="recipes/banking.yaml",
                model="smollm2-135m-instruct", task="classification",
            ),
            ScenarioFacts(
                name="alpaca", kind="chatbot", recipe="recipes/alpaca.yaml",
                model="smollm2-135m-instruct", task="chat",
            ),
        ),
        techniques=tuple(
            TechniqueFacts(name=name, method=method, base=base, strategy=strategy, trains="words")
            for name, method, base, strategy in techniques
        ),
        cells=(
            cell("banking", "full", measured(0.85, **FULL)),
            cell("banking", "lora", measured(0.88)),
            cell("banking", "qlora", measured(0.87, before=0.09, losses=(4.1, 0.6), **QLORA)),
            cell("banking", "dora", measured(0.88, tokens_per_second=350.0)),
            cell("banking", "ia3", measured(0.11, trainable_parameters=57_600)),
            cell("banking", "deepspeed", None, status="refused", reasons=(NO_STRATEGY,)),
            cell("alpaca", "full", measured(**chat, **FULL)),
            cell("alpaca", "lora", measured(**chat)),
            cell("alpaca", "dora", None, status="failed", reasons=(
                Reason(found="memory ran out", where="this machine", fix="a smaller model"),
            )),
            cell("alpaca", "deepspeed", None, status="refused", reasons=(NO_STRATEGY,)),
        ),
    )  # fmt: skip


def with_numbers(matrix: Matrix, scenario: str, technique: str, **numbers: Any) -> Matrix:
    """The table with other numbers in one of its fields."""
    old = matrix.cell(scenario, technique)
    assert old is not None
    assert old.measured is not None
    return matrix.with_cell(replace(old, measured=replace(old.measured, **numbers)))
