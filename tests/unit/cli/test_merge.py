from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tunesmith.cli import merge as merge_verb
from tunesmith.cli.child import ask
from tunesmith.cli.main import main
from tunesmith.core.errors import ModelError, RunError

ANSWER = {
    "adapter": {"type": "lora", "rank": 4},
    "base": {"name": "tiny"},
    "bytes": 2_000_000,
    "merged_tensors": 14,
    "check": {
        "max_abs_diff": 1.5e-6,
        "tolerance": 1e-4,
        "computed_in": "fp32",
        "top1_agreement": 1.0,
        "compared_tokens": 200,
        "same_greedy_tokens": True,
    },
    "rounded_base": {"base": "nf4", "max_abs_diff": 0.5, "top1_agreement": 0.97},
}


def script(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


@pytest.fixture(name="asked")
def asked_fixture(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    asked: list[list[str]] = []

    def answer(argv: tuple[str, ...], **_: object) -> object:
        asked.append(list(argv[3:]))
        return {"merge": ANSWER}

    monkeypatch.setattr(merge_verb, "ask", answer)
    return asked


def test_it_says_what_was_checked(
    asked: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", "run", "--output", "out", "--base", "b", "--dtype", "bf16"]) == 0
    assert asked == [["run", "--output", "out", "--dtype", "bf16", "--base", "b"]]
    said = capsys.readouterr().out
    assert "logits differ by 1.5e-06 at most" in said
    assert "100.0% of 200 likeliest tokens; greedy answers the same" in said
    assert "logits differ by 0.5, 97.0%" in said
    assert "chat out" in said


def test_an_adapter_without_a_rank_is_told_without_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {**ANSWER, "adapter": {"type": "ia3"}}
    monkeypatch.setattr(merge_verb, "ask", lambda *_args, **_named: {"merge": answer})
    assert main(["merge", "run", "--output", "out"]) == 0
    assert "ia3 on tiny" in capsys.readouterr().out


def test_as_json(asked: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", "run", "--output", "out", "--json"]) == 0
    assert asked
    document = json.loads(capsys.readouterr().out)
    assert document["output"] == str(Path("out").absolute())
    assert document["check"] == ANSWER["check"]


def test_a_run_is_found_by_its_name(
    asked: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "desk").mkdir(parents=True)
    (tmp_path / "runs" / "desk" / "resolved.json").write_text("{}")
    main(["merge", "desk", "--output", "out"])
    assert asked[0][0] == str(Path("runs") / "desk")


@pytest.mark.parametrize(("exit_code", "kind"), [(2, ModelError), (3, RunError)])
def test_the_processs_faults_become_ours_with_their_exit_code(
    exit_code: int, kind: type[Exception]
) -> None:
    fault = {"found": "f", "where": "w", "fix": "x"}
    error = {"error": {"code": "c", "exit_code": exit_code, "faults": [fault]}}
    with pytest.raises(kind) as caught:
        ask(script(f"print({json.dumps(error)!r})"), what="w", error=ModelError)
    assert (caught.value.code, caught.value.exit_code) == ("c", exit_code)  # type: ignore[attr-defined]


def test_a_process_that_dies_leaves_its_last_words() -> None:
    with pytest.raises(ModelError, match="last words"):
        ask(script("raise SystemExit('last words')"), what="w", error=ModelError)


def test_what_takes_time_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    text = 'import sys; print(\'{"progress": "merging"}\', file=sys.stderr); print(\'{"a": 1}\')'
    assert ask(script(text), what="w", error=ModelError) == {"a": 1}
    assert "merging" in capsys.readouterr().err
