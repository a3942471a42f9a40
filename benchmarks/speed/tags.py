"""Scores of spans: bilstm.metrics.tags and seqeval on the same lists of tags, in turn.

python -m benchmarks.speed.tags    prints the table; --out FILE writes the page. It needs seqeval 1.2.2.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import seqeval.metrics as theirs
from seqeval import scheme as schemes

from benchmarks.speed import machine
from benchmarks.speed.turns import in_turn
from bilstm import __version__
from bilstm.metrics import convert_tags, tags

_SIZES = [200, 5_000]  # sentences
_TYPES = ("PER", "LOC", "ORG", "MISC")
_CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "f1_score": ("f1_score", {}, {}),
    "classification_report": ("classification_report", {}, {}),
    "classification_report, strict": (
        "classification_report",
        {"mode": "strict", "scheme": "IOB2"},
        {"mode": "strict", "scheme": schemes.IOB2},
    ),
}


def sentences(count: int, seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """True tags of names among 4 to 60 words, and others, a twelfth of which are wrong."""
    random = np.random.default_rng(seed)
    names = [f"{prefix}-{type_}" for type_ in _TYPES for prefix in "BI"]
    true, predicted = [], []
    for steps in random.integers(4, 61, count).tolist():
        inside = random.random(steps) < 0.2
        sentence = np.where(inside, random.choice(names, steps), "O").tolist()
        true.append(sentence)
        changed = random.random(steps) < 1 / 12
        others = random.choice([*names, "O"], steps)
        predicted.append(
            [str(other) if new else tag for tag, other, new in zip(sentence, others, changed, strict=True)]
        )
    return convert_tags(true, "IOB2"), convert_tags(predicted, "IOB2")


def measure(count: int) -> list[str]:
    """The rows of this number of sentences."""
    sides = sentences(count, seed=1)
    steps = sum(map(len, sides[0]))
    functions: list[Callable[[], Any]] = []
    for name, own, of_theirs in _CASES.values():
        functions.append(partial(getattr(tags, name), *sides, **own))
        functions.append(partial(getattr(theirs, name), *sides, **of_theirs))
    assert abs(tags.f1_score(*sides) - theirs.f1_score(*sides)) < 1e-12
    times = [statistics.median(each) * 1e3 for each in in_turn(*functions)]
    return [
        f"| {name} | {count:,} sentences, {steps:,} tags | {_shown(ours)} | {_shown(other)} | {other / ours:.1f}× |"
        for name, ours, other in zip(_CASES, times[::2], times[1::2], strict=True)
    ]


def _shown(milliseconds: float) -> str:
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.tags", description=__doc__)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    described = machine.describe()
    rows = []
    for count in _SIZES:
        rows += measure(count)
        print(*rows[-len(_CASES) :], sep="\n", flush=True)
    lines = [
        "# Scores of spans",
        "",
        f"{described['processor']}, {described['processors']} processors, {described['date']}, seqeval "
        f"{version('seqeval')}, NumPy {np.__version__}, bilstm {__version__}. Made by "
        "`python -m benchmarks.speed.tags`.",
        "",
        "Lists of tags of four types in IOB2, of which a fifth are in spans. Both in turn in one process, each with "
        "one thread. Medians of 7 rounds, in milliseconds. The scores are the same.",
        "",
        "| function | data | bilstm.metrics.tags | seqeval | |",
        "| --- | --- | ---: | ---: | ---: |",
        *rows,
        "",
    ]
    if arguments.out:
        arguments.out.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
