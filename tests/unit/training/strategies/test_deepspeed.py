"""What DeepSpeed is told of the process that it runs in."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch

from tunesmith.core.rank_place import ALONE
from tunesmith.training.strategies import deepspeed
from tunesmith.training.strategies.ranks import Ranks

SECOND = Ranks(replace(ALONE, rank=1, size=2, local_rank=1, local_size=2))


def test_the_engine_takes_the_gpu_of_the_process_whatever_its_place_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"):
        monkeypatch.setenv(name, "1")
    deepspeed._tell_place(SECOND, torch.device("cuda", 0))  # the only one that it sees
    assert (os.environ["LOCAL_RANK"], os.environ["OMPI_COMM_WORLD_LOCAL_RANK"]) == ("0", "0")


def test_the_engine_keeps_to_the_cpu_where_the_run_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cuda")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.delenv("OMPI_COMM_WORLD_LOCAL_RANK", raising=False)
    deepspeed._tell_place(SECOND, torch.device("cpu"))
    assert (os.environ["DS_ACCELERATOR"], os.environ["LOCAL_RANK"]) == ("cpu", "1")
    assert "OMPI_COMM_WORLD_LOCAL_RANK" not in os.environ
