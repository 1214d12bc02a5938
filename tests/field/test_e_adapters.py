"""Reports about adapters' files: saving, loading, merging, and disks that fill up."""

from __future__ import annotations

import errno
import itertools
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch

from tests.fakes.tiny import make_tokenizer
from tests.fakes.tiny_llama import make_llama, randomize_adapters
from tests.field.test_c_preference import OBJECTIVES, step
from tunesmith.core.errors import ModelError, RunError
from tunesmith.data.tokenizer import load_tokenizer
from tunesmith.export import merged as merged_module
from tunesmith.export.merged import merge
from tunesmith.inference.loading import load
from tunesmith.methods.adapter_files import WEIGHTS_FILE
from tunesmith.methods.attach import load_adapter
from tunesmith.methods.full import apply_full
from tunesmith.methods.lora_method import apply_lora
from tunesmith.models.load import load_model
from tunesmith.recipe.adapter_config import CONFIG_FILE
from tunesmith.recipe.method import LoraMethod
from tunesmith.training import checkpoint
from tunesmith.training.checkpoint import Progress, list_checkpoints, load_newest, save_checkpoint
from tunesmith.training.rehearsal import Room, rehearse_saving

TOKENS = torch.arange(24).view(2, 12)


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS, use_cache=False).logits.float()


def make_base(folder: Path, **changes: Any) -> Path:
    make_tokenizer(folder)
    make_llama(vocab_size=len(load_tokenizer(folder)), **changes).save_pretrained(folder)
    return folder


def make_adapter(folder: Path, base: Path, **method: Any) -> Any:
    """Save an adapter with random factors, and return the model that has it."""
    model = load_model(base, "fp32")
    applied = apply_lora(model, LoraMethod(**{"rank": 8, **method}), seed=0)
    randomize_adapters(model)
    applied.publish()
    applied.save(folder, base=str(base))
    return model


def test_b086_a_merge_in_fp32_differs_by_rounding_only_and_in_bf16_says_by_how_much(
    tmp_path: Path,
) -> None:
    base = make_base(tmp_path / "base")
    generation = {"eos_token_id": 2, "temperature": 0.7, "do_sample": True}
    (base / "generation_config.json").write_text(json.dumps(generation))
    adapted = make_adapter(tmp_path / "adapter", base)
    record = merge(str(tmp_path / "adapter"), tmp_path / "fp32")
    check = record["check"]
    assert check["max_abs_diff"] < 1e-4
    assert check["same_greedy_tokens"] is True
    assert check["compared_tokens"] == 5 * (8 + 32)
    merged = load_model(tmp_path / "fp32", "fp32")
    assert (logits_of(merged) - logits_of(adapted)).abs().max() < 1e-4
    rounded = merge(str(tmp_path / "adapter"), tmp_path / "bf16", dtype="bf16")["check"]
    assert rounded["max_abs_diff"] > 10 * check["max_abs_diff"]
    assert 0 <= rounded["top1_agreement"] <= 1
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (tmp_path / "fp32" / name).read_bytes() == (base / name).read_bytes()
    given, written = (
        json.loads((f / "config.json").read_text()) for f in (base, tmp_path / "bf16")
    )
    assert written == {**given, "dtype": "bfloat16"}


SUBSETS = [
    names
    for size in (1, 2, 3)
    for names in itertools.combinations(("q_proj", "k_proj", "v_proj"), size)
]


@pytest.mark.parametrize("targets", [*SUBSETS, "attention", "mlp", "all-linear"], ids=str)
def test_b088_every_choice_of_modules_merges(tmp_path: Path, targets: Any) -> None:
    base = make_base(tmp_path / "base")
    adapted = make_adapter(tmp_path / "adapter", base, targets=targets)
    merge(str(tmp_path / "adapter"), tmp_path / "merged")
    merged = load_model(tmp_path / "merged", "fp32")
    assert (logits_of(merged) - logits_of(adapted)).abs().max() < 1e-4


def test_b088_a_save_and_a_merge_are_tried_before_the_first_step(tmp_path: Path) -> None:
    applied = apply_lora(make_llama(), LoraMethod(targets=("up_proj", "o_proj")), seed=0)
    saved: list[Path] = []
    room = Room(checkpoint=1, final=1, kept_checkpoints=1)

    def save(folder: Path) -> None:
        applied.save(folder, base="b")
        saved.append(folder)

    assert rehearse_saving(tmp_path, applied, room, save) is None
    assert len(saved) == 1
    assert not saved[0].exists()


