"""Measures a run's model on the rows that are never trained, and tells the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunesmith.core.events import EventLog
from tunesmith.core.run_dir import RunDir, read_json
from tunesmith.data.pipeline import RunData
from tunesmith.data.prepared.examples import Examples, samples_of
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.data.units import Units
from tunesmith.evaluation.before_after import (
    HeldOutPreference,
    Measured,
    When,
    measure,
    measure_loss,
    read_said,
    write_differences,
    write_side,
)
from tunesmith.evaluation.head_side import measure_head
from tunesmith.inference.torch_engine import TorchEngine
from tunesmith.models.headed import HeadedModel
from tunesmith.recipe.data import DataPart
from tunesmith.recipe.evaluation import EvaluationPart
from tunesmith.recipe.task import PreferenceTask, QaTask, Task
from tunesmith.tasks.scores.table import differences_of
from tunesmith.training.checkpoint import Progress
from tunesmith.training.loss import LanguageModel
from tunesmith.training.objective import Objective


def held_out_examples(task: Task, part: EvaluationPart, data: RunData) -> Examples:
    """Return the held-out examples that are measured.

    Of a preference they are both answers or none, of a question all windows of its context.
    """
    if isinstance(task, PreferenceTask | QaTask):
        return data.validation.spread_rows(part.rows)
    return data.validation.spread(part.rows)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutRows:
    """The held-out rows and what they are measured with."""

    run_dir: RunDir
    events: EventLog
    task: Task
    data: DataPart
    part: EvaluationPart
    rows: Examples
    units: Units
    objective: Objective
    tokenizer: Tokenizer
    model: Any
    scored: LanguageModel
    headed: HeadedModel | None = None
    labels: Sequence[str] = ()
    """The classes that a written answer may be."""
    pad_id: int

    def has(self, when: When) -> bool:
        """Whether a run that is resumed has this side already."""
        file = self.run_dir.evaluation_json
        return file.exists() and when in read_json(file)

    def measure(self, when: When, step: int) -> None:
        """Measure loss, scores and answers, and keep them."""
        if not self.rows:
            return
        message = f"measuring {when} training: {len(self.units.members)} rows"
        self.events.write("note", message=message)
        measured = self._measured()
        write_side(self.run_dir, when, measured)
        if when == "after":
            before = read_said(self.run_dir, "before")
            found = differences_of(self.task, self.part.metrics, before, measured.said)
            write_differences(self.run_dir, found)
        values = {**measured.as_json(), "answers": len(measured.answers)}
        self.events.write("evaluation", step, when=when, **values)

    def _measured(self) -> Measured:
        samples = samples_of(self.rows)
        if self.headed is not None:
            return measure_head(
                self.headed,
                self.rows,
                samples,
                self.tokenizer,
                task=self.task,
                part=self.part,
                pad_id=self.pad_id,
            )
        return measure(
            self.scored,
            TorchEngine(self.model, self.tokenizer),
            self.tokenizer,
            samples,
            self.rows,
            task=self.task,
            data=self.data,
            part=self.part,
            labels=self.labels,
            pad_id=self.pad_id,
            preference=self._objective,
        )

    def watch(self, progress: Progress) -> Progress:
        """Measure the loss alone, between two steps."""
        held_out = measure_loss(
            self.scored, self.rows, pad_id=self.pad_id, preference=self._objective
        )
        values = {"loss": held_out.loss, "perplexity": held_out.perplexity, **held_out.preference}
        self.events.write("evaluation", progress.step, **values)
        return replace(progress, held_out={**progress.held_out, progress.step: held_out.loss})

    @property
    def _objective(self) -> HeldOutPreference | None:
        """What is measured where it is not the loss of tokens."""
        if not isinstance(self.task, PreferenceTask) and self.headed is None:
            return None
        return HeldOutPreference(self.objective, self.units)
