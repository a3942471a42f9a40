"""The loops behind `Sequential`: epochs and batches of `fit`, pieces of `evaluate` and `predict`, and who is told."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bilstm.callbacks import Callbacks, Logs
from bilstm.engine.network import first_not_finite
from bilstm.engine.plans import Targets
from bilstm.errors import DivergedError
from bilstm.models.calls import Pace, pieces
from bilstm.models.progress import Bar
from bilstm.ragged import IndexArray, Ragged, steps_of

if TYPE_CHECKING:
    from bilstm.models import Sequential

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FitData:
    """Sequences with their targets; `chosen` are the ones to use."""

    data: Ragged
    targets: Targets
    chosen: IndexArray

    @classmethod
    def all_of(cls, data: Ragged, targets: Targets) -> FitData:
        return cls(data, targets, np.arange(len(data), dtype=np.int64))

    def split(self, share: float) -> tuple[FitData, FitData]:
        """As Keras does: the share that comes last is the second part, before any shuffling.

        Raises:
            ValueError: nothing is left on one side.
        """
        count = len(self.chosen)
        cut = int(count * (1.0 - share))
        if not 0 < cut < count:
            raise ValueError(f"fit: validation_split={share} of {count} sequences leaves nothing on one side")
        return replace(self, chosen=self.chosen[:cut]), replace(self, chosen=self.chosen[cut:])

    def take(self, piece: slice, one_row_each: bool) -> tuple[Ragged, Targets]:
        """A piece of those chosen, with the targets of its rows."""
        chosen = self.chosen[piece]
        if len(chosen) == len(self.data):  # all, in their order
            return self.data, self.targets
        return self.data[chosen], self.targets.take(chosen if one_row_each else steps_of(self.data.offsets, chosen))


def check_finite(data: Ragged) -> None:
    """Even in an unlabelled step, a number that is not finite would spoil every weight: it makes gradients NaN.

    Raises:
        DivergedError: there is such a number; the message says where.
    """
    if first_not_finite(data.values) >= 0:
        raise DivergedError(_why_diverged(data, np.arange(len(data), dtype=np.int64)))


def batch_starts(count: int, batch_size: int) -> IndexArray:
    """Bounds of batches: 0, batch_size, …, count."""
    return np.array([*range(0, count, batch_size), count], np.int64)


def run_epochs(
    model: Sequential,
    training: FitData,
    *,
    batch_size: int,
    epochs: range,
    shuffle: bool,
    validate: Callable[[int], Logs],
    callbacks: Callbacks,
    verbose: int,
) -> None:
    """Train for the epochs given, calling callbacks and printing on the way.

    Ctrl-C is heard between two calls of the engine, and leaves the weights reached: no callback is told.

    Raises:
        DivergedError: the loss is not finite.
    """
    model.stop_training = False
    logs: Logs = {}
    callbacks.tell("on_train_begin", {})
    try:
        for epoch in epochs:
            callbacks.tell("on_epoch_begin", epoch, {})
            bar = Bar(-(-len(training.chosen) // batch_size), verbose, f"Epoch {epoch + 1}/{epochs.stop}")
            sums = _train_epoch(model, training, batch_size, shuffle, callbacks, bar)
            logs = model.logs_of(sums) | validate(epoch)
            bar.finish(logs)
            callbacks.tell("on_epoch_end", epoch, logs)
            if model.stop_training:
                break
    except Exception:  # and not for Ctrl-C
        callbacks.tell("on_train_end", logs)
        raise
    callbacks.tell("on_train_end", logs)


def _train_epoch(
    model: Sequential, training: FitData, batch_size: int, shuffle: bool, callbacks: Callbacks, bar: Bar
) -> Scores:
    several = len(training.chosen) > 1
    chosen = model.random.permutation(training.chosen) if shuffle and several else training.chosen
    starts = batch_starts(len(chosen), batch_size)
    batches, sums, done = len(starts) - 1, np.zeros(5), 0
    each = callbacks.listen_to("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    pace = None
    if not each and batches > 1:
        pace = Pace(training.data.lengths[chosen].cumsum()[starts[1:] - 1], model.weights_per_step)
    while done < batches:
        end = pace.next(done) if pace else done + 1
        if each:
            callbacks.tell("on_train_batch_begin", done, {})
        started = time.perf_counter()
        scores = model.train_batches(training, chosen, starts[done : end + 1])
        if pace:
            pace.note(done, end, time.perf_counter() - started)
        # One batch after the other: how many make a call depends on how long they take, and their sums must not.
        sums = sums + scores[0] if len(scores) == 1 else np.vstack([sums, scores]).cumsum(axis=0)[-1]
        if not math.isfinite(sums[0]):
            first = done + int(np.flatnonzero(~np.isfinite(scores[:, 0]))[0])
            raise DivergedError(_why_diverged(training.data, chosen[starts[first] : starts[first + 1]]))
        done = end
        if each:
            callbacks.tell("on_train_batch_end", done - 1, model.logs_of(sums))
        bar.update(done, model.logs_of(sums) if bar.moves else {})
        if model.stop_training:
            break
    return sums


@dataclass(frozen=True)
class Watch:
    """Who watches an evaluation or a prediction, and how closely.

    Attributes:
        batch_size: sequences in what callbacks are told is a batch, and what the bar counts. Results do not depend on
            it.
        verbose: what is printed; see `Bar`.
    """

    callbacks: Callbacks = field(default_factory=Callbacks)
    batch_size: int = 32
    verbose: int = 0

    def over(self, kind: str, lengths: IndexArray, weights: int, work: Callable[[slice], Mapping[str, Any]]) -> None:
        """Do the work on all sequences, a slice of them at a time, and tell of it.

        Args:
            kind: "test" or "predict": which of the callbacks' methods are called.
            lengths: (n,) steps of each sequence.
            weights: by how many weights each step is multiplied.
            work: works on a slice in one call of the engine, and returns the logs until then.
        """
        count = len(lengths)
        self.callbacks.tell(f"on_{kind}_begin", {})
        bar = Bar(-(-count // self.batch_size), self.verbose)
        each = self.callbacks.listen_to(f"on_{kind}_batch_begin", f"on_{kind}_batch_end")
        batches = (slice(i, min(i + self.batch_size, count)) for i in range(0, count, self.batch_size))
        logs: Mapping[str, Any] = {}
        for number, part in enumerate(batches if each else pieces(lengths, weights)):
            self.callbacks.tell(f"on_{kind}_batch_begin", number, {})
            logs = work(part)
            self.callbacks.tell(f"on_{kind}_batch_end", number, logs)
            bar.update(part.stop // self.batch_size, logs if kind == "test" else {})
        known = logs if kind == "test" else {}
        bar.finish(known)
        self.callbacks.tell(f"on_{kind}_end", known)


UNWATCHED = Watch()


def _why_diverged(data: Ragged, batch: IndexArray) -> str:
    for sequence in batch:
        wrong = ~np.isfinite(data[int(sequence)])
        if wrong.any():
            step, feature = np.argwhere(wrong)[0]
            value = data[int(sequence)][step, feature]
            place = f"sequence {sequence}, step {step}, feature {feature}"
            return f"x has {value} in {place}: only finite numbers can be learnt"
    return (
        "the loss is no longer a finite number: try a smaller learning rate, or clipnorm; the weights were not spoilt"
    )
