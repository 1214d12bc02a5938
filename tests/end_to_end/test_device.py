"""A whole run on a device beside the CPU: measured, trained, killed, resumed and saved alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.forked_run import read_trace, run_forked
from tests.fakes.pretend_device import MOST_IN_TENSORS, MOST_TAKEN, TAKEN
from tests.fakes.tiny_run import losses_of, make_model_folder, make_rows, make_run, weights_of
from tunesmith.core.events import read_events
from tunesmith.core.run_dir import RunDir, read_json


def compute_on_a_pretended_device() -> None:
    from tests.fakes.pretend_device import begin
    from tunesmith.run import process

    device = begin()
    process.choose_device = lambda *_: device


@pytest.mark.long
def test_compiled_layers_carry_out_a_run_as_plain_ones_do(tmp_path: Path) -> None:
    model, rows = make_model_folder(tmp_path / "model"), make_rows(tmp_path / "rows.jsonl", 20)
    runs: list[RunDir] = []
    for compiled in (False, True):
        run_dir = make_run(
            tmp_path / f"compiled-{compiled}",
            model,
            rows,
            model={"source": str(model), "dtype": "fp32"},
            method={"type": "lora", "rank": 4},
            training={"max_steps": 4, "compile_layers": compiled},
        )
        assert run_forked(run_dir) == 0, run_dir.log.read_text()
        runs.append(run_dir)
    plain, compiled = (losses_of(run) for run in runs)
    assert compiled == pytest.approx(plain, rel=1e-4)
    assert list(compiled.values()) != list(plain.values()), "nothing was compiled"


@pytest.mark.parametrize("method", [{"type": "lora", "rank": 4}, {"type": "full"}], ids=str)
def test_a_device_carries_out_a_run_as_the_cpu_does(tmp_path: Path, method: object) -> None:
    model, rows = make_model_folder(tmp_path / "model"), make_rows(tmp_path / "rows.jsonl", 20)
    training = {"max_steps": 6, "checkpoint_every": 2, "evaluate_every": 3}
    evaluation = {"prompts": 2, "max_new_tokens": 8}
    parts: dict[str, Any] = {"model": {"source": str(model), "dtype": "fp32"}}
    parts |= {"method": method, "training": training, "evaluation": evaluation}
    on_cpu, on_device = (
        make_run(tmp_path / name, model, rows, **parts) for name in ("on-cpu", "on-device")
    )
    assert run_forked(on_cpu) == 0, on_cpu.log.read_text()
    after_step_4 = next(
        instant for instant in reversed(read_trace(on_cpu)) if "step-4" in instant.what
    )
    prepare = compute_on_a_pretended_device
    assert run_forked(on_device, at=after_step_4, prepare=prepare) < 0
    assert run_forked(on_device, prepare=prepare) == 0, on_device.log.read_text()
    assert losses_of(on_device) == pytest.approx(losses_of(on_cpu), rel=1e-4)
    ours, theirs = weights_of(on_device), weights_of(on_cpu)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].allclose(theirs[name], atol=1e-3) for name in ours)
    step = next(one for one in read_events(on_device.events_jsonl) if one["type"] == "step")
    result = read_json(on_device.result_json)
    assert step["device_memory_bytes"] == TAKEN
    assert result["peak_device_memory_bytes"] == MOST_TAKEN
    assert result["peak_device_tensor_bytes"] == MOST_IN_TENSORS
    assert read_json(on_device.plan_json)["memory_on"] == "pretend"
    assert read_json(on_device.environment_json)["device"] == "a pretended device"
    assert "peak_device_memory_bytes" not in read_json(on_cpu.result_json)
    first, second = (read_json(run.evaluation_json) for run in (on_cpu, on_device))
    for when in ("before", "after"):
        assert second[when]["loss"] == pytest.approx(first[when]["loss"], rel=1e-4)
        assert [one["text"] for one in second[when]["answers"]] == [
            one["text"] for one in first[when]["answers"]
        ]
