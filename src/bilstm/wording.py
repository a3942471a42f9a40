"""What the command line says about data and models: what was found, not what was done."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bilstm.data import scratch
from bilstm.errors import counted, shown
from bilstm.metrics.intervals import RESAMPLES
from bilstm.ragged import Extent

if TYPE_CHECKING:
    from bilstm.data.columns import Encoded
    from bilstm.data.prepare import Prepared
    from bilstm.data.table import Table
    from bilstm.tagging.tagger import Tagger

MOST_LINES = 60  # of features or classes


def before_training(table: Table, prepared: Prepared) -> list[str]:
    """What was found in the table, and what is held out of it."""
    columns, training, held_out = prepared.columns, prepared.training, prepared.validation
    described = columns.describe()
    lines = [f"{table.path}: {counted(table.rows, 'row')}", *_features(described)]
    blocks = np.array_split(training.labels, -(-len(training.labels) // scratch.BLOCK))
    counts = np.sum([np.bincount(block[block >= 0], minlength=len(columns.classes)) for block in blocks], axis=0)
    commonest = int(counts.argmax())
    lines.append(
        f"{len(columns.classes)} classes in {shown(columns.label)}; the commonest, "
        f"{shown(columns.classes[commonest])}, is {percent(counts[commonest] / counts.sum())} of the labelled steps"
    )
    lines.append(f"to train on: {_extent(Extent().add(training.values.lengths))}")
    if held_out:
        lines.append(f"held out to judge by: {_extent(Extent().add(held_out.values.lengths))}")
        lines += [f"note on these: {note}" for note in held_out.notes]
    return lines + [f"note: {note}" for note in prepared.notes]


def to_score_by(test: Encoded) -> list[str]:
    """The sequences that models are compared by."""
    extent = _extent(Extent().add(test.values.lengths))
    return [f"to score by: {extent}", *(f"note on these: {note}" for note in test.notes)]


def after_training(tagger: Tagger, seconds: float, path: str) -> list[str]:
    """How training the model went, how long it took, and where the model is."""
    training, baseline = tagger.training, tagger.baseline
    return [
        f"{counted(training['epochs'], 'epoch')} in {seconds:,.1f} seconds; {training['stopped']}",
        f"{kept(training)}, with {reached(training)}",
        *([f"without recurrence, each step by itself: {reached(baseline.training)}"] if baseline else []),
        f"{path}: {math.ceil(os.path.getsize(path) / 1000):,} kB",
    ]


def when_stopped(training: dict[str, Any], path: str) -> str:
    """The same in a line, of a training that the user stopped."""
    return f"{training['stopped']}; {path} holds epoch {training['best_epoch']}, with {reached(training)}"


def kept(training: dict[str, Any]) -> str:
    """Which epoch's weights were kept."""
    if training["held_out_sequences"]:
        return f"the best was epoch {training['best_epoch']}"
    return "nothing was held out to tell epochs apart: the last was kept"


def reached(training: dict[str, Any]) -> str:
    """The scores of the epoch that was kept."""
    history, best = training["history"], training["best_epoch"] - 1
    scores = f"a loss of {history['loss'][best]:.4f}"
    if "val_loss" in history:
        accuracy = f"an accuracy of {history['val_accuracy'][best]:.4f} and " if "val_accuracy" in history else ""
        scores += f", and on the held-out part {accuracy}a loss of {history['val_loss'][best]:.4f}"
    return scores


