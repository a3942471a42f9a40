"""Sequential.fit: which sequences go into which step, and what is returned and refused."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm.callbacks import LambdaCallback
from bilstm.errors import DivergedError, UserError
from bilstm.layers import LSTM, Dense, Dropout
from bilstm.models import Sequential, calls
from bilstm.models.fitting import FitData, batch_starts
from bilstm.optimizers import SGD, Adam
from bilstm.ragged import Ragged
from oracles.models import Case, above_half, cases, compiled, weight_bits

SIZES = st.integers(1, 9)


class Watched(Sequential):
    """Keeps the batches that it was trained on."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.batches: list[list[int]] = []

    def train_batches(self, training: FitData, chosen: Any, starts: Any) -> Any:
        self.batches += [chosen[a:b].tolist() for a, b in pairwise(starts)]
        return super().train_batches(training, chosen, starts)


def watched(seed: int = 1) -> Watched:
    model = Watched([Dense(1, "sigmoid", input_shape=(None, 1))], seed=seed)
    model.compile("sgd", "binary_crossentropy", ["acc"])
    return model


# --- Batches ---------------------------------------------------------------------------------------------------------


@given(SIZES, st.integers(1, 12), st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_an_epoch_uses_every_sequence_once(n: int, batch_size: int, epochs: int, shuffle: bool, seed: int) -> None:
    model, (x, y) = watched(seed), above_half(n)
    model.fit(x, y, batch_size=batch_size, epochs=epochs, shuffle=shuffle, verbose=0)
    per_epoch = -(-n // batch_size)
    assert len(model.batches) == epochs * per_epoch
    for epoch in range(epochs):
        batches = model.batches[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert [len(batch) for batch in batches[:-1]] == [batch_size] * (per_epoch - 1)
        order = [sequence for batch in batches for sequence in batch]
        assert sorted(order) == list(range(n))
        assert shuffle or order == list(range(n))


@given(st.integers(1, 40), st.integers(1, 12))
def test_batches_follow_each_other(count: int, batch_size: int) -> None:
    starts = batch_starts(count, batch_size).tolist()
    assert starts[0] == 0
    assert starts[-1] == count
    sizes = np.diff(starts).tolist()
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert 0 < sizes[-1] <= batch_size


def test_shuffling_differs_between_epochs_and_seeds_but_not_between_runs() -> None:
    orders = []
    for seed in (1, 1, 2):
        model, (x, y) = watched(seed), above_half(20)
        model.fit(x, y, batch_size=20, epochs=2, verbose=0)
        orders.append(model.batches)
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0][0] != orders[0][1]


@given(cases(crf=True), st.integers(1, 4))
@settings(max_examples=30)
def test_a_fit_is_a_training_step_for_each_batch(case: Case, batch_size: int) -> None:
    fitted, stepped = case.model(), case.model()
    history = fitted.fit(case.data, case.y, batch_size=batch_size, shuffle=False, verbose=0).history
    sums, rows = np.zeros(4), 0
    for start in range(0, len(case.data), batch_size):
        part = slice(start, start + batch_size)
        first, last = case.data.offsets[[start, min(start + batch_size, len(case.data))]]
        y = case.y[part] if case.one_row_each else case.y[first:last]
        labelled = (y >= 0).sum() if y.ndim == 1 else (~np.isnan(y).any(axis=1)).sum()
        scores = np.array(stepped.train_on_batch(case.data[part], y))
        if labelled:
            sums, rows = sums + labelled * scores, rows + labelled
    assert weight_bits(fitted) == weight_bits(stepped)
    assert [values[0] for values in history.values()] == pytest.approx((sums / rows).tolist(), rel=1e-9)


@pytest.mark.parametrize(("batch_size", "steps"), [(None, 2), (10, 4), (100, 1)])
def test_batches_of_32_unless_said(batch_size: int | None, steps: int) -> None:
    model, (x, y) = watched(), above_half(40)
    model.fit(x, y, batch_size=batch_size, verbose=0)
    assert len(model.batches) == steps


@pytest.mark.parametrize("batches", [1, 7, 20])
def test_many_batches_in_several_calls_of_the_engine(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    several, one = compiled(["mse", "mae"]), compiled(["mse", "mae"])
    x, y = above_half(50)
    with monkeypatch.context() as patch:
        patch.setattr(calls, "_TRAINING", 4 * batches * several.weights_per_step)
        patch.setattr(calls.Pace, "note", lambda *_: None)
        history = several.fit(x, y, batch_size=1, verbose=0).history
    assert one.fit(x, y, batch_size=1, verbose=0).history == history  # to the last bit, however long calls take
    assert weight_bits(several) == weight_bits(one)


# --- Forms of x and y ------------------------------------------------------------------------------------------------


def test_every_form_of_the_same_data_gives_the_same_weights() -> None:
    x, y = above_half(6)
    forms: list[tuple[Any, Any]] = [
        (x, y),
        (x[:, :, 0], y[:, :, 0]),
        (x.tolist(), y.tolist()),
        (list(x), list(y)),
        (Ragged.from_padded(x), Ragged.from_padded(y)),
        (Ragged.from_padded(x), y.reshape(-1)),
        (x.astype(np.float64), y.astype(bool)),
    ]
    results = []
    for form in forms:
        model = compiled()
        model.fit(*form, batch_size=2, epochs=2, verbose=0)
        results.append(weight_bits(model))
    assert results == [results[0]] * len(forms)


# --- Epochs and validation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "initial", "run"), [(1, 0, [0]), (3, 0, [0, 1, 2]), (5, 3, [3, 4]), (2, 2, []), (1, 4, [])]
)
def test_epochs(epochs: int, initial: int, run: list[int]) -> None:
    x, y = above_half(4)
    history = compiled(["acc"]).fit(x, y, epochs=epochs, initial_epoch=initial, verbose=0)
    assert history.epoch == run
    assert {name: len(values) for name, values in history.history.items()} == (
        {"loss": len(run), "acc": len(run)} if run else {}
    )
    assert history.params["epochs"] == epochs


def test_epochs_by_their_name_in_keras_1() -> None:
    x, y = above_half(4)
    assert compiled().fit(x, y, nb_epoch=3, verbose=0).epoch == [0, 1, 2]


@given(st.integers(2, 12), st.floats(0.05, 0.95))
def test_the_last_sequences_are_held_out(n: int, share: float) -> None:
    cut = int(n * (1 - share))
    model, (x, y) = watched(), above_half(n)
    if not 0 < cut < n:
        with pytest.raises(ValueError, match=re.escape(f"validation_split={share} of {n} sequences leaves nothing")):
            model.fit(x, y, validation_split=share, verbose=0)
        return
    history = model.fit(x, y, validation_split=share, verbose=0).history
    assert sorted(sequence for batch in model.batches for sequence in batch) == list(range(cut))
    assert list(history) == ["loss", "acc", "val_loss", "val_acc"]
    assert [history["val_loss"][0], history["val_acc"][0]] == model.evaluate(x[cut:], y[cut:])


@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
def test_validation_data(weights: Any) -> None:
    (x, y), (other_x, other_y) = above_half(4), above_half(2, steps=7, seed=1)
    model, alone = compiled(["acc"]), compiled(["acc"])
    held_out = (other_x, other_y) if weights is None else (other_x, other_y, weights)
    history = model.fit(x, y, epochs=2, validation_data=held_out, validation_split=0.5, verbose=0).history
    alone.fit(x, y, epochs=2, verbose=0)
    assert weight_bits(model) == weight_bits(alone)  # no sequence is split off, and validation changes nothing
    expected = model.evaluate(other_x, other_y, sample_weight=weights)
    assert [history["val_loss"][1], history["val_acc"][1]] == expected


@pytest.mark.parametrize(("every", "validated"), [(1, 6), (2, 3), (3, 2), (7, 0)])
def test_validation_now_and_then(every: int, validated: int) -> None:
    x, y = above_half(4)
    logs: list[Any] = []
    note = LambdaCallback(lambda epoch, values: logs.append("val_loss" in values))
    history = (
        compiled().fit(x, y, epochs=6, validation_split=0.5, validation_freq=every, callbacks=note, verbose=0).history
    )
    assert logs == [(epoch + 1) % every == 0 for epoch in range(6)]
    assert len(history.get("val_loss", [])) == validated


def test_dropout_is_for_training_only() -> None:
    model = Sequential([Dropout(0.9, input_shape=(None, 1)), Dense(1, "sigmoid")], seed=1)
    model.compile(SGD(1e-30), "mse")  # the weights stay as they are
    x, y = above_half(8)
    history = model.fit(x, y, validation_data=(x, y), verbose=0).history
    assert history["val_loss"][0] == model.evaluate(x, y)
    assert history["loss"][0] != pytest.approx(history["val_loss"][0], rel=1e-3)


# --- What cannot be learnt -------------------------------------------------------------------------------------------


@given(
    st.integers(0, 5), st.integers(0, 3), st.integers(0, 1), st.sampled_from([np.nan, np.inf, -np.inf]), st.booleans()
)
@settings(max_examples=40)
def test_a_number_that_is_not_finite_is_named(
    sequence: int, step: int, feature: int, value: float, labelled: bool
) -> None:
    model = Sequential([LSTM(3, return_sequences=True, input_shape=(None, 2)), Dense(1, "sigmoid")], seed=1)
    model.compile("adam", "binary_crossentropy")
    before = weight_bits(model)
    x, y = np.ones((6, 4, 2)), np.ones((6, 4))
    x[sequence, step, feature] = value
    if not labelled:
        y[sequence, step] = -1
    message = (
        f"x has {value} in sequence {sequence}, step {step}, feature {feature}: every value must be a finite number"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        model.fit(x, y, batch_size=2, epochs=2, verbose=0)
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        model.train_on_batch(x, y)
    assert weight_bits(model) == before


@pytest.mark.parametrize("optimizer", [SGD(1e10), Adam(1e25)], ids=["sgd", "adam"])
def test_weights_stay_finite_whatever_happens(optimizer: Any) -> None:
    model = Sequential([Dense(1, input_shape=(None, 1))], seed=1)
    model.compile(optimizer, "mse")
    x, y = above_half(2)
    with pytest.raises(DivergedError, match="the loss is no longer a finite number: try a smaller learning rate, or c"):
        model.fit(x, y, epochs=50, verbose=0)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_the_learning_rate_can_be_changed_between_fits() -> None:
    x, y = above_half(4)
    one, other = compiled(optimizer="sgd"), compiled(optimizer=SGD(0.5))
    one.fit(x, y, verbose=0)
    assert one.optimizer is not None
    one.optimizer.learning_rate = 0.5
    other.set_weights(one.get_weights())
    one.fit(x, y, verbose=0, shuffle=False)
    other.fit(x, y, verbose=0, shuffle=False)
    assert weight_bits(one) == weight_bits(other)


# --- Arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "fit: epochs must be at least 1, not 0"),
        ({"epochs": 1.5}, TypeError, "fit: epochs must be a whole number, not 1.5"),
        ({"batch_size": 0}, ValueError, "fit: batch_size must be at least 1, not 0"),
        ({"initial_epoch": -1}, ValueError, "fit: initial_epoch must be at least 0, not -1"),
        ({"validation_freq": 0}, ValueError, "fit: validation_freq must be at least 1, not 0"),
        ({"verbose": 3}, ValueError, "fit: verbose must be one of 0, 1, 2, not 3"),
        ({"shuffle": "batch"}, ValueError, "fit: shuffle must be one of True, False, not 'batch'"),
        ({"validation_split": 1.0}, ValueError, "fit: validation_split must be at least 0 and below 1, not 1.0"),
        ({"validation_split": 0.9}, ValueError, "fit: validation_split=0.9 of 4 sequences leaves nothing on one side"),
        ({"validation_data": (1,)}, ValueError, "fit: validation_data is (x, y) or (x, y, sample_weight)"),
        ({"validation_data": ([[1]], [[1, 1]])}, ValueError, "y: sequence 0 has shape (2,), but 1 steps in x"),
        ({"class_weight": {1: 2.0}}, ValueError, "class_weight lacks class 0"),
        ({"sample_weight": [1, 2]}, ValueError, "sample_weight has 2 sequences, x has 4"),
        ({"steps_per_epoch": 3}, ValueError, "fit: steps_per_epoch=3 is not supported with arrays"),
        ({"validation_steps": 3}, ValueError, "fit: validation_steps=3 is not supported with arrays"),
        ({"workers": 4}, ValueError, "fit: workers=4 is not supported (only 1)"),
        ({"max_queue_size": 4}, ValueError, "fit: max_queue_size=4 is not supported (only 10)"),
        ({"use_multiprocessing": True}, ValueError, "fit: use_multiprocessing=True is not supported (only False)"),
        ({"epoch": 3}, TypeError, "fit: unexpected argument 'epoch'"),
    ],
)
def test_impossible_arguments_change_nothing(keywords: dict[str, Any], error: type[Exception], message: str) -> None:
    model = compiled()
    before = weight_bits(model)
    with pytest.raises(error, match="^" + re.escape(message)):
        model.fit(*above_half(4), **{"verbose": 0} | keywords)
    assert weight_bits(model) == before


def test_arguments_of_kerass_that_change_nothing() -> None:
    x, y = above_half(4)
    plain, other = compiled(), compiled()
    plain.fit(x, y, verbose=0)
    nothing = {"steps_per_epoch": None, "workers": 1, "use_multiprocessing": False, "validation_batch_size": 7}
    other.fit(x, y, verbose=0, **nothing)
    assert weight_bits(plain) == weight_bits(other)


def test_no_sequences() -> None:
    with pytest.raises(ValueError, match="fit: x has no sequences to train on"):
        compiled().fit([], [], verbose=0)
