"""A model's modules without its weights, from its configuration alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.models.facts import read_facts
from tunesmith.models.quiet import quiet


def model_skeleton(folder: Path) -> nn.Module:
    """The modules of a folder's model on the meta device: shapes, and no values.

    Raises:
        ModelError: the folder holds no model that transformers knows.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    read_facts(folder)  # says what is wrong with a folder
    with quiet(), torch.device("meta"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return model.eval()