def evaluation(path: str, report: dict[str, Any]) -> list[str]:
    """What `evaluate_tagger` found."""
    names = ["accuracy", "balanced accuracy", "mean F1", "log loss", "calibration error"]
    keys = ["accuracy", "balanced_accuracy", "macro_f1", "log_loss", "calibration_error"]
    width = max(map(len, names))
    lines = [f"{path}: {counted(report['sequences'], 'sequence')}, {counted(report['steps'], 'labelled step')}"]
    lines += [f"{name:{width}}  {_figure(report, key)}" for name, key in zip(names, keys, strict=True)]
    lines.append(f"always guessing the commonest class: an accuracy of {report['majority']:.4f}")
    if baseline := report["baseline"]:
        accuracy, mean_f1 = _figure(baseline, "accuracy"), _figure(baseline, "macro_f1")
        lines.append(f"without recurrence, each step by itself: an accuracy of {accuracy}, a mean F1 of {mean_f1}")
        lines.append(f"what context adds to the accuracy: {_figure(baseline, 'gain')}")
    if report["intervals"]:
        lines.append(f"in brackets: 95 % intervals, from drawing whole sequences again {RESAMPLES:,} times")
    lines += _by_class(report["per_class"], "class", "steps")
    if report["spans"]:
        lines.append(f"spans: {_detected(report['spans'])}")
        lines += [f"without recurrence: {_detected(baseline['spans'])}"] if baseline else []
        lines += _by_class(report["spans"]["per_class"], "type", "spans")
    if report["events"]:
        within = counted(report["events"]["tolerance"], "step")
        lines.append(f"events, first and last step off by {within} at most: {_detected(report['events'])}")
        lines += [f"without recurrence: {_detected(baseline['events'])}"] if baseline else []
        lines += _by_class(report["events"]["per_class"], "event", "events")
    return lines + [f"note: {note}" for note in report["notes"]]


def _figure(report: dict[str, Any], key: str) -> str:
    """`0.9347 [0.9271, 0.9412]`, or without the interval where there is none."""
    ends = (report["intervals"] or {}).get(key)
    return f"{report[key]:.4f}" + (f" [{ends[0]:.4f}, {ends[1]:.4f}]" if ends else "")


def _detected(report: dict[str, Any]) -> str:
    return f"F1 {_figure(report, 'f1')}, precision {report['precision']:.4f}, recall {report['recall']:.4f}"


def _by_class(scores: dict[str, dict[str, Any]], heading: str, counted_things: str) -> list[str]:
    """A table of precision, recall, F1 and number, of the most frequent classes where there are many."""
    named = set(sorted(scores, key=lambda name: -scores[name]["support"])[:MOST_LINES])
    rows: list[Sequence[str]] = [(heading, "precision", "recall", "F1", counted_things)]
    for name in (name for name in scores if name in named):
        figures = (f"{scores[name][figure]:.4f}" for figure in ("precision", "recall", "f1"))
        rows.append((shown(name)[1:-1] or "any", *figures, f"{scores[name]['support']:,}"))
    rest = [f"  … and {counted(len(scores) - len(named), f'rarer {heading}')}"] if len(scores) > len(named) else []
    return [*aligned(rows), *rest]


def prediction(path: str, extent: Extent, notes: Sequence[str]) -> list[str]:
    """What was predicted, and what was strange about it."""
    return [f"{path}: {_extent(extent)}", *(f"note: {note}" for note in notes)]


def percent(share: float) -> str:
    """`12.5 %`."""
    return f"{100 * share:.1f} %"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Indented columns, the first to the left and the others, figures, to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(["", row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _features(described: Sequence[tuple[str, str]]) -> list[str]:
    names = [shown(name)[1:-1] for name, _ in described[:MOST_LINES]]
    width = max(map(len, names))
    lines = [f"{counted(len(described), 'feature')}:"]
    lines += [f"  {name:{width}}  {text}" for name, (_, text) in zip(names, described, strict=False)]
    if len(described) > MOST_LINES:
        lines.append(f"  … and {len(described) - MOST_LINES} more")
    return lines


def _extent(extent: Extent) -> str:
    """`240 sequences of 379 to 1,795 steps, 225,835 in all`."""
    span = f"{extent.shortest:,} to {extent.longest:,} steps"
    if extent.shortest == extent.longest:
        span = counted(extent.longest, "step")
    return f"{counted(extent.sequences, 'sequence')} of {span}, {extent.steps:,} in all"
