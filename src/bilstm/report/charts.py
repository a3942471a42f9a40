"""The geometry of a report's charts: paths and ticks, which the template draws as SVG.

A plotting library would give drawings of fixed size and colours, whose text is too small on a phone or too large on a
desk. Here drawings are stretched to the available space, lines keep their width, and all text is the page's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

SIZE = 1000  # a chart's own units, to the right and downwards
_Label = TypeVar("_Label")


class Tick(NamedTuple):
    """A position on an axis, in per cent of its length, and its text."""

    place: float
    text: str


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: for the legend; "" leaves it out.
        style: its CSS class.
        path: SVG path data.
        area: whether the path is filled rather than drawn.
        dots: SVG path data of marked points.
    """

    name: str
    style: str
    path: str
    area: bool = False
    dots: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart as the template draws it.

    Attributes:
        words: what it shows, for readers who cannot see it.
        x, y: ticks.
        x_title, y_title: the axes' titles.
        lines: drawn in this order.
        rules: vertical lines, in per cent of the width, and what they mark.
    """

    words: str
    x: list[Tick]
    y: list[Tick]
    x_title: str
    y_title: str
    lines: list[Line] = field(default_factory=list)
    rules: list[Tick] = field(default_factory=list)


@dataclass(frozen=True)
class Scale:
    """From values to a chart's units: `low` is at 0 and `high` at `SIZE`."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        return SIZE * (value - self.low) / ((self.high - self.low) or 1)

    def ticks(self, count: int = 5, form: str = "{:g}") -> list[Tick]:
        """About `count` round values between `low` and `high`."""
        return [
            Tick(self(value) / SIZE * 100, form.format(value).replace("-", "−"))
            for value in round_values(self.low, self.high, count)
        ]


def round_values(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` multiples of 1, 2, 2.5 or 5 times a power of ten from low to high."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) + 0.0 for number in range(first, last + 1)]


def line(xs: Sequence[float], ys: Sequence[float | None], x: Scale, y: Scale) -> str:
    """SVG path data through these points; None leaves a gap."""
    parts, pen = [], "M"
    for across, up in zip(xs, ys, strict=True):
        if up is None:
            pen = "M"
            continue
        parts.append(f"{pen}{x(across):.0f} {SIZE - y(up):.0f}")
        pen = "L" if pen == "M" else ""  # the letter is understood from then on
    return " ".join(parts)


def dots(xs: Sequence[float], ys: Sequence[float | None], x: Scale, y: Scale) -> str:
    """SVG path data of lines without length, whose round ends are dots; none for None."""
    return "".join(
        f"M{x(across):.0f} {SIZE - y(up):.0f}h0" for across, up in zip(xs, ys, strict=True) if up is not None
    )


def curve(
    name: str, style: str, xs: Sequence[float], ys: Sequence[float | None], x: Scale, y: Scale, most_dots: int = 20
) -> Line:
    """A line through these points, which are marked where they are few enough to tell apart."""
    return Line(name, style, line(xs, ys, x, y), dots=dots(xs, ys, x, y) if len(xs) < most_dots else "")


def band(xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], x: Scale, y: Scale) -> str:
    """SVG path data of the area between two lines."""
    forward = [f"{x(across):.0f} {SIZE - y(up):.0f}" for across, up in zip(xs, highs, strict=True)]
    backward = [f"{x(across):.0f} {SIZE - y(up):.0f}" for across, up in zip(xs, lows, strict=True)]
    return "M" + " ".join(forward + backward[::-1]) + "Z"


def bars(heights: Sequence[float], y: Scale, gap: float = 0.15) -> str:
    """SVG path data of bars of equal width that fill the chart's width."""
    width = SIZE / len(heights)
    return "".join(
        f"M{(index + gap / 2) * width:.1f} {SIZE}v{-y(height):.0f}h{(1 - gap) * width:.1f}V{SIZE}Z"
        for index, height in enumerate(heights)
        if height
    )


def runs(labels: Sequence[_Label]) -> list[tuple[int, int, _Label]]:
    """(start, stop, label) of each run of equal labels."""
    result: list[tuple[int, int, _Label]] = []
    for step, label in enumerate(labels):
        if result and result[-1][2] == label:
            result[-1] = (result[-1][0], step + 1, label)
        else:
            result.append((step, step + 1, label))
    return result


def strips(labels: Sequence[str | None]) -> dict[str, str]:
    """SVG path data for each label: a rectangle of height 1 for each run of steps that have it; None is left empty."""
    paths: dict[str, str] = {}
    for start, stop, label in runs(labels):
        if label is not None:
            paths[label] = paths.get(label, "") + f"M{start} 0h{stop - start}v1H{start}z"
    return paths
