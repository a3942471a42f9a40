"""The training loop: batches of similar length, a schedule, early stopping on held-out sequences. No tables here."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bilstm.arguments import check_count
from bilstm.fitting import DivergedError, FitData, check_finite
from bilstm.models import Sequential
from bilstm.ragged import FloatArray, IndexArray, Ragged, offsets_of

Progress = Callable[[dict[str, Any]], None]


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C, or what stands for it, after at least one epoch. The model has the best weights until then.

    Attributes:
        summary: what `train_model` would have returned.
    """

    def __init__(self, summary: dict[str, Any]) -> None:
        super().__init__(summary["stopped"])
        self.summary = summary


# In training, sequences longer than this are cut into pieces of at most this many steps, at other places each epoch:
# more and shorter rows fill the processor better, and more updates are made. Prediction is never cut.
LONGEST_PIECE = 300
_STEPS_IN_BATCH = 3600
_UPDATES = 600  # at least, in all epochs together
_MOST_EPOCHS = 200
_POOL = 16  # batches sorted by length together
_WARM_UP = 0.05  # the share of training in which the learning rate rises


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """How long to train, and in what batches.

    Attributes:
        epochs: passes over the training sequences; None chooses by their number of steps.
        batch_size: sequences (or pieces of long ones) in a training step; None chooses by their length.
        patience: epochs without a better validation score after which training stops.
        seed: orders the sequences, and cuts long ones.
        time_limit: seconds after which training stops, with what is best until then; None: no limit.
    """

    epochs: int | None = None
    batch_size: int | None = None
    patience: int = 10
    seed: int = 1
    time_limit: float | None = None

    def __post_init__(self) -> None:
        check_count("training", "patience", self.patience)
        check_count("training", "seed", self.seed, 0)
        for name in ("epochs", "batch_size"):
            if getattr(self, name) is not None:
                check_count("training", name, getattr(self, name))
        check_positive("time_limit", self.time_limit)


def check_positive(name: str, value: float | None) -> None:
    """Refuse an option that is neither None nor a finite number above 0."""
    if value is not None and not 0 < value < math.inf:
        raise ValueError(f"training: {name} must be a positive number, not {value!r}")


