"""Writes a Llama-like model as one of Phi-3's architecture: the same function, products joined.

    .venv/bin/python benchmarks/as_phi3.py FOLDER OUTPUT_FOLDER

So that the architecture can be measured with weights that are at hand. Phi-3 keeps the matrices of
queries, keys and values in one, and those of gate and up; rows longer than its window of 2,047
tokens would differ.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

JOINED = {
    "q_proj": ("qkv_proj", ("q_proj", "k_proj", "v_proj")),
    "gate_proj": ("gate_up_proj", ("gate_proj", "up_proj")),
}
TAKEN = ("k_proj", "v_proj", "up_proj")
SAME = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "vocab_size", "rms_norm_eps", "max_position_embeddings"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings", "hidden_act", "dtype"),
)


def main() -> None:
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.mkdir(parents=True)
    settings = json.loads((source / "config.json").read_text())
    theta = settings.get("rope_theta") or settings["rope_parameters"]["rope_theta"]
    changed = {
        **{name: settings[name] for name in SAME if settings.get(name) is not None},
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "original_max_position_embeddings": settings["max_position_embeddings"],
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "sliding_window": 2047,
    }
    (target / "config.json").write_text(json.dumps(changed, indent=1) + "\n")
    weights: dict[str, torch.Tensor] = {}
    for file in source.glob("*.safetensors"):
        weights |= load_file(file)
    save_file(joined(weights), target / "model.safetensors", metadata={"format": "pt"})
    for file in source.iterdir():
        if file.is_file() and file.suffix != ".safetensors" and not (target / file.name).exists():
            shutil.copy(file, target)


def joined(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    made: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        module = name.removesuffix(".weight").rpartition(".")[2]
        if module in JOINED:
            whole, parts = JOINED[module]
            pieces = [weights[name.replace(module, part)] for part in parts]
            made[name.replace(module, whole)] = torch.cat(pieces)
        elif module not in TAKEN:
            made[name] = weight.clone()
    return made


if __name__ == "__main__":
    main()
