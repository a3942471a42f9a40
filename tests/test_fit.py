"""Sequential.fit: which sequences go into which step, what counts how much, what is printed and returned."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm import calls, fitting
from bilstm.callbacks import Callback, LambdaCallback
from bilstm.fitting import DivergedError, FitData, batch_starts, format_logs
from bilstm.layers import LSTM, Bidirectional, Dense, Dropout
from bilstm.models import Sequential
from bilstm.optimizers import SGD, Adam
from bilstm.ragged import Ragged, offsets_of
from oracles.models import Case, cases, weight_bits

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


def tagger(metrics: list[str] | None = None, optimizer: Any = "adam", outputs: int = 1, seed: int = 1) -> Sequential:
    head = Dense(outputs, "sigmoid" if outputs == 1 else "softmax")
    model = Sequential([Bidirectional(LSTM(3, return_sequences=True), input_shape=(None, 1)), head], seed=seed)
    model.compile(optimizer, "binary_crossentropy" if outputs == 1 else "sparse_categorical_crossentropy", metrics)
    return model


def above_half(count: int, steps: int = 4, seed: int = 0) -> tuple[Any, Any]:
    x = np.random.default_rng(seed).random((count, steps, 1), np.float32)
    return x, (x > 0.5).astype(np.int64)


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


@given(cases(), st.integers(1, 4))
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


def test_many_batches_in_several_calls_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_TRAINING", 0)
    monkeypatch.setattr(calls, "CALL_SECONDS", 0.0)
    slow, fast = tagger(), tagger()
    x, y = above_half(50)
    history = slow.fit(x, y, batch_size=1, verbose=0).history
    monkeypatch.undo()
    assert fast.fit(x, y, batch_size=1, verbose=0).history["loss"] == pytest.approx(history["loss"])
    assert weight_bits(slow) == weight_bits(fast)


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
        model = tagger()
        model.fit(*form, batch_size=2, epochs=2, verbose=0)
        results.append(weight_bits(model))
    assert results == [results[0]] * len(forms)


# --- Epochs and validation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "initial", "run"), [(1, 0, [0]), (3, 0, [0, 1, 2]), (5, 3, [3, 4]), (2, 2, []), (1, 4, [])]
)
def test_epochs(epochs: int, initial: int, run: list[int]) -> None:
    x, y = above_half(4)
    history = tagger(["acc"]).fit(x, y, epochs=epochs, initial_epoch=initial, verbose=0)
    assert history.epoch == run
    assert {name: len(values) for name, values in history.history.items()} == (
        {"loss": len(run), "acc": len(run)} if run else {}
    )
    assert history.params["epochs"] == epochs


def test_epochs_by_their_name_in_keras_1() -> None:
    x, y = above_half(4)
    assert tagger().fit(x, y, nb_epoch=3, verbose=0).epoch == [0, 1, 2]


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
    model, alone = tagger(["acc"]), tagger(["acc"])
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
        tagger().fit(x, y, epochs=6, validation_split=0.5, validation_freq=every, callbacks=note, verbose=0).history
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


# --- What counts how much --------------------------------------------------------------------------------------------


def losses_by_step(model: Sequential, x: Any, y: Any) -> Any:
    p = np.clip(model.predict(x).astype(np.float64), 1e-7, 1 - 1e-7)
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))[:, :, 0]


@given(st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=30)
def test_losses_are_weighted_means_over_labelled_steps(n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = above_half(n, seed=seed)
    table = {0: 0.25, 1: 3.0}
    sequence_weights, step_weights = random.random(n), random.random((n, 4))
    model = tagger()
    by_step, classes = losses_by_step(model, x, y), np.where(y[:, :, 0] == 1, table[1], table[0])
    for keywords, weights in (
        ({}, np.ones((n, 4))),
        ({"class_weight": table}, classes),
        ({"sample_weight": sequence_weights}, np.repeat(sequence_weights[:, np.newaxis], 4, axis=1)),
        ({"sample_weight": step_weights}, step_weights),
        ({"sample_weight": step_weights, "class_weight": table}, step_weights * classes),
    ):
        loss = tagger().fit(x, y, batch_size=n, verbose=0, **keywords).history["loss"][0]
        assert loss == pytest.approx((by_step * weights).mean(), rel=1e-5)


def test_a_step_of_double_weight_counts_as_two() -> None:
    x, y = above_half(2)
    once, twice = tagger(optimizer="sgd"), tagger(optimizer="sgd")
    once.fit(x, y, sample_weight=[2, 1], verbose=0)
    rate = SGD(0.01 * 3 / 2)  # the mean is over three sequences rather than two
    twice.compile(rate, "binary_crossentropy")
    twice.fit(x[[0, 0, 1]], y[[0, 0, 1]], verbose=0)
    for a, b in zip(once.get_weights(), twice.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_class_weights_are_for_training_only() -> None:
    x, y = above_half(8)
    model = tagger()
    history = model.fit(x, y, class_weight={0: 9.0, 1: 5.0}, validation_split=0.5, verbose=0).history
    assert history["val_loss"][0] == model.evaluate(x[4:], y[4:])
    weights = np.arange(8.0)
    history = model.fit(
        x, y, sample_weight=weights, class_weight={0: 9.0, 1: 5.0}, validation_split=0.5, verbose=0
    ).history
    assert history["val_loss"][0] == model.evaluate(x[4:], y[4:], sample_weight=weights[4:])


@given(cases(), st.floats(-5, 5), st.data())
@settings(max_examples=40)
def test_what_stands_beside_a_missing_target_has_no_influence(case: Case, other: float, data: st.DataObject) -> None:
    if case.loss != "mean_squared_error":
        other = abs(other) / 5  # cross-entropies take numbers from 0 to 1
    plain, changed = case.model(), case.model()
    y = case.y
    if y.ndim == 2:
        y = y.copy()
        unlabelled = np.flatnonzero(np.isnan(y).any(axis=1))
        kept = data.draw(st.integers(0, y.shape[1] - 1))  # one NaN makes a row unlabelled
        y[unlabelled] = other
        y[unlabelled, kept] = np.nan
    else:
        y = np.where(y < 0, np.nan, y)
    first = plain.fit(case.data, case.y, batch_size=2, epochs=2, verbose=0)
    second = changed.fit(case.data, y, batch_size=2, epochs=2, verbose=0)
    assert weight_bits(plain) == weight_bits(changed)
    np.testing.assert_equal(first.history, second.history)
    weights = np.where(np.isnan(np.asarray(y, float).reshape(len(y), -1)).any(axis=1), 7.0, 1.0)
    weighted = case.model()
    weighted.fit(case.data, case.y, batch_size=2, epochs=2, verbose=0, sample_weight=weights)
    assert weight_bits(plain) == weight_bits(weighted)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 99))
@settings(max_examples=30)
def test_without_context_an_unlabelled_step_might_as_well_not_be_there(lengths: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    data, y = Ragged(random.random((sum(lengths), 2)), offsets_of(lengths)), random.integers(-1, 3, sum(lengths))
    labelled = y >= 0
    kept = [int(labelled[a:b].sum()) for a, b in pairwise(data.offsets)]
    if not any(kept):
        return
    fewer = Ragged(data.values[labelled], offsets_of([steps for steps in kept if steps]))
    models = []
    for x, labels in ((data, y), (fewer, y[labelled])):
        model = Sequential([Dense(4, "tanh", input_shape=(None, 2)), Dense(3, "softmax")], seed=seed)
        model.compile("sgd", "sparse_categorical_crossentropy", ["acc"])
        models.append((model, model.train_on_batch(x, labels), model.evaluate(x, labels)))
    assert models[0][1] == pytest.approx(models[1][1], rel=1e-6)
    assert models[0][2] == pytest.approx(models[1][2], rel=1e-6)
    for a, b in zip(models[0][0].get_weights(), models[1][0].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_an_unlabelled_step_is_context() -> None:
    x, y = above_half(3)
    y[:, 2] = -1
    plain, changed = tagger(), tagger()
    other = x.copy()
    other[:, 2] = 1 - other[:, 2]
    plain.fit(x, y, verbose=0)
    changed.fit(other, y, verbose=0)
    assert weight_bits(plain) != weight_bits(changed)


def test_nothing_labelled_changes_nothing() -> None:
    x, y = above_half(3)
    model = tagger(["acc"])
    before = weight_bits(model)
    history = model.fit(x, np.full_like(y, -1), epochs=2, batch_size=1, verbose=0).history
    assert np.isnan([history["loss"], history["acc"]]).all()
    assert weight_bits(model) == before


# --- What is printed -------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes every look at the clock find it so much later."""

    def set_step(seconds: float) -> None:
        now = [0.0]

        def perf_counter() -> float:
            now[0] += seconds
            return now[0]

        monkeypatch.setattr(fitting.time, "perf_counter", perf_counter)

    return set_step


