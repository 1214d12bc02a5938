from __future__ import annotations

import errno
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from tunesmith.core.errors import RunError
from tunesmith.models.tensor_parts import Rows
from tunesmith.training import checkpoint as module
from tunesmith.training.checkpoint import (
    Progress,
    TrainingState,
    begin_parts,
    list_checkpoints,
    load_newest,
    missing_best,
    prune,
    save_checkpoint,
    state_of,
    write_checkpoint,
    write_parts,
)
from tunesmith.training.complete import shapes_of

WEIGHTS = "trained.safetensors"


def trained_state() -> tuple[dict[str, nn.Parameter], torch.optim.AdamW]:
    torch.manual_seed(0)
    trainable = {"a": nn.Parameter(torch.randn(3, 4)), "b": nn.Parameter(torch.randn(5))}
    optimizer = torch.optim.AdamW(trainable.values(), fused=True)
    take_step(trainable, optimizer)
    return trainable, optimizer


def take_step(trainable: dict[str, nn.Parameter], optimizer: torch.optim.AdamW) -> None:
    for parameter in trainable.values():
        parameter.grad = torch.randn(parameter.shape)
    optimizer.step()


def progress_at(step: int) -> Progress:
    return Progress(step=step, tokens=10 * step, seconds=1.5, held_out={2: 0.5})


def test_what_was_saved_comes_back_and_goes_on_the_same(tmp_path: Path) -> None:
    trainable, optimizer = trained_state()
    save_checkpoint(tmp_path, progress_at(3), trainable, optimizer)
    take_step(trainable, optimizer)  # draws from the random state that was saved
    fresh = {name: nn.Parameter(torch.zeros_like(value)) for name, value in trainable.items()}
    other = torch.optim.AdamW(fresh.values(), fused=True)
    assert load_newest(tmp_path, fresh, other) == progress_at(3)
    take_step(fresh, other)
    assert all(fresh[name].equal(trainable[name]) for name in trainable)


def test_nothing_is_loaded_where_there_is_no_checkpoint(tmp_path: Path) -> None:
    trainable, optimizer = trained_state()
    assert load_newest(tmp_path / "none", trainable, optimizer) is None


HARMS = ["flip", "truncate", "remove", "no manifest", "half a manifest", "another manifest"]


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, harm: str) -> None:
    trainable, optimizer = trained_state()
    save_checkpoint(tmp_path, progress_at(1), trainable, optimizer)
    file = save_checkpoint(tmp_path, progress_at(2), trainable, optimizer) / WEIGHTS
    content = bytearray(file.read_bytes())
    if harm == "flip":
        content[-1] ^= 1
        file.write_bytes(content)
    elif harm == "truncate":
        file.write_bytes(content[:-4])
    elif harm == "remove":
        file.unlink()
    elif harm == "no manifest":
        (file.parent / module.MANIFEST).unlink()
    elif harm == "half a manifest":
        (file.parent / module.MANIFEST).write_text('{"files": {')
    else:
        (file.parent / module.MANIFEST).write_text('{"files": {"trained.safetensors": 3}}')
    told: list[str] = []
    assert load_newest(tmp_path, trainable, optimizer, tell=told.append) == progress_at(1)
    (text,) = told
    assert "damaged checkpoint step-2" in text
    assert "checkpoints/damaged-step-2" in text


def test_a_damaged_checkpoint_keeps_no_good_one_from_being_kept(tmp_path: Path) -> None:
    trainable, optimizer = trained_state()
    for step in (1, 2):
        save_checkpoint(tmp_path, progress_at(step), trainable, optimizer)
    (tmp_path / "step-2" / WEIGHTS).unlink()
    assert load_newest(tmp_path, trainable, optimizer) == progress_at(1)
    prune(tmp_path, keep=1, held_out={})
    assert load_newest(tmp_path, trainable, optimizer) == progress_at(1)
    save_checkpoint(tmp_path, progress_at(2), trainable, optimizer)
    assert load_newest(tmp_path, trainable, optimizer) == progress_at(2)


def test_the_best_step_is_the_first_with_the_lowest_loss() -> None:
    assert Progress(step=1).best_step is None
    progress = Progress(step=6, held_out={2: 0.5, 4: 0.3, 6: 0.3})
    assert progress.best_step == 4
    assert not progress.is_best
    assert Progress(step=4, held_out={2: 0.5, 4: 0.3}).is_best


def test_a_best_checkpoint_that_is_gone_is_told(tmp_path: Path) -> None:
    progress = Progress(step=6, held_out={2: 0.5, 4: 0.25})
    text = missing_best(tmp_path, progress)
    assert text is not None
    assert "step-4 (held-out loss 0.2500)" in text
    (tmp_path / "step-4").mkdir()
    assert missing_best(tmp_path, progress) is None
    assert missing_best(tmp_path, Progress(step=6)) is None


