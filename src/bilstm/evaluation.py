"""How good a trained tagger is on labelled sequences: every score that fits its labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.columns import Encoded
from bilstm.errors import UserError, listed, shown, suggestion
from bilstm.metrics import accuracy_gain, event_report, is_bio, span_report, step_report
from bilstm.metrics.labels import Classes
from bilstm.ragged import FloatArray
from bilstm.tagger import Tagger


def evaluate_tagger(
    tagger: Tagger,
    encoded: Encoded,
    *,
    tolerance: int | None = None,
    background: str | None = None,
    probabilities: FloatArray | None = None,
) -> dict[str, Any]:
    """Compare a tagger's predictions with labels.

    Args:
        encoded: sequences with at least one label.
        tolerance: score runs of equal labels as events, whose onsets and offsets may each be off by so many steps.
        background: the label that is no event.
        probabilities: what `tagger.predict_proba` gave of them, where it is known already.

    Returns:
        Plain data. What `step_report` gives, with "per_class" by the names of the classes; "sequences", their number;
        "confusion": for each true class the steps by predicted class, without those that are 0; "spans": what
        `span_report` gives where labels are of the form B-X, I-X and O, otherwise None; "events": what `event_report`
        gives, "per_class" by name and without the background, with "tolerance" and "background", or None without a
        tolerance; "baseline": the same scores of the tagger's baseline, without those by class and the curves, and
        "gain", by how much the tagger's accuracy is higher, or None where there is no baseline; "notes": what a person
        should know.

    Raises:
        UserError: no such background.
    """
    classes, labels, offsets = tagger.columns.classes, encoded.labels, encoded.values.offsets
    _check_background(classes, background)
    if probabilities is None:
        probabilities = tagger.predict_proba(encoded.values)
    predicted = probabilities.argmax(axis=1)
    report = {"sequences": len(encoded.values), **_scores(encoded, probabilities, classes, tolerance, background)}
    report["confusion"] = _confusion(labels[labels >= 0], predicted[labels >= 0], classes)
    report["baseline"] = None
    if tagger.baseline:
        others = tagger.baseline.predict_proba(encoded.values)
        baseline = _scores(encoded, others, classes, tolerance, background)
        gain, ends = accuracy_gain(labels, predicted, others.argmax(axis=1), offsets, len(classes))
        baseline["gain"] = gain
        if ends is not None:
            baseline["intervals"]["gain"] = ends.tolist()
        report["baseline"] = _overall(baseline)
    report["notes"] = list(encoded.notes)
    return report


def _check_background(classes: Sequence[str], name: str | None) -> None:
    if name is not None and name not in classes:
        raise UserError(
            f"the background {shown(name)} is no label that the model knows.{suggestion(name, classes)} "
            f"It knows {listed(classes)}"
        )


def _scores(
    encoded: Encoded, probabilities: FloatArray, classes: Sequence[str], tolerance: int | None, background: str | None
) -> dict[str, Any]:
    """Every score of these probabilities."""
    labels, offsets, predicted = encoded.labels, encoded.values.offsets, probabilities.argmax(axis=1)
    scores = step_report(labels, probabilities, offsets)
    scores["per_class"] = dict(zip(classes, scores["per_class"], strict=True))
    scores["spans"] = span_report(labels, predicted, offsets, classes) if is_bio(classes) else None
    scores["events"] = None
    if tolerance is not None:
        events = event_report(
            labels,
            predicted,
            offsets,
            len(classes),
            onset_tolerance=tolerance,
            offset_tolerance=tolerance,
            background=None if background is None else classes.index(background),
        )
        by_name = zip(classes, events["per_class"], strict=True)
        events["per_class"] = {name: of_class for name, of_class in by_name if name != background}
        scores["events"] = {"tolerance": tolerance, "background": background, **events}
    return scores


def _overall(scores: dict[str, Any]) -> dict[str, Any]:
    """The figures that stand for all classes together."""
    parts = {name: scores[name] and _overall(scores[name]) for name in ("spans", "events") if name in scores}
    return {name: score for name, score in scores.items() if name not in ("per_class", "calibration")} | parts


def _confusion(truth: npt.NDArray[Any], guess: Classes, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Only cells that are not empty: 10,000 classes would make a hundred million."""
    cells, steps = np.unique(truth.astype(np.int64) * len(classes) + guess, return_counts=True)
    found: dict[str, dict[str, int]] = {name: {} for name in classes}
    for cell, count in zip(cells.tolist(), steps.tolist(), strict=True):
        found[classes[cell // len(classes)]][classes[cell % len(classes)]] = count
    return found