def add_to_config(folder: Path, **values: Any) -> None:
    file = folder / CONFIG_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_b089_settings_of_another_version_are_passed_over_where_they_do_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = make_base(tmp_path / "base")
    adapted = make_adapter(tmp_path / "adapter", base)
    add_to_config(tmp_path / "adapter", eva_config=None, lora_bias=False, enable_lora=None)
    model = load_model(base, "fp32")
    with caplog.at_level(logging.WARNING):
        load_adapter(model, tmp_path / "adapter")
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "enable_lora" in warning
    assert logits_of(model).equal(logits_of(adapted))


def test_b089_a_setting_that_does_something_unknown_is_named_with_both_versions(
    tmp_path: Path,
) -> None:
    base = make_base(tmp_path / "base")
    make_adapter(tmp_path / "adapter", base)
    add_to_config(tmp_path / "adapter", future_scale=0.5, peft_version="0.99.0")
    with pytest.raises(ModelError, match="future_scale") as caught:
        load_adapter(load_model(base, "fp32"), tmp_path / "adapter")
    assert "0.99.0" in str(caught.value)
    assert peft.__version__ in str(caught.value)


def test_b091_names_that_do_not_match_are_counted_and_listed(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    make_adapter(tmp_path / "adapter", base)
    file = tmp_path / "adapter" / WEIGHTS_FILE
    whole = safetensors.torch.load_file(file)
    wrong = {f"wrong.{name}": value for name, value in whole.items()}
    safetensors.torch.save_file(wrong, file)
    targets = [name.removesuffix(".lora_A.weight") for name in wrong if "lora_A" in name]
    add_to_config(tmp_path / "adapter", target_modules=targets)
    with pytest.raises(ModelError, match="matched 0 of 14") as caught:
        load_adapter(load_model(base, "fp32"), tmp_path / "adapter")
    assert str(caught.value).count("wrong.base_model.model") == 5
    lacking = [name for name in whole if "layers.1.mlp.up_proj" not in name]
    safetensors.torch.save_file({name: whole[name] for name in lacking}, file)
    add_to_config(tmp_path / "adapter", target_modules=["q_proj", "k_proj", "v_proj", "o_proj",
        "gate_proj", "up_proj", "down_proj"])  # fmt: skip
    with pytest.raises(ModelError, match=r"matched 13 of 14.*layers\.1\.mlp\.up_proj"):
        load_adapter(load_model(base, "fp32"), tmp_path / "adapter")


def test_b091_an_adapter_may_have_been_called_lora(tmp_path: Path) -> None:
    config = peft.LoraConfig(r=4, target_modules=["q_proj"])
    theirs = peft.get_peft_model(make_llama(), config, adapter_name="named")
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    theirs.save_pretrained(tmp_path)
    model = make_llama()
    with pytest.raises(ModelError, match="found named"):
        load_adapter(model, tmp_path)
    load_adapter(model, tmp_path / "named")
    torch.testing.assert_close(logits_of(model), logits_of(theirs), atol=1e-5, rtol=1e-5)


IN_ONE_CALL = """
import sys
import safetensors.torch, torch
from peft import AutoPeftModelForCausalLM
tokens = torch.arange(24).view(2, 12)
for folder in sys.argv[1:]:
    model = AutoPeftModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        logits = model(input_ids=tokens, use_cache=False).logits
    safetensors.torch.save_file({"logits": logits}, folder + "/logits.safetensors")
"""


def test_b092_every_objectives_adapter_opens_in_one_call_of_the_usual_library(
    tmp_path: Path,
) -> None:
    make_llama().save_pretrained(tmp_path / "base")
    wanted: dict[str, torch.Tensor] = {}
    for name in OBJECTIVES:
        _, applied, model = step(name, [list(range(8 if name == "kto" else 4))])
        applied.save(tmp_path / name, base=str(tmp_path / "base"))
        wanted[str(tmp_path / name)] = logits_of(model)
        config = json.loads((tmp_path / name / CONFIG_FILE).read_text())
        assert Path(config["base_model_name_or_path"]).is_dir()
        assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 8)
    subprocess.run([sys.executable, "-c", IN_ONE_CALL, *wanted], check=True, capture_output=True)
    for folder, logits in wanted.items():
        opened = safetensors.torch.load_file(f"{folder}/logits.safetensors")["logits"]
        torch.testing.assert_close(opened, logits, atol=1e-5, rtol=0)


