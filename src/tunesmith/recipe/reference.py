"""The reference page of the recipe, written from the parts' own fields and descriptions.

`python -m tunesmith.recipe.reference docs/recipe.md` writes the page; a test holds it in step.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic.fields import FieldInfo

from tunesmith.recipe.data import ColumnMap, DataPart
from tunesmith.recipe.evaluation import EvaluationPart
from tunesmith.recipe.method import FullMethod, LoraMethod
from tunesmith.recipe.model import ModelPart, SpecialTokens
from tunesmith.recipe.part import Part
from tunesmith.recipe.peft_method import PeftMethod
from tunesmith.recipe.strategy import DdpStrategy, DeepSpeedStrategy, FsdpStrategy, SingleStrategy
from tunesmith.recipe.target import LocalTarget, RayTarget
from tunesmith.recipe.task import ClassificationTask, NerTask, PreferenceTask, QaTask, WrittenTask
from tunesmith.recipe.tracking import TrackingPart
from tunesmith.recipe.training import TrainingPart

INTRODUCTION = """# The recipe

What is asked of a run: a YAML file, or the same as a mapping in Python. Only `model`, `task` and
`data.train` are needed. `tunesmith recipe FILE` shows every value that holds and where it comes
from; `--set training.epochs=1` overrides one. A key that does not exist is an error that names the
nearest one; keys that begin with `x_` are yours and are not read. One word is short for a part's
main key: `model: NAME`, `task: chat`, `method: lora`.

This page is written by `python -m tunesmith.recipe.reference docs/recipe.md`.
"""
PARTS: tuple[tuple[str, type[Part]], ...] = (
    ("model", ModelPart),
    ("model.special_tokens", SpecialTokens),
    ("task, type: chat, completion, translation or summarization", WrittenTask),
    ("task, type: classification", ClassificationTask),
    ("task, type: ner", NerTask),
    ("task, type: qa", QaTask),
    ("task, type: preference", PreferenceTask),
    ("data", DataPart),
    ("data.columns", ColumnMap),
    ("method, type: lora", LoraMethod),
    ("method, type: full", FullMethod),
    ("method, type: ia3, vera, prompt-tuning and others", PeftMethod),
    ("training", TrainingPart),
    ("strategy, type: single", SingleStrategy),
    ("strategy, type: ddp", DdpStrategy),
    ("strategy, type: deepspeed", DeepSpeedStrategy),
    ("strategy, type: fsdp", FsdpStrategy),
    ("target, type: local", LocalTarget),
    ("target, type: ray", RayTarget),
    ("evaluation", EvaluationPart),
    ("tracking", TrackingPart),
)


def write_reference() -> str:
    """The page as Markdown."""
    return INTRODUCTION + "".join(_section(name, part) for name, part in PARTS)


def _section(name: str, part: type[Part]) -> str:
    lines = [f"\n## {name}\n", "| key | default | what it says |", "| --- | --- | --- |"]
    lines += [_line(key, field) for key, field in part.model_fields.items()]
    return "\n".join(lines) + "\n"


def _line(key: str, field: FieldInfo) -> str:
    default = "needed" if field.is_required() else f"`{_shown(field.default)}`"
    return f"| `{key}` | {default} | {(field.description or '').replace('|', chr(92) + '|')} |"


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return "[" + ", ".join(str(item) for item in value) + "]"
    return str(value)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(write_reference(), encoding="utf-8")
