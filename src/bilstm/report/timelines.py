"""Drawings of single sequences: signals, true and predicted answers, and the steps on which a prediction rests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bilstm.errors import counted
from bilstm.metrics.schemes import parse_tag
from bilstm.report.charts import SIZE, Chart, Line, Scale, Tick, band, curve, runs, strips
from bilstm.report.summary import number, percent
from bilstm.tasks import LabelTask, QuantityTask, Task

COLOURS = 8  # of labels; the rarer ones share a ninth
_CLEAR = 0.1  # of importance, a probability lower by a tenth: smaller ones are not drawn to the full height
_MOST_RUNS = 20  # wrong ones that are listed


class Part(NamedTuple):
    """A part of a text: a span, or what is between two.

    Attributes:
        text: its words.
        label: the span's type; None outside spans.
        style: its CSS class.
        outcome: see `bilstm.metrics.spanerrors`, "" outside spans.
        probability: of a predicted span, None where it is not known.
    """

    text: str
    label: str | None = None
    style: str = ""
    outcome: str = ""
    probability: float | None = None


@dataclass
class Example:
    """A sequence as the template draws it.

    Attributes:
        description: what `describe_sequences` says about it.
        x: ticks of the time steps.
        charts: (name, chart) of features, quantities, importance and probability, from top to bottom.
        strips: (name, words for readers who cannot see it, (CSS class, path) pairs) of labels.
        marked: the path of the steps that are marked behind the signals, and its CSS class.
        tokens: (text, true label, predicted label, probability, CSS class, weight from 0 to 1) of the steps of a text;
            "" and None for what there is not.
        mistakes: (steps, true label, predicted label, probability) of runs of wrong steps.
        legend: (text, CSS class) of colours.
        spans: where tags mark spans of a text, for "true" and "predicted" the text in parts, see `Part`.
    """

    description: dict[str, Any]
    x: list[Tick]
    charts: list[tuple[str, Chart]]
    strips: list[tuple[str, str, list[tuple[str, str]]]] = field(default_factory=list)
    marked: tuple[str, str] = ("", "wrong")
    tokens: list[tuple[str, str, str, float | None, str, float]] = field(default_factory=list)
    mistakes: list[tuple[str, str, str, str]] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)
    spans: dict[str, list[Part]] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """The number of steps that are shown."""
        return int(self.description["stop"] - self.description["start"])


def examples(task: Task, findings: dict[str, Any]) -> list[Example]:
    """Drawings of the worst sequences."""
    styles: dict[str, str] = {}
    if isinstance(task, LabelTask):
        scores = findings["scores"]
        styles = _colours_of_types(scores) if scores.get("spans") else _colours(scores["per_class"])
    return [_example(task, description, styles) for description in findings["worst"]]


def _example(task: Task, description: dict[str, Any], styles: dict[str, str]) -> Example:
    steps = range(description["start"] + 1, description["stop"] + 1)
    x = Scale(steps[0] - 0.5, steps[-1] + 0.5)
    ticks = [tick for tick in x.ticks(5, "{:,.10g}") if "." not in tick.text]
    charts = [(name, _curves(name, {"signal": values}, steps, x)) for name, values in description["numbers"].items()]
    example = Example(description, ticks, charts)
    words: list[str] = next(iter(description["texts"].values()), [])
    if task.per_sequence:
        _draw_importance(example, words, steps, x)
    elif isinstance(task, LabelTask):
        _draw_labels(example, words, steps, x, styles)
        if description["spans"]:
            _draw_spans(example, words, styles)
    elif isinstance(task, QuantityTask):
        for name, each in description["targets"].items():
            curves = {"truth": each["truth"], "model": each["predicted"]}
            example.charts.append((name, _curves(f"true and predicted {name}", curves, steps, x)))
        example.tokens = [(text, "", "", None, "none", 0.0) for text in words]
        example.legend = [("true", "truth"), ("predicted", "model")]
    else:
        _draw_label_sets(example, words)
    return example


def step_range(start: int, stop: int) -> str:
    """`step 17` or `steps 17–23`, counted from 1."""
    return f"step {start + 1:,}" if stop == start + 1 else f"steps {start + 1:,}–{stop:,}"


def _colours(per_class: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The CSS class of each label: grey for the most frequent, then a colour each, then one for all others."""
    frequent = sorted(per_class, key=lambda name: (-per_class[name]["support"], name))
    return {name: f"c{min(index, COLOURS)}" for index, name in enumerate(frequent)}