def test_b094_a_tied_model_is_saved_once_and_tied_again(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    size = (base / "model.safetensors").stat().st_size
    whole = load_model(base, "fp32")
    apply_full(whole).save(tmp_path / "full", base=str(base))
    adapted = make_adapter(tmp_path / "adapter", base)
    merge(str(tmp_path / "adapter"), tmp_path / "merged")
    make_tokenizer(tmp_path / "full")
    for name, wanted in (("full", whole), ("merged", adapted)):
        assert (tmp_path / name / "model.safetensors").stat().st_size <= 1.01 * size
        again: Any = load_model(tmp_path / name, "fp32")
        assert again.lm_head.weight is again.model.embed_tokens.weight
        torch.testing.assert_close(logits_of(again), logits_of(wanted), atol=1e-4, rtol=1e-4)


def test_b095_an_untied_model_keeps_both_matrices(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", tie_word_embeddings=False)
    adapted = make_adapter(tmp_path / "adapter", base)
    merge(str(tmp_path / "adapter"), tmp_path / "merged")
    whole = load_model(base, "fp32")
    apply_full(whole).save(tmp_path / "full", base=str(base))
    make_tokenizer(tmp_path / "full")
    for name, wanted in (("merged", adapted), ("full", whole)):
        held = safetensors.torch.load_file(tmp_path / name / "model.safetensors")
        assert {"lm_head.weight", "model.embed_tokens.weight"} <= held.keys()
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert config["tie_word_embeddings"] is False
        again = load_model(tmp_path / name, "fp32")
        torch.testing.assert_close(logits_of(again), logits_of(wanted), atol=1e-4, rtol=1e-4)


def test_b103_a_disk_that_fills_up_while_saving_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied = apply_lora(make_llama(), LoraMethod(rank=4), seed=0)
    optimizer = torch.optim.AdamW(applied.trainable.values())
    save_checkpoint(tmp_path, Progress(step=1), applied.trainable, optimizer)
    real = safetensors.torch.save_file
    written: list[Path] = []

    def until_full(tensors: Any, file: Path, **settings: Any) -> None:
        if written:  # the second of its files does not fit
            file.write_bytes(b"half")
            raise safetensors.SafetensorError("No space left on device (os error 28)")
        written.append(file)
        real(tensors, file, **settings)

    monkeypatch.setattr(checkpoint.safetensors.torch, "save_file", until_full)
    with pytest.raises(RunError, match=r"no space.*bytes are free") as caught:
        save_checkpoint(tmp_path, Progress(step=2), applied.trainable, optimizer)
    assert (caught.value.code, caught.value.exit_code) == ("no_space", 3)
    assert str(tmp_path) in caught.value.faults[0].where
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
    progress = load_newest(tmp_path, applied.trainable, optimizer)
    assert progress is not None
    assert progress.step == 1
    assert len(list_checkpoints(tmp_path)) == 1


def test_b103_room_that_is_short_is_told_before_training_with_both_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.training import rehearsal

    room = Room(checkpoint=1_000_000, final=100_000, kept_checkpoints=2)
    monkeypatch.setattr(rehearsal, "free_disk_bytes", lambda _: 1_600_000)
    applied = apply_lora(make_llama(), LoraMethod(rank=4), seed=0)
    warning = rehearse_saving(tmp_path, applied, room, lambda _: None)
    assert warning is not None
    assert "3,100,000 bytes" in warning
    assert "1,600,000 are free" in warning


def test_b103_a_disk_that_fills_up_while_merging_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_base(tmp_path / "base")
    make_adapter(tmp_path / "adapter", base)

    def fails(_: object, folder: Path) -> Any:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(merged_module, "write_merged", fails)
    with pytest.raises(RunError, match="no space") as caught:
        merge(str(tmp_path / "adapter"), tmp_path / "out" / "merged")
    assert caught.value.code == "no_space"
    assert list((tmp_path / "out").iterdir()) == []


def test_b107_the_older_weight_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    make_adapter(tmp_path / "adapter", base)
    assert load(str(tmp_path / "adapter")).base == str(base)
    (tmp_path / "adapter" / WEIGHTS_FILE).rename(tmp_path / "adapter" / "adapter_model.bin")
    for act in (load, lambda what: merge(what, tmp_path / "merged")):
        with pytest.raises(ModelError, match=r"weight file adapter_model\.bin") as caught:
            act(str(tmp_path / "adapter"))
        assert "save_pretrained" in caught.value.faults[0].fix
