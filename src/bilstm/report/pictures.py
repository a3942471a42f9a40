"""A report's pictures: from what was found to charts, strips and words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bilstm.errors import counted
from bilstm.report.charts import SIZE, Chart, Line, Scale, Tick, band, bars, dots, line, runs, strips
from bilstm.report.summary import looks, percent, signed
from bilstm.tagging.tagger import Tagger

COLOURS = 8  # of labels; the rarer ones share a ninth
_MOST_RUNS = 20  # wrong ones that are listed


# --- Scores and training ---------------------------------------------------------------------------------------------


class Bar(NamedTuple):
    """An accuracy on a scale from 0 to 1, and its interval."""

    name: str
    style: str
    value: float
    low: float
    high: float


def score_bars(scores: dict[str, Any]) -> list[Bar]:
    """The accuracy of the model and of what it is to be compared with."""
    found = [_bar("this model", "model", scores)]
    if scores["baseline"]:
        found.append(_bar("each step alone", "alone", scores["baseline"]))
    share = scores["majority"]
    return [*found, Bar("always the commonest label", "constant", share, share, share)]


def _bar(name: str, style: str, scores: dict[str, Any]) -> Bar:
    low, high = (scores["intervals"] or {}).get("accuracy", (scores["accuracy"],) * 2)
    return Bar(name, style, scores["accuracy"], low, high)


def learning(tagger: Tagger) -> list[Chart]:
    """The loss, and the accuracy on the held-out part, epoch by epoch."""
    history, best = tagger.training["history"], tagger.training["best_epoch"]
    losses = {"training": ("second", history["loss"])}
    if "val_loss" in history:
        losses["held-out part"] = ("model", history["val_loss"])
    told = f"the loss fell from {history['loss'][0]:.3f} to {history['loss'][best - 1]:.3f} in epoch {best}"
    charts = [_epochs("loss", losses, best, told, low=0.0)]
    if "val_accuracy" in history:
        accuracies = {"this model": ("model", history["val_accuracy"])}
        others = tagger.baseline.training["history"] if tagger.baseline else {}
        if "val_accuracy" in others:
            accuracies["each step alone"] = ("alone", others["val_accuracy"])
        reached = history["val_accuracy"][best - 1]
        told = f"the accuracy on the held-out part was {history['val_accuracy'][0]:.3f} at first, {reached:.3f} at best"
        charts.append(_epochs("accuracy on the held-out part", accuracies, best, told, low=None, high=1.0))
    return charts


def _epochs(
    title: str,
    curves: dict[str, tuple[str, list[float]]],
    best: int,
    told: str,
    *,
    low: float | None,
    high: float | None = None,
) -> Chart:
    every = [value for _, values in curves.values() for value in values]
    longest = max(len(values) for _, values in curves.values())
    x = Scale(1, max(longest, 2))
    least = min(every)
    y = Scale(least - 0.1 * (max(every) - least) if low is None else low, max(every) * 1.02 if high is None else high)
    lines = []
    for name, (style, values) in curves.items():
        xs = range(1, len(values) + 1)
        lines.append(Line(name, style, line(xs, values, x, y), dots=dots(xs, values, x, y) if len(values) < 20 else ""))
    ticks = [tick for tick in x.ticks(6) if "." not in tick.text] or [Tick(0, "1")]
    rules = [Tick(x(best) / SIZE * 100, f"epoch {best} is kept")]
    return Chart(told, ticks, y.ticks(4) if high is None else _shares(y), "epoch", title, lines, rules)


def calibration(scores: dict[str, Any]) -> Chart:
    """How often it is right, by how sure it is."""
    curve = scores["calibration"]
    unit = Scale(0, 1)
    xs, ys = [found["confidence"] for found in curve], [found["accuracy"] for found in curve]
    shares = [0.0] * 15
    for found in curve:
        shares[min(14, round(found["above"] * 15))] = found["steps"] / scores["steps"]
    told = "; ".join(
        f"{100 * found['confidence']:.0f} % sure, {100 * found['accuracy']:.0f} % right" for found in curve
    )
    lines = [
        Line("share of the steps", "share", bars(shares, unit), area=True),
        Line("as it should be", "ideal", f"M0 {SIZE}L{SIZE} 0"),
        Line("this model", "model", line(xs, ys, unit, unit), dots=dots(xs, ys, unit, unit)),
    ]
    ticks = [Tick(25 * quarter, f"{25 * quarter} %") for quarter in range(5)]
    return Chart(told, ticks, ticks, "how sure it is", "how often it is right", lines)


def lengths(data: dict[str, Any]) -> Chart | None:
    """How many sequences have which length; None where they all have the same."""
    found = data["lengths"]["bars"]
    if len(found) < 2:
        return None
    y = Scale(0, max(each["sequences"] for each in found) * 1.05)
    x = Scale(found[0]["from"] - 0.5, found[-1]["to"] + 0.5)
    told = f"lengths from {data['lengths']['shortest']:,} to {data['lengths']['longest']:,} steps"
    path = bars([each["sequences"] for each in found], y, gap=0.08)
    ticks = [tick for tick in x.ticks(5, "{:,.10g}") if "." not in tick.text]
    return Chart(told, ticks, y.ticks(3, "{:,g}"), "steps", "sequences", [Line("", "model", path, area=True)])


# --- Context ---------------------------------------------------------------------------------------------------------


def reach(findings: dict[str, Any]) -> list[tuple[str, str, Chart]]:
    """For the past and the future, a title, a sentence and the accuracy by how much of them is known."""
    sides = {side: found for side, found in findings["reach"].items() if found and found["known"]}
    whole = findings["scores"]["accuracy"]
    ends = [end for found in sides.values() for known in found["known"] for end in _ends(known, whole)]
    if not ends:
        return []
    least, most = min(*ends, whole), max(*ends, whole)
    y = Scale(max(0.0, least - 0.05 * (most - least)), min(1.0, most + 0.1 * (most - least)))
    charts = []
    for side, found in sides.items():
        known, backward = found["known"], side == "past"
        x = Scale(len(known) - 0.5, -0.5) if backward else Scale(-0.5, len(known) - 0.5)
        places = range(len(known))
        values = [whole - each["lost"] for each in known]
        lows, highs = zip(*(_ends(each, whole) for each in known), strict=True)
        lines = [
            Line("uncertainty", "uncertain", band(places, lows, highs, x, y), area=True),
            Line("with all of it", "ideal", line([-0.5, len(known) - 0.5], [whole, whole], x, y)),
            Line(f"with so much of the {side}", "model", line(places, values, x, y), dots=dots(places, values, x, y)),
        ]
        every = -(-len(known) // 6)
        ticks = [Tick(x(place) / SIZE * 100, f"{known[place]['to']:,}") for place in places if place % every == 0]
        title = f"steps of the {side} it may see"
        sentence = looks(found, "back" if backward else "ahead")
        if found["reach"] != 0:
            sentence += f" Without any of the {side}, accuracy falls by {_lost(found)}."
        told = "; ".join(f"{each['to']} steps, {percent(value)}" for each, value in zip(known, values, strict=True))
        charts.append((side, sentence, Chart(told, ticks, _shares(y), title, "accuracy", lines)))
    return charts


def _lost(side: dict[str, Any]) -> str:
    interval = side["known"][0]["interval"]
    between = f" (probably {signed(interval[0])} to {signed(interval[1])})" if interval else ""
    return f"{100 * side['worth']:.1f} points{between}"


def _ends(known: dict[str, Any], whole: float) -> tuple[float, float]:
    low, high = known["interval"] or (known["lost"],) * 2
    return whole - high, whole - low


def _shares(y: Scale) -> list[Tick]:
    return [Tick(place, f"{100 * float(text):.10g} %") for place, text in y.ticks(4)]


# --- Worst sequences -------------------------------------------------------------------------------------------------


def examples(findings: dict[str, Any]) -> list[Example]:
    """The worst sequences."""
    everywhere = Counter({label["name"]: label["true"] for label in findings["data"]["labels"]})
    found = []
    for worst in findings["worst"]:
        here = Counter(label for label in (*worst["truth"], *worst["predicted"]) if label is not None)
        found.append(_example(worst, _colours(everywhere if len(everywhere) <= COLOURS else here)))
    return found


def _colours(counts: Counter[str]) -> dict[str, str]:
    """The CSS class of each label: grey for the commonest, then a colour each, then one for all others."""
    commonest = sorted(counts, key=lambda name: (-counts[name], name))
    return {name: f"c{min(place, COLOURS)}" for place, name in enumerate(commonest)}


class Token(NamedTuple):
    """A step of a sequence of text."""

    text: str
    truth: str
    predicted: str
    wrong: bool
    sure: int
    colour: str


@dataclass(frozen=True)
class Example:
    """A sequence as the template draws it.

    Attributes:
        found: what `worst_sequences` told of it.
        numbers: (name, chart) of each numeric feature.
        truth, predicted: (CSS class, path) of the strips of labels.
        wrong: the path of a strip of what is wrong.
        sure: the chart of the confidence.
        tokens: the steps as text; empty where they are drawn.
        mistakes: (steps, true label, predicted label, confidence) of runs of mistakes.
        told: the strips in words.
        legend: (label, CSS class) of what occurs.
    """

    found: dict[str, Any]
    numbers: list[tuple[str, Chart]]
    truth: list[tuple[str, str]]
    predicted: list[tuple[str, str]]
    wrong: str
    sure: Chart
    tokens: list[Token]
    mistakes: list[tuple[str, str, str, str]]
    told: str
    legend: list[tuple[str, str]]

    @property
    def length(self) -> int:
        return len(self.found["truth"])


def _example(found: dict[str, Any], styles: dict[str, str]) -> Example:
    truth, predicted, sure = found["truth"], found["predicted"], found["confidence"]
    wrong = [true is not None and true != guess for true, guess in zip(truth, predicted, strict=True)]
    steps = range(found["start"] + 1, found["stop"] + 1)
    x = Scale(steps[0] - 0.5, steps[-1] + 0.5)
    occurring = sorted({label for label in (*truth, *predicted) if label is not None}, key=lambda name: styles[name])
    legend = [(label, styles[label]) for label in occurring if styles[label] != f"c{COLOURS}"]
    if rest := len(occurring) - len(legend):
        legend.append((counted(rest, "other label"), f"c{COLOURS}"))
    tokens = []
    for texts in found["texts"].values():
        parts = zip(texts, truth, predicted, wrong, sure, strict=True)
        tokens = [
            Token(text, true or "", guess, bad, round(100 * given), styles[true] if true else "none")
            for text, true, guess, bad, given in parts
        ]
    mistakes = _mistakes(truth, predicted, wrong, sure, found["start"])
    first = "; ".join(f"steps {where}: {guess} instead of {true}" for where, true, guess, _ in mistakes[:5])
    return Example(
        found=found,
        numbers=[(name, _signal(name, values, steps, x)) for name, values in found["numbers"].items()],
        truth=[(styles[label], path) for label, path in strips(truth).items()],
        predicted=[(styles[label], path) for label, path in strips(predicted).items()],
        wrong=strips(["wrong" if bad else None for bad in wrong]).get("wrong", ""),
        sure=_sureness(sure, steps, x),
        tokens=tokens,
        mistakes=mistakes,
        told=f"{counted(found['wrong'], 'step')} of {found['labelled']:,} wrong; {first}",
        legend=legend,
    )


def _signal(name: str, values: list[float | None], steps: range, x: Scale) -> Chart:
    present = [value for value in values if value is not None] or [0.0]
    low, high = min(present), max(present)
    y = Scale(low - 0.05 * (high - low or 1), high + 0.05 * (high - low or 1))
    ticks = [Tick(y(value) / SIZE * 100, f"{value:.3g}") for value in sorted({low, high})]
    told = f"{name}, between {low:.4g} and {high:.4g}"
    shown = [(step, value) for step, value in zip(steps, values, strict=True) if value is not None]
    few = dots([step for step, _ in shown], [value for _, value in shown], x, y) if len(shown) < 100 else ""
    return Chart(told, [], ticks, "", name, [Line("", "signal", line(steps, values, x, y), dots=few)])


def _sureness(sure: list[float], steps: range, x: Scale) -> Chart:
    y = Scale(0, 1)
    edges = [steps[0] - 0.5, *steps, steps[-1] + 0.5]
    values = [sure[0], *sure, sure[-1]]
    area = band(edges, [0] * len(edges), values, x, y)
    ticks = [tick for tick in x.ticks(5, "{:,.10g}") if "." not in tick.text]
    told = f"confidence between {percent(min(sure))} and {percent(max(sure))}"
    return Chart(told, ticks, [Tick(0, "0"), Tick(100, "100 %")], "step", "", [Line("", "sure", area, area=True)])


def _mistakes(
    truth: Sequence[str | None], predicted: Sequence[str], wrong: Sequence[bool], sure: Sequence[float], start: int
) -> list[tuple[str, str, str, str]]:
    """The longest runs of the same mistake, in order."""
    marks = [(true, guess) if bad else None for true, guess, bad in zip(truth, predicted, wrong, strict=True)]
    found = sorted((first - stop, first, stop) for first, stop, mark in runs(marks) if mark)[:_MOST_RUNS]
    return [
        (
            f"{start + first + 1:,}" + (f"–{start + stop:,}" if stop > first + 1 else ""),
            truth[first] or "",
            predicted[first],
            percent(sum(sure[first:stop]) / (stop - first)),
        )
        for first, stop in sorted((first, stop) for _, first, stop in found)
    ]
