"""The training loop: batches of similar length, a schedule, early stopping on a validation set. No tables here."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_count
from bilstm.errors import DivergedError
from bilstm.models import Sequential
from bilstm.models.fitting import FitData, check_finite
from bilstm.ragged import IndexArray
from bilstm.training.checkpoints import Best, Checkpoint, Snapshot, fingerprint, pack, unpack
from bilstm.training.communicator import ALONE, Communicator, check_same
from bilstm.training.planning import batches_by_length, plan_training
from bilstm.training.shares import idle_workers, score_parts, slow_exchanges, train_shares
from bilstm.training.windows import WindowSource

Progress = Callable[[dict[str, Any]], None]


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C, or a signal like it, after at least one epoch. The model has the best weights until then.

    Attributes:
        summary: what `train_model` would have returned.
    """

    def __init__(self, summary: dict[str, Any]) -> None:
        super().__init__(summary["stopped"])
        self.summary = summary


_WARM_UP = 0.05  # the share of training in which the learning rate rises
_DECAY = 0.998  # what the average of the weights keeps of itself in each training step
_NOT_SCORES = ("learning_rate", "seconds")  # in an epoch's logs; the latter would make each model file another


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """How long to train, and in what batches.

    Attributes:
        epochs: passes over the training sequences; None chooses by their number of steps.
        batch_size: sequences (or windows of long ones) in a training step; None chooses by their length.
        window: for answers for each step: the steps of the windows that sequences are cut into for training. Windows
            begin every `stride` steps; the last one ends with its sequence, and a shorter sequence is one window. None:
            sequences of more than 300 steps are cut into windows of at most 300 steps, at other places in each epoch.
        stride: the steps from the beginning of a window to that of the next, from 1 to `window`; None: `window`.
        patience: epochs without a better validation score after which training stops: of labels of time steps, the
            accuracy; otherwise the loss.
        seed: orders the sequences, and cuts long ones.
        time_limit: seconds after which training stops, with what is best until then; None: no limit.
    """

    epochs: int | None = None
    batch_size: int | None = None
    patience: int = 10
    seed: int = 1
    time_limit: float | None = None
    window: int | None = None
    stride: int | None = None

    def __post_init__(self) -> None:
        check_count("training", "patience", self.patience)
        check_count("training", "seed", self.seed, 0)
        for name in ("epochs", "batch_size", "window", "stride"):
            if getattr(self, name) is not None:
                check_count("training", name, getattr(self, name))
        check_positive("time_limit", self.time_limit)
        if self.stride is not None and self.window is None:
            raise ValueError("training: stride is the distance of windows, and has no effect without window")
        if self.stride is not None and self.window is not None and self.stride > self.window:
            raise ValueError(
                f"training: stride must be at most window, which is {self.window}, not {self.stride}: steps between "
                "windows would never be trained on"
            )
        use_python_numbers(self, LoopOptions)


