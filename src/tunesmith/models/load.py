"""Loads a model folder into torch: frozen, in evaluation mode, in one dtype.

    hidden_BTD = backbone(model)(tokens_BT).last_hidden_state
    logits_BTV = softcap(output_head(model)(hidden_BTD) * scale)      scale and cap: facts.py

B rows, T tokens, D hidden width, V vocabulary. Training works from the hidden states, so
that logits are made only where a token is supervised. That this gives the model's own logits is
checked on four tokens at every load: some architectures put more than a matrix behind them.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from tunesmith.core.errors import Fault, MachineError, ModelError
from tunesmith.core.hardware import has_fast_bf16
from tunesmith.models.device import CPU
from tunesmith.models.facts import ModelFacts, read_facts, require_writer
from tunesmith.models.quiet import quiet
from tunesmith.recipe.model import BaseForm, ModelPart

log = logging.getLogger(__name__)

Dtype = Literal["bf16", "fp32"]
DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp32": torch.float32}
# bf16 logits are rounded to 8 bits on both ways, which add up the same products in one order.
HEAD_TOLERANCE = {"bf16": 0.05, "fp32": 1e-3}


def load_model(
    folder: Path, dtype: Dtype, *, base: BaseForm | None = None, double_quant: bool = True
) -> nn.Module:
    """The model of a folder, on the CPU; no network and none of the folder's own code.

    With `base` its linear layers are quantised (models/quantise.py), and compute in `dtype`.

    Raises:
        ModelError: the folder holds no model that can be loaded here.
        MachineError: bitsandbytes is needed and not installed.
    """
    if base:
        require_bitsandbytes(base)
    facts = read_facts(folder)
    # A quantised model is read in its file's own dtype: nothing is copied that is only rounded.
    require_writer(folder)
    from transformers import AutoModelForCausalLM

    model, report = load_weights(folder, "auto" if base else DTYPES[dtype], AutoModelForCausalLM)
    _require_all_weights(folder, report)
    model.eval()
    model.requires_grad_(False)
    if base:
        # Loads bitsandbytes, which few runs need.
        from tunesmith.models.quantise import quantise_model

        quantise_model(
            model, [output_head(model)], base, double_quant=double_quant, dtype=DTYPES[dtype]
        )
    _require_known_logits(model, facts, folder, HEAD_TOLERANCE[dtype])
    return model


def require_bitsandbytes(base: BaseForm) -> None:
    """Raise a MachineError where the library that keeps weights in fewer bits is absent."""
    if find_spec("bitsandbytes") is None:
        fault = Fault(
            found="bitsandbytes is not installed",
            where=f"recipe: model.base: {base}",
            fix="install bitsandbytes, or leave model.base out",
        )
        raise MachineError(fault)


def load_base(folder: Path, part: ModelPart, device: torch.device = CPU) -> nn.Module:
    """The model of a folder on a device, kept as the recipe says."""
    dtype = choose_dtype(part, device)
    model = load_model(folder, dtype, base=part.base, double_quant=part.double_quant)
    return model.to(device)


def choose_dtype(part: ModelPart, device: torch.device) -> Dtype:
    """The dtype of the base weights on a device, which is computed in, too."""
    if part.dtype == "auto":
        is_gpu = device.type == "cuda"
        is_fast = torch.cuda.is_bf16_supported() if is_gpu else has_fast_bf16()
        return "bf16" if is_fast else "fp32"
    return part.dtype


def backbone(model: nn.Module) -> nn.Module:
    """The part that turns tokens into hidden states (`.last_hidden_state`)."""
    owner: Any = model
    return model.get_submodule(owner.base_model_prefix)


def output_head(model: nn.Module) -> nn.Linear:
    """The matrix that turns hidden states into logits."""
    owner: Any = model
    head = owner.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise ModelError(
            Fault(
                found=f"the output head is a {type(head).__name__}, not one matrix",
                where=type(model).__name__,
                fix="choose another model",
            ),
            code="model_unsupported",
        )
    return head


def logits_from(logits: torch.Tensor, *, scale: float, softcap: float | None) -> torch.Tensor:
    """Puts the model's factor and cap on what its head gave."""
    scaled = logits if scale == 1.0 else logits * scale
    return scaled if softcap is None else torch.tanh(scaled / softcap) * softcap


def load_weights(
    folder: Path,
    dtype: torch.dtype | Literal["auto"],
    kind: Any,
    settings: Mapping[str, Any] | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Load a folder's weights into transformers' class `kind`, with the library's report of it.

    Raises:
        ModelError: the folder holds no model of such a class.
    """
    try:
        with quiet():
            # The attention is transformers' own choice: sdpa wherever the architecture allows it
            # (Gemma 2 caps its attention scores, which sdpa cannot).
            loaded: Any = kind.from_pretrained(
                folder,
                dtype=dtype,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                **(settings or {}),
            )
    except (OSError, ValueError, ImportError, RuntimeError, KeyError) as error:
        raise ModelError(
            Fault(
                found=f"the model cannot be loaded: {error}",
                where=str(folder),
                fix="copy or download the model's files again, all from one version",
            ),
            code="model_unreadable",
        ) from error
    return loaded


def _require_all_weights(folder: Path, report: dict[str, Any]) -> None:
    """Loading fills what a file lacks with random numbers and only warns of it."""
    absent = sorted({str(key) for key in [*report["missing_keys"], *report["mismatched_keys"]]})
    if report["unexpected_keys"]:
        log.info(
            "weights that the architecture does not use: %s", sorted(report["unexpected_keys"])
        )
    if not absent:
        return
    raise ModelError(
        Fault(
            found=f"the weight files lack {len(absent)} of the model's tensors or hold them in "
            f"another shape (the first is {absent[0]})",
            where=str(folder),
            fix="name a causal language model's folder whose config.json belongs to its weights",
        ),
        code="model_incomplete",
    )


def _require_known_logits(
    model: nn.Module, facts: ModelFacts, folder: Path, tolerance: float
) -> None:
    tokens_BT = torch.arange(4)[None] % facts.vocab
    with torch.inference_mode(), _one_thread():
        hidden_BTD = backbone(model)(input_ids=tokens_BT, use_cache=False).last_hidden_state
        head = output_head(model)(hidden_BTD).float()
        ours_BTV = logits_from(head, scale=facts.logit_scale, softcap=facts.logit_softcap)
        theirs_BTV = model(input_ids=tokens_BT, use_cache=False).logits.float()
    largest = max(float(theirs_BTV.abs().max()), 1e-6)
    if float((ours_BTV - theirs_BTV).abs().max()) <= tolerance * largest:
        return
    raise ModelError(
        Fault(
            found=f"{facts.architecture} makes its logits in a way that is not known here, so its "
            "loss would be wrong",
            where=str(folder),
            fix="choose another model",
        ),
        code="model_unsupported",
    )


@contextmanager
def _one_thread() -> Generator[None]:
    """Four tokens are over before threads help, and on a busy machine they wait for each other.

    135 M parameters on two cores, one of them taken: 0.12 s with one thread, 5.8 s with two.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
