"""Merging: what is written serves by itself as the adapter on its base did, or nothing is there."""

from __future__ import annotations

import errno
import json
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from tests.fakes.tiny import make_tokenizer
from tests.fakes.tiny_llama import make_llama, randomize_adapters
from tests.unit.methods.test_adapter_files import by_peft
from tunesmith.core import hardware
from tunesmith.core.errors import MachineError, ModelError, RunError
from tunesmith.core.run_dir import RunDir, write_json
from tunesmith.data.tokenizer import load_tokenizer
from tunesmith.export import merged as merged_module
from tunesmith.export.merged import main, merge
from tunesmith.inference.loading import load
from tunesmith.methods import merge as merge_module
from tunesmith.methods.adapter_files import WEIGHTS_FILE, Update
from tunesmith.methods.attach import load_adapter
from tunesmith.methods.base_record import write_base_record
from tunesmith.methods.dora import DoraLinear
from tunesmith.methods.select import apply_method
from tunesmith.models.load import load_base, load_model
from tunesmith.models.originals import Originals
from tunesmith.models.prepare import prepare_model
from tunesmith.recipe.load import load_recipe, resolved

TOKENS = torch.arange(24).view(2, 12)


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS, use_cache=False).logits.float()


def llama_folder(folder: Path, *, shards: bool = False, **changes: Any) -> Path:
    make_tokenizer(folder)
    model = make_llama(vocab_size=len(load_tokenizer(folder)), **changes)
    model.save_pretrained(folder, max_shard_size="30KB" if shards else "5GB")
    return folder


