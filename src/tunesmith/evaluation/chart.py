"""The two pictures of a report, as PNG: the loss by step, and before beside after.

The only file that draws. Figures are made without pyplot, so nothing global changes. Each picture
exists on a light and on a dark ground; the colours differ in lightness and stay apart for
colour-blind eyes (Okabe and Ito's blue and orange), and everything is labelled where it stands.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tunesmith.evaluation.quantities import PLAIN_SCORES
from tunesmith.evaluation.report_facts import Curve, Measure

Scale = Literal["loss", "share", "plain"]

WIDTH_INCHES = 7.0
DPI = 160
MAX_DRAWN_STEPS = 1000
FONT_SIZE = 10.5


@dataclass(frozen=True)
class Theme:
    """Colours of one ground."""

    ground: str
    text: str
    faint: str
    grid: str
    before: str
    after: str
    held_out: str


LIGHT = Theme("#ffffff", "#1b1f24", "#5d6670", "#e3e6ea", "#9aa3ad", "#0072b2", "#c25400")
DARK = Theme("#15181c", "#e8eaed", "#a3abb4", "#2c3138", "#7d8792", "#56b4e9", "#f0a030")


def draw_loss(curve: Curve, theme: Theme = LIGHT) -> bytes:
    """The training loss of each step, smoothed, with the held-out points."""
    figure, axes = _figure(3.5, theme)
    steps, losses, tokens = _thinned(curve)
    smooth = smoothed(losses, tokens, span=smoothing_span(len(losses)))
    many = len(steps) > 2
    axes.plot(
        steps, losses, color=theme.after, alpha=0.35 if many else 1.0,
        linewidth=1.0, marker="" if many else "o", markersize=5,
    )  # fmt: skip
    if many:
        axes.plot(steps, smooth, color=theme.after, linewidth=2.2, solid_capstyle="round")
    _draw_held_out(axes, curve, theme)
    _name_curves(axes, steps, smooth, curve, theme)
    _scale_loss(axes, losses, curve)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per trained token)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=[1, 2, 5, 10]))
    title = "Loss by step"
    if many:
        title += ": thin line each step, thick line smoothed"
    axes.set_title(title, loc="left", color=theme.text, fontsize=FONT_SIZE + 1, pad=12)
    return _png(figure)


def draw_before_after(loss: Measure | None, metrics: Sequence[Measure], theme: Theme) -> bytes:
    """Bars for before and after: the held-out loss, and each metric with its 95% interval."""
    shares = [metric for metric in metrics if metric.name not in PLAIN_SCORES]
    plain = [metric for metric in metrics if metric.name in PLAIN_SCORES]
    panels: list[tuple[str, Sequence[Measure], Scale]] = [
        ("Held-out loss, nats per token (lower is better)", [loss] if loss else [], "loss"),
        ("Scores on held-out rows (higher is better)", shares, "share"),
        ("Scores from -1 to 1 (higher is better)", plain, "plain"),
    ]
    drawn = [panel for panel in panels if panel[1]]
    assert drawn, "there is something to draw"
    heights = [float(len(measures)) for _, measures, _ in drawn]
    figure, _ = _figure(1.0 + 1.05 * sum(heights), theme, panels=heights)
    for axes, (title, measures, scale) in zip(figure.axes, drawn, strict=True):
        _draw_bars(axes, measures, theme, scale)
        axes.set_title(title, **_title(theme))
        if any(measure.after_interval or measure.before_interval for measure in measures):
            axes.set_xlabel("thin lines: 95% interval")
    return _png(figure)


def smoothing_span(num_steps: int) -> int:
    """Over how many steps the smooth line looks: a tenth of the run, at least 3."""
    return max(3, round(num_steps / 10))


def smoothed(losses: Sequence[float], tokens: Sequence[float], *, span: int) -> list[float]:
    """A moving mean over `span` steps around each, weighted by what each step's mean is of.

    The window is even on both sides, so the line neither lags nor leads, and narrow at the start,
    where the loss falls fast; at the end it looks back only. Sums, not means of means.
    """
    means: list[float] = []
    for place in range(len(losses)):
        reach = min(place, span // 2)
        window = slice(place - reach, place + reach + 1)
        weight = sum(tokens[window])
        total = sum(a * b for a, b in zip(losses[window], tokens[window], strict=True))
        means.append(total / weight)
    return means


def _thinned(curve: Curve) -> tuple[list[float], list[float], list[float]]:
    """Steps in bins where there are more than can be seen, each with its weighted mean."""
    size = math.ceil(len(curve.steps) / MAX_DRAWN_STEPS) or 1
    steps, losses, tokens = list[float](), list[float](), list[float]()
    for start in range(0, len(curve.steps), size):
        bin = slice(start, start + size)
        weight = sum(curve.tokens[bin])
        pairs = zip(curve.losses[bin], curve.tokens[bin], strict=True)
        steps.append(curve.steps[bin][-1])
        losses.append(sum(loss * count for loss, count in pairs) / weight)
        tokens.append(weight)
    return steps, losses, tokens


def _draw_held_out(axes: Axes, curve: Curve, theme: Theme) -> None:
    if not curve.held_out:
        return
    steps, losses = zip(*curve.held_out, strict=True)
    axes.plot(
        steps, losses, color=theme.held_out, linewidth=1.2, linestyle=(0, (4, 3)), marker="D",
        markersize=6, clip_on=False, zorder=4,
    )  # fmt: skip


def _name_curves(
    axes: Axes, steps: Sequence[float], smooth: Sequence[float], curve: Curve, theme: Theme
) -> None:
    """Write each curve's name and last value to the right of its end, apart from each other."""
    ends: list[tuple[float, float, str, str]] = []
    if steps:
        ends.append((steps[-1], smooth[-1], f"training {smooth[-1]:.2f}", theme.after))
    if curve.held_out:
        step, loss = curve.held_out[-1]
        ends.append((step, loss, f"held out {loss:.2f}", theme.held_out))
    ends.sort(key=lambda end: end[1])
    close = len(ends) == 2
    for place, (step, loss, text, color) in enumerate(ends):
        shift = (-7 if place == 0 else 7) if close else 0
        axes.annotate(
            text, (step, loss), xytext=(11, shift), textcoords="offset points", color=color,
            va="center", fontweight="bold", annotation_clip=False,
        )  # fmt: skip


