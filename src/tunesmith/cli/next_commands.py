"""What one may want after a run, and the command for it."""

from __future__ import annotations

import shlex
from itertools import islice
from typing import assert_never

from tunesmith.cli.program import shown_path, suggest
from tunesmith.core.errors import TunesmithError
from tunesmith.core.run_dir import RunDir
from tunesmith.data.conversation import Conversation
from tunesmith.data.validate import check_file
from tunesmith.recipe import FullMethod, LoraMethod, Recipe
from tunesmith.recipe.load import recipe_from_resolved
from tunesmith.recipe.peft_method import PeftMethod
from tunesmith.recipe.task import has_head, rows_for

# Enough rows to tell whether they all begin alike.
ROWS_TO_JUDGE_BY = 50


def next_commands(run_dir: RunDir) -> dict[str, str]:
    """A wish and its command, in the order in which they usually come."""
    recipe = recipe_from_resolved(run_dir.resolved_json)
    system = _shared_system(recipe)
    said = ("--system", shlex.quote(system)) if system else ()
    copy = f"cp {shown_path(run_dir.recipe_yaml)} my-recipe.yaml"
    edit = "set data.train and data.validation in it"
    files = ("--input", "rows.jsonl", "--output", "answers.jsonl")
    talking = {
        "talk to it": suggest("chat", run_dir.path, *said),
        "talk to what it was before": suggest("chat", shlex.quote(recipe.model.source), *said),
    }
    return {
        **({} if has_head(recipe.task) else talking),  # a head writes nothing
        **_merging(recipe, run_dir),
        "answer a file of rows": suggest("predict", run_dir.path, *files, *said),
        "check your own data": suggest("data check my-data.jsonl"),
        "train on it": f"{copy}; {edit}; {suggest('train my-recipe.yaml')}",
    }


def _merging(recipe: Recipe, run_dir: RunDir) -> dict[str, str]:
    """An adapter may be made one with its base; a whole model is one already."""
    match recipe.method:
        case LoraMethod():
            merges = True
        case FullMethod():
            merges = False
        case PeftMethod():
            merges = recipe.method.row.merges
        case _:
            assert_never(recipe.method)
    if not merges:
        return {}
    merged = run_dir.path.with_name(f"{run_dir.path.name}-merged")
    return {"make it one folder": suggest("merge", run_dir.path, "--output", merged)}


def _shared_system(recipe: Recipe) -> str | None:
    """The system message that the rows themselves bring, where they all bring the same.

    The model has learned its answers behind it. One from the recipe needs no mention: the chat
    takes it from there.
    """
    part = recipe.data.model_copy(update={"limit": ROWS_TO_JUDGE_BY})
    try:
        samples = check_file(part.train, part, rows_for(recipe.task)).samples
    except (TunesmithError, OSError):  # the data may be elsewhere by now
        return None
    systems = {
        sample.messages[0].content if sample.messages[0].role == "system" else None
        for sample in islice(samples, ROWS_TO_JUDGE_BY)
        if isinstance(sample, Conversation)
    }
    return systems.pop() if len(systems) == 1 else None
