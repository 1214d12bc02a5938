from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes.architectures import save_decoder
from tests.fakes.tiny import make_tokenizer
from tunesmith.core.errors import ModelError
from tunesmith.data.tokenizer import load_tokenizer
from tunesmith.evaluation.probe import Probed, measure_probe, read_probe
from tunesmith.models.catalog import SMOLLM2_135M_INSTRUCT
from tunesmith.models.facts import read_facts
from tunesmith.models.load import load_model
from tunesmith.models.prepare import prepare_model
from tunesmith.recipe.data import DataPart
from tunesmith.training.loss import LanguageModel, language_model

PART = DataPart(train="rows.jsonl")


def test_each_question_has_one_right_reply_of_four_and_each_kind_enough_questions() -> None:
    questions = read_probe()
    assert len({question.question for question in questions}) == len(questions)
    assert all(len(set(question.replies)) == 4 for question in questions)
    kinds = Counter(question.kind for question in questions)
    assert len(kinds) == 6
    assert min(kinds.values()) >= 12
    assert 80 <= len(questions) <= 100


def tiny(folder: Path, **changes: Any) -> LanguageModel:
    save_decoder(folder, "llama", **{"max_position_embeddings": 512, **changes})
    return language_model(load_model(folder, "fp32"), read_facts(folder))


@pytest.mark.parametrize("template", ["chatml", None])
def test_a_model_that_knows_nothing_is_right_about_as_often_as_chance(
    tmp_path: Path, template: str | None
) -> None:
    model = tiny(tmp_path)
    tokenizer = load_tokenizer(make_tokenizer(tmp_path, template))
    probed = measure_probe(model, tokenizer, PART)
    assert probed is not None
    assert probed.score.rows == len(read_probe())
    assert 0.05 < probed.score.value < 0.5
    assert set(probed.score.details) == {question.kind for question in read_probe()}


def test_the_recipes_system_message_and_length_have_no_part_in_it(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    tokenizer = load_tokenizer(make_tokenizer(tmp_path))
    other = PART.model_copy(update={"system": "Sort the message.", "max_length": 16})
    assert measure_probe(model, tokenizer, other) == measure_probe(model, tokenizer, PART)


def test_a_model_without_room_for_the_questions_is_not_asked(tmp_path: Path) -> None:
    model = tiny(tmp_path, max_position_embeddings=64)
    assert measure_probe(model, load_tokenizer(make_tokenizer(tmp_path)), PART) is None


def test_the_score_has_its_interval_and_the_share_of_each_kind() -> None:
    score = Probed((True, False, True, True), ("a", "a", "b", "b"), ("",) * 4).score
    assert (score.value, score.rows) == (0.75, 4)
    assert score.low is not None
    assert score.high is not None
    assert score.low < 0.75 < score.high
    assert score.details == {"a": 0.5, "b": 1.0}


@pytest.mark.real_model
def test_the_catalogue_model_knows_much_of_it_and_not_all() -> None:
    try:
        prepared = prepare_model(SMOLLM2_135M_INSTRUCT.name)
    except ModelError as error:
        pytest.skip(f"the catalogue model is neither cached nor to be fetched: {error}")
    model = language_model(load_model(prepared.folder, "bf16"), read_facts(prepared.folder))
    with torch.no_grad():
        probed = measure_probe(model, load_tokenizer(prepared.folder), PART)
    assert probed is not None
    assert 0.7 < probed.score.value < 0.95
    assert min(probed.score.details.values()) > 0.4
