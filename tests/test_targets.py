"""What people pass as y and as weights becomes one target and one weight for each row, or a clear refusal."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.engine.losses import TABLE, TargetKind
from bilstm.engine.plans import Targets
from bilstm.errors import UserError
from bilstm.models.targets import make_targets
from bilstm.ragged import Ragged

pytestmark = pytest.mark.fast

BINARY, SPARSE, MSE = "binary_crossentropy", "sparse_categorical_crossentropy", "mse"
CATEGORICAL = "categorical_crossentropy"
OF_NUMBERS = [loss.name for loss in TABLE if loss.targets is TargetKind.NUMBERS]


def sequences(lengths: list[int]) -> Ragged:
    return Ragged(np.zeros(sum(lengths)), np.cumsum([0, *lengths]))


def make(y: Any, lengths: list[int], loss: str = MSE, outputs: int = 1, **keywords: Any) -> Targets:
    return make_targets(y, sequences(lengths), loss=loss, outputs=outputs, **{"one_row_each": False} | keywords)


# --- Laws ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(1, 3), st.integers(0, 2**32))
def test_every_form_of_y_means_the_same(lengths: list[int], outputs: int, seed: int) -> None:
    rows = np.random.default_rng(seed).random((sum(lengths), outputs), np.float32)
    ragged = sequences(lengths).with_values(rows)
    forms: list[Any] = [rows, ragged, ragged.to_list(), tuple(ragged.to_list()), [part.tolist() for part in ragged]]
    if outputs == 1:
        forms += [rows[:, 0], [part[:, 0] for part in ragged]]
    if len(set(lengths)) == 1:
        padded = rows.reshape(len(lengths), lengths[0], outputs)
        forms += [padded, padded.tolist(), *([padded[:, :, 0]] if outputs == 1 else [])]
    for y in forms:
        np.testing.assert_array_equal(make(y, lengths, outputs=outputs).values, rows)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(2, 4), st.integers(0, 2**32))
def test_whole_numbers_of_any_type_are_labels(lengths: list[int], outputs: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(-1, outputs, sum(lengths))
    for y in (labels, labels.astype(np.float64), labels[:, np.newaxis], np.where(labels < 0, np.nan, labels)):
        targets = make(y, lengths, SPARSE, outputs)
        assert targets.labels is not None
        assert targets.labels.dtype == np.int32
        assert targets.labels.tolist() == labels.tolist()
        assert targets.values is None


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(0, 2**32))
def test_a_weight_for_each_sequence_is_one_for_each_of_its_steps(lengths: list[int], seed: int) -> None:
    weights = np.random.default_rng(seed).random(len(lengths))
    of_steps = np.repeat(weights, lengths).astype(np.float32)
    y = np.zeros(sum(lengths))
    ragged = sequences(lengths).with_values(of_steps)
    for form in (weights, weights.tolist(), of_steps, ragged, ragged.to_list(), [part[:, 0] for part in ragged]):
        np.testing.assert_array_equal(make(y, lengths, sample_weight=form).weights, of_steps)


@given(st.lists(st.integers(-1, 2), min_size=1, max_size=9), st.integers(0, 2**32))
def test_class_weights_multiply_sample_weights(labels: list[int], seed: int) -> None:
    weights = np.random.default_rng(seed).random(len(labels)).astype(np.float32)
    table = {0: 0.5, 1: 2.0, 2: 3.0}
    expected = [weight * table.get(label, 0.0) for weight, label in zip(weights, labels, strict=True)]
    given_ = {"class_weight": table, "sample_weight": weights}
    np.testing.assert_allclose(make([labels], [len(labels)], SPARSE, 3, **given_).weights, expected, rtol=1e-6)
    one_hot = np.where(np.array(labels)[:, None] < 0, np.nan, np.eye(3)[labels])
    np.testing.assert_allclose(make(one_hot, [len(labels)], CATEGORICAL, 3, **given_).weights, expected, rtol=1e-6)


# --- Examples --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("y", [[1, 0], [[1], [0]], np.array([1.0, 0.0]), np.array([[1], [0]])], ids=str)
def test_one_row_for_each_sequence(y: Any) -> None:
    targets = make(y, [3, 2], BINARY, one_row_each=True)
    assert targets.values is not None
    assert targets.values.tolist() == [[1], [0]]
    assert make(y, [3, 2], SPARSE, 2, one_row_each=True).labels.tolist() == [1, 0]  # type: ignore[union-attr]


@pytest.mark.parametrize("form", [[2, 3], np.array([2.0, 3.0]), np.array([[2], [3]])], ids=str)
def test_weights_of_one_row_for_each_sequence(form: Any) -> None:
    weights = make([0, 1], [3, 2], one_row_each=True, sample_weight=form).weights
    assert weights is not None
    assert weights.tolist() == [2, 3]


def test_no_weights_are_no_array() -> None:
    assert make([[0, 1]], [2]).weights is None
    assert make([[0, 1]], [2], SPARSE, 2).weights is None


@pytest.mark.parametrize("loss", [BINARY, CATEGORICAL])
def test_minus_one_is_unlabelled_for_cross_entropies(loss: str) -> None:
    values = make([[[1, 0], [-1, -1], [np.nan, 0]]], [3], loss, 2).values
    np.testing.assert_array_equal(values, [[1, 0], [np.nan, np.nan], [np.nan, 0]])


@pytest.mark.parametrize("loss", OF_NUMBERS)
def test_minus_one_is_a_number_like_any_other(loss: str) -> None:
    np.testing.assert_array_equal(make([[-1, np.nan]], [2], loss).values, [[-1], [np.nan]])


def test_a_single_output_has_two_classes() -> None:
    targets = make([[0, 1, 0.2, 0.9, -1]], [5], BINARY, class_weight={0: 3, 1: 5})
    assert targets.weights is not None
    assert targets.weights.tolist() == [3, 5, 3, 5, 0]


def test_y_is_not_changed() -> None:
    y = np.array([[1.0], [-1.0]], np.float32)
    make(y, [2], BINARY)
    assert y.tolist() == [[1], [-1]]


@pytest.mark.parametrize(
    ("y", "keywords", "message"),
    [
        ([[1, 0]], {}, "y has 1 sequences, x has 2"),
        ([[1, 0], [1, 0]], {}, "y: sequence 1 has shape (2,), but 3 steps in x"),
        ([[1, 0], 1], {}, "y: sequence 1 has shape (), but 3 steps in x"),
        (
            np.zeros((2, 2)),
            {},
            "y has shape (2, 2), but x has 2 sequences of 5 steps in all: give a value for every st",
        ),
        (np.zeros(4), {}, "y has shape (4,), but x has 2 sequences of 5 steps in all: give a value for every step"),
        (3, {}, "y has shape (), but x has 2 sequences of 5 steps in all: give a value for every step"),
        (sequences([3, 2]), {}, "y and x must have sequences of the same lengths"),
        (np.zeros((5, 2)), {}, "y has shape (5, 2) where mse needs (5, 1): a number for each output"),
        (
            np.zeros(5),
            {"loss": CATEGORICAL, "outputs": 3},
            "y has shape (5,) where categorical_crossentropy needs (5, 3): a number for each output; whole-number "
            "labels go with 'sparse_categorical_crossentropy'",
        ),
        (
            np.zeros((5, 3)),
            {"loss": SPARSE, "outputs": 3},
            "sparse_categorical_crossentropy needs one whole number per row, but y has shape (5, 3)",
        ),
        (
            [[0, 1], [2, 3, 1]],
            {"loss": SPARSE, "outputs": 3},
            "y must be whole numbers from 0 to 2, or -1 where unlabelled, not 3 (row 3)",
        ),
        (
            [[0, 1], [-2, 2, 1]],
            {"loss": SPARSE, "outputs": 3},
            "y must be whole numbers from 0 to 2, or -1 where unlabelled, not -2 (row 2)",
        ),
        (
            [[0, 0.5], [2, 2, 1]],
            {"loss": SPARSE, "outputs": 3},
            "y must be whole numbers from 0 to 2, or -1 where unlabelled, not 0.5 (row 1)",
        ),
        (np.full(5, 2), {"loss": BINARY}, "binary_crossentropy needs y from 0 to 1, or -1 where unlabelled"),
        (np.full(5, -0.1), {"loss": BINARY}, "binary_crossentropy needs y from 0 to 1, or -1 where unlabelled"),
        (
            np.full((5, 2), -0.5),
            {"loss": CATEGORICAL, "outputs": 2},
            "categorical_crossentropy needs y from 0 to 1, or -1 where unlabelled",
        ),
        ([0, 0, 0, 1, 0], {}, "y has 5 sequences, x has 2"),
        (np.array([0, 0, 0, np.inf, 0]), {}, "y is infinite in row 3"),
        (np.zeros(3), {"one_row_each": True}, "y has shape (3,), but there are 2 sequences"),
        (1, {"one_row_each": True}, "y has shape (), but there are 2 sequences"),
        (np.zeros(5), {"sample_weight": np.ones(3)}, "sample_weight has shape (3,), but x has 2 sequences of 5 steps"),
        (np.zeros(5), {"sample_weight": [[1, 1]]}, "sample_weight has 1 sequences, x has 2"),
        (np.zeros(5), {"sample_weight": np.ones((5, 2))}, "sample_weight has shape (5, 2), but there are 5 rows"),
        (np.zeros(5), {"sample_weight": [1, -1]}, "weights must be finite and not negative"),
        (np.zeros(5), {"sample_weight": [1, np.nan]}, "weights must be finite and not negative"),
        (np.zeros(5), {"loss": BINARY, "class_weight": {1: 1.0}}, "class_weight lacks class 0"),
        (np.zeros(5), {"loss": BINARY, "class_weight": {0: -1.0}}, "weights must be finite and not negative"),
    ],
)
def test_what_does_not_fit_is_refused(y: Any, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        make(y, [2, 3], **keywords)


def test_padded_labels_for_ragged_sequences_are_refused_even_where_their_number_fits() -> None:
    with pytest.raises(ValueError, match="give a value for every step"):
        make(np.zeros((2, 2)), [1, 3])


def test_class_weights_may_name_classes_that_do_not_occur() -> None:
    weights = make([[0, 2]], [2], SPARSE, 5, class_weight={0: 2.0, 2: 3.0, 4: 9.0}).weights
    assert weights is not None
    assert weights.tolist() == [2, 3]


@pytest.mark.parametrize("loss", [BINARY, CATEGORICAL, SPARSE])
@pytest.mark.parametrize("unlabelled", [False, True])
def test_classes_numbered_minus_one_and_one_are_refused_in_a_whole_data_set(loss: str, unlabelled: bool) -> None:
    """-1 means unlabelled: all that would be learned or scored is class 1."""
    outputs = 2 if loss == CATEGORICAL else 1
    y = np.array([1.0, -1, 1, 1, -1])
    y = np.stack([y, -y], axis=1) if outputs == 2 else y
    if unlabelled:
        y[2] = np.nan
    arguments: Any = {"loss": loss, "outputs": max(outputs, 2 if loss == SPARSE else 1)}
    with pytest.raises(UserError, match="y has only the labels 1 and -1, .*: number the classes 0 and 1 instead"):
        make(y, [2, 3], complete=True, **arguments)
    make(y, [2, 3], **arguments)  # a batch may have one class by chance
    for other in (np.where(y == -1, np.nan, y), np.where(y == -1, 0, y), np.concatenate([[0 * y[0]], y[1:]])):
        make(other, [2, 3], complete=True, **arguments)


@pytest.mark.parametrize("loss", OF_NUMBERS)
def test_minus_one_and_one_are_numbers(loss: str) -> None:
    make([[1, -1]], [2], loss, complete=True)
