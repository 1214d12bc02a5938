from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.evaluation.matrix.fabricated import cell, make_matrix, measured
from tunesmith.core.errors import UserError
from tunesmith.evaluation.matrix.document import (
    FILE,
    ScenarioFacts,
    TechniqueFacts,
    merge,
    read_document,
    write_document,
)

ORDER = ("full", "lora", "ia3")


def test_what_is_written_is_read_again_from_the_folder_or_the_file(tmp_path: Path) -> None:
    write_document(make_matrix(), tmp_path)
    assert read_document(tmp_path) == make_matrix()
    assert read_document(tmp_path / FILE) == make_matrix()


def test_a_missing_or_damaged_document_is_a_fault_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no matrix"):
        read_document(tmp_path)
    (tmp_path / FILE).write_text('{"date": "2026-11-29", "command": "x"}')
    with pytest.raises(UserError) as caught:
        read_document(tmp_path)
    assert caught.value.faults[0].found == "tunesmith is missing"
    assert caught.value.faults[0].where.endswith("matrix.json: tunesmith")
    (tmp_path / FILE).write_text("{")
    with pytest.raises(UserError, match="no valid JSON"):
        read_document(tmp_path)


def test_cells_that_are_not_asked_for_stay_and_those_that_are_take_their_place() -> None:
    kinds = {"new": "ner", "banking": "classification"}
    new = replace(
        make_matrix(),
        command="tunesmith matrix --only new:vera",
        scenarios=tuple(
            ScenarioFacts(name=name, kind=kind, recipe="", model="", task="")
            for name, kind in kinds.items()
        ),
        techniques=tuple(
            TechniqueFacts(name=name, method=name, base=None, strategy=None, trains="")
            for name in ("vera", "lora")
        ),
        cells=(cell("new", "vera", measured()), cell("banking", "lora", None)),
    )
    both = merge(new, make_matrix(), ORDER)
    assert both.command == new.command
    assert [one.name for one in both.scenarios] == ["banking", "new", "alpaca"]
    names = [one.name for one in both.techniques]
    assert names[:3] == list(ORDER)
    assert set(names[3:]) == {"qlora", "dora", "deepspeed", "vera"}
    assert both.measured("banking", "lora") is None
    assert both.measured("banking", "full") == make_matrix().measured("banking", "full")
    assert len(both.cells) == len(make_matrix().cells) + 1
    assert merge(new, None, ORDER) == new


def test_a_scenario_is_judged_by_its_main_score_or_by_its_loss() -> None:
    assert make_matrix().main_metric("banking") == "accuracy"
    assert make_matrix().main_metric("alpaca") is None
