"""How good a trained tagger is on labelled sequences: every score that fits its labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.data.columns import Encoded
from bilstm.metrics import is_bio
from bilstm.metrics.events import DetectionScores
from bilstm.metrics.gains import GainScores
from bilstm.metrics.labels import Classes
from bilstm.metrics.spans import SpanScores
from bilstm.metrics.steps import StepScores
from bilstm.ragged import FloatArray, IndexArray
from bilstm.tagging.predictions import check_background
from bilstm.tagging.tagger import Tagger


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
        encoded: sequences with at least one label; those that the tagger has never seen are classes of their own.
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
    classes = (*tagger.columns.classes, *encoded.unseen)
    ground = check_background(classes, background)
    labelled = np.logical_or.reduceat(encoded.labels >= 0, encoded.values.offsets[:-1])
    scores = _Scores(labelled, classes, tolerance, ground)
    baseline = _Scores(labelled, classes, tolerance, ground)
    gain = GainScores(len(labelled))
    confusion: dict[str, dict[str, int]] = {name: {} for name in classes}
    for sequences, steps, rows in _predictions(tagger, encoded, len(classes), probabilities):
        labels, predicted, rows = encoded.labels[steps], rows.argmax(axis=1), widened(rows, len(classes))
        offsets = encoded.values.offsets[sequences.start : sequences.stop + 1] - steps.start
        scores.add(labels, rows, offsets)
        _count_confusions(confusion, labels[labels >= 0], predicted[labels >= 0], classes)
        if tagger.baseline:
            others = widened(tagger.baseline.predict_proba(encoded.part(sequences).values), len(classes))
            baseline.add(labels, others, offsets)
            gain.add(labels, predicted, others.argmax(axis=1), offsets, len(classes))
    report = {"sequences": len(encoded.values), **scores.report(), "confusion": confusion, "baseline": None}
    if tagger.baseline:
        found = baseline.report()
        found["gain"], ends = gain.report()
        if ends is not None:
            found["intervals"]["gain"] = ends.tolist()
        report["baseline"] = _overall(found)
    report["notes"] = list(encoded.notes)
    return report


def widened(probabilities: FloatArray, n_classes: int) -> FloatArray:
    """(steps, n_classes) probabilities: those of classes that a tagger has never seen, the last ones, are 0."""
    unseen = n_classes - probabilities.shape[1]
    return np.pad(probabilities, ((0, 0), (0, unseen))) if unseen else probabilities


def _predictions(
    tagger: Tagger, encoded: Encoded, n_classes: int, probabilities: FloatArray | None
) -> Iterator[tuple[slice, slice, FloatArray]]:
    """Some sequences at a time, their steps and their probabilities."""
    if probabilities is None:
        yield from tagger.predict_portions(encoded.values, width=n_classes)
    else:
        yield slice(0, len(encoded.values)), slice(0, len(probabilities)), probabilities


class _Scores:
    """Every score of probabilities that come some sequences at a time."""

    def __init__(
        self, labelled: npt.NDArray[np.bool_], classes: Sequence[str], tolerance: int | None, background: int | None
    ) -> None:
        self._classes, self._tolerance, self._background = classes, tolerance, background
        self._steps = StepScores(labelled, len(classes))
        self._spans = SpanScores(labelled, classes) if is_bio(classes) else None
        self._events = None if tolerance is None else DetectionScores(labelled, len(classes))

    def add(self, labels: npt.NDArray[np.int32], probabilities: FloatArray, offsets: IndexArray) -> None:
        predicted = probabilities.argmax(axis=1)
        self._steps.add(labels, probabilities, offsets)
        if self._spans:
            self._spans.add_spans(labels, predicted, offsets)
        if self._events and self._tolerance is not None:
            self._events.add_events(
                labels,
                predicted,
                offsets,
                onset_tolerance=self._tolerance,
                offset_tolerance=self._tolerance,
                background=self._background,
            )

    def report(self) -> dict[str, Any]:
        scores = self._steps.report()
        scores["per_class"] = dict(zip(self._classes, scores["per_class"], strict=True))
        scores["spans"] = self._spans.report() if self._spans else None
        scores["events"] = None
        if self._events:
            background = None if self._background is None else self._classes[self._background]
            events = self._events.report()
            by_name = zip(self._classes, events["per_class"], strict=True)
            events["per_class"] = {name: of_class for name, of_class in by_name if name != background}
            scores["events"] = {"tolerance": self._tolerance, "background": background, **events}
        return scores


def _overall(scores: dict[str, Any]) -> dict[str, Any]:
    """The figures that stand for all classes together."""
    parts = {name: scores[name] and _overall(scores[name]) for name in ("spans", "events") if name in scores}
    return {name: score for name, score in scores.items() if name not in ("per_class", "calibration")} | parts


def _count_confusions(
    confusion: dict[str, dict[str, int]], truth: npt.NDArray[Any], guess: Classes, classes: Sequence[str]
) -> None:
    """Add to the cells that are not empty: 10,000 classes would make a hundred million."""
    cells, steps = np.unique(truth.astype(np.int64) * len(classes) + guess, return_counts=True)
    for cell, count in zip(cells.tolist(), steps.tolist(), strict=True):
        row, name = confusion[classes[cell // len(classes)]], classes[cell % len(classes)]
        row[name] = row.get(name, 0) + count
