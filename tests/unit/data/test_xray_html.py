from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.tiny import make_tokenizer
from tests.unit.data.xray_sides import look, side
from tunesmith.data.conversation import Conversation, Message
from tunesmith.data.minhash import signatures
from tunesmith.data.render import Example, render
from tunesmith.data.show import Piece
from tunesmith.data.tokenizer import TextEncoder, load_tokenizer
from tunesmith.data.xray.facts import DroppedRows, XRay
from tunesmith.data.xray.overlap import RowText
from tunesmith.data.xray.page import xray_page
from tunesmith.data.xray.serving import ServingCheck
from tunesmith.data.xray.token_view import MAX_TOKENS, ShownRow, shown_row, token_view
from tunesmith.recipe.data import DataPart

SCRIPT = "<script>alert('1')</script> & \"co\""
VOID = {"meta", "wbr", "br", "img", "source", "link"}


class Page(HTMLParser):
    """Checks that tags close in order, and keeps tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        # Their end may be left out.
        assert not [tag for tag in self.open if tag not in ("p", "li")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def full_xray() -> XRay:
    """Something in every part of the page, and markup in all that comes from rows."""
    texts = [f"{SCRIPT} the tide is at nine in the harbour{mark}" for mark in ("", "!", "?")]
    sides = {
        name: side(
            [10, 30, 90],
            used_lengths=[10, 30, 64],
            used_supervised=[4, 4, 1],
            has_end=[True, False, True],
            num_bos=[1, 2, 1],
            control_text=[True, False, False],
            contents=np.arange(3, dtype=np.uint64) + (name == "validation"),
            signatures=signatures(texts),
            label_codes=[0, 0, 1] if name == "train" else [0, 1, 1],
            label_names=[SCRIPT, "no"] if name == "train" else ["yes", "no"],
            duplicates=2,
        )
        for name in ("train", "validation")
    }
    return look(
        sides,
        model=SCRIPT,
        max_length=64,
        overflow="truncate",
        dropped=[DroppedRows(SCRIPT, 2, "d.jsonl:4")],
        notes=[SCRIPT],
        serving=ServingCheck(3, 2, f"d.jsonl:1: {SCRIPT}"),
        look_up=lambda name, row: RowText(f"{name}:{row + 1} {SCRIPT}", texts[row], 7),
    )


SHOWN = ShownRow(
    row_id=f"d.jsonl:1 {SCRIPT}",
    part="chosen",
    tokens=4,
    trained=1,
    hidden=0,
    pieces=(Piece("<|im_start|>", 0.0, (1,)), Piece(SCRIPT, 1.0, (7,))),
)


def test_markup_in_rows_is_shown_and_not_obeyed() -> None:
    page = Page(xray_page(full_xray(), [SHOWN], {1}))
    assert not {"script", "link", "iframe", "img"} & set(page.tags)
    assert "<script>alert('1')</script>" in page.text
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_the_page_loads_nothing_from_anywhere() -> None:
    text = xray_page(full_xray(), [SHOWN], {1})
    loading = {"src", "srcset", "href", "action", "data", "poster", "background"}
    assert not [name for name, _ in Page(text).attributes if name in loading]
    assert "url(" not in text
    assert "@import" not in text
    assert not re.search(r"https?://", text)
    assert "default-src 'none'" in text


def test_every_part_of_an_xray_is_on_the_page() -> None:
    xray = full_xray()
    text = Page(xray_page(xray, [SHOWN], {1})).text
    for verdict in xray.verdicts:
        assert verdict.sentence in text
        assert verdict.remedy in text
    for heading in (
        "Numbers", "The first rows, token by token", "Lengths in tokens, train",
        "Lengths in tokens, validation", "Labels, train", "In validation and in train",
        "Near-duplicates in train", "Rows that are not used", "Notes",
    ):  # fmt: skip
        assert heading in text
    assert "data.max_length 64" in text
    assert "same in 2 of 3 rows" in text
    assert "equal rows left out" in text
    assert "about 100% in common" in text
    assert "(7 more characters)" in text


def test_rows_in_order_make_a_short_page() -> None:
    text = Page(xray_page(look(side([10, 20])))).text
    assert "Nothing in these rows stands out as wrong." in text
    assert "8 tokens are trained, of 30 in 2 rows, as tiny sees them." in text
    for heading in ("Labels", "Near-duplicates", "not used", "Notes", "token by token"):
        assert heading not in text


def test_a_page_without_rows_says_so() -> None:
    assert "There are no rows to train on." in xray_page(look(side([], supervised=[])))


def test_the_length_limit_stands_between_the_bars_that_it_divides() -> None:
    xray = look(side([10] * 5 + [100]), max_length=50, overflow="truncate")
    text = xray_page(xray)
    bars = re.findall(r"<th scope=row>(\d+)-(\d+)</th>.*?(bar over|bar)\"", text)
    over = [(int(low), kind == "bar over") for low, _, kind in bars]
    assert all(is_over == (low > 50) for low, is_over in over)
    limit = text.index("data.max_length 50")
    before = [int(high) for _, high in re.findall(r"<th scope=row>(\d+)-(\d+)</th>", text[:limit])]
    assert max(before) <= 50
    assert len(before) == 5


def test_a_length_limit_beyond_all_rows_stands_below_them() -> None:
    text = xray_page(look(side([10, 20])))
    assert text.index("20-20") < text.index("data.max_length 1,024")


def test_trained_tokens_and_control_tokens_have_marks() -> None:
    row = ShownRow(
        row_id="d.jsonl:1", part="", tokens=3, trained=2, hidden=0,
        pieces=(
            Piece("<|im_start|>", 0.0, (1,)),
            Piece("oak", 1.0, (7,)),
            Piece("<|im_end|>", 1.0, (2,)),
        ),
    )  # fmt: skip
    html = token_view(row, {1, 2})
    assert '<span class="k" title="1, weight 0">&lt;|im_start|&gt;</span>' in html
    assert '<span class="t" title="7, weight 1">oak</span>' in html
    assert '<span class="k t" title="2, weight 1">&lt;|im_end|&gt;</span>' in html
    assert "d.jsonl:1: 3 tokens, 2 trained" in html


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" ", "<i>&middot;</i>"),
        ("\n", "<i>&crarr;</i>\n"),
        ("\t", "<i>&rarr;</i>\t"),
        ("\u00a0", "<i>U+00A0</i>"),
        ("\u200b", "<i>U+200B</i>"),
        ("\u202e", "<i>U+202E</i>"),
        ("\x00", "<i>U+0000</i>"),
        ("\ufeff", "<i>U+FEFF</i>"),
        ("\ud800", "<i>U+D800</i>"),
    ],
)
def test_what_cannot_be_seen_is_shown(text: str, shown: str) -> None:
    row = ShownRow(
        row_id="r", part="", tokens=1, trained=0, hidden=0, pieces=(Piece(text, 0.0, (5,)),)
    )
    assert shown in token_view(row, ())


def test_a_lone_surrogate_in_a_row_still_makes_a_file() -> None:
    xray = look(side([10]), notes=["half of \ud800"])
    assert b"half of ?" in xray_page(xray).encode()


def test_an_example_is_shown_as_far_as_can_be_looked_at(tmp_path: Path) -> None:
    encoder = TextEncoder(load_tokenizer(make_tokenizer(tmp_path / "tiny")))
    tokens = np.array(encoder.ids("q" * (MAX_TOKENS + 50)), dtype=np.int32)
    weights = np.ones(len(tokens), dtype=np.float32)
    row = shown_row(
        Example(row_id="d.jsonl:1", file="d.jsonl", line=1, tokens=tokens, weights=weights),
        encoder,
    )
    assert (row.tokens, row.trained, row.hidden) == (MAX_TOKENS + 50, MAX_TOKENS + 50, 50)
    assert len(row.pieces) == MAX_TOKENS
    assert "50 more tokens are not shown" in token_view(row, ())


def test_the_tokens_of_a_row_joined_are_the_row(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make_tokenizer(tmp_path / "tiny"))
    sample = Conversation(
        messages=(Message("user", "which  tree?"), Message("assistant", "the \u00f6ak\u200b")),
        row_id="d.jsonl:1",
    )
    example = render(sample, tokenizer, DataPart(train="d.jsonl"), "chat")
    encoder = TextEncoder(tokenizer)
    html = token_view(shown_row(example, encoder), encoder.control_ids)
    page = Page(html)
    assert page.tags.count("span") <= len(example.tokens)
    assert "which\u00b7\u00b7tree?" in page.text
    assert "\u00f6akU+200B" in page.text
    assert 'class="k t"' in html
