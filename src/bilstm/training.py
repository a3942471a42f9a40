"""Training a tagger: the network, batches of similar length, a schedule, early stopping on held-out sequences."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bilstm.arguments import check_choice, check_count, check_fraction
from bilstm.columns import Columns, Encoded
from bilstm.engine.network import MERGES, Targets
from bilstm.fitting import DivergedError, FitData
from bilstm.layers import LSTM, Bidirectional, ColumnEmbedding, Dense, Dropout, Layer, Reverse, TimeDistributed
from bilstm.models import Sequential
from bilstm.optimizers import Adam
from bilstm.ragged import FloatArray, IndexArray, Ragged, offsets_of
from bilstm.tagger import Tagger

DIRECTIONS = ("both", "forward", "backward")
Progress = Callable[[dict[str, Any]], None]


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C, or what stands for it, after at least one epoch.

    Attributes:
        tagger: the best model until then.
    """

    def __init__(self, tagger: Tagger) -> None:
        super().__init__(tagger.training["stopped"])
        self.tagger = tagger


# In training, sequences longer than this are cut into pieces of at most this many steps, at other places each epoch:
# more and shorter rows fill the processor better, and more updates are made. Prediction is never cut.
LONGEST_PIECE = 300
_STEPS_IN_BATCH = 3600
_UPDATES = 600  # at least, in all epochs together
_MOST_EPOCHS = 200
_POOL = 16  # batches sorted by length together
_WARM_UP = 0.05  # the share of training in which the learning rate rises


@dataclass(frozen=True)
class TrainingOptions:
    """How to train; the defaults are the product's.

    Attributes:
        units: of each LSTM, in each direction.
        layers: number of recurrent layers.
        merge_mode: how the directions' outputs are merged: "concat", "sum", "mul" or "ave".
        direction: "both", or only "forward" or "backward".
        dropout: share of numbers dropped before and after each recurrent layer.
        embedding: numbers in a category's embedding; None chooses by the vocabulary's size.
        epochs: passes over the training sequences; None chooses by their number of steps.
        batch_size: sequences (or pieces of long ones) in a training step; None chooses by their length.
        learning_rate: the highest reached; it rises at first and falls to zero at the end.
        patience: epochs without a better validation score after which training stops.
        validation_split: the share of sequences held out.
        seed: the same seed and data give the same model, bit for bit.
        time_limit: seconds after which training stops, with what is best until then; None: no limit.
    """

    units: int = 128
    layers: int = 2
    merge_mode: str = "concat"
    direction: str = "both"
    dropout: float = 0.3
    embedding: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float = 0.004
    patience: int = 10
    validation_split: float = 0.1
    seed: int = 1
    time_limit: float | None = None

    def __post_init__(self) -> None:
        for name in ("units", "layers", "patience"):
            check_count("training", name, getattr(self, name))
        for name in ("embedding", "epochs", "batch_size"):
            if getattr(self, name) is not None:
                check_count("training", name, getattr(self, name))
        check_choice("training", "merge_mode", self.merge_mode, MERGES)
        check_choice("training", "direction", self.direction, DIRECTIONS)
        check_fraction("training", "dropout", self.dropout)
        check_fraction("training", "validation_split", self.validation_split)
        for name in ("learning_rate", "time_limit"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"training: {name} must be a positive number, not {value!r}")


def build_model(columns: Columns, options: TrainingOptions) -> Sequential:
    """The network: embeddings of categories, recurrent layers with dropout, a softmax over the classes."""
    layers: list[Layer] = []
    features = columns.numeric_width + len(columns.vocabularies)
    if columns.vocabularies:
        dimensions = [options.embedding or embedding_dimension(size) for size in columns.vocabularies]
        layers += [ColumnEmbedding(columns.numeric_width, columns.vocabularies, dimensions), Dropout(options.dropout)]
    for _ in range(options.layers):
        layers += _recurrent(options)
        layers.append(Dropout(options.dropout))
    layers.append(TimeDistributed(Dense(len(columns.classes), activation="softmax")))
    model = Sequential(layers, seed=options.seed)
    model.build((None, features))
    model.compile(Adam(options.learning_rate, global_clipnorm=1.0), "sparse_categorical_crossentropy", ["accuracy"])
    return model


def embedding_dimension(vocabulary: int) -> int:
    """Numbers in an embedding: 16 for a handful of values, 128 for many thousand."""
    return int(min(128, max(8, 8 * round(2 * vocabulary**0.25))))


def _recurrent(options: TrainingOptions) -> list[Layer]:
    if options.direction == "both":
        return [Bidirectional(LSTM(options.units, return_sequences=True), merge_mode=options.merge_mode)]
    if options.direction == "forward":
        return [LSTM(options.units, return_sequences=True)]
    return [LSTM(options.units, return_sequences=True, go_backwards=True), Reverse()]


def train_tagger(
    columns: Columns,
    training: Encoded,
    validation: Encoded | None,
    *,
    options: TrainingOptions | None = None,
    progress: Progress | None = None,
) -> Tagger:
    """Train on labelled sequences.

    Args:
        validation: sequences that decide when to stop and which epoch's weights to keep; where None, a part of
            `training` is held out.
        progress: called often with "epoch", "epochs", "done" (share of the epoch), "loss" and, after an epoch, its
            "val_loss" and "val_accuracy".

    Raises:
        DivergedError: the loss is not finite in the first epoch.
        TrainingInterrupted: Ctrl-C after the first epoch; holds the best model. A KeyboardInterrupt, as is raised
            before.
    """
    options = options or TrainingOptions()
    if validation is None:
        training, validation = _hold_out(training, options)
    run = _Run(columns, training, validation, options, progress or (lambda _: None))
    try:
        reason = run.train()
    except KeyboardInterrupt as interrupt:
        if run.best is None:
            raise
        reason = f"stopped by the user after epoch {len(run.logs)}"
        raise TrainingInterrupted(run.tagger(reason)) from interrupt
    return run.tagger(reason)


