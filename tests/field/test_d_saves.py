"""Field case B074: what was saved is held beside the model, for every strategy and method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.fakes.forked_run import run_forked
from tests.fakes.rank_training import Case, Trainer
from tests.fakes.ranks import in_ranks
from tests.fakes.tiny_run import make_model_folder, make_rows, make_run
from tunesmith.core.errors import RunError
from tunesmith.core.events import read_events
from tunesmith.core.run_dir import RunDir, read_json
from tunesmith.recipe.strategy import DdpStrategy, DeepSpeedStrategy, FsdpStrategy
from tunesmith.training.complete import require_complete, shapes_of
from tunesmith.training.strategies.ranks import Ranks

EMPTY = torch.zeros(0)
NAME = "model.layers.0.mlp.up_proj.weight"
STRATEGIES = [
    DdpStrategy(),
    DeepSpeedStrategy(type="deepspeed", zero=2),
    DeepSpeedStrategy(type="deepspeed", zero=3),
    FsdpStrategy(type="fsdp"),
]


def test_b074_tensors_without_values_are_found_by_name_and_shape(tmp_path: Path) -> None:
    held = {f"weight{number}": torch.ones(3, 4) for number in range(4)}
    expected = shapes_of(held)
    safetensors.torch.save_file(
        {**held, "weight1": EMPTY, "weight3": EMPTY}, tmp_path / "a.safetensors"
    )
    with pytest.raises(RunError) as caught:
        require_complete(tmp_path, expected)
    (fault,) = caught.value.faults
    assert "weight1 of shape [0]; in the model its shape is [3, 4]" in fault.found
    assert "4 tensors of 24 values were written, 4 tensors of 48 values belong there" in fault.found
    assert fault.where == str(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"a": None}, "no a; in the model its shape is [2]"), ({"c": EMPTY}, "c of shape [0]")],
)
def test_b074_missing_and_further_tensors_are_named(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    held = {"a": torch.ones(2), "b": torch.ones(2)}
    written = {name: value for name, value in {**held, **changed}.items() if value is not None}
    safetensors.torch.save_file(written, tmp_path / "a.safetensors")
    with pytest.raises(RunError, match=words.replace("[", r"\[")):
        require_complete(tmp_path, shapes_of(held))


def leave_final_weights_empty() -> None:
    """The last save writes two tensors without values; those before it are whole."""
    from transformers import PreTrainedModel

    whole = PreTrainedModel.state_dict

    def state_dict(self: Any, *arguments: Any, **settings: Any) -> Any:
        state = whole(self, *arguments, **settings)
        if getattr(self, "is_trained", False):
            state[NAME] = state["model.norm.weight"] = EMPTY
        return state

    PreTrainedModel.state_dict = state_dict
    mark_after_training()


def mark_after_training() -> None:
    from tunesmith.run import ready
    from tunesmith.training.final_folder import FinalFolder

    save = FinalFolder.save

    def save_marked(self: FinalFolder, run_dir: RunDir) -> None:
        self.method.model.is_trained = True  # pyright: ignore[reportAttributeAccessIssue]
        save(self, run_dir)

    FinalFolder.save = save_marked
    assert ready.FinalFolder is FinalFolder


def cut_a_factor_at_the_end() -> None:
    from tunesmith.training.final_folder import FinalFolder

    save = FinalFolder.save

    def save_cut(self: FinalFolder, run_dir: RunDir) -> None:
        layer = next(iter(self.method.layers.values()))  # pyright: ignore[reportAttributeAccessIssue]
        layer.lora_A.data = layer.lora_A.data[:, :1].clone()
        save(self, run_dir)

    FinalFolder.save = save_cut


def cut_a_factor_in_a_checkpoint() -> None:
    from tunesmith.run import steps

    write = steps.write_checkpoint

    def write_cut(folder: Path, progress: Any, training: Any, *others: Any) -> Path:
        name = next(iter(training.trained))
        training.trained[name] = EMPTY
        return write(folder, progress, training, *others)

    steps.write_checkpoint = write_cut


FULL, LORA = {"type": "full"}, {"type": "lora", "rank": 4}
CASES = {
    "full": (
        *(FULL, leave_final_weights_empty),
        *(f"{NAME} of shape [0]; in the model its shape is [48, 32]", "final/model.safetensors"),
    ),
    "adapter": (
        *(LORA, cut_a_factor_at_the_end, "lora_A.weight of shape [4, 1]; in the model its shape"),
        "final/adapter_model.safetensors",
    ),
    "checkpoint": (
        *(LORA, cut_a_factor_in_a_checkpoint, "lora_A.weight of shape [0]; in the model its shape"),
        "checkpoints/step-1/trained.safetensors",
    ),
}


@pytest.mark.parametrize(("method", "prepare", "found", "where"), CASES.values(), ids=CASES)
def test_b074_a_run_whose_save_is_not_whole_has_failed(
    tmp_path: Path, method: Any, prepare: Callable[[], None], found: str, where: str
) -> None:
    run_dir = make_run(
        tmp_path / "run",
        make_model_folder(tmp_path / "model"),
        make_rows(tmp_path / "rows.jsonl", 12),
        method=method,
        training={"max_steps": 1},
        evaluation={"before": False, "after": False},
    )
    assert run_forked(run_dir, prepare=prepare) == 3, run_dir.log.read_text()
    state = read_json(run_dir.state_json)
    assert state["status"] == "failed"
    (error,) = [event for event in read_events(run_dir.events_jsonl) if event["type"] == "error"]
    assert error["code"] == "incomplete_save"
    (fault,) = error["faults"]
    assert found in fault["found"]
    assert fault["where"] == str(run_dir.path / where)
    assert not run_dir.result_json.exists()
    assert not run_dir.final.exists()


def save_by_ranks(ranks: Ranks, folder: Path) -> dict[str, str]:
    """Save with every strategy as a run does, and with ZeRO 3 while the weights are spread, too."""
    said: dict[str, str] = {}
    for strategy in STRATEGIES:
        for method in ("lora", "full"):
            trainer = Trainer(Case(method, strategy=strategy), ranks)
            trainer.train(last_step=1)
            zero = getattr(strategy, "zero", "")
            name = f"{method} {strategy.type}{zero}"
            with trainer.strategy.whole():
                said[name] = save_and_check(trainer, folder / name)
            if zero == 3:
                said[f"{name} spread"] = save_and_check(trainer, folder / f"{name} spread")
            ranks.wait()
    return said


def save_and_check(trainer: Trainer, folder: Path) -> str:
    """Save on rank 0; what the comparison with a model in one process says."""
    if not trainer.strategy.ranks.is_main:
        return ""
    folder.mkdir()
    trainer.method.save(folder, base="base")
    alone = Trainer(Case(trainer.case.method), Ranks())
    try:
        require_complete(folder, alone.method.saved_shapes())
    except RunError as error:
        return error.faults[0].found
    return "whole"


def test_b074_saves_of_two_processes_hold_everything(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="the extra deepspeed is not installed")
    said, _ = in_ranks(save_by_ranks, 2, tmp_path)
    spread = {name: said.pop(name) for name in list(said) if name.endswith("spread")}
    assert len(said) == 2 * len(STRATEGIES)
    assert set(said.values()) == {"whole"}
    # the placeholders that ZeRO 3 leaves in the places of weights
    assert len(spread) == 2
    assert all("of shape [0]; in the model its shape is" in found for found in spread.values())
