"""The report's charts of scores, training, calibration, residuals and context."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from bilstm.model.trained import TrainedModel
from bilstm.report.charts import SIZE, Chart, Line, Scale, Tick, band, bars, dots, line
from bilstm.report.summary import percent
from bilstm.tasks import LabelTask, QuantityTask, Task

_LARGEST = 1e12  # of a loss that is drawn: the record of a training may come from an untrusted file


class Bar(NamedTuple):
    """A score on a scale from 0 to 1, and its interval."""

    name: str
    style: str
    value: float
    low: float
    high: float


def score_bars(scores: dict[str, Any], key: str, constant: tuple[str, float] | None) -> list[Bar]:
    """A score of the model and of what it is to be compared with; what is below 0 is drawn as 0."""
    found = [_bar("this model", "model", scores, key)]
    if scores["baseline"]:
        found.append(_bar("without context", "alone", scores["baseline"], key))
    if constant:
        name, share = constant
        found.append(Bar(name, "constant", share, share, share))
    return found


def _bar(name: str, style: str, scores: dict[str, Any], key: str) -> Bar:
    low, high = (scores["intervals"] or {}).get(key, (scores[key],) * 2)
    return Bar(name, style, *(max(0.0, end) for end in (scores[key], low, high)))


def learning(model: TrainedModel) -> list[Chart]:
    """The loss, and the accuracy on the validation set, epoch by epoch."""
    history, best = _history(model), model.training["best_epoch"]
    losses = {"training set": ("second", history["loss"])}
    if "val_loss" in history:
        losses["validation set"] = ("model", history["val_loss"])
    first, last = (_plain(history["loss"][epoch]) for epoch in (0, best - 1))
    charts = [_epochs("loss", losses, best, f"the training loss was {first} at first and {last} in epoch {best}")]
    if "val_accuracy" in history:
        accuracies = {"this model": ("model", history["val_accuracy"])}
        others = _history(model.baseline) if model.baseline else {}
        if "val_accuracy" in others:
            accuracies["without context"] = ("alone", others["val_accuracy"])
        first, last = (_plain(history["val_accuracy"][epoch]) for epoch in (0, best - 1))
        words = f"the accuracy on the validation set was {first} at first and {last} in epoch {best}"
        charts.append(_epochs("accuracy on the validation set", accuracies, best, words, high=1.0))
    return charts


def _history(model: TrainedModel) -> dict[str, list[float | None]]:
    """The scores of each epoch, None where they cannot be drawn."""

    def drawable(value: float) -> float | None:
        return float(value) if -_LARGEST < value < _LARGEST and math.isfinite(value) else None

    return {name: [drawable(value) for value in values] for name, values in model.training["history"].items()}


def _plain(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _epochs(
    title: str,
    curves: dict[str, tuple[str, list[float | None]]],
    best: int,
    words: str,
    *,
    high: float | None = None,
) -> Chart:
    every = [value for _, values in curves.values() for value in values if value is not None] or [0.0]
    longest = max(len(values) for _, values in curves.values())
    x = Scale(1, max(longest, 2))
    if high is None:
        y = Scale(min(0.0, *every), max(0.0, *every) * 1.02 or 1.0)
    else:
        y = Scale(min(every) - 0.1 * (max(every) - min(every)), high)
    lines = []
    for name, (style, values) in curves.items():
        xs = range(1, len(values) + 1)
        known = [(epoch, value) for epoch, value in zip(xs, values, strict=True) if value is not None]
        marked = dots([epoch for epoch, _ in known], [value for _, value in known], x, y) if len(values) < 20 else ""
        lines.append(Line(name, style, line(xs, values, x, y), dots=marked))
    ticks = [tick for tick in x.ticks(6) if "." not in tick.text] or [Tick(0, "1")]
    rules = [Tick(x(best) / SIZE * 100, f"epoch {best} was kept")]
    return Chart(words, ticks, y.ticks(4) if high is None else _shares(y), "epoch", title, lines, rules)


def calibration(findings: dict[str, Any], several: bool) -> Chart:
    """How often predictions are right, by their probability, before and after temperature scaling."""
    scores, unit = findings["scores"], Scale(0, 1)
    curve = scores["calibration"]
    total = sum(found["steps"] for found in curve)
    shares = [0.0] * 15
    for found in curve:
        shares[min(14, round(found["above"] * 15))] = found["steps"] / total
    words = "; ".join(
        f"probability {percent(found['confidence'])}, {percent(found['accuracy'])} right" for found in curve
    )
    right = "how often the label holds" if several else "how often it is right"
    lines = [
        Line("share of predictions", "share", bars(shares, unit), area=True),
        Line("as it should be", "ideal", f"M0 {SIZE}L{SIZE} 0"),
    ]
    if findings["uncalibrated"]:
        xs, ys = _points(findings["uncalibrated"])
        lines.append(Line("before temperature scaling", "alone", line(xs, ys, unit, unit)))
    xs, ys = _points(curve)
    lines.append(Line("this model", "model", line(xs, ys, unit, unit), dots=dots(xs, ys, unit, unit)))
    ticks = [Tick(25 * quarter, f"{25 * quarter} %") for quarter in range(5)]
    return Chart(words, ticks, ticks, "predicted probability", right, lines)


def _points(curve: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    return [found["confidence"] for found in curve], [found["accuracy"] for found in curve]


def lengths(data: dict[str, Any]) -> Chart | None:
    """How many sequences have which length; None where they all have the same."""
    found = data["lengths"]["bars"]
    if len(found) < 2:
        return None
    y = Scale(0, max(each["sequences"] for each in found) * 1.05)
    x = Scale(found[0]["from"] - 0.5, found[-1]["to"] + 0.5)
    words = f"lengths from {data['lengths']['shortest']:,} to {data['lengths']['longest']:,} steps"
    path = bars([each["sequences"] for each in found], y, gap=0.08)
    ticks = [tick for tick in x.ticks(5, "{:,.10g}") if "." not in tick.text]
    return Chart(words, ticks, y.ticks(3, "{:,g}"), "steps", "sequences", [Line("", "model", path, area=True)])


# --- Residuals -------------------------------------------------------------------------------------------------------


def residuals(found: dict[str, Any]) -> list[tuple[str, Chart]]:
    """Titles and charts for a quantity, from what `Residuals` found."""
    predicted, true = ([point[column] for point in found["points"]] for column in (0, 1))
    values, guesses, errors = Scale(*_ends([*predicted, *true])), Scale(*_ends(predicted)), Scale(*found["range"])
    shares = [count / max(1, found["rows"]) for count in found["bars"]]
    up = Scale(0, max(shares) * 1.05 or 1)
    within = [min(max(guess - truth, errors.low), errors.high) for guess, truth in found["points"]]
    value_ticks, error_ticks, guess_ticks = (scale.ticks(4, "{:.4g}") for scale in (values, errors, guesses))
    ideal = Line("perfect", "ideal", f"M0 {SIZE}L{SIZE} 0")
    zero = Line("no error", "ideal", f"M0 {SIZE / 2:g}H{SIZE}")
    points = Line("", "point", "", dots=dots(true, predicted, values, values))
    by_guess = Line("", "point", "", dots=dots(predicted, within, guesses, errors))
    histogram = Line("", "model", bars(shares, up, gap=0.08), area=True)
    titles = ("true value", "predicted value", "residual", "share of the predictions")
    words = f"{len(true)} predictions"
    return [
        ("Predicted and true", Chart(words, value_ticks, value_ticks, titles[0], titles[1], [ideal, points])),
        (
            "Residuals: predicted minus true",
            Chart("residuals", error_ticks, _shares(up), titles[2], titles[3], [histogram], [Tick(50, "no error")]),
        ),
        ("Residuals by prediction", Chart(words, guess_ticks, error_ticks, titles[1], titles[2], [zero, by_guess])),
    ]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """A little more than the range of some values."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


