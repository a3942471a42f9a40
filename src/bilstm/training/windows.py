"""The windows that long sequences are cut into for training: ranges of steps, of which a batch's are copied only."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from bilstm.engine.plans import Targets
from bilstm.models.fitting import FitData
from bilstm.ragged import IndexArray, Ragged, offsets_of, steps_between

# Longer sequences are cut into windows of at most this many steps unless a window is asked for: more and shorter rows
# fill the processor better, and more updates are made. Prediction is never cut.
LONGEST = 300
Ranges = tuple[IndexArray, IndexArray]  # the first step of each window, and the step after its last


@dataclass(frozen=True)
class Windows:
    """How sequences are cut in each epoch.

    Attributes:
        offsets: (n_sequences + 1,) where the sequences begin and end.
        fixed: the windows of every epoch; None: they are drawn anew in each.
        count: the number of windows, at random cuts the least.
        steps: the steps of all windows, those of several counted as often.
    """

    offsets: IndexArray
    fixed: Ranges | None
    count: int
    steps: int

    def draw(self, random: np.random.Generator) -> Ranges:
        """The windows of an epoch."""
        if self.fixed is not None:
            return self.fixed
        lengths: list[int] = []
        for length in np.diff(self.offsets).tolist():
            if length <= LONGEST:
                lengths.append(length)
                continue
            first = int(random.integers(1, LONGEST + 1))
            cuts = [0, *range(first, length, LONGEST), length]
            lengths += [b - a for a, b in itertools.pairwise(cuts)]
        offsets = offsets_of(lengths)
        return offsets[:-1], offsets[1:]


def windows_for(offsets: IndexArray, window: int | None, stride: int | None = None, *, cut: bool = True) -> Windows:
    """How to cut sequences.

    Args:
        offsets: (n_sequences + 1,) where they begin and end.
        window, stride: see `LoopOptions`.
        cut: whether long sequences are cut where no window is asked for.
    """
    lengths = np.diff(offsets)
    if window is not None:
        starts, stops = find_windows(offsets, window, stride)
        return Windows(offsets, (starts, stops), len(starts), int((stops - starts).sum()))
    total = int(offsets[-1])
    if not cut or lengths.max(initial=0) <= LONGEST:
        return Windows(offsets, (offsets[:-1], offsets[1:]), len(lengths), total)
    return Windows(offsets, None, int((-(-lengths // LONGEST)).sum()), total)


def find_windows(offsets: IndexArray, window: int, stride: int | None = None) -> Ranges:
    """The windows of sequences: one every `stride` steps (None: `window`), and one that ends with the sequence.

    Args:
        offsets: (n_sequences + 1,) where sequences begin and end; one shorter than a window is one window.
    """
    stride = stride or window
    room = np.maximum(np.diff(offsets) - window, 0)  # the last window's start, within its sequence
    counts = -(-room // stride) + 1
    sequence = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(sequence)) - np.repeat(offsets_of(counts)[:-1], counts)
    starts = offsets[sequence] + np.minimum(number * stride, room[sequence])
    return starts, np.minimum(starts + window, offsets[sequence + 1])


class WindowSource:
    """Gives windows of sequences to the engine.

    Args:
        data, targets: the sequences, with a target for each step, or for each sequence if these are whole.
        ranges: the windows.
    """

    def __init__(self, data: Ragged, targets: Targets, ranges: Ranges) -> None:
        self._data, self._targets = data, targets
        self._starts, self._stops = ranges
        self.lengths = self._stops - self._starts
        offsets = offsets_of(self.lengths)
        self._labelled: IndexArray | None = None  # the rows before each row that are; made when first needed
        self._all = None
        if np.array_equal(offsets[:-1], self._starts):  # one after the other, so they need no copy
            self._all = Ragged(data.values, offsets, data.words)

    def batch(self, chosen: IndexArray) -> FitData:
        """Some windows, by their indices."""
        if self._all is not None:
            return FitData(self._all, self._targets, chosen)
        steps = steps_between(self._starts[chosen], self._stops[chosen])
        data = self._data.take_steps(steps, offsets_of(self.lengths[chosen]))
        return FitData.all_of(data, self._targets.take(steps))

    def count_labelled(self, chosen: IndexArray, one_row_each: bool) -> int:
        """How many rows of some windows are labelled.

        Args:
            one_row_each: whether a sequence has one target, rather than each of its steps.
        """
        if self._labelled is None:
            self._labelled = offsets_of(self._targets.labelled)
        starts, stops = (chosen, chosen + 1) if one_row_each else (self._starts[chosen], self._stops[chosen])
        return int((self._labelled[stops] - self._labelled[starts]).sum())
