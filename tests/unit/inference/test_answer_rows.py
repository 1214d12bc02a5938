from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tunesmith.core.errors import DataError, RunError, UserError
from tunesmith.data.asked import FaultyRow
from tunesmith.data.conversation import PromptCompletion, Sample
from tunesmith.data.rows import RowFault
from tunesmith.inference.answer_rows import AskedRow, answer_rows, check_prompts
from tunesmith.inference.answers_file import open_answers


class Echo:
    """Answers with the row's own prompt and number, and what stood beside it in `asked`."""

    def __init__(self, rows_at_once: int = 4, *, fails_at: int | None = None) -> None:
        self.rows_at_once = rows_at_once
        self.fails_at = fails_at
        self.asked: list[list[int]] = []

    def refuse(self, samples: Sequence[Sample]) -> list[RowFault | None]:
        return [
            RowFault(file="rows.jsonl", line=one.line, row_id=one.row_id, found="too long")
            if "long" in str(one)
            else None
            for one in samples
        ]

    def answer(self, samples: Sequence[Sample], numbers: Sequence[int]) -> list[dict[str, Any]]:
        if self.fails_at in numbers:
            raise MemoryError
        self.asked.append(list(numbers))
        return [
            {"answer": f"{one.prompt} {number}"}  # type: ignore[union-attr]
            for one, number in zip(samples, numbers, strict=True)
        ]


def rows(count: int, **special: str) -> list[AskedRow]:
    """Rows 1 to `count`; `bad=3` for one with a fault, `long=3` for one that is refused."""
    made: list[AskedRow] = []
    for line in range(1, count + 1):
        row_id = f"rows.jsonl:{line}"
        if str(line) in special.get("bad", "").split():
            fault = RowFault(
                file="rows.jsonl", line=line, field="prompt", found="got integer",
                expected="string",
            )  # fmt: skip
            made.append(FaultyRow(row_id, (fault,)))
            continue
        word = "long" if str(line) in special.get("long", "").split() else "row"
        made.append(PromptCompletion(prompt=word, completion="", row_id=row_id, line=line))
    return made


def answer(path: Path, given: Sequence[AskedRow], answerer: Echo, told: Any = None) -> list[Any]:
    events: list[dict[str, Any]] = [] if told is None else told
    with open_answers(path, {}, "resume") as file:
        answer_rows(given, answerer, file, total=len(given), tell=events.append)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_answers_come_in_the_order_of_the_rows(tmp_path: Path) -> None:
    answerer = Echo(4)
    lines = answer(tmp_path / "a", rows(10), answerer)
    assert [line["row_id"] for line in lines] == [f"rows.jsonl:{n}" for n in range(1, 11)]
    assert [line["answer"] for line in lines] == [f"row {n}" for n in range(10)]
    assert answerer.asked == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_rows_are_taken_one_window_at_a_time(tmp_path: Path) -> None:
    taken: list[int] = []
    answered: list[int] = []

    def lazily() -> Iterable[AskedRow]:
        for row in rows(8):
            answered.append(len((tmp_path / "a").read_text().splitlines()))
            taken.append(1)
            yield row

    with open_answers(tmp_path / "a", {}, "resume") as file:
        answer_rows(lazily(), Echo(2), file, total=8, tell=lambda _: None)
    assert answered == [0, 0, 2, 2, 4, 4, 6, 6], "what is answered is written before the next"


def test_a_row_with_a_fault_or_refused_keeps_its_place(tmp_path: Path) -> None:
    answerer = Echo(4)
    lines = answer(tmp_path / "a", rows(6, bad="2 6", long="3"), answerer)
    assert [line["row_id"] for line in lines] == [f"rows.jsonl:{n}" for n in range(1, 7)]
    assert lines[1] == {
        "row_id": "rows.jsonl:2", "error": "got integer, expected string (prompt)",
    }  # fmt: skip
    assert lines[2]["error"] == "too long"
    assert answerer.asked == [[0, 3], [4]]


def test_a_window_without_a_row_to_ask_is_no_question(tmp_path: Path) -> None:
    answerer = Echo(2)
    lines = answer(tmp_path / "a", rows(4, bad="1 2"), answerer)
    assert answerer.asked == [[2, 3]]
    assert len(lines) == 4


@pytest.mark.parametrize("stopped_after", range(11))
def test_going_on_makes_the_same_file_and_asks_the_same_rows_together(
    tmp_path: Path, stopped_after: int
) -> None:
    path, given = tmp_path / "a", rows(10, bad="3", long="7")
    answer(path, given, Echo(4))
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:stopped_after]))
    answerer = Echo(4)
    answer(path, given, answerer)
    assert path.read_bytes() == whole
    windows = [[0, 1, 3], [4, 5, 7], [8, 9]]
    assert answerer.asked == ([] if stopped_after == 10 else windows[stopped_after // 4 :])


def test_lines_of_other_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    answer(path, rows(4), Echo(4))
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"answer to rows.jsonl:1, where the one to rows.jsonl:2"):
        answer(path, rows(8)[1:], Echo(4))
    assert path.read_bytes() == before


def test_it_tells_how_far_it_is(tmp_path: Path) -> None:
    path, told = tmp_path / "a", list[Any]()
    answer(path, rows(4), Echo(4))
    answer(path, rows(10), Echo(4), told)
    last = told[-1]["predicted"]
    assert (last["rows"], last["total"], last["seconds_left"]) == (10, 10, 0)
    assert last["rows_per_second"] > 0


def test_what_is_answered_before_memory_runs_out_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(RunError, match="memory ran out") as caught:
        answer(path, rows(10), Echo(4, fails_at=5))
    assert caught.value.code == "out_of_memory"
    assert len(path.read_text().splitlines()) == 4


def test_all_refused_prompts_are_told_at_once() -> None:
    with pytest.raises(DataError) as caught:
        check_prompts(rows(10, long="2 5 9", bad="3"), Echo(2), "error")
    assert [fault.where for fault in caught.value.faults] == [
        "rows.jsonl:2", "rows.jsonl:5", "rows.jsonl:9",
    ]  # fmt: skip
    assert check_prompts(rows(10, long="2 5 9"), Echo(2), "report") == 3
    assert check_prompts(rows(3), Echo(2), "error") == 0
