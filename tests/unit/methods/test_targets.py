"""Which layers the words of a recipe choose in every architecture, and what is said to others."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.fakes.architectures import (
    DECODERS,
    ENCODERS,
    make_classifier,
    make_decoder,
    make_tagger,
)
from tunesmith.core.errors import RecipeError
from tunesmith.methods.base import count_trainable
from tunesmith.methods.full import apply_full
from tunesmith.methods.lora_method import apply_lora
from tunesmith.methods.targets import find_targets
from tunesmith.methods.trained import TrainedKind, describe_trained, trained_kinds
from tunesmith.models.linear import in_features, out_features
from tunesmith.recipe.method import LoraMethod

PHI_3_MINI = {
    "vocab_size": 32064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "pad_token_id": 32000,
}
ATTENTION = {
    "gpt2": ("c_attn", "c_proj"),
    "phi3": ("o_proj", "qkv_proj"),
    "phi4-mini": ("o_proj", "qkv_proj"),
    "bert": ("query", "key", "value", "dense"),
    "deberta-v2": ("query_proj", "key_proj", "value_proj", "dense"),
    "modernbert": ("Wqkv", "Wo"),
}


def last_names(targets: dict[str, Any], layer: int = 0) -> tuple[str, ...]:
    return tuple(path.rsplit(".", 1)[1] for path in targets if f".{layer}." in path)


def make_any(name: str) -> Any:
    return make_decoder(name) if name in DECODERS else make_classifier(name)


@pytest.mark.parametrize("name", [*DECODERS, *ENCODERS])
def test_the_words_choose_the_layers_of_the_stack_and_nothing_else(name: str) -> None:
    model = make_any(name)
    every = (DECODERS | ENCODERS)[name].linears
    attention = ATTENTION.get(name, ("q_proj", "k_proj", "v_proj", "o_proj"))
    for layer in (0, 1):
        assert last_names(find_targets(model, "all-linear"), layer) == every
        assert last_names(find_targets(model, "attention"), layer) == attention
    assert len(find_targets(model, "all-linear")) == 2 * len(every)
    if len(every) > len(attention):
        rest = every[len(attention) :]
        assert last_names(find_targets(model, "mlp")) == rest
        assert len(find_targets(model, "mlp")) == 2 * len(rest)


@pytest.mark.parametrize("make", [make_classifier, make_tagger])
@pytest.mark.parametrize("name", ENCODERS)
def test_no_word_chooses_a_classifier_or_a_pooler(name: str, make: Any) -> None:
    targets = find_targets(make(name), ["all-linear", "attention", "mlp"])
    assert not any("pooler" in path or "classifier" in path or "head" in path for path in targets)


@pytest.mark.parametrize("name", [name for name in DECODERS if DECODERS[name].has_experts])
@pytest.mark.parametrize("word", ["mlp", "gate_proj", "experts.gate_up_proj", "down_proj"])
def test_experts_in_one_parameter_are_refused_with_the_reason(name: str, word: str) -> None:
    with pytest.raises(RecipeError, match=r"experts, kept as parameters of three dimensions"):
        find_targets(make_decoder(name), word)


@pytest.mark.parametrize("name", [name for name in DECODERS if DECODERS[name].has_experts])
def test_a_router_is_never_a_target(name: str) -> None:
    model = make_decoder(name)
    assert not any("gate" in path for path in find_targets(model, "all-linear"))
    with pytest.raises(RecipeError, match="router of experts"):
        find_targets(model, ["q_proj", "gate"])


class Routed(torch.nn.Module):
    """A block of experts as older architectures have it: linear layers, and a linear router."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = torch.nn.Linear(8, 2)
        self.experts = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(2))


def test_a_linear_router_is_chosen_by_its_name_only() -> None:
    model = torch.nn.ModuleDict({"mlp": Routed()})
    assert list(find_targets(model, "all-linear")) == ["mlp.experts.0", "mlp.experts.1"]
    assert list(find_targets(model, "mlp")) == ["mlp.experts.0", "mlp.experts.1"]
    assert list(find_targets(model, "gate")) == ["mlp.gate"]


def test_names_patterns_and_expressions_choose_by_path() -> None:
    model = make_decoder("llama")

    def chosen(*words: str, exclude: tuple[str, ...] = ()) -> list[str]:
        return [p.removeprefix("model.layers.") for p in find_targets(model, words, exclude)]

    assert chosen("q_proj") == ["0.self_attn.q_proj", "1.self_attn.q_proj"]
    assert chosen("layers.1.mlp.up_proj") == ["1.mlp.up_proj"]
    assert chosen("layers.*.self_attn.[qk]_proj") == [
        f"{layer}.self_attn.{name}_proj" for layer in (0, 1) for name in "qk"
    ]
    assert chosen("mlp.*") == [
        f"{layer}.mlp.{name}_proj" for layer in (0, 1) for name in ("gate", "up", "down")
    ]
    assert chosen(r"re:model\.layers\.1\..*\.(o|down)_proj") == [
        "1.self_attn.o_proj",
        "1.mlp.down_proj",
    ]
    assert chosen("attention", "lm_head", exclude=("layers.0.*",))[-2:] == [
        "1.self_attn.o_proj",
        "lm_head",
    ]
    assert len(chosen("all-linear", exclude=("attention",))) == 6


def test_a_name_never_matches_inside_another() -> None:
    with pytest.raises(RecipeError, match=r"did you mean v_proj\?"):
        find_targets(make_decoder("llama"), "_proj")


def test_every_name_of_a_list_must_match() -> None:
    with pytest.raises(RecipeError) as caught:
        find_targets(make_decoder("qwen3"), ["q_proj", "vproj", "re:nothing"])
    assert [fault.found.split(" ")[0] for fault in caught.value.faults] == [
        "'vproj'",
        "'re:nothing'",
    ]
    assert "2 x q_proj [64, 32]" in caught.value.faults[0].fix


