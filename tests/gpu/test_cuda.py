"""Runs on a CUDA device, on machines that have one: like those of the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes.tiny_run import (
    TIMEOUT_S,
    logs_of,
    losses_of,
    make_model_folder,
    make_rows,
    make_run,
    start_run,
    weights_of,
)
from tunesmith.inference.loading import load

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize(
    "method", [{"type": "lora", "rank": 4}, {"type": "dora", "rank": 4}, {"type": "full"}], ids=str
)
def test_a_run_on_cuda_is_like_one_on_the_cpu(tmp_path: Path, method: dict[str, Any]) -> None:
    model, rows = make_model_folder(tmp_path / "model"), make_rows(tmp_path / "rows.jsonl", 20)
    runs = {
        device: make_run(
            tmp_path / device,
            model,
            rows,
            model={"source": str(model), "dtype": "fp32", "device": device},
            method=method,
            training={"max_steps": 6, "checkpoint_every": 2},
        )
        for device in ("cpu", "cuda")
    }
    for run_dir in runs.values():
        assert start_run(run_dir).wait(TIMEOUT_S) == 0, logs_of(run_dir)
    assert losses_of(runs["cuda"]) == pytest.approx(losses_of(runs["cpu"]), rel=1e-3)
    ours, theirs = weights_of(runs["cuda"]), weights_of(runs["cpu"])
    assert ours.keys() == theirs.keys()
    assert all(ours[name].allclose(theirs[name], atol=1e-2) for name in ours)
    assert next(load(str(runs["cuda"].path)).model.parameters()).is_cuda
