"""Reads single weights of a model folder as its files hold them, without a model."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from tunesmith.core.errors import Fault, ModelError


class Originals:
    """The tensors of a folder's safetensors files, by name; nothing is read before it is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def _files(self) -> dict[str, Path]:
        files: dict[str, Path] = {}
        for file in sorted(self.folder.glob("*.safetensors")):
            with safe_open(file, "pt") as held:
                files |= dict.fromkeys(held.keys(), file)
        return files

    def weight(self, path: str) -> Tensor:
        """Read the weight of the module at `path`, in the file's dtype.

        Raises:
            ModelError: the files have no such weight.
        """
        name = f"{path}.weight"
        file = self._files.get(name)
        if file is None:
            fault = Fault(
                found=f"the files of the base model have no {name}",
                where=str(self.folder),
                fix="use method.init: default",
            )
            raise ModelError(fault)
        with safe_open(file, "pt") as held:
            return held.get_tensor(name)
