"""Writes `final/`: what was trained, with the tokenizer and what names its base."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunesmith.core.errors import TunesmithError
from tunesmith.core.placed import as_named
from tunesmith.core.run_dir import RunDir, disk_error
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.methods.base import AppliedMethod, RemembersSteps, Shape
from tunesmith.methods.base_record import write_base_record
from tunesmith.models.head_file import write_head
from tunesmith.models.headed import Head
from tunesmith.models.prepare import PreparedModel
from tunesmith.recipe.adapter_config import CONFIG_FILE
from tunesmith.training.complete import require_complete


@dataclass(frozen=True, eq=False)
class FinalFolder:
    """What goes into it."""

    method: AppliedMethod
    tokenizer: Tokenizer
    prepared: PreparedModel
    head: Head | None
    shapes: Mapping[str, Shape]
    """What the method's files are to hold, as the model was before its weights were spread."""

    def save(self, run_dir: RunDir) -> None:
        """Write under another name first, so that it is there whole or not at all.

        Raises:
            RunError: the disk is full or cannot be written.
        """
        temporary = run_dir.path / ".final.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir()
            self.write(temporary)
            shutil.rmtree(run_dir.final, ignore_errors=True)
            temporary.rename(run_dir.final)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise disk_error(run_dir.final, error) from error
        except TunesmithError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise error.at(str(temporary), str(run_dir.final)) from error

    def write(self, folder: Path) -> None:
        """Write the files into a folder; the weights are compared with the model.

        Raises:
            RunError: they are not all there, or not whole.
        """
        self.method.save(folder, base=base_reference(self.prepared))
        # AdaLoRA has fewer ranks at the end than at the beginning; it is never spread.
        changes = isinstance(self.method, RemembersSteps)
        shapes = self.method.saved_shapes() if changes else self.shapes
        require_complete(folder, shapes)
        if (folder / CONFIG_FILE).is_file():  # an adapter, which is nothing without its base
            write_base_record(folder, self.prepared)
        if self.head is not None:
            write_head(folder, self.head)
        self.tokenizer.save_pretrained(folder)


def base_reference(prepared: PreparedModel) -> str:
    """How adapter files name the base: a hub id where there is one, else the folder."""
    hub_id = prepared.origin.get("id")
    return str(hub_id) if hub_id else as_named(prepared.folder)