def _colours_of_types(scores: dict[str, Any]) -> dict[str, str]:
    """The CSS class of each tag: that of its type, a colour each for the most frequent; grey for O."""
    types = sorted(
        scores["spans"]["per_class"], key=lambda name: (-scores["spans"]["per_class"][name]["support"], name)
    )
    style = {name: f"c{min(index, COLOURS)}" for index, name in enumerate(types, 1)}
    tags = {name: parse_tag(name) for name in scores["per_class"]}
    return {name: "c0" if tag is None or tag[0] == "O" else style[tag[1]] for name, tag in tags.items()}


def _draw_spans(example: Example, words: list[str], styles: dict[str, str]) -> None:
    """The text with the true and with the predicted spans; the legend is of types."""
    description = example.description
    of_types = {tag[1]: styles[name] for name in styles if (tag := parse_tag(name)) and tag[0] != "O"}
    sides = description["spans"]
    occurring = sorted({span["label"] for side in sides.values() for span in side}, key=lambda name: of_types[name])
    example.legend = [(label or "span", of_types[label]) for label in occurring if of_types[label] != f"c{COLOURS}"]
    if rest := len(occurring) - len(example.legend):
        example.legend.append((counted(rest, "other type"), f"c{COLOURS}"))
    example.legend.append(("wrong", "wrong"))
    start, stop = description["start"], description["stop"]
    # Characters are put together again; where all of a text are, it has no blanks to lose.
    between = "" if all(len(word) < 2 for word in words) else " "
    for side, spans in sides.items() if words else ():
        parts, done = [], start
        for span in spans:
            first, after = max(span["first"], start), min(span["last"] + 1, stop)
            if first >= after:
                continue
            parts.append(Part(between.join(words[done - start : first - start])))
            text = between.join(words[first - start : after - start])
            parts.append(Part(text, span["label"], of_types[span["label"]], span["outcome"], span.get("probability")))
            done = after
        parts.append(Part(between.join(words[done - start :])))
        example.spans[side] = [part for part in parts if part.text]


def _draw_labels(example: Example, words: list[str], steps: range, x: Scale, styles: dict[str, str]) -> None:
    targets = example.description["targets"]
    truth, predicted, sure = targets["truth"], targets["predicted"], targets["confidence"]
    wrong = [true is not None and true != guess for true, guess in zip(truth, predicted, strict=True)]
    occurring = sorted({label for label in (*truth, *predicted) if label is not None}, key=lambda name: styles[name])
    example.legend = [(label, styles[label]) for label in occurring if styles[label] != f"c{COLOURS}"]
    if rest := len(occurring) - len(example.legend):
        example.legend.append((counted(rest, "other label"), f"c{COLOURS}"))
    example.legend.append(("wrong", "wrong"))
    steps_of_text = zip(words, truth, predicted, sure, strict=True) if words else ()
    example.tokens = [
        (text, true or "–", guess, p, styles.get(true, "none"), 0.0) for text, true, guess, p in steps_of_text
    ]
    example.mistakes = _mistakes(truth, predicted, wrong, sure, example.description["start"])
    first = "; ".join(f"{where}: {guess} instead of {true}" for where, true, guess, _ in example.mistakes[:5])
    example.marked = (strips(["wrong" if bad else None for bad in wrong]).get("wrong", ""), "wrong")
    example.strips = [
        ("true", "true labels", [(styles[label], path) for label, path in strips(truth).items()]),
        ("predicted", "predicted labels", [(styles[label], path) for label, path in strips(predicted).items()]),
        ("", f"wrong: {first}", [example.marked[::-1]]),
    ]
    example.charts.append(("probability", _area("probability", sure, steps, x, 1.0)))


