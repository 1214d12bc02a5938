"""The main job with the real model, as a user starts it, only shorter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.fakes.tiny_run import make_model_folder, make_rows

pytestmark = pytest.mark.real_model


def tunesmith(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tunesmith", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(
    real_model: Path,  # noqa: ARG001 (skips where it is not to be had)
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("quickstart")
    recipe = {
        "model": "smollm2-135m-instruct",
        "task": "chat",
        "data": {"train": "sample:support-desk", "validation": "10%", "limit": 60},
        "training": {"max_steps": 3, "tokens_per_step": 1024, "learning_rate": 1e-3, "warmup": 0},
        "evaluation": {
            "prompts": 2,
            "max_new_tokens": 16,
            "metrics": ["json-match"],
            "probe": False,
        },
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    done = tunesmith("train", "recipe.yaml", "--run-dir", "run", "--json", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    json.loads(done.stdout)
    return folder / "run"


def test_three_steps_leave_a_whole_run_folder_and_lower_the_loss(finished: Path) -> None:
    result = json.loads((finished / "result.json").read_text())
    assert result["status"] == "succeeded"
    assert result["trainable_parameters"] == 4_884_480
    assert result["total_parameters"] == 134_515_008
    assert result["validation_loss_after"] < result["validation_loss_before"]
    evaluation = json.loads((finished / "evaluation.json").read_text())
    before, after = (evaluation[side]["answers"] for side in ("before", "after"))
    assert [answer["row_id"] for answer in before] == [answer["row_id"] for answer in after]
    page = (finished / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert (finished / "report.md").read_text().startswith("# ")


def test_peft_loads_the_adapter_onto_the_real_model(finished: Path) -> None:
    config = json.loads((finished / "final" / "adapter_config.json").read_text())
    base = AutoModelForCausalLM.from_pretrained(config["base_model_name_or_path"])
    model: Any = peft.PeftModel.from_pretrained(base, finished / "final")
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        adapted = model(input_ids=tokens).logits
        with model.disable_adapter():
            plain = model(input_ids=tokens).logits
    assert not adapted.equal(plain)


def test_what_came_out_can_be_talked_to(finished: Path) -> None:
    said = tunesmith(
        "chat", str(finished), "--message", "Hello", "--max-new-tokens", "5", cwd=finished
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "smollm2-135m-instrcut"}, "smollm2-135m-instruct"),
        ({"data": {"train": "no-such.jsonl"}}, "no-such.jsonl"),
        ({"data": {"train": "."}}, "no known kind"),
        ({"trainings": {"epocs": 1}, "method": {"type": "lora", "rnak": 2}}, "rank"),
        ({"method": {"targets": ["q_proy"]}}, "did you mean q_proj?"),
        ({"training": {"warmup": 50, "max_steps": 6}}, "50 steps in a run of 6"),
        ({"data": {"max_length": 99999}}, "512 positions"),
    ],
    ids=["model", "missing", "folder", "three keys", "target", "warm-up", "length"],
)
def test_a_fault_of_the_users_is_exit_2_with_what_to_do(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    recipe: dict[str, Any] = {
        "model": str(make_model_folder(tmp_path / "model")),
        "task": "chat",
        "data": {"train": str(make_rows(tmp_path / "rows.jsonl", 10))},
    }
    for part, value in change.items():
        recipe[part] = {**recipe.get(part, {}), **value} if isinstance(value, dict) else value
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    done = tunesmith("train", "recipe.yaml", "--run-dir", "run", cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr
    assert "to do" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "final").exists()
