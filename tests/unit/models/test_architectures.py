"""Every decoder: what is loaded from its folder gives transformers' own logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes.architectures import (
    DECODERS,
    ENCODERS,
    make_classifier,
    make_decoder,
    make_tagger,
    save_decoder,
)
from tunesmith.core.errors import ModelError
from tunesmith.models.facts import read_facts
from tunesmith.models.hidden_states import hidden_states
from tunesmith.models.linear import is_linear
from tunesmith.models.load import backbone, load_model, logits_from, output_head

LENGTHS = torch.tensor([19, 11])  # past the 16 positions of Gemma 3's window
TOKENS = (torch.arange(38) * 7 % 271).view(2, 19)
TOLERANCE = {"fp32": 1e-5, "bf16": 0.1}


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_hidden_states_and_head_give_the_models_own_logits(
    tmp_path: Path, name: str, dtype: Any
) -> None:
    facts = read_facts(save_decoder(tmp_path, name))
    model: Any = load_model(tmp_path, dtype)
    asked = torch.arange(19)[None] < LENGTHS[:, None]
    with torch.no_grad():
        hidden = hidden_states(backbone(model), TOKENS, LENGTHS, asked)
        ours = logits_from(
            output_head(model)(hidden), scale=facts.logit_scale, softcap=facts.logit_softcap
        )
        theirs = model(input_ids=TOKENS, attention_mask=asked.long(), use_cache=False).logits
    bound = TOLERANCE[dtype] * float(theirs.abs().max())
    assert float((ours - theirs[asked]).abs().max()) <= bound


@pytest.mark.parametrize("name", DECODERS)
def test_a_folder_holds_what_was_saved(tmp_path: Path, name: str) -> None:
    made = make_decoder(name)
    loaded: Any = load_model(save_decoder(tmp_path, name), "fp32")
    with torch.no_grad():
        before, after = (model(input_ids=TOKENS).logits for model in (made, loaded))
    assert after.equal(before)
    assert (output_head(loaded).weight is loaded.get_input_embeddings().weight) == (
        DECODERS[name].is_tied
    )


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_no_model_that_writes_text(tmp_path: Path, name: str) -> None:
    make_classifier(name).save_pretrained(tmp_path)
    with pytest.raises(ModelError):
        load_model(tmp_path, "fp32")


@pytest.mark.parametrize("name", [*DECODERS, *ENCODERS])
def test_the_first_layer_has_the_linear_layers_that_the_table_lists(name: str) -> None:
    models = (
        [make_decoder(name)] if name in DECODERS else [make_classifier(name), make_tagger(name)]
    )
    for model in models:
        linears = [
            path.rsplit(".", 1)[1]
            for path, module in model.named_modules()
            if is_linear(module) and ".0." in path
        ]
        expected = (DECODERS | ENCODERS)[name].linears
        assert tuple(linears) == expected