def train_model(
    model: Sequential,
    training: FitData,
    validation: FitData | None,
    options: LoopOptions,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a model, and leave the weights of its best epoch in it.

    Where the model returns a row for each step, long sequences are cut into pieces for training; where it returns one
    for each sequence, never.

    Args:
        model: built and compiled. The learning rate rises to the optimizer's and falls to zero at the end; the
            optimizer's own is left as it is.
        training: the sequences to train on.
        validation: those that decide when to stop and which epoch's weights to keep: by accuracy, if the model is
            compiled with it, then by loss. None: the training loss decides.
        options: how long, and in what batches.
        progress: called often with "epoch", "epochs", "done" (share of the epoch), "loss" and, after an epoch, its
            validation scores ("val_loss", "val_accuracy" …).

    Returns:
        Plain data: "epochs" done, "best_epoch" (from 1), "stopped" (why), "history" (of each epoch), "seconds",
        "sequences" and "steps" trained on, "held_out_sequences", "batch_size", and "options" as given.

    Raises:
        ValueError: there is no sequence to train on, or no labelled row to validate on.
        DivergedError: the loss is not finite in the first epoch. Later this ends training with the best weights.
        TrainingInterrupted: Ctrl-C after the first epoch. A KeyboardInterrupt, as is raised before.
    """
    run = _Run(model, training, validation, options, progress or (lambda _: None))
    try:
        reason = run.train()
    except KeyboardInterrupt as interrupt:
        if run.best is None:
            raise
        reason = f"stopped by the user after epoch {len(run.logs)}"
        raise TrainingInterrupted(run.finish(reason)) from interrupt
    finally:
        run.optimizer.learning_rate = run.highest_rate
    return run.finish(reason)


@dataclass(frozen=True)
class _Best:
    """What is best so far; replaced as a whole, so that Ctrl-C finds it whole."""

    score: tuple[float, float]  # accuracy, minus loss
    epoch: int
    weights: FloatArray


class _Run:
    """One training: the model, its data, and what is best so far."""

    def __init__(
        self,
        model: Sequential,
        training: FitData,
        validation: FitData | None,
        options: LoopOptions,
        progress: Progress,
    ) -> None:
        assert model.network is not None
        assert model.optimizer is not None
        self.model, self.network, self.optimizer = model, model.network, model.optimizer
        self.options, self.progress = options, progress
        self.highest_rate = model.optimizer.learning_rate
        self.data, self.targets = training.take(slice(None), self.network.one_row_each)
        if not self.data.total_steps:
            raise ValueError("there are no sequences to train on")
        check_finite(self.data)
        self.validation = validation
        self.random = np.random.default_rng([options.seed, 1])
        self.pieces = np.ones(len(self.data), np.int64)
        if not self.network.one_row_each:
            self.pieces = np.maximum(1, -(-self.data.lengths // LONGEST_PIECE))
        self.batch_size = options.batch_size or self._default_batch_size()
        self.epochs = options.epochs or self._default_epochs()
        self.logs: list[dict[str, float]] = []  # of each epoch
        self.best: _Best | None = None
        self.started = time.perf_counter()

    def _default_batch_size(self) -> int:
        mean_length = self.data.total_steps / int(self.pieces.sum())
        few = max(1, int(self.pieces.sum()) // 8)  # little data: several updates an epoch all the same
        return int(min(64, max(8, round(_STEPS_IN_BATCH / mean_length)), max(4, few)))

    def _default_epochs(self) -> int:
        batches = -(-int(self.pieces.sum()) // self.batch_size)
        return min(_MOST_EPOCHS, max(20, -(-_UPDATES // batches)))

    def train(self) -> str:
        """Run all epochs, or as many as are of use. Returns why there were no more."""
        while (reason := self._reason_to_stop()) is None:
            try:
                self._validate(self._train_epoch())
            except DivergedError:
                if self.best is None:
                    raise
                return "the loss was no longer finite"
        return reason

    def _reason_to_stop(self) -> str | None:
        done = len(self.logs)
        if self.best and done - 1 - self.best.epoch >= self.options.patience:
            return f"no better for {self.options.patience} epochs"
        if done and self._over_time():
            return "the time limit was reached"
        return "all epochs done" if done >= self.epochs else None

    def finish(self, reason: str) -> dict[str, Any]:
        """Give the model its best weights, and sum up a training that ended for this reason."""
        assert self.best is not None
        self.network.write(self.best.weights)
        return {
            "epochs": len(self.logs),
            "best_epoch": self.best.epoch + 1,
            "stopped": reason,
            "history": {name: [logs[name] for logs in self.logs] for name in self.logs[0]},
            "seconds": round(time.perf_counter() - self.started, 3),
            "sequences": len(self.data),
            "steps": self.data.total_steps,
            "held_out_sequences": len(self.validation.chosen) if self.validation else 0,
            "batch_size": self.batch_size,
            "options": asdict(self.options),
        }

    def _over_time(self) -> bool:
        limit = self.options.time_limit
        return limit is not None and time.perf_counter() - self.started > limit

    def _train_epoch(self) -> float:
        """Train on every sequence once, unless time is over before. Returns the mean loss."""
        epoch = len(self.logs)
        pieces = Ragged(self.data.values, self._cut())
        data = FitData.all_of(pieces, self.targets)
        batches = list(batches_by_length(pieces.lengths, self.batch_size, self.random))
        sums, last = np.zeros(5), 0.0
        for number, batch in enumerate(batches):
            self.optimizer.learning_rate = self._learning_rate((epoch + number / len(batches)) / self.epochs)
            scores = self.model.train_batches(data, batch, np.array([0, len(batch)], np.int64))
            sums += scores[0]
            if not np.isfinite(sums[0]):
                raise DivergedError("the loss is no longer a finite number: try a smaller learning rate")
            if time.perf_counter() - last > 0.1:
                last = time.perf_counter()
                self.progress(
                    {
                        "epoch": epoch + 1,
                        "epochs": self.epochs,
                        "done": number / len(batches),
                        "loss": float(sums[0] / max(sums[1], 1.0)),
                    }
                )
            if self._over_time():
                break
        return float(sums[0] / max(sums[1], 1))

    def _cut(self) -> IndexArray:
        """Offsets of this epoch's pieces: the training sequences, those that are too long cut at random places."""
        if self.pieces.max() == 1:
            return self.data.offsets
        lengths = []
        for length, pieces in zip(self.data.lengths.tolist(), self.pieces.tolist(), strict=True):
            if pieces == 1:
                lengths.append(length)
                continue
            first = int(self.random.integers(1, LONGEST_PIECE + 1))
            cuts = [0, *range(first, length, LONGEST_PIECE), length]
            lengths += [b - a for a, b in itertools.pairwise(cuts)]
        return offsets_of(lengths)

    def _learning_rate(self, progress: float) -> float:
        """Rises linearly, then falls along a half cosine (Loshchilov & Hutter 2017)."""
        if progress < _WARM_UP:
            return self.highest_rate * max(progress / _WARM_UP, 1e-3)
        falling = (progress - _WARM_UP) / (1 - _WARM_UP)
        return self.highest_rate * max(0.5 * (1 + math.cos(math.pi * falling)), 1e-3)

    def _validate(self, loss: float) -> None:
        """Judge the epoch that has ended with this loss, and keep its weights if they are the best."""
        logs, score = {"loss": loss}, (0.0, -loss)
        if self.validation:
            sums = self.model.score(self.validation)
            if not sums[1]:
                raise ValueError("no row of the sequences to validate on is labelled")
            found = self.model.logs_of(sums)
            logs |= {f"val_{name}": value for name, value in found.items()}
            score = (found.get("accuracy", found.get("acc", 0.0)), -found["loss"])
        weights = self.network.read()
        if not (math.isfinite(score[1]) and np.isfinite(weights).all()):
            raise DivergedError("the weights are no longer finite numbers: try a smaller learning rate")
        best = self.best
        if best is None or score > best.score:
            best = _Best(score, len(self.logs), weights)
        self.logs.append(logs)
        self.best = best
        self.progress({"epoch": len(self.logs), "epochs": self.epochs, "done": 1.0, **logs})


def batches_by_length(lengths: IndexArray, batch_size: int, random: np.random.Generator) -> Iterator[IndexArray]:
    """Shuffled batches of sequences of similar length: within a pool of some batches, sorted by length.

    Args:
        lengths: (n,) steps of each sequence.

    Returns:
        Index arrays that together hold every sequence once.
    """
    order = random.permutation(len(lengths)).astype(np.int64)
    batches = []
    for start in range(0, len(order), batch_size * _POOL):
        pool = order[start : start + batch_size * _POOL]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    for position in random.permutation(len(batches)):
        yield batches[position]