def use_python_numbers(options: LoopOptions, kind: type[LoopOptions]) -> None:
    """Give fields of a kind of options the types that they are declared with: a model file holds no numbers of NumPy,
    and 0 and 0.0 would make two different files."""
    types = {"int": int, "float": float, "bool": bool}
    for field in fields(kind):
        declared, value = types.get(str(field.type).partition(" ")[0]), getattr(options, field.name)
        if declared and value is not None:
            object.__setattr__(options, field.name, declared(value))


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
    checkpoint: Checkpoint | None = None,
    communicator: Communicator = ALONE,
) -> dict[str, Any]:
    """Train a model, and leave the weights of its best epoch in it.

    The weights that are validated and kept are a moving average over the last few hundred training steps, which is
    closer to the optimum that the weights move around (Polyak & Juditsky 1992).

    If the model returns a row for each step, long sequences are cut into windows for training; if it returns a row for
    each sequence, or ends with a `CRF`, they never are. Validation is on whole sequences.

    Args:
        model: built and compiled. The learning rate rises to the optimizer's and falls to zero at the end; the
            optimizer's own is left as it is.
        training: the sequences to train on.
        validation: those that decide when to stop and which epoch's weights to keep: by loss, unless the model is
            compiled with accuracy and returns a row for each step, which makes enough rows for accuracy to decide.
            None: all epochs are run, and the last one's weights are kept, since the training loss tells how well the
            sequences are memorised.
        options: how long, and in what batches.
        progress: called often with "epoch", "epochs", "done" (share of the epoch), "loss" and, after an epoch, its
            validation scores ("val_loss", "val_accuracy" …), "learning_rate" and "seconds" until then. Called first
            with "resumed", all this of the epochs that had ended, where training continues from a checkpoint. With
            "note", a text, if some workers have nothing to do or wait most of the time.
        checkpoint: where to keep the state of training. A resumed training ends with the same weights, to the last bit,
            as one that was never interrupted. The file stays until `Checkpoint.remove`.
        communicator: the workers that train together; each calls this function with the same model, data and options.
            All end with the same weights, to the last bit, as one worker alone. Only worker 0 needs `progress` and
            `checkpoint`; a training may be resumed by another number of workers.

    Returns:
        Plain data: "epochs" done, "best_epoch" (from 1), "stopped" (why), "history" (of each epoch),
        "sequences" and "steps" trained on, "validation_sequences", "batch_size", and "options" as given; with
        `LoopOptions.window` also "windows", their number.

    Raises:
        ValueError: there is no sequence to train on, or no labelled row to validate on, or windows are asked for where
            the model returns a row for each sequence.
        DivergedError: the loss is not finite in the first epoch. Later this ends training with the best weights.
        TrainingInterrupted: Ctrl-C after the first epoch. A KeyboardInterrupt, as is raised before.
        UserError: the checkpoint cannot be written, or belongs to another training; workers have different data; or a
            worker was lost (`WorkerLostError`).
    """
    run = _Run(model, training, validation, options, progress or (lambda _: None), checkpoint, communicator)
    snapshot = None
    if not communicator.same_data:
        check_same(communicator, run.facts())
    if checkpoint:
        checkpoint.belongs_to(run.facts())
        snapshot = checkpoint.restore(run.network.parameter_count)
    if communicator.size > 1:
        snapshot = unpack(communicator.broadcast(pack(snapshot)), run.network.parameter_count)
    try:
        if snapshot:
            run.resume(snapshot)
        reason = run.train()
    except KeyboardInterrupt as interrupt:
        if run.best is None:
            raise
        reason = f"stopped by the user after epoch {len(run.logs)}"
        raise TrainingInterrupted(run.finish(reason)) from interrupt
    finally:
        run.optimizer.learning_rate = run.highest_rate
    return run.finish(reason)


