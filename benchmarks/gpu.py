"""LoRA on a model of Phi-3-mini's shape on one GPU: Tunesmith, and TRL with PEFT, in turn.

    .venv/bin/python benchmarks/gpu.py --rounds 3 --out benchmarks/results/gpu.json
    .venv/bin/python benchmarks/gpu.py --tiny --out /tmp/gpu.json    # does it run, on a CPU, too

Random weights in bf16, rank 16 on all linear layers, rows of random tokens, all of them trained
on: full ones of 2,048 tokens, and mixed ones of 128 to 2,048. A step is four rows (TRL), or what
has as many tokens (Tunesmith); nothing is recomputed. Each program is a process of its own. Told:
tokens a second (by the median time of a step, without the first ones), the GPU's memory at the
peak, the share of what the GPU reaches in one matrix product, measured in the same process, and the
loss of the first step, which is near the logarithm of the vocabulary's size for all.

Operations a token: 4 for each value of a matrix that is not trained (forward, and the gradient
by the input), and 12 for each layer, unit of width and key seen (Chowdhery et al., 2022, appendix
B; a causal row sees half of its length on average).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROWS_A_STEP = 4
WARM_UP_STEPS = 3
RANK, ALPHA = 16, 32
LENGTH = 2048
# https://huggingface.co/microsoft/Phi-3-mini-4k-instruct/blob/main/config.json
PHI3_MINI: dict[str, Any] = {
    "vocab_size": 32064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "sliding_window": 2047,
    "pad_token_id": 32000,
}
TINY: dict[str, Any] = {
    **PHI3_MINI,
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "sliding_window": 31,
    "pad_token_id": 0,
}


def main() -> None:
    options = parse_options()
    if options.program:
        result = PROGRAMS[options.program](options)
        Path(options.out).write_text(json.dumps(result) + "\n")
        return
    rounds: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for number in range(options.rounds):
        for rows in ("full", "mixed"):
            for program in PROGRAMS:
                measured = run(options, program, rows)
                rounds.setdefault(rows, {}).setdefault(program, []).append(measured)
                print(number, rows, program, json.dumps(measured), flush=True)
    write(Path(options.out), rounds)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--rows", choices=("full", "mixed"), default="full")
    parser.add_argument("--program", choices=PROGRAMS)
    parser.add_argument("--out", required=True)
    return parser.parse_args()


def run(options: argparse.Namespace, program: str, rows: str) -> dict[str, Any]:
    """Run one program in a process and a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [sys.executable, str(Path(__file__).absolute()), "--program", program]
        command += ["--rows", rows, "--steps", str(options.steps), "--out", str(out)]
        subprocess.run([*command, *(["--tiny"] if options.tiny else [])], cwd=folder, check=True)
        return json.loads(out.read_text())


def write(out: Path, rounds: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    """Write all rounds and their medians."""
    result = {
        "when": datetime.now(UTC).isoformat(timespec="minutes"),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "trl")},
        "medians": {
            rows: {
                program: {
                    measure: statistics.median(one[measure] for one in each) for measure in each[0]
                }
                for program, each in programs.items()
            }
            for rows, programs in rounds.items()
        },
        "rounds": rounds,
    }
    out.write_text(json.dumps(result, indent=1) + "\n")


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_model(options: argparse.Namespace) -> Any:
    """Make the same random model in every process."""
    from transformers import Phi3Config, Phi3ForCausalLM

    torch.manual_seed(0)
    config = Phi3Config(**(TINY if options.tiny else PHI3_MINI))
    with device():
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            return Phi3ForCausalLM(config)
        finally:
            torch.set_default_dtype(before)


