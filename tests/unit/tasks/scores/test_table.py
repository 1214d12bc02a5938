from __future__ import annotations

import subprocess
import sys

import pytest

from tunesmith.core.errors import MachineError
from tunesmith.recipe.evaluation import OWN_METRICS, TEXT_METRICS
from tunesmith.recipe.task import WrittenTask
from tunesmith.tasks.scores import table
from tunesmith.tasks.scores.table import FAMILIES, require_libraries
from tunesmith.tasks.scores.texts import TEXTS


def test_the_recipe_names_the_scores_that_there_are() -> None:
    assert {name: tuple(FAMILIES[name]) for name in OWN_METRICS} == OWN_METRICS
    assert tuple(TEXTS) == TEXT_METRICS


def test_a_library_that_is_not_installed_is_told_with_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(table, "find_spec", lambda name: None if name == "sacrebleu" else name)
    require_libraries(WrittenTask(type="summarization"), ["exact-match"])
    with pytest.raises(MachineError) as caught:
        require_libraries(WrittenTask(type="translation"), ["exact-match"])
    assert [fault.found for fault in caught.value.faults] == [
        "sacrebleu, which computes bleu, is not installed",
        "sacrebleu, which computes chrf, is not installed",
    ]
    assert {fault.where for fault in caught.value.faults} == {"recipe: task: translation"}
    assert "tunesmith[eval]" in caught.value.faults[0].fix


def test_a_chat_needs_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "find_spec", lambda _: None)
    require_libraries(WrittenTask(type="chat"), TEXT_METRICS)


def test_no_library_is_loaded_before_it_scores() -> None:
    names = ("sklearn", "seqeval", "sacrebleu", "rouge_score", "nltk", "torch")
    code = (
        "import sys, tunesmith.tasks.scores.table; "
        f"sys.exit(' '.join(name for name in {names} if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
