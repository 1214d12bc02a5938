"""`tunesmith runs`: the runs of a folder, one of them, and one as it goes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from tunesmith.cli import output
from tunesmith.cli.launch import resume_command, show_events
from tunesmith.cli.program import suggest
from tunesmith.cli.summary import read_optional, read_scores, show_summary
from tunesmith.core.errors import TunesmithError, UserError
from tunesmith.core.run_dir import RunDir, RunState, describe_status

RUNS = Path("runs")
RESUMABLE = ("stopped", "interrupted", "failed")

app = App(name="runs", help="List, show and follow runs.", help_epilogue="")


@dataclass(frozen=True)
class RunRow:
    """One run as the list shows it."""

    name: str
    path: str
    status: str
    step: int
    total_steps: int | None
    loss_before: float | None
    loss_after: float | None
    changed: float


@app.command(name="list", sort_key=0)
def list_runs(
    *,
    folder: Annotated[Path, Parameter(name="--in")] = RUNS,
    json: bool = False,
) -> int:
    """List the runs of a folder, the latest first.

    Parameters
    ----------
    folder:
        Where the run folders are; by default ./runs.
    json:
        Print one JSON document.
    """
    rows = find_runs(folder)
    if json:
        output.show_json({"folder": str(folder), "runs": [vars(row) for row in rows]})
        return 0
    if not rows:
        output.say(f"no runs in {folder}; start one with: {suggest('quickstart')}")
        return 0
    output.show_table(
        [(row.name, row.status, _steps(row), _loss(row), time.ctime(row.changed)) for row in rows],
        ("run", "status", "step", "held-out loss", "last sign of life"),
    )
    return 0


@app.command(name="show", sort_key=1)
def show_run(run: Path, /, *, json: bool = False) -> int:
    """Show what a run was asked and what came of it.

    Parameters
    ----------
    run:
        The run's folder, or its name in ./runs.
    json:
        Print one JSON document.
    """
    run_dir = open_run(run)
    state = run_dir.read_state()
    status = describe_status(state)
    recipe = read_optional(run_dir, "resolved.json").get("recipe", {})
    if json:
        output.show_json(_document(run_dir, state, status, recipe))
        return 0
    output.say(run_dir.path.name, style="bold")
    output.show_pairs({"status": _status(status, state), **_asked(recipe)})
    show_summary(run_dir)
    if status in RESUMABLE:
        output.say(f"go on      {resume_command(run_dir)}")
    return 0


@app.command(name="follow", sort_key=2)
def follow_run(run: Path, /) -> int:
    """Show a run's events until it ends. Ctrl-C ends the showing, not the run.

    Parameters
    ----------
    run:
        The run's folder, or its name in ./runs.
    """
    run_dir = open_run(run)
    try:
        with output.progress(as_json=False) as progress:
            show_events(run_dir, progress, stop=lambda: not _goes_on(run_dir))
    except KeyboardInterrupt:
        output.say("the run goes on; only the showing has ended")
        return 0
    status = describe_status(run_dir.read_state())
    output.say(f"the run is over: {status}")
    if status in RESUMABLE:
        output.say(f"go on with: {resume_command(run_dir)}")
    return 0


def find_runs(folder: Path) -> list[RunRow]:
    """The runs directly in `folder`, the latest first; a damaged one is listed as such."""
    found = [path.parent for path in folder.expanduser().glob("*/resolved.json")]
    return sorted((_row(RunDir(path)) for path in found), key=lambda row: -row.changed)


def open_run(run: Path) -> RunDir:
    """Open a run by its folder, or by its name in ./runs."""
    if not run.exists() and len(run.parts) == 1 and (RUNS / run).exists():
        return RunDir.open(RUNS / run)
    return RunDir.open(run)


def _row(run_dir: RunDir) -> RunRow:
    try:
        state = run_dir.read_state()
        before, after = (read_scores(run_dir, when).loss for when in ("before", "after"))
        status = describe_status(state)
    except (TunesmithError, TypeError, KeyError, AttributeError, ValueError):
        state, before, after, status = None, None, None, "damaged"
    return RunRow(
        name=run_dir.path.name,
        path=str(run_dir.path),
        status=status,
        step=state.step if state else 0,
        total_steps=state.total_steps if state else None,
        loss_before=before,
        loss_after=after,
        changed=state.heartbeat if state else run_dir.resolved_json.stat().st_mtime,
    )


def _goes_on(run_dir: RunDir) -> bool:
    try:
        status = describe_status(run_dir.read_state())
    except UserError:
        return False
    return status in ("created", "running")


def _steps(row: RunRow) -> str:
    return f"{row.step}/{row.total_steps or '?'}"


def _loss(row: RunRow) -> str:
    if row.loss_before is None and row.loss_after is None:
        return "-"
    sides = (row.loss_before, row.loss_after)
    return " -> ".join("?" if side is None else f"{side:.3f}" for side in sides)


def _status(status: str, state: RunState | None) -> str:
    if state is None:
        return status
    told = f": {state.message}" if state.message else ""
    return f"{status} at step {state.step}/{state.total_steps or '?'}{told}"


def _asked(recipe: dict[str, Any]) -> dict[str, str]:
    """The recipe in a few lines."""
    if not recipe:
        return {}
    data, method, training = recipe["data"], recipe["method"], recipe["training"]
    steps = training["max_steps"]
    head = training.get("head_learning_rate")
    rank = f", rank {method['rank']}" if "rank" in method else ""
    return {
        "model": recipe["model"]["source"],
        "task": recipe["task"]["type"],
        "data": data["train"],
        "held out": data["validation"],
        "method": method["type"] + rank,
        "length": f"{steps} steps" if steps else f"{training['epochs']:g} epochs",
        "learning rate": f"{training['learning_rate']:g}" + (f", head {head:g}" if head else ""),
    }


def _document(
    run_dir: RunDir, state: RunState | None, status: str, recipe: dict[str, Any]
) -> dict[str, Any]:
    return {
        "run_dir": str(run_dir.path),
        "status": status,
        "state": vars(state) if state else None,
        "recipe": recipe,
        "result": read_optional(run_dir, "result.json"),
        "evaluation": read_optional(run_dir, "evaluation.json"),
        "final": str(run_dir.final) if run_dir.final.exists() else None,
        "report": str(run_dir.report_html) if run_dir.report_html.exists() else None,
    }
