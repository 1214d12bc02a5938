from __future__ import annotations

from typing import Any

import pytest

from tests.unit.data.reading import chat, only_fault
from tunesmith.data.conversation import label_of, labelled_of

TRUTHFUL = {
    "question": "What if you eat the seeds?",
    "mc0_targets": {"Nothing": 1, "You die": 0},
    "mc1_targets": {"They pass": 1, "You die": 0, "They grow": 0},
    "mc2_targets": {"Nothing": 1, "They pass": 1, "You die": 0, "They grow": 0},
}
SAME: list[dict[str, Any]] = [
    {"choices": ["in", "on", "at"], "answer": 1},
    {"choices": ["in", "on", "at"], "answer": "on"},
    {"choices": ["in", "on", "at"], "answer": "B"},
    {"options": ["in", "on", "at"], "answerKey": "b"},
    {"choices": {"in": 0, "on": 1, "at": 0}},
    {"choices": {"in": False, "on": True, "at": False}},
    {"choices": '{"in": 0, "on": 1, "at": 0}'},
    {"choices": {"text": ["in", "on", "at"], "label": ["1", "2", "3"]}, "answerKey": "2"},
]


@pytest.mark.parametrize("choices", SAME)
def test_the_right_candidate_is_learned_and_none_is_shown(choices: dict[str, Any]) -> None:
    sample = chat({"question": "Which?", **choices})
    assert [turn.content for turn in sample.messages] == ["Which?", "on"]
    labelled = labelled_of(sample)
    assert labelled.texts == ("in", "on", "at")
    assert labelled.labels == ("wrong", "best", "wrong")
    assert label_of(sample) is None


def test_of_several_right_ones_the_best_is_learned() -> None:
    sample = chat(TRUTHFUL)
    assert sample.messages[-1].content == "They pass"
    assert labelled_of(sample).labels == ("right", "best", "wrong", "wrong")


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        ({"choices": ["in", "on"], "answer": "at"}, "the answer is no candidate"),
        ({"choices": ["in", "on"], "answer": 2}, "the answer is no candidate"),
        ({"choices": ["in", "on"], "answer": True}, "the answer is no candidate"),
        ({"choices": ["in", "in"], "answer": 0}, "a candidate twice"),
        ({"choices": ["in"], "answer": 0}, "no wrong candidate"),
        ({"choices": ["in", ""], "answer": 0}, "empty text"),
        ({"choices": ["in", "on"]}, "missing column"),
        ({"choices": {"in": 1, "on": 1}}, "no wrong candidate"),
        ({"choices": {"in": 0, "on": 0}}, "no right candidate"),
        ({"choices": {"in": 1, "on": 0.5}}, "no mark of a candidate"),
        ({"choices": 3, "answer": 0}, "wrong type"),
        (
            {"mc2_targets": {"in": 1, "on": 0}, "mc1_targets": {"at": 1, "on": 0}},
            "the best answer is not right",
        ),
    ],
)
def test_what_is_wrong_with_candidates_is_told(choices: dict[str, Any], reason: str) -> None:
    fault = only_fault({"question": "Which?", **choices})
    assert fault.reason == reason
    assert fault.fix or fault.expected
