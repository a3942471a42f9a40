"""The loops behind `Sequential`: the epochs and batches of `fit`, the chunks of `evaluate` and `predict`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bilstm.callbacks import Callbacks, Logs
from bilstm.engine.network import first_not_finite
from bilstm.engine.plans import Targets
from bilstm.errors import DivergedError, UserError
from bilstm.models.calls import Pace, chunks
from bilstm.models.progress import Bar
from bilstm.ragged import IndexArray, Ragged, offsets_of, steps_of

if TYPE_CHECKING:
    from bilstm.models import Sequential

Scores = npt.NDArray[np.float64]
# What one call of the engine trains on: data, and batches chosen[starts[i]:starts[i + 1]] of its sequences.
Call = tuple["FitData", IndexArray, IndexArray]
Train = Callable[["FitData", IndexArray, IndexArray], Scores]


@dataclass(frozen=True)
class FitData:
    """Sequences with their targets; `chosen` are the ones to use."""

    data: Ragged
    targets: Targets
    chosen: IndexArray

    @classmethod
    def all_of(cls, data: Ragged, targets: Targets) -> FitData:
        return cls(data, targets, np.arange(len(data), dtype=np.int64))

    @classmethod
    def joined(cls, parts: Sequence[FitData]) -> FitData:
        """All sequences of several, one after the other."""
        if len(parts) == 1:
            return parts[0]
        words = parts[0].data.words
        if any(part.data.words is not words for part in parts):
            raise ValueError("fit: all batches must have one table of words in common, the same Ragged")
        data = Ragged(
            np.concatenate([part.data.values for part in parts]),
            offsets_of(np.concatenate([part.data.lengths for part in parts])),
            words,
        )
        targets = [part.targets for part in parts]
        weighted = any(each.weights is not None for each in targets)
        weights = [np.ones(len(t.labelled), np.float32) if t.weights is None else t.weights for t in targets]
        labels = [each.labels for each in targets if each.labels is not None]
        values = [each.values for each in targets if each.values is not None]
        return cls.all_of(
            data,
            Targets(
                np.concatenate(labels) if labels else None,
                np.concatenate(values) if values else None,
                np.concatenate(weights) if weighted else None,
            ),
        )

    def split(self, share: float) -> tuple[FitData, FitData]:
        """As Keras does: the last `share` of the sequences is the second part, before any shuffling.

        Raises:
            ValueError: nothing is left on one side.
        """
        count = len(self.chosen)
        cut = int(count * (1.0 - share))
        if not 0 < cut < count:
            raise ValueError(f"fit: validation_split={share} of {count} sequences leaves nothing on one side")
        return replace(self, chosen=self.chosen[:cut]), replace(self, chosen=self.chosen[cut:])

    def take(self, chunk: slice, one_row_each: bool) -> tuple[Ragged, Targets]:
        """A slice of the chosen sequences, with the targets of their rows."""
        chosen = self.chosen[chunk]
        if len(chosen) == len(self.data):  # all, in their order
            return self.data, self.targets
        return self.data[chosen], self.targets.take(self._rows(chosen, one_row_each))

    def check_labelled(self, what: str, one_row_each: bool) -> FitData:
        """Itself.

        Raises:
            UserError: none of the chosen sequences' rows is labelled, so that their loss would be NaN.
        """
        if len(self.chosen) and not self.targets.labelled[self._rows(self.chosen, one_row_each)].any():
            raise UserError(f"{what} has no labelled {'sequence' if one_row_each else 'step'}: its loss would be NaN")
        return self

    def _rows(self, chosen: IndexArray, one_row_each: bool) -> IndexArray:
        return chosen if one_row_each else steps_of(self.data.offsets, chosen)


def check_finite(data: Ragged) -> None:
    """Even in an unlabelled step, NaN or infinity would make all gradients NaN.

    Raises:
        UserError: the data contains such a value; the message says where.
    """
    index = first_not_finite(data.values)
    if index >= 0:
        step, feature = divmod(index, data.features)
        sequence = int(np.searchsorted(data.offsets, step, "right")) - 1
        where = f"sequence {sequence}, step {step - data.offsets[sequence]}, feature {feature}"
        raise UserError(f"x has {data.values[step, feature]} in {where}: every value must be a finite number")


def batch_starts(count: int, batch_size: int) -> IndexArray:
    """Bounds of batches: 0, batch_size, …, count."""
    return np.array([*range(0, count, batch_size), count], np.int64)


@dataclass(frozen=True)
class ArrayBatches:
    """The batches that `fit` makes of arrays."""

    training: FitData
    batch_size: int
    shuffle: bool

    @property
    def count(self) -> int:
        """The number of batches of an epoch."""
        return -(-len(self.training.chosen) // self.batch_size)

    def calls(self, model: Sequential, each: bool) -> Iterator[Call]:
        """One epoch, as calls of the engine for several batches, or with `each` for one batch each."""
        chosen = self.training.chosen
        if self.shuffle and len(chosen) > 1:
            chosen = model.random.permutation(chosen)
        starts = batch_starts(len(chosen), self.batch_size)
        pace, done = None, 0
        if not each and self.count > 1:
            pace = Pace(self.training.data.lengths[chosen].cumsum()[starts[1:] - 1], model.weights_per_step)
        while done < self.count:
            end = pace.next(done) if pace else done + 1
            started = time.perf_counter()
            yield self.training, chosen, starts[done : end + 1]
            if pace:
                pace.note(done, end, time.perf_counter() - started)
            done = end


class GivenBatches:
    """Batches that the user's generator makes, or an object like Keras's `Sequence`, with a length and an index.

    Args:
        owner: the method, for messages.
        source: yields, or is indexed for, (x, y) or (x, y, sample_weight).
        steps: batches of an epoch; None: all that an indexed source has, or an iterator still has.
        prepare: makes the engine's form of x, y and sample_weight.
        shuffle: whether each epoch takes the batches of an indexed source in another order.
    """

    def __init__(
        self, owner: str, source: Any, steps: int | None, prepare: Callable[..., FitData], *, shuffle: bool = False
    ) -> None:
        self.owner, self.source, self.prepare, self.shuffle = owner, source, prepare, shuffle
        self.indexed = hasattr(source, "__len__") and hasattr(source, "__getitem__")
        self.count = steps if steps is not None or not hasattr(source, "__len__") else len(source)

    def calls(self, model: Sequential, each: bool) -> Iterator[Call]:
        """One epoch; the engine is called for each batch."""
        for data in self.batches(model.random if self.shuffle else None):
            yield data, data.chosen, np.array([0, len(data.chosen)], np.int64)

    def batches(self, random: np.random.Generator | None = None) -> Iterator[FitData]:
        """The batches of one epoch.

        Raises:
            UserError: there are fewer than an epoch has, or one is no (x, y) or (x, y, sample_weight).
        """
        number = 0
        for number, batch in enumerate(self._epoch(random), 1):
            if not isinstance(batch, (list, tuple)) or not 2 <= len(batch) <= 3:
                raise UserError(f"{self.owner}: batch {number - 1} must be (x, y) or (x, y, sample_weight)")
            data = self.prepare(*batch)
            if not len(data.chosen):
                raise UserError(f"{self.owner}: batch {number - 1} has no sequences")
            yield data
            if number == self.count:
                break
        if number < (self.count or 1):
            expected = f"{self.count} batches of an epoch" if self.count else "any batch of this epoch"
            raise UserError(f"{self.owner}: the batches ended after {number}, before {expected}")
        getattr(self.source, "on_epoch_end", lambda: None)()

    def _epoch(self, random: np.random.Generator | None) -> Iterator[Any]:
        if self.indexed:
            order = random.permutation(len(self.source)) if random else range(len(self.source))
            return (self.source[int(index)] for index in order)
        if not hasattr(self.source, "__next__"):
            return iter(self.source)  # from the start in each epoch
        return self.source  # type: ignore[no-any-return]


def are_batches(x: Any, y: Any) -> bool:
    """Whether x is a source of batches, which has the targets in itself, rather than sequences."""
    others = isinstance(x, (list, tuple, Mapping, str, Ragged)) or hasattr(x, "__array__") or hasattr(x, "columns")
    return y is None and not others and (hasattr(x, "__iter__") or hasattr(x, "__getitem__"))


def run_epochs(
    model: Sequential,
    training: ArrayBatches | GivenBatches,
    *,
    epochs: range,
    validate: Callable[[int], Logs],
    callbacks: Callbacks,
    verbose: int,
    train: Train,
) -> None:
    """Train for the given epochs, calling callbacks and printing progress.

    Args:
        train: trains on the batches of a call, and returns their scores, as `Network.train` does.

    Ctrl-C takes effect between two calls of the engine and keeps the weights reached; callbacks are not notified.

    Raises:
        DivergedError: the loss is not finite.
    """
    model.stop_training = False
    logs: Logs = {}
    callbacks.notify("on_train_begin", {})
    try:
        for epoch in epochs:
            callbacks.notify("on_epoch_begin", epoch, {})
            bar = Bar(training.count or 0, verbose, f"Epoch {epoch + 1}/{epochs.stop}")
            sums = _train_epoch(model, training, callbacks, bar, train)
            logs = model.logs_of(sums) | validate(epoch)
            bar.finish(logs)
            callbacks.notify("on_epoch_end", epoch, logs)
            if model.stop_training:
                break
    except Exception:  # and not for Ctrl-C
        callbacks.notify("on_train_end", logs)
        raise
    callbacks.notify("on_train_end", logs)


def _train_epoch(
    model: Sequential,
    training: ArrayBatches | GivenBatches,
    callbacks: Callbacks,
    bar: Bar,
    train: Train,
) -> Scores:
    sums, done = np.zeros(5), 0
    each = callbacks.override("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    for data, chosen, starts in training.calls(model, each):
        if each:
            callbacks.notify("on_train_batch_begin", done, {})
        scores = train(data, chosen, starts)
        # Added one batch after the other: how many make a call depends on the time they take, and their sums must not.
        sums = sums + scores[0] if len(scores) == 1 else np.vstack([sums, scores]).cumsum(axis=0)[-1]
        if not np.isfinite(sums[0]):
            raise DivergedError(
                "the loss is no longer a finite number: try a smaller learning rate, or clipnorm; the weights are "
                "those before the step that would have made them NaN"
            )
        done += len(starts) - 1
        if each:
            callbacks.notify("on_train_batch_end", done - 1, model.logs_of(sums))
        bar.update(done, model.logs_of(sums) if bar.moves else {})
        if model.stop_training:
            break
    bar.batches = bar.batches or done
    return sums


@dataclass(frozen=True)
class CallbackContext:
    """The callbacks of an evaluation or a prediction, and what is printed.

    Attributes:
        batch_size: sequences in what callbacks see as a batch, and what the bar counts. Results do not depend on it.
        verbose: what is printed; see `Bar`.
    """

    callbacks: Callbacks = field(default_factory=Callbacks)
    batch_size: int = 32
    verbose: int = 0

    def over(self, kind: str, lengths: IndexArray, weights: int, work: Callable[[slice], Mapping[str, Any]]) -> None:
        """Do the work on all sequences, a slice of them at a time, and notify the callbacks.

        Args:
            kind: "test" or "predict": which of the callbacks' methods are called.
            lengths: (n,) steps of each sequence.
            weights: the number of weights that each step is multiplied by.
            work: works on a slice in one call of the engine, and returns the logs until then.
        """
        count = len(lengths)
        self.callbacks.notify(f"on_{kind}_begin", {})
        bar = Bar(-(-count // self.batch_size), self.verbose)
        each = self.callbacks.override(f"on_{kind}_batch_begin", f"on_{kind}_batch_end")
        batches = (slice(i, min(i + self.batch_size, count)) for i in range(0, count, self.batch_size))
        logs: Mapping[str, Any] = {}
        for number, part in enumerate(batches if each else chunks(lengths, weights)):
            self.callbacks.notify(f"on_{kind}_batch_begin", number, {})
            logs = work(part)
            self.callbacks.notify(f"on_{kind}_batch_end", number, logs)
            bar.update(part.stop // self.batch_size, logs if kind == "test" else {})
        known = logs if kind == "test" else {}
        bar.finish(known)
        self.callbacks.notify(f"on_{kind}_end", known)


SILENT = CallbackContext()
