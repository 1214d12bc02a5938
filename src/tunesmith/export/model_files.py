"""What a model folder holds beside its weights: configuration, tokenizer, template, index."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tunesmith.core.run_dir import write_json
from tunesmith.export.what import Trained
from tunesmith.methods.merge import MergePlan
from tunesmith.models.folder import TOKENIZER_FILES, WEIGHTS_INDEX, read_json
from tunesmith.models.shards import bytes_of

# Never copied: code, which is not run, and weights in other forms.
COPIED = (".json", ".txt", ".jinja", ".model", ".tiktoken", ".md")
CONFIG_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
TOKENIZER_SETTINGS = (
    *TOKENIZER_FILES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)


def copy_model_files(trained: Trained, folder: Path, dtype: str, *, unties_head: bool) -> None:
    """Copy the base's small files and the adapter's tokenizer; config.json says what changed.

    Raises:
        OSError: a file cannot be read or written.
    """
    for file in sorted(trained.base.folder.iterdir()):
        is_index = file.name.endswith(".index.json")
        if file.is_file() and file.suffix in COPIED and not is_index:
            shutil.copyfile(file, folder / file.name)
    copy_tokenizer(trained, folder)
    _write_config(folder / "config.json", dtype, unties_head=unties_head)


def copy_tokenizer(trained: Trained, folder: Path) -> None:
    """Copy the tokenizer that the adapter was trained with, in place of any that is there.

    Raises:
        OSError: a file cannot be read or written.
    """
    own = trained.tokenizer_folder
    for name in TOKENIZER_SETTINGS:
        (folder / name).unlink(missing_ok=True)
        if (own / name).is_file():
            shutil.copyfile(own / name, folder / name)


def stop_at(folder: Path, eos_id: int | None) -> None:
    """Let generation end at the tokenizer's end token, too: a recipe may have set another one."""
    file = folder / "generation_config.json"
    if eos_id is None or not file.is_file():
        return
    config: dict[str, Any] = read_json(file)
    stated = config.get("eos_token_id")
    known = stated if isinstance(stated, list) else [] if stated is None else [stated]
    if eos_id not in known:
        write_json(file, {**config, "eos_token_id": [*known, eos_id]})


def write_index(folder: Path, plan: MergePlan) -> None:
    """Write which file holds which tensor, where there is more than one file."""
    names = {
        piece.stored.name: file.name for file, pieces in plan.shards.items() for piece in pieces
    }
    if len(set(names.values())) > 1:
        sizes = [bytes_of(piece.stored) for pieces in plan.shards.values() for piece in pieces]
        index = {"metadata": {"total_size": sum(sizes)}, "weight_map": names}
        write_json(folder / WEIGHTS_INDEX, index)


def _write_config(file: Path, dtype: str, *, unties_head: bool) -> None:
    config: dict[str, Any] = read_json(file)
    key = "torch_dtype" if "torch_dtype" in config and "dtype" not in config else "dtype"
    config[key] = CONFIG_DTYPES[dtype]
    if unties_head:
        config["tie_word_embeddings"] = False
    write_json(file, config)