def _scale_loss(axes: Axes, losses: Sequence[float], curve: Curve) -> None:
    shown = [*losses, *(loss for _, loss in curve.held_out)]
    finite = [loss for loss in shown if math.isfinite(loss)]
    if finite:
        axes.set_ylim(0, max(finite) * 1.06 or 1)
    last = max([*curve.steps, *(step for step, _ in curve.held_out), 1])
    first = 0 if curve.held_out else min([*curve.steps, 1])
    axes.set_xlim(first - 0.02 * last, last * 1.01)


def _draw_bars(axes: Axes, measures: Sequence[Measure], theme: Theme, scale: Scale) -> None:
    ticks: list[tuple[float, str]] = []
    for place, measure in enumerate(measures):
        sides = (
            (place - 0.19, measure.before, measure.before_interval, theme.before, "before"),
            (place + 0.19, measure.after, measure.after_interval, theme.after, "after"),
        )
        for y, value, interval, color, when in sides:
            if value is None:
                continue
            _draw_bar(axes, y, value, interval, color, theme, percent=scale == "share")
            ticks.append((y, f"{when}  " if scale == "loss" else f"{measure.name}  {when}  "))
    axes.set_yticks([y for y, _ in ticks], [text for _, text in ticks])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(measures) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    match scale:
        case "share":
            axes.set_xlim(0, 1.14)
            axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        case "plain":
            has_negative = any(low < 0 for low in _lowest(measures))
            axes.set_xlim(*((-1, 1.28) if has_negative else (0, 1.14)))
        case "loss":
            values = [v for measure in measures for v in (measure.before, measure.after) if v]
            axes.set_xlim(0, max(values, default=1.0) * 1.14)
        case _:
            assert_never(scale)


def _lowest(measures: Sequence[Measure]) -> Iterator[float]:
    """Yield what each bar or its interval reaches on the left."""
    for measure in measures:
        yield from (value for value in (measure.before, measure.after) if value is not None)
        intervals = (measure.before_interval, measure.after_interval)
        yield from (interval[0] for interval in intervals if interval)


def _draw_bar(
    axes: Axes,
    y: float,
    value: float,
    interval: tuple[float, float] | None,
    color: str,
    theme: Theme,
    *,
    percent: bool,
) -> None:
    axes.barh(y, value, height=0.34, color=color)
    end = value
    if interval is not None:
        low, high = interval
        axes.plot([low, high], [y, y], color=theme.text, linewidth=1.4, solid_capstyle="butt")
        end = max(end, high)
    text = f"{value:.1%}" if percent else f"{value:.3f}"
    axes.annotate(
        text, (end, y), xytext=(6, 0), textcoords="offset points", va="center", color=theme.text,
        fontweight="bold",
        bbox={"facecolor": theme.ground, "edgecolor": "none", "pad": 1.5},
    )  # fmt: skip


def _figure(
    height: float, theme: Theme, *, panels: Sequence[float] = (1.0,)
) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DPI, layout="constrained")
    figure.set_facecolor(theme.ground)
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08, hspace=0.06)  # type: ignore[union-attr]
    grid: Any = figure.subplots(len(panels), 1, squeeze=False, height_ratios=list(panels))
    for axes in grid[:, 0]:
        _style(axes, theme)
    return figure, grid[0, 0]


def _style(axes: Axes, theme: Theme) -> None:
    axes.set_facecolor(theme.ground)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.grid)
    axes.grid(visible=True, color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.faint, labelcolor=theme.text, labelsize=FONT_SIZE - 1, length=0)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=theme.faint, fontsize=FONT_SIZE - 0.5)


def _title(theme: Theme) -> dict[str, Any]:
    return {"loc": "left", "color": theme.text, "fontsize": FONT_SIZE + 1, "pad": 8}


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=figure.get_facecolor())
    return buffer.getvalue()
