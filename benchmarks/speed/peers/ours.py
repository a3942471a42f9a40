"""bilstm through its public interface: what a user writes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.speed.cases import EPSILON, LEARNING_RATE, WINDOW, Case, FloatArray, LabelArray
from benchmarks.speed.peers.base import NO_LOSS, Peer, Runner, Setting
from bilstm import __version__, utils
from bilstm.layers import GRU, LSTM, Bidirectional, Conv1D, Dense, Input, TimeDistributed
from bilstm.models import Sequential
from bilstm.optimizers import Adam
from bilstm.ragged import Ragged

Sequences = FloatArray | Ragged  # an array where all sequences are of one length
Run = Callable[[int], float]

_ROUNDED = ("L3", "P3", "P3 GRU")  # cases whose weights are many


class Bilstm(Peer):
    """As many threads as the environment variable BILSTM_THREADS says, or else as there are processors."""

    convolves = True

    def versions(self) -> dict[str, str]:
        return {"bilstm": f"{__version__} ({utils.target()}, threads: {utils.threads()})"}

    def settings(self, case: Case) -> list[Setting]:
        if case.trains:
            return [Setting("train_on_batch")] if case.one_call else [Setting("fit", granule=case.batches)]
        exact = [Setting("predict")] + [Setting("a predictor")] * (not case.ragged)
        return exact + [Setting("bfloat16 weights", exact=False)] * (case.name in _ROUNDED)

    def prepare(self, case: Case, setting: Setting) -> Runner:
        model = Sequential([Input((None, case.inputs))])
        if case.filters:
            model.add(Conv1D(case.filters, WINDOW, padding="same", activation="relu"))
        cell = GRU if case.cell == "gru" else LSTM
        for _ in range(case.layers):
            model.add(Bidirectional(cell(case.units, return_sequences=True)))
        model.add(TimeDistributed(Dense(case.outputs, activation=case.activation)))
        model.compile(Adam(LEARNING_RATE, epsilon=EPSILON), case.loss)
        model.set_weights(case.weights)
        return runner(model, case, setting)


def runner(model: Sequential, case: Case, setting: Setting) -> Runner:
    """A model that is ready to run."""
    first = _sequences(case, case.data[0].x, 1)
    precision = "float32" if setting.exact else "bfloat16"

    def outputs() -> FloatArray:
        predicted = model.predict(first, precision=precision)
        array: FloatArray = predicted.to_padded() if case.ragged else predicted
        return array

    ways = {"fit": _fit, "train_on_batch": _train_on_batch, "predict": _predict, "a predictor": _predictor}
    ways["bfloat16 weights"] = partial(_predict, precision=precision)
    return Runner(outputs, ways[setting.name](model, case))


def _sequences(case: Case, padded: FloatArray, batches: int) -> Sequences:
    return Ragged.from_padded(padded, case.lengths * batches) if case.ragged else padded


def _labels(case: Case, padded: LabelArray, batches: int) -> Sequences:
    return _sequences(case, padded[:, :, np.newaxis].astype(np.float32), batches)


def _fit(model: Sequential, case: Case) -> Run:
    x = np.concatenate([batch.x for batch in case.data])
    labels = np.concatenate([batch.labels for batch in case.data])
    parts: dict[int, tuple[Sequences, Sequences]] = {}

    def run(steps: int) -> float:
        if steps not in parts:
            rows = slice(steps * case.sequences)
            parts[steps] = _sequences(case, x[rows], steps), _labels(case, labels[rows], steps)
        history = model.fit(*parts[steps], batch_size=case.sequences, shuffle=False, verbose=0)
        return float(history.history["loss"][0])

    return run


def _train_on_batch(model: Sequential, case: Case) -> Run:
    batches = [(_sequences(case, batch.x, 1), _labels(case, batch.labels, 1)) for batch in case.data]

    def run(steps: int) -> float:
        losses = np.array([model.train_on_batch(x, labels) for x, labels in batches[:steps]])  # no metrics: a loss each
        return float(losses.mean())

    return run


def _predict(model: Sequential, case: Case, precision: str = "float32") -> Run:
    batches = [_sequences(case, batch.x, 1) for batch in case.data]

    def run(steps: int) -> float:
        for x in batches[:steps]:
            model.predict(x, precision=precision)
        return NO_LOSS

    return run


def _predictor(model: Sequential, case: Case) -> Run:
    predictor = model.predictor(sequences=case.sequences, steps=case.longest)

    def run(steps: int) -> float:
        for batch in case.data[:steps]:
            predictor(batch.x)
        return NO_LOSS

    return run
