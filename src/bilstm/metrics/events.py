"""Runs of equal labels as events: a heartbeat's wave, a gesture, a word.

For counting heartbeats it does not matter whether each sample at a wave's edge is right. A predicted event is right if
it matches a true event of the same class and sequence whose onset and offset differ by no more than a tolerance. Each
event matches one other at most: of all such matchings the largest counts. This is the event-based F-score of Mesaros,
Heittola and Virtanen, "Metrics for Polyphonic Sound Event Detection" (Applied Sciences, 2016), with the one-to-one
matching of mir_eval (Raffel and others, 2014) and sed_eval; unlike theirs, the tolerance at the offset does not grow
with the event.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_count
from bilstm.metrics.counts import Counts, Scores, add_at
from bilstm.metrics.labels import Classes, check_classes, labelled_sequences
from bilstm.metrics.scorer import Scorer
from bilstm.ragged import as_offsets


@dataclasses.dataclass(frozen=True)
class Events:
    """Events in the order of their sequences and onsets; those of one class in one sequence do not overlap.

    Attributes:
        sequences: (n_events,) int64, the sequence of each.
        classes: (n_events,) int64, the class of each.
        onsets: (n_events,) int64, the first step of each, counted from the sequence's first.
        offsets: (n_events,) int64, the last step of each, counted from the sequence's first.
    """

    sequences: Classes
    classes: Classes
    onsets: Classes
    offsets: Classes

    def __len__(self) -> int:
        return len(self.classes)


def find_events(labels: npt.ArrayLike, offsets: npt.ArrayLike, background: int | None = None) -> Events:
    """The runs of equal labels. An unlabelled step (-1) belongs to no event and ends the event before it.

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
    bounds = as_offsets(offsets, len(classes))
    changes = np.ones(len(classes) + 1, bool)
    changes[1:-1] = classes[1:] != classes[:-1]
    changes[bounds] = True
    edges = np.flatnonzero(changes)
    starts, stops = edges[:-1], edges[1:]
    chosen = (classes[starts] >= 0) & (classes[starts] != (-1 if background is None else background))
    return events_at(starts[chosen], stops[chosen] - 1, classes[starts[chosen]], bounds)


def events_at(firsts: Classes, lasts: Classes, classes: Classes, begins: Classes) -> Events:
    """Events by the positions of their first and last steps in the whole batch, and where its sequences begin."""
    sequences = np.searchsorted(begins, firsts, side="right") - 1
    return Events(sequences, classes, firsts - begins[sequences], lasts - begins[sequences])


def match_events(
    true: Events, predicted: Events, *, onset_tolerance: int, offset_tolerance: int | None
) -> npt.NDArray[np.int64]:
    """The largest one-to-one pairing of true and predicted events that agree.

    Args:
        true, predicted: events of the same sequences.
        onset_tolerance: by how many steps onsets may differ, at least 0.
        offset_tolerance: by how many steps offsets may differ; None: they do not matter.

    Returns:
        (n_pairs, 2) indices of a true and of a predicted event.

    Raises:
        ValueError: a tolerance is negative.
    """
    early = check_count("events", "onset_tolerance", onset_tolerance, least=0)
    late = math.inf if offset_tolerance is None else check_count("events", "offset_tolerance", offset_tolerance, 0)
    n_sequences = 1 + max(int(events.sequences.max(initial=0)) for events in (true, predicted))
    true_order, keys, onsets, ends = _sorted(true, n_sequences)
    guess_order, other_keys, other_onsets, other_ends = _sorted(predicted, n_sequences)
    pairs: list[tuple[int, int]] = []
    # Events of one class and sequence follow each other in both orders, of onsets and of offsets. So an event that ends
    # or begins too early for this one does so for all later ones, and taking the first that fits loses none.
    t = g = 0
    while t < len(keys) and g < len(other_keys):
        if other_keys[g] != keys[t]:
            g, t = (g + 1, t) if other_keys[g] < keys[t] else (g, t + 1)
        elif other_onsets[g] < onsets[t] - early or other_ends[g] < ends[t] - late:
            g += 1
        elif other_onsets[g] > onsets[t] + early or other_ends[g] > ends[t] + late:
            t += 1
        else:
            pairs.append((t, g))
            t, g = t + 1, g + 1
    matched = np.array(pairs, np.int64).reshape(-1, 2)
    return np.stack([true_order[matched[:, 0]], guess_order[matched[:, 1]]], axis=1)


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
    """Precision, recall and F1 of predicted events, as plain data.

    Args:
        labels: (steps,) integers from -1 to n_classes - 1. Where a step is unlabelled, its prediction counts as
            unlabelled too.
        predicted: (steps,) integers from 0 to n_classes - 1.
        offsets: (n_sequences + 1,) where sequences begin and end, as in `Ragged`.
        onset_tolerance: by how many steps onsets may differ, at least 0.
        offset_tolerance: by how many steps offsets may differ; None: they do not matter.
        background: a class that is no event.

    Returns:
        "precision", "recall" and "f1" of the events of all classes together; "macro_f1", the mean F1 of the classes
        with events; "intervals" of these four, 95 % bootstrap intervals over sequences or groups, or None where fewer
        than three have labels; "caution": a sentence where the intervals rest on few sequences or groups, otherwise
        None; "per_class": for each class its "precision", "recall", "f1" (0 where undefined), "f1_interval" or None,
        and "support", the number of true events.

    Raises:
        ValueError: an argument is not one of the above.
    """
    truth, guess = check_classes(labels, predicted, n_classes)
    bounds = as_offsets(offsets, len(truth))
    if background is not None and not 0 <= background < n_classes:
        raise ValueError(f"background must be a class from 0 to {n_classes - 1}, not {background!r}")
    scores = DetectionScores(labelled_sequences(truth, bounds), n_classes)
    scores.add_events(
        truth, guess, bounds, onset_tolerance=onset_tolerance, offset_tolerance=offset_tolerance, background=background
    )
    return scores.report()


