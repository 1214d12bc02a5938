"""Measures a run's model on the rows that are never trained, and tells the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from tunesmith.core.errors import DataError
from tunesmith.core.events import EventLog
from tunesmith.core.run_dir import RunDir
from tunesmith.data.also_trained import AlsoTrained, find_also_trained
from tunesmith.data.pipeline import RunData
from tunesmith.data.prepared.examples import Examples, samples_of
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.data.units import Units
from tunesmith.evaluation.before_after import HeldOutPreference, Measured, measure, measure_loss
from tunesmith.evaluation.head_side import measure_head
from tunesmith.evaluation.probe import measure_probe
from tunesmith.evaluation.sides import (
    Comparison,
    When,
    has_side,
    read_said,
    write_also_trained,
    write_differences,
    write_part,
    write_said,
)
from tunesmith.inference.precision import exact_answers
from tunesmith.inference.torch_engine import TorchEngine
from tunesmith.models.headed import HeadedModel
from tunesmith.recipe.evaluation import EvaluationPart
from tunesmith.recipe.task import PreferenceTask, QaTask, Task
from tunesmith.tasks.said import Said
from tunesmith.tasks.scores.row_values import PROBE
from tunesmith.tasks.scores.score import Difference, Score
from tunesmith.tasks.scores.table import differences_of, row_differences, scores_of
from tunesmith.tasks.scores.tunes import TUNE_METRICS, TuneScores
from tunesmith.training.checkpoint import Progress
from tunesmith.training.loss import LanguageModel
from tunesmith.training.objective import Objective


def held_out_examples(task: Task, part: EvaluationPart, data: RunData) -> Examples:
    """Return the held-out examples that are measured.

    Of a preference they are both answers or none, of a question all windows of its context.
    """
    return _spread(task, data.validation, part.rows)


def trained_examples(task: Task, part: EvaluationPart, data: RunData) -> Examples | None:
    """Return the training examples that are scored, too, where the recipe asks for some."""
    return _spread(task, data.train, part.trained_rows) if part.trained_rows else None


def _spread(task: Task, examples: Examples, most: int) -> Examples:
    if isinstance(task, PreferenceTask | QaTask):
        return examples.spread_rows(most)
    return examples.spread(most)


def tune_scores(part: EvaluationPart, data: RunData, tokenizer: Tokenizer) -> TuneScores | None:
    """Return what scores tunes against those that are trained, where the recipe asks for it."""
    if not set(TUNE_METRICS).intersection(part.metrics):
        return None
    trained = [
        tokenizer.decode(example.tokens.tolist(), skip_special_tokens=True)
        for example in (data.train if "tune-distance" in part.metrics else ())
    ]
    return TuneScores(part.metrics, trained)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutRows:
    """The held-out rows and what they are measured with.

    Only the rank that measures needs what is worked out of all the data, and only when it does.
    """

    run_dir: RunDir
    events: EventLog
    task: Task
    data: RunData
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

    @cached_property
    def _trained(self) -> Examples | None:
        """Rows that are trained and scored, too."""
        return trained_examples(self.task, self.part, self.data)

    @cached_property
    def _also_trained(self) -> AlsoTrained:
        """The held-out rows that are in the training data."""
        return find_also_trained(self.data)

    @cached_property
    def _tunes(self) -> TuneScores | None:
        return tune_scores(self.part, self.data, self.tokenizer)

    def has(self, when: When) -> bool:
        """Whether a run that is resumed has this side already."""
        return has_side(self.run_dir, when)

    def measure(self, when: When, step: int) -> None:
        """Measure loss, scores and answers, and keep them: the side itself last."""
        if not self.rows:
            return
        message = f"measuring {when} training: {len(self.units.members)} rows"
        self.events.write("note", message=message)
        measured = self._measured(self.rows, self._objective)
        write_said(self.run_dir, when, measured.said)
        self._measure_trained(when)
        self._score_without_trained(when, measured)
        probe, changes = self._probe(when)
        measured = replace(measured, metrics={**measured.metrics, **probe})
        if when == "after":
            before = read_said(self.run_dir, "before")
            found = differences_of(self.task, self.part.metrics, before, measured.said)
            write_differences(self.run_dir, {**found, **changes})
        write_part(self.run_dir, when, measured.as_json())
        values = {**measured.as_json(), "answers": len(measured.answers)}
        self.events.write("evaluation", step, when=when, **values)

    def watch(self, progress: Progress) -> Progress:
        """Measure the loss alone, between two steps."""
        held_out = measure_loss(
            self.scored, self.rows, pad_id=self.pad_id, preference=self._objective
        )
        values = {"loss": held_out.loss, "perplexity": held_out.perplexity, **held_out.preference}
        self.events.write("evaluation", progress.step, **values)
        return replace(progress, held_out={**progress.held_out, progress.step: held_out.loss})

    def _measure_trained(self, when: When) -> None:
        """Score rows that are trained, as a test on them would."""
        if not self._trained:
            return
        self.events.write("note", message=f"and {len(self._trained)} rows that are trained")
        measured = self._measured(self._trained, None)
        write_said(self.run_dir, when, measured.said, "trained")
        before = read_said(self.run_dir, "before", "trained")
        self._compare("trained", when, measured.as_json(), before, measured.said)

    def _score_without_trained(self, when: When, measured: Measured) -> None:
        """Score the held-out rows without those that the training data hold, too."""
        store = self.rows.store
        names = {store.row_id(int(row)) for row in np.unique(self.rows.rows)}
        exact, near = names & self._also_trained.exact, names & self._also_trained.near
        found = exact | near
        if not found:
            return
        write_also_trained(self.run_dir, {"exact": len(exact), "near": len(near)})
        kept = [one for one in measured.said if one.row_id not in found]
        before = [one for one in read_said(self.run_dir, "before") if one.row_id not in found]
        scores = scores_of(self.task, self.part.metrics, kept)
        values = {
            "rows": len(names - found),
            "metrics": {name: asdict(score) for name, score in scores.items()},
        }
        self._compare("without_trained", when, values, before, kept)

    def _compare(
        self,
        of: Comparison,
        when: When,
        values: dict[str, Any],
        before: Sequence[Said],
        said: Sequence[Said],
    ) -> None:
        write_part(self.run_dir, when, values, of)
        if when == "after":
            found = differences_of(self.task, self.part.metrics, before, said)
            write_differences(self.run_dir, found, of)

    def _probe(self, when: When) -> tuple[dict[str, Score], dict[str, Difference]]:
        """Ask the general questions; a model that cannot be asked them says nothing of them."""
        if not self.part.probe or self.headed is not None:
            return {}, {}
        try:
            probed = measure_probe(self.scored, self.tokenizer, self.data.part, pad_id=self.pad_id)
        except DataError as error:
            reason = error.faults[0].found
            self.events.write("note", message=f"the general questions are not asked: {reason}")
            return {}, {}
        if probed is None:
            return {}, {}
        write_said(self.run_dir, when, probed.said, "probe")
        before = read_said(self.run_dir, "before", "probe") if when == "after" else ()
        return {PROBE: probed.score}, row_differences(before, probed.said)

    def _measured(self, rows: Examples, objective: HeldOutPreference | None) -> Measured:
        samples = samples_of(rows)
        if self.headed is not None:
            return measure_head(
                self.headed,
                rows,
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
            rows,
            task=self.task,
            data=self.data.part,
            part=self.part,
            labels=self.labels,
            pad_id=self.pad_id,
            preference=objective,
            tunes=self._tunes,
            answering=partial(exact_answers, self.model, self._note),
        )

    def _note(self, text: str) -> None:
        self.events.write("note", message=text)

    @property
    def _objective(self) -> HeldOutPreference | None:
        """What is measured where it is not the loss of tokens."""
        if not isinstance(self.task, PreferenceTask) and self.headed is None:
            return None
        return HeldOutPreference(self.objective, self.units)
