"""Pictures of results, drawn with Matplotlib and saved as PNG, SVG or PDF."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bilstm.compare.verdict import SCORES
from bilstm.errors import UserError
from bilstm.files import check_writable, reason, replacing

FORMATS = ("png", "svg", "pdf")

# Okabe and Ito's palette, which any colour vision can distinguish, and a dash pattern for each, for print in grey.
STYLES = (("#0072B2", "-"), ("#56B4E9", "--"), ("#009E73", "-."), ("#D55E00", "-"), ("#CC79A7", ":"))
INK = "#333333"


@dataclass(frozen=True)
class Panel:
    """Learning curves of several models on one problem.

    Attributes:
        title: the problem.
        accuracy: (models, seeds, checkpoints) between 0 and 1.
        baseline: the accuracy of always predicting the majority class.
    """

    title: str
    accuracy: npt.NDArray[np.float64]
    baseline: float


def learning_curves(panels: Sequence[Panel], models: Sequence[str], seen: npt.ArrayLike, title: str) -> Figure:
    """One panel a problem, one line a model: the mean over the seeds, and a band of one standard deviation.

    Args:
        panels: what to draw, at least one.
        models: the models' names, in the order of each panel's accuracy.
        seen: (checkpoints,) training sequences seen at each checkpoint.
        title: a line above the panels.
    """
    seen = np.asarray(seen)
    width = max(3.6 * len(panels) + 0.4, 6.0)
    figure = Figure(figsize=(width, 4.3), dpi=150, layout=ConstrainedLayoutEngine(wspace=0.05), facecolor="white")
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(row, panels, strict=True):
        _draw_panel(axes, panel, models, seen)
    row[0].set_ylabel("accuracy on new sequences", color=INK)
    figure.suptitle(title, color=INK, fontsize=11, x=0.01, ha="left")
    handles, names = row[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 5), frameon=False, fontsize=9)
    return figure


def _draw_panel(axes: Axes, panel: Panel, models: Sequence[str], seen: npt.NDArray[np.int64]) -> None:
    mean = panel.accuracy.mean(axis=1)
    spread = panel.accuracy.std(axis=1, ddof=1) if panel.accuracy.shape[1] > 1 else np.zeros_like(mean)
    for index, model in enumerate(models):
        _draw_curve(axes, seen, mean[index], spread[index], model, STYLES[index % len(STYLES)])
    axes.axhline(panel.baseline, color="#888888", linestyle=(0, (1, 2)), linewidth=1.2, label="majority class")
    axes.set_title(panel.title, fontsize=10.5, color=INK, loc="left")
    axes.set_xlabel("training sequences seen", color=INK)
    axes.set_xlim(seen[0], seen[-1])
    axes.set_ylim(min(0.45, float(mean.min()) - 0.02), 1.0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    _plain(axes)


def _draw_curve(
    axes: Axes,
    positions: npt.NDArray[Any],
    mean: npt.NDArray[np.float64],
    spread: npt.NDArray[np.float64],
    name: str,
    style: tuple[str, str],
    most: float = 1.0,
) -> None:
    """A mean, and a band of one standard deviation to either side, below the greatest possible value."""
    color, dashes = style
    axes.fill_between(positions, mean - spread, np.minimum(mean + spread, most), color=color, alpha=0.15, linewidth=0)
    marker = "o" if len(mean) == 1 else None
    axes.plot(positions, mean, label=name, linewidth=1.8, color=color, linestyle=dashes, marker=marker)


def comparison(report: Mapping[str, Any]) -> Figure:
    """What `bilstm.compare.compare` found: a learning curve of each variant, and how far each is from the reference.

    A band is one standard deviation of the seeds to either side; a bar is a 95 % interval.
    """
    variants = [variant for variant in report["variants"] if variant["runs"]]
    styles = {variant["name"]: _style(index) for index, variant in enumerate(variants)}
    height = max(4.3, 0.32 * len(variants) + 2.6)
    layout = ConstrainedLayoutEngine(wspace=0.05)
    figure = Figure(figsize=(9.6, height), dpi=150, layout=layout, facecolor="white")
    left, right = figure.subplots(1, 2)
    _draw_curves(left, variants, styles, report["curve"])
    _draw_differences(right, report, styles)
    seeds = len(report["seeds"])
    figure.suptitle(
        f"Mean of {seeds} seeds, band of one standard deviation" if seeds > 1 else "One seed",
        color=INK,
        fontsize=11,
        x=0.01,
        ha="left",
    )
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 3), frameon=False, fontsize=9)
    return figure


def _style(index: int) -> tuple[str, str]:
    """A colour and dashes; once all colours are used, they come again with others' dashes."""
    count = len(STYLES)
    return STYLES[index % count][0], STYLES[(index + index // count) % count][1]


def _draw_curves(
    axes: Axes, variants: Sequence[Mapping[str, Any]], styles: Mapping[str, tuple[str, str]], score: str
) -> None:
    accuracy = score == "val_accuracy"
    for variant in variants:
        mean, spread = np.array(variant["curve"]["mean"]), np.array(variant["curve"]["deviation"])
        epochs, style = np.arange(1, len(mean) + 1), styles[variant["name"]]
        _draw_curve(axes, epochs, mean, spread, variant["name"], style, 1.0 if accuracy else np.inf)
    axes.set_title(f"{'accuracy' if accuracy else 'loss'} on the validation set", fontsize=10.5, color=INK, loc="left")
    axes.set_xlabel("epoch", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if accuracy:
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    _plain(axes)


def _draw_differences(axes: Axes, report: Mapping[str, Any], styles: Mapping[str, tuple[str, str]]) -> None:
    """How much better than the reference each variant is: to the right is better, for errors as well."""
    score, reference = SCORES[report["score"]], report["reference"]
    differences = {
        each["variant"]: each[report["score"]] for each in report["differences"] if each["against"] == reference
    }
    scale = (100 if score.points else 1) * (-1 if score.lower_is_better else 1)
    for row, (name, (color, _)) in enumerate(styles.items()):
        if name in differences:
            mean, *ends = (differences[name][end] for end in ("mean", "low", "high"))
            if ends[0] is not None:
                ends = [scale * end for end in ends]
                axes.plot(ends, [row, row], color=color, linewidth=2.5, solid_capstyle="butt")
            axes.plot([scale * mean], [row], color=color, marker="o", markersize=6)
        elif name == reference:
            axes.plot([0], [row], color=color, marker="o", markersize=6)
    axes.axvline(0, color="#888888", linestyle=(0, (1, 2)), linewidth=1.2)
    axes.set_yticks(range(len(styles)), list(styles))
    axes.set_ylim(len(styles) - 0.5, -0.5)
    what = "reduction of" if score.lower_is_better else "gain in points of" if score.points else "gain in"
    axes.set_title(f"{what} {score.words}", fontsize=10.5, color=INK, loc="left")
    axes.set_xlabel(_what_bars_are(report["differences"]), color=INK)
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)
    _plain(axes)


def _what_bars_are(differences: Sequence[Mapping[str, Any]]) -> str:
    """Under the axis: intervals of few seeds do not say how much seeds matter."""
    included = [difference["includes_seeds"] for difference in differences]
    return "95 % intervals" if all(included) else "95 % intervals, without the seeds' part"


def delays(reports: Sequence[Mapping[str, Any]]) -> Figure:
    """What `evaluate_delays` found: the leading score against the look-ahead, with 95 % intervals.

    The score of whole sequences, where it is among them, is a line, and its interval a band.
    """
    name = {"label": "accuracy", "labels": "macro_f1", "quantity": "rmse"}[reports[0]["task"].partition("-")[2]]
    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout=ConstrainedLayoutEngine(), facecolor="white")
    axes = figure.subplots()
    bounded = sorted((each for each in reports if each["delay"] is not None), key=lambda each: each["look_ahead"])
    whole = next((each for each in reports if each["delay"] is None), None)
    if bounded:
        at = [each["look_ahead"] for each in bounded]
        values = np.array([each[name] for each in bounded])
        ends = np.array([_ends(each, name) for each in bounded]).T
        axes.errorbar(at, values, np.abs(ends - values), color=STYLES[0][0], marker="o", linewidth=1.8, capsize=3)
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xticks(at, [str(each) for each in at])
        axes.minorticks_off()
    if whole is not None:
        axes.axhline(whole[name], color=STYLES[3][0], linewidth=1.4, linestyle="--", label="whole sequences")
        axes.axhspan(*_ends(whole, name), color=STYLES[3][0], alpha=0.12, linewidth=0)
        axes.legend(frameon=False, fontsize=9, loc="best")
    block = bounded[0]["block"] if bounded else 1
    axes.set_xlabel("look-ahead in steps" + (f", in blocks of {block} steps" if block > 1 else ""), color=INK)
    axes.set_ylabel(SCORES[name].words, color=INK)
    if SCORES[name].points:
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    _plain(axes)
    return figure


def _ends(report: Mapping[str, Any], name: str) -> tuple[float, float]:
    """The ends of a score's interval; twice the score where there is none."""
    low, high = (report["intervals"] or {}).get(name) or (report[name], report[name])
    return low, high


def _plain(axes: Axes) -> None:
    axes.tick_params(colors=INK, labelsize=9)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def picture_path(out: str | os.PathLike[str], name: str) -> Path:
    """Where a picture goes: `out` itself when it ends in .png, .svg or .pdf, else `name`.png in the folder `out`.

    The folder is made where it is missing, so that a place that cannot be written to is found before the work.

    Raises:
        UserError: the folder cannot be made or written to, or `out` has another ending.
    """
    path = Path(out)
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        if suffix and not path.is_dir():
            raise UserError(f"cannot write a picture as {path.name}: the ending must be .png, .svg or .pdf")
        path = path / f"{name}.png"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {path.parent}: {reason(error)}") from None
    check_writable(path)
    return path


def save(figure: Figure, path: Path) -> None:
    """Write the picture whole or not at all, in the format that its ending names.

    Raises:
        UserError: it cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    undated = {"Date": None} if kind == "svg" else {"CreationDate": None} if kind == "pdf" else {}
    # A fixed salt and no date: the same results give the same file.
    with replacing(path) as unfinished, matplotlib.rc_context({"svg.hashsalt": "bilstm"}):
        figure.savefig(unfinished, format=kind, metadata=undated)
