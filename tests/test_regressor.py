"""SequenceRegressor: quantities of steps are read, learnt, predicted in the form of X, and scored."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score

from bilstm import SequenceRegressor
from bilstm.inputs.quantities import read_quantities
from bilstm.ragged import Ragged, offsets_of
from oracles.models import bits, weight_bits

NAN = float("nan")
OFFSETS = np.array([0, 2, 5])


def regressor(**parameters: Any) -> SequenceRegressor:
    quick: dict[str, Any] = {"units": 5, "layers": 1, "epochs": 2, "batch_size": 16, "random_state": 0, "dropout": 0.0}
    return SequenceRegressor(**quick | parameters)


def data(count: int = 40, seed: int = 1) -> tuple[list[Any], list[Any]]:
    """Sequences of two numbers a step, and for each step its first number and a tenth of the next step's second."""
    random = np.random.default_rng(seed)
    X = [random.normal(size=(steps, 2)).astype(np.float32) for steps in random.integers(2, 9, count)]
    return X, [1000 + 50 * (x[:, 0] + np.append(x[1:, 1], 0) / 2) for x in X]


def test_quantities_are_learnt() -> None:
    train, (X, y) = data(200), data(80, seed=2)
    options: dict[str, Any] = {"units": 12, "epochs": 30, "learning_rate": 0.02}
    fitted = regressor(**options).fit(*train)
    predicted = fitted.predict(X)
    assert [row.shape for row in predicted] == [row.shape for row in y]
    assert predicted[0].dtype == np.float64
    right = r2_score(np.concatenate(y), np.concatenate(predicted))
    assert fitted.score(X, y) == pytest.approx(right)
    assert right > 0.9
    assert set(fitted.training_["history"]) == {"loss", "val_loss"}
    assert regressor(direction="forward", **options).fit(*train).score(X, y) < right - 0.1  # the next step is not seen


def test_the_unit_in_which_quantities_are_given_is_nothing() -> None:
    X, y = data()
    once, scaled = (regressor().fit(X, [factor * row for row in y]) for factor in (1.0, 2.0**40))
    assert weight_bits(once.model_.network) == weight_bits(scaled.model_.network)
    assert once.score(X, y) == pytest.approx(scaled.score(X, [2.0**40 * row for row in y]))
    constant = regressor(epochs=40, learning_rate=0.1).fit(X, [np.full(len(row), 7.0) for row in y])
    assert constant.scale_.tolist() == [1.0]
    np.testing.assert_allclose(np.concatenate(constant.predict(X)), 7, atol=0.05)


def test_several_quantities() -> None:
    X, y = data()
    pairs = [np.stack([row, -row], axis=1) for row in y]
    fitted = regressor().fit(X, pairs)
    assert fitted.mean_.shape == fitted.scale_.shape == (2,)
    assert fitted.predict(X)[0].shape == pairs[0].shape
    stacked = np.concatenate(pairs), np.concatenate(fitted.predict(X))
    assert fitted.score(X, pairs) == pytest.approx(r2_score(*stacked))
    single = regressor().fit(X, [row[:, np.newaxis] for row in y])
    assert single.predict(X)[0].shape == (len(y[0]), 1)


def test_in_the_form_of_what_was_given() -> None:
    X = np.random.default_rng(0).normal(size=(20, 4, 2)).astype(np.float32)
    fitted = regressor().fit(X, X[:, :, 0])
    assert fitted.predict(X).shape == (20, 4)
    ragged = Ragged(X.reshape(-1, 2), offsets_of([4] * 20))
    assert bits(np.stack(fitted.predict(ragged))) == bits(fitted.predict(X))
    assert regressor().fit(X, X).predict(X).shape == X.shape


def test_a_table() -> None:
    polars = pytest.importorskip("polars")
    X, y = data()
    rows = {"id": np.repeat(np.arange(len(X)), [len(x) for x in X]), "y": np.concatenate(y)}
    table = polars.DataFrame(rows | dict(zip("ab", np.concatenate(X).T, strict=True)))
    fitted = regressor(sequence="id").fit(table, y="y")
    assert fitted.feature_names_in_.tolist() == ["a", "b"]
    np.testing.assert_allclose(fitted.predict(table), np.concatenate(regressor().fit(X, y).predict(X)), rtol=1e-5)


