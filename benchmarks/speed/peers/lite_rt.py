"""LiteRT (TensorFlow Lite), with its own sequence operator for an LSTM, or with TensorFlow's loop over the steps.

Sequences of different lengths are turned around by hand.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from benchmarks.speed.cases import Case
from benchmarks.speed.peers.base import Predicting, Setting, directions

# By these, and a name that begins with lstm_, the converter recognizes a function that its operator can replace.
_FUSED = {"api_preferred_device": "CPU", "time_major": True, "go_backwards": False}


class LiteRt(Predicting):
    def versions(self) -> dict[str, str]:
        return {"LiteRT": importlib.metadata.version("ai-edge-litert")}

    def settings(self, case: Case) -> list[Setting]:
        settings = super().settings(case) if case.cell == "lstm" else []
        return [
            Setting(f"{way}, {each.name}", granule=each.granule, options=(each.options or {}) | {"fused": fused})
            for way, fused in (("its LSTM", True), ("a loop", False))
            for each in settings
        ]

    def load(self, case: Case, threads: int, fused: bool = True) -> Callable[[Any], Any]:
        interpreter = Interpreter(model_content=_model(case, fused), num_threads=threads)
        interpreter.allocate_tensors()
        x, y = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

        def predict(batch: Any) -> np.ndarray:
            interpreter.reset_all_variables()  # the operator would go on from its last states
            interpreter.set_tensor(x, batch)
            interpreter.invoke()
            predicted: np.ndarray = interpreter.get_tensor(y)
            return predicted

        return predict


def _model(case: Case, fused: bool) -> bytes:
    shape = (case.longest, case.sequences, case.inputs)
    module = tf.Module()
    module.network = tf.function(partial(_network, case, fused), [tf.TensorSpec(shape)], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.network.get_concrete_function()], module)
    return bytes(converter.convert())


def _network(case: Case, fused: bool, x: Any) -> Any:
    for layer in range(case.layers):
        forward, backward = (
            _lstm(case, fused, f"{layer}_{direction}", _turned(case, x) if direction else x, weights)
            for number, direction, weights in directions(case)
            if number == layer
        )
        x = tf.concat([forward, _turned(case, backward)], 2)
    logits = tf.matmul(tf.reshape(x, (-1, 2 * case.units)), case.weights[-2]) + case.weights[-1]
    return tf.sigmoid(logits) if case.outputs == 1 else tf.nn.softmax(logits)


def _turned(case: Case, x: Any) -> Any:
    """Each sequence from its last step to its first."""
    if not case.ragged:
        return tf.reverse(x, [0])
    rows = (case.reversal.T * case.sequences + np.arange(case.sequences)).ravel()
    return tf.reshape(tf.gather(tf.reshape(x, (-1, x.shape[2])), rows), x.shape)


def _lstm(case: Case, fused: bool, name: str, x: Any, weights: list[np.ndarray]) -> Any:
    """All outputs of a direction. The converter wants this signature, Keras 2's, to put its operator in the place."""

    def standard_lstm(x: Any, h: Any, c: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
        outputs = tf.TensorArray(tf.float32, case.longest, element_shape=h.shape)

        def step(t: Any, h: Any, c: Any, outputs: Any) -> Any:
            i, f, g, o = tf.split(tf.matmul(x[t], kernel) + tf.matmul(h, recurrent) + bias, 4, 1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            h = tf.sigmoid(o) * tf.tanh(c)
            return t + 1, h, c, outputs.write(t, h)

        _, h, c, outputs = tf.while_loop(lambda t, *_: t < case.longest, step, (0, h, c, outputs))
        return h, outputs.stack(), h, c, tf.constant(0.0)

    attributes = _FUSED | {"api_implements": f"lstm_{name}"} if fused else None
    direction = tf.function(standard_lstm, autograph=False, experimental_attributes=attributes)
    zeros = tf.zeros((case.sequences, case.units))
    y = direction(x, zeros, zeros, *map(tf.constant, weights))[1]
    return tf.ensure_shape(y, (case.longest, case.sequences, case.units))
