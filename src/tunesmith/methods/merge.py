"""Writes a base model's weight files again with an adapter worked in, one tensor at a time.

    lora, rslora   W + scale B A
    dora           m (W + scale B A) / |W + scale B A|        each row by itself

W comes from the base's own files, never from what a run had rounded to fewer bits; the product and
the sum are made in fp32 and rounded once. Each merged matrix is held beside what the adapter's own
layer computes for a few random inputs, to fp32's exactness. Memory: the largest tensor, some times.

Shapes: O outputs, I inputs, N probes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from torch import Tensor, nn

from tunesmith.core.errors import Fault, ModelError, RunError
from tunesmith.methods.adapter_files import Adapter, Update
from tunesmith.methods.attach import attached_layer, require_fit
from tunesmith.models.folder import StoredTensor, stored_tensors, weight_files
from tunesmith.models.linear import is_transposed
from tunesmith.models.shards import TORCH_DTYPES, WrittenFile, bytes_of, write_shard
from tunesmith.models.skeleton import model_skeleton
from tunesmith.models.tied import tied_head

MergeDtype = Literal["bf16", "fp32", "original"]
STORED_DTYPES: Mapping[str, str] = {"bf16": "BF16", "fp32": "F32"}
FLOATING = ("F64", "F32", "F16", "BF16")
PROBES = 8
PROBE_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Piece:
    """A tensor of the result: what it is called, what it is made of, what is done to it."""

    stored: StoredTensor
    source: str
    update: Update | None = None
    transposed: bool = False
    whole: Tensor | None = None
    """The trained value that takes the place of the base's."""


@dataclass(frozen=True, eq=False)
class MergePlan:
    """The files of the result, each with its base's file and its tensors in order.

    `unties_head`: the base's head is its token embedding, and the result's is not.
    """

    shards: Mapping[Path, Sequence[Piece]]
    unties_head: bool

    @property
    def bytes(self) -> int:
        """How much room the result takes."""
        return sum(bytes_of(piece.stored) for pieces in self.shards.values() for piece in pieces)

    @property
    def merged(self) -> list[str]:
        """The names of the tensors that the adapter changes."""
        every = [piece for pieces in self.shards.values() for piece in pieces]
        return [piece.stored.name for piece in every if piece.update or piece.whole is not None]


def plan_merge(base: Path, adapter: Adapter, dtype: MergeDtype) -> MergePlan:
    """Find the place of each update in the base's files.

    Raises:
        ModelError: the adapter does not fit the base, or the base keeps its weights in a way that
            cannot be merged into.
    """
    model = model_skeleton(base)
    require_fit(model, adapter)
    files, names = _stored(base)
    head = tied_head(model)
    places = {
        _file_name(model, path, names, base): path for path in adapter.updates if path != head
    }
    shards: dict[Path, list[Piece]] = {}
    for file, tensors in files.items():
        shards[file] = []
        for tensor in tensors:
            path = places.get(tensor.name)
            update = adapter.updates[path] if path is not None else None
            transposed = path is not None and is_transposed(model.get_submodule(path))
            shards[file].append(Piece(_as(tensor, dtype), tensor.name, update, transposed))
    unties_head = head is not None and head in adapter.updates
    if head is not None and unties_head:
        _untie(shards, model, head, names, base, update=adapter.updates[head])
    if adapter.whole:
        unties_head |= _place_whole(shards, model, adapter, names, base)
    return MergePlan(shards, unties_head=unties_head)


def plan_whole(base: Path, values: Mapping[str, Tensor], dtype: MergeDtype) -> MergePlan:
    """Plan to write the base's files again with some of its tensors replaced, by parameter name.

    Raises:
        ModelError: the base's files have no such tensor.
    """
    model = model_skeleton(base)
    files, names = _stored(base)
    placed = {_file_name(model, name, names, base, end=""): value for name, value in values.items()}
    shards = {
        file: [
            Piece(_as(tensor, dtype), tensor.name, whole=placed.get(tensor.name))
            for tensor in tensors
        ]
        for file, tensors in files.items()
    }
    return MergePlan(shards, unties_head=False)


