"""From a task and its examples to units and an objective, and the references that it needs.

    reference.safetensors    train, validation              log-probabilities of the answers, [N]
                             train.mismatched, ...          of KTO's mismatched rows, [N]

The file is in the run folder: a run that is resumed has what the model said before step 1, even
where all of its weights are trained. Answers are computed in the micro-batches in which they will
be compared, so that before step 1 they are the reference's to the last bit. Examples that no step
asks for are NaN, which a step would not survive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from tunesmith.core.run_dir import disk_error
from tunesmith.data.mismatch import Mismatched
from tunesmith.data.prepared.examples import Examples
from tunesmith.data.render import Example
from tunesmith.data.units import Units, pair_units, rated_units, single_units
from tunesmith.methods.adapter_files import as_os_error
from tunesmith.recipe.task import PreferenceTask, Task
from tunesmith.training.loss import LanguageModel
from tunesmith.training.objective import Objective, TokenObjective
from tunesmith.training.preference import PairObjective, RatedObjective, References
from tunesmith.training.row_loss import log_probs_of

REFERENCE_FILE = "reference.safetensors"


def units_of(task: Task, examples: Examples, *, file: str, is_trained: bool) -> Units:
    """Return what is planned or measured as one.

    Raises:
        DataError: the loss cannot learn from these examples.
    """
    match task:
        case PreferenceTask(loss="kto"):
            return rated_units(examples, file=file) if is_trained else single_units(examples)
        case PreferenceTask():
            return pair_units(examples, file=file, loss=task.loss)
        case _:
            return single_units(examples)


@dataclass(frozen=True, eq=False)
class Measurable:
    """A side of the data, and the groups in which steps or evaluations will compute it."""

    examples: Examples
    groups: Sequence[Sequence[int]]


def make_objectives(
    task: Task,
    model: LanguageModel,
    sides: Mapping[str, Measurable],
    folder: Path,
    *,
    pad_id: int,
    tell: Callable[[str], None],
    head: Objective | None = None,
) -> dict[str, Objective]:
    """Return an objective for each side; the model is as it is before step 1.

    `head` is that of a model with a head.

    Raises:
        RunError: the references cannot be written.
    """
    match task:
        case PreferenceTask(loss="orpo") | PreferenceTask(loss="simpo"):
            return dict.fromkeys(sides, PairObjective(task))
        case PreferenceTask():
            pass
        case _:
            return dict.fromkeys(sides, head or TokenObjective())
    texts: dict[str, Sequence[Example]] = {name: side.examples for name, side in sides.items()}
    if task.loss == "kto":
        mismatched = {
            name: Mismatched(side.examples, side.examples.part.max_length)
            for name, side in sides.items()
        }
        texts |= {f"{name}.mismatched": rows for name, rows in mismatched.items()}
    known = _read(folder / REFERENCE_FILE)
    if known is None:
        count = sum(len({i for group in side.groups for i in group}) for side in sides.values())
        tell(f"measuring {count:,} answers by the model before training, their reference")
        known = {
            name: log_probs_of(model, rows, sides[name.partition(".")[0]].groups, pad_id=pad_id)
            for name, rows in texts.items()
        }
        _write(folder / REFERENCE_FILE, known)
    if task.loss != "kto":
        return {name: PairObjective(task, References(known[name])) for name in sides}
    return {
        name: RatedObjective(
            task=task,
            is_rejected_N=torch.from_numpy(side.examples.is_rejected),
            references=References(known[name], known[f"{name}.mismatched"]),
            mismatched=Mismatched(side.examples, side.examples.part.max_length),
            pad_id=pad_id,
        )
        for name, side in sides.items()
    }


def _read(path: Path) -> dict[str, Tensor] | None:
    return safetensors.torch.load_file(path) if path.exists() else None


def _write(path: Path, known: Mapping[str, Tensor]) -> None:
    """Write under another name first, so that it is there whole or not at all."""
    temporary = path.with_suffix(".tmp")
    try:
        safetensors.torch.save_file(dict(known), temporary)
        temporary.replace(path)
    except (OSError, safetensors.SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(path, as_os_error(error)) from error
