import io
import json

import pytest
from rich.console import Console
from rich.live import Live

from tunesmith.cli import output
from tunesmith.cli.quantities import bytes_text, count_text, duration_text, share_text
from tunesmith.core.errors import DataError, Fault


def fault(number: int = 1) -> Fault:
    return Fault(found=f"found {number}", where=f"a.jsonl:{number}", fix="mend it")


def test_an_error_has_its_three_parts_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_error(DataError(fault()), as_json=False)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: found 1\n  where: a.jsonl:1\n  to do: mend it\n"


def test_many_faults_are_capped_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_error(DataError([fault(number) for number in range(50)]), as_json=False)
    captured = capsys.readouterr()
    assert captured.err.count("error: ") == 20
    assert "... and 30 more faults" in captured.err


def test_an_error_as_json_is_one_document_with_every_fault(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.show_error(DataError([fault(number) for number in range(50)]), as_json=True)
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert error["code"] == "invalid_data"
    assert error["exit_code"] == 2
    assert error["faults"][3] == {"found": "found 3", "where": "a.jsonl:3", "fix": "mend it"}
    assert len(error["faults"]) == error["total"] == 50
    assert captured.err == ""


def test_control_characters_of_others_do_not_reach_the_terminal() -> None:
    assert (
        output.clean("a\x1b[2Jb\rc\x07\x9bd\n\te\r\n") == "a\ufffd[2Jb\ufffdc\ufffd\ufffdd\n\te\n"
    )


def test_markup_of_others_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("[red]no[/red] :smile: [/]")
    output.show_table([("[bold]x[/bold]", "1")], ("a", "b"))
    printed = capsys.readouterr().out
    assert "[red]no[/red] :smile: [/]" in printed
    assert "[bold]x[/bold]" in printed


def test_a_long_line_in_a_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("x" * 500)
    assert capsys.readouterr().out == "x" * 500 + "\n"


def test_in_a_file_each_step_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress(as_json=False) as progress:
        progress.step("live", "plain 1")
        progress.line("note")
        progress.step("live", "plain 2")
    assert capsys.readouterr().out == "plain 1\nnote\nplain 2\n"


def test_with_json_progress_is_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress(as_json=True) as progress:
        progress.step("live", "plain")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "plain\n"


def test_on_a_terminal_lines_stay_above_the_live_line() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=40, highlight=False, markup=False)
    with Live(console=console, transient=True, auto_refresh=False) as live:
        progress = output.Progress(console, live)
        progress.step("step 1 " + "x" * 100, "plain")
        progress.line("a note")
        progress.step("step 2", "plain")
    drawn = screen.getvalue()
    assert "plain" not in drawn
    assert "a note\n" in drawn
    assert "step 2" in drawn
    assert "x" * 41 not in drawn


@pytest.mark.parametrize(
    ("given", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (5 << 40, "5.0 TiB")],
)
def test_bytes(given: int, text: str) -> None:
    assert bytes_text(given) == text


@pytest.mark.parametrize(
    ("given", "text"), [(0, "0s"), (59.6, "1m00s"), (100, "1m40s"), (3660, "1h01m")]
)
def test_durations(given: float, text: str) -> None:
    assert duration_text(given) == text


def test_counts_and_shares() -> None:
    assert count_text(1234567) == "1,234,567"
    assert share_text(1, 8) == "12.5%"
    assert share_text(1, 0) == "0.0%"
