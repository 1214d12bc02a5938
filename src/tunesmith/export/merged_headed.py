"""An adapter with a head worked into its base: a folder that transformers loads as a whole model.

Its class is the one that transformers has for such a head: AutoModelForSequenceClassification,
AutoModelForTokenClassification or AutoModelForQuestionAnswering. The labels are in config.json, and
in head.json what else the head says.

Model and head are held in memory in fp32 and rounded once, when they are written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from tunesmith.core.errors import Fault, ModelError
from tunesmith.core.file_hash import file_sha256
from tunesmith.data.tokenizer import Tokenizer, load_tokenizer, separator_of
from tunesmith.export.merge_record import check_record, merge_record, rounded_record
from tunesmith.export.model_files import copy_tokenizer
from tunesmith.export.verify import compare_heads, head_logits, require_agreement
from tunesmith.export.what import Trained
from tunesmith.methods.adapter_files import as_os_error
from tunesmith.methods.attach import load_adapter
from tunesmith.methods.merge import STORED_DTYPES, MergeDtype
from tunesmith.methods.merge_headed import merge_into
from tunesmith.models.folder import stored_tensors, weight_files
from tunesmith.models.head_file import write_head
from tunesmith.models.headed import Head, HeadedModel, load_headed
from tunesmith.models.quiet import quiet
from tunesmith.models.saving import save_model
from tunesmith.models.shards import TORCH_DTYPES, WrittenFile, bytes_of
from tunesmith.recipe.model import ModelPart

# Of what is written; the rounding that each explains is in verify.py.
ROUNDED_TO = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


def bytes_of_headed(trained: Trained, dtype: MergeDtype) -> int:
    """How much room the weights take; the head's few are not counted."""
    tensors = [tensor for file in weight_files(trained.base.folder)
               for tensor in stored_tensors(file)]  # fmt: skip
    written = _written_dtype(trained, dtype)
    return sum(
        bytes_of(tensor) // TORCH_DTYPES[tensor.dtype].itemsize * written.itemsize
        for tensor in tensors
        if tensor.dtype in TORCH_DTYPES
    )


def fill_headed(
    folder: Path, trained: Trained, head: Head, dtype: MergeDtype, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Fill a folder with the merged model, check it, and return what merge.json holds.

    Raises:
        ModelError: the adapter cannot be merged.
        RunError: the result is not what it was made from.
        OSError: the disk is full or fails.
    """
    tokenizer = load_tokenizer(trained.tokenizer_folder)
    tell("asking the base with its adapter")
    wanted = _with_adapter(trained, ModelPart(source="base", dtype="fp32"), head, tokenizer)
    tell("merging the adapter and its head")
    headed = _load(trained.base.folder, head, tokenizer)
    changed = merge_into(headed.model, trained.folder)
    written = _written_dtype(trained, dtype)
    _save(headed, folder, written)
    del headed
    write_head(folder, head)
    copy_tokenizer(trained, folder)
    tell("asking the merged model")
    merged = _load(folder, head, tokenizer)
    assert not merged.new, "the head was written with the model"
    agreement = compare_heads(head, wanted, head_logits(merged, tokenizer), ROUNDED_TO[written])
    require_agreement(agreement, str(folder))
    del merged
    files = [
        WrittenFile(file, file.stat().st_size, file_sha256(file)) for file in weight_files(folder)
    ]
    record = merge_record(
        trained, dtype, files, merged_tensors=len(changed), unties_head=False
    )  # fmt: skip
    record |= {"head": asdict(head), "check": check_record(agreement, "fp32")}
    if trained.part.base is not None:
        tell(f"asking the base in {trained.part.base} with its adapter")
        rounded = _with_adapter(trained, trained.part, head, tokenizer)
        record["rounded_base"] = rounded_record(
            trained, compare_heads(head, wanted, rounded, "fp32")
        )
    return record


def _with_adapter(trained: Trained, part: ModelPart, head: Head, tokenizer: Tokenizer) -> Tensor:
    headed = _load(trained.base.folder, head, tokenizer, part)
    load_adapter(headed.model, trained.folder)
    return head_logits(headed, tokenizer)


def _load(
    folder: Path, head: Head, tokenizer: Tokenizer, part: ModelPart | None = None
) -> HeadedModel:
    return load_headed(
        folder,
        part or ModelPart(source=str(folder), dtype="fp32"),
        head,
        seed=0,
        pad_id=tokenizer.pad_token_id,
        separator=separator_of(tokenizer),
    )


def _written_dtype(trained: Trained, dtype: MergeDtype) -> torch.dtype:
    """Return the one dtype of all weights, as such a model has: by default that of most."""
    if dtype != "original":
        return TORCH_DTYPES[STORED_DTYPES[dtype]]
    sizes = Counter[torch.dtype]()
    for file in weight_files(trained.base.folder):
        for tensor in stored_tensors(file):
            kind = TORCH_DTYPES.get(tensor.dtype)
            if kind in ROUNDED_TO:
                sizes[kind] += bytes_of(tensor)
    if not sizes:
        fault = Fault(
            found="weights that are not in 16 or 32 bits",
            where=str(trained.base.folder),
            fix="name the model's original with --base",
        )
        raise ModelError(fault, code="merge_unsupported")
    return sizes.most_common(1)[0][0]


def _save(headed: HeadedModel, folder: Path, dtype: torch.dtype) -> None:
    model: Any = headed.model.to(dtype)
    wrong = [name for name, value in model.named_parameters() if not torch.isfinite(value).all()]
    if wrong:
        fault = Fault(
            found=f"{wrong[0]} is not finite (NaN or infinite) in {ROUNDED_TO[dtype]}",
            where=str(folder),
            fix="use --dtype fp32; if it is so there, too, train again: a run that diverges leaves "
            "such values",
        )
        raise ModelError(fault, code="not_finite")
    try:
        with quiet():
            save_model(model, folder)
    except safetensors.SafetensorError as error:
        raise as_os_error(error) from error
