"""Supervised fine-tuning on the library: a recipe in Python, a run folder, and its result.

python examples/sft_basic.py RUN_FOLDER [STEPS]
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import PurePath

from tunesmith.core.run_dir import RunDir, read_json, write_json
from tunesmith.core.threads import with_short_spins
from tunesmith.platforms.command import run_command
from tunesmith.recipe.load import load_recipe, resolved

folder = sys.argv[1]
steps = int(sys.argv[2]) if len(sys.argv) > 2 else None
recipe = load_recipe(
    {
        "model": "smollm2-135m-instruct",
        "task": "chat",
        "data": {
            "train": "sample:support-desk",
            "validation": "sample:support-desk-held-out",
            "max_length": 512,
        },
        "method": {"type": "lora", "rank": 16},
        "training": {"epochs": 1, **({"max_steps": steps} if steps else {})},
        # a short run measures less, too
        "evaluation": {
            "prompts": 2,
            "max_new_tokens": 40,
            **({"rows": 24, "probe": False} if steps else {}),
        },
    }
)
run_dir = RunDir.create(folder)
run_dir.recipe_yaml.write_text(recipe.text)
write_json(run_dir.resolved_json, resolved(recipe))
# a run is a process of its own: it can be stopped, resumed and watched from anywhere
command = run_command(PurePath(folder), python=sys.executable)
subprocess.run(command, env=with_short_spins(), check=True)
result = read_json(run_dir.result_json)
shown = ("steps", "validation_loss_before", "validation_loss_after", "tokens_per_second")
print(json.dumps({key: result[key] for key in shown}, indent=1))
