"""A table of two cells, from recipe to page, with real runs of a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.fakes.tiny_run import make_model_folder, make_rows
from tunesmith.core.run_dir import RunDir
from tunesmith.core.threads import with_short_spins
from tunesmith.evaluation.matrix.document import read_document


def test_a_table_of_two_techniques_is_measured_and_shown(tmp_path: Path) -> None:
    model = make_model_folder(tmp_path / "model")
    rows = make_rows(tmp_path / "rows.jsonl", 30)
    recipe = {
        "model": str(model),
        "task": "chat",
        "data": {"train": str(rows), "validation": "20%"},
        "method": {"type": "lora", "rank": 2},
        # an optimizer with which zero-3 is refused, whether DeepSpeed is installed or not
        "training": {
            "epochs": 1, "tokens_per_step": 256, "learning_rate": 1e-3, "optimizer": "adafactor"
        },
        "evaluation": {"prompts": 1, "max_new_tokens": 4, "metrics": ["exact-match"]},
    }  # fmt: skip
    (tmp_path / "tiny.yaml").write_text(json.dumps(recipe))
    arguments = "matrix --scenarios tiny.yaml --techniques full,qlora,zero-3 --steps 3 --json"
    done = subprocess.run(
        [sys.executable, "-m", "tunesmith", *arguments.split()],
        cwd=tmp_path, env=with_short_spins(), capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

    table = read_document(tmp_path / "matrix")
    assert json.loads(done.stdout)["cells"][0]["status"] == "measured"
    assert [cell.status for cell in table.cells] == ["measured", "measured", "refused"]
    assert "adafactor" in table.cells[2].reasons[0].found
    full, qlora = (table.measured("tiny", name) for name in ("full", "qlora"))
    assert full is not None
    assert qlora is not None
    assert full.steps == qlora.steps == 3
    assert full.trainable_parameters == full.total_parameters
    assert (qlora.trainable_parameters or 0) < (full.trainable_parameters or 0) / 4
    assert (qlora.weights_bytes or 0) < (full.weights_bytes or 0)
    assert full.before.loss != qlora.before.loss  # the base is rounded
    assert full.after.metrics["exact-match"].rows == full.after.rows > 0
    for cell in table.cells[:2]:
        assert cell.folder is not None
        assert cell.learning_rate == {"full": 2e-5, "qlora": 1e-3}[cell.technique]
        run_dir = RunDir.open(tmp_path / "matrix" / cell.folder)
        assert run_dir.final.is_dir()
        assert not run_dir.checkpoints.exists()
    page = (tmp_path / "matrix" / "matrix.html").read_text()
    assert "trained share of the parameters, qlora by full: tiny" in page
