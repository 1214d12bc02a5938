"""What holds for a head on every architecture: same numbers as transformers and PEFT have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import Tensor

from tests.fakes.architectures import DECODERS, ENCODERS, save_decoder, save_encoder
from tunesmith.core.errors import ModelError, RunError
from tunesmith.data.collate import Batch, to_batch
from tunesmith.data.example import Example
from tunesmith.data.tokenizer import load_tokenizer
from tunesmith.export import merged_headed
from tunesmith.export.merged import merge
from tunesmith.inference.loading import load
from tunesmith.methods.attach import load_adapter
from tunesmith.methods.headed_method import apply_headed
from tunesmith.methods.merge import MergeDtype
from tunesmith.methods.switching import adapters_off
from tunesmith.models.head_file import write_head
from tunesmith.models.headed import Head, HeadedModel, load_headed
from tunesmith.recipe.load import load_recipe
from tunesmith.recipe.model import ModelPart
from tunesmith.recipe.recipe import Recipe
from tunesmith.training.complete import require_complete
from tunesmith.training.head_objective import HeadObjective
from tunesmith.training.loss import LanguageModel
from tunesmith.training.optimizer import make_optimizer
from tunesmith.training.step import train_step

PAD = 2
HEADS = {
    "classes": Head("classes", ("a", "b", "c")),
    "several": Head("classes", ("a", "b", "c"), several=True),
    "tags": Head("tags", ("O", "B-X", "I-X")),
    "span": Head("span", ("start", "end")),
}
CLASSES: dict[str, Any] = {
    "classes": transformers.AutoModelForSequenceClassification,
    "tags": transformers.AutoModelForTokenClassification,
    "span": transformers.AutoModelForQuestionAnswering,
}
# transformers has no class for these
ABSENT = {
    ("olmoe", "classes"), ("olmoe", "tags"), ("gemma3", "tags"),
    *((name, "span") for name in ("olmoe", "phi3", "phi4-mini", "gemma2", "gemma3")),
}  # fmt: skip
METHODS = ("lora", "dora", "full", "ia3", "vera", "rslora")
CELLS = [
    (name, what, METHODS[(row + column) % len(METHODS)])
    for row, name in enumerate([*DECODERS, *ENCODERS])
    for column, (what, head) in enumerate(HEADS.items())
    if (name, head.kind) not in ABSENT
]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder_of(name: str) -> Path:
        if name not in made:
            save = save_decoder if name in DECODERS else save_encoder
            made[name] = save(tmp_path_factory.mktemp(name), name)
        return made[name]

    return folder_of


def rows(head: Head) -> list[Example]:
    """Rows of different lengths, which begin alike."""
    generator = torch.Generator().manual_seed(0)
    return [example(head, 9 + 3 * number, generator) for number in range(4)]


def example(head: Head, length: int, generator: torch.Generator) -> Example:
    tokens = torch.randint(3, 200, (length,), generator=generator).numpy()
    tokens[:8] = range(20, 28)
    last = length - 1
    match head.kind:
        case "classes" if head.several:
            marks = [(last, "a"), (last, "c")] if length % 2 else [(last, "")]
        case "classes":
            marks = [(last, head.labels[length % 3])]
        case "tags":
            marks = [(place, head.labels[place % 3]) for place in range(1, length, 2)]
        case "span":
            context = [(place, "") for place in (0, *range(5, length))]
            said = [(6, "start"), (7, "end")] if length % 2 else [(0, "none")]
            marks = sorted([*context, *said])
    weights = torch.zeros(length)
    weights[[place for place, _ in marks]] = 1.0
    return Example(
        row_id=f"r:{length}", file="r", line=length,
        tokens=tokens.astype("int32"), weights=weights.numpy(),
        places=torch.tensor([place for place, _ in marks]).numpy().astype("int32"),
        labels=tuple(label for _, label in marks),
    )  # fmt: skip


def load_it(folder: Path, head: Head, **part: Any) -> HeadedModel:
    return load_headed(
        folder, ModelPart(source=str(folder), dtype="fp32", **part), head, seed=0, pad_id=PAD
    )


def recipe_of(method: str) -> Recipe:
    values = {"type": method} if method in ("full", "ia3", "vera") else {"type": method, "rank": 4}
    given: Any = {"model": "m", "task": "classification", "data": {"train": "r"}, "method": values}
    return load_recipe(given).recipe


def logits(headed: HeadedModel, batch: Batch) -> Tensor:
    with torch.no_grad():
        return headed.logits(batch.tokens_BT, batch.lengths_B, batch.weights_BT > 0)


def theirs(model: Any, head: Head, batch: Batch) -> Tensor:
    """The same numbers by a model of transformers', on the padded batch."""
    real_BT = torch.arange(batch.tokens_BT.shape[1])[None] < batch.lengths_B[:, None]
    with torch.no_grad():
        output = model(input_ids=batch.tokens_BT, attention_mask=real_BT.long())
    if head.kind == "classes":
        return output.logits
    asked_BT = batch.weights_BT > 0
    if head.kind == "tags":
        return output.logits[asked_BT]
    return torch.stack([output.start_logits, output.end_logits], -1)[asked_BT]


