"""Stands in for a run's process: speaks through the folder as a run does, in milliseconds.

`python fake_run.py FOLDER`; $FAKE_RUN says what it does: ok, slow, fails, refuses, crashes, killed,
full (slow, and what it saves when it is asked to stop does not fit), waits (for a tracker after its
end, until it is asked not to), deaf (the same, whatever it is asked).
"""

import os
import signal
import sys
import time
from pathlib import Path

from tunesmith.core.events import EventLog
from tunesmith.core.run_dir import RunDir, RunState, write_json

STEPS = 5
requests: list[int] = []


def main() -> int:
    run_dir, mode = RunDir.open(Path(sys.argv[1])), os.environ.get("FAKE_RUN", "ok")
    signal.signal(signal.SIGINT, lambda number, _: requests.append(number))
    signal.signal(signal.SIGTERM, lambda number, _: requests.append(number))
    sys.stdout.write("the log of the fake run\n")
    sys.stdout.flush()
    with EventLog(run_dir.events_jsonl) as log:
        set_state(run_dir, "running", 0)
        log.write("run", status="running")
        log.write("data", format="messages", rows=9)
        log.write("note", message="a note with a \x1b[31m colour")
        log.write("warning", message="mind the step")
        if mode == "refuses":
            fault = {"found": "no rows", "where": "a.jsonl:1", "fix": "add rows"}
            log.write("error", code="invalid_data", exit_code=2, faults=[fault])
            set_state(run_dir, "failed", 0)
            return 2
        for step in range(1, STEPS + 1):
            take_step(
                log,
                run_dir,
                step,
                slow=mode in ("slow", "full") or (step == 1 and mode in ("waits", "deaf")),
            )
            if requests and mode == "full":
                break_off(mode, log, run_dir)
            if requests:
                set_state(run_dir, "stopped", step)
                return 130 if requests[0] == signal.SIGINT else 75
            if step == 3 and mode != "full":
                break_off(mode, log, run_dir)
        finish(run_dir, log)
    while mode == "deaf" or (mode == "waits" and not requests):
        time.sleep(0.02)
    return 0


def take_step(log: EventLog, run_dir: RunDir, step: int, *, slow: bool) -> None:
    if slow:
        until = time.time() + 1.5
        while time.time() < until:
            time.sleep(0.02)
    fields = {"loss": 2.0 / step, "tokens_per_second": 1234.5, "memory_bytes": 3 << 29}
    log.write("step", step, total_steps=STEPS, seconds=0.5, **fields)
    set_state(run_dir, "running", step)


def break_off(mode: str, log: EventLog, run_dir: RunDir) -> None:
    if mode == "crashes":
        raise RuntimeError("something nobody foresaw")
    if mode == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "full":
        fault = {"found": "the disk is full", "where": "step-1", "fix": "free some space"}
        log.write("error", 1, code="no_space", exit_code=3, faults=[fault])
        set_state(run_dir, "failed", 1)
        raise SystemExit(3)
    if mode == "fails":
        fault = {"found": "the loss is not finite", "where": "step 3", "fix": "lower the rate"}
        log.write("error", 3, code="not_finite", exit_code=3, faults=[fault])
        set_state(run_dir, "failed", 3)
        raise SystemExit(3)


def finish(run_dir: RunDir, log: EventLog) -> None:
    log.write("evaluation", STEPS, when="after", loss=1.0, perplexity=2.718, metrics={})
    prompt = [{"role": "user", "content": "Where is my order?"}]
    question = {"row_id": "h:1", "prompt": prompt, "reference": '{"intent": "order"}'}
    sides = {
        name: {
            "loss": loss,
            "perplexity": loss * 2,
            "tokens": 10,
            "metrics": {"exact-match": {"value": score, "rows": 8}},
            "answers": [{**question, "text": text}],
        }
        for name, loss, score, text in (("before", 3.0, 0.0, "Hm?"), ("after", 1.0, 0.9, "yes"))
    }
    write_json(run_dir.evaluation_json, sides)
    result = {"status": "succeeded", "tokens": 5000, "tokens_per_second": 1000.0, "seconds": 75}
    result |= {"trainable_parameters": 100, "total_parameters": 1000, "rows_used": 9}
    result |= {"rows_dropped": {"too long": 2}, "peak_memory_bytes": 3 << 29}
    write_json(run_dir.result_json, result)
    run_dir.report_md.write_text("# report\n")
    run_dir.final.mkdir(exist_ok=True)
    set_state(run_dir, "succeeded", STEPS)


def set_state(run_dir: RunDir, status: str, step: int) -> None:
    state = {"pid": os.getpid(), "heartbeat": time.time(), "total_steps": STEPS}
    run_dir.write_state(RunState(status=status, step=step, **state))


if __name__ == "__main__":
    sys.exit(main())
