import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from tunesmith.cli import chat as chat_verb
from tunesmith.cli.main import main
from tunesmith.inference.protocol import Delta, Done, Ready


class FakeClient:
    """Answers with the number of messages and the last one, in two pieces."""

    task = "chat"
    asked: list[dict[str, Any]]
    what: str
    adapters: Sequence[tuple[str, float]]

    def __init__(self, what: str, *, adapters: Sequence[tuple[str, float]] = ()) -> None:
        type(self).what = what
        type(self).adapters = adapters
        type(self).asked = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_until_ready(self) -> Ready:
        return Ready(name="tiny", base="tiny", task=self.task)

    def answer(self, **request: Any) -> Iterator[Delta | Done]:
        messages = request["messages"]
        self.asked.append({**request, "messages": messages and list(messages)})
        text = messages[-1]["content"] if messages else request["prompt"]
        if text == "interrupt":
            yield Delta("half")
            raise KeyboardInterrupt
        yield Delta(f"{len(messages or ())} ")
        yield Delta(text.upper())
        yield Done("length" if text == "long" else "stop", 1, 2, 0.1)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> type[FakeClient]:
    monkeypatch.setattr(chat_verb, "ChatClient", FakeClient)
    return FakeClient


def pipe(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_one_message_one_answer(
    client: type[FakeClient], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--message", "hello", "--system", "be kind", "--temperature", "0.5"]
    assert main(["chat", "tiny", *arguments, "--max-new-tokens", "9"]) == 0
    assert capsys.readouterr().out == "2 HELLO\n"
    (request,) = client.asked
    assert request["messages"][0] == {"role": "system", "content": "be kind"}
    assert (request["temperature"], request["max_new_tokens"]) == (0.5, 9)


@pytest.mark.usefixtures("client")
def test_a_pipe_is_one_message_a_line_with_its_history(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipe(monkeypatch, "one\n\ntwo\n/reset\nthree\n/quit\nfour\n")
    assert main(["chat", "tiny"]) == 0
    assert capsys.readouterr().out == "1 ONE\n3 TWO\n1 THREE\n"


def test_a_completion_model_is_asked_with_texts(
    client: type[FakeClient],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "task", "completion")
    pipe(monkeypatch, "one\ntwo\n")
    assert main(["chat", "tiny"]) == 0
    assert capsys.readouterr().out == "0 ONE\n0 TWO\n"
    assert [request["messages"] for request in client.asked] == [None, None]


@pytest.mark.usefixtures("client")
def test_an_answer_that_is_cut_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    main(["chat", "tiny", "--message", "long"])
    captured = capsys.readouterr()
    assert captured.out == "1 LONG\n"
    assert "--max-new-tokens" in captured.err


def test_at_a_terminal_ctrl_c_stops_an_answer_and_not_the_chat(
    client: type[FakeClient],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    lines = iter(["interrupt", "two", "/quit"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    assert main(["chat", "tiny"]) == 0
    printed = capsys.readouterr().out
    assert "half\n3 TWO\n" in printed
    assert client.asked[1]["messages"][1] == {"role": "assistant", "content": "half"}


def test_the_end_of_input_ends_the_chat(
    client: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", end)
    assert main(["chat", "tiny"]) == 0
    assert client.asked == []


def test_a_run_is_found_by_its_name(
    client: type[FakeClient], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "desk").mkdir(parents=True)
    (tmp_path / "runs" / "desk" / "resolved.json").write_text("{}")
    main(["chat", "desk", "--message", "x"])
    assert client.what == str(Path("runs") / "desk")
    main(["chat", "other", "--message", "x"])
    assert client.what == "other"


def test_an_empty_message_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "tiny", "--message", " "]) == 2
    assert "an empty message" in capsys.readouterr().err


def test_adapters_are_added_by_folder_run_and_weight(
    client: type[FakeClient], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "desk").mkdir(parents=True)
    (tmp_path / "runs" / "desk" / "resolved.json").write_text("{}")
    (tmp_path / "odd=1").mkdir()
    words = ["--adapter", "one", "--adapter", "desk=0.5", "--adapter", "odd=1"]
    assert main(["chat", "base", *words, "--message", "x"]) == 0
    final = str(Path("runs") / "desk" / "final")
    assert client.adapters == [("one", 1.0), (final, 0.5), ("odd=1", 1.0)]


def test_a_weight_that_is_no_number_is_refused(
    client: type[FakeClient], capsys: pytest.CaptureFixture[str]
) -> None:
    assert client is not None
    assert main(["chat", "base", "--adapter", "one=half", "--message", "x"]) == 2
    assert "'half' is no number" in capsys.readouterr().err
