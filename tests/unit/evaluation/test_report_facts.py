from __future__ import annotations

from pathlib import Path

from tests.unit.evaluation.fabricated import make_run
from tunesmith.core.events import EventLog
from tunesmith.core.run_dir import write_json
from tunesmith.evaluation.report_content import scores
from tunesmith.evaluation.report_facts import read_facts


def test_a_step_that_was_done_twice_counts_once_and_the_later_counts(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", steps=3)
    with EventLog(run_dir.events_jsonl) as events:
        events.write("step", 2, loss=7.0, supervised_tokens=5)
    curve = read_facts(run_dir).curve
    assert curve.steps == (1, 2, 3)
    assert curve.losses[1] == 7.0
    assert curve.tokens[1] == 5


def test_held_out_points_are_before_between_and_after(tmp_path: Path) -> None:
    assert read_facts(make_run(tmp_path / "run")).curve.held_out == (
        (0, 2.7103), (20, 0.47), (40, 0.3121),
    )  # fmt: skip


def test_rows_are_matched_by_their_id_and_not_by_their_place(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run")
    answer = {"prompt": "p", "reference": "r"}
    before = [{**answer, "row_id": "a", "text": "1"}, {**answer, "row_id": "b", "text": "2"}]
    after = [{**answer, "row_id": "b", "text": "3"}]
    write_json(
        run_dir.evaluation_json, {"before": {"answers": before}, "after": {"answers": after}}
    )
    rows = {row.row_id: (row.before, row.after) for row in read_facts(run_dir).rows}
    assert rows == {"b": ("2", "3"), "a": ("1", None)}


def test_dropped_rows_are_counted_by_reason_from_any_form(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run")
    for given in (
        {"too long": 2, "empty": 0},
        {"too long": ["a", "b"]},
        [{"row_id": "a", "reason": "too long"}, {"row_id": "b", "reason": "too long"}],
    ):
        write_json(run_dir.result_json, {"rows_dropped": given})
        assert read_facts(run_dir).dropped == (("too long", 2),)


def test_a_change_is_told_with_its_paired_interval(tmp_path: Path) -> None:
    changes = {"json-match": {"value": 0.8875, "low": 0.81, "high": 0.94, "rows": 80}}
    facts = read_facts(make_run(tmp_path / "run", differences=changes))
    notes = {line.name: line.note for line in scores(facts)}
    assert notes["json-match"] == "80 rows; change +88.8 points [+81.0 to +94.0]"
    assert notes["exact-match"] == "80 rows"