def write_merged(plan: MergePlan, folder: Path) -> list[WrittenFile]:
    """Write the result's weight files, under the names of the base's.

    Raises:
        OSError: the disk is full or fails.
        ModelError: a weight is not finite.
        RunError: a merged matrix does not compute what the adapter's layer does.
    """
    return [
        write_shard(folder / file.name, [piece.stored for piece in pieces], _values(file, pieces))
        for file, pieces in plan.shards.items()
    ]


def merged_weight(weight_OI: Tensor, update: Update) -> Tensor:
    """The matrix with the update worked in, in fp32."""
    whole_OI = torch.addmm(weight_OI.float(), update.b_OR, update.a_RI, alpha=update.scale)
    if update.magnitude_O is None:
        return whole_OI
    length_O = whole_OI.norm(dim=1).clamp_min_(torch.finfo(torch.float32).tiny)
    return whole_OI.mul_((update.magnitude_O / length_O)[:, None])


@torch.no_grad()
def check_merged(weight_OI: Tensor, update: Update, merged_OI: Tensor) -> float:
    """How far a merged matrix is from the adapter's layer on random inputs, relative to it."""
    outer, inner = weight_OI.shape
    linear = nn.Linear(inner, outer, bias=False, device="meta")
    linear.weight = nn.Parameter(weight_OI.float(), requires_grad=False)
    layer = attached_layer(linear.eval(), update)
    probes_NI = torch.randn(PROBES, inner, generator=torch.Generator().manual_seed(0))
    probes_NI = probes_NI.to(weight_OI.device)
    wanted_NO = layer(probes_NI)
    difference = (probes_NI @ merged_OI.T - wanted_NO).abs().max()
    return float(difference / wanted_NO.abs().max().clamp_min(1.0))


def _values(file: Path, pieces: Sequence[Piece]) -> Iterator[Tensor]:
    with safe_open(file, "pt") as held:
        for piece in pieces:
            yield _value(held.get_tensor(piece.source), piece, file)


@torch.no_grad()
def _value(weight: Tensor, piece: Piece, file: Path) -> Tensor:
    dtype = TORCH_DTYPES[piece.stored.dtype]
    if piece.whole is not None:
        return _finite(piece.whole.to(dtype), piece, file)
    if piece.update is None:
        return _finite(weight.to(dtype), piece, file)
    weight_OI = weight.T if piece.transposed else weight
    merged_OI = merged_weight(weight_OI, piece.update)
    fault = merge_differs(piece.stored.name, weight_OI, piece.update, merged_OI, file)
    if fault is not None:
        raise RunError(fault, code="merge_differs")
    return _finite((merged_OI.T if piece.transposed else merged_OI).to(dtype), piece, file)


def _finite(value: Tensor, piece: Piece, file: Path) -> Tensor:
    if not value.is_floating_point() or bool(torch.isfinite(value).all()):
        return value
    name, dtype = piece.stored.name, piece.stored.dtype
    fix = "train it again: a run that diverges leaves such values"
    if dtype == "F16":
        fix = "use --dtype bf16: fp16 holds nothing beyond 65,504"
    found = f"{name} is not finite (NaN or infinite) in {dtype}"
    raise ModelError(Fault(found=found, where=str(file), fix=fix), code="not_finite")


def merge_differs(
    name: str, weight_OI: Tensor, update: Update, merged_OI: Tensor, where: Path
) -> Fault | None:
    """Say of a merged matrix that it does not compute what the adapter's layer does, if so."""
    error = check_merged(weight_OI, update, merged_OI)
    if error <= PROBE_TOLERANCE:
        return None
    return Fault(
        found=f"{name}: merged, it differs by {error:.1e} from the adapter's layer, "
        f"relative to the largest output (rounding explains {PROBE_TOLERANCE:.0e})",
        where=str(where),
        fix="report this with the adapter_config.json",
    )


def _stored(base: Path) -> tuple[dict[Path, list[StoredTensor]], set[str]]:
    """Return the tensors of each of the base's files, and the names of all."""
    files = {file: list(stored_tensors(file)) for file in weight_files(base)}
    _require_known_dtypes(files)
    return files, {tensor.name for tensors in files.values() for tensor in tensors}


