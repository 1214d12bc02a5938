"""An adapter worked into its base: a model folder that serves by itself, checked before it exists.

`python -m tunesmith.export.merged WHAT --output DIR` is the same as a process of its own, for
callers that must not import torch: one JSON line on stdout ({"merge": ...}, or {"error": ...} and
exit code 2 or 3), progress as JSON lines ({"progress": ...}) on stderr.

The folder is filled under another name and renamed when the check has passed, so a folder that
looks right is right. merge.json in it holds the numbers.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from tunesmith.core.errors import Fault, MachineError, TunesmithError
from tunesmith.core.file_hash import file_sha256
from tunesmith.core.hardware import available_memory_bytes, free_disk_bytes
from tunesmith.core.log import set_up_logging
from tunesmith.core.run_dir import disk_error, write_json
from tunesmith.data.tokenizer import load_tokenizer
from tunesmith.export.merge_record import check_record, merge_record, rounded_record
from tunesmith.export.merged_headed import bytes_of_headed, fill_headed
from tunesmith.export.model_files import copy_model_files, stop_at, write_index
from tunesmith.export.verify import (
    Answers,
    compare,
    greedy_answers,
    logits_of,
    require_agreement,
)
from tunesmith.export.what import Trained, find_trained
from tunesmith.methods.adapter_files import read_adapter
from tunesmith.methods.attach import load_adapter
from tunesmith.methods.merge import MergeDtype, MergePlan, plan_merge, write_merged
from tunesmith.models.facts import read_facts
from tunesmith.models.head_file import read_head
from tunesmith.models.load import Dtype, load_base, load_model
from tunesmith.models.shards import WrittenFile
from tunesmith.recipe.adapter_config import library_word

MERGE_FILE = "merge.json"
Tell = Callable[[str], None]
# Beside the weights: tokenizer, configuration, and a block of the file system each.
SMALL_FILES_BYTES = 50_000_000


def merge(
    what: str,
    output: Path,
    *,
    base: str | None = None,
    dtype: MergeDtype = "original",
    tell: Tell = lambda _: None,
) -> dict[str, Any]:
    """Merge and check; returns what merge.json holds.

    Raises:
        ModelError: there is no adapter, or it cannot be merged.
        MachineError: `output` is in use, or its disk has no room.
        RunError: the result is not what it was made from, or the disk failed. Nothing is left.
    """
    output = output.expanduser().absolute()
    _require_free(output)
    trained = find_trained(what, base)
    head = read_head(trained.folder)
    plan = _plan(trained, dtype) if head is None else None
    _require_space(output, plan.bytes if plan else bytes_of_headed(trained, dtype))
    unfinished = output.with_name(f".{output.name}.merging")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        if head is not None:
            record = fill_headed(unfinished, trained, head, dtype, tell)
        else:
            assert plan is not None, "only a head has no plan"
            record = _fill(unfinished, trained, plan, dtype, tell)
        write_json(unfinished / MERGE_FILE, record)
        if output.exists():  # empty
            output.rmdir()
        unfinished.rename(output)
    except OSError as error:
        raise disk_error(output, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return record


def _plan(trained: Trained, dtype: MergeDtype) -> MergePlan:
    if library_word(trained.folder) is None:
        return plan_merge(trained.base.folder, read_adapter(trained.folder), dtype)
    # The library takes a second to import, which few merges need.
    from tunesmith.methods.merge_library import plan_library_merge

    return plan_library_merge(trained.base.folder, trained.folder, dtype)


def _fill(
    folder: Path,
    trained: Trained,
    plan: MergePlan,
    dtype: MergeDtype,
    tell: Tell,
) -> dict[str, Any]:
    computed = _computing_dtype(trained.base.folder)
    tell("asking the base with its adapter")
    tokenizer = load_tokenizer(trained.tokenizer_folder)
    wanted = _with_adapter(load_model(trained.base.folder, computed), trained, tokenizer)
    tell(f"merging {len(plan.merged)} matrices into {plan.bytes / 1e6:,.0f} MB of weights")
    files = write_merged(plan, folder)
    write_index(folder, plan)
    stored = _largest_rounding(plan)
    copy_model_files(trained, folder, stored, unties_head=plan.unties_head)
    stop_at(folder, tokenizer.eos_token_id)
    tell("asking the merged model")
    _require_same_bytes(files)
    merged = load_model(folder, computed)
    agreement = compare(wanted, logits_of(merged, wanted.tokens_BT), _coarser(stored, computed))
    require_agreement(agreement, str(folder))
    del merged
    record = merge_record(
        trained, dtype, files, merged_tensors=len(plan.merged), unties_head=plan.unties_head
    )
    record["check"] = check_record(agreement, computed)
    if trained.part.base is not None:
        tell(f"asking the base in {trained.part.base} with its adapter")
        record["rounded_base"] = _rounded(trained, wanted)
    return record


def _with_adapter(model: Any, trained: Trained, tokenizer: Any) -> Answers:
    load_adapter(model, trained.folder)
    return greedy_answers(model, tokenizer)


def _rounded(trained: Trained, wanted: Answers) -> dict[str, Any]:
    """How far the result is from what the run itself computed, whose base was rounded."""
    model = load_base(trained.base.folder, trained.part)
    load_adapter(model, trained.folder)
    return rounded_record(trained, compare(wanted, logits_of(model, wanted.tokens_BT), "fp32"))


def _computing_dtype(folder: Path) -> Dtype:
    """What both are asked in: fp32, which adds no rounding, where a model fits that way."""
    needed = 4 * read_facts(folder).parameters
    return "fp32" if needed * 1.3 < available_memory_bytes() else "bf16"


def _largest_rounding(plan: MergePlan) -> str:
    """The coarsest dtype of a merged tensor."""
    stored = {
        piece.stored.dtype
        for pieces in plan.shards.values()
        for piece in pieces
        if piece.update or piece.whole is not None
    }
    names = {"BF16": "bf16", "F16": "fp16"}
    return next((names[kind] for kind in names if kind in stored), "fp32")


def _coarser(stored: str, computed: str) -> str:
    return computed if computed == "bf16" else stored


def _require_same_bytes(files: Sequence[WrittenFile]) -> None:
    for file in files:
        if file_sha256(file.path) != file.sha256:
            raise OSError(5, "the disk gives back other bytes than were written", str(file.path))


def _require_free(output: Path) -> None:
    if output.is_dir() and not any(output.iterdir()):
        return
    if not output.exists():
        return
    found = "a folder that is not empty" if output.is_dir() else "a file"
    fix = "name a new folder with --output"
    raise MachineError(Fault(found=found, where=str(output), fix=fix), code="output_exists")


def _require_space(output: Path, weight_bytes: int) -> None:
    needed, free = weight_bytes + SMALL_FILES_BYTES, free_disk_bytes(output)
    if needed <= free:
        return
    found = f"no space: the merged model needs {needed:,} bytes, and {free:,} are free"
    fix = "free some space, or name a folder on another disk with --output"
    raise MachineError(Fault(found=found, where=str(output), fix=fix), code="no_space")


def main(arguments: Sequence[str] | None = None) -> int:
    """The process: merges once and answers in JSON lines."""
    parser = argparse.ArgumentParser(prog="python -m tunesmith.export.merged")
    parser.add_argument("what")
    parser.add_argument("--output", required=True)
    parser.add_argument("--base")
    parser.add_argument("--dtype", default="original", choices=("bf16", "fp32", "original"))
    chosen = parser.parse_args(arguments)
    set_up_logging()

    def tell(text: str) -> None:
        _say(sys.stderr, {"progress": text})

    try:
        output = Path(chosen.output)
        record = merge(chosen.what, output, base=chosen.base, dtype=chosen.dtype, tell=tell)
    except TunesmithError as error:
        faults = [asdict(fault) for fault in error.faults]
        known = {"code": error.code, "exit_code": error.exit_code, "faults": faults}
        _say(sys.stdout, {"error": known})
        return error.exit_code
    _say(sys.stdout, {"merge": record})
    return 0


def _say(stream: IO[str], value: dict[str, Any]) -> None:
    stream.write(json.dumps(value) + "\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
