"""The report's charts of scores, training, calibration, residuals and context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from bilstm.metrics.calibration import BINS
from bilstm.model.trained import TrainedModel
from bilstm.report.charts import SIZE, Chart, Line, Scale, Tick, band, bars, curve, dots, line
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
    drawn = []
    for name, style, of in (("this model", "model", scores), ("without context", "alone", scores["baseline"])):
        if of:
            ends = (of["intervals"] or {}).get(key, (of[key],) * 2)
            drawn.append(Bar(name, style, *(max(0.0, value) for value in (of[key], *ends))))
    return [*drawn, *([Bar(constant[0], "constant", *[constant[1]] * 3)] if constant else [])]


def learning(model: TrainedModel) -> list[Chart]:
    """The loss, and the accuracy on the validation set, epoch by epoch."""
    history, best = _history(model), model.training["best_epoch"]
    losses = {"training set": ("second", history["loss"])}
    if "val_loss" in history:
        losses["validation set"] = ("model", history["val_loss"])
    charts = [_epochs("loss", losses, best)]
    if "val_accuracy" in history:
        accuracies = {"this model": ("model", history["val_accuracy"])}
        others = _history(model.baseline) if model.baseline else {}
        if "val_accuracy" in others:
            accuracies["without context"] = ("alone", others["val_accuracy"])
        charts.append(_epochs("accuracy on the validation set", accuracies, best, high=1.0))
    return charts


def _history(model: TrainedModel) -> dict[str, list[float | None]]:
    """The scores of each epoch, None where they cannot be drawn."""
    return {
        name: [float(value) if -_LARGEST < value < _LARGEST else None for value in values]
        for name, values in model.training["history"].items()
    }


def _epochs(
    title: str, curves: dict[str, tuple[str, list[float | None]]], best: int, high: float | None = None
) -> Chart:
    every = [value for _, values in curves.values() for value in values if value is not None] or [0.0]
    longest = max(len(values) for _, values in curves.values())
    x = Scale(1, max(longest, 2))
    if high is None:
        y = Scale(min(0.0, *every), max(0.0, *every) * 1.02 or 1.0)
    else:
        y = Scale(min(every) - 0.1 * (max(every) - min(every)), high)
    lines = [curve(name, style, range(1, len(ys) + 1), ys, x, y) for name, (style, ys) in curves.items()]
    ticks = [tick for tick in x.ticks(6) if "." not in tick.text] or [Tick(0, "1")]
    rules = [Tick(x(best) / SIZE * 100, f"epoch {best} was kept")]
    words = f"{title} from {min(every):.3g} to {max(every):.3g} in {longest} epochs"
    return Chart(words, ticks, y.ticks(4) if high is None else _shares(y), "epoch", title, lines, rules)


def calibration(findings: dict[str, Any], several: bool) -> Chart:
    """How often predictions are right, by their probability, before and after temperature scaling."""
    scores, unit = findings["scores"], Scale(0, 1)
    total, shares = sum(each["steps"] for each in scores["calibration"]), [0.0] * BINS
    for each in scores["calibration"]:
        shares[min(BINS - 1, round(each["above"] * BINS))] = each["steps"] / total
    words = "; ".join(
        f"{percent(e['confidence'])} probable, {percent(e['accuracy'])} right" for e in scores["calibration"]
    )
    right = "how often the label holds" if several else "how often it is right"
    lines = [
        Line("share of predictions", "share", bars(shares, unit), area=True),
        Line("as it should be", "ideal", f"M0 {SIZE}L{SIZE} 0"),
    ]
    for name, style, curve_points in (
        ("before temperature scaling", "alone", findings["uncalibrated"] or []),
        ("this model", "model", scores["calibration"]),
    ):
        points = [each["confidence"] for each in curve_points], [each["accuracy"] for each in curve_points]
        if curve_points:
            lines.append(curve(name, style, *points, unit, unit))
    ticks = [Tick(25 * quarter, f"{25 * quarter} %") for quarter in range(5)]
    return Chart(words, ticks, ticks, "predicted probability", right, lines)


def lengths(data: dict[str, Any]) -> Chart | None:
    """How many sequences have which length; None where they all have the same."""
    counts = data["lengths"]["bars"]
    if len(counts) < 2:
        return None
    y = Scale(0, max(each["sequences"] for each in counts) * 1.05)
    x = Scale(counts[0]["from"] - 0.5, counts[-1]["to"] + 0.5)
    words = f"lengths from {data['lengths']['shortest']:,} to {data['lengths']['longest']:,} steps"
    path = bars([each["sequences"] for each in counts], y, gap=0.08)
    ticks = [tick for tick in x.ticks(5, "{:,.10g}") if "." not in tick.text]
    return Chart(words, ticks, y.ticks(3, "{:,g}"), "steps", "sequences", [Line("", "model", path, area=True)])


def residuals(report: dict[str, Any]) -> list[tuple[str, Chart]]:
    """Titles and charts for a quantity, from what `Residuals` found."""
    predicted, true = ([point[column] for point in report["points"]] for column in (0, 1))
    values, guesses, errors = Scale(*_ends([*predicted, *true])), Scale(*_ends(predicted)), Scale(*report["range"])
    shares = [count / max(1, report["rows"]) for count in report["bars"]]
    up = Scale(0, max(shares) * 1.05 or 1)
    within = [min(max(guess - truth, errors.low), errors.high) for guess, truth in report["points"]]
    value_ticks, error_ticks, guess_ticks = (scale.ticks(4, "{:.4g}") for scale in (values, errors, guesses))
    ideal = Line("perfect", "ideal", f"M0 {SIZE}L{SIZE} 0")
    zero = Line("no error", "ideal", f"M0 {SIZE / 2:g}H{SIZE}")
    points = Line("", "point", "", dots=dots(true, predicted, values, values))
    by_guess = Line("", "point", "", dots=dots(predicted, within, guesses, errors))
    histogram = Line("", "model", bars(shares, up, gap=0.08), area=True)
    titles = ("true value", "predicted value", "residual", "share of the predictions")
    words = f"{len(true)} predictions"
    return [
        (
            "Predicted value by true value",
            Chart(words, value_ticks, value_ticks, titles[0], titles[1], [ideal, points]),
        ),
        (
            "Predictions by residual",
            Chart("residuals", error_ticks, _shares(up), titles[2], titles[3], [histogram], [Tick(50, "no error")]),
        ),
        ("Residual by predicted value", Chart(words, guess_ticks, error_ticks, titles[1], titles[2], [zero, by_guess])),
    ]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """A little more than the range of some values."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