class _Run:
    """One training: the model, its data, and what is best so far."""

    def __init__(
        self,
        model: Sequential,
        training: FitData,
        validation: FitData | None,
        options: LoopOptions,
        progress: Progress,
        checkpoint: Checkpoint | None,
        communicator: Communicator,
    ) -> None:
        assert model.network is not None
        assert model.optimizer is not None
        self.model, self.network, self.optimizer = model, model.network, model.optimizer
        self.options, self.progress, self.checkpoint = options, progress, checkpoint
        self.communicator, self.out_of_time = communicator, False
        self.keeps = communicator.decide(checkpoint is not None)  # whether one of the workers has a checkpoint
        self.highest_rate: float = model.optimizer.learning_rate
        self.data, self.targets = training.take(slice(None), self.network.one_row_each)
        if not self.data.total_steps:
            raise ValueError("there are no sequences to train on")
        check_finite(self.data)
        self.validation = validation
        self.random = np.random.default_rng([options.seed, 1])
        plan = plan_training(model, self.data.offsets, options)
        self.windows, self.batch_size, self.epochs = plan.windows, plan.batch_size, plan.epochs
        self.logs: list[dict[str, float]] = []  # of each epoch
        self.best: Best | None = None
        self.network.write(self.network.read(), "averages")  # from here on, of the weights after each step
        self.started = time.perf_counter()
        self._begin_epoch()

    def train(self) -> str:
        """Run all epochs, or fewer if training stops early. Returns why there were no more."""
        self._note(idle_workers(self.network, self.batch_size, self.communicator))
        exchanged, started = self.communicator.seconds, time.perf_counter()
        while (reason := self._reason_to_stop()) is None:
            try:
                self._train_epoch()
                self._validate()
                self._begin_epoch()
                if len(self.logs) == 1:
                    self._note(slow_exchanges(self.communicator.seconds - exchanged, time.perf_counter() - started))
                self._note_time()
                self._keep_epoch()
            except DivergedError:
                if self.best is None:
                    raise
                return "the loss was no longer finite"
        return reason

    def _note(self, text: str | None) -> None:
        if text and len(self.logs) < self.epochs:
            self.progress({"epoch": len(self.logs) + 1, "epochs": self.epochs, "done": 0.0, "note": text})

    def _keep_epoch(self) -> None:
        """Write the checkpoint if it is due after an epoch.

        Raises:
            DivergedError: the state of training is not finite: on all workers, so that all stop.
        """
        due = self.checkpoint and (self._reason_to_stop() or self.checkpoint.due(epoch_ended=True))
        if due or (self.keeps and self.communicator.size > 1):
            snapshot = self.snapshot()
            if due and self.checkpoint:
                self.checkpoint.write(snapshot)

    def _begin_epoch(self) -> None:
        self.done, self.sums = 0, np.zeros(5)  # batches, and their scores
        self.random_before = self.random.bit_generator.state

    def _reason_to_stop(self) -> str | None:
        done = len(self.logs)
        if self.best and done - 1 - self.best.epoch >= self.options.patience:
            return f"no better for {self.options.patience} epochs"
        if done and self.out_of_time:
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
            "history": {name: [logs[name] for logs in self.logs] for name in self.logs[0] if name not in _NOT_SCORES},
            "sequences": len(self.data),
            "steps": self.data.total_steps,
            "validation_sequences": len(self.validation.chosen) if self.validation else 0,
            "batch_size": self.batch_size,
            "options": asdict(self.options),
            **({"windows": self.windows.count} if self.options.window else {}),
        }

    def _note_time(self) -> None:
        """Find out whether the time limit is reached, by the clock of worker 0."""
        limit = self.options.time_limit
        self.out_of_time = limit is not None and self.communicator.decide(self._seconds() > limit)

    def _seconds(self) -> float:
        return time.perf_counter() - self.started

    def facts(self) -> dict[str, Any]:
        """What another training must have in common with this one to continue from its checkpoint."""
        network = json.dumps([self.model.get_config(), self.model.seed])
        validation = self.validation
        held_out = (*_arrays(validation), validation.chosen) if validation else ()
        return asdict(self.options) | {
            "the network's layers": fingerprint(network),
            "the sequences to train on": fingerprint(*_arrays(FitData.all_of(self.data, self.targets))),
            "the sequences to validate on": fingerprint(*held_out),
        }

    def snapshot(self) -> Snapshot:
        """All that training has come to.

        Raises:
            DivergedError: it is not finite.
        """
        arrays = {name: self.network.read(name) for name in ("weights", "first_moments", "second_moments")}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise DivergedError("the weights are no longer finite numbers: try a smaller learning rate")
        return Snapshot(
            **arrays,
            average=self.network.read("averages"),
            iteration=self.network.iteration,
            random=self.random_before,
            batches=self.done,
            sums=self.sums,
            logs=self.logs,
            best=self.best,
            seconds=self._seconds(),
        )

    def resume(self, snapshot: Snapshot) -> None:
        """Continue from there. The epoch's batches are drawn again, and those that are done left out."""
        self.network.write(snapshot.weights)
        self.network.write(snapshot.first_moments, "first_moments")
        self.network.write(snapshot.second_moments, "second_moments")
        self.network.write(snapshot.average, "averages")
        self.network.iteration = snapshot.iteration
        self.random.bit_generator.state = self.random_before = dict(snapshot.random)
        self.done, self.sums = snapshot.batches, snapshot.sums
        self.logs, self.best = snapshot.logs, snapshot.best
        self.started -= snapshot.seconds
        self._note_time()
        resumed = [{"epoch": number, **logs} for number, logs in enumerate(self.logs, 1)]
        self.progress({"epoch": len(self.logs) + 1, "epochs": self.epochs, "done": 0.0, "resumed": resumed})

    def _train_epoch(self) -> None:
        """Train on every sequence once, unless time is over before."""
        epoch = len(self.logs)
        source = WindowSource(self.data, self.targets, self.windows.draw(self.random))
        batches = list(batches_by_length(source.lengths, self.batch_size, self.random))
        last = 0.0
        for number in range(self.done, len(batches)):
            batch = batches[number]
            self.optimizer.learning_rate = self._learning_rate(number, len(batches))
            self.sums, self.done = self.sums + self._train_batch(source, batch), number + 1
            if not np.isfinite(self.sums[0]):
                raise DivergedError("the loss is no longer a finite number: try a smaller learning rate")
            self._average()
            if time.perf_counter() - last > 0.1:
                last = time.perf_counter()
                self.progress(
                    {
                        "epoch": epoch + 1,
                        "epochs": self.epochs,
                        "done": number / len(batches),
                        "loss": self._loss(),
                    }
                )
            self._note_time()
            if self.out_of_time:
                break
            if self.checkpoint and self.checkpoint.due(epoch_ended=False):
                with contextlib.suppress(DivergedError):  # the next loss shows it, to all workers
                    self.checkpoint.write(self.snapshot())
        self.optimizer.learning_rate = self._learning_rate(self.done - 1, len(batches))  # also where none was left

    def _train_batch(self, source: WindowSource, batch: IndexArray) -> npt.NDArray[np.float64]:
        """One training step. Returns the batch's (5,) scores."""
        if self.communicator.size > 1:
            return train_shares(self.model, source, batch, self.communicator)
        data = source.batch(batch)
        scores: npt.NDArray[np.float64] = self.model.train_batches(data, data.chosen, np.array([0, len(batch)]))[0]
        return scores

    def _average(self) -> None:
        """Let the average follow the weights: in the first steps more closely, since it began with the initial ones."""
        step = self.network.iteration
        self.network.average(1 - min(_DECAY, (1 + step) / (10 + step)))

    def _loss(self) -> float:
        """The mean of the epoch so far."""
        return float(self.sums[0] / max(self.sums[1], 1.0))

    def _learning_rate(self, batch: int, batches: int) -> float:
        """Of this one in the epoch: it rises linearly, then falls along a half cosine (Loshchilov & Hutter 2017)."""
        progress = (len(self.logs) + batch / batches) / self.epochs
        if progress < _WARM_UP:
            return self.highest_rate * max(progress / _WARM_UP, 1e-3)
        falling = (progress - _WARM_UP) / (1 - _WARM_UP)
        return self.highest_rate * max(0.5 * (1 + math.cos(math.pi * falling)), 1e-3)

    def _validate(self) -> None:
        """Judge the weights' average after the epoch that has ended, and keep it if nothing was better."""
        loss, weights, average = self._loss(), self.network.read(), self.network.read("averages")
        logs, score = {"loss": loss}, (0.0, -loss)
        if self.validation:
            self.network.write(average)
            sums = score_parts(self.model, self.validation, self.communicator)
            self.network.write(weights)
            if not sums[1]:
                raise ValueError("no row of the sequences to validate on is labelled")
            found = self.model.logs_of(sums)
            logs |= {f"val_{name}": value for name, value in found.items()}
            score = (0.0, -found["loss"])
            if not self.network.one_row_each:  # of a few hundred sequences, all are right by chance before long
                score = (found.get("accuracy", found.get("acc", 0.0)), -found["loss"])
        if not (math.isfinite(score[1]) and np.isfinite(weights).all()):
            raise DivergedError("the weights are no longer finite numbers: try a smaller learning rate")
        best = self.best
        if best is None or not self.validation or score > best.score:
            best = Best(score, len(self.logs), average)
        self.logs.append(logs | {"learning_rate": self.optimizer.learning_rate, "seconds": round(self._seconds(), 3)})
        self.best = best
        self.progress({"epoch": len(self.logs), "epochs": self.epochs, "done": 1.0, **self.logs[-1]})


def _arrays(part: FitData) -> tuple[Any, ...]:
    data, targets = part.data, part.targets
    words = () if data.words is None else (data.words.values, data.words.offsets)
    return data.values, data.offsets, *words, targets.labels, targets.values, targets.weights