def train(headed: HeadedModel, method: Any, recipe: Recipe, batches: list[list[Example]]) -> None:
    objective = HeadObjective(headed)
    optimizer = make_optimizer(
        method.trainable, recipe.training, learning_rate=0.01, rate_factors=method.rate_factors
    )
    for _ in range(2):
        train_step(
            LanguageModel(decoder=headed.model, head=headed.last_layer),
            method,
            optimizer,
            [to_batch(rows, PAD) for rows in batches],
            learning_rate=0.01,
            max_gradient_norm=1.0,
            objective=objective,
        )


def as_transformers_loads(folder: Path, final: Path, head: Head, method: str) -> Any:
    names = {"key_mapping": {r"^model\.": "transformer."}}
    kind = CLASSES[head.kind]
    own = kind._model_mapping[type(transformers.AutoConfig.from_pretrained(folder))]
    given: dict[str, Any] = names if own.base_model_prefix == "transformer" else {}
    if method == "full":
        return kind.from_pretrained(final).eval()
    given = {**given, "num_labels": len(head.labels), "pad_token_id": PAD}
    base = kind.from_pretrained(folder, **given)
    return peft.PeftModel.from_pretrained(base, str(final)).eval()


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
@pytest.mark.parametrize(("name", "what", "method"), CELLS)
def test_a_head_is_trained_saved_and_loaded_with_equal_numbers(
    folder_of: Callable[[str], Path], tmp_path: Path, name: str, what: str, method: str
) -> None:
    head, folder = HEADS[what], folder_of(name)
    recipe = recipe_of(method)
    examples = rows(head)
    batch = to_batch(examples, PAD)
    headed = load_it(folder, head)
    before = logits(headed, batch)
    torch.testing.assert_close(before, theirs(headed.model, head, batch))
    applied = apply_headed(headed, recipe.method, seed=0)
    torch.testing.assert_close(logits(headed, batch), before)
    head_parameters = [
        parameter
        for path in headed.new
        for parameter in headed.model.get_submodule(path).parameters()
    ]
    assert head_parameters
    assert all(any(path in each for each in applied.trainable) for path in headed.new)
    train(headed, applied, recipe, [examples])
    after = logits(headed, batch)
    assert not torch.allclose(after, before, atol=1e-4)
    if method != "full":
        with adapters_off(headed.model):
            torch.testing.assert_close(logits(headed, batch), before)
    applied.save(tmp_path, base=str(folder))
    require_complete(tmp_path, applied.saved_shapes())
    loaded = as_transformers_loads(folder, tmp_path, head, method)
    torch.testing.assert_close(theirs(loaded, head, batch), after, rtol=1e-4, atol=1e-5)
    again = load_it(tmp_path if method == "full" else folder, head)
    if method != "full":
        load_adapter(again.model, tmp_path)
    torch.testing.assert_close(logits(again, batch), after)


