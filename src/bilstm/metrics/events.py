"""Runs of equal labels as events: a heartbeat's wave, a gesture, a word.

Whoever counts heartbeats does not care whether each sample at a wave's edge is right. A predicted event is right if it
stands for a true one: of the same class and sequence, its onset and its offset no more than a tolerance away. Each
true event is found once at most, and no predicted one finds two: of all such pairings the largest counts. This is the
event-based F-score of Mesaros, Heittola and Virtanen, "Metrics for Polyphonic Sound Event Detection" (Applied
Sciences, 2016), with the one-to-one matching of mir_eval (Raffel and others, 2014) and sed_eval; unlike theirs, the
tolerance at the offset does not grow with the event.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_count
from bilstm.metrics.counts import Counts, count_classes
from bilstm.metrics.intervals import RESAMPLES, intervals, units_of
from bilstm.metrics.labels import Classes, check_classes, labelled_sequences
from bilstm.ragged import as_offsets


@dataclasses.dataclass(frozen=True)
class Events:
    """Events in the order of their sequences and onsets; those of one class in one sequence do not overlap.

    Attributes:
        sequences: (n_events,) int64, the sequence of each.
        classes: (n_events,) int64.
        onsets: (n_events,) int64, the first step of each, counted from the sequence's first.
        offsets: (n_events,) int64, the last step of each, likewise.
    """

    sequences: Classes
    classes: Classes
    onsets: Classes
    offsets: Classes

    def __len__(self) -> int:
        return len(self.classes)


def find_events(labels: npt.ArrayLike, offsets: npt.ArrayLike, background: int | None = None) -> Events:
    """The runs of equal labels. An unlabelled step (-1) belongs to no event, and ends the one before it.

    Args:
        labels: (steps,) integers from -1.
        offsets: (n_sequences + 1,) where sequences begin and end, as in `Ragged`.
        background: a class that is no event, such as "nothing happens".

    Raises:
        ValueError: an argument is not one of the above.
    """
    classes = np.asarray(labels)
    if classes.ndim != 1 or (len(classes) and (classes.dtype.kind not in "biu" or classes.min() < -1)):
        raise ValueError("labels must be integers of shape (steps,), from 0, or -1 where a step is unlabelled")
    classes = classes.astype(np.int64)
    places = as_offsets(offsets, len(classes))
    changes = np.ones(len(classes) + 1, bool)
    changes[1:-1] = classes[1:] != classes[:-1]
    changes[places] = True
    edges = np.flatnonzero(changes)
    starts, stops = edges[:-1], edges[1:]
    wanted = (classes[starts] >= 0) & (classes[starts] != (-1 if background is None else background))
    return events_at(starts[wanted], stops[wanted] - 1, classes[starts[wanted]], places)


def events_at(firsts: Classes, lasts: Classes, classes: Classes, places: Classes) -> Events:
    """Events by the positions of their first and last steps in the whole batch."""
    sequences = np.searchsorted(places, firsts, side="right") - 1
    return Events(sequences, classes, firsts - places[sequences], lasts - places[sequences])


def match_events(
    true: Events, predicted: Events, *, onset_tolerance: int, offset_tolerance: int | None
) -> npt.NDArray[np.int64]:
    """The largest one-to-one pairing of true and predicted events that agree.

    Args:
        onset_tolerance: by how many steps the onsets may differ, at least 0.
        offset_tolerance: by how many the offsets may; None: their offsets do not matter.

    Returns:
        (n_pairs, 2) indices of a true and of a predicted event.

    Raises:
        ValueError: a tolerance is negative.
    """
    early = check_count("events", "onset_tolerance", onset_tolerance, least=0)
    late = math.inf if offset_tolerance is None else check_count("events", "offset_tolerance", offset_tolerance, 0)
    n_sequences = 1 + max(int(events.sequences.max(initial=0)) for events in (true, predicted))
    true_order, *truths = _sorted(true, n_sequences)
    guess_order, *guesses = _sorted(predicted, n_sequences)
    (places, onsets, ends), (other_places, other_onsets, other_ends) = truths, guesses
    pairs: list[tuple[int, int]] = []
    # Events of one class and sequence follow each other in both orders, of onsets and of offsets. So an event that ends
    # or begins too early for this one does so for all later ones, and taking the first that fits loses none.
    t = g = 0
    while t < len(places) and g < len(other_places):
        if other_places[g] != places[t]:
            g, t = (g + 1, t) if other_places[g] < places[t] else (g, t + 1)
        elif other_onsets[g] < onsets[t] - early or other_ends[g] < ends[t] - late:
            g += 1
        elif other_onsets[g] > onsets[t] + early or other_ends[g] > ends[t] + late:
            t += 1
        else:
            pairs.append((t, g))
            t, g = t + 1, g + 1
    found = np.array(pairs, np.int64).reshape(-1, 2)
    return np.stack([true_order[found[:, 0]], guess_order[found[:, 1]]], axis=1)


def event_report(
    labels: npt.ArrayLike,
    predicted: npt.ArrayLike,
    offsets: npt.ArrayLike,
    n_classes: int,
    *,
    onset_tolerance: int,
    offset_tolerance: int | None,
    background: int | None = None,
) -> dict[str, Any]:
    """How many events are found, and how many of those predicted are some, as plain data.

    Args:
        labels: (steps,) integers from -1 to n_classes - 1. Where a step is unlabelled, its prediction counts as
            unlabelled, too.
        predicted: (steps,) integers from 0 to n_classes - 1.
        offsets: (n_sequences + 1,) where sequences begin and end, as in `Ragged`.
        onset_tolerance, offset_tolerance: see `match_events`.
        background: a class that is no event.

    Returns:
        "precision", "recall" and "f1" of the events of all classes together; "macro_f1", the mean F1 of the classes
        with events; "intervals" of "f1" and "macro_f1", 95 % bootstrap intervals over sequences, or None where fewer
        than two sequences have labels; "per_class": for each class its "precision", "recall", "f1" (0 where
        undefined) and "support", the number of true events.

    Raises:
        ValueError: an argument is not one of the above.
    """
    truth, guess = check_classes(labels, predicted, n_classes)
    places = as_offsets(offsets, len(truth))
    if background is not None and not 0 <= background < n_classes:
        raise ValueError(f"background must be a class from 0 to {n_classes - 1}, not {background!r}")
    scores = DetectionScores(labelled_sequences(truth, places), n_classes)
    scores.add_events(
        truth, guess, places, onset_tolerance=onset_tolerance, offset_tolerance=offset_tolerance, background=background
    )
    return scores.report()


class DetectionScores:
    """The same for events that come some sequences at a time, so that memory need not hold all of them.

    Args:
        labelled: (n_sequences,) whether a sequence has labels.
        n_classes: how many classes of events there are.
    """

    def __init__(self, labelled: npt.NDArray[np.bool_], n_classes: int) -> None:
        units = units_of(labelled, 3 * n_classes, seed=0)
        self._drawn = units is not None
        # Without intervals, one unit will do.
        self._unit_of = np.zeros(len(labelled), np.int64) if units is None else units
        self._shape = (int(self._unit_of.max(initial=0)) + 1, n_classes)
        self._counts = [np.zeros(self._shape, np.int64) for _ in range(3)]
        self._done = 0

    def add_events(
        self,
        labels: npt.ArrayLike,
        predicted: npt.ArrayLike,
        offsets: npt.ArrayLike,
        *,
        onset_tolerance: int,
        offset_tolerance: int | None,
        background: int | None = None,
    ) -> None:
        """Take the next sequences: see `event_report`."""
        truth, guess = check_classes(labels, predicted, self._shape[1])
        guess = np.where(truth >= 0, guess, -1)
        true, found = find_events(truth, offsets, background), find_events(guess, offsets, background)
        pairs = match_events(true, found, onset_tolerance=onset_tolerance, offset_tolerance=offset_tolerance)
        self.add(true, found, pairs, len(np.asarray(offsets)) - 1)

    def add(self, true: Events, predicted: Events, pairs: npt.NDArray[np.int64], sequences: int) -> None:
        """Take the events of so many next sequences, paired already."""
        unit_of = self._unit_of[self._done : self._done + sequences]
        self._done += sequences
        found = count_detections(true, predicted, pairs, unit_of, self._shape)
        for counts, new in zip(self._counts, (found.correct, found.true, found.predicted), strict=True):
            counts += new

    def report(self) -> dict[str, Any]:
        """What `event_report` returns."""
        counts = Counts(*self._counts)
        total = Counts(*(each.sum(0) for each in self._counts))
        scores = {"f1": lambda counts: counts.overall().f1, "macro_f1": lambda counts: counts.macro(counts.f1)}
        ends = self._drawn and intervals(counts, scores, level=0.95, resamples=RESAMPLES, seed=0)
        return {
            "precision": float(total.overall().precision),
            "recall": float(total.overall().recall),
            "f1": float(total.overall().f1),
            "macro_f1": float(total.macro(total.f1)),
            "intervals": {name: end.tolist() for name, end in ends.items()} if ends else None,
            "per_class": total.per_class(),
        }


def count_detections(
    true: Events, predicted: Events, pairs: npt.NDArray[np.int64], unit_of: Classes, shape: tuple[int, int]
) -> Counts:
    """Counts by unit and class, `shape` in number; `unit_of` is the unit of each sequence."""
    right = pairs[:, 0]
    return Counts(
        correct=count_classes(unit_of[true.sequences[right]], true.classes[right], shape),
        true=count_classes(unit_of[true.sequences], true.classes, shape),
        predicted=count_classes(unit_of[predicted.sequences], predicted.classes, shape),
    )


def _sorted(events: Events, n_sequences: int) -> tuple[Classes, list[int], list[int], list[int]]:
    """The order by class, sequence and onset; in it, a number for the class and sequence, the onset and the offset."""
    places = events.classes * n_sequences + events.sequences
    order = np.lexsort((events.onsets, places))
    return order, places[order].tolist(), events.onsets[order].tolist(), events.offsets[order].tolist()