def test_unknown_quantities_are_context_only() -> None:
    X, y = data()
    some = [row.copy() for row in y]
    for row in some[:30]:
        row[1] = NAN
    fitted = regressor().fit(X, some)
    values = np.concatenate(some)
    known = ~np.isnan(values)
    assert fitted.score(X, some) == pytest.approx(r2_score(values[known], np.concatenate(fitted.predict(X))[known]))
    changed = [x.copy() for x in X]
    changed[0][1] += 1  # but it is read
    assert not np.allclose(fitted.predict(changed)[0], fitted.predict(X)[0])


def test_in_scikit_learns_tools() -> None:
    X, y = data()
    assert cross_val_score(regressor(), X, y, cv=2).shape == (2,)
    search = GridSearchCV(regressor(), {"units": [2, 3], "weight_decay": [0.0, 0.5]}, cv=2).fit(X, y)
    assert set(search.best_params_) == {"units", "weight_decay"}
    fitted = regressor(variational_dropout=True, dropout=0.2).fit(X, y)
    for copied in (pickle.loads(pickle.dumps(fitted)), clone(fitted).fit(X, y)):
        assert [bits(row) for row in copied.predict(X)] == [bits(row) for row in fitted.predict(X)]


def test_partial_fit() -> None:
    X, y = data()
    fitted = regressor().partial_fit(X, y)
    first = weight_bits(fitted.model_.network), fitted.mean_
    fitted.partial_fit(X, [row + 5 for row in y])
    assert weight_bits(fitted.model_.network) != first[0]
    assert fitted.mean_ is first[1]
    with pytest.raises(ValueError, match="^y has 2 quantities a step, but SequenceRegressor was fitted to 1$"):
        fitted.partial_fit(X, [np.stack([row, row], axis=1) for row in y])


# --- Reading ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e6, 1e6) | st.just(NAN), min_size=5, max_size=5))
def test_quantities_in_any_form(numbers: list[float]) -> None:
    values = np.array(numbers)
    without_nan = [None if np.isnan(number) else number for number in numbers]
    forms = [[values[:2], values[2:]], [numbers[:2], numbers[2:]], [without_nan[:2], without_nan[2:]]]
    for form in forms:
        found = read_quantities(form, OFFSETS)
        assert found.flat
        np.testing.assert_array_equal(found.values, values[:, np.newaxis])
        np.testing.assert_array_equal(found.labelled, ~np.isnan(values))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: read_quantities([[1.0]], OFFSETS),
            "Found input variables with inconsistent numbers of samples: X has 2",
        ),
        (lambda: read_quantities([[1.0, 2], [1.0, 2]], OFFSETS), "y: sequence 1 has shape (2,), but 3 steps in X"),
        (lambda: read_quantities([1, 2], OFFSETS), "y: sequence 0 has shape (), but 2 steps in X"),
        (
            lambda: read_quantities([[[1, 2]] * 2, [[1]] * 3], OFFSETS),
            "y: sequence 1 has shape (3, 1), but 3 steps in X",
        ),
        (lambda: read_quantities([[[]] * 2, [[]] * 3], OFFSETS), "y: sequence 0 has shape (2, 0), but 2 steps in X"),
        (lambda: read_quantities([["a", "b"], ["c"] * 3], OFFSETS), "quantities must be numbers, not text"),
        (lambda: read_quantities([["a", None], ["c"] * 3], OFFSETS), "quantities must be numbers, not text"),
        (
            lambda: read_quantities([[1, np.inf], [1] * 3], OFFSETS),
            "quantities must be finite numbers, or NaN where unknown, not infinite",
        ),
        (
            lambda: read_quantities([[[1, NAN]] * 2, [[1, 2]] * 3], OFFSETS),
            "y lacks some of a step's quantities: a step has all of them or none",
        ),
        (lambda: regressor().fit(*data(3)).score(data(1)[0], [[NAN] * len(data(1)[0][0])]), "no step of y has a value"),
        (lambda: regressor().fit(data(2)[0], [[NAN] * len(x) for x in data(2)[0]]), "no step of y has a value"),
        (lambda: regressor().fit(data(2)[0], None), "SequenceRegressor requires y to be passed, but the target y is N"),
        (lambda: regressor(units=0).fit(*data(2)), "training: units must be at least 1, not 0"),
    ],
)
def test_what_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        call()
