"""A whole prediction in this process, with a tiny model of which no training is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tiny import make_tokenizer
from tests.fakes.tiny_llama import make_llama
from tests.fakes.tiny_run import make_model_folder
from tunesmith import predict as predict_module
from tunesmith.core.errors import DataError, UserError
from tunesmith.data.tokenizer import load_tokenizer
from tunesmith.inference import precision
from tunesmith.inference.answers_header import weights_sha256
from tunesmith.inference.predict_request import PredictRequest
from tunesmith.models import load as load_module
from tunesmith.predict import Predicted, predict


@pytest.fixture(name="model", scope="module")
def model_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("model") / "model")


class Case:
    """A folder with rows, and what came of them."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.what = str(model)
        self.rows = folder / "rows.jsonl"
        self.answers = folder / "answers.jsonl"
        self.told: list[dict[str, Any]] = []

    def write(self, *rows: object) -> None:
        text = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        self.rows.write_text("".join(f"{line}\n" for line in text))

    def predict(self, **words: Any) -> Predicted:
        words = {"max_new_tokens": 5, "batch_tokens": 100, **words}
        request = PredictRequest(
            what=words.pop("what", self.what),
            input=str(self.rows), output=str(self.answers), **words,
        )  # fmt: skip
        return predict(request, tell=self.told.append)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.answers.read_text().splitlines()]


@pytest.fixture(name="case")
def case_fixture(model: Path, tmp_path: Path) -> Case:
    case = Case(model, tmp_path)
    case.write(*[{"prompt": f"question {n} " + "word " * (n % 5)} for n in range(30)])
    return case


def no_model(*_: object) -> None:
    raise AssertionError("the model is loaded")


def test_every_row_is_answered_in_its_place(case: Case) -> None:
    predicted = case.predict()
    assert (predicted.rows, predicted.rows_before, predicted.refused) == (30, 0, 0)
    assert [line["row_id"] for line in case.lines()] == [f"rows.jsonl:{n + 1}" for n in range(30)]
    cut = sum(line["finish_reason"] == "length" for line in case.lines())
    assert predicted.cut == cut
    assert case.told[-1]["predicted"]["rows"] == 30


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_do_not_depend_on_batches_nor_on_being_stopped(
    case: Case, temperature: float
) -> None:
    case.predict(temperature=temperature, seed=5)
    whole = case.answers.read_bytes()
    case.predict(temperature=temperature, seed=5, batch_tokens=1, existing="overwrite")
    assert case.answers.read_bytes() == whole
    case.answers.write_bytes(whole[: len(whole) // 2])
    predicted = case.predict(temperature=temperature, seed=5, batch_tokens=40, existing="resume")
    assert 0 < predicted.rows_before < 30
    assert case.answers.read_bytes() == whole


def test_what_is_computed_in_is_known_and_kept_to(case: Case) -> None:
    case.predict(dtype="bf16")
    header = json.loads((case.answers.parent / "answers.jsonl.header.json").read_text())
    assert header["dtype"] == "bf16"
    with pytest.raises(UserError, match='dtype was "bf16" and is "fp32"'):
        case.predict(existing="resume")


def test_without_room_for_fp32_bf16_is_told(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "available_memory_bytes", lambda: 1000)
    monkeypatch.setattr(load_module, "has_fast_bf16", lambda: True)
    case.predict()
    assert any("computing in bf16" in str(told) for told in case.told)


def test_all_faults_are_told_before_the_model_is_loaded(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_module, "load", no_model)
    case.write({"prompt": "a"}, {"prompt": 3}, "{bad", {"prompt": None})
    with pytest.raises(DataError) as caught:
        case.predict()
    assert {fault.where.partition(",")[0] for fault in caught.value.faults} == {
        f"{case.rows}:{line}" for line in (2, 3, 4)
    }
    assert not case.answers.exists()


def test_reported_faults_stand_in_their_rows_places(case: Case) -> None:
    case.write({"prompt": "a"}, {"prompt": 3}, "{bad", {"prompt": "b"})
    predicted = case.predict(on_bad_row="report")
    assert predicted.refused == 2
    assert [[*line] for line in case.lines()] == [
        ["row_id", "answer", "finish_reason"], ["row_id", "error"],
        ["row_id", "error"], ["row_id", "answer", "finish_reason"],
    ]  # fmt: skip


def test_a_file_without_a_row_to_ask_is_an_error_either_way(case: Case) -> None:
    case.write({"prompt": 3})
    with pytest.raises(DataError):
        case.predict(on_bad_row="report")


def test_prompts_that_do_not_fit_are_told_before_any_row_is_answered(
    case: Case, tmp_path: Path
) -> None:
    short = make_tokenizer(tmp_path / "short")
    vocabulary = len(load_tokenizer(short))
    make_llama(vocab_size=vocabulary, max_position_embeddings=64).save_pretrained(short)
    case.write({"prompt": "a"}, {"prompt": "word " * 50}, {"prompt": "elm " * 50})
    with pytest.raises(DataError, match="63 at most") as caught:
        case.predict(what=str(short))
    assert len(caught.value.faults) == 2
    assert not case.answers.exists()
    assert case.predict(what=str(short), on_bad_row="report").refused == 2


def test_answers_of_another_model_are_not_gone_on_with(case: Case, tmp_path: Path) -> None:
    case.predict()
    other = make_tokenizer(tmp_path / "other")
    model = make_llama(vocab_size=len(load_tokenizer(other)))
    model.lm_head.weight.data[3, 3] += 1e-3
    model.save_pretrained(other)
    with pytest.raises(UserError, match="the content of the model is another"):
        case.predict(what=str(other), existing="resume")


@pytest.mark.parametrize(
    "words", [{"temperature": 0.5}, {"max_new_tokens": 6}, {"system": "Be kind."}, {"seed": 1}]
)
def test_answers_with_other_settings_are_not_gone_on_with(
    case: Case, words: dict[str, Any]
) -> None:
    case.predict()
    before = case.answers.read_bytes()
    with pytest.raises(UserError, match=next(iter(words))):
        case.predict(existing="resume", **words)
    assert case.answers.read_bytes() == before


def test_answers_to_other_rows_are_not_gone_on_with(case: Case) -> None:
    case.predict()
    case.write({"prompt": "other"})
    with pytest.raises(UserError, match="the content of the input is another"):
        case.predict(existing="resume")


def test_what_stands_beside_the_rows_is_told(case: Case) -> None:
    case.write({"prompt": "a", "id": 3})
    case.predict()
    assert {"progress": "columns that are not read: id"} in case.told


def test_the_hash_of_a_model_knows_every_weight() -> None:
    model = make_llama()
    before = weights_sha256(model)
    assert weights_sha256(make_llama()) == before
    model.model.layers[1].mlp.down_proj.weight.data[0, 0] += 1e-3
    assert weights_sha256(model) != before
