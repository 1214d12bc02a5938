"""Turns a GGUF file into a model folder: bf16 safetensors, config, tokenizer, chat template.

The only file that deals with GGUF. transformers reads the weights (it knows how each architecture's
tensors were permuted); what it leaves wrong or open for training is put right here:

- it would keep the quantised blocks packed, which cannot be trained or saved: `dequantize=True`;
- it splits text with GPT-2's rule wherever it does not know the pre-tokenizer that the file names:
  known ones are set, unknown ones refused, because the tokens would differ from the model's own;
- floats come back from float32 with its rounding (1e-5 as 9.999999747378752e-06).
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from tunesmith.core.errors import Fault, ModelError
from tunesmith.models.quiet import quiet
from tunesmith.models.saving import save_model

# Part of the cache key: raise it when the folder that comes out changes.
CONVERSION = 1

# llama.cpp splits these vocabularies at every digit, then by GPT-2's rule
# (src/llama-vocab.cpp: the regular expressions "\p{N}" and GPT-2's).
EACH_DIGIT = frozenset(
    {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
)
# These are GPT-2's rule itself, which is what transformers' byte-level tokenizer starts with.
GPT2_RULE = frozenset({"gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling"})

MAGIC = b"GGUF"
SAMPLE_TEXT = "In 2024, it's 37% of $1,250.75; tabs\tand\nlines too."


def check_gguf(path: Path) -> None:
    """Refuses a file that is no GGUF, by its first bytes."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ModelError(
                Fault(
                    found=f"{path.name} is not a GGUF file (it does not start with 'GGUF')",
                    where=str(path),
                    fix="name a whole GGUF file; a download that was cut off or a Git LFS "
                    "pointer looks like this",
                ),
                code="model_unreadable",
            )


def convert_gguf(path: Path, folder: Path) -> None:
    """Fills the empty folder with the model of a GGUF file, weights in bf16."""
    check_gguf(path)
    try:
        with quiet():
            tokenizer = _read_tokenizer(path)
            _check_tokenizer(tokenizer, path)
            _convert_weights(path, folder)
            tokenizer.save_pretrained(folder)
        _mend_config(folder)
        _mend_tokenizer_config(folder)
    except ModelError:
        raise
    except (ValueError, LookupError, NotImplementedError, struct.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of the file's content
        raise ModelError(_unreadable(path, error), code="model_unreadable") from error


def _convert_weights(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    model: Any = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
        local_files_only=True,
    )
    # The weights are plain numbers now; with the marks of quantisation they could not be saved.
    model.__dict__.pop("hf_quantizer", None)
    model.config.__dict__.pop("quantization_config", None)
    save_model(model, folder)


def _read_tokenizer(path: Path) -> Any:
    """The file's tokenizer, without the whole reading of the file that AutoTokenizer does (5 s)."""
    from transformers import PreTrainedTokenizerFast
    from transformers.integrations.gguf.gguf_tokenizer_mapping import get_gguf_tokenizer

    _, described, _ = get_gguf_tokenizer(str(path))
    tokenizer: Any = PreTrainedTokenizerFast(gguf_file=path.name, name_or_path=str(path.parent))
    if described.get("tokenizer_type") == "gpt2":
        _set_pre_tokenizer(tokenizer, described.get("pre_tokenizer_type"), path)
    return tokenizer


def _set_pre_tokenizer(tokenizer: Any, name: str | None, path: Path) -> None:
    from tokenizers import pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    if name in EACH_DIGIT:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    elif name not in GPT2_RULE and name not in GGUF_PRE_TOKENIZER_SPLITS:
        raise ModelError(
            Fault(
                found=f"the GGUF file's pre-tokenizer is {name!r}, which is not known here; "
                "its text would be cut into other tokens than the model learned",
                where=str(path),
                fix="use the model's safetensors folder or hub id instead of the GGUF file",
            ),
            code="model_unsupported",
        )


def _check_tokenizer(tokenizer: Any, path: Path) -> None:
    """A control token is one id, and text comes back as it went in."""
    broken = [
        text
        for token_id, token in tokenizer.added_tokens_decoder.items()
        if (text := str(token.content))
        and tokenizer.encode(text, add_special_tokens=False) != [token_id]
    ]
    ids = tokenizer.encode(SAMPLE_TEXT, add_special_tokens=False)
    if tokenizer.decode(ids).strip() != SAMPLE_TEXT:
        broken.append(SAMPLE_TEXT)
    if broken:
        raise ModelError(
            Fault(
                found=f"the GGUF file's tokenizer does not give back {broken[0]!r}",
                where=str(path),
                fix="use the model's safetensors folder or hub id instead of the GGUF file",
            ),
            code="model_unsupported",
        )


def _mend_config(folder: Path) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    # The general.name of the file, which reads like a place to load from but is none.
    config.pop("_model_name_or_path", None)
    file.write_text(json.dumps(_short_floats(config), indent=2) + "\n", encoding="utf-8")


def _short_floats(value: Any) -> Any:
    """The same float32 numbers in their shortest spelling: 1e-05."""
    import numpy

    if isinstance(value, dict):
        return {key: _short_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_short_floats(item) for item in value]
    is_float32 = isinstance(value, float) and float(numpy.float32(value)) == value
    return float(str(numpy.float32(value))) if is_float32 else value


def _mend_tokenizer_config(folder: Path) -> None:
    """Drops what describes the conversion, and states the length that the model was made for."""
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    for key in ("is_local", "local_files_only", "backend", "gguf_file", "name_or_path"):
        config.pop(key, None)
    # The name that every version of transformers and other readers of the folder know.
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    model = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if isinstance(length := model.get("max_position_embeddings"), int):
        config["model_max_length"] = length
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _unreadable(path: Path, error: Exception) -> Fault:
    return Fault(
        found=f"the GGUF file cannot be converted: {error}",
        where=str(path),
        fix="use the model's safetensors folder or hub id instead of the GGUF file",
    )
