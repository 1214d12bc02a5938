"""Libraries that only some runs need, which are extras of the installation."""

from __future__ import annotations

from importlib.util import find_spec

from tunesmith.core.errors import Fault, MachineError


def require_extra(name: str, *, where: str, otherwise: str) -> None:
    """See to it that a library is installed whose extra has its name; `otherwise` does without it.

    Raises:
        MachineError: it is not.
    """
    if find_spec(name) is None:
        fix = f"install it (pip install 'tunesmith[{name}]'), or {otherwise}"
        fault = Fault(found=f"{name} is not installed", where=where, fix=fix)
        raise MachineError(fault, code="not_installed")
