"""Checkpoints: everything a run needs to go on as if it had never stopped.

    checkpoints/step-40/  trained.safetensors    the method's parameters, fp32
                          optimizer.safetensors  its moments, by parameter name
                          method.safetensors     what the method remembers, where it does
                          progress.json          step, held-out losses, random state, counts
                          manifest.json          size and sha256 of each file above

Where each rank writes its own part, trained.safetensors is trained-0-of-2.safetensors and so on,
and optimizer.safetensors, too (models/tensor_parts.py).

A checkpoint is written to a folder with a temporary name, flushed, read back against its manifest
and renamed last: a folder called `step-N` is complete, or damaged later, which its hashes tell.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from tunesmith.core.errors import Fault, RunError, TunesmithError
from tunesmith.core.file_hash import file_sha256
from tunesmith.core.run_dir import disk_error, read_json, write_json
from tunesmith.methods.adapter_files import as_os_error
from tunesmith.methods.base import Shape
from tunesmith.models.device import RandomState, put_back_random_state, random_state
from tunesmith.models.tensor_parts import (
    TRAINED,
    Rows,
    file_name,
    open_tensors,
    part_name,
    write_part,
)
from tunesmith.training.complete import (
    joined_shapes,
    require_complete,
    require_joined,
    require_moments,
    require_moments_like,
)

log = logging.getLogger(__name__)

OPTIMIZER = "optimizer"  # a file, or parts, as TRAINED
METHOD, PROGRESS, MANIFEST = (
    "method.safetensors",
    "progress.json",
    "manifest.json",
)
NAME = re.compile(r"step-(\d+)")
DAMAGED = "damaged-"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands. `held_out` maps steps to held-out losses; `tokens` counts all seen.

    `micro_batch_limit` is what memory allows (tokens, padding included), once it has run out.
    """

    step: int
    tokens: int = 0
    supervised_tokens: int = 0
    seconds: float = 0.0
    held_out: Mapping[int, float] = field(default_factory=dict[int, float])
    micro_batch_limit: int | None = None

    @property
    def best_step(self) -> int | None:
        """The step with the lowest held-out loss so far, the first of equals."""
        known = self.held_out
        return min(known, key=lambda step: (known[step], step)) if known else None

    @property
    def is_best(self) -> bool:
        """Whether this step's own held-out loss is the lowest so far."""
        return self.best_step == self.step


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingState:
    """The trained values and the optimizer's state, whatever ranks they are spread over.

    `tensors` and `numbers` are the optimizer's, by `parameter/word`; AdamW has no numbers. They are
    whole, or with `rows` this rank's part of them: what is in there is rows of a whole tensor.
    """

    trained: Mapping[str, Tensor]
    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, int | float]
    rows: Mapping[str, Rows] | None = None


