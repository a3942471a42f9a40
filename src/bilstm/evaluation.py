"""How good a trained tagger is on labelled sequences: every score that fits its labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.columns import Encoded
from bilstm.metrics import is_bio
from bilstm.metrics.events import DetectionScores
from bilstm.metrics.labels import Classes
from bilstm.metrics.spans import SpanScores
from bilstm.metrics.steps import StepScores
from bilstm.predictions import check_background
from bilstm.tagger import Tagger


def evaluate_tagger(
    tagger: Tagger, encoded: Encoded, *, tolerance: int | None = None, background: str | None = None
) -> dict[str, Any]:
    """Compare a tagger's predictions with labels.

    Args:
        encoded: sequences with at least one label.
        tolerance: score runs of equal labels as events, whose onsets and offsets may each be off by so many steps.
        background: the label that is no event.

    Returns:
        Plain data. What `step_report` gives, with "per_class" by the names of the classes; "sequences", their number;
        "confusion": for each true class the steps by predicted class, without those that are 0; "spans": what
        `span_report` gives where labels are of the form B-X, I-X and O, otherwise None; "events": what `event_report`
        gives, "per_class" by name and without the background, with "tolerance" and "background", or None without a
        tolerance; "notes": what a person should know.

    Raises:
        UserError: no such background.
    """
    classes = tagger.columns.classes
    ground = check_background(classes, background)
    labelled = np.logical_or.reduceat(encoded.labels >= 0, encoded.values.offsets[:-1])
    steps = StepScores(labelled, len(classes))
    spans = SpanScores(labelled, classes) if is_bio(classes) else None
    events = DetectionScores(labelled, len(classes)) if tolerance is not None else None
    confusion: dict[str, dict[str, int]] = {name: {} for name in classes}
    for group, places, probabilities in tagger.predict_groups(encoded.values):
        labels, predicted = encoded.labels[places], probabilities.argmax(axis=1)
        offsets = encoded.values.offsets[group.start : group.stop + 1] - places.start
        steps.add(labels, probabilities, offsets)
        _count_confusions(confusion, labels[labels >= 0], predicted[labels >= 0], classes)
        if spans:
            spans.add_spans(labels, predicted, offsets)
        if events and tolerance is not None:
            within: dict[str, Any] = {"onset_tolerance": tolerance, "offset_tolerance": tolerance}
            events.add_events(labels, predicted, offsets, **within, background=ground)
    report: dict[str, Any] = {"sequences": len(encoded.values), **steps.report()}
    report["per_class"] = dict(zip(classes, report["per_class"], strict=True))
    report["confusion"] = confusion
    report["spans"] = spans.report() if spans else None
    report["events"] = None
    if events:
        found = events.report()
        by_name = zip(classes, found["per_class"], strict=True)
        found["per_class"] = {name: scores for name, scores in by_name if name != background}
        report["events"] = {"tolerance": tolerance, "background": background, **found}
    report["notes"] = list(encoded.notes)
    return report


def _count_confusions(
    confusion: dict[str, dict[str, int]], truth: npt.NDArray[Any], guess: Classes, classes: Sequence[str]
) -> None:
    """Add to the cells that are not empty: 10,000 classes would make a hundred million."""
    cells, steps = np.unique(truth.astype(np.int64) * len(classes) + guess, return_counts=True)
    for cell, count in zip(cells.tolist(), steps.tolist(), strict=True):
        row, name = confusion[classes[cell // len(classes)]], classes[cell % len(classes)]
        row[name] = row.get(name, 0) + count
