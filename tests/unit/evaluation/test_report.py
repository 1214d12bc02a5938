from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import pytest

from tests.unit.evaluation.fabricated import make_answer, make_run, make_side
from tunesmith.core.run_dir import RunDir, write_json
from tunesmith.evaluation.report import write_report

LOADING_ATTRIBUTES = {"src", "srcset", "href", "action", "data", "poster", "background"}


class Page(HTMLParser):
    """Tags and the attributes by which a browser would load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in LOADING_ATTRIBUTES]


def report_of(run_dir: RunDir) -> str:
    write_report(run_dir)
    return run_dir.report_html.read_text(encoding="utf-8")


def test_the_page_loads_nothing_from_anywhere(tmp_path: Path) -> None:
    page = Page(report_of(make_run(tmp_path / "run")))
    assert page.loads, "the pictures are inside"
    assert all(value.startswith("data:image/png;base64,") for value in page.loads)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)


def test_styles_load_nothing(tmp_path: Path) -> None:
    text = report_of(make_run(tmp_path / "run"))
    assert "url(" not in text
    assert "@import" not in text
    assert not re.search(r"https?://", text)


def test_markup_in_rows_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    text = report_of(make_run(tmp_path / "run"))
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "&lt;b&gt;tent&lt;/b&gt;" in text


def test_braces_in_rows_stay_as_they_are(tmp_path: Path) -> None:
    answer = {**make_answer(1, after=True), "text": "{style} {0} {missing}"}
    run_dir = make_run(tmp_path / "run", after=make_side(after=True, answers=[answer]))
    assert "{style} {0} {missing}" in report_of(run_dir)


def test_the_report_holds_the_numbers_of_the_run(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run")
    text = report_of(run_dir)
    markdown = run_dir.report_md.read_text(encoding="utf-8")
    for number in ("2.7103", "0.3121", "4,884,480", "1,650 tokens/s", "2 min 11 s", "912 MB"):
        assert number in text
        assert number in markdown
    assert "88.8% (80 to 94)" in text
    assert "2 (2 too long)" in text


def test_answers_stand_side_by_side_and_right_ones_are_marked(tmp_path: Path) -> None:
    text = report_of(make_run(tmp_path / "run"))
    assert text.count("<article>") == 3
    assert text.count("as wanted") == 2


def test_an_answer_that_was_cut_is_marked(tmp_path: Path) -> None:
    answer = {**make_answer(3, after=True), "finish_reason": "length"}
    run_dir = make_run(tmp_path / "run", after=make_side(after=True, answers=[answer]))
    assert report_of(run_dir).count("cut at the limit") == 1


@pytest.mark.parametrize("missing", ["before", "after"])
def test_a_side_may_be_missing(tmp_path: Path, missing: str) -> None:
    text = report_of(make_run(tmp_path / "run", **{missing: None}))
    assert "<td class=number>-</td>" in text
    assert text.count("<article>") == 3


def test_both_sides_may_be_missing(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", before=None, after=None)
    assert "no held-out comparison" in report_of(run_dir)


def test_metrics_may_be_empty(tmp_path: Path) -> None:
    sides = {when: make_side(after=when == "after", metrics={}) for when in ("before", "after")}
    text = report_of(make_run(tmp_path / "run", **sides))
    assert "held-out loss went from 2.710 to 0.312" in text


def test_a_metric_may_be_measured_on_one_side_only(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", before=make_side(after=False, metrics={}))
    assert "json-match" in report_of(run_dir)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_a_few_steps_are_enough(tmp_path: Path, steps: int) -> None:
    run_dir = make_run(tmp_path / "run", steps=steps)
    write_report(run_dir)
    assert (run_dir.path / "charts" / "loss.png").exists() == (steps > 0)


def test_a_folder_with_nothing_but_a_recipe_gives_a_report(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run")
    for file in (run_dir.events_jsonl, run_dir.result_json, run_dir.evaluation_json):
        file.unlink()
    run_dir.environment_json.unlink()
    assert "smollm2-135m-instruct" in report_of(run_dir)


def test_a_report_can_be_written_again(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run")
    assert report_of(run_dir) == report_of(run_dir)


def test_markdown_pictures_are_beside_it(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run")
    write_report(run_dir)
    files = re.findall(r"!\[[^]]*\]\(([^)]+)\)", run_dir.report_md.read_text(encoding="utf-8"))
    assert files == ["charts/before-after.png", "charts/loss.png"]
    assert all((run_dir.path / file).read_bytes().startswith(b"\x89PNG") for file in files)


def test_markdown_fences_are_longer_than_those_inside(tmp_path: Path) -> None:
    answer = {**make_answer(1, after=True), "text": "````\nboo\n````"}
    run_dir = make_run(tmp_path / "run", after=make_side(after=True, answers=[answer]))
    write_report(run_dir)
    assert "`````\n````\nboo\n````\n`````" in run_dir.report_md.read_text(encoding="utf-8")


def test_drawing_changes_nothing_global(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    write_report(make_run(tmp_path / "run"))
    assert dict(matplotlib.rcParams) == before


def test_a_correlation_is_shown_as_a_number(tmp_path: Path) -> None:
    sides = {
        when: make_side(after=when == "after", metrics={
            "accuracy": {"value": 0.5, "rows": 80, "low": 0.4, "high": 0.6, "details": {}},
            "mcc": {"value": value, "rows": 80, "low": value - 0.1, "high": value + 0.1,
                    "details": {}},
        })
        for when, value in (("before", -0.031), ("after", 0.914))
    }  # fmt: skip
    run_dir = make_run(tmp_path / "run", **sides)
    changes = {"mcc": {"value": 0.945, "low": 0.9, "high": 0.99, "rows": 80}}
    write_json(run_dir.evaluation_json, {**sides, "differences": changes})
    text = report_of(run_dir)
    assert "50.0% (40 to 60)" in text
    assert "-0.031 (-0.13 to 0.07)" in text
    assert "0.914 (0.81 to 1.01)" in text
    assert "change +0.945 [+0.900 to +0.990]" in text
    assert "91.4%" not in text


def test_few_classes_are_a_table_of_each_by_each(tmp_path: Path) -> None:
    confusion = {
        "classes": 2, "labels": ["late <b>", "lost"], "counts": [[31, 4, 0], [0, 17, 2]],
        "pairs": [],
    }  # fmt: skip
    run_dir = make_run(tmp_path / "run", after=make_side(after=True, confusion=confusion))
    text = report_of(run_dir)
    assert "Classes taken for others, after training" in text
    assert "1 late &lt;b&gt;" in text
    assert '<td class="number as-wanted">31</td><td class="number">4</td>' in text
    assert '<td class="number as-wanted">17</td><td class="number">2</td>' in text
    markdown = run_dir.report_md.read_text()
    assert "| 2 lost |  | 17 | 2 |" in markdown
    assert "no class" in markdown


def test_of_many_classes_the_mistakes_are_listed(tmp_path: Path) -> None:
    pairs = [{"right": "a", "said": None, "rows": 7, "of": 9}]
    side = make_side(after=True, confusion={"classes": 77, "pairs": pairs})
    run_dir = make_run(tmp_path / "run", after=side)
    assert "The commonest mistakes among 77 classes." in report_of(run_dir)
    assert "| a | no class | 7 | 9 |" in run_dir.report_md.read_text()
    side = make_side(after=True, confusion={"classes": 77, "pairs": []})
    run_dir = make_run(tmp_path / "other", after=side)
    assert "None of the 77 classes was taken for another." in report_of(run_dir)


def test_without_classes_nothing_is_said_of_them(tmp_path: Path) -> None:
    assert "Classes taken for others" not in report_of(make_run(tmp_path / "run"))
