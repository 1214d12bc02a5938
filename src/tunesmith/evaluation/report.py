"""Writes the report of a run from the files of its folder: report.md, report.html and pictures.

It may be called again at any time, also for a run that failed or was stopped.
"""

from __future__ import annotations

from pathlib import Path

from tunesmith.core.run_dir import RunDir, disk_error
from tunesmith.evaluation.chart import DARK, LIGHT, draw_before_after, draw_loss
from tunesmith.evaluation.report_content import headline
from tunesmith.evaluation.report_facts import Facts, read_facts
from tunesmith.evaluation.report_html import Picture, write_html
from tunesmith.evaluation.report_markdown import write_markdown

PICTURES = "charts"


def write_report(run_dir: RunDir) -> None:
    """Write the report; what the folder does not hold is left out.

    Raises:
        UserError: a file of the folder is damaged.
        RunError: the disk is full or cannot be written.
    """
    facts = read_facts(run_dir)
    pictures = _draw(facts)
    folder = run_dir.path / PICTURES
    files = {name: folder / f"{name}.png" for name in pictures}
    for name, picture in pictures.items():
        _write(files[name], picture.light)
    references = [
        (picture.title, f"{PICTURES}/{files[name].name}") for name, picture in pictures.items()
    ]
    _write(run_dir.report_md, write_markdown(facts, pictures=references).encode())
    _write(run_dir.report_html, write_html(facts, pictures=list(pictures.values())).encode())


def _draw(facts: Facts) -> dict[str, Picture]:
    pictures: dict[str, Picture] = {}
    if facts.loss is not None or facts.metrics:
        pictures["before-after"] = Picture(
            title="Before and after",
            text=f"Bars of loss and scores before and after training. {headline(facts)}",
            light=draw_before_after(facts.loss, facts.metrics, LIGHT),
            dark=draw_before_after(facts.loss, facts.metrics, DARK),
        )
    curve = facts.curve
    if curve.steps:
        pictures["loss"] = Picture(
            title="Loss by step",
            text=f"Training loss from {curve.losses[0]:.2f} at step {curve.steps[0]} "
            f"to {curve.losses[-1]:.2f} at step {curve.steps[-1]}.",
            light=draw_loss(curve, LIGHT),
            dark=draw_loss(curve, DARK),
        )
    return pictures


def _write(path: Path, content: bytes) -> None:
    """Replace a file whole, so that a full disk leaves no half of one."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(path, error) from error
