"""Live against Keras 3: callbacks are called in the same order, with the same numbers and logs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import bilstm.callbacks
import bilstm.layers
import bilstm.models

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what Keras's and PyTorch's own imports warn of is not ours to judge
    keras = pytest.importorskip("keras")

# PyTorch and Keras warn of their own use of each other; bilstm's warnings stay errors.
pytestmark = pytest.mark.filterwarnings("ignore:::keras", "ignore:::torch")

HOOKS = [
    *(f"on_{what}_{when}" for what in ("train", "test", "predict", "epoch") for when in ("begin", "end")),
    *(f"on_{what}_batch_{when}" for what in ("train", "test", "predict") for when in ("begin", "end")),
]
LIBRARIES = (bilstm, keras)
STEPS, FEATURES = 4, 2
Call = tuple[str, list[int], dict[str, Any]]


def recorder(library: Any, hooks: list[str], stop: tuple[str, int] | None = None) -> tuple[Any, list[Call]]:
    """A callback of the library that overrides these hooks, and the calls that it gets; it may stop a fit at one."""
    calls: list[Call] = []

    def method(hook: str) -> Any:
        def note(self: Any, *arguments: Any, logs: Any = None) -> None:
            *numbers, logs = arguments if isinstance(arguments[-1], dict) else (*arguments, logs)
            known = {name: np.array(value, np.float64).reshape(-1) for name, value in logs.items()}
            calls.append((hook, numbers, known))
            if stop and (hook, *numbers) == stop:
                self.model.stop_training = True

        return note

    kind = type("Recorder", (library.callbacks.Callback,), {hook: method(hook) for hook in hooks})
    return kind(), calls


def models() -> list[Any]:
    made = []
    for library in LIBRARIES:
        layers = library.layers
        model = library.models.Sequential(
            [
                layers.Input((STEPS, FEATURES)),
                layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
                layers.TimeDistributed(layers.Dense(1, activation="sigmoid")),
            ]
        )
        if made:
            model.set_weights(made[0].get_weights())
        model.compile(loss="binary_crossentropy", optimizer="adam", metrics=["acc"])
        made.append(model)
    return made


def assert_same_calls(ours: list[Call], theirs: list[Call]) -> None:
    assert [(hook, numbers, set(logs)) for hook, numbers, logs in ours] == [
        (hook, numbers, set(logs)) for hook, numbers, logs in theirs
    ]
    for (hook, numbers, mine), (_, _, other) in zip(ours, theirs, strict=True):
        for name, value in mine.items():
            np.testing.assert_allclose(value, other[name], rtol=1e-4, err_msg=f"{hook} {numbers} {name}")


@pytest.fixture
def data() -> tuple[Any, Any]:
    x = np.random.default_rng(1).random((11, STEPS, FEATURES)).astype(np.float32)
    return x, (x.sum(axis=2, keepdims=True) > 1).astype(np.float32)


@pytest.mark.parametrize(
    ("hooks", "settings", "stop"),
    [
        (HOOKS, {"validation_split": 0.3}, None),
        (HOOKS, {"validation_split": 0.3, "validation_batch_size": 1}, None),
        (HOOKS, {"validation_split": 0.3, "validation_freq": 2, "initial_epoch": 1}, None),
        (HOOKS, {}, None),
        (HOOKS, {"validation_split": 0.3}, ("on_train_batch_end", 1)),
        (HOOKS, {"validation_split": 0.3}, ("on_epoch_end", 1)),
        (HOOKS, {"validation_split": 0.3}, ("on_epoch_begin", 1)),
        (["on_batch_begin", "on_batch_end"], {}, None),
        (["on_test_begin", "on_test_end"], {"validation_split": 0.5}, None),
        (["on_train_batch_begin"], {}, None),
    ],
)
def test_in_a_fit(hooks: list[str], settings: dict[str, Any], stop: tuple[str, int] | None, data: Any) -> None:
    found = []
    for library, model in zip(LIBRARIES, models(), strict=True):
        callback, calls = recorder(library, hooks, stop)
        model.fit(*data, batch_size=3, epochs=3, shuffle=False, verbose=0, callbacks=[callback], **settings)
        found.append(calls)
    assert_same_calls(*found)
    assert found[0]


@pytest.mark.parametrize("hooks", [HOOKS, ["on_test_batch_end"], ["on_test_end"]], ids=len)
@pytest.mark.parametrize("batch_size", [None, 3, 100])
def test_in_an_evaluation(hooks: list[str], batch_size: int | None, data: Any) -> None:
    found, scores = [], []
    for library, model in zip(LIBRARIES, models(), strict=True):
        callback, calls = recorder(library, hooks)
        scores.append(model.evaluate(*data, batch_size=batch_size, verbose=0, callbacks=[callback]))
        found.append(calls)
    assert_same_calls(*found)
    assert found[0]
    np.testing.assert_allclose(*scores, rtol=1e-5)


@pytest.mark.parametrize("hooks", [HOOKS, ["on_predict_batch_end"], ["on_predict_begin"]], ids=len)
@pytest.mark.parametrize("batch_size", [None, 3, 100])
def test_in_a_prediction(hooks: list[str], batch_size: int | None, data: Any) -> None:
    found, outputs = [], []
    for library, model in zip(LIBRARIES, models(), strict=True):
        callback, calls = recorder(library, hooks)
        outputs.append(model.predict(data[0], batch_size=batch_size, verbose=0, callbacks=[callback]))
        found.append(calls)
    assert_same_calls(*found)
    assert found[0]
    np.testing.assert_allclose(*outputs, rtol=1e-4)


def test_params() -> None:
    x, y = np.zeros((7, STEPS, FEATURES)), np.zeros((7, STEPS, 1))
    for call in (
        lambda model, callback: model.fit(x, y, batch_size=3, epochs=2, verbose=0, callbacks=[callback]),
        lambda model, callback: model.evaluate(x, y, batch_size=2, verbose=0, callbacks=[callback]),
        lambda model, callback: model.predict(x, verbose=0, callbacks=[callback]),
    ):
        params = []
        for library, model in zip(LIBRARIES, models(), strict=True):
            callback, _ = recorder(library, [])
            call(model, callback)
            assert callback.model is model
            params.append(callback.params)
        assert params[0].items() >= params[1].items()


def test_every_hook_of_kerass_is_there() -> None:
    names = {name for name in vars(keras.callbacks.Callback) if name.startswith(("on_", "set_"))}
    assert names == {name for name in vars(bilstm.callbacks.Callback) if name.startswith(("on_", "set_"))}
    assert set(HOOKS) | {"on_batch_begin", "on_batch_end", "set_params", "set_model"} == names
