"""One method on the first rows of an Alpaca file with TRL's SFTTrainer and PEFT, as their users do.

    REF/bin/python benchmarks/alpaca_trl.py --model FOLDER --data alpaca_en_demo.json \
        --method dora --out trl.json

`REF` is an environment of its own:

    pip install torch==2.13.0 transformers==5.24.0 trl==1.16.0 peft==0.21.2 datasets==5.2.0 \
        bitsandbytes==0.50.2

The same rows, rank, targets and length as alpaca.py; four rows a step, nothing recomputed. Prints
and writes the same measures, taken the same way.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import IA3Config, LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

HELD_OUT_ROWS = 50
RATES = {"full": 2e-5, "ia3": 5e-3}
LORA_RATE = 2e-4


def main() -> None:
    options = parse_options()
    rows = [conversation(row) for row in json.loads(Path(options.data).read_text())]
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    trainer = SFTTrainer(
        model=load(options),
        args=SFTConfig(
            output_dir="trl_out",
            per_device_train_batch_size=4,
            num_train_epochs=1,
            max_length=options.max_length,
            learning_rate=options.learning_rate or RATES.get(options.method, LORA_RATE),
            save_strategy="no",
            bf16=True,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            seed=0,
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list(rows[: options.rows]),
        processing_class=tokenizer,
        peft_config=adapter_of(options.method),
    )
    tokens = sum(len(row["input_ids"]) for row in trainer.train_dataset)
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    held_out = rows[options.rows :][:HELD_OUT_ROWS]
    result = {
        "seconds": seconds,
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "peak_rss_bytes": peak,
        "held_out_loss": held_out_loss(
            trainer.model.eval(), tokenizer, held_out, options.max_length
        ),
        "steps": trainer.state.global_step,
        "trained_parameters": trained,
    }
    Path(options.out).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument(
        "--method", choices=("lora", "dora", "qlora", "full", "ia3"), default="lora"
    )
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--out", default="trl.json")
    return parser.parse_args()


def load(options: argparse.Namespace) -> Any:
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return AutoModelForCausalLM.from_pretrained(
        options.model,
        dtype=torch.bfloat16,
        quantization_config=quantised if options.method == "qlora" else None,
    )


def adapter_of(method: str) -> Any:
    if method == "full":
        return None
    if method == "ia3":
        return IA3Config(
            target_modules=["k_proj", "v_proj", "down_proj"],
            feedforward_modules=["down_proj"],
            task_type="CAUSAL_LM",
        )
    return LoraConfig(
        r=16,
        lora_alpha=32,
        lora_dropout=0.0,
        target_modules="all-linear",
        use_dora=method == "dora",
        task_type="CAUSAL_LM",
    )


def conversation(row: dict[str, str]) -> dict[str, Any]:
    prompt = row["instruction"] + ("\n" + row["input"] if row["input"] else "")
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": row["output"]}],
    }


def held_out_loss(model: Any, tokenizer: Any, rows: list[dict[str, Any]], limit: int) -> float:
    total, count = 0.0, 0
    for row in rows:
        start = tokenizer.apply_chat_template(
            row["prompt"], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=True)
        ids = torch.tensor([whole["input_ids"][:limit]])
        labels = ids.clone()
        labels[0, : len(start)] = -100
        supervised = int((labels[0, 1:] != -100).sum())
        if supervised:
            with torch.no_grad():
                total += model(input_ids=ids, labels=labels).loss.item() * supervised
            count += supervised
    return total / max(count, 1)


if __name__ == "__main__":
    main()
