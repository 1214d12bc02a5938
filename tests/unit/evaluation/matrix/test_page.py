from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

from tests.unit.evaluation.matrix.fabricated import make_matrix, with_numbers
from tunesmith.evaluation.matrix.bars import bar
from tunesmith.evaluation.matrix.document import Matrix, Reason
from tunesmith.evaluation.matrix.measured import Value
from tunesmith.evaluation.matrix.page import headline, write_matrix_page

VOID = ("meta", "br", "img", "link", "input")


class Balance(HTMLParser):
    """Holds the tags that are open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def text_of(page: str) -> str:
    body = page[page.index("<body>") :]
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


def test_the_page_has_the_table_the_errors_the_bars_and_the_costs() -> None:
    page = write_matrix_page(make_matrix())
    text = text_of(page)
    for words in (
        "7 of 10 cells measured on a processor, 2 cores, 2026-11-29.",
        "0.100 \u2192 0.880 0.860-0.900, better",
        "1.600 \u2192 1.500",
        "LoRA: No, though QLoRA, which is LoRA, has a Yes.",
        "peak memory, lora by full: banking 0.385, alpaca 0.385; shown here",
        "full width is 0.9",
        "134,515,008",
        "3.90 GB",
        "12 min 3 s",
        "memory ran out. To do: a smaller model",
        "lora 0.0002 (the recipe's)",
        "tunesmith matrix --steps 100",
    ):
        assert words in text, words
    assert page.count('href="#error-10"') == 2
    assert "id=error-10>" in page


def test_the_page_is_whole_and_loads_nothing() -> None:
    page = write_matrix_page(make_matrix())
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert set(re.findall(r'(?:src|href)="?(.)', page)) == {"#"}
    assert "url(" not in page
    assert "<script" not in page


def test_text_of_strangers_is_shown_not_obeyed() -> None:
    evil = "<b onload=x>"
    broken = make_matrix().cell("alpaca", "dora")
    assert broken is not None
    reason = Reason(found=evil, where=evil, fix=evil)
    matrix = make_matrix().with_cell(replace(broken, reasons=(reason,)))
    page = write_matrix_page(replace(matrix, command=evil))
    assert evil not in page
    assert "&lt;b onload=x&gt;" in page


def test_a_paired_difference_is_shown_with_its_interval() -> None:
    paired = {"accuracy": Value(value=0.78, low=0.75, high=0.81)}
    matrix = with_numbers(make_matrix(), "banking", "lora", differences=paired)
    text = text_of(write_matrix_page(matrix))
    assert "+0.780 +0.750 to +0.810, same rows" in text


def test_a_table_without_numbers_has_a_page_too() -> None:
    empty = Matrix(date="2026-11-29", command="", tunesmith="0")
    assert headline(empty) == "0 of 0 cells measured on this machine, 2026-11-29."
    assert "The usual table" in write_matrix_page(empty)


def test_a_bar_is_as_long_as_its_share_of_the_limit() -> None:
    drawn = bar(0.4, 0.8, kind="after", interval=(0.3, 0.9))
    assert "width:50.00%" in drawn
    assert "left:37.50%;width:62.50%" in drawn
    assert bar(None, 1.0, kind="after") == ""
    assert bar(0.0, 0.0, kind="after") == ""
