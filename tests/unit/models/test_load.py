from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.unit.models.tiny_models import FAMILIES, save_model
from tunesmith.core.errors import ModelError
from tunesmith.models import facts
from tunesmith.models.facts import read_facts
from tunesmith.models.load import backbone, load_model, logits_from, output_head

TOKENS_BT = torch.arange(3, 23).reshape(2, 10)


@pytest.mark.parametrize("family", FAMILIES)
def test_head_of_backbone_with_scale_and_cap_is_the_model(family: str, tmp_path: Path) -> None:
    save_model(tmp_path, family)
    model = load_model(tmp_path, "fp32")
    known = read_facts(tmp_path)
    with torch.inference_mode():
        hidden_BTD = backbone(model)(input_ids=TOKENS_BT).last_hidden_state
        found_BTV = logits_from(
            output_head(model)(hidden_BTD), scale=known.logit_scale, softcap=known.logit_softcap
        )
        expected_BTV = model(input_ids=TOKENS_BT).logits
    torch.testing.assert_close(found_BTV, expected_BTV, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", ["gemma2", "granite", "cohere"])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_logits_made_in_an_unknown_way_are_refused(
    family: str,
    dtype: Literal["bf16", "fp32"],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save_model(tmp_path, family)
    load_model(tmp_path, dtype)
    monkeypatch.setattr(facts, "MULTIPLIED_BY", {})
    monkeypatch.setattr(facts, "DIVIDED_BY", {})
    monkeypatch.setattr(facts, "CAP_NAMES", ())
    with pytest.raises(ModelError, match="in a way that is not known here"):
        load_model(tmp_path, dtype)


@pytest.mark.parametrize(("dtype", "expected"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_a_loaded_model_is_frozen_evaluating_and_of_one_dtype(
    dtype: Literal["bf16", "fp32"], expected: torch.dtype, tmp_path: Path
) -> None:
    save_model(tmp_path)
    model = load_model(tmp_path, dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {expected}
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())


def test_missing_tensors_are_an_error_and_never_random(tmp_path: Path) -> None:
    save_model(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"lack 1 of the model's tensors.*layers\.1\.mlp\.up_proj"):
        load_model(tmp_path, "fp32")


def test_tensors_of_another_shape_are_an_error(tmp_path: Path) -> None:
    save_model(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.norm.weight"] = torch.ones(33)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError):
        load_model(tmp_path, "fp32")


def test_loading_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_model(tmp_path)
    capfd.readouterr()
    load_model(tmp_path, "bf16")
    assert capfd.readouterr() == ("", "")
