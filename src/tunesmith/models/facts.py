"""What a run must know of a model before its weights are loaded, read from its folder.

Logits come from hidden states as `cap * tanh(head(hidden) * scale / cap)`: most models have neither
factor nor cap; the ones that do name them differently, and one divides where another multiplies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.core.errors import Fault, ModelError
from tunesmith.models.folder import StoredTensor, read_json, stored_tensors, weight_files
from tunesmith.models.quiet import quiet

# Model type -> the config's name of the number that logits are multiplied with.
MULTIPLIED_BY = {
    "cohere": "logit_scale",
    "cohere2": "logit_scale",
    "cohere2_moe": "logit_scale",
    "falcon_h1": "lm_head_multiplier",
    "hyperclovax": "logits_scaling",
}
DIVIDED_BY = {
    "granite": "logits_scaling",
    "granite_swa": "logits_scaling",
    "granitemoe": "logits_scaling",
    "granitemoe_swa": "logits_scaling",
    "granitemoehybrid": "logits_scaling",
    "granitemoeshared": "logits_scaling",
}
# The first is Gemma 2, 3 and those after it; a config states it only where the model caps.
CAP_NAMES = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")

# Stored by older checkpoints beside the parameters: GPT-2's causal masks, Llama's frequencies.
BUFFERS = ("attn.masked_bias", "rotary_emb.inv_freq")


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """The numbers of a model."""

    architecture: str
    parameters: int
    layers: int
    hidden: int
    mlp: int
    """The width between the two products of a layer's MLP."""
    heads: int
    kv_heads: int
    head_width: int
    vocab: int
    max_positions: int | None
    """None where the architecture has no limit (ALiBi, state spaces)."""
    tied: bool
    """The output head is the token embedding's own weight."""
    logit_scale: float
    logit_softcap: float | None
    eos_ids: tuple[int, ...]
    bos_id: int | None
    pad_id: int | None


def read_facts(folder: Path) -> ModelFacts:
    """The facts of a model folder; a ModelError where transformers does not know its kind."""
    config = _read_config(folder)
    text: Any = config.get_text_config(decoder=True)
    tied = bool(getattr(config, "tie_word_embeddings", False))
    model_type = text.model_type
    if not all(hasattr(text, name) for name in ("num_hidden_layers", "hidden_size", "vocab_size")):
        raise ModelError(_unusual(model_type, folder), code="model_unsupported")
    heads = getattr(text, "num_attention_heads", None) or 1
    return ModelFacts(
        architecture=(config.architectures or [model_type])[0],
        parameters=count_parameters(folder, tied=tied),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        mlp=getattr(text, "intermediate_size", None)
        or getattr(text, "n_inner", None)
        or 4 * text.hidden_size,
        heads=heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_width=getattr(text, "head_dim", None) or text.hidden_size // heads,
        vocab=text.vocab_size,
        max_positions=getattr(text, "max_position_embeddings", None),
        tied=tied,
        logit_scale=_logit_scale(text, model_type),
        logit_softcap=_logit_softcap(text),
        eos_ids=_eos_ids(folder, text),
        bos_id=getattr(text, "bos_token_id", None),
        pad_id=getattr(text, "pad_token_id", None),
    )


def _unusual(model_type: str, folder: Path) -> Fault:
    return Fault(
        found=f"{model_type!r} is not one stack of layers over one vocabulary",
        where=str(folder / "config.json"),
        fix="choose a decoder model (Llama, Qwen, Gemma, SmolLM and their like)",
    )


def count_parameters(folder: Path, *, tied: bool) -> int:
    """The model's parameters by the headers of its weight files; a tied head counts once."""
    sizes = {
        tensor.name: math.prod(tensor.shape)
        for file in weight_files(folder)
        for tensor in stored_tensors(file)
        if not tensor.name.endswith(BUFFERS) and not _is_causal_mask(tensor)
    }
    if tied and any("embed" in name or "wte" in name for name in sizes):
        sizes.pop("lm_head.weight", None)
    return sum(sizes.values())


def _is_causal_mask(tensor: StoredTensor) -> bool:
    return tensor.name.endswith("attn.bias") and len(tensor.shape) == 4


def _read_config(folder: Path) -> Any:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    file = folder / "config.json"
    _require_text_model(file)
    try:
        with quiet():
            return AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except (StrictDataclassError, ValueError, TypeError, LookupError, OSError) as error:
        fix = "replace it with the model's own config.json"
        fault = Fault(found=f"config.json cannot be used: {error}", where=str(file), fix=fix)
        raise ModelError(fault, code="model_unreadable") from error


def _require_text_model(config_file: Path) -> None:
    from transformers import CONFIG_MAPPING

    raw = read_json(config_file)
    kind = str(raw.get("model_type"))
    if kind in CONFIG_MAPPING and (is_decoder(kind) or is_encoder(kind)):
        return
    if kind in CONFIG_MAPPING:
        found = (
            f"{kind!r} is not a model that writes text token by token, nor one that reads it whole"
        )
    else:
        found = f"the architecture {kind!r} is not known to transformers"
        if "auto_map" in raw:
            found += "; its folder brings its own code, which is never run"
    raise ModelError(
        Fault(
            found=found,
            where=f"{config_file}: model_type",
            fix="choose a causal language model that transformers has itself "
            "(Llama, Qwen, Gemma, SmolLM and their like)",
        ),
        code="model_unsupported",
    )


def is_decoder(kind: str) -> bool:
    """Say whether models of this type write text token by token."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    # Encoders such as BERT are in that list, too: with another mask they can be made to write.
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not is_encoder(kind)


def is_encoder(kind: str) -> bool:
    """Say whether models of this type read a whole text at once."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def model_type(folder: Path) -> str:
    """Return transformers' word for a folder's kind of model."""
    return str(read_json(folder / "config.json").get("model_type"))


def require_writer(folder: Path) -> None:
    """See to it that a folder's model writes text.

    Raises:
        ModelError: it reads only.
    """
    kind = model_type(folder)
    if is_decoder(kind):
        return
    fault = Fault(
        found=f"{kind!r} is not a model that writes text token by token",
        where=f"{folder / 'config.json'}: model_type",
        fix="choose a causal language model (Llama, Qwen, Gemma, SmolLM and their like), or a task "
        "with a head: classification or ner",
    )
    raise ModelError(fault, code="model_unsupported")


def _logit_scale(config: Any, model_type: str) -> float:
    if name := MULTIPLIED_BY.get(model_type):
        return float(getattr(config, name))
    if name := DIVIDED_BY.get(model_type):
        return 1.0 / float(getattr(config, name))
    return 1.0


def _logit_softcap(config: Any) -> float | None:
    caps = (getattr(config, name, None) for name in CAP_NAMES)
    return next((float(cap) for cap in caps if cap), None)


def _eos_ids(folder: Path, config: Any) -> tuple[int, ...]:
    """Where generation ends: generation_config.json goes before config.json, as in generating."""
    file = folder / "generation_config.json"
    stated = read_json(file).get("eos_token_id") if file.is_file() else None
    eos = stated if stated is not None else getattr(config, "eos_token_id", None)
    if eos is None:
        return ()
    return (eos,) if isinstance(eos, int) else tuple(eos)