@pytest.mark.parametrize("verbose", [0, False])
def test_silence(verbose: Any, capsys: pytest.CaptureFixture[str]) -> None:
    tagger().fit(*above_half(3), verbose=verbose)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_line_an_epoch(epochs: int, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = above_half(10)
    history = tagger(["acc"]).fit(x, y, epochs=epochs, batch_size=1, verbose=2).history
    lines = []
    for epoch in range(epochs):
        lines += [f"Epoch {epoch + 1}/{epochs}"]
        lines += [f"0s - loss: {history['loss'][epoch]:.4f} - acc: {history['acc'][epoch]:.4f}"]
    assert capsys.readouterr().out.splitlines() == lines


def test_a_line_with_validation_and_later_epochs(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    clock(1.0)
    x, y = above_half(4)
    history = tagger().fit(x, y, epochs=4, initial_epoch=3, validation_split=0.5, verbose=2).history
    first, second = capsys.readouterr().out.splitlines()
    assert first == "Epoch 4/4"
    assert second == f"3s - loss: {history['loss'][0]:.4f} - val_loss: {history['val_loss'][0]:.4f}"


@pytest.mark.parametrize("verbose", [1, "auto", True])
@pytest.mark.parametrize(
    ("step", "time"), [(2.0, "6s 2s"), (0.002, "0s 2ms"), (0.0000017, "0s 2us")], ids=["seconds", "ms", "us"]
)
def test_a_bar_where_there_is_no_terminal_is_a_line(
    verbose: Any, step: float, time: str, clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    clock(step)  # three looks from the start to the end: three batches in one call
    x, y = above_half(30)
    loss = tagger().fit(x, y, batch_size=10, verbose=verbose).history["loss"][0]
    assert capsys.readouterr().out == f"Epoch 1/1\n3/3 [{'=' * 30}] - {time}/step - loss: {loss:.4f}\n"


def test_a_bar_on_a_terminal_moves(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(1.0)
    monkeypatch.setattr(fitting.sys.stdout, "isatty", lambda: True)
    x, y = above_half(10)
    loss = tagger().fit(x, y, batch_size=1, verbose=1, callbacks=EachBatch()).history["loss"][0]
    out = capsys.readouterr().out
    head, *states = out.split("\r")
    assert head == "Epoch 1/1\n"
    assert len(states) == 10
    assert re.fullmatch(r" 1/10 \[={3}>\.{26}\] - ETA: \d+s - loss: 0\.\d{4}\x1b\[K", states[0])
    assert re.fullmatch(r" 9/10 \[={27}>\.\.\] - ETA: \d+s - loss: 0\.\d{4}\x1b\[K", states[8])
    assert re.fullmatch(rf"10/10 \[={{30}}\] - \d+s \d+s/step - loss: {loss:.4f}\x1b\[K\n", states[9])


@pytest.mark.parametrize(
    ("logs", "printed"),
    [
        ({"loss": 0.0967, "acc": 0.9}, " - loss: 0.0967 - acc: 0.9000"),
        ({"loss": 0.00012345, "acc": 1.0}, " - loss: 1.2345e-04 - acc: 1.0000"),
        ({"loss": 0.0}, " - loss: 0.0000e+00"),
        ({"loss": 1234.5}, " - loss: 1234.5000"),
        ({"loss": float("nan")}, " - loss: nan"),
        ({}, ""),
    ],
)
def test_numbers_as_keras_writes_them(logs: dict[str, float], printed: str) -> None:
    assert format_logs(logs) == printed


class EachBatch(Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        assert batch == len(self.losses)
        self.losses.append(logs["loss"])


def test_each_batchs_loss() -> None:
    x, y = above_half(5)
    seen, stepped = EachBatch(), tagger()
    tagger().fit(x, y, batch_size=2, shuffle=False, callbacks=[seen], verbose=0)
    assert seen.losses == [stepped.train_on_batch(x[i : i + 2], y[i : i + 2]) for i in (0, 2, 4)]


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
    message = f"x has {value} in sequence {sequence}, step {step}, feature {feature}: only finite numbers can be learnt"
    with pytest.raises(DivergedError, match=f"^{re.escape(message)}$"):
        model.fit(x, y, batch_size=2, epochs=2, verbose=0)
    with pytest.raises(DivergedError, match=f"^{re.escape(message)}$"):
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
    one, other = tagger(optimizer="sgd"), tagger(optimizer=SGD(0.5))
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
        ({"steps_per_epoch": 3}, ValueError, "fit: steps_per_epoch=3 is not supported (only None)"),
        ({"validation_steps": 3}, ValueError, "fit: validation_steps=3 is not supported (only None)"),
        ({"workers": 4}, ValueError, "fit: workers=4 is not supported (only 1)"),
        ({"max_queue_size": 4}, ValueError, "fit: max_queue_size=4 is not supported (only 10)"),
        ({"use_multiprocessing": True}, ValueError, "fit: use_multiprocessing=True is not supported (only False)"),
        ({"epoch": 3}, TypeError, "fit: unexpected argument 'epoch'"),
    ],
)
def test_impossible_arguments_change_nothing(keywords: dict[str, Any], error: type[Exception], message: str) -> None:
    model = tagger()
    before = weight_bits(model)
    with pytest.raises(error, match="^" + re.escape(message)):
        model.fit(*above_half(4), **{"verbose": 0} | keywords)
    assert weight_bits(model) == before


def test_arguments_of_kerass_that_change_nothing() -> None:
    x, y = above_half(4)
    plain, other = tagger(), tagger()
    plain.fit(x, y, verbose=0)
    nothing = {"steps_per_epoch": None, "workers": 1, "use_multiprocessing": False, "validation_batch_size": 7}
    other.fit(x, y, verbose=0, **nothing)
    assert weight_bits(plain) == weight_bits(other)


def test_no_sequences() -> None:
    with pytest.raises(ValueError, match="fit: x has no sequences to train on"):
        tagger().fit([], [], verbose=0)
