from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tunesmith.cli import predict as predict_verb
from tunesmith.cli.child import ask
from tunesmith.cli.main import main
from tunesmith.cli.predict import progress_text
from tunesmith.core.errors import RunError, UserError
from tunesmith.core.stopping import StoppedEarly
from tunesmith.inference.predict_request import PredictRequest

DONE = {"rows": 1200, "rows_before": 200, "refused": 3, "cut": 7, "seconds": 95.0}
WORDS = ["predict", "tiny", "--input", "rows.jsonl", "--output", "answers.jsonl"]


class FakeProcess:
    """Keeps what it was asked, and tells of two windows before its answer."""

    def __init__(self) -> None:
        self.request = PredictRequest(what="", input="", output="")
        self.read = b""
        self.result: Mapping[str, Any] | None = DONE
        self.raises: BaseException | None = None

    def ask(
        self,
        argv: tuple[str, ...],
        *,
        show: Callable[[Mapping[str, Any]], None],
        descriptors: list[int],
        **_: object,
    ) -> dict[str, Any]:
        self.request = PredictRequest.from_json(argv[-1])
        if self.request.shown:
            self.read = Path(self.request.input).read_bytes()
        for descriptor in descriptors:
            os.fstat(descriptor)
        show({"progress": "loading tiny"})
        show({"predicted": {
            "rows": 600, "total": 1200, "rows_per_second": 12.34, "seconds_left": 100,
        }})  # fmt: skip
        if self.raises:
            raise self.raises
        return {"predict": self.result}


@pytest.fixture(name="process")
def process_fixture(monkeypatch: pytest.MonkeyPatch) -> FakeProcess:
    process = FakeProcess()
    monkeypatch.setattr(predict_verb, "ask", process.ask)
    return process


def test_it_says_what_was_done(process: FakeProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(WORDS) == 0
    said = capsys.readouterr().out
    assert "loading tiny" in said
    assert "600 of 1,200 rows  12.3 rows/s  1m40s left" in said
    assert "answers: answers.jsonl" in said
    assert "1,200 rows, 200 of them were there before; 1,000 took 1m35s" in said
    assert "3 rows could not be asked" in said
    assert "7 answers were cut" in said
    assert process.request.existing == "refuse"


def test_words_reach_the_process(process: FakeProcess) -> None:
    more = [
        *("--adapter", "one=0.5", "--format", "qa", "--columns", "question=q", "--system", "kind"),
        *("--max-new-tokens", "9", "--temperature", "0.5", "--seed", "3", "--batch-tokens", "99"),
        *("--dtype", "bf16", "--on-bad-row", "report", "--resume"),
    ]
    assert main([*WORDS, *more]) == 0
    assert process.request == PredictRequest(
        what="tiny", input="rows.jsonl", output="answers.jsonl", adapters=(("one", 0.5),),
        format="qa", columns={"question": "q"}, system="kind", max_new_tokens=9, temperature=0.5,
        seed=3, batch_tokens=99, dtype="bf16", on_bad_row="report", existing="resume",
    )  # fmt: skip


def test_as_json(process: FakeProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert process.result
    assert main([*WORDS, "--overwrite", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"output": str(Path("answers.jsonl").absolute()), **DONE}
    assert "600 of 1,200 rows" in printed.err
    assert process.request.existing == "overwrite"


def test_a_run_is_found_by_its_name(
    process: FakeProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    (tmp_path / "runs" / "tiny" / "resolved.json").write_text("{}")
    main(WORDS)
    assert process.request.what == str(Path("runs") / "tiny")


def test_standard_input_and_output(
    process: FakeProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b'{"prompt": "a"}\n'))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["predict", "tiny", "--input", "-", "--output", "-"]) == 0
    assert process.read == b'{"prompt": "a"}\n'
    assert process.request.shown == "stdin"
    assert not Path(process.request.input).exists(), "the copy is taken away"
    assert process.request.output_descriptor is not None
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(process.request.output_descriptor)
    printed = capsys.readouterr()
    assert printed.out == "", "standard output holds answers only"
    assert "7 answers were cut" in printed.err


def test_a_reader_that_has_gone_is_no_error(process: FakeProcess) -> None:
    process.result = None
    assert main(["predict", "tiny", "--input", "rows.jsonl", "--output", "-"]) == 0


@pytest.mark.parametrize(
    ("more", "found"),
    [
        (["--resume", "--overwrite"], "--resume and --overwrite"),
        (["--output", "-", "--resume"], "--resume with --output -"),
        (["--output", "-", "--json"], "--json with --output -"),
        (["--columns", "asking=q"], "unknown column asking"),
        (["--adapter", "one=half"], "'half' is no number"),
    ],
)
def test_words_that_make_no_sense_are_refused(
    process: FakeProcess, capsys: pytest.CaptureFixture[str], more: list[str], found: str
) -> None:
    words = [*WORDS[:4], *(["--output", "answers.jsonl"] if "--output" not in more else []), *more]
    assert main(words) == 2
    printed = capsys.readouterr()
    assert found in printed.out + printed.err
    assert not process.request.what


def test_ctrl_c_says_how_to_go_on(process: FakeProcess, capsys: pytest.CaptureFixture[str]) -> None:
    process.raises = KeyboardInterrupt()
    assert main(WORDS) == 130
    assert "--resume goes on" in capsys.readouterr().err
    process.raises = StoppedEarly(75, "asked to end")
    assert main(WORDS) == 75


def test_progress_in_words() -> None:
    told = {"rows": 1000, "total": 2000, "rows_per_second": 0.26, "seconds_left": 3846.0}
    assert progress_text(told) == "1,000 of 2,000 rows  0.3 rows/s  1h04m left"


def script(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


def test_a_long_answer_does_not_fill_the_pipe() -> None:
    fault = {"found": "f" * 200, "where": "w", "fix": "x"}
    error = {"code": "c", "exit_code": 2, "total": 5000}
    text = f"import json; print(json.dumps({{'error': {{**{error}, 'faults': [{fault}] * 1000}}}}))"
    with pytest.raises(UserError) as caught:
        ask(script(text), what="w", error=UserError)
    assert (len(caught.value.faults), caught.value.total) == (1000, 5000)


def test_a_process_that_is_killed_is_a_failure_and_not_the_users_fault() -> None:
    text = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(RunError, match="signal 9"):
        ask(script(text), what="w", error=UserError)


def test_a_process_that_was_interrupted_interrupts() -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(script("raise SystemExit(130)"), what="w", error=UserError)


def test_what_it_tells_is_shown_by_the_caller() -> None:
    text = "import sys; print('{\"rows\": 3}', file=sys.stderr); print('{\"a\": 1}')"
    told: list[Mapping[str, Any]] = []
    assert ask(script(text), what="w", error=UserError, show=told.append) == {"a": 1}
    assert told == [{"rows": 3}]
