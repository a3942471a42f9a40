"""What is wrong with predicted spans: a boundary, the type, both; and which are missed or invented."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.metrics.events import Events
from bilstm.metrics.labels import Classes

RIGHT, TYPE, BOUNDARY, BOTH, ALONE = range(5)
# Of true spans; a predicted one that overlaps no true span is invented.
OUTCOMES = ("right", "type", "boundary", "both", "missed")
OUTCOMES_OF_PREDICTED = (*OUTCOMES[:-1], "invented")


def compare_spans(spans: Events, others: Events) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """What each span has in common with the one of others that resembles it most, in the same sequence.

    Of those that overlap it that is one with the same ends, else one of its type, else any; of several the one with
    more steps in common, then the first.

    Args:
        spans, others: neither overlap their own.

    Returns:
        (n_spans,) RIGHT: the same ends and type; TYPE: the same ends, another type; BOUNDARY: overlaps one of its type;
        BOTH: overlaps one of another type only; ALONE: overlaps none. And the index of the other span, -1 for none.
    """
    outcomes, partners = np.full(len(spans), ALONE), np.full(len(spans), -1)
    stride = 1 + max(int(each.offsets.max(initial=0)) for each in (spans, others))
    first, last = (spans.sequences * stride + each for each in (spans.onsets, spans.offsets))
    other_first, other_last = (others.sequences * stride + each for each in (others.onsets, others.offsets))
    begins, ends = np.searchsorted(other_last, first), np.searchsorted(other_first, last, side="right")
    counts = np.maximum(ends - begins, 0)
    here = np.repeat(np.arange(len(spans)), counts)
    there = np.arange(len(here)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(begins, counts)
    same_type = spans.classes[here] == others.classes[there]
    same_ends = (first[here] == other_first[there]) & (last[here] == other_last[there])
    common = np.minimum(last[here], other_last[there]) - np.maximum(first[here], other_first[there])
    order = np.lexsort((there, -common, ~same_type, ~same_ends, here))
    here, there, same_type, same_ends = (each[order] for each in (here, there, same_type, same_ends))
    best = np.flatnonzero(np.append(True, here[1:] != here[:-1])[: len(here)])
    outcome = np.where(same_ends, np.where(same_type, RIGHT, TYPE), np.where(same_type, BOUNDARY, BOTH))
    outcomes[here[best]], partners[here[best]] = outcome[best], there[best]
    return outcomes, partners


class SpanErrors:
    """Counts of what is wrong, for sequences that come in batches.

    Args:
        types: the names of the types, which the classes of spans index.
    """

    def __init__(self, types: list[str]) -> None:
        self._types = types
        self._true, self._predicted = (np.zeros((len(types), len(OUTCOMES)), np.int64) for _ in range(2))
        self._pairs = Counter[tuple[int, int]]()

    def add(self, true: Events, predicted: Events) -> None:
        """Take the spans of further sequences."""
        outcomes, partners = compare_spans(true, predicted)
        np.add.at(self._true, (true.classes, outcomes), 1)
        np.add.at(self._predicted, (predicted.classes, compare_spans(predicted, true)[0]), 1)
        paired = partners >= 0
        pairs: Classes = np.stack([true.classes[paired], predicted.classes[partners[paired]]], axis=1)
        found, counts = np.unique(pairs, axis=0, return_counts=True)
        self._pairs.update({(one, other): n for (one, other), n in zip(found.tolist(), counts.tolist(), strict=True)})

    def report(self) -> dict[str, Any]:
        """The counts as plain data.

        Returns:
            "true" and "predicted": by type how many of its spans are "right", have another "boundary", another "type",
            or "both"; of true spans how many are "missed", of predicted ones "invented". "confusion": for each true
            type the spans by the type of the predicted span that resembles them most, without zeros.
        """
        confusion: dict[str, dict[str, int]] = {name: {} for name in self._types}
        for (one, other), count in sorted(self._pairs.items()):
            confusion[self._types[one]][self._types[other]] = count
        by_type = [
            {name: dict(zip(names, row, strict=True)) for name, row in zip(self._types, counts.tolist(), strict=True)}
            for names, counts in ((OUTCOMES, self._true), (OUTCOMES_OF_PREDICTED, self._predicted))
        ]
        return {"true": by_type[0], "predicted": by_type[1], "confusion": confusion}