def test_a_full_disk_leaves_the_earlier_checkpoint_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainable, optimizer = trained_state()
    save_checkpoint(tmp_path, progress_at(1), trainable, optimizer)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.safetensors.torch, "save_file", full)
    with pytest.raises(RunError, match="disk is full") as caught:
        save_checkpoint(tmp_path, progress_at(2), trainable, optimizer)
    assert caught.value.code == "no_space"
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
    assert load_newest(tmp_path, trainable, optimizer) == progress_at(1)


def test_what_a_killed_process_left_is_never_a_checkpoint_and_is_cleared(tmp_path: Path) -> None:
    trainable, optimizer = trained_state()
    (tmp_path / ".step-7.123.tmp").mkdir()
    (tmp_path / ".step-7.123.tmp" / WEIGHTS).write_bytes(b"half")
    assert load_newest(tmp_path, trainable, optimizer) is None
    save_checkpoint(tmp_path, progress_at(1), trainable, optimizer)
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


@pytest.mark.parametrize(
    ("keep", "held_out", "left"),
    [
        (2, {}, [4, 5]),
        (1, {}, [5]),
        (1, {2: 0.1, 4: 0.3}, [2, 5]),
        (2, {2: 0.1, 4: 0.3}, [2, 5]),
        (3, {2: 0.1}, [2, 4, 5]),
        (9, {}, [1, 2, 3, 4, 5]),
    ],
)
def test_the_newest_and_the_best_are_never_pruned(
    tmp_path: Path, keep: int, held_out: dict[int, float], left: list[int]
) -> None:
    for step in range(1, 6):
        (tmp_path / f"step-{step}").mkdir()
    prune(tmp_path, keep=keep, held_out=held_out)
    assert [path.name for path in list_checkpoints(tmp_path)] == [f"step-{step}" for step in left]


def test_a_checkpoint_of_another_method_is_refused(tmp_path: Path) -> None:
    trainable, optimizer = trained_state()
    save_checkpoint(tmp_path, progress_at(1), trainable, optimizer)
    other = {"c": nn.Parameter(torch.zeros(2))}
    with pytest.raises(RunError, match="other parameters") as caught:
        load_newest(tmp_path, other, torch.optim.AdamW(other.values()))
    assert caught.value.code == "checkpoint_mismatch"


def in_parts(folder: Path, whole: TrainingState, *, ranks: int, size: int = 2) -> Path:
    """Write the first `ranks` of `size` parts, cut as `fully_shard` cuts."""
    parts = begin_parts(folder, 4)
    for rank in range(ranks):
        cut: dict[str, torch.Tensor] = {}
        rows: dict[str, Rows] = {}
        for name, value in {**whole.trained, **whole.tensors}.items():
            if value.dim():
                chunk = math.ceil(len(value) / size)
                rows[name] = Rows(rank * chunk, tuple(value.shape))
                cut[name] = value[rank * chunk : (rank + 1) * chunk].clone()
            elif rank == 0:
                cut[name] = value
        trained = {name: cut.pop(name) for name in whole.trained}
        state = TrainingState(trained=trained, tensors=cut, numbers={}, rows=rows)
        write_parts(parts, state, rank=rank, size=size)
    return parts


def test_a_checkpoint_in_parts_is_one_like_any_other(tmp_path: Path) -> None:
    trainable, optimizer = trained_state()
    whole, shapes = state_of(trainable, optimizer), shapes_of(trainable)
    parts = in_parts(tmp_path, whole, ranks=2)
    found = write_checkpoint(tmp_path, progress_at(4), whole, None, shapes, parts)
    assert {file.name for file in found.glob("*.safetensors")} == {
        f"{word}-{rank}-of-2.safetensors" for word in ("trained", "optimizer") for rank in (0, 1)
    }
    fresh = {name: nn.Parameter(torch.zeros_like(value)) for name, value in trainable.items()}
    other = torch.optim.AdamW(fresh.values(), fused=True)
    assert load_newest(tmp_path, fresh, other) == progress_at(4)
    for name, value in trainable.items():
        assert fresh[name].equal(value)
        for word, kept in optimizer.state[value].items():
            assert other.state[fresh[name]][word].equal(kept), word
    (found / "optimizer-1-of-2.safetensors").unlink()
    assert load_newest(tmp_path, fresh, other, tell=lambda _: None) is None


def test_parts_that_are_not_all_there_are_no_checkpoint(tmp_path: Path) -> None:
    trainable, optimizer = trained_state()
    whole, shapes = state_of(trainable, optimizer), shapes_of(trainable)
    parts = in_parts(tmp_path, whole, ranks=1)
    with pytest.raises(RunError, match=r"a: rows 2 to 3 are in no part") as caught:
        write_checkpoint(tmp_path, progress_at(4), whole, None, shapes, parts)
    assert caught.value.code == "incomplete_save"
    assert list(tmp_path.iterdir()) == []
