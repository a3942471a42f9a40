"""The epoch loop behind `Sequential.fit`: batches, logs, the lines Keras prints, callbacks."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bilstm.callbacks import Callback, Logs
from bilstm.calls import Pace
from bilstm.engine.network import Targets, first_not_finite
from bilstm.ragged import IndexArray, Ragged

if TYPE_CHECKING:
    from bilstm.models import Sequential

_BAR_WIDTH = 30

Scores = npt.NDArray[np.float64]


class DivergedError(ArithmeticError):
    """The loss became NaN or infinite. The weights are those before the step that would have spoilt them."""


@dataclass(frozen=True)
class FitData:
    """Sequences with their targets; `chosen` are the ones to use."""

    data: Ragged
    targets: Targets
    chosen: IndexArray

    @classmethod
    def all_of(cls, data: Ragged, targets: Targets) -> FitData:
        return cls(data, targets, np.arange(len(data), dtype=np.int64))


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
    callbacks: Sequence[Callback],
    verbose: int,
) -> None:
    """Train for the epochs given, calling callbacks and printing on the way.

    Ctrl-C is heard between two calls of the engine, and leaves the weights reached: no callback is told.

    Raises:
        DivergedError: the loss is not finite.
    """
    for callback in callbacks:
        callback.on_train_begin()
    each_batch = [c for c in callbacks if type(c).on_train_batch_end is not Callback.on_train_batch_end]
    model.stop_training = False
    try:
        for epoch in epochs:
            for callback in callbacks:
                callback.on_epoch_begin(epoch)
            printer = _Printer(epoch, epochs.stop, -(-len(training.chosen) // batch_size), verbose)
            sums = _train_epoch(model, training, batch_size, shuffle, each_batch, printer)
            logs = model.logs_of(sums) | validate(epoch)
            printer.finish(logs)
            for callback in callbacks:
                callback.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
    except Exception:  # and not for Ctrl-C
        _end(callbacks)
        raise
    _end(callbacks)


def _end(callbacks: Sequence[Callback]) -> None:
    for callback in callbacks:
        callback.on_train_end()


def _train_epoch(
    model: Sequential,
    training: FitData,
    batch_size: int,
    shuffle: bool,
    each_batch: Sequence[Callback],
    printer: _Printer,
) -> Scores:
    several = len(training.chosen) > 1
    chosen = model.random.permutation(training.chosen) if shuffle and several else training.chosen
    starts = batch_starts(len(chosen), batch_size)
    ends = training.data.lengths[chosen].cumsum()[starts[1:] - 1]  # steps up to the end of each batch
    pace = Pace(model.weights_per_step)
    sums = np.zeros(5)
    done, trained, batches = 0, 0, len(starts) - 1
    while done < batches:
        end = done + 1 if each_batch else max(done + 1, int(ends.searchsorted(trained + pace.steps, "right")))
        started = time.perf_counter()
        scores = model.train_batches(training, chosen, starts[done : end + 1])
        pace.note(int(ends[end - 1]) - trained, time.perf_counter() - started)
        sums += scores.sum(axis=0)
        if not math.isfinite(sums[0]):
            first = done + int(np.flatnonzero(~np.isfinite(scores[:, 0]))[0])
            raise DivergedError(_why_diverged(training.data, chosen[starts[first] : starts[first + 1]]))
        done, trained = end, int(ends[end - 1])
        for callback in each_batch:
            callback.on_train_batch_end(done - 1, model.logs_of(scores[-1]))
        printer.update(done, model.logs_of(sums) if printer.wants_updates else {})
    return sums


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


class _Printer:
    """Keras's lines: verbose 1 a bar, 2 a line an epoch."""

    def __init__(self, epoch: int, epochs: int, batches: int, verbose: int) -> None:
        self.verbose = verbose
        self.batches = batches
        self.started = time.perf_counter()
        # The bar redraws its line, which only a terminal can.
        self.wants_updates = verbose == 1 and sys.stdout.isatty()
        if verbose:
            print(f"Epoch {epoch + 1}/{epochs}")

    def update(self, done: int, logs: Logs) -> None:
        if self.wants_updates and done < self.batches:
            filled = done * _BAR_WIDTH // self.batches
            bar = "=" * filled + ">" + "." * (_BAR_WIDTH - filled - 1)
            left = (time.perf_counter() - self.started) / done * (self.batches - done)
            print(f"\r{self._count(done)} [{bar}] - ETA: {left:.0f}s{format_logs(logs)}", end="\x1b[K", flush=True)

    def finish(self, logs: Logs) -> None:
        if not self.verbose:
            return
        seconds = time.perf_counter() - self.started
        if self.verbose == 2:
            print(f"{seconds:.0f}s{format_logs(logs)}")
            return
        start = "\r" if self.wants_updates else ""
        step = _step_time(seconds / max(1, self.batches))
        bar = "=" * _BAR_WIDTH
        end = "\x1b[K\n" if self.wants_updates else "\n"
        print(f"{start}{self._count(self.batches)} [{bar}] - {seconds:.0f}s {step}/step{format_logs(logs)}", end=end)

    def _count(self, done: int) -> str:
        return f"{done:>{len(str(self.batches))}}/{self.batches}"


def format_logs(logs: Logs) -> str:
    """Such as " - loss: 0.0967 - acc: 0.9000", numbers as Keras writes them."""
    return "".join(
        f" - {name}: {value:.4f}" if abs(value) > 1e-3 else f" - {name}: {value:.4e}" for name, value in logs.items()
    )


def _step_time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.0f}s"
    return f"{seconds * 1e3:.0f}ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f}us"
