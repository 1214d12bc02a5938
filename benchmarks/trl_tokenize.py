"""Time TRL's own preparation of a data set: SFTTrainer's tokenisation of chats, training nothing.

    python benchmarks/trl_tokenize.py --model FOLDER --data chats.jsonl --rows 20000 --out trl.json

Install into an environment of its own:
    pip install torch==2.13.0 transformers==5.24.0 trl==1.16.0 peft==0.21.2 datasets==5.2.0

What is timed is the trainer's call of its `_prepare_dataset` alone: the rows are loaded before, the
model is a tiny random one. `--processes N` sets `dataset_num_proc`.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import SFTConfig, SFTTrainer

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--data", required=True)
parser.add_argument("--rows", type=int, default=20_000)
parser.add_argument("--processes", type=int)
parser.add_argument("--max-length", type=int, default=1024)
parser.add_argument("--out", required=True)
args = parser.parse_args()

with Path(args.data).open(encoding="utf-8") as file:
    rows = [json.loads(line) for line in islice(file, args.rows)]
tokenizer = AutoTokenizer.from_pretrained(args.model)
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1,
    )
)  # fmt: skip
seconds = 0.0
prepare = SFTTrainer._prepare_dataset


def timed(self: Any, *arguments: Any, **named: Any) -> Any:
    global seconds
    start = time.perf_counter()
    prepared = prepare(self, *arguments, **named)
    seconds += time.perf_counter() - start
    return prepared


SFTTrainer._prepare_dataset = timed
with tempfile.TemporaryDirectory() as folder:
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=folder, use_cpu=True, report_to=[], disable_tqdm=True, bf16=False,
            max_length=args.max_length, dataset_num_proc=args.processes,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )  # fmt: skip
    tokens = sum(len(ids) for ids in trainer.train_dataset["input_ids"])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
result = {
    "rows": args.rows,
    "seconds": seconds,
    "rows_per_second": args.rows / seconds,
    "tokens": tokens,
    "peak_rss_bytes": peak,
    "processes": args.processes,
}
Path(args.out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
print(json.dumps(result))
