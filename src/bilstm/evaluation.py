"""How good a trained tagger is on labelled sequences: every score that fits its labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.columns import Encoded
from bilstm.errors import UserError, listed, shown, suggestion
from bilstm.metrics import event_report, is_bio, span_report, step_report
from bilstm.metrics.labels import Classes
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
    ground = _background(classes, background)
    labels, offsets = encoded.labels, encoded.values.offsets
    probabilities = tagger.predict_proba(encoded.values)
    predicted = probabilities.argmax(axis=1)
    report: dict[str, Any] = {"sequences": len(encoded.values), **step_report(labels, probabilities, offsets)}
    report["per_class"] = dict(zip(classes, report["per_class"], strict=True))
    report["confusion"] = _confusion(labels[labels >= 0], predicted[labels >= 0], classes)
    report["spans"] = span_report(labels, predicted, offsets, classes) if is_bio(classes) else None
    report["events"] = None
    if tolerance is not None:
        events = event_report(
            labels,
            predicted,
            offsets,
            len(classes),
            onset_tolerance=tolerance,
            offset_tolerance=tolerance,
            background=ground,
        )
        by_name = zip(classes, events["per_class"], strict=True)
        events["per_class"] = {name: scores for name, scores in by_name if name != background}
        report["events"] = {"tolerance": tolerance, "background": background, **events}
    report["notes"] = list(encoded.notes)
    return report


def _background(classes: Sequence[str], name: str | None) -> int | None:
    if name is None:
        return None
    if name not in classes:
        raise UserError(
            f"the background {shown(name)} is no label that the model knows.{suggestion(name, classes)} "
            f"It knows {listed(classes)}"
        )
    return classes.index(name)


def _confusion(truth: npt.NDArray[Any], guess: Classes, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Only cells that are not empty: 10,000 classes would make a hundred million."""
    cells, steps = np.unique(truth.astype(np.int64) * len(classes) + guess, return_counts=True)
    found: dict[str, dict[str, int]] = {name: {} for name in classes}
    for cell, count in zip(cells.tolist(), steps.tolist(), strict=True):
        found[classes[cell // len(classes)]][classes[cell % len(classes)]] = count
    return found
