"""The client against a stand-in for the process that needs no model."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tunesmith.core.errors import ModelError, RunError
from tunesmith.inference.client import ChatClient
from tunesmith.inference.protocol import Delta, Done, Ready

STAND_IN = """\
#!{python}
import json, signal, sys, time
what = sys.argv[-1]
stopped = []
signal.signal(signal.SIGINT, lambda *_: stopped.append(1))
def say(value):
    print(json.dumps(value), flush=True)
if what == "typo":
    fault = {{"found": "no such model", "where": "here", "fix": "another"}}
    say({{"error": {{"kind": "ModelError", "code": "model_not_found", "faults": [fault]}}}})
    sys.exit(2)
say({{"ready": {{"name": what, "base": "base", "task": "chat", "system": None}}}})
for line in sys.stdin:
    stopped.clear()
    request = json.loads(line)
    text = request["messages"][-1]["content"]
    if text == "die":
        print("the last words", file=sys.stderr)
        sys.exit(9)
    for _ in range(1000 if text == "long" else 2):
        say({{"delta": text}})
        time.sleep(0.01)
        if stopped:
            break
    reason = "stopped" if stopped else "stop"
    say({{"done": {{"finish_reason": reason, "prompt_tokens": 1, "tokens": 2, "seconds": 0.1}}}})
"""


@pytest.fixture(name="python")
def python_fixture(tmp_path: Path) -> str:
    path = tmp_path / "python"
    path.write_text(textwrap.dedent(STAND_IN).format(python=sys.executable), encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def ask(client: ChatClient, text: str) -> list[Delta | Done]:
    return list(client.answer(messages=[{"role": "user", "content": text}]))


def test_answers_come_in_pieces_one_after_the_other(python: str) -> None:
    with ChatClient("desk", python=python) as client:
        assert client.wait_until_ready() == Ready("desk", "base", "chat")
        for text in ("one", "\u017eut \U0001f642"):
            assert ask(client, text) == [Delta(text)] * 2 + [Done("stop", 1, 2, 0.1)]


def test_leaving_the_loop_stops_the_answer_and_the_next_can_be_asked(python: str) -> None:
    with ChatClient("desk", python=python) as client:
        client.wait_until_ready()
        answer = client.answer(messages=[{"role": "user", "content": "long"}])
        assert next(answer) == Delta("long")
        answer.close()
        assert ask(client, "one")[-1] == Done("stop", 1, 2, 0.1)


def test_an_interrupt_in_the_loop_stops_the_answer(python: str) -> None:
    with ChatClient("desk", python=python) as client:
        client.wait_until_ready()
        answer = client.answer(messages=[{"role": "user", "content": "long"}])
        next(answer)
        with pytest.raises(KeyboardInterrupt):
            answer.throw(KeyboardInterrupt)
        assert len(ask(client, "one")) == 3


def test_the_error_of_the_process_is_raised_here(python: str) -> None:
    with ChatClient("typo", python=python) as client:
        with pytest.raises(ModelError) as caught:
            client.wait_until_ready()
        assert caught.value.code == "model_not_found"
        assert caught.value.faults[0].fix == "another"


def test_a_process_that_dies_is_an_error_with_its_last_words(python: str) -> None:
    with ChatClient("desk", python=python) as client:
        client.wait_until_ready()
        with pytest.raises(RunError, match=r"exit code 9(.|\n)*the last words"):
            ask(client, "die")


def test_closing_ends_the_process(python: str) -> None:
    client = ChatClient("desk", python=python)
    client.wait_until_ready()
    client.close()
    assert client._process.returncode == 0


def test_the_client_needs_no_torch() -> None:
    code = "import sys, tunesmith.inference.client; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