class DetectionScores(Scorer[Counts]):
    """Scores of events, for sequences that come in batches.

    Args:
        labelled: (n_sequences,) whether a sequence has labels.
        n_classes: how many classes of events there are.
        groups: (n_sequences,) integers, the group of each sequence: intervals then come from drawing whole groups.

    Raises:
        ValueError: `groups` has another length or holds no integers.
    """

    scores: Mapping[str, Callable[[Counts], Scores]] = {"event_f1": lambda counts: counts.overall().f1}
    main = "event_f1"

    def __init__(self, labelled: npt.ArrayLike, n_classes: int, *, groups: npt.ArrayLike | None = None) -> None:
        super().__init__(labelled, 3 * n_classes, groups)
        self.sums = Counts(*(np.zeros((self._n_clusters, n_classes), np.int64) for _ in range(3)))

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
        """Find, match and count the events of the next sequences; for the arguments see `event_report`."""
        truth, guess = check_classes(labels, predicted, self.sums.true.shape[1])
        guess = np.where(truth >= 0, guess, -1)
        true, guessed = find_events(truth, offsets, background), find_events(guess, offsets, background)
        pairs = match_events(true, guessed, onset_tolerance=onset_tolerance, offset_tolerance=offset_tolerance)
        self._count(true, guessed, pairs, len(np.asarray(offsets)) - 1)

    def _count(self, true: Events, predicted: Events, pairs: npt.NDArray[np.int64], sequences: int) -> None:
        """Count the matched events of the next `sequences` sequences."""
        clusters, right = self._clusters(sequences), pairs[:, 0]
        add_at(self.sums.correct, clusters[true.sequences[right]], true.classes[right])
        add_at(self.sums.true, clusters[true.sequences], true.classes)
        add_at(self.sums.predicted, clusters[predicted.sequences], predicted.classes)

    def report(self) -> dict[str, Any]:
        """All scores, as plain data: what `event_report` returns."""
        total = self.sums.total()
        scores: dict[str, Callable[[Counts], Scores]] = {
            "precision": lambda sums: sums.overall().precision,
            "recall": lambda sums: sums.overall().recall,
            "f1": lambda sums: sums.overall().f1,
            "macro_f1": lambda sums: sums.macro(sums.f1),
        }
        ends = self.intervals({**scores, "each": lambda sums: sums.f1})
        per_class = total.per_class()
        for class_, of_class in enumerate(per_class):
            of_class["f1_interval"] = ends and ends["each"][class_].tolist()
        return {
            "precision": float(total.overall().precision),
            "recall": float(total.overall().recall),
            "f1": float(total.overall().f1),
            "macro_f1": float(total.macro(total.f1)),
            "intervals": ends and {name: ends[name].tolist() for name in scores},
            "caution": self.caution,
            "per_class": per_class,
        }


def _sorted(events: Events, n_sequences: int) -> tuple[Classes, list[int], list[int], list[int]]:
    """The order by class, sequence and onset; in it, a number for the class and sequence, the onset and the offset."""
    keys = events.classes * n_sequences + events.sequences
    order = np.lexsort((events.onsets, keys))
    return order, keys[order].tolist(), events.onsets[order].tolist(), events.offsets[order].tolist()