@pytest.mark.parametrize("what", HEADS)
@pytest.mark.parametrize("name", ["smollm2", "gpt2", "bert"])
def test_a_step_is_the_same_in_one_batch_and_in_several(
    folder_of: Callable[[str], Path], name: str, what: str
) -> None:
    head = HEADS[what]
    examples = rows(head)
    headed = load_it(folder_of(name), head)
    apply_headed(headed, recipe_of("full").method, seed=0)
    scored = LanguageModel(decoder=headed.model, head=headed.last_layer)
    results: list[dict[str, Tensor]] = []
    for batches in ([examples], [[one] for one in examples]):
        made = [to_batch(rows, PAD) for rows in batches]
        step = HeadObjective(headed).begin_step(scored, made)
        for batch in made:
            (step.summed(batch) / step.denominator).backward()
        results.append(
            {
                key: parameter.grad.clone()
                for key, parameter in headed.model.named_parameters()
                if parameter.grad is not None
            }
        )
        headed.model.zero_grad()
    assert len(results[0]) > 10
    for key, value in results[0].items():
        torch.testing.assert_close(value, results[1][key], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("base", ["int8", "nf4"])
def test_a_head_on_a_quantised_base_is_kept_whole(
    folder_of: Callable[[str], Path], base: str
) -> None:
    head = HEADS["classes"]
    headed = load_it(folder_of("llama"), head, base=base)
    assert type(headed.last_layer) is torch.nn.Linear
    applied = apply_headed(headed, recipe_of("lora").method, seed=0)
    assert applied.trainable["score.weight"].dtype == torch.float32
    train(headed, applied, recipe_of("lora"), [rows(head)])


def test_an_architecture_without_such_a_class_is_refused(
    folder_of: Callable[[str], Path],
) -> None:
    with pytest.raises(ModelError, match="no QuestionAnswering of the architecture phi3"):
        load_it(folder_of("phi3"), HEADS["span"])


def test_a_new_head_starts_from_the_seed(folder_of: Callable[[str], Path]) -> None:
    first, second = (load_it(folder_of("llama"), HEADS["classes"]) for _ in range(2))
    assert first.last_layer.weight.equal(second.last_layer.weight)
    part = ModelPart(source="m", dtype="fp32")
    other = load_headed(folder_of("llama"), part, HEADS["classes"], seed=1)
    assert not first.last_layer.weight.equal(other.last_layer.weight)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
@pytest.mark.parametrize(
    ("name", "what", "method", "dtype"),
    [
        ("llama", "classes", "lora", "original"), ("llama", "span", "dora", "fp32"),
        ("gpt2", "tags", "lora", "original"), ("gpt2", "span", "dora", "bf16"),
        ("qwen3", "tags", "ia3", "bf16"), ("bert", "several", "rslora", "original"),
        ("bert", "span", "ia3", "fp32"), ("modernbert", "tags", "dora", "original"),
    ],
)  # fmt: skip
def test_merged_with_its_base_a_head_is_transformers_own_model_with_equal_numbers(
    folder_of: Callable[[str], Path],
    tmp_path: Path,
    name: str,
    what: str,
    method: str,
    dtype: MergeDtype,
) -> None:
    head, folder, recipe = HEADS[what], folder_of(name), recipe_of(method)
    examples = rows(head)
    batch = to_batch(examples, PAD)
    headed = load_it(folder, head)
    applied = apply_headed(headed, recipe.method, seed=0)
    train(headed, applied, recipe, [examples])
    applied.save(tmp_path / "adapter", base=str(folder))
    write_head(tmp_path / "adapter", head)
    record = merge(str(tmp_path / "adapter"), tmp_path / "merged", dtype=dtype)
    assert record["check"]["is_within_tolerance"]
    assert record["head"]["labels"] == head.labels
    tolerance = 0.05 * float(logits(headed, batch).abs().max()) if dtype == "bf16" else 1e-4
    loaded = CLASSES[head.kind].from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    wanted = logits(headed, batch)
    torch.testing.assert_close(theirs(loaded, head, batch), wanted, rtol=0, atol=tolerance)
    if head.kind != "span":
        assert tuple(loaded.config.id2label.values()) == head.labels
    again = load(str(tmp_path / "merged")).headed
    assert again is not None
    assert (again.new, again.head) == ((), head)
    assert load_tokenizer(tmp_path / "merged").get_vocab() == load_tokenizer(folder).get_vocab()


def test_a_head_that_does_not_agree_after_merging_is_no_model(
    folder_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, folder = HEADS["classes"], folder_of("llama")
    headed = load_it(folder, head)
    applied = apply_headed(headed, recipe_of("lora").method, seed=0)
    train(headed, applied, recipe_of("lora"), [rows(head)])
    applied.save(tmp_path / "adapter", base=str(folder))
    write_head(tmp_path / "adapter", head)
    monkeypatch.setattr(merged_headed, "merge_into", lambda *_: [])
    with pytest.raises(RunError, match="the result differs"):
        merge(str(tmp_path / "adapter"), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
