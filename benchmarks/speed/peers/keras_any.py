"""Keras 3 on the backend that the environment variable KERAS_BACKEND names: TensorFlow or JAX.

Sequences of different lengths are padded behind a Masking layer, which makes them exact. All batches are padded to the
same number of steps, so that nothing is compiled twice.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from benchmarks.speed.cases import EPSILON, LEARNING_RATE, WINDOW, Case
from benchmarks.speed.peers.base import NO_LOSS, Peer, Runner, Setting

_SHORT = 10  # at most so many steps are worth unrolling
_AT_ONCE = 100  # training steps that TensorFlow runs without coming back to Python


class Keras(Peer):
    convolves = True

    def __init__(self) -> None:
        self.tensorflow = keras.backend.backend() == "tensorflow"

    def versions(self) -> dict[str, str]:
        return {"Keras": keras.__version__} | _backend_versions(self.tensorflow)

    def settings(self, case: Case) -> list[Setting]:
        if not case.trains:
            calls = {"predict_on_batch": 1}
        else:
            calls = {"train_on_batch": 1}
            if not case.one_call and case.batches >= _AT_ONCE:  # with fewer, its cost for a call weighs too much
                calls["fit"] = _AT_ONCE
        # Unrolling helps TensorFlow only, and XLA takes half a minute to compile it.
        ways = [(True, False), (False, False)] if self.tensorflow else [(True, False)]
        if self.tensorflow and case.longest <= _SHORT:
            ways.append((False, True))
        return [
            Setting(
                call + ", compiled by XLA" * (jit and self.tensorflow) + ", unrolled" * unroll,
                granule=granule,
                options={"call": call, "jit": jit, "unroll": unroll},
            )
            for call, granule in calls.items()
            for jit, unroll in ways
        ]

    def prepare(self, case: Case, setting: Setting) -> Runner:
        assert setting.options is not None
        model = _build(case, setting.options["unroll"])
        model.compile(
            keras.optimizers.Adam(LEARNING_RATE, epsilon=EPSILON),
            case.loss,
            jit_compile=setting.options["jit"],
            steps_per_execution=setting.granule if self.tensorflow else 1,
        )
        calls = {"fit": _fit, "train_on_batch": _train_on_batch, "predict_on_batch": _predict}
        return Runner(
            lambda: np.asarray(model.predict_on_batch(case.data[0].x)), calls[setting.options["call"]](model, case)
        )


def _backend_versions(tensorflow: bool) -> dict[str, str]:
    name, package = ("TensorFlow", "tensorflow") if tensorflow else ("JAX", "jax")
    return {name: importlib.import_module(package).__version__}


def _build(case: Case, unroll: bool) -> Any:
    layers = keras.layers
    model = keras.Sequential([layers.Input((case.longest, case.inputs), batch_size=case.sequences)])
    if case.ragged:
        model.add(layers.Masking(0.0))
    if case.filters:
        model.add(layers.Conv1D(case.filters, WINDOW, padding="same", activation="relu"))
    cell = layers.GRU if case.cell == "gru" else layers.LSTM
    for _ in range(case.layers):
        model.add(layers.Bidirectional(cell(case.units, return_sequences=True, unroll=unroll)))
    model.add(layers.Dense(case.outputs, activation=case.activation))
    model.set_weights(case.weights)
    return model


def _labels(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """The mask hides what stands after a sequence's last step, which need only be a valid class."""
    return np.maximum(labels, 0)[:, :, np.newaxis].astype(np.float32)


def _fit(model: Any, case: Case) -> Callable[[int], float]:
    x = np.concatenate([batch.x for batch in case.data])
    labels = _labels(np.concatenate([batch.labels for batch in case.data]))

    def run(steps: int) -> float:
        rows = slice(steps * case.sequences)
        history = model.fit(x[rows], labels[rows], batch_size=case.sequences, shuffle=False, verbose=0)
        return float(history.history["loss"][0])

    return run


def _train_on_batch(model: Any, case: Case) -> Callable[[int], float]:
    batches = [(batch.x, _labels(batch.labels)) for batch in case.data]

    def run(steps: int) -> float:
        return float(np.mean([float(model.train_on_batch(x, labels)) for x, labels in batches[:steps]]))

    return run


def _predict(model: Any, case: Case) -> Callable[[int], float]:
    def run(steps: int) -> float:
        for batch in case.data[:steps]:
            model.predict_on_batch(batch.x)
        return NO_LOSS

    return run
