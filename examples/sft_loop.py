"""Supervised fine-tuning, written flat: a run's stages one after the other, without its folder.

python examples/sft_loop.py OUTPUT_FOLDER [STEPS]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tunesmith.data.collate import to_batch
from tunesmith.data.pack import plan_steps
from tunesmith.data.pipeline import prepare_data
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.methods.lora_method import apply_lora
from tunesmith.models.device import CPU
from tunesmith.models.facts import read_facts
from tunesmith.models.load import choose_dtype, load_model
from tunesmith.models.prepare import prepare_model
from tunesmith.recipe.load import load_recipe
from tunesmith.training.loss import language_model, summed_loss
from tunesmith.training.schedule import learning_rate

output = Path(sys.argv[1])
max_steps = int(sys.argv[2]) if len(sys.argv) > 2 else None
recipe = load_recipe(
    {
        "model": "smollm2-135m-instruct",
        "task": "chat",
        "data": {"train": "sample:support-desk", "validation": "10%", "max_length": 512},
        "method": {"type": "lora", "rank": 16},
    }
).recipe

# data: every row checked, split, rendered through the model's own chat template
prepared = prepare_model(recipe.model.source)
source = TokenizerSource(str(prepared.folder))
rows = prepare_data(recipe.data, "chat", source, tell=print).train

# model and method
model = load_model(prepared.folder, choose_dtype(recipe.model, CPU))
lora = apply_lora(model, recipe.method, seed=0)
scored = language_model(model, read_facts(prepared.folder))
optimizer = torch.optim.AdamW(lora.trainable.values(), fused=True)

# which rows make up which step
plan = plan_steps(
    [len(row.tokens) for row in rows],
    epochs=1,
    max_steps=max_steps,
    tokens_per_step=2048,
    micro_batch_tokens=1024,
    seed=0,
)

for step in plan:
    batches = [to_batch([rows[row] for row in group], pad_id=0) for group in step.micro_batches]
    weight = sum(float(batch.weights_BT.sum()) for batch in batches)  # the one denominator
    total = 0.0
    for batch in batches:
        loss = summed_loss(scored, batch)
        (loss.total / weight).backward()
        total += loss.total.item()
    torch.nn.utils.clip_grad_norm_(lora.trainable.values(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(
            step.step, total_steps=len(plan), warmup_steps=1, peak=5e-4, schedule="cosine"
        )
    optimizer.step()
    optimizer.zero_grad()
    print(f"step {step.step}/{len(plan)}  loss {total / weight:.4f}")

lora.save(output, base=str(prepared.folder))
print(f"the adapter is in {output}")
