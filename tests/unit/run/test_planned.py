"""What a run is told before it begins."""

from __future__ import annotations

import pytest
import torch

from tunesmith.run.planned import idle_gpus


def test_a_gpu_that_is_not_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert idle_gpus() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert "has 2 CUDA device(s)" in str(idle_gpus())
