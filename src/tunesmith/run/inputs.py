"""What a run reads before weights are loaded: its data, its tokenizer, and facts of its model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.core.errors import Fault, RecipeError
from tunesmith.core.run_dir import RunDir, write_json
from tunesmith.data.asked import reading_record
from tunesmith.data.pipeline import RunData, check_data, lay_out
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.methods.going_on import check_starting_base, starting_adapter
from tunesmith.models.facts import ModelFacts, read_facts
from tunesmith.models.head_file import write_head
from tunesmith.models.headed import Head
from tunesmith.models.prepare import PreparedModel, prepare_model
from tunesmith.models.rows_for_model import rows_for_model
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.task import Task, has_head, rows_for
from tunesmith.run.job import Job
from tunesmith.tasks.scores.table import require_libraries
from tunesmith.training.head_setup import class_names, head_of
from tunesmith.training.telling import examine_data, tell_data


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """`recipe` is the run's, with rows kept within the model's positions."""

    recipe: Recipe
    prepared: PreparedModel
    starting: Path | None
    """The adapter that the run goes on from."""
    facts: ModelFacts
    tokenizer: Tokenizer
    data: RunData
    labels: Sequence[str]
    """The classes that the rows name."""
    head: Head | None

    @property
    def pad_id(self) -> int:
        """Any id will do: padding is known by its position, never by its id."""
        known = self.tokenizer.pad_token_id
        return 0 if known is None else known


def read_inputs(recipe: Recipe, job: Job) -> Inputs:
    """Check every row, fetch the model, and lay the rows out as its tokens.

    Raises:
        DataError: the rows are not fit to be trained.
        ModelError: there is no such model.
        RecipeError: the recipe does not fit data or model.
    """
    with job.ranks.main_first():  # what it fetches and prepares, the others find
        if job.ranks.is_main:
            require_libraries(recipe.task, recipe.evaluation.metrics)
            # every row, before a model is fetched
            check_data(recipe.data, rows_for(recipe.task), tell=job.tell)
        model = recipe.model
        prepared = prepare_model(model.source, model.revision, on_progress=job.tell)
        starting = starting_adapter(recipe.method)
        if starting:
            tell_starting(job, starting, prepared)
        facts = read_facts(prepared.folder)
        recipe = within_positions(recipe, job, facts)
        source = TokenizerSource(
            str(prepared.folder), tuple(model.token_overrides.items()), model.chat_template
        )
        data = lay_out(
            recipe.data,
            rows_for_model(recipe.task, prepared.folder),
            source,
            tell=job.tell,
            keep_texts=recipe.evaluation.trained_rows > 0,
        )
    labels = class_names(recipe.task, data)
    tell_reading(job, recipe, data, source, labels)
    return Inputs(
        recipe=recipe,
        prepared=prepared,
        starting=starting,
        facts=facts,
        tokenizer=source.tokenizer,
        data=data,
        labels=labels,
        head=keep_head(recipe.task, data, job.run_dir),
    )


def tell_reading(
    job: Job, recipe: Recipe, data: RunData, source: TokenizerSource, labels: Sequence[str]
) -> None:
    """Write down how the rows were read, and stop where they are of no use.

    Raises:
        DataError: rows do not fit, or nothing useful would be trained.
    """
    run_dir = job.run_dir
    write_json(run_dir.reading_json, reading_record(data.train_side.file.judgement, labels))
    tell_data(run_dir, job.events, data)
    job.on_main(lambda: examine_data(run_dir, job.events, data, source, recipe.model.source))


def keep_head(task: Task, data: RunData, run_dir: RunDir) -> Head | None:
    """Return what the model's head is to say, where the task has one, and write it down."""
    if not has_head(task):
        return None
    head = head_of(task, data)
    write_head(run_dir.path, head)
    return head


def tell_starting(job: Job, folder: Path, prepared: PreparedModel) -> None:
    """Say what the run goes on from, and whether it belongs to the base.

    Raises:
        ModelError: the adapter was trained on other weights.
    """
    warning = check_starting_base(folder, prepared)
    if warning:
        job.events.write("warning", message=warning)
    job.tell(f"going on from the adapter in {folder}; before: the base with it")


def within_positions(recipe: Recipe, job: Job, facts: ModelFacts) -> Recipe:
    """Keep rows within the model's positions: a default gives way, another length is refused.

    Raises:
        RecipeError: the recipe asks for longer rows than the model has positions.
    """
    if facts.max_positions is None:
        return recipe
    prompt = getattr(recipe.method, "virtual_tokens", None) or 0
    limit = facts.max_positions - prompt
    if recipe.data.max_length <= limit:
        return recipe
    if job.origins().get("data.max_length") == "default":
        job.tell(f"data.max_length is {limit} here: the model has no more positions")
        data = recipe.data.model_copy(update={"max_length": limit})
        return recipe.model_copy(update={"data": data})
    fault = Fault(
        found=f"{recipe.data.max_length} tokens a row; {recipe.model.source} has {limit} positions"
        + (f" beside the prompt's {prompt}" if prompt else ""),
        where="recipe: data.max_length",
        fix=f"set data.max_length to at most {limit}",
    )
    raise RecipeError(fault)