def save_checkpoint(
    folder: Path,
    progress: Progress,
    trainable: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write `folder/step-N` of values that this process holds whole, and return it."""
    return write_checkpoint(folder, progress, state_of(trainable, optimizer), state)


def write_checkpoint(
    folder: Path,
    progress: Progress,
    training: TrainingState,
    state: Mapping[str, Tensor] | None = None,
    shapes: Mapping[str, Shape] | None = None,
    parts: Path | None = None,
) -> Path:
    """Write `folder/step-N` and return it; `state` is what the method remembers.

    `shapes` are those of the trained values before they were spread; the file is held beside them.
    `parts` is the folder in which all ranks have written theirs; it becomes part of the checkpoint.

    Raises:
        RunError: the disk is full or fails, or what was written is not whole; earlier checkpoints
            are untouched, nothing half-written stays.
    """
    final = folder / f"step-{progress.step}"
    temporary = folder / f".{final.name}.{os.getpid()}.tmp"
    try:
        folder.mkdir(exist_ok=True)
        _clear_half_written(folder)
        temporary.mkdir()
        _write_files(temporary, progress, training, state or {}, parts)
        _verify(temporary)
        if shapes is not None:
            _require_all(temporary, shapes, in_parts=parts is not None)
        if final.exists():  # made by this run before it was stopped and resumed from an older one
            shutil.rmtree(final)
        temporary.rename(final)
        _flush(folder)
    except (OSError, safetensors.SafetensorError) as error:
        _discard(temporary, parts)
        raise disk_error(final, as_os_error(error)) from error
    except TunesmithError as error:
        _discard(temporary, parts)
        raise error.at(str(temporary), str(final)) from error
    return final


def begin_parts(folder: Path, step: int) -> Path:
    """Make the empty folder in which all ranks write their parts of a checkpoint.

    Raises:
        RunError: the disk is full or fails.
    """
    try:
        for left in folder.glob(".parts-*.tmp"):
            shutil.rmtree(left, ignore_errors=True)
        parts = folder / f".parts-{step}.tmp"
        parts.mkdir(parents=True)
    except OSError as error:
        raise disk_error(folder, error) from error
    return parts


def write_parts(parts: Path, training: TrainingState, *, rank: int, size: int) -> None:
    """Write a rank's own part of a checkpoint.

    Raises:
        RunError: the disk is full or fails.
    """
    rows = training.rows or {}
    for word, tensors in ((TRAINED, training.trained), (OPTIMIZER, training.tensors)):
        file = parts / part_name(word, rank, size)
        try:
            write_part(file, tensors, rows)
        except (OSError, safetensors.SafetensorError) as error:
            raise disk_error(file, as_os_error(error)) from error


def load_newest(
    folder: Path,
    trainable: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    *,
    tell: Callable[[str], None] = log.warning,
) -> Progress | None:
    """Put back the newest checkpoint that is whole; None where there is none."""
    newest = find_newest(folder, tell=tell)
    if newest is None:
        return None
    progress, training = read_checkpoint(newest, trainable)
    put_back(training, trainable, optimizer)
    return progress


def find_newest(folder: Path, *, tell: Callable[[str], None] = log.warning) -> Path | None:
    """Return the newest checkpoint that is whole; None where there is none.

    A damaged one is set aside and told: the run then goes on from the one before it.
    """
    for checkpoint in reversed(list_checkpoints(folder)):
        try:
            _verify(checkpoint)
        except (TunesmithError, OSError, LookupError, TypeError, AttributeError) as error:
            tell(_set_aside(checkpoint, error))
            continue
        return checkpoint
    return None


def missing_best(folder: Path, progress: Progress) -> str | None:
    """Say so where the checkpoint with the lowest held-out loss is not there (any more)."""
    best = progress.best_step
    if best is None or (folder / f"step-{best}").is_dir():
        return None
    return (
        f"the best checkpoint so far, checkpoints/step-{best} (held-out loss "
        f"{progress.held_out[best]:.4f}), is not there; the run goes on without it"
    )


def method_state(folder: Path, step: int) -> dict[str, Tensor]:
    """Read what the method remembered at a step; nothing where it remembers nothing."""
    file = folder / f"step-{step}" / METHOD
    return safetensors.torch.load_file(file) if file.is_file() else {}


def list_checkpoints(folder: Path) -> list[Path]:
    """All checkpoints by step."""
    if not folder.is_dir():
        return []
    found = [(match, child) for child in folder.iterdir() if (match := NAME.fullmatch(child.name))]
    return [child for _, child in sorted(found, key=lambda pair: int(pair[0][1]))]


def prune(folder: Path, *, keep: int, held_out: Mapping[int, float]) -> None:
    """Delete the oldest checkpoints beyond `keep`; the newest and the best are never deleted."""
    steps = {int(path.name.removeprefix("step-")): path for path in list_checkpoints(folder)}
    if len(steps) <= keep:
        return
    scored = {step: held_out[step] for step in steps if step in held_out}
    protected = (
        {max(steps), min(scored, key=lambda step: (scored[step], step))} if scored else {max(steps)}
    )
    surplus = len(steps) - max(keep, len(protected))
    for step in [step for step in sorted(steps) if step not in protected][:surplus]:
        shutil.rmtree(steps[step])


def _write_files(
    folder: Path,
    progress: Progress,
    training: TrainingState,
    state: Mapping[str, Tensor],
    parts: Path | None,
) -> None:
    if parts is None:
        safetensors.torch.save_file(dict(training.trained), folder / file_name(TRAINED))
        safetensors.torch.save_file(dict(training.tensors), folder / file_name(OPTIMIZER))
        written = [file_name(TRAINED), file_name(OPTIMIZER), PROGRESS]
    else:
        written = [part.rename(folder / part.name).name for part in sorted(parts.iterdir())]
        written.append(PROGRESS)
        parts.rmdir()
    if state:
        own = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
        safetensors.torch.save_file(own, folder / METHOD)
        written.append(METHOD)
    random = random_state()
    write_json(
        folder / PROGRESS,
        {
            "step": progress.step,
            "tokens": progress.tokens,
            "supervised_tokens": progress.supervised_tokens,
            "seconds": progress.seconds,
            "held_out": {str(step): loss for step, loss in progress.held_out.items()},
            "micro_batch_limit": progress.micro_batch_limit,
            "optimizer_numbers": dict(training.numbers),
            "torch_random_state": _hex(random.host),
            **({"gpu_random_state": _hex(random.gpu)} if random.gpu is not None else {}),
        },
    )
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)}
        for name in written
    }
    for name in files:
        _flush(folder / name)
    write_json(folder / MANIFEST, {"files": files})
    _flush(folder)


def state_of(
    trainable: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> TrainingState:
    """Return the state of values that this process holds whole."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, int | float] = {}
    for name, parameter in trainable.items():
        for word, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                # A copy: parameters may share one (the 8-bit code table), a file may not.
                tensors[f"{name}/{word}"] = copy_on_host(value)
            else:
                assert isinstance(value, int | float), f"{word} is a {type(value).__name__}"
                numbers[f"{name}/{word}"] = value
    held = {name: parameter.detach().contiguous() for name, parameter in trainable.items()}
    return TrainingState(trained=held, tensors=tensors, numbers=numbers)


def copy_on_host(value: Tensor) -> Tensor:
    """Return a copy in the host's memory: a device that trains seldom has room for one."""
    return value.detach().to("cpu", copy=True).contiguous()


def _hex(state: Tensor) -> str:
    return state.numpy().tobytes().hex()


def _from_hex(text: str) -> Tensor:
    return torch.frombuffer(bytearray(bytes.fromhex(text)), dtype=torch.uint8).clone()


def _verify(folder: Path) -> None:
    manifest: dict[str, Any] = read_json(folder / MANIFEST) if folder.is_dir() else {}
    for name, expected in manifest.get("files", {}).items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != expected["bytes"]:
            raise _damaged(file, "it is missing or has another size")
        if file_sha256(file) != expected["sha256"]:
            raise _damaged(file, "its content changed")
    if not manifest.get("files"):
        raise _damaged(folder, "its manifest names no files")


def _set_aside(checkpoint: Path, error: Exception) -> str:
    """Give a damaged checkpoint a name that is not a checkpoint's; return what to tell."""
    aside = checkpoint.with_name(f"{DAMAGED}{checkpoint.name}")
    reason = error.faults[0] if isinstance(error, TunesmithError) else error
    found = f"{reason.found} ({reason.where})" if isinstance(reason, Fault) else str(reason)
    text = f"passing over the damaged checkpoint {checkpoint.name}: {found}"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        checkpoint.rename(aside)
    except OSError:  # it is passed over the next time, too
        return text
    return f"{text}; it is kept as checkpoints/{aside.name}, and may be deleted"


def read_checkpoint(folder: Path, names: Iterable[str]) -> tuple[Progress, TrainingState]:
    """Read a whole checkpoint of the parameters with these names, and put back the random state.

    Raises:
        RunError: it holds other parameters.
    """
    held = open_tensors(folder, TRAINED)
    wrong = held.keys() ^ set(names)
    if wrong:
        raise _other_run(folder, f"it holds other parameters, such as {min(wrong)}")
    values = read_json(folder / PROGRESS)
    training = TrainingState(
        trained=held,
        tensors=open_tensors(folder, OPTIMIZER),
        numbers=values["optimizer_numbers"],
    )
    put_back_random_state(
        RandomState(
            _from_hex(values["torch_random_state"]),
            _from_hex(values["gpu_random_state"]) if "gpu_random_state" in values else None,
        )
    )
    progress = Progress(
        step=values["step"],
        tokens=values["tokens"],
        supervised_tokens=values["supervised_tokens"],
        seconds=values["seconds"],
        held_out={int(step): loss for step, loss in values["held_out"].items()},
        micro_batch_limit=values["micro_batch_limit"],
    )
    return progress, training


def put_back(
    training: TrainingState,
    trainable: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Put a state into values that this process holds whole, and their optimizer."""
    state = by_parameter(training)
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(training.trained[name])
            if name in state:
                optimizer.state[parameter] = {
                    word: value.to(parameter.device) if isinstance(value, Tensor) else value
                    for word, value in state[name].items()
                }


def by_parameter(training: TrainingState) -> dict[str, dict[str, Any]]:
    """Return the optimizer's state by parameter and word."""
    state: dict[str, dict[str, Any]] = {}
    for key, value in {**training.tensors, **training.numbers}.items():
        name, _, word = key.rpartition("/")
        state.setdefault(name, {})[word] = value
    return state


def _clear_half_written(folder: Path) -> None:
    """Remove what a killed process left; only one process writes to a run folder."""
    for child in folder.glob(".step-*.tmp"):
        shutil.rmtree(child, ignore_errors=True)


def _discard(*folders: Path | None) -> None:
    for folder in folders:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _require_all(folder: Path, shapes: Mapping[str, Shape], *, in_parts: bool) -> None:
    """Hold what was written beside the model."""
    if in_parts:
        require_joined(folder, TRAINED, shapes)
        require_moments_like(joined_shapes(folder, OPTIMIZER), shapes, folder)
    else:
        require_complete(folder, shapes, file_name(TRAINED))
        require_moments(folder / file_name(OPTIMIZER), shapes)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damaged(path: Path, reason: str) -> RunError:
    fix = "an earlier checkpoint is used where there is one"
    return RunError(Fault(found=reason, where=str(path), fix=fix), code="checkpoint_damaged")


def _other_run(path: Path, reason: str) -> RunError:
    fix = "resume with the recipe that the run was started with, or start a new run"
    return RunError(Fault(found=reason, where=str(path), fix=fix), code="checkpoint_mismatch")
