"""From what a user names to an adapter and its base: a run, its final/, or an adapter's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tunesmith.core.errors import Fault, ModelError
from tunesmith.core.run_dir import RunDir, read_json
from tunesmith.methods.base_record import require_base
from tunesmith.models.prepare import PreparedModel, prepare_model
from tunesmith.recipe.adapter_config import CONFIG_FILE, base_of
from tunesmith.recipe.load import recipe_from_resolved
from tunesmith.recipe.model import ModelPart


@dataclass(frozen=True, eq=False)
class Trained:
    """An adapter's folder and its base; `part` says how a run kept the base, where there was one.

    `system` is the message that the run put before its conversations.
    """

    folder: Path
    base: PreparedModel
    part: ModelPart
    system: str | None = None

    @property
    def tokenizer_folder(self) -> Path:
        """The adapter's own tokenizer where it has one: it may have other special tokens."""
        has_own = (self.folder / "tokenizer.json").is_file()
        return self.folder if has_own else self.base.folder


def find_trained(what: str, base: str | None = None) -> Trained:
    """Find what `what` names; `base` takes the place of the base that it names itself.

    Raises:
        ModelError: there is no adapter, or the base is another than it was trained on.
    """
    path = Path(what).expanduser().absolute()
    if path.name == "final" and (path.parent / "resolved.json").is_file():
        path = path.parent
    if (path / "resolved.json").is_file():
        trained = _of_run(RunDir(path), base)
    elif (path / CONFIG_FILE).is_file():
        part = ModelPart(source=base or base_of(path))
        trained = Trained(path, prepare_model(part.source, part.revision), part)
    else:
        raise ModelError(_no_adapter(path, what))
    require_base(trained.folder, trained.base)
    return trained


def _of_run(run_dir: RunDir, base: str | None) -> Trained:
    recipe = recipe_from_resolved(run_dir.resolved_json)
    final = run_dir.final
    if not (final / CONFIG_FILE).is_file():
        raise ModelError(_not_an_adapter(run_dir))
    part = recipe.model
    if base is not None:
        part = part.model_copy(update={"source": base, "revision": None})
    prepared = prepare_model(part.source, part.revision)
    return Trained(final, prepared, part, system=recipe.data.system)


def _not_an_adapter(run_dir: RunDir) -> Fault:
    final = run_dir.final
    if (final / "config.json").is_file():
        found, fix = "the run trained the whole model: there is nothing to merge", f"use {final}"
        return Fault(found=found, where=str(final), fix=fix)
    status = read_json(run_dir.state_json).get("status") if run_dir.state_json.exists() else None
    fix = f"finish it with: tunesmith train --resume --run-dir {run_dir.path}"
    found = f"the run has no final adapter yet (status: {status or 'not started'})"
    return Fault(found=found, where=str(final), fix=fix)


def _no_adapter(path: Path, what: str) -> Fault:
    found = f"no run and no adapter: {what}" if path.exists() else f"no such folder: {what}"
    fix = "name a run's folder, its final/, or a folder with adapter_config.json"
    return Fault(found=found, where=str(path), fix=fix)
