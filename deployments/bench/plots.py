"""The measurement as a picture: an SVG or PNG file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from tasks.errors import SettingsError

if TYPE_CHECKING:
    from deployments.bench.score import Quality

_RIGHT, _WRONG = "#2a6fb0", "#d1495b"
_SHADES = {"exact": "#2a6fb0", "near": "#e0a030", "hard": "#d1495b"}


def check_plots(path: Path) -> None:
    """Refuse before minutes of work what would fail after them.

    Raises:
        SettingsError: when matplotlib is missing, or the suffix names no format.
    """
    if path.suffix.lower() not in (".svg", ".png"):
        raise SettingsError(f"--plots {path}: name a file that ends in .svg or .png")
    _figure_class()


def draw_plots(quality: Quality, path: Path) -> None:
    """Precision and recall by threshold, scores of right and wrong pairs, recall by edit."""
    figure = _figure_class()(figsize=(12, 10), layout="constrained")
    curve, scores, edits = figure.subplot_mosaic([["curve", "scores"], ["edits", "edits"]]).values()
    _draw_curve(curve, quality)
    _draw_scores(scores, quality.judged)
    _draw_edits(edits, quality.edits)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without its date, the same measurement gives the same file.
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
    figure.savefig(path, dpi=120, metadata=metadata)


def _figure_class() -> Any:
    try:
        # The object API: pyplot would keep state and choose a window system.
        from matplotlib.figure import Figure
    except ImportError:
        raise SettingsError(
            "--plots needs matplotlib, which is not installed: pip install 'dam-dedup[bench]'"
        ) from None
    return Figure


def _draw_curve(axes: Any, quality: Quality) -> None:
    # A precision of no pairs is None, and leaves a gap.
    thresholds = quality.curve["threshold"].to_list()
    for name, colour in (("precision", _RIGHT), ("recall", _WRONG)):
        values = quality.curve[name].cast(pl.Float64).fill_null(float("nan")).to_list()
        axes.plot(thresholds, values, marker="o", markersize=3, color=colour, label=name)
    axes.axvline(quality.threshold, color="#999999", linestyle=":", label="threshold")
    axes.set(title="Precision and recall", xlabel="threshold", ylim=(0, 1.03))
    axes.grid(alpha=0.3)
    axes.legend()


def _draw_scores(axes: Any, judged: pl.DataFrame) -> None:
    sides = [judged.filter(pl.col("is_right") == right)["score"].to_list() for right in (1, 0)]
    edges = [0.5 + 0.02 * step for step in range(26)]
    axes.hist(sides, edges, stacked=True, color=[_RIGHT, _WRONG], label=["right", "wrong"])
    # Right pairs are many at 1: on a plain scale the few wrong ones could not be seen.
    axes.set_yscale("symlog", linthresh=1)
    axes.set(title="Scores of pairs", xlabel="score", ylabel="pairs", ylim=(0, None))
    axes.legend()


def _draw_edits(axes: Any, edits: pl.DataFrame) -> None:
    if edits.is_empty():
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no planted edits", ha="center")
        return
    colours = [_SHADES.get(level, "#777777") for level in edits["level"].to_list()]
    places = range(edits.height)
    axes.bar(places, edits["recall"].to_list(), color=colours)
    axes.set_xticks(places, edits["edit"].to_list(), rotation=60, ha="right", fontsize=8)
    axes.set(title="Recall by edit: exact, near, hard", ylim=(0, 1.03))
    axes.grid(axis="y", alpha=0.3)
