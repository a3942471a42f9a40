"""What rows count for by their classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from bilstm.tasks.classweights import row_weights

CODES = np.array([0, 2, -1, 1, 2], np.int32)


def test_as_a_person_says() -> None:
    weights = row_weights({"b": 3.0, "c": 0}, ["a", "b", "c"], CODES, CODES)
    assert weights is not None
    assert weights.dtype == np.float32
    assert weights.tolist() == [1, 0, 0, 3, 0]
    assert row_weights({7: 2.0}, np.array([5, 6, 7]), CODES, CODES).tolist() == [1, 2, 0, 1, 2]  # type: ignore[union-attr]
    assert row_weights(None, ["a", "b", "c"], CODES, CODES) is None


@given(st.lists(st.integers(-1, 3)).map(lambda codes: [*codes, 0, 1, 2, 3]))
def test_balanced_as_scikit_learn_does(codes: list[int]) -> None:
    found = np.array(codes, np.int32)
    weights = row_weights("balanced", list("abcd"), found, found)
    assert weights is not None
    labelled = found[found >= 0]
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labelled)
    np.testing.assert_allclose(weights, np.where(found >= 0, expected[found], 0), rtol=1e-6)
    assert weights.sum() == pytest.approx(len(labelled), rel=1e-5)


def test_balanced_by_the_rows_that_are_trained_on() -> None:
    counted = np.array([0, 0, 0, 1, -1], np.int32)
    weights = row_weights("balanced", ["a", "b"], np.array([0, 1, 1, -1], np.int32), counted)
    np.testing.assert_allclose(weights, [4 / 6, 2, 2, 0], rtol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ("even", "class_weight must be None, 'balanced' or a dictionary of classes, not 'even'"),
        (3.0, "class_weight must be None, 'balanced' or a dictionary of classes, not 3.0"),
        ({"d": 1}, "class_weight has 'd', which is none of the classes 'a', 'b', 'c'"),
        ({"a": -1}, "class_weight must be finite numbers from 0, not {'a': -1}"),
        ({"a": float("inf")}, "class_weight must be finite numbers from 0, not {'a': inf}"),
    ],
)
def test_what_is_no_weight(weight: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        row_weights(weight, ["a", "b", "c"], CODES, CODES)