def gpt2_folder(folder: Path) -> Path:
    make_tokenizer(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(load_tokenizer(folder)), n_embd=32, n_layer=2, n_head=4, n_positions=64,
        initializer_range=0.2,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def make_run(folder: Path, source: Path, method: Any, **model: Any) -> RunDir:
    """Make a run as it is at its end, with an adapter whose values are all its own."""
    recipe = load_recipe(
        {
            "model": {"source": str(source), "dtype": "fp32", **model},
            "task": "chat",
            "data": {"train": "rows.jsonl", "system": "Be brief."},
            "method": method,
        }
    )
    run_dir = RunDir.create(folder)
    write_json(run_dir.resolved_json, resolved(recipe))
    prepared = prepare_model(str(source))
    model_of_run = load_base(prepared.folder, recipe.recipe.model)
    original = Originals(prepared.folder).weight
    applied: Any = apply_method(model_of_run, recipe.recipe.method, seed=0, original=original)
    randomize_adapters(model_of_run)
    with torch.no_grad():
        for layer in getattr(applied, "layers", {}).values():
            if isinstance(layer, DoraLinear):
                layer.magnitude.mul_(torch.rand(layer.magnitude.shape) + 0.5)
    applied.save(make_tokenizer(run_dir.final), base=str(source))
    write_base_record(run_dir.final, prepared)
    return run_dir


METHODS: dict[str, Any] = {
    "lora": {"type": "lora", "rank": 4},
    "rslora": {"type": "rslora", "rank": 4},
    "dora": {"type": "dora", "rank": 4},
    "pissa": {"type": "pissa", "rank": 4},
    "lora+": {"type": "lora+", "rank": 4},
    "attention": {"type": "lora", "rank": 4, "targets": "attention"},
    "mlp": {"type": "lora", "rank": 4, "targets": "mlp"},
}


@pytest.mark.parametrize("method", METHODS)
def test_a_merged_run_answers_as_the_run_does(tmp_path: Path, method: str) -> None:
    base = llama_folder(tmp_path / "base")
    run_dir = make_run(tmp_path / "run", base, METHODS[method])
    told: list[str] = []
    record = merge(str(run_dir.path), tmp_path / "merged", tell=told.append)
    wanted = load(str(run_dir.path))
    answers = load(str(tmp_path / "merged"))
    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(logits_of(alone), logits_of(wanted.model), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits_of(alone), logits_of(load_model(base, "fp32")), atol=1e-2)
    assert answers.task == "chat"
    assert record["check"]["max_abs_diff"] < 1e-4
    assert record["check"]["same_greedy_tokens"] is True
    assert record["check"]["compared_tokens"] == 5 * 40
    assert record["system"] == "Be brief."
    assert json.loads((tmp_path / "merged" / "merge.json").read_text()) == record
    assert not list(tmp_path.glob(".merged*"))
    assert len(told) == 3


@pytest.mark.parametrize("form", ["nf4", "int8"])
@pytest.mark.parametrize("method", [METHODS["lora"], METHODS["dora"], {"type": "loftq", "rank": 4}])
def test_a_run_on_a_rounded_base_is_merged_into_the_original_weights(
    tmp_path: Path, form: str, method: Any
) -> None:
    base = llama_folder(tmp_path / "base", hidden_size=64, intermediate_size=128)
    run_dir = make_run(tmp_path / "run", base, method, base=form)
    record = merge(str(run_dir.path), tmp_path / "merged")
    wanted = load_model(base, "fp32")
    load_adapter(wanted, run_dir.final)
    result = load_model(tmp_path / "merged", "fp32")
    torch.testing.assert_close(logits_of(result), logits_of(wanted), atol=1e-4, rtol=1e-4)
    rounded = record["rounded_base"]
    assert rounded["base"] == form
    assert rounded["max_abs_diff"] > 10 * record["check"]["max_abs_diff"]


@pytest.mark.parametrize("use_dora", [False, True])
def test_a_base_that_keeps_its_matrices_the_other_way_round(tmp_path: Path, use_dora: bool) -> None:
    base = gpt2_folder(tmp_path / "base")

    def make() -> Any:
        return GPT2LMHeadModel.from_pretrained(base)

    names = ["c_attn", "c_fc", "mlp.c_proj"]
    theirs = by_peft(
        tmp_path / "adapter", make, target_modules=names, fan_in_fan_out=True, use_dora=use_dora
    )
    merge(str(tmp_path / "adapter"), tmp_path / "merged", base=str(base))
    result = load_model(tmp_path / "merged", "fp32")
    torch.testing.assert_close(logits_of(result), logits_of(theirs), atol=1e-4, rtol=1e-4)


def test_an_adapter_of_pefts_is_merged_as_peft_merges_it(tmp_path: Path) -> None:
    base = llama_folder(tmp_path / "base")

    def make() -> Any:
        return AutoModelForCausalLM.from_pretrained(base)

    theirs = by_peft(tmp_path / "adapter", make, target_modules="all-linear", use_rslora=True)
    merge(str(tmp_path / "adapter"), tmp_path / "merged", base=str(base))
    result = safetensors.torch.load_file(tmp_path / "merged" / "model.safetensors")
    plain: Any = theirs.merge_and_unload()
    for name, weight in plain.state_dict().items():
        if name in result:
            torch.testing.assert_close(result[name], weight, atol=1e-6, rtol=1e-5)
    assert isinstance(theirs, peft.PeftModel)


def test_shards_stay_shards_and_every_tensor_is_there(tmp_path: Path) -> None:
    base = llama_folder(tmp_path / "base", shards=True)
    names = sorted(file.name for file in base.glob("*.safetensors"))
    assert len(names) > 2
    run_dir = make_run(tmp_path / "run", base, METHODS["lora"])
    record = merge(str(run_dir.path), tmp_path / "merged")
    assert sorted(record["sha256s"]) == names
    index = json.loads((tmp_path / "merged" / "model.safetensors.index.json").read_text())
    given = json.loads((base / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == given["weight_map"]
    torch.testing.assert_close(
        logits_of(load_model(tmp_path / "merged", "fp32")),
        logits_of(load(str(run_dir.path)).model),
        atol=1e-4,
        rtol=1e-4,
    )


def test_one_tensor_is_held_while_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = llama_folder(tmp_path / "base")
    run_dir = make_run(tmp_path / "run", base, METHODS["lora"])
    made: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []
    real = merge_module._value

    def watched(*arguments: Any) -> torch.Tensor:
        alive.append(sum(known() is not None for known in made))
        value = real(*arguments)
        made.append(weakref.ref(value))
        return value

    monkeypatch.setattr(merge_module, "_value", watched)
    merge(str(run_dir.path), tmp_path / "merged")
    assert len(made) == 20
    assert max(alive) == 1


@pytest.mark.parametrize(
    ("given", "asked", "stored", "tolerance"),
    [
        (torch.float32, "bf16", torch.bfloat16, 0.05),
        (torch.bfloat16, "original", torch.bfloat16, 0.05),
        (torch.bfloat16, "fp32", torch.float32, 1e-4),
        (torch.float16, "original", torch.float16, 0.02),
    ],
)
def test_weights_are_written_in_the_dtype_that_is_asked_for(
    tmp_path: Path, given: torch.dtype, asked: Any, stored: torch.dtype, tolerance: float
) -> None:
    base = llama_folder(tmp_path / "base", dtype=given)
    run_dir = make_run(tmp_path / "run", base, METHODS["lora"])
    record = merge(str(run_dir.path), tmp_path / "merged", dtype=asked)
    held = safetensors.torch.load_file(tmp_path / "merged" / "model.safetensors")
    assert {value.dtype for value in held.values()} == {stored}
    check = record["check"]
    assert check["tolerance"] == tolerance * max(1, check["max_abs_logit"])
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["dtype"] == str(stored).removeprefix("torch.")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "merged").dtype == stored


def test_generation_ends_where_the_runs_tokenizer_ends(tmp_path: Path) -> None:
    base = llama_folder(tmp_path / "base")
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": 7}))
    run_dir = make_run(tmp_path / "run", base, METHODS["lora"])
    merge(str(run_dir.path), tmp_path / "merged")
    eos = load_tokenizer(run_dir.final).eos_token_id
    result: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert result.generation_config.eos_token_id == [7, eos]


@pytest.mark.parametrize("shards", [False, True])
def test_an_adapter_on_a_tied_head_gives_the_head_a_matrix_of_its_own(
    tmp_path: Path, shards: bool
) -> None:
    base = llama_folder(tmp_path / "base", shards=shards)

    def make() -> Any:
        return AutoModelForCausalLM.from_pretrained(base)

    theirs = by_peft(tmp_path / "adapter", make, target_modules=["q_proj", "lm_head"])
    record = merge(str(tmp_path / "adapter"), tmp_path / "merged", base=str(base))
    assert record["unties_head"] is True
    result = load_model(tmp_path / "merged", "fp32")
    torch.testing.assert_close(logits_of(result), logits_of(theirs), atol=1e-4, rtol=1e-4)
    embedding = load_model(base, "fp32").get_input_embeddings().weight  # type: ignore[operator]
    assert result.get_input_embeddings().weight.equal(embedding)  # type: ignore[operator]


def test_a_tied_head_stays_tied_where_the_adapter_is_elsewhere(tmp_path: Path) -> None:
    base = llama_folder(tmp_path / "base")
    run_dir = make_run(tmp_path / "run", base, METHODS["lora"])
    merge(str(run_dir.final), tmp_path / "merged")
    sizes = [
        (folder / "model.safetensors").stat().st_size for folder in (base, tmp_path / "merged")
    ]
    assert sizes[1] <= 1.01 * sizes[0]
    result: Any = load_model(tmp_path / "merged", "fp32")
    assert result.lm_head.weight is result.model.embed_tokens.weight


def untouched(folder: Path) -> bool:
    return not folder.exists() and not list(folder.parent.glob(f".{folder.name}*"))


def test_a_result_that_differs_is_refused_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = llama_folder(tmp_path / "base")
    run_dir = make_run(tmp_path / "run", base, METHODS["lora"])
    right = merge_module.merged_weight

    def twice(weight_OI: torch.Tensor, update: Update) -> torch.Tensor:
        return right(right(weight_OI, update), update)

    monkeypatch.setattr(merge_module, "merged_weight", twice)
    with pytest.raises(RunError, match="differs by"):
        merge(str(run_dir.path), tmp_path / "merged")
    assert untouched(tmp_path / "merged")
    monkeypatch.setattr(merge_module, "check_merged", lambda *_: 0.0)
    with pytest.raises(RunError, match="logits by"):
        merge(str(run_dir.path), tmp_path / "merged")
    assert untouched(tmp_path / "merged")


def test_a_disk_that_is_full_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = llama_folder(tmp_path / "base")
    run_dir = make_run(tmp_path / "run", base, METHODS["lora"])
    monkeypatch.setattr(merged_module, "free_disk_bytes", lambda _: 1000)
    with pytest.raises(MachineError, match="1,000 are free") as caught:
        merge(str(run_dir.path), tmp_path / "merged")
    assert caught.value.code == "no_space"
    monkeypatch.setattr(merged_module, "free_disk_bytes", hardware.free_disk_bytes)

    def fails(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(merged_module, "write_index", fails)
    with pytest.raises(RunError, match="the disk is full"):
        merge(str(run_dir.path), tmp_path / "merged")
    assert untouched(tmp_path / "merged")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    base = llama_folder(tmp_path / "base")
    run_dir = make_run(tmp_path / "run", base, METHODS["lora"])
    file = run_dir.final / WEIGHTS_FILE
    held = safetensors.torch.load_file(file)
    next(iter(held.values()))[0, 0] = float("inf")
    safetensors.torch.save_file(held, file)
    with pytest.raises(ModelError, match="not finite"):
        merge(str(run_dir.path), tmp_path / "merged")
    assert untouched(tmp_path / "merged")


def test_a_result_beyond_the_range_of_16_bits_is_refused(tmp_path: Path) -> None:
    base = llama_folder(tmp_path / "base", dtype=torch.float16)
    run_dir = make_run(tmp_path / "run", base, METHODS["lora"])
    file = run_dir.final / WEIGHTS_FILE
    held = {name: value * 1e5 for name, value in safetensors.torch.load_file(file).items()}
    safetensors.torch.save_file(held, file)
    with pytest.raises(ModelError, match="in F16"):
        merge(str(run_dir.path), tmp_path / "merged")


def other_base(run_dir: RunDir, tmp_path: Path) -> Any:
    other = llama_folder(tmp_path / "other", seed=9)
    return merge(str(run_dir.path), tmp_path / "merged", base=str(other))


def in_use(run_dir: RunDir, tmp_path: Path) -> Any:
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "mine.txt").write_text("mine")
    return merge(str(run_dir.path), tmp_path / "merged")


def unfinished(run_dir: RunDir, tmp_path: Path) -> Any:
    shutil.rmtree(run_dir.final)
    return merge(str(run_dir.path), tmp_path / "merged")


def no_adapter(run_dir: RunDir, tmp_path: Path) -> Any:
    return merge(str(run_dir.checkpoints), tmp_path / "merged")


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (other_base, "trained on other weights"),
        (in_use, "not empty"),
        (unfinished, "no final adapter"),
        (no_adapter, "no such folder"),
    ],
)
def test_what_cannot_be_merged_says_why(
    tmp_path: Path, act: Callable[[RunDir, Path], Any], reason: str
) -> None:
    run_dir = make_run(tmp_path / "run", llama_folder(tmp_path / "base"), METHODS["lora"])
    with pytest.raises((ModelError, MachineError), match=reason):
        act(run_dir, tmp_path)
    assert not (tmp_path / "merged" / "config.json").exists()


def test_a_run_of_all_weights_has_nothing_to_merge(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", llama_folder(tmp_path / "base"), "full")
    with pytest.raises(ModelError, match="nothing to merge"):
        merge(str(run_dir.path), tmp_path / "merged")


def test_the_process_answers_in_json_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = make_run(tmp_path / "run", llama_folder(tmp_path / "base"), METHODS["lora"])
    words = [str(run_dir.path), "--output", str(tmp_path / "merged")]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["merge"]["merged_tensors"] == 14
    assert main(words) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["exit_code"]) == ("output_exists", 2)
