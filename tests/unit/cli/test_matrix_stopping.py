"""The whole command with real signals; only the run's own process is a stand-in."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

from tests.unit.cli.test_train import ROW, command, environment
from tunesmith.core.run_dir import RunDir
from tunesmith.evaluation.matrix.document import read_document

RECIPE = "model: smollm2-135m-instruct\ntask: chat\ndata: {train: rows.jsonl}\n"
ARGUMENTS = ("matrix", "--scenarios", "chat.yaml", "--techniques", "lora,full")


def test_ctrl_c_saves_the_running_cell_and_the_same_command_goes_on(tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text(RECIPE)
    rows = [{**ROW, "messages": [{"role": "user", "content": str(n)}, ROW["messages"][1]]}
            for n in range(20)]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    process = subprocess.Popen(
        command(*ARGUMENTS), env=environment("slow"), cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    with process:
        run_dir = wait_for_first_step(tmp_path / "matrix")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stdout is not None
        assert "give the same command again to go on" in process.stdout.read()
    state = run_dir.read_state()
    assert state is not None
    assert state.status == "stopped"
    assert [cell.status for cell in read_document(tmp_path / "matrix").cells] == [
        "stopped",
        "waiting",
    ]

    again = subprocess.run(
        command(*ARGUMENTS), env=environment("ok"), cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stdout + again.stderr
    cells = read_document(tmp_path / "matrix").cells
    assert [cell.status for cell in cells] == ["measured", "measured"]
    assert len(list((tmp_path / "matrix" / "chat").iterdir())) == 2


def wait_for_first_step(matrix: Path) -> RunDir:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for events in matrix.glob("chat/*/events.jsonl"):
            if '"type":"step"' in events.read_text():
                return RunDir(events.parent)
        time.sleep(0.02)
    raise AssertionError("no step was made")
