"""Spans that labels of the form B-X, I-X and O mark: names, chunks, slots.

They are counted as `conlleval` does, the script of the shared tasks of CoNLL-2000 to 2003, and after it seqeval by
default: a span is right if its first step, its last and its type are. Any labels make spans: an I-X that continues no
X begins one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.metrics.counts import Counts
from bilstm.metrics.events import DetectionScores, Events, count_detections, events_at, match_events
from bilstm.metrics.labels import Classes, check_classes, labelled_sequences
from bilstm.ragged import as_offsets

_LABEL = re.compile(r"O|[BI](?:-(.+))?", re.DOTALL)


def is_bio(classes: Sequence[str]) -> bool:
    """Whether the names of classes are of the form B-X, I-X and O: all of them, and at least one with a type X.

    Types may be left out where there is only one, but then B and I must both occur.
    """
    marks = [_LABEL.fullmatch(name) for name in classes]
    return all(marks) and (any(mark and mark[1] for mark in marks) or {"B", "I"} <= set(classes))


def find_spans(labels: npt.ArrayLike, offsets: npt.ArrayLike, classes: Sequence[str]) -> tuple[Events, list[str]]:
    """The spans that labels mark, as events, and their types. Unlabelled steps (-1) are passed over.

    Args:
        labels: (steps,) integers from -1 to len(classes) - 1.
        offsets: (n_sequences + 1,) where sequences begin and end, as in `Ragged`.
        classes: the names of the labels, of the form B-X, I-X and O.

    Returns:
        The spans, whose classes index the types; the types, sorted, "" for a B or I without.

    Raises:
        ValueError: an argument is not one of the above.
    """
    truth, _ = check_classes(labels, np.zeros(np.shape(labels), np.int64), len(classes))
    places = as_offsets(offsets, len(truth))
    begins, types, names = _meaning(classes)
    kept = np.flatnonzero(truth >= 0)
    kind, begin = types[truth[kept]], begins[truth[kept]]
    sequence = np.searchsorted(places, kept, side="right") - 1
    inside = kind >= 0
    anew = np.ones(len(kept), bool)  # what stands before does not go on here
    anew[1:] = begin[1:] | (kind[1:] != kind[:-1]) | (sequence[1:] != sequence[:-1])
    starts = np.flatnonzero(anew & inside)
    edges = np.append(np.flatnonzero(anew), len(kept))
    stops = edges[np.searchsorted(edges, starts, side="right")]
    return events_at(kept[starts], kept[stops - 1], kind[starts], places), names


def span_report(
    labels: npt.ArrayLike, predicted: npt.ArrayLike, offsets: npt.ArrayLike, classes: Sequence[str]
) -> dict[str, Any]:
    """How many spans are found, and how many of those predicted are some, as plain data.

    Args:
        labels: (steps,) integers from -1 to len(classes) - 1. Steps without a label are left out of both sides.
        predicted: (steps,) integers from 0 to len(classes) - 1.
        offsets: (n_sequences + 1,) where sequences begin and end, as in `Ragged`.
        classes: the names of the labels, of the form B-X, I-X and O.

    Returns:
        What `event_report` gives, whose "f1" is the figure that is usually told; "per_class" is a dict by type.

    Raises:
        ValueError: an argument is not one of the above.
    """
    truth, _ = check_classes(labels, predicted, len(classes))
    places = as_offsets(offsets, len(truth))
    scores = SpanScores(labelled_sequences(truth, places), classes)
    scores.add_spans(truth, predicted, places)
    return scores.report()


class SpanScores(DetectionScores):
    """The same for sequences that come some at a time.

    Args:
        labelled: (n_sequences,) whether a sequence has labels.
        classes: the names of the labels, of the form B-X, I-X and O.
    """

    def __init__(self, labelled: npt.NDArray[np.bool_], classes: Sequence[str]) -> None:
        self._classes = classes
        _, _, self._types = _meaning(classes)
        super().__init__(labelled, len(self._types))

    def add_spans(self, labels: npt.ArrayLike, predicted: npt.ArrayLike, offsets: npt.ArrayLike) -> None:
        """Take the next sequences: see `span_report`."""
        truth, guess = check_classes(labels, predicted, len(self._classes))
        places = as_offsets(offsets, len(truth))
        true, found, pairs, _ = _matched(truth, guess, places, self._classes)
        self.add(true, found, pairs, len(places) - 1)

    def report(self) -> dict[str, Any]:
        """What `span_report` returns."""
        report = super().report()
        return report | {"per_class": dict(zip(self._types, report["per_class"], strict=True))}


def count_spans(
    labels: npt.ArrayLike, predicted: npt.ArrayLike, offsets: npt.ArrayLike, classes: Sequence[str], units: Classes
) -> Counts:
    """What `span_report` counts, by unit and type.

    Args:
        labels, predicted, offsets, classes: as of `span_report`.
        units: (n_sequences,) the unit of each sequence, from `units_of`.

    Returns:
        (n_units, n_types) counts.

    Raises:
        ValueError: an argument is not one of the above.
    """
    truth, guess = check_classes(labels, predicted, len(classes))
    true, found, pairs, names = _matched(truth, guess, as_offsets(offsets, len(truth)), classes)
    return count_detections(true, found, pairs, units, (int(units.max()) + 1, len(names)))


def _matched(
    truth: Classes, guess: Classes, places: Classes, classes: Sequence[str]
) -> tuple[Events, Events, npt.NDArray[np.int64], list[str]]:
    """True spans, predicted ones, the pairs of those that are the same, and the names of their types."""
    true, names = find_spans(truth, places, classes)
    found, _ = find_spans(np.where(truth >= 0, guess, -1), places, classes)
    return true, found, match_events(true, found, onset_tolerance=0, offset_tolerance=0), names


def _meaning(classes: Sequence[str]) -> tuple[npt.NDArray[np.bool_], Classes, list[str]]:
    """Whether each label begins a span, the index of its type (-1 for O), and the types."""
    marks = [_LABEL.fullmatch(name) for name in classes]
    for name, mark in zip(classes, marks, strict=True):
        if mark is None:
            raise ValueError(f"labels of spans have the form B-X, I-X or O, not {name!r}")
    types = [None if name == "O" else mark[1] or "" for name, mark in zip(classes, marks, strict=True) if mark]
    names = sorted({type_ for type_ in types if type_ is not None})
    begins = np.array([name.startswith("B") for name in classes], bool)
    return begins, np.array([-1 if type_ is None else names.index(type_) for type_ in types], np.int64), names