def _hold_out(training: Encoded, options: TrainingOptions) -> tuple[Encoded, Encoded | None]:
    count = len(training.values)
    held_out = min(max(1, round(count * options.validation_split)), count - 1) if options.validation_split else 0
    if not held_out:
        return training, None
    order = np.random.default_rng(options.seed).permutation(count)
    return training.take(np.sort(order[held_out:])), training.take(np.sort(order[:held_out]))


@dataclass(frozen=True)
class _Best:
    """What is best so far; replaced as a whole, so that Ctrl-C finds it whole."""

    score: tuple[float, float]  # accuracy, minus loss
    epoch: int
    weights: list[FloatArray]


class _Run:
    """One training: the model, its data, and what is best so far."""

    def __init__(
        self,
        columns: Columns,
        training: Encoded,
        validation: Encoded | None,
        options: TrainingOptions,
        progress: Progress,
    ) -> None:
        self.options, self.progress = options, progress
        self.columns = columns
        self.training, self.targets = training, Targets(labels=training.labels)
        self.validation = validation and FitData.all_of(validation.values, Targets(labels=validation.labels))
        self.model = build_model(columns, options)
        self.random = np.random.default_rng([options.seed, 1])
        self.pieces = -(-training.values.lengths // LONGEST_PIECE)
        self.batch_size = options.batch_size or self._default_batch_size()
        self.epochs = options.epochs or self._default_epochs()
        self.logs: list[dict[str, float]] = []  # of each epoch
        self.best: _Best | None = None
        self.started = time.perf_counter()

    def _default_batch_size(self) -> int:
        mean_length = self.training.values.total_steps / max(1, int(self.pieces.sum()))
        few = max(1, int(self.pieces.sum()) // 8)  # small tables: several updates an epoch all the same
        return int(min(64, max(8, round(_STEPS_IN_BATCH / mean_length)), max(4, few)))

    def _default_epochs(self) -> int:
        batches = -(-int(self.pieces.sum()) // self.batch_size)
        return min(_MOST_EPOCHS, max(20, -(-_UPDATES // batches)))

    def train(self) -> str:
        """Run all epochs, or as many as are of use. Returns why there were no more."""
        for epoch in range(self.epochs):
            try:
                loss = self._train_epoch(epoch)
            except DivergedError:
                if self.best is None:
                    raise
                return "the loss was no longer finite"
            best = self._validate(epoch, loss)
            if epoch - best.epoch >= self.options.patience:
                return f"no better for {self.options.patience} epochs"
            if self._over_time():
                return "the time limit was reached"
        return "all epochs done"

    def tagger(self, reason: str) -> Tagger:
        """The best model, and the summary of a training that ended for this reason."""
        assert self.best is not None
        self.model.set_weights(self.best.weights)
        summary = {
            "epochs": len(self.logs),
            "best_epoch": self.best.epoch + 1,
            "stopped": reason,
            "history": {name: [logs[name] for logs in self.logs] for name in self.logs[0]},
            "seconds": round(time.perf_counter() - self.started, 3),
            "sequences": len(self.training.values),
            "steps": self.training.values.total_steps,
            "held_out_sequences": len(self.validation.data) if self.validation else 0,
            "batch_size": self.batch_size,
            "options": asdict(self.options),
        }
        return Tagger(self.columns, self.model, summary)

    def _over_time(self) -> bool:
        limit = self.options.time_limit
        return limit is not None and time.perf_counter() - self.started > limit

    def _train_epoch(self, epoch: int) -> float:
        pieces = Ragged(self.training.values.values, self._cut())
        data = FitData.all_of(pieces, self.targets)
        batches = list(batches_by_length(pieces.lengths, self.batch_size, self.random))
        sums, last = np.zeros(5), 0.0
        for number, batch in enumerate(batches):
            assert isinstance(self.model.optimizer, Adam)
            self.model.optimizer.learning_rate = self._learning_rate((epoch + number / len(batches)) / self.epochs)
            scores = self.model.train_batches(data, batch, np.array([0, len(batch)], np.int64))
            sums += scores[0]
            if not np.isfinite(sums[0]):
                raise DivergedError("the loss is no longer a finite number: try a smaller --learning-rate")
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
        lengths = []
        for length, pieces in zip(self.training.values.lengths.tolist(), self.pieces.tolist(), strict=True):
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
            return self.options.learning_rate * max(progress / _WARM_UP, 1e-3)
        falling = (progress - _WARM_UP) / (1 - _WARM_UP)
        return self.options.learning_rate * max(0.5 * (1 + math.cos(math.pi * falling)), 1e-3)

    def _validate(self, epoch: int, loss: float) -> _Best:
        logs = {"loss": loss}
        score = (0.0, -loss)
        if self.validation:
            found = self.model.logs_of(self.model.score(self.validation))
            logs |= {f"val_{name}": value for name, value in found.items()}
            score = (found["accuracy"], -found["loss"])
        best = self.best
        if best is None or score > best.score:
            best = _Best(score, epoch, self.model.get_weights())
        self.logs.append(logs)
        self.best = best
        self.progress({"epoch": epoch + 1, "epochs": self.epochs, "done": 1.0, **logs})
        return best


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
