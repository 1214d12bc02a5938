#!/usr/bin/env bash
# Times the README's first command as a newcomer meets it: a clean clone, no environment, no cache.
#   benchmarks/quickstart.sh OUT.json
set -euo pipefail
out=$(realpath -m "$1")
project=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git clone --quiet "$project" "$work/project"
cd "$work/project"
export TUNESMITH_CACHE="$work/cache"

start=$(date +%s.%N)
scripts/setup
ready=$(date +%s.%N)
.venv/bin/tunesmith quickstart --run-dir "$work/run"
end=$(date +%s.%N)

.venv/bin/python - "$out" "$work/run" "$start" "$ready" "$end" <<'PY'
import json, sys
from pathlib import Path
from tunesmith.core import hardware

out, run = Path(sys.argv[1]), Path(sys.argv[2])
start, ready, end = (float(value) for value in sys.argv[3:6])
result = json.loads((run / "result.json").read_text())
kept = ("tokens", "tokens_per_second", "training_seconds", "seconds", "peak_memory_bytes",
        "validation_loss_before", "validation_loss_after", "task_metrics_before",
        "task_metrics_after", "rows_used")
out.parent.mkdir(exist_ok=True)
out.write_text(json.dumps({
    "setup_seconds": ready - start,
    "quickstart_seconds": end - ready,
    "whole_seconds": end - start,
    "machine": hardware.describe(),
    **{key: result[key] for key in kept},
}, indent=1) + "\n")
print(out.read_text())
PY
