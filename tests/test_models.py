"""Sequential: its settings, predictions in the form of what was given, evaluation, single steps."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings

from bilstm.engine.losses import LOSSES
from bilstm.layers import LSTM, Bidirectional, Dense, Embedding
from bilstm.models import Sequential
from bilstm.optimizers import SGD, Adam
from bilstm.ragged import Ragged
from oracles.models import Case, bits, cases, numbers, tagger, weight_bits
from oracles.numpy_losses import labelled_targets, row_losses

pytestmark = pytest.mark.fast

# --- Laws ------------------------------------------------------------------------------------------------------------


@given(cases())
@settings(max_examples=40)
def test_predictions_have_the_form_of_the_input(case: Case) -> None:
    model = case.model()
    rows = model.predict_rows(case.data)
    if case.data.words is not None:  # of which lists and arrays know nothing
        assert bits(getattr(model.predict(case.data), "values", rows)) == bits(rows)
        return
    of_list, of_ragged = model.predict(case.data.to_list()), model.predict(case.data)
    if case.one_row_each:
        assert bits(of_list) == bits(of_ragged) == bits(rows)
        assert rows.shape == (len(case.data), model.network.outputs)  # type: ignore[union-attr]
        return
    assert isinstance(of_list, list)
    assert isinstance(of_ragged, Ragged)
    assert bits(of_ragged.values) == bits(rows)
    assert of_ragged.offsets.tolist() == case.data.offsets.tolist()
    assert [part.shape[0] for part in of_list] == case.data.lengths.tolist()
    assert bits(np.concatenate(of_list)) == bits(rows)
    several = np.stack([case.data[0]] * 3)
    of_array = model.predict(several)
    assert of_array.shape == (3, len(case.data[0]), rows.shape[1])
    assert bits(of_array[2]) == bits(of_list[0])


def by_hand(case: Case, rows: Any) -> list[float]:
    """The loss, accuracy, mean squared and mean absolute error by their definitions, in float64."""
    y, labelled = labelled_targets(case.loss, case.y, np.asarray(rows, np.float64))
    p, y = np.asarray(rows, np.float64)[labelled], y[labelled]
    losses = row_losses(case.loss, p, y)[0]
    activation, width = LOSSES[case.loss].activation, rows.shape[1]
    if activation == "sigmoid" or (activation == "linear" and width == 1):
        right = ((p > 0.5) == y).mean(axis=1)
    else:
        right = p.argmax(axis=1) == y.argmax(axis=1)
    difference = p - y
    return [losses.mean(), right.mean(), (difference**2).mean(), np.abs(difference).mean()]


@given(cases())
@settings(max_examples=60)
def test_evaluation_by_its_definition(case: Case) -> None:
    model = case.model()
    expected = by_hand(case, model.predict_rows(case.data))
    assert model.evaluate(case.data, case.y) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    named = model.evaluate(case.data, case.y, return_dict=True)
    assert list(named) == ["loss", "acc", "mse", "mae"]  # type: ignore[arg-type]
    assert list(named.values()) == model.evaluate(case.data, case.y)  # type: ignore[union-attr]


@given(cases(dropout=False))
@settings(max_examples=30)
def test_training_on_a_batch_returns_its_evaluation_before_the_step(case: Case) -> None:
    assume(all(layer["class_name"] != "BatchNormalization" for layer in case.layers))  # which trains by the batch
    model = case.model()
    before = model.evaluate(case.data, case.y)
    assert model.train_on_batch(case.data, case.y) == pytest.approx(before, rel=1e-6)
    assert model.network.iteration == 1  # type: ignore[union-attr]


# --- Compiling -------------------------------------------------------------------------------------------------------


def test_compiled_settings() -> None:
    model = tagger()
    model.compile("sgd", "mse", metrics=["accuracy", "mae"])
    assert (model.loss, model.metrics) == ("mse", ["accuracy", "mae"])
    assert isinstance(model.optimizer, SGD)
    model.compile(loss="binary_crossentropy", metrics="acc")
    assert isinstance(model.optimizer, Adam)
    assert model.metrics == ["acc"]
    model.compile(Adam(0.5), "mse")
    assert model.optimizer.learning_rate == 0.5
    assert model.metrics == []


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({}, "compile: loss must be one of 'binary_crossentropy', 'categorical_crossentropy', 'sparse_cat"),
        ({"loss": "hinge"}, "compile: loss must be one of "),
        ({"loss": "mse", "metrics": ["auc"]}, "compile: metrics must be one of 'acc', 'accuracy', 'mse', 'mean_squ"),
        ({"loss": "mse", "metrics": "f1"}, "compile: metrics must be one of "),
        (
            {"loss": "mse", "optimizer": "rmsprop"},
            "compile: optimizer must be 'adam', 'adamw', 'sgd' or one of bilstm.optimizers",
        ),
        ({"loss": "mse", "loss_weights": [1.0]}, "compile: loss_weights=[1.0] is not supported (only None)"),
        (
            {"loss": "mse", "weighted_metrics": ["acc"]},
            "compile: weighted_metrics=['acc'] is not supported (only None)",
        ),
        ({"loss": "mse", "steps_per_execution": 2}, "compile: steps_per_execution=2 is not supported (only 1)"),
        (
            {"loss": "mse", "sample_weight_mode": "row"},
            "compile: sample_weight_mode='row' is not supported (only None ",
        ),
        ({"loss": "mse", "run_eagerly": "yes"}, "compile: run_eagerly='yes' is not supported (only None or False or"),
        ({"loss": "mse", "jit_compile": "no"}, "compile: jit_compile='no' is not supported (only None or 'auto' or"),
        ({"loss": "mse", "auto_scale_loss": 1}, "compile: auto_scale_loss=1 is not supported (only True or False)"),
    ],
)
def test_settings_there_are_not(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        tagger().compile(**keywords)


@pytest.mark.parametrize(
    "refused", [{"optimizer": "adm"}, {"loss": "hinge"}, {"metrics": ["acc", "f1"]}, {"recompute": 2}, {"unknown": 1}]
)
@pytest.mark.parametrize("compiled", [False, True])
def test_settings_that_are_refused_change_nothing(refused: dict[str, Any], compiled: bool) -> None:
    model = tagger()
    if compiled:
        model.compile("sgd", "binary_crossentropy", ["mae"])
    before = vars(model).copy()
    with pytest.raises((TypeError, ValueError)):
        model.compile(**{"optimizer": "adam", "loss": "mse", "metrics": ["acc"], "recompute": True} | refused)
    assert vars(model) == before


@pytest.mark.parametrize(
    "keywords",
    [
        {"run_eagerly": True, "jit_compile": False},
        {"sample_weight_mode": "temporal", "steps_per_execution": 1},
        {"loss_weights": None, "weighted_metrics": None, "auto_scale_loss": True},
    ],
)
def test_settings_that_change_nothing(keywords: dict[str, Any]) -> None:
    model = tagger()
    model.compile(loss="mse", **keywords)
    assert model.loss == "mse"


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_what_needs_compiling_says_so(method: str) -> None:
    with pytest.raises(ValueError, match="the model must be compiled first: compile"):
        getattr(tagger(), method)(numbers(1, 2, 2), numbers(1, 2, 1))


def test_an_unknown_argument_is_refused() -> None:
    model = tagger()
    model.compile(loss="mse")
    x, y = numbers(1, 2, 2), numbers(1, 2, 1)
    for call in (
        lambda: model.compile(loss="mse", metric=["acc"]),
        lambda: model.fit(x, y, batchsize=3),
        lambda: model.evaluate(x, y, batchsize=3),
        lambda: model.predict(x, batchsize=3),
        lambda: model.save("m", format="h5"),
    ):
        with pytest.raises(TypeError, match="unexpected argument"):
            call()


# --- Prediction ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 4])
def test_shapes_of_predictions_and_classes(outputs: int) -> None:
    model, x = tagger(outputs=outputs), numbers(3, 5, 2)
    rows = model.predict(x)
    assert (rows.shape, rows.dtype) == ((3, 5, outputs), np.float32)
    expected = (rows > 0.5) if outputs == 1 else rows.argmax(axis=-1)
    classes = model.predict_classes(x)
    assert np.issubdtype(classes.dtype, np.integer)
    np.testing.assert_array_equal(classes, expected)
    of_list = model.predict_classes(list(x))
    np.testing.assert_array_equal(np.stack(of_list), expected)
    of_ragged = model.predict_classes(Ragged.from_padded(x))
    np.testing.assert_array_equal(
        of_ragged.to_padded().squeeze(-1), np.squeeze(expected, -1) if outputs == 1 else expected
    )


@pytest.mark.parametrize("outputs", [1, 4])
def test_classes_of_whole_sequences(outputs: int) -> None:
    model = Sequential([LSTM(3, input_shape=(None, 2)), Dense(outputs, "sigmoid")], seed=1)
    rows = model.predict(numbers(6, 5, 2))
    assert rows.shape == (6, outputs)
    expected = (rows > 0.5) if outputs == 1 else rows.argmax(axis=1)
    np.testing.assert_array_equal(model.predict_classes(list(numbers(6, 5, 2))), expected)


def test_two_dimensions_are_sequences_of_one_feature() -> None:
    model = tagger(features=1)
    assert model.predict(numbers(3, 5)).shape == (3, 5, 1)
    assert bits(model.predict(numbers(3, 5))) == bits(model.predict(numbers(3, 5, 1)))


def test_an_array_of_arrays_is_a_list() -> None:
    model = tagger(features=1)
    sequences = np.empty(2, object)
    sequences[:] = [numbers(3, 1), numbers(2, 1)]
    assert [part.shape for part in model.predict(sequences)] == [(3, 1), (2, 1)]


@pytest.mark.parametrize("return_sequences", [True, False])
def test_two_outputs(return_sequences: bool) -> None:
    layer = Bidirectional(LSTM(3, return_sequences=return_sequences), None, input_shape=(None, 2))
    two, one = Sequential([layer], seed=1), Sequential(seed=1)
    one.add(Bidirectional(LSTM(3, return_sequences=return_sequences), "concat", input_shape=(None, 2)))
    x = numbers(4, 5, 2)
    for form in (x, list(x), Ragged.from_padded(x)):
        forward, backward = two.predict(form)
        joined = one.predict(form)
        assert type(forward) is type(backward) is type(joined)
        parts = [
            np.asarray(part.to_padded() if isinstance(part, Ragged) else part) for part in (forward, backward, joined)
        ]
        assert bits(np.concatenate(parts[:2], axis=-1)) == bits(parts[2])
    with pytest.raises(ValueError, match="predict_classes: Bidirectional"):
        two.predict_classes(x)


def test_nothing_to_predict() -> None:
    model = tagger()
    assert model.predict([]) == []
    assert model.predict(np.zeros((0, 5, 2))).shape == (0, 5, 1)
    assert len(model.predict(Ragged.from_sequences([]))) == 0
    assert Sequential([LSTM(3, input_shape=(None, 2))]).predict([]).shape == (0, 3)


def test_a_sequence_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="sequence 1 has no steps"):
        tagger(features=1).predict([[1.0], []])


@pytest.mark.parametrize("value", [5, -1, 0.5, float("nan"), float("inf")])
def test_an_index_that_is_not_in_the_vocabulary(value: float) -> None:
    model = Sequential([Embedding(5, 2), LSTM(3)])
    with pytest.raises(ValueError, match="an embedding's input must be whole numbers from 0 to 4, not "):
        model.predict([[0, 4], [value]])


def test_names_of_old() -> None:
    model, x = tagger(), numbers(2, 3, 2)
    assert (
        bits(model.predict_on_batch(x))
        == bits(model.predict_proba(x))
        == bits(model.predict(x, batch_size=1, verbose=1))
    )
    model.compile(loss="mse")
    assert model.test_on_batch(x, x[:, :, :1]) == model.evaluate(x, x[:, :, :1], batch_size=1, verbose=0)


@pytest.mark.parametrize("method", ["predict", "predict_classes", "evaluate"])
def test_verbosity_there_is_not(method: str) -> None:
    model = tagger()
    model.compile(loss="mse")
    arguments = (numbers(2, 3, 2), numbers(2, 3, 1))[: 2 if method == "evaluate" else 1]
    with pytest.raises(ValueError, match=f"^{method}: verbose must be one of 0, 1, 2, not 3"):
        getattr(model, method)(*arguments, verbose=3)
    with pytest.raises(ValueError, match=f"^{method}: batch_size must be at least 1, not 0"):
        getattr(model, method)(*arguments, batch_size=0)


@pytest.mark.parametrize(
    ("argument", "value"), [("steps", 3), ("workers", 2), ("max_queue_size", 1), ("use_multiprocessing", True)]
)
def test_kerass_arguments_that_are_refused(argument: str, value: Any) -> None:
    model = tagger()
    model.compile(loss="mse")
    x, y = numbers(2, 3, 2), numbers(2, 3, 1)
    with pytest.raises(ValueError, match=f"predict: {argument}=.* is not supported"):
        model.predict(x, **{argument: value})
    with pytest.raises(ValueError, match=f"evaluate: {argument}=.* is not supported"):
        model.evaluate(x, y, **{argument: value})


# --- Evaluation and single steps -------------------------------------------------------------------------------------


def test_a_loss_without_metrics_is_a_number() -> None:
    model = tagger()
    model.compile(loss="mse")
    x, y = numbers(2, 3, 2), numbers(2, 3, 1)
    assert type(model.evaluate(x, y)) is float
    assert type(model.train_on_batch(x, y)) is float
    assert model.evaluate(x, y, return_dict=True).keys() == {"loss"}  # type: ignore[union-attr]


def test_weights_in_evaluation() -> None:
    model = tagger()
    model.compile(loss="mse")
    x, y = numbers(2, 3, 2), numbers(2, 3, 1)
    errors = (model.predict(x).astype(float) - y) ** 2
    weights = numbers(2, 3, seed=5)
    assert model.evaluate(x, y, sample_weight=weights) == pytest.approx((errors[:, :, 0] * weights).mean())
    assert model.evaluate(x, y, sample_weight=[2, 0]) == pytest.approx(errors[0].sum() * 2 / 6)


def test_weights_in_a_training_step() -> None:
    x, y = numbers(2, 3, 2), np.array([[0, 1, 1], [1, 0, -1]])
    weighted, plain = tagger(), tagger()
    for model in (weighted, plain):
        model.compile("sgd", "binary_crossentropy")
    loss = weighted.train_on_batch(x, y, class_weight={0: 2.0, 1: 3.0}, sample_weight=[1.0, 0.5])
    by_step = [[2.0, 3.0, 3.0], [1.5, 1.0, 0.0]]
    assert loss == plain.train_on_batch(x, y, sample_weight=np.array(by_step))
    assert weight_bits(weighted) == weight_bits(plain)


def test_nothing_labelled_is_nan_and_no_step() -> None:
    model = tagger()
    model.compile(loss="binary_crossentropy", metrics=["acc"])
    before = weight_bits(model)
    assert np.isnan(model.train_on_batch(numbers(2, 3, 2), np.full((2, 3), -1))).all()
    assert np.isnan(model.test_on_batch(numbers(2, 3, 2), np.full((2, 3), -1))).all()
    assert weight_bits(model) == before


def test_no_sequences_to_train_on() -> None:
    model = tagger()
    model.compile(loss="mse")
    with pytest.raises(ValueError, match="train_on_batch: x has no sequences to train on"):
        model.train_on_batch([], [])


@pytest.mark.parametrize("loss", ["binary_crossentropy", "sparse_categorical_crossentropy"])
def test_fit_and_evaluate_refuse_classes_numbered_minus_one_and_one(loss: str) -> None:
    """Every -1 counted as unlabelled, and an accuracy of 1 was reported."""
    model = tagger(outputs=1 if loss == "binary_crossentropy" else 2)
    model.compile(loss=loss, metrics=["acc"])
    x, y = numbers(6, 3, 2), np.where(numbers(6, 3) > 0.5, 1, -1)
    for attempt in (
        lambda: model.fit(x, y, verbose=0),
        lambda: model.fit(x, np.abs(y) - 1, validation_data=(x, y), verbose=0),
        lambda: model.evaluate(x, y),
    ):
        with pytest.raises(ValueError, match="y has only the labels 1 and -1"):
            attempt()


def test_numbers_that_are_not_finite_are_errors_of_the_data() -> None:
    """And never an ArithmeticError, which is a training's that diverged."""
    model = tagger()
    model.compile(loss="mse")
    x, y = numbers(2, 3, 2), numbers(2, 3, 1)
    wrong = x.copy()
    wrong[1, 2, 0] = np.inf
    for attempt in (
        lambda: model.fit(wrong, y, verbose=0),
        lambda: model.fit(x, y, validation_data=(wrong, y), verbose=0),
        lambda: model.fit(iter([(wrong, y)]), verbose=0),
        lambda: model.evaluate(wrong, y),
        lambda: model.train_on_batch(wrong, y),
        lambda: model.test_on_batch(wrong, y),
    ):
        with pytest.raises(ValueError, match="x has inf in sequence 1, step 2, feature 0: every value must be a fini"):
            attempt()