class Measure(NamedTuple):
    """How scores of context are shown: their name, the factor from `step_scores` to it (below 0 for errors), and the
    score of all steps, as `step_scores` defines it."""

    name: str
    factor: float
    whole: float


def measure(task: Task, scores: dict[str, Any]) -> Measure:
    """How `step_scores` of a task are shown."""
    if isinstance(task, LabelTask):
        return Measure("accuracy", 1, scores["accuracy"])
    if not isinstance(task, QuantityTask):
        return Measure("share of right answers", 1, 1 - scores["hamming_loss"])
    errors = [score["mae"] / scale for score, scale in zip(scores["per_quantity"].values(), task.scale, strict=True)]
    if len(errors) == 1:
        return Measure("mean absolute error", -task.scale[0], -errors[0])
    return Measure("mean absolute error (standard deviations)", -1, -sum(errors) / len(errors))


def reach(shown: Measure, sides: dict[str, Any]) -> dict[str, Chart]:
    """For the past and the future, the score by how much of them is known, from what `ContextReach` found."""
    sides = {side: measured for side, measured in sides.items() if measured and measured["known"]}
    ends = [end for measured in sides.values() for known in measured["known"] for end in _around(known, shown)]
    least, most = (choose([*ends, shown.factor * shown.whole], default=0.0) for choose in (min, max))
    top = most + 0.1 * (most - least)
    y = Scale(max(0.0, least - 0.05 * (most - least)), min(1.0, top) if shown.factor > 0 else top)
    return {side: _reach(side, measured["known"], shown, y) for side, measured in sides.items()}


def _reach(side: str, known: list[dict[str, Any]], shown: Measure, y: Scale) -> Chart:
    x = Scale(len(known) - 0.5, -0.5) if side == "past" else Scale(-0.5, len(known) - 0.5)
    positions = range(len(known))
    values = [shown.factor * (shown.whole - each["lost"]) for each in known]
    lows, highs = zip(*(_around(each, shown) for each in known), strict=True)
    full = line([-0.5, len(known) - 0.5], [shown.factor * shown.whole] * 2, x, y)
    lines = [
        Line("95 % interval", "uncertain", band(positions, lows, highs, x, y), area=True),
        Line("with all of it", "ideal", full),
        curve(f"with so much of the {side}", "model", positions, values, x, y),
    ]
    every = -(-len(known) // 6)
    ticks = [
        Tick(x(position) / SIZE * 100, f"{known[position]['to']:,}") for position in positions if position % every == 0
    ]
    words = "; ".join(f"{each['to']} steps, {value:.3g}" for each, value in zip(known, values, strict=True))
    vertical = _shares(y) if shown.factor > 0 else y.ticks(4)
    return Chart(words, ticks, vertical, f"steps of the {side} that are known", shown.name, lines)


def _around(known: dict[str, Any], shown: Measure) -> list[float]:
    """The ends of the interval of a score, as it is shown."""
    return [shown.factor * (shown.whole - end) for end in known["interval"] or (known["lost"],) * 2]


def _shares(y: Scale) -> list[Tick]:
    return [Tick(position, f"{100 * float(text.replace('−', '-')):.10g} %") for position, text in y.ticks(4)]
