"""What a run that goes on from an adapter must know of that adapter's base."""

from __future__ import annotations

from pathlib import Path

from tunesmith.core.errors import Fault, ModelError
from tunesmith.core.placed import placed
from tunesmith.methods.base_record import require_base
from tunesmith.models.prepare import PreparedModel, prepare_model
from tunesmith.recipe.adapter_config import read_adapter_config
from tunesmith.recipe.method import LoraMethod, Method


def starting_adapter(part: Method) -> Path | None:
    """The folder of the adapter that a run goes on from, where it does."""
    if isinstance(part, LoraMethod) and part.adapter is not None:
        return Path(placed(part.adapter))
    return None


def check_starting_base(folder: Path, base: PreparedModel) -> str | None:
    """See to it that an adapter belongs to the run's base; a warning where that is not known.

    Raises:
        ModelError: it was trained on other weights.
    """
    if require_base(folder, base):
        return None
    named = read_adapter_config(folder).base
    if named and named in (str(base.origin.get("id")), base.name):
        return None
    at = Path(named).expanduser() if named else None
    if at is not None and at.is_dir():
        if prepare_model(str(at)).sha256s == base.sha256s:
            return None
        fault = Fault(
            found=f"the adapter was trained on {named}, whose weights are others than those of "
            f"{base.name}",
            where=str(folder),
            fix=f"set model.source: {named}",
        )
        raise ModelError(fault, code="adapter_mismatch")
    return (
        f"the adapter in {folder} names the base {named or '(none)'}; whether {base.name} has the "
        "same weights cannot be told from here"
    )
