"""A tiny Llama written as a GGUF file, the way llama.cpp's converter writes one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import pre_tokenizers

from tests.unit.models.tiny_models import make_model

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# Of digits and of a space with a digit: what splitting at every digit forbids to merge.
MERGES = ["\u0120 t", "h e", "1 2", "\u0120 1"]
TEMPLATE = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
)


def write_gguf(path: Path, *, pre_tokenizer: str = "smollm", quantised: bool = False) -> Any:
    """Writes the file and gives the model that it was made from."""
    tokens = [*CONTROL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens += [merge.replace(" ", "") for merge in MERGES]
    # Of float32 numbers, so that the file's epsilon is the model's to the last bit.
    model = make_model("llama", vocab_size=len(tokens), rms_norm_eps=1e-5, rope_theta=50_000.0)
    writer = gguf.GGUFWriter(path, "llama")
    _write_sizes(writer, model.config)
    _write_tokenizer(writer, tokens, pre_tokenizer)
    for name, tensor in _named_as_in_gguf(model):
        if quantised and tensor.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quantize(tensor, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _write_sizes(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_name("Tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)


def _write_tokenizer(writer: gguf.GGUFWriter, tokens: list[str], pre_tokenizer: str) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(tokens)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control if token in CONTROL else normal for token in tokens])
    writer.add_token_merges(MERGES)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _named_as_in_gguf(model: Any) -> list[tuple[str, np.ndarray]]:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, model.config.num_hidden_layers)
    state: dict[str, torch.Tensor] = model.state_dict()
    tensors: list[tuple[str, np.ndarray]] = []
    for name, tensor in state.items():
        array = tensor.numpy()
        if "q_proj" in name:
            array = _permute(array, model.config.num_attention_heads)
        if "k_proj" in name:
            array = _permute(array, model.config.num_key_value_heads)
        found = names.get_name(name, try_suffixes=(".weight",))
        assert found is not None, name
        tensors.append((found, np.ascontiguousarray(array)))
    return tensors


def _permute(array: np.ndarray, heads: int) -> np.ndarray:
    """From rotary halves, as transformers pairs dimensions, to neighbours, as llama.cpp does."""
    rows, columns = array.shape
    split = array.reshape(heads, 2, rows // heads // 2, columns)
    return split.swapaxes(1, 2).reshape(rows, columns)
