"""SequenceRegressor: quantities of steps are read, learnt, predicted in the form of X, and scored."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score

from bilstm import SequenceRegressor, SequenceTagger
from bilstm.data.arrays import read_rows
from bilstm.ragged import Ragged, offsets_of
from oracles.models import bits, weight_bits

pytestmark = pytest.mark.fast

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
    assert single.predict(X)[0].shape == (len(y[0]),)


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
    assert fitted.mean_.tolist() == first[1].tolist()
    with pytest.raises(ValueError, match="^y has 2 quantities a step, but SequenceRegressor was fitted on 1$"):
        fitted.partial_fit(X, [np.stack([row, row], axis=1) for row in y])


@pytest.mark.parametrize("several", [False, True])
def test_quantities_of_sequences(several: bool) -> None:
    def of(sequences: list[Any]) -> Any:
        means = np.array([x[:, 0].mean() for x in sequences])
        return np.stack([means, 10 - means], axis=1) if several else means

    train, test = data(300)[0], data(80, seed=2)[0]
    options: dict[str, Any] = {"per_sequence": True, "units": 12, "epochs": 40, "learning_rate": 0.02}
    fitted = regressor(**options).fit(train, of(train))
    predicted = fitted.predict(test)
    assert predicted.shape == of(test).shape
    assert fitted.score(test, of(test)) == pytest.approx(r2_score(of(test), predicted))
    assert fitted.score(test, of(test)) > 0.8
    truth = of(train)
    truth[::2] = NAN  # of which nothing is learned
    assert np.isfinite(regressor(**options | {"epochs": 2}).fit(train, truth).predict(test)).all()
    with pytest.raises(ValueError, match="X has 300 sequences and needs one entry for each, but y has shape \\(299"):
        regressor(per_sequence=True).fit(train, of(train)[:-1])


def test_quantities_with_a_value_that_stands_for_missing() -> None:
    X, y = data()
    marked, missing = [np.where(row > 1050, -999.0, row) for row in y], [np.where(row > 1050, NAN, row) for row in y]
    found = regressor(missing_label=-999.0).fit(X, marked)
    assert weight_bits(found.model_.network) == weight_bits(regressor().fit(X, missing).model_.network)
    assert weight_bits(found.model_.network) != weight_bits(regressor().fit(X, marked).model_.network)


def test_a_given_validation_set() -> None:
    X, y = data()
    fitted = regressor().fit(X[:30], y[:30], validation_data=(X[30:], y[30:]))
    assert (fitted.training_["sequences"], fitted.training_["validation_sequences"]) == (30, 10)


def test_files(tmp_path: Path) -> None:
    X, y = data()
    fitted = regressor().fit(X, y)
    fitted.save(tmp_path / "model")
    loaded = SequenceRegressor.load(tmp_path / "model")
    assert [bits(row) for row in loaded.predict(X)] == [bits(row) for row in fitted.predict(X)]
    assert not loaded.per_sequence
    of_sequences = regressor(per_sequence=True).fit(X, [row[0] for row in y])
    of_sequences.save(tmp_path / "model")
    assert SequenceRegressor.load(tmp_path / "model").per_sequence
    with pytest.raises(
        ValueError, match="holds a model for the task sequence-quantity, which is SequenceRegressor's: u"
    ):
        SequenceTagger.load(tmp_path / "model")


# --- Reading ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e6, 1e6) | st.just(NAN), min_size=5, max_size=5))
def test_quantities_in_any_form(numbers: list[float]) -> None:
    values = np.array(numbers)
    without_nan = [None if np.isnan(number) else number for number in numbers]
    forms = [[values[:2], values[2:]], [numbers[:2], numbers[2:]], [without_nan[:2], without_nan[2:]]]
    for form in forms:
        (cells,) = read_rows(form, OFFSETS, False).values()
        np.testing.assert_array_equal(cells.values, values)


TWO = [[0.0, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([[1.0]], "Found input variables with inconsistent numbers of samples: X has 2"),
        ([[1.0, 2], [1.0, 2]], "y: sequence 1 has shape (2,), but X has 3 steps"),
        ([1, 2], "y: sequence 0 has shape (), but X has 2 steps"),
        ([[[1, 2]] * 2, [[1]] * 3], "y: sequence 1 has shape (3, 1), but X has 3 steps"),
        ([[[]] * 2, [[]] * 3], "y has shape (5, 0), but needs one entry, or a row of entries, for each"),
        ([["a", "b"], ["c"] * 3], "sequence 0 of X, step 0: 'a' in column 'label', a quantity, is not a number"),
        ([["a", None], ["c"] * 3], "sequence 0 of X, step 0: 'a' in column 'label', a quantity, is not a number"),
        ([[1, np.inf], [1] * 3], "sequence 0 of X, step 1: 'inf' in column 'label', a quantity, is infinite"),
        ([[[1, NAN]] * 2, [[1, 2]] * 3], "sequence 0 of X, step 0 lacks some of the quantities: a step has all"),
        ([[NAN] * 2, [NAN] * 3], "X has no value in column 'label'"),
        (None, "SequenceRegressor requires y to be passed, but the target y is None"),
    ],
)
def test_what_are_no_quantities(y: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        regressor().fit(TWO, y)


def test_no_value_to_score() -> None:
    X, y = data(3)
    with pytest.raises(ValueError, match="^X has no value in column 'label'$"):
        regressor().fit(X, y).score(X, [np.full(len(row), NAN) for row in y])
    with pytest.raises(ValueError, match="^training: units must be at least 1, not 0$"):
        regressor(units=0).fit(X, y)