def make_rows(options: argparse.Namespace) -> list[list[int]]:
    """Make rows of random tokens, four for each step."""
    generator = torch.Generator().manual_seed(1)
    settings, longest = (TINY, 64) if options.tiny else (PHI3_MINI, LENGTH)
    number = ROWS_A_STEP * options.steps
    lengths = torch.randint(longest // 16, longest + 1, (number,), generator=generator).tolist()
    if options.rows == "full":
        lengths = [longest] * number
    most = settings["vocab_size"] - 64  # no special token
    return [torch.randint(1, most, (length,), generator=generator).tolist() for length in lengths]


def run_tunesmith(options: argparse.Namespace, *, compiled: bool = False) -> dict[str, Any]:
    """Run our own loop, from rows of tokens on."""
    import numpy as np

    from tunesmith.data.pack import plan_steps
    from tunesmith.data.render import Example
    from tunesmith.methods.lora_method import apply_lora
    from tunesmith.models.device import compute_on
    from tunesmith.models.hidden_states import compile_layers
    from tunesmith.models.load import backbone, output_head
    from tunesmith.recipe.method import LoraMethod
    from tunesmith.recipe.training import TrainingPart
    from tunesmith.training.loop import train_steps
    from tunesmith.training.loss import LanguageModel
    from tunesmith.training.optimizer import make_optimizer

    compute_on(device())
    model = make_model(options).requires_grad_(False)
    method = apply_lora(model, LoraMethod(rank=RANK, alpha=ALPHA), seed=0)
    if compiled:
        compile_layers(model)
    rows = make_rows(options)
    examples: list[Example] = []
    for number, row in enumerate(rows):
        weights = np.ones(len(row), dtype=np.float32)
        weights[0] = 0.0
        examples.append(
            Example(
                row_id=f"rows:{number}",
                file="rows",
                line=number,
                tokens=np.array(row, dtype=np.int32),
                weights=weights,
            )
        )
    tokens = sum(map(len, rows)) // options.steps
    part = TrainingPart(tokens_per_step=tokens, micro_batch_tokens=2 * tokens, warmup=0)
    plan = plan_steps(
        [len(row) for row in rows],
        epochs=1,
        max_steps=None,
        tokens_per_step=part.tokens_per_step,
        micro_batch_tokens=part.micro_batch_tokens,
        seed=0,
    )
    scored = LanguageModel(decoder=backbone(model), head=output_head(model))
    optimizer = make_optimizer(method.trainable, part, learning_rate=2e-4)
    seconds: list[float] = []
    counts: list[int] = []
    losses: list[float] = []
    for done in train_steps(
        scored, method, optimizer, examples, plan, part, peak_rate=2e-4, pad_id=0
    ):
        seconds.append(done.seconds)
        counts.append(done.outcome.tokens)
        losses.append(done.outcome.loss)
    return measures(options, seconds, counts, losses[0])


def run_compiled(options: argparse.Namespace) -> dict[str, Any]:
    """Run our own loop with compiled layers."""
    return run_tunesmith(options, compiled=True)


def run_trl(options: argparse.Namespace) -> dict[str, Any]:
    """Run TRL's trainer with PEFT, on the same rows."""
    from datasets import Dataset
    from peft import LoraConfig
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):
        """Notes how long each step takes."""

        def __init__(self) -> None:
            self.seconds: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            finish()
            self.start = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            finish()
            self.seconds.append(time.perf_counter() - self.start)

    settings = TINY if options.tiny else PHI3_MINI
    words = {f"word{number}": number for number in range(settings["vocab_size"])}
    pad = f"word{settings['pad_token_id']}"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token=pad)), pad_token=pad, eos_token=pad
    )
    rows = make_rows(options)
    clock = Clock()
    trainer = SFTTrainer(
        model=make_model(options),
        args=SFTConfig(
            output_dir="trl_out",
            per_device_train_batch_size=ROWS_A_STEP,
            num_train_epochs=1,
            max_length=LENGTH,
            learning_rate=2e-4,
            save_strategy="no",
            bf16=True,
            use_cpu=device().type == "cpu",
            report_to=[],
            disable_tqdm=True,
            logging_steps=1,
            seed=0,
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list([{"input_ids": row} for row in rows]),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=RANK,
            lora_alpha=ALPHA,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        callbacks=[clock],
    )
    trainer.train()
    counts = [sum(map(len, rows)) // options.steps] * len(clock.seconds)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return measures(options, clock.seconds, counts, losses[0])


PROGRAMS = {"tunesmith": run_tunesmith, "tunesmith-compiled": run_compiled, "trl-peft": run_trl}


def finish() -> None:
    """Wait until the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measures(
    options: argparse.Namespace, seconds: list[float], counts: list[int], first_loss: float
) -> dict[str, Any]:
    """Sum up a program's steps."""
    peaks = peak_bytes()
    rates = [count / each for count, each in zip(counts, seconds, strict=True)]
    rate = statistics.median(rates[WARM_UP_STEPS:])
    operations = operations_a_token(options)
    return {
        "tokens_per_second": rate,
        "share_of_matrix_peak": rate * operations / matrix_peak(options),
        "first_step_seconds": seconds[0],
        "first_loss": first_loss,
        **peaks,
    }


def peak_bytes() -> dict[str, int]:
    """What was taken at the peak: of the GPU, or where there is none of the process."""
    if torch.cuda.is_available():
        return {
            "peak_allocated_bytes": torch.cuda.max_memory_allocated(),
            "peak_reserved_bytes": torch.cuda.max_memory_reserved(),
        }
    from tunesmith.core import hardware

    return {"peak_rss_bytes": hardware.peak_resident_bytes()}


def operations_a_token(options: argparse.Namespace) -> float:
    """How many multiplications and additions a token of a full row takes, forward and back."""
    settings = TINY if options.tiny else PHI3_MINI
    hidden, layers = settings["hidden_size"], settings["num_hidden_layers"]
    layer = hidden * (4 * hidden + 3 * settings["intermediate_size"])
    matrices = layers * layer + hidden * settings["vocab_size"]
    rows = make_rows(options)
    # the mean over tokens of half of their row's length
    seen = sum(len(row) ** 2 for row in rows) / (2 * sum(map(len, rows)))
    return 4 * matrices + 12 * layers * hidden * seen


def matrix_peak(options: argparse.Namespace) -> float:
    """Operations a second of one large product in bf16, which no program can go beyond."""
    size = 256 if options.tiny else 8192
    one, other = (torch.randn(size, size, device=device(), dtype=torch.bfloat16) for _ in range(2))
    times: list[float] = []
    for _ in range(10):
        finish()
        start = time.perf_counter()
        torch.mm(one, other)
        finish()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(times)


if __name__ == "__main__":
    main()
