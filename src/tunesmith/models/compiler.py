"""What torch.compile needs of a machine."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import torch

from tunesmith.core.errors import Fault, MachineError

WHERE = "recipe: training.compile_layers"


def require_compiler(device: torch.device) -> None:
    """See to it, before weights are loaded, that layers can be compiled for a device.

    Raises:
        MachineError: there is no C++ compiler, or for a CUDA device no triton.
    """
    if device.type == "cuda" and find_spec("triton") is None:
        raise _missing("triton, which compiles for CUDA devices", "install triton")
    names = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++", "cl"]
    if not any(map(shutil.which, names)):
        raise _missing(
            f"a C++ compiler ({' or '.join(names)})",
            "install one (on Debian and Ubuntu: apt install g++)",
        )


def _missing(what: str, fix: str) -> MachineError:
    fault = Fault(
        found=f"torch.compile needs {what}, and there is none here",
        where=WHERE,
        fix=f"{fix}, or leave training.compile_layers out: the run is the same, only slower",
    )
    return MachineError(fault, code="no_compiler")
