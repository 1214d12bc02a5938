"""What a data command looks at: a file as its options say, or the data of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tunesmith.cli.model_folder import model_folder
from tunesmith.cli.reading import AS_IN_MODEL, AS_READ, Reading, Tokens
from tunesmith.core.errors import Fault, UserError
from tunesmith.data.formats import TaskName
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.data.validate import ROWS_TO_JUDGE_BY, check_file
from tunesmith.models.catalog import CATALOG
from tunesmith.models.rows_for_model import rows_for_model
from tunesmith.recipe.data import DataPart
from tunesmith.recipe.load import load_recipe
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.task import rows_for

DEFAULT_MODEL = next(iter(CATALOG))
RECIPES = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class LookedAt:
    """The rows, what they are for (None: what their form serves), and the model that reads them."""

    part: DataPart
    task: TaskName | None
    model: str
    tokens: Tokens
    recipe: Recipe | None = None

    def source(self) -> TokenizerSource:
        """Return the tokenizer, with what takes the place of the model's own."""
        folder = str(model_folder(self.model))
        if self.recipe is not None:
            own = self.recipe.model
            return TokenizerSource(folder, tuple(own.token_overrides.items()), own.chat_template)
        return TokenizerSource(folder, tuple(self.tokens.given.items()), self.tokens.template)

    def task_for(self, source: TokenizerSource) -> TaskName:
        """Return what the rows are for, as the tokenizer's model reads them.

        Raises:
            ModelError: the model writes no text, and the recipe's task has no head.
        """
        if self.recipe is not None:
            return rows_for_model(self.recipe.task, Path(source.folder))
        if self.task is not None:
            return self.task
        first = self.part.model_copy(update={"limit": ROWS_TO_JUDGE_BY})
        return check_file(self.part.train, first, None).task


def look_at(
    what: str,
    reading: Reading,
    tokens: Tokens = AS_IN_MODEL,
    *,
    model: str | None = None,
    validation: str | None = None,
    test: str | None = None,
) -> LookedAt:
    """Return the data that a file's name or a recipe stands for.

    Raises:
        UserError: options are given beside a recipe, which says all of that itself.
    """
    if not what.endswith(RECIPES):
        part = reading.part(what, validation=validation, test=test)
        return LookedAt(part=part, task=reading.task, model=model or DEFAULT_MODEL, tokens=tokens)
    if reading != AS_READ or tokens != AS_IN_MODEL or model or validation or test:
        raise UserError(
            Fault(
                found="options of how to read, beside a recipe that says how",
                where=what,
                fix="change the recipe, or name its data file in its place",
            ),
            code="invalid_command",
        )
    recipe = load_recipe(what).recipe
    return LookedAt(
        part=recipe.data,
        task=rows_for(recipe.task),
        model=recipe.model.source,
        tokens=tokens,
        recipe=recipe,
    )
