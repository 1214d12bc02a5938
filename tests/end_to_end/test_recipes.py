"""Every shipped recipe and example loads; the count is asserted, so that none is passed over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch

from tests.fakes.long_cases import long
from tunesmith.core.threads import with_short_spins
from tunesmith.recipe.load import load_recipe

ROOT = Path(__file__).parents[2]
RECIPES = sorted([*(ROOT / "recipes").rglob("*.yaml"), *(ROOT / "src").rglob("*.yaml")])


def test_all_recipes_are_found() -> None:
    assert [path.name for path in RECIPES] == [
        "alpaca-lora.yaml",
        "banking77-head.yaml",
        "banking77-lora.yaml",
        "dpo-lora.yaml",
        "glaive-lora.yaml",
        "gsm8k-lora.yaml",
        "multi30k-lora.yaml",
        "nottingham-lora.yaml",
        "truthfulqa-lora.yaml",
        "wnut17-head.yaml",
        "xquad-lora.yaml",
        "quickstart.yaml",
    ]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_shipped_recipe_loads(path: Path) -> None:
    assert load_recipe(path).recipe.model.source == "smollm2-135m-instruct"


@pytest.mark.real_model
@pytest.mark.usefixtures("real_model")
@pytest.mark.parametrize("name", ["sft_loop.py", *long(["sft_basic.py"])])
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name, output, "1"],
        capture_output=True,
        text=True,
        timeout=280,
        env=with_short_spins(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (weights,) = output.rglob("adapter_model.safetensors")
    assert len(safetensors.torch.load_file(weights)) == 420