@pytest.mark.parametrize(
    ("name", "words", "fix"),
    [
        ("phi3", ["q_proj", "v_proj"], "[qkv_proj]"),
        ("phi3", ["o_proj", "gate_proj", "up_proj"], "[o_proj, gate_up_proj]"),
        (
            "phi4-mini",
            ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            "[qkv_proj, o_proj, gate_up_proj, down_proj]",
        ),
        (
            "gpt2",
            ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"],
            "[c_attn, attn.c_proj, c_fc, mlp.c_proj]",
        ),
        ("llama", ["qkv_proj", "gate_up_proj"], "[q_proj, k_proj, v_proj, gate_proj, up_proj]"),
        ("llama", ["c_attn"], "[q_proj, k_proj, v_proj]"),
        ("bert", ["q_proj", "o_proj"], "[query, attention.output.dense]"),
        (
            "modernbert",
            ["q_proj", "o_proj", "gate_proj", "down_proj"],
            "[Wqkv, attn.Wo, mlp.Wi, mlp.Wo]",
        ),
    ],
)
def test_a_recipe_with_another_models_names_is_told_what_to_write(
    name: str, words: list[str], fix: str
) -> None:
    model = make_any(name)
    with pytest.raises(RecipeError) as caught:
        find_targets(model, words)
    (fault,) = caught.value.faults
    assert fault.fix.startswith(f"write method.targets: {fix}, or all-linear")
    assert find_targets(model, fix[1:-1].split(", "))


@pytest.mark.parametrize(
    ("name", "word", "reason"),
    [
        ("llama", "embed_tokens", "is an embedding"),
        ("llama", "input_layernorm", "is no linear layer"),
        ("llama", "mlp.act_fn", "is no linear layer"),
        ("llama", "self_attn", r"is a block .*\*.self_attn.q_proj"),
        ("smollm2", "lm_head", "lm_head is tied"),
        ("smollm2", "*", "lm_head is tied"),
        ("llama", "re:(", "is no regular expression"),
        ("llama", "*.9.*", "matches none of the model's 15 linear layers"),
    ],
)
def test_a_target_that_no_adapter_fits_is_refused_with_the_reason(
    name: str, word: str, reason: str
) -> None:
    with pytest.raises(RecipeError, match=f"(?s){reason}"):
        find_targets(make_decoder(name), word)


def test_an_exclusion_that_leaves_nothing_out_or_everything_is_an_error() -> None:
    model = make_decoder("llama")
    with pytest.raises(RecipeError, match="leaves nothing out"):
        find_targets(model, "attention", ["down_proj"])
    with pytest.raises(RecipeError, match="nothing is left"):
        find_targets(model, "attention", ["all-linear"])


@pytest.mark.parametrize("name", [*DECODERS, *ENCODERS])
@pytest.mark.parametrize("type", ["lora", "dora"])
def test_the_trainable_count_is_the_closed_form_in_every_architecture(name: str, type: Any) -> None:
    model = make_any(name)
    linears = find_targets(model, "all-linear").values()
    lengths = sum(out_features(linear) for linear in linears) if type == "dora" else 0
    expected = sum(4 * (in_features(linear) + out_features(linear)) for linear in linears) + lengths
    applied = apply_lora(model, LoraMethod(type=type, rank=4), seed=0)
    assert count_trainable(applied) == expected
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == expected


def test_phi_3_mini_trains_25_165_824_values_at_rank_16() -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("phi3", **PHI_3_MINI))
    applied = apply_lora(model, LoraMethod(rank=16), seed=0)
    assert len(applied.layers) == 128
    assert count_trainable(applied) == 25_165_824


@pytest.mark.parametrize("name", DECODERS)
def test_the_plan_shows_every_kind_of_module_and_its_values_add_up(name: str) -> None:
    model = make_decoder(name)
    applied = apply_lora(model, LoraMethod(type="dora", rank=4), seed=0)
    kinds = trained_kinds(applied)
    assert sum(kind.values for kind in kinds) == count_trainable(applied)
    assert [kind.modules for kind in kinds] == [2] * len(DECODERS[name].linears)
    has_experts = "values in experts stay as they are" in describe_trained(applied, model)
    assert has_experts == DECODERS[name].has_experts


def test_the_plan_names_modules_as_a_recipe_may() -> None:
    model = make_decoder("gpt2")
    applied = apply_lora(model, LoraMethod(rank=4, targets=("c_attn", "mlp.c_proj")), seed=0)
    assert describe_trained(applied, model) == "trained: 2 x c_attn (1,024), 2 x c_proj (1,280)"
    applied = apply_full(make_decoder("phi3"))
    assert [kind.name for kind in trained_kinds(applied)] == [
        "embed_tokens",
        "o_proj",
        "qkv_proj",
        "gate_up_proj",
        "down_proj",
        "input_layernorm",
        "post_attention_layernorm",
        "norm",
        "lm_head",
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector"),
        ("ia3_l",),
        ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
        ("vera_lambda_b", "vera_lambda_d"),
        ("weight", "bias"),
    ],
)
def test_the_parameters_of_a_module_are_one_kind(names: tuple[str, ...]) -> None:
    class Applied:
        trainable: ClassVar = {
            f"layers.{layer}.{module}.{name}": torch.nn.Parameter(torch.zeros(3))
            for layer in (0, 1)
            for module in ("q_proj", "v_proj")
            for name in names
        }

    found: Any = Applied()
    assert trained_kinds(found) == [
        TrainedKind(name=module, modules=2, values=6 * len(names))
        for module in ("q_proj", "v_proj")
    ]