# --- Context ---------------------------------------------------------------------------------------------------------


class Measure(NamedTuple):
    """How scores of context are shown: their name, and the factor from `step_scores` to it; -1 turns them round."""

    name: str
    factor: float


def measure(task: Task) -> Measure:
    """What `step_scores` of a task are called."""
    if isinstance(task, LabelTask):
        return Measure("accuracy", 1)
    if isinstance(task, QuantityTask):
        several = len(task.columns) > 1
        return Measure(
            "mean absolute error" + (" (standard deviations)" if several else ""), -1 if several else -task.scale[0]
        )
    return Measure("share of right answers", 1)


def whole_score(task: Task, scores: dict[str, Any]) -> float:
    """The score of all steps, as `step_scores` defines it."""
    if isinstance(task, LabelTask):
        return float(scores["accuracy"])
    if isinstance(task, QuantityTask):
        errors = [
            score["mae"] / scale for score, scale in zip(scores["per_quantity"].values(), task.scale, strict=True)
        ]
        return float(-sum(errors) / len(errors))
    return 1 - float(scores["hamming_loss"])


def reach(task: Task, findings: dict[str, Any]) -> dict[str, Chart]:
    """For the past and the future, the score by how much of them is known."""
    sides = {side: found for side, found in (findings["reach"] or {}).items() if found and found["known"]}
    if not sides:
        return {}
    shown, whole = measure(task), whole_score(task, findings["scores"])
    ends = [shown.factor * end for found in sides.values() for known in found["known"] for end in _around(known, whole)]
    least, most = min(*ends, shown.factor * whole), max(*ends, shown.factor * whole)
    top = most + 0.1 * (most - least)
    y = Scale(max(0.0, least - 0.05 * (most - least)), min(1.0, top) if shown.factor > 0 else top)
    return {side: _reach(side, found, shown, whole, y) for side, found in sides.items()}


def _reach(side: str, found: dict[str, Any], shown: Measure, whole: float, y: Scale) -> Chart:
    known = found["known"]
    x = Scale(len(known) - 0.5, -0.5) if side == "past" else Scale(-0.5, len(known) - 0.5)
    places = range(len(known))
    values = [shown.factor * (whole - each["lost"]) for each in known]
    lows, highs = zip(*([shown.factor * end for end in _around(each, whole)] for each in known), strict=True)
    lines = [
        Line("95 % interval", "uncertain", band(places, lows, highs, x, y), area=True),
        Line("with all of it", "ideal", line([-0.5, len(known) - 0.5], [shown.factor * whole] * 2, x, y)),
        Line(f"with so much of the {side}", "model", line(places, values, x, y), dots=dots(places, values, x, y)),
    ]
    every = -(-len(known) // 6)
    ticks = [Tick(x(place) / SIZE * 100, f"{known[place]['to']:,}") for place in places if place % every == 0]
    words = "; ".join(f"{each['to']} steps, {value:.3g}" for each, value in zip(known, values, strict=True))
    vertical = _shares(y) if shown.factor > 0 else y.ticks(4)
    return Chart(words, ticks, vertical, f"steps of the {side} that are known", shown.name, lines)


def _around(known: dict[str, Any], whole: float) -> tuple[float, float]:
    low, high = known["interval"] or (known["lost"],) * 2
    return whole - high, whole - low


def _shares(y: Scale) -> list[Tick]:
    return [Tick(place, f"{100 * float(text.replace('−', '-')):.10g} %") for place, text in y.ticks(4)]