def _draw_label_sets(example: Example, words: list[str]) -> None:
    targets = example.description["targets"]
    for name, each in targets.items():
        for row, key, style in ((f"{name}: true", "truth", "constant"), ("predicted", "predicted", "model")):
            path = strips([style if value else None for value in each[key]]).get(style, "")
            example.strips.append((row, f"{name}: {key}", [(style, path)]))
        pairs = zip(each["truth"], each["predicted"], strict=True)
        bad = strips(["wrong" if true is not None and true != guess else None for true, guess in pairs])
        example.strips.append(("", f"{name}: wrong", [("wrong", bad.get("wrong", ""))]))
    example.legend = [("true", "constant"), ("predicted", "model"), ("wrong", "wrong")]
    for step, text in enumerate(words):
        holding = {
            key: ", ".join(name for name, each in targets.items() if each[key][step]) for key in ("truth", "predicted")
        }
        known = next(iter(targets.values()))["truth"][step] is not None
        truth = holding["truth"] or "none" if known else "–"
        example.tokens.append((text, truth, holding["predicted"] or "none", None, "none", 0.0))


def _mistakes(
    truth: Sequence[str | None], predicted: Sequence[str], wrong: Sequence[bool], sure: Sequence[float], start: int
) -> list[tuple[str, str, str, str]]:
    """The longest runs of the same mistake, in order."""
    marks = [(true, guess) if bad else None for true, guess, bad in zip(truth, predicted, wrong, strict=True)]
    longest = sorted((first - stop, first, stop) for first, stop, mark in runs(marks) if mark)[:_MOST_RUNS]
    return [
        (step_range(start + a, start + b), truth[a] or "", predicted[a], percent(sum(sure[a:b]) / (b - a)))
        for a, b in sorted((first, stop) for _, first, stop in longest)
    ]


def _draw_importance(example: Example, words: list[str], steps: range, x: Scale) -> None:
    importance = example.description["importance"]
    weights = [0.0] * len(steps)
    if importance:
        weights = [max(0.0, weight) for weight in importance["steps"][steps[0] - 1 : steps[-1]]]
        example.charts.append(("importance", _area("importance", weights, steps, x, max(*weights, _CLEAR))))
        if window := importance["window"]:
            inside = ["most" if window["start"] < step <= window["stop"] else None for step in steps]
            example.marked = (strips(inside).get("most", ""), "most")
            example.legend = [("most important window", "most")]
    largest = max(*weights, _CLEAR)
    tokens = zip(words, weights, strict=False)
    example.tokens = [(text, "", "", None, "none", round(weight / largest, 2)) for text, weight in tokens]


def _curves(words: str, curves: dict[str, list[float | None]], steps: range, x: Scale) -> Chart:
    """Lines over time, by their CSS classes."""
    present = [value for values in curves.values() for value in values if value is not None] or [0.0]
    low, high = min(present), max(present)
    margin = 0.05 * (high - low or 1)
    y = Scale(low - margin, high + margin)
    ticks = [Tick(y(value) / SIZE * 100, number(value, ".3g")) for value in sorted({low, high})]
    lines = [curve("", style, steps, values, x, y, most_dots=100) for style, values in curves.items()]
    return Chart(f"{words}, between {number(low)} and {number(high)}", [], ticks, "", "", lines)


def _area(name: str, values: list[float], steps: range, x: Scale, top: float) -> Chart:
    y = Scale(0, top)
    edges = [steps[0] - 0.5, *steps, steps[-1] + 0.5]
    area = band(edges, [0] * len(edges), [values[0], *values, values[-1]], x, y)
    words = f"{name} between {min(values):.2g} and {max(values):.2g}"
    return Chart(words, [], [Tick(0, "0"), Tick(100, f"{top:.2g}")], "", "", [Line("", "sure", area, area=True)])
