"""Before step 1: the final folder is written and thrown away, and the disk is asked for room."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.fakes.tiny_llama import make_llama
from tunesmith.core.errors import MachineError, RunError
from tunesmith.methods.select import apply_method
from tunesmith.models.quantise import quantise_model
from tunesmith.recipe.load import load_recipe
from tunesmith.recipe.method import FullMethod, LoraMethod
from tunesmith.recipe.recipe import Recipe
from tunesmith.training import rehearsal
from tunesmith.training.rehearsal import Room, rehearse_saving, room_of

ROOM = Room(checkpoint=1000, final=500, kept_checkpoints=2)


def recipe_of(method: str) -> Recipe:
    recipe = {"model": "m", "task": "chat", "data": {"train": "f"}, "method": method}
    return load_recipe(recipe).recipe


def rehearse(folder: Path, room: Room = ROOM, save: object = None) -> str | None:
    method = apply_method(make_llama(), LoraMethod(rank=4), seed=0)

    def write(into: Path) -> None:
        method.save(into, base="b")

    return rehearse_saving(folder, method, room, save or write)  # type: ignore[arg-type]


def test_the_final_folder_is_written_and_thrown_away(tmp_path: Path) -> None:
    saved: list[list[str]] = []

    def save(folder: Path) -> None:
        (folder / "adapter.bin").write_text("x")
        saved.append([file.name for file in folder.iterdir()])

    assert rehearse(tmp_path, save=save) is None
    assert saved == [["adapter.bin"]]
    assert list(tmp_path.iterdir()) == []


def test_a_save_that_fails_fails_before_step_1(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RunError, match="no space") as caught:
        rehearse(tmp_path, save=full)
    assert caught.value.code == "no_space"
    assert caught.value.faults[0].where == str(tmp_path / "final")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("free", "ends"), [(3500, None), (3499, "told"), (1499, "refused")])
def test_the_disk_is_asked_for_what_the_run_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, ends: str | None
) -> None:
    monkeypatch.setattr(rehearsal, "free_disk_bytes", lambda _: free)
    if ends == "refused":
        with pytest.raises(MachineError, match="need 1,500 bytes, and 1,499 are free"):
            rehearse(tmp_path)
        return
    warning = rehearse(tmp_path)
    assert (warning is None) == (ends is None)
    if warning:
        assert "3,500 bytes" in warning
        assert "3,499 are free" in warning


def test_a_merge_that_would_differ_is_found_before_step_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "merged_weight", lambda weight, _: weight * 2)
    with pytest.raises(RunError, match="before step 1"):
        rehearse(tmp_path)


@pytest.mark.parametrize(
    ("kind", "base"),
    [("lora", None), ("dora", None), ("pissa", None), ("lora", "nf4"), ("dora", "nf4")],
)
def test_every_kind_of_layer_passes(tmp_path: Path, kind: str, base: str | None) -> None:
    model = make_llama(hidden_size=64)
    if base:
        quantise_model(model, [model.lm_head], "nf4", double_quant=True, dtype=model.dtype)
    method = apply_method(model, recipe_of(kind).method, seed=0)
    rehearse_saving(tmp_path, method, ROOM, lambda folder: method.save(folder, base="b"))


def test_room_is_counted_from_what_is_trained() -> None:
    model = make_llama()
    adapter = apply_method(model, LoraMethod(rank=4), seed=0)
    trained = sum(value.numel() for value in adapter.trainable.values())
    room = room_of(recipe_of("lora"), adapter, model_bytes=10**9)
    assert room.checkpoint == trained * 12
    assert room.final == 8 * trained + rehearsal.TOKENIZER_BYTES
    whole = apply_method(make_llama(), FullMethod(), seed=0)
    room = room_of(recipe_of("full"), whole, model_bytes=10**9)
    assert room.final == 10**9 + rehearsal.TOKENIZER_BYTES
