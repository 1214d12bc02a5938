#!/usr/bin/env bash
# Measures the table of benchmarks/results/matrix/: 24 steps a cell, on one core.
#   benchmarks/matrix.sh FOLDER
# What is finished in FOLDER is kept, so it may be stopped and started again.
set -euo pipefail
folder=$1
cd "$(dirname "$0")/.."
budget=(--steps 24 --set training.tokens_per_step=1024 --set evaluation.probe=false)
written=(--held-out-rows 60 --set evaluation.metric_rows=24 --set evaluation.max_new_tokens=128)
methods=(--techniques full,lora,qlora,dora,ia3 --rate full=5e-5 --rate ia3=2e-3)
engines=(--techniques deepspeed,zero-3 --rate deepspeed=5e-5 --rate zero-3=5e-5)
measure() { taskset -c 0 .venv/bin/tunesmith matrix --dir "$folder" "${budget[@]}" "$@"; }

measure "${methods[@]}" --held-out-rows 300 --set evaluation.metric_rows=300 \
    --set evaluation.max_new_tokens=128 --scenarios banking77-head,wnut17-head
measure "${methods[@]}" "${written[@]}" --scenarios multi30k-lora,xquad-lora,nottingham-lora,gsm8k-lora
measure "${engines[@]}" "${written[@]}" --scenarios multi30k-lora
