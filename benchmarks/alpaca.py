"""One method on the first rows of an Alpaca file: the work of alpaca_trl.py, done with Tunesmith.

    python benchmarks/alpaca.py --data alpaca_en_demo.json --method lora --out tunesmith.json

Rank 16 on all linear layers where the method has a rank, at most 512 tokens a row, one epoch, bf16
where the processor is fast at it. Prints and writes: seconds of the training loop alone, tokens
(unpadded, as rendered), tokens per second, peak resident memory in bytes, and the mean loss per
supervised token on the 50 rows that follow, which the training did not see. The held-out loss is
measured with transformers' own forward pass, row by row, and not with the code under test.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from tunesmith.core import hardware
from tunesmith.core.allocator import keep_freed_memory
from tunesmith.data.pack import plan_steps
from tunesmith.data.pipeline import prepare_data
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.methods.base import count_trainable
from tunesmith.methods.lora import LoraLinear
from tunesmith.methods.select import apply_method
from tunesmith.models import packed_llama
from tunesmith.models.device import CPU
from tunesmith.models.facts import read_facts
from tunesmith.models.hidden_states import compile_layers
from tunesmith.models.load import choose_dtype, load_base
from tunesmith.models.originals import Originals
from tunesmith.models.prepare import prepare_model
from tunesmith.recipe.load import load_recipe
from tunesmith.training.loop import train_steps
from tunesmith.training.loss import language_model
from tunesmith.training.optimizer import make_optimizer

HELD_OUT_ROWS = 50


def run_padded() -> None:
    """Run every micro-batch as padded rows, through the architecture's own forward."""
    packed_llama.supports = lambda _decoder: False


def use_plain_products() -> None:
    """Let autograd differentiate LoRA's products one by one, as a plain module would."""

    def forward(layer: Any, inputs: torch.Tensor) -> torch.Tensor:
        a, b = layer.lora_A.to(inputs.dtype), (layer.lora_B * layer.scale).to(inputs.dtype)
        return layer.base(inputs) + F.linear(F.linear(inputs, a), b)

    LoraLinear.forward = forward


# What can be left out to see what it brings.
LEFT_OUT = {"one-line": run_padded, "own-products": use_plain_products}


def main() -> None:
    options = parse_options()
    if options.without != "kept-memory":
        keep_freed_memory()
    if options.without in LEFT_OUT:
        LEFT_OUT[options.without]()
    torch.set_num_threads(hardware.cpu_count())
    recipe = load_recipe(recipe_of(options)).recipe
    prepared = prepare_model(recipe.model.source)
    source = TokenizerSource(str(prepared.folder))
    data = prepare_data(recipe.data, "chat", source, tell=lambda _: None)
    # every row in the file's order, none split off: the reference trains on the same ones
    examples = sorted((*data.train, *data.validation), key=lambda example: example.line)
    assert len(examples) == options.rows, f"{len(examples)} rows after duplicates are removed"

    model: Any = load_base(prepared.folder, recipe.model)
    original = Originals(prepared.folder).weight
    method = apply_method(model, recipe.method, seed=0, original=original)
    if options.compiled:
        compile_layers(model)
    part = recipe.training
    plan = plan_steps(
        [len(example.tokens) for example in examples],
        epochs=1,
        max_steps=None,
        tokens_per_step=part.tokens_per_step,
        micro_batch_tokens=part.micro_batch_tokens,
        seed=0,
    )
    step_rates: list[float] = []
    start = time.perf_counter()
    for done in train_steps(
        language_model(
            model, read_facts(prepared.folder), share_prefix=options.without != "shared-prefix"
        ),
        method,
        make_optimizer(
            method.trainable,
            part,
            learning_rate=recipe.learning_rate,
            rate_factors=method.rate_factors,
        ),
        examples,
        plan,
        part,
        peak_rate=recipe.learning_rate,
        pad_id=0,
    ):
        step_rates.append(done.outcome.tokens / done.seconds)
        print(f"step {done.step}/{done.total_steps} loss {done.outcome.loss:.4f}", flush=True)
    seconds = time.perf_counter() - start
    peak = hardware.peak_resident_bytes()
    tokens = sum(len(example.tokens) for example in examples)
    result = {
        "seconds": seconds,
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "tokens_per_second_of_a_step": statistics.median(step_rates),
        "peak_rss_bytes": peak,
        "held_out_loss": held_out_loss(model, source.tokenizer, options),
        "steps": len(plan),
        "trained_parameters": count_trainable(method),
        "dtype": choose_dtype(recipe.model, CPU),
    }
    Path(options.out).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--data", required=True)
    parser.add_argument("--method", default="lora")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    parser.add_argument("--tokens-per-step", type=int, default=1536)
    parser.add_argument("--micro-batch-tokens", type=int, default=3072)
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--without", choices=("shared-prefix", "kept-memory", *LEFT_OUT))
    parser.add_argument("--out", default="tunesmith.json")
    return parser.parse_args()


def recipe_of(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "model": options.model,
        "task": "chat",
        "data": {
            "train": options.data,
            "max_length": options.max_length,
            "overflow": "truncate",
            "limit": options.rows,
        },
        "method": options.method,
        "training": {
            "epochs": 1,
            "learning_rate": options.learning_rate,
            "schedule": "linear",
            "warmup": 0,
            "tokens_per_step": options.tokens_per_step,
            "micro_batch_tokens": options.micro_batch_tokens,
            "optimizer": options.optimizer,
        },
    }


def held_out_loss(model: Any, tokenizer: Any, options: argparse.Namespace) -> float:
    """The mean loss of the replies of the rows behind the trained ones."""
    rows = json.loads(Path(options.data).read_text())[options.rows :][:HELD_OUT_ROWS]
    total, count = 0.0, 0
    for row in rows:
        prompt = row["instruction"] + ("\n" + row["input"] if row["input"] else "")
        asked = [{"role": "user", "content": prompt}]
        reply = [{"role": "assistant", "content": row["output"]}]
        start = template(tokenizer, asked, add_generation_prompt=True)
        whole = template(tokenizer, asked + reply)[: options.max_length]
        labels = torch.tensor(whole)
        labels[: len(start)] = -100
        supervised = int((labels[1:] != -100).sum())
        if not supervised:
            continue
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([whole]), use_cache=False).logits[0].float()
        loss = torch.nn.functional.cross_entropy(logits[:-1], labels[1:], reduction="sum")
        total, count = total + loss.item(), count + supervised
    return total / max(count, 1)


def template(tokenizer: Any, messages: list[dict[str, str]], **options: Any) -> list[int]:
    return tokenizer.apply_chat_template(messages, return_dict=True, **options)["input_ids"]


if __name__ == "__main__":
    main()