def _require_known_dtypes(files: Mapping[Path, Sequence[StoredTensor]]) -> None:
    for file, tensors in files.items():
        for tensor in tensors:
            if tensor.dtype not in TORCH_DTYPES:
                found = f"{tensor.name} is stored as {tensor.dtype}"
                fix = "name the model's original, in 16 or 32 bits, with --base"
                raise ModelError(Fault(found=found, where=str(file), fix=fix))


def _as(tensor: StoredTensor, dtype: MergeDtype) -> StoredTensor:
    if dtype == "original" or tensor.dtype not in FLOATING:
        return tensor
    return StoredTensor(tensor.name, STORED_DTYPES[dtype], tensor.shape)


def _file_name(
    model: nn.Module, path: str, names: set[str], base: Path, *, end: str = ".weight"
) -> str:
    """Some models' files leave out the name of the part below the head."""
    prefix = str(getattr(model, "base_model_prefix", "")) + "."
    for name in (path + end, path.removeprefix(prefix) + end):
        if name in names:
            return name
    fault = Fault(
        found=f"the files of the base model have no {path}{end}: they keep their weights in "
        "another form than the loaded model",
        where=str(base),
        fix="load base and adapter with PEFT, merge_and_unload(), and save the result",
    )
    raise ModelError(fault, code="merge_unsupported")


def _place_whole(
    shards: dict[Path, list[Piece]], model: nn.Module, adapter: Adapter, names: set[str], base: Path
) -> bool:
    """Put what was trained whole into its places; True where head and embedding are no longer one.

    Raises:
        ModelError: the base's files have no such weight, or only the embedding of two tied ones
            was trained.
    """
    head = tied_head(model)
    values = dict(adapter.whole)
    untied = None
    if head is not None:
        embedding = _embedding(model)
        values_of = (values.get(f"{embedding}.weight"), values.get(f"{head}.weight"))
        if values_of[0] is not None and values_of[1] is None:
            raise ModelError(_embedding_alone(embedding, head, adapter), code="merge_unsupported")
        if values_of[1] is not None:
            del values[f"{head}.weight"]
            is_one = values_of[0] is not None and values_of[0].equal(values_of[1])
            untied = None if is_one else values_of[1]
    placed = {_file_name(model, name, names, base, end=""): value for name, value in values.items()}
    if head is not None and untied is not None:
        _untie(shards, model, head, names, base, whole=untied)
    elif head is not None and f"{head}.weight" in names and f"{_embedding(model)}.weight" in values:
        placed[f"{head}.weight"] = values[f"{_embedding(model)}.weight"]
    for pieces in shards.values():
        pieces[:] = [
            replace(piece, whole=placed.get(piece.stored.name, piece.whole)) for piece in pieces
        ]
    return untied is not None


def _embedding(model: nn.Module) -> str:
    owner: Any = model
    return next(path for path, one in model.named_modules() if one is owner.get_input_embeddings())


def _embedding_alone(embedding: str, head: str, adapter: Adapter) -> Fault:
    return Fault(
        found=f"{embedding} was trained alone, and the base's {head} is tied to it",
        where=str(adapter.folder),
        fix=f"train it again with modules_to_save: [{embedding}], which keeps them one matrix here",
    )


def _untie(
    shards: dict[Path, list[Piece]],
    model: nn.Module,
    head: str,
    names: set[str],
    base: Path,
    *,
    update: Update | None = None,
    whole: Tensor | None = None,
) -> None:
    """Give the head a matrix of its own, made from the embedding's, which stays as it is."""
    source = _file_name(model, _embedding(model), names, base)
    for pieces in shards.values():
        pieces[:] = [piece for piece in pieces if piece.stored.name != f"{head}.weight"]
        for piece in [*pieces]:
            if piece.source == source:
                stored = StoredTensor(f"{head}.weight", piece.stored.dtype, piece.stored.shape)
                pieces.append(Piece(stored, source, update, whole=whole))
