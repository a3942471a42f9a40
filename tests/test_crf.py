"""A model that ends with a CRF, as people use it: forms of x and y, masks, decoding, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bilstm.layers import CRF, GRU, LSTM, Bidirectional, Dense, Dropout, GlobalMaxPooling1D, Masking, TimeDistributed
from bilstm.models import Sequential
from bilstm.ragged import Ragged
from oracles.models import bits, numbers

pytestmark = pytest.mark.fast

NO_TWO_AFTER_ONE = [(1, 2), (None, 2)]


def tagger(forbidden: Any = NO_TWO_AFTER_ONE, *, labels: int = 3, first: Any = (), seed: int = 1) -> Sequential:
    layers = [
        *first,
        Bidirectional(LSTM(4, return_sequences=True)),
        TimeDistributed(Dense(labels)),
        CRF(labels, forbidden),
    ]
    model = Sequential(layers, seed=seed)
    model.build((None, 2))
    model.compile("adam", "crf_likelihood", ["accuracy"])
    return model


def switching(count: int, steps: int = 12, seed: int = 0) -> tuple[Any, Any]:
    """Labels that stay for some steps, and noisy signs of them."""
    random = np.random.default_rng(seed)
    y = np.cumsum(random.random((count, steps)) < 0.15, axis=1) % 2
    x = np.stack([y + random.normal(0, 0.8, y.shape), random.normal(size=y.shape)], axis=2)
    return x.astype(np.float32), y


def test_it_learns_that_labels_stay() -> None:
    """Better than a Dense layer of each step alone does, which is all that differs."""
    x, y = switching(200)
    test_x, test_y = switching(100, seed=1)
    accuracies = []
    for last in (CRF(2), None):
        layers = [TimeDistributed(Dense(2, None if last else "softmax")), *([last] if last else [])]
        model = Sequential(layers, seed=1)
        model.compile("adam", "crf" if last else "sparse_categorical_crossentropy")
        model.fit(x, y, epochs=30, batch_size=4, verbose=0)
        accuracies.append((model.predict_classes(test_x) == test_y).mean())
    assert accuracies[0] > accuracies[1] + 0.05
    assert model.history.history["loss"][-1] < model.history.history["loss"][0]


@pytest.mark.parametrize("paths", [1, 4])
def test_labels_have_the_form_of_x(paths: int) -> None:
    model, x = tagger(), numbers(3, 5, 2)
    in_array, log_probabilities = model.decode(x, paths)[-1]
    assert in_array.shape == (3, 5)
    assert log_probabilities.shape == (3,)
    in_list = model.decode(list(x), paths)[-1][0]
    assert [part.tolist() for part in in_list] == in_array.tolist()
    ragged = model.decode(Ragged.from_sequences(list(x)), paths)[-1][0]
    assert isinstance(ragged, Ragged)
    assert ragged.values.ravel().tolist() == in_array.ravel().tolist()
    assert len(model.decode(x, paths)) == paths


def test_classes_are_those_of_the_best_path() -> None:
    model, x = tagger(seed=3), numbers(50, 7, 2, seed=1)
    best, log_probabilities = model.decode(x)[0]
    assert (model.predict_classes(x) == best).all()
    np.testing.assert_allclose(model.log_likelihoods(x, best), log_probabilities, atol=1e-6)
    assert not ((best[:, 1:] == 2) & (best[:, :-1] == 1)).any()
    assert not (best[:, 0] == 2).any()
    marginals = model.predict(x)
    assert not marginals[:, 0, 2].any()
    np.testing.assert_allclose(marginals.sum(axis=2), 1, atol=1e-6)


def test_the_probability_of_a_span_is_that_of_its_labels_with_any_others_around() -> None:
    model, x = tagger(forbidden=None), numbers(1, 4, 2)
    y = np.full((1, 4), -1)
    y[0, 1:3] = [0, 2]
    whole = [(a, 0, 2, b) for a in range(3) for b in range(3)]
    expected = sum(np.exp(model.log_likelihoods(x, np.array([path]))[0]) for path in whole)
    assert np.exp(model.log_likelihoods(x, y)[0]) == pytest.approx(expected, rel=1e-6)
    assert model.log_likelihoods(x, np.full((1, 4), -1)).tolist() == [0]


def test_masked_steps_are_left_out() -> None:
    model, x = tagger(first=[Masking()]), numbers(2, 6, 2)
    x[0, [0, 3]] = 0
    kept = [0, 1, 2, 4, 5], [1, 2, 4, 5]
    x[1, 3] = 0
    labels, logs = model.decode(x)[0]
    assert labels[0, [0, 3]].tolist() == [-1, -1]
    for i, steps in enumerate(reversed(kept)):
        alone, log = model.decode(x[i : i + 1, steps])[0]
        assert labels[i, steps].tolist() == alone[0].tolist()
        assert logs[i] == log[0]
    y = np.zeros((2, 6), int)
    for i, steps in enumerate(reversed(kept)):
        assert model.log_likelihoods(x, y)[i] == model.log_likelihoods(x[i : i + 1, steps], y[i : i + 1, steps])[0]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision(precision: str) -> None:
    model, x = tagger(seed=5), numbers(9, 6, 2)
    labels, logs = model.decode(x, precision=precision)[0]
    np.testing.assert_allclose(model.log_likelihoods(x, labels, precision=precision), logs, atol=1e-6)
    assert (logs == model.decode(x)[0][1]).all() == (precision == "float32")


def test_sets_of_labels_train_as_labels_do_where_there_is_one_each() -> None:
    x, y = numbers(20, 5, 2), np.random.default_rng(1).integers(0, 2, (20, 5))
    y[0, 2] = -1
    one_hot = np.where(y[:, :, None] < 0, -1, np.eye(3)[y])
    models = [tagger() for _ in range(2)]
    for model, target in zip(models, (y, one_hot), strict=True):
        model.fit(x, target, epochs=2, verbose=0)
    assert bits(models[0].predict(x)) == bits(models[1].predict(x))


@pytest.mark.parametrize("kind", ["labels", "sets", "weights"])
def test_accuracy_is_of_the_labels_that_are_predicted(kind: str) -> None:
    """In `evaluate` and on the validation set, for labels that are partly unknown, sets of them, and weights."""
    random = np.random.default_rng(2)
    model, x, y = tagger(seed=3), numbers(60, 7, 2, seed=1), random.integers(0, 2, (60, 7))
    y[random.random(y.shape) < 0.2] = -1
    guess, weights = model.predict_classes(x), np.ones(60)
    right = guess == y
    target: Any = y
    if kind == "sets":
        target = np.where(y[..., None] < 0, -1, np.eye(3)[y])
        target[y == 0] = [1, 0, 1]  # either of them
        right |= (y == 0) & (guess == 2)
    if kind == "weights":
        weights = random.integers(0, 3, 60).astype(float)
    expected = right.sum() / (y >= 0).sum()
    found = model.evaluate(x, target, sample_weight=weights, return_dict=True)
    assert found["accuracy"] == pytest.approx(expected, rel=1e-6)  # type: ignore[index]
    of_steps = (model.predict(x).argmax(axis=2) == y).sum() / (y >= 0).sum()
    assert kind != "labels" or abs(of_steps - expected) > 1e-3
    tested = model.test_on_batch(x, target, sample_weight=weights, return_dict=True)
    assert tested == found
    history = tagger(seed=3).fit(
        x, target, epochs=1, verbose=0, validation_data=(x, target, weights), sample_weight=weights
    )
    trained = history.model.evaluate(x, target, sample_weight=weights, return_dict=True)
    assert history.history["val_accuracy"] == [trained["accuracy"]]


def test_weights_of_sequences() -> None:
    x, y = numbers(4, 5, 2), np.zeros((4, 5), int)
    model = tagger()
    losses = -model.log_likelihoods(x, y)
    weights = np.array([0.5, 0, 2, 1])
    assert model.evaluate(x, y, sample_weight=weights)[0] == pytest.approx((losses * weights).sum() / 20, rel=1e-5)  # type: ignore[index]
    with pytest.raises(ValueError, match="all steps of sequence 1 need one weight"):
        model.evaluate(x, y, sample_weight=np.where(np.arange(20).reshape(4, 5) == 7, 2.0, 1.0))


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: tagger().compile(loss="mse"), "a model that ends with a CRF is trained with loss='crf_likelihood'"),
    (
        lambda: Sequential([Dense(2)]).compile(loss="crf"),
        r"loss='crf' needs a CRF as the model's last layer, which is Dense\(units=2, activation='linear'\)",
    ),
    (lambda: Sequential([Dense(2), CRF(2), Dropout(0.5)]), "no layer can follow a CRF"),
    (lambda: Sequential([GRU(2), CRF(2)]), "CRF needs sequences, but a layer before it returns one row for each"),
    (lambda: Sequential([GlobalMaxPooling1D(), CRF(2)]), "CRF needs sequences"),
    (lambda: Sequential([Dense(3, input_shape=(None, 2)), CRF(2)]), "2 labels need a score for each, but .* has 3"),
    (lambda: tagger().stream(), r"stream: Bidirectional\(.*\) cannot work step by step"),
    (lambda: Sequential([Dense(2, input_shape=(None, 2)), CRF(2)]).stream(), "CRF.labels=2. cannot work step by step"),
    (lambda: tagger().decode(numbers(1, 2, 2), 0), "paths must be at least 1, not 0"),
    (lambda: tagger().decode(numbers(1, 2, 2), 1001), "paths must be at most 1,000, not 1,001"),
    (lambda: tagger().decode(numbers(1, 2, 2), precision="float16"), "precision must be one of"),
    (lambda: tagger().decode(np.full((1, 2, 2), np.nan)), "x has nan in sequence 0"),
    (lambda: Sequential([Dense(2, input_shape=(None, 2))]).decode(numbers(1, 2, 2)), "last layer must be a CRF"),
    (lambda: Sequential([Dense(2)]).log_likelihoods(numbers(1, 2, 2), [[0, 0]]), "last layer must be a CRF"),
    (lambda: tagger().fit(numbers(1, 2, 2), [[0, 3]]), "y must be whole numbers from 0 to 2"),
    (lambda: tagger().fit(numbers(1, 2, 2), [[0, 2]], class_weight={0: 1, 2: 2}), "class_weight is not for a CRF"),
    (
        lambda: tagger().fit(numbers(1, 2, 2), [[1, 2]], verbose=0),
        "of sequence 0 have a transition that is forbidden",
    ),
    (lambda: tagger().fit(numbers(1, 1, 2), [[[0, 0.5, 1]]]), r"1 for each label .* not \[0.0, 0.5, 1.0\] \(row 0\)"),
    (lambda: tagger().fit(numbers(1, 1, 2), [[[0, 0, 0]]]), "y gives the step in row 0 no label: write -1"),
    (
        lambda: tagger([(0, 0), (0, 1), (0, 2), (None, 1), (None, 2)]).predict(numbers(1, 2, 2)),
        "no labels of sequence 0, 2 steps, are without a forbidden transition",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_what_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_other_losses_than_its_own_have_no_gradient() -> None:
    network = tagger().network
    assert network is not None
    output, _, kept = network.forward(Ragged.from_sequences([numbers(3, 2)]))
    with pytest.raises(ValueError, match="a CRF is trained by the likelihood of labels"):
        kept.backward(np.ones_like(output))
    other = Sequential([Dense(2, input_shape=(None, 2))]).network
    assert other is not None
    with pytest.raises(ValueError, match="only networks that end with a CRF"):
        other.decode(Ragged.from_sequences([numbers(3, 2)]))


def test_labels_that_break_the_rules_have_no_likelihood() -> None:
    model, x = tagger(), numbers(1, 2, 2)
    assert model.log_likelihoods(x, [[1, 2]]).tolist() == [-np.inf]
    assert model.evaluate(x, np.array([[1, 2]]))[0] == np.inf  # type: ignore[index]


@pytest.mark.parametrize("labels", [1, 2, 500])
@pytest.mark.parametrize("steps", [1, 300])
def test_any_number_of_labels(labels: int, steps: int) -> None:
    random = np.random.default_rng(labels)
    model = Sequential([Dense(labels, input_shape=(None, 2)), CRF(labels)], seed=1)
    model.compile("adam", "crf")
    x, y = numbers(2, steps, 2), random.integers(0, labels, (2, steps))
    before = model.evaluate(x, y)
    model.fit(x, y, epochs=3, verbose=0)
    assert np.isfinite(before)
    assert model.evaluate(x, y) < before or labels == 1  # type: ignore[operator]
    assert model.decode(x)[0][0].shape == (2, steps)
