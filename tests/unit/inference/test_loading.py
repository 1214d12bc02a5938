from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes.tiny import make_tokenizer
from tests.fakes.tiny_llama import make_llama, randomize_adapters
from tunesmith.core.errors import ModelError
from tunesmith.core.run_dir import RunDir, write_json
from tunesmith.inference.loading import load
from tunesmith.methods.attach import Weighted, load_adapters
from tunesmith.methods.base import AppliedMethod
from tunesmith.methods.select import apply_method
from tunesmith.models.load import load_base
from tunesmith.recipe.load import load_recipe, resolved
from tunesmith.recipe.model import ModelPart
from tunesmith.training.checkpoint import Progress, save_checkpoint

TOKENS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture(name="base")
def base_fixture(tmp_path: Path) -> Path:
    folder = make_tokenizer(tmp_path / "base")
    make_llama(vocab_size=300).save_pretrained(folder)
    return folder


def make_run(folder: Path, base: Path, method: str) -> RunDir:
    run_dir = RunDir.create(folder)
    recipe = {
        "model": {"source": str(base), "dtype": "fp32"},
        "task": "chat",
        "data": {"train": "rows.jsonl", "system": "Be brief."},
        "method": method,
    }
    write_json(run_dir.resolved_json, resolved(load_recipe(recipe)))
    return run_dir


def trained(base: Path, method: str) -> tuple[Any, AppliedMethod]:
    """A model as it is at the end of a run, with weights unlike its base's."""
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(base)
    recipe = load_recipe({"model": "m", "task": "chat", "data": {"train": "x"}, "method": method})
    applied = apply_method(model, recipe.recipe.method, seed=0)
    randomize_adapters(model)
    if method == "full":
        with torch.no_grad():
            next(iter(applied.trainable.values())).mul_(1.5)
    applied.publish()
    return model.eval(), applied


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS, use_cache=False).logits


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("what", ["run", "run/final"])
def test_a_run_answers_with_what_it_trained(
    tmp_path: Path, base: Path, method: str, what: str
) -> None:
    run_dir = make_run(tmp_path / "run", base, method)
    model, applied = trained(base, method)
    applied.save(make_tokenizer(run_dir.final), base=str(base))
    loaded = load(str(tmp_path / what))
    assert torch.allclose(logits(loaded.model), logits(model), atol=1e-5)
    assert (loaded.base, loaded.task, loaded.system) == (str(base), "chat", "Be brief.")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_checkpoint_answers_with_what_was_trained_so_far(
    tmp_path: Path, base: Path, method: str
) -> None:
    run_dir = make_run(tmp_path / "run", base, method)
    model, applied = trained(base, method)
    optimizer = torch.optim.AdamW(applied.trainable.values())
    progress = Progress(step=4, held_out={})
    path = save_checkpoint(run_dir.checkpoints, progress, applied.trainable, optimizer)
    assert torch.allclose(logits(load(str(path)).model), logits(model), atol=1e-5)


def test_an_adapters_folder_names_its_base(tmp_path: Path, base: Path) -> None:
    model, applied = trained(base, "lora")
    applied.save(tmp_path / "adapter", base=str(base))
    loaded = load(str(tmp_path / "adapter"))
    assert torch.allclose(logits(loaded.model).float(), logits(model), atol=0.1)
    assert loaded.base == str(base)


def test_adapters_add_up_on_a_model_and_on_a_run(tmp_path: Path, base: Path) -> None:
    run_dir = make_run(tmp_path / "run", base, "lora")
    _, applied = trained(base, "lora")
    applied.save(make_tokenizer(run_dir.final), base=str(base))
    stack = [Weighted(run_dir.final, 0.5), Weighted(run_dir.final, 1.5)]
    wanted = load_base(base, ModelPart(source=str(base), dtype="fp32"))
    added = load_adapters(wanted, stack)
    assert {layer.lora_A.shape[0] for layer in added.layers.values()} == {32}
    on_run = load(str(run_dir.path), [Weighted(run_dir.final)])  # twice its own
    assert torch.allclose(logits(on_run.model), logits(wanted), atol=1e-5)


def test_a_base_may_be_named_from_the_adapters_own_folder(tmp_path: Path, base: Path) -> None:
    _, applied = trained(base, "lora")
    applied.save(tmp_path / "adapter", base="../base")
    assert load(str(tmp_path / "adapter")).base == str(base)


def test_a_model_folder_is_a_model(base: Path) -> None:
    loaded = load(str(base))
    assert (loaded.name, loaded.task, loaded.system) == (str(base), "chat", None)


def test_a_run_without_a_final_model_names_its_last_checkpoint(tmp_path: Path, base: Path) -> None:
    run_dir = make_run(tmp_path / "run", base, "lora")
    with pytest.raises(ModelError, match="--resume"):
        load(str(run_dir.path))
    for step in (9, 10):
        (run_dir.checkpoints / f"step-{step}").mkdir(parents=True)
    with pytest.raises(ModelError, match="step-10"):
        load(str(run_dir.path))
