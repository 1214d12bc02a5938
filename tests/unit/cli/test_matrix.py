from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.fake_run import set_state
from tests.unit.evaluation.matrix.fabricated import make_matrix
from tunesmith.cli import matrix as verb
from tunesmith.cli.launch import Ending
from tunesmith.cli.main import main
from tunesmith.cli.matrix_view import rows_of
from tunesmith.cli.train import prepare
from tunesmith.core import extras, hardware
from tunesmith.core.errors import Fault, RunError, UserError
from tunesmith.core.run_dir import RunDir, write_json
from tunesmith.evaluation.matrix.cell import Cell
from tunesmith.evaluation.matrix.document import Matrix, read_document, write_document

SIDES = {
    when: {"loss": loss, "rows": 9, "metrics": {"exact-match": {"value": share, "rows": 9}}}
    for when, loss, share in (("before", 3.0, 0.0), ("after", 1.0, 0.9))
}


class Launches:
    """Stands in for the start of a cell's run: each ends at once, as `ends` says by technique."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.ends: dict[str, Ending | BaseException] = {}

    def __call__(self, cell: Cell, folder: Path, *, as_json: bool) -> Ending:
        self.names.append(cell.name)
        path = cell.folder(folder)
        if not RunDir(path).resolved_json.is_file():
            assert cell.loaded is not None
            prepare(cell.loaded, path, cell.name, as_json=as_json)
        end = self.ends.get(cell.technique.name, Ending("succeeded", 0))
        if isinstance(end, BaseException):
            raise end
        if end.status == "succeeded":
            self.finish(RunDir(path))
        return end

    def finish(self, run_dir: RunDir) -> None:
        (run_dir.checkpoints / "step-1").mkdir(parents=True)
        write_json(run_dir.evaluation_json, SIDES)
        write_json(run_dir.result_json, {"status": "succeeded", "tokens_per_second": 10.0})
        set_state(run_dir, "succeeded", 1)


@pytest.fixture
def launches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launches:
    folder = tmp_path / "recipes"
    folder.mkdir()
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    (folder / "rows.jsonl").write_text(json.dumps(row) + "\n")
    text = "model: smollm2-135m-instruct\ntask: chat\n"
    text += "data: {train: rows.jsonl, validation: rows.jsonl}\n"
    (folder / "chat-lora.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    launches = Launches()
    monkeypatch.setattr(verb, "launch_cell", launches)
    monkeypatch.setattr(hardware, "busy_share", lambda: 0.02)
    monkeypatch.setattr(extras, "find_spec", lambda _: None)  # no DeepSpeed
    return launches


def statuses(path: str = "matrix") -> dict[str, str]:
    return {cell.name: cell.status for cell in read_document(Path(path)).cells}


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["matrix", "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


def test_every_cell_is_a_run_and_the_table_is_written(
    launches: Launches, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["matrix", "--steps", "2"]) == 0
    assert launches.names == [f"chat-lora:{name}" for name in ("full", "lora", "qlora", "dora",
                                                              "ia3")]  # fmt: skip
    printed = capsys.readouterr().out
    assert "cell 1 of 5: chat-lora by full, learning rate 2e-05 (the default of full)" in printed
    assert "chat-lora: chatbot, exact-match" in printed
    assert "deepspeed is not installed" in printed
    table = read_document(Path("matrix"))
    assert table.tunesmith
    assert table.machine["cpu_count"] >= 1
    assert statuses()["chat-lora:zero-3"] == "refused"
    lora = table.cell("chat-lora", "lora")
    assert lora is not None
    assert lora.measured is not None
    assert lora.measured.after.metrics["exact-match"].value == 0.9
    assert lora.busy == 0.02
    assert "training.max_steps=2" in lora.overrides
    assert lora.folder is not None
    assert not (Path("matrix") / lora.folder / "checkpoints").exists()
    assert "0.900" in Path("matrix/matrix.html").read_text()


def test_finished_cells_are_kept_and_a_changed_budget_is_told(
    launches: Launches, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["matrix", "--techniques", "lora", "--steps", "2"]) == 0
    assert main(["matrix", "--techniques", "lora,vera", "--steps", "2"]) == 0
    assert launches.names == ["chat-lora:lora", "chat-lora:vera"]
    capsys.readouterr()
    assert main(["matrix", "--only", "chatbot:lora", "--steps", "3", "--dry-run"]) == 0
    assert "chat-lora:lora was measured with other settings before (lora-" in (
        capsys.readouterr().out
    )
    assert main(["matrix", "--only", "chatbot:lora", "--steps", "3"]) == 0
    assert "measured with other settings before (lora-" in capsys.readouterr().out
    assert launches.names[2:] == ["chat-lora:lora"]
    assert statuses() == {"chat-lora:vera": "measured", "chat-lora:lora": "measured"}
    assert main(["matrix", "--techniques", "lora", "--steps", "2"]) == 0
    assert len(launches.names) == 3


def test_a_failed_cell_keeps_its_error_and_does_not_stop_the_others(
    launches: Launches, capsys: pytest.CaptureFixture[str]
) -> None:
    where = str(Path("matrix").absolute() / "chat-lora" / "log.txt")
    fault = Fault(found="the loss is not finite", where=where, fix="lower the rate")
    launches.ends = {"full": RunError(fault), "lora": UserError(fault)}
    code, document = run_json(capsys, "--techniques", "full,lora,ia3")
    assert code == 3
    cells = {cell["technique"]: cell for cell in document["cells"]}
    assert [cells[name]["status"] for name in ("full", "lora", "ia3")] == [
        "failed", "refused", "measured",
    ]  # fmt: skip
    assert cells["full"]["reasons"][0]["found"] == "the loss is not finite"
    assert cells["full"]["reasons"][0]["where"] == "chat-lora/log.txt"
    launches.ends = {}
    assert run_json(capsys, "--techniques", "full,lora,ia3")[0] == 0
    assert launches.names[3:] == ["chat-lora:full", "chat-lora:lora"]


@pytest.mark.parametrize("code", [130, 75])
def test_a_stopped_cell_ends_all_and_the_same_command_goes_on(
    launches: Launches, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    launches.ends = {"lora": Ending("stopped", code)}
    assert main(["matrix", "--techniques", "ia3,lora,full"]) == code
    assert "give the same command again" in capsys.readouterr().out
    assert statuses() == {
        "chat-lora:ia3": "measured",
        "chat-lora:lora": "stopped",
        "chat-lora:full": "waiting",
    }
    launches.ends = {}
    assert main(["matrix", "--techniques", "ia3,lora,full"]) == 0
    assert launches.names[2:] == ["chat-lora:lora", "chat-lora:full"]


def test_ctrl_c_before_a_run_is_there_ends_all_too(launches: Launches) -> None:
    launches.ends = {"lora": KeyboardInterrupt()}
    assert main(["matrix", "--techniques", "lora,full"]) == 130
    assert statuses() == {"chat-lora:lora": "waiting", "chat-lora:full": "waiting"}


def test_where_nothing_could_be_measured_the_fault_is_the_users(launches: Launches) -> None:
    assert main(["matrix", "--techniques", "zero-3"]) == 2
    assert launches.names == []


def test_a_table_is_shown_again_without_running(
    launches: Launches, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    write_document(make_matrix(), kept)
    assert main(["matrix", "--report", str(kept)]) == 0
    assert "134.5M" in capsys.readouterr().out
    assert (kept / "matrix.html").is_file()
    (kept / "matrix.html").unlink()
    code, document = run_json(capsys, "--report", str(kept / "matrix.json"))
    assert (code, len(document["cells"])) == (0, 10)
    assert (kept / "matrix.html").is_file()
    assert launches.names == []
    assert main(["matrix", "--report", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--only", "chat"), "no scenario:technique: 'chat'"),
        (("--only", "chat:lora", "--techniques", "lora"), "--only together with"),
        (("--techniques", "lorra"), "unknown technique 'lorra'"),
        (("--rate", "full=fast"), "no rate: 'full=fast'"),
        (("--rate", "vera=1e-3"), "vera is none of the techniques"),
        (("--set", "method.rank=4"), "the techniques decide that"),
        (("--set", "model.base=nf4"), "the techniques decide that"),
        (("--set", "training.max_stepz=4"), "max_stepz"),
        (("--scenarios", "poems"), "unknown scenario 'poems'"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_made(
    launches: Launches,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    found: str,
) -> None:
    code, document = run_json(capsys, *arguments)
    assert code == 2
    assert found in document["error"]["faults"][0]["found"]
    assert launches.names == []
    assert not Path("matrix").exists()


@pytest.mark.usefixtures("launches")
def test_rates_and_values_for_all_cells_reach_their_recipes() -> None:
    arguments = ["--rate", "full=1e-05", "--set", "training.seed=7", "--rows", "1"]
    assert main(["matrix", "--techniques", "full,lora", "--held-out-rows", "1", *arguments]) == 0
    table = read_document(Path("matrix"))
    for name, rate in (("full", 1e-5), ("lora", 2e-4)):
        cell = table.cell("chat-lora", name)
        assert cell is not None
        assert cell.learning_rate == rate
        assert {"training.seed=7", "data.limit=1", "evaluation.rows=1"} <= set(cell.overrides)


def test_the_table_fits_into_eighty_columns_and_needs_no_colour(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_document(make_matrix(), tmp_path)
    assert main(["matrix", "--report", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    table = printed[: printed.index("Not measured")]
    assert max(len(line.rstrip()) for line in table.splitlines()) <= 80


def test_a_line_of_the_table_has_score_interval_loss_and_costs() -> None:
    rows = rows_of(make_matrix(), "banking")
    assert rows[0] == ("untuned", "0.100", "0.08-0.12", "4.000", *("-",) * 5)
    assert rows[3] == (
        "lora", "0.880", "0.86-0.90", "0.500", "4.9M", "1.4G", "400", "12m03s", "18.7M",
    )  # fmt: skip
    assert rows_of(Matrix(date="", command="", tunesmith=""), "banking") == []
