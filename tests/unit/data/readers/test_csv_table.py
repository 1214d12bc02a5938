from __future__ import annotations

import csv
import io
import random
from pathlib import Path

import pytest

from tests.unit.data.readers.reading import fault_of, read, values_of, write
from tunesmith.data.rows import Row, read_rows

TRICKY = [
    "plain",
    "a, b; c | d",
    'say "hi"',
    "two\nlines\n\nand more",
    "",
    " kept ",
    "\u017e\u2028",
]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_what_the_standard_writer_wrote_is_read_back(
    tmp_path: Path, delimiter: str, ends: str
) -> None:
    draw = random.Random(7)
    rows = [{name: draw.choice(TRICKY) for name in ("text", "label", "n")} for _ in range(300)]
    out = io.StringIO()
    writer = csv.DictWriter(out, ["text", "label", "n"], delimiter=delimiter, lineterminator=ends)
    writer.writeheader()
    writer.writerows(rows)
    path = write(tmp_path, out.getvalue(), "d.csv")
    assert values_of(path) == rows


def test_a_row_knows_the_line_that_it_begins_on(tmp_path: Path) -> None:
    path = write(tmp_path, 'text,label\n"a\nb",x\n\n"c",y\n', "d.csv")
    rows, _ = read(path)
    assert [(row.line, row.number, row.row_id) for row in rows] == [
        (2, 1, "d.csv:2"), (5, 2, "d.csv:5"),
    ]  # fmt: skip


def test_a_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    text = "prompt,completion\nname a lake,Bled\n"
    for encoding in ("utf-8-sig", "utf-16"):
        path = write(tmp_path, text.encode(encoding), "d.csv")
        assert values_of(path) == [{"prompt": "name a lake", "completion": "Bled"}]


def test_ragged_rows_are_all_named_with_their_counts(tmp_path: Path) -> None:
    rows, faults = read(write(tmp_path, "text,label\na,b,c\nd,e\nf\n", "d.csv"))
    assert [row.values["text"] for row in rows] == ["d"]
    assert [(fault.line, fault.found) for fault in faults] == [
        (2, "line 2 has 3 fields"), (4, "line 4 has 1 field"),
    ]  # fmt: skip
    assert faults[0].expected == "2 as in the header: text, label"
    assert "between double quotes" in faults[0].fix
    assert faults[1].fix == "write a comma for each field that is missing, even where it is empty"
    assert all(fault.is_of_row for fault in faults)


def test_a_quote_that_is_never_closed_is_named_where_it_opens(tmp_path: Path) -> None:
    rows, faults = read(write(tmp_path, 'text,label\na,b\n"c,d\ne,f\ng,h\n', "d.csv"))
    assert [row.values["text"] for row in rows] == ["a", "e", "g"]
    (fault,) = faults
    assert (fault.line, fault.reason) == (3, "unclosed quote")
    assert not fault.is_of_row


def test_a_quote_that_opens_below_its_record_is_named_there(tmp_path: Path) -> None:
    fault = fault_of(write(tmp_path, 'text,label\n"a\nb","c\n', "d.csv"))
    assert "opened on line 3" in fault.found


def test_a_quote_that_swallows_rows_up_to_the_next_one_is_named(tmp_path: Path) -> None:
    text = 'text,label\n"a,b\nc,d\ne,"f"\ng,h\n'
    rows, faults = read(write(tmp_path, text, "d.csv"))
    assert [fault.line for fault in faults] == [2]
    assert [row.line for row in rows] == [3, 4, 5]
    assert not faults[0].is_of_row


def test_a_quote_inside_a_quoted_text_is_named(tmp_path: Path) -> None:
    rows, (fault,) = read(write(tmp_path, 'text,label\n"say "hi" now",x\nb,y\n', "d.csv"))
    assert (fault.line, fault.reason, len(rows)) == (2, "unescaped quote", 1)
    assert '""' in fault.fix


def test_an_open_quote_swallows_no_more_than_a_long_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.data.readers.csv_table._LONGEST_RECORD", 100_000)
    path = write(tmp_path, 'text,label\n"a,b\n' + "c,d\n" * 200_000, "d.csv")
    found = list(read_rows(path, 100_000))
    assert sum(isinstance(row, Row) for row in found) == 99_999


def test_nul_is_named_with_its_line_and_other_rows_are_read(tmp_path: Path) -> None:
    rows, (fault,) = read(write(tmp_path, b'text,label\n"a\0b",x\n"c",y\n', "d.csv"))
    assert (fault.line, "NUL" in fault.found) == (2, True)
    assert [row.values for row in rows] == [{"text": "c", "label": "y"}]


def test_a_line_in_another_encoding_is_named_in_its_record(tmp_path: Path) -> None:
    raw = 'text,label\ncaf\u00e9,x\n"a\nb",y\n'.encode("latin-1")
    rows, (fault,) = read(write(tmp_path, raw, "d.csv"))
    assert (fault.line, len(rows)) == (2, 1)
    assert f"byte offset {raw.index(0xE9)} " in fault.found


def test_texts_longer_than_the_parsers_own_limit_are_read(tmp_path: Path) -> None:
    (row,) = values_of(write(tmp_path, f'text,label\n"{"salt " * 400_000}",x\n', "d.csv"))
    assert len(row["text"]) == 2_000_000


def test_a_column_named_twice_is_a_fault(tmp_path: Path) -> None:
    fault = fault_of(write(tmp_path, "text,text\na,b\n", "d.csv"))
    assert '"text" twice' in fault.found
    assert not fault.is_of_row


def test_a_column_without_a_name_gets_one(tmp_path: Path) -> None:
    assert values_of(write(tmp_path, ",text\n0,a\n", "d.csv")) == [{"column 1": "0", "text": "a"}]


def test_commas_in_texts_do_not_hide_the_delimiter(tmp_path: Path) -> None:
    text = "question;answer\nOne, two, three?;Four, five.\nSix, seven?;Eight.\n"
    assert len(values_of(write(tmp_path, text, "d.csv"))[0]) == 2
    assert values_of(write(tmp_path, "text\nab\n", "e.csv")) == [{"text": "ab"}]


def test_a_header_alone_is_an_empty_file(tmp_path: Path) -> None:
    assert fault_of(write(tmp_path, "text,label\n", "d.csv")).reason == "empty file"
