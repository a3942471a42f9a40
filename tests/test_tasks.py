"""Labels of any kind become class numbers; what is missing, unknown or no label is told apart."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.inputs.labels import Indicators, Labels, as_classes, read_labels, read_step_labels
from bilstm.ragged import Ragged

NAN = float("nan")
OFFSETS = np.array([0, 2, 5])
KINDS: list[Any] = [["x", "y", "z"], [3, -1, 7], [1.0, 0.0, 2.0], [True, False]]


def codes(labels: Labels) -> list[int]:
    return labels.codes(labels.classes()).tolist()


@given(st.sampled_from(KINDS), st.lists(st.integers(0, 2), min_size=5, max_size=5))
def test_labels_of_any_kind_come_back(kind: list[Any], chosen: list[int]) -> None:
    y = [kind[i % len(kind)] for i in chosen]
    forms: list[Any] = [[y[:2], y[2:]], [np.array(y[:2]), np.array(y[2:])], [np.array(y[:2], object), tuple(y[2:])]]
    for form in forms:
        labels = read_step_labels(form, OFFSETS)
        assert labels.labelled.all()
        if len(set(y)) > 1:
            classes = labels.classes()
            assert classes.tolist() == sorted(set(y))
            assert classes[labels.codes(classes)].tolist() == y
    if len(set(y)) > 1:
        of_sequences = read_labels(y, 5)
        assert of_sequences.classes()[of_sequences.codes(of_sequences.classes())].tolist() == y


def test_labels_of_steps_in_one_array_or_ragged() -> None:
    expected = [0, 1, 1, 0, 0, 1]
    offsets = np.array([0, 3, 6])
    square = np.array(expected).reshape(2, 3)
    ragged = Ragged(np.array(expected), offsets)
    for form in (square, square[:, :, np.newaxis], ragged, list(ragged), square.astype(object), square.astype(str)):
        assert codes(read_step_labels(form, offsets)) == expected


@pytest.mark.parametrize(
    ("y", "missing"),
    [
        ([["a", None], ["b", "a", None]], None),
        ([["a", NAN], ["b", "a", NAN]], None),
        ([["a", ""], ["b", "a", ""]], ""),
        ([np.array(["a", "?"]), np.array(["b", "a", "?"])], "?"),
        ([[4, None], [7, 4, None]], None),
        ([[4, NAN], [7, 4, NAN]], None),
        ([[4, -1], [7, 4, -1]], -1),
        ([[4, -1], [7, 4, None]], -1),
        ([np.array([4, -1]), np.array([7, 4, NAN])], -1),
        ([np.array(["a", None], object), np.array(["b", "a", None], object)], -1),
    ],
)
def test_steps_without_a_label(y: Any, missing: Any) -> None:
    labels = read_step_labels(y, OFFSETS, missing)
    assert labels.labelled.tolist() == [True, False, True, True, False]
    assert codes(labels) == [0, -1, 1, 0, -1]
    assert len(labels.classes()) == 2


def test_a_number_that_stands_for_missing_is_none_among_strings() -> None:
    for y in ([["1", "2"], ["1", "1", "2"]], [np.array(["1", "2"], object), ["1", "1", "2"]]):
        assert read_step_labels(y, OFFSETS, 1).labelled.all()
    assert read_step_labels([[1, 2], [1, 1, 2]], OFFSETS, "1").labelled.all()


@pytest.mark.parametrize("y", [["a", "c", "b"], [1, 9, 2], np.array(["a", "c", "b"], object)])
def test_labels_that_are_no_class(y: Any) -> None:
    labels = read_labels(y, 3)
    classes = as_classes([y[0], y[2]])
    assert labels.codes(classes).tolist() == [0, -2, 1]
    with pytest.raises(ValueError, match=f"y has the label '{y[1]}', which is none of the classes '{y[0]}', '{y[2]}'"):
        labels.known_codes(classes)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (
            lambda: read_step_labels([[1, 2]], OFFSETS),
            "Found input variables with inconsistent numbers of samples: X has",
        ),
        (lambda: read_step_labels([[1, 2], [1, 2]], OFFSETS), "y: sequence 1 has shape (2,), but 3 steps in X"),
        (lambda: read_step_labels([1, 2], OFFSETS), "y: sequence 0 has shape (), but 2 steps in X"),
        (lambda: read_step_labels(5, OFFSETS), "Found input variables with inconsistent numbers of samples"),
        (lambda: read_step_labels([["a", "b"], [1, 2, 3]], OFFSETS).classes(), "labels must be strings or whole numb"),
        (lambda: read_labels([1, 2], 3), "Found input variables with inconsistent numbers of samples: X has 3 sequ"),
        (lambda: read_labels(["a", None, "b"], 3), "y: sequence 1 has no label"),
        (lambda: read_labels([0.0, 1.0, NAN], 3), "y: sequence 2 has no label"),
        (
            lambda: read_labels([0.5, 1.0], 2).classes(),
            "Unknown label type: continuous. Labels are classes, but 0.5 is",
        ),
        (
            lambda: read_labels([b"a", b"b"], 2).classes(),
            "labels must be strings or whole numbers, of one kind, not bytes",
        ),
        (lambda: read_labels(np.array([b"a", b"b"]), 2), "labels must be strings or whole numbers, not |S1"),
        (
            lambda: read_labels([1, 1], 2).classes(),
            "labels of at least two classes are needed to learn the difference; y",
        ),
        (lambda: as_classes([]), "labels of at least two classes are needed to learn the difference; y has none"),
    ],
)
def test_what_is_no_label(read: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        read()


# --- Several labels a step -------------------------------------------------------------------------------------------

SEVERAL = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 0]])


def test_several_labels_in_any_form() -> None:
    square = SEVERAL[[0, 1, 2, 3]].reshape(2, 2, 3)
    forms: list[tuple[Any, Any]] = [
        ([SEVERAL[:2], SEVERAL[2:]], OFFSETS),
        ([SEVERAL[:2].tolist(), SEVERAL[2:].astype(bool)], OFFSETS),
        ([SEVERAL[:2].astype(object), SEVERAL[2:].astype(np.float32)], OFFSETS),
        (Ragged(SEVERAL, OFFSETS), OFFSETS),
        (square, np.array([0, 2, 4])),
    ]
    for form, offsets in forms:
        found = read_step_labels(form, offsets)
        assert isinstance(found, Indicators)
        assert found.classes().tolist() == [0, 1, 2]
        assert found.labelled.all()
        targets = found.targets(found.classes(), None)
        assert (targets.labels, targets.weights) == (None, None)
        np.testing.assert_array_equal(targets.values, SEVERAL[: offsets[-1]])


@pytest.mark.parametrize(("absent", "missing"), [(NAN, None), (-1, -1), (None, None), (9, 9.0)])
def test_steps_without_any_of_several_labels(absent: Any, missing: Any) -> None:
    y = SEVERAL.astype(object)
    y[[0, 3]] = absent
    found = read_step_labels([y[:2], y[2:]], OFFSETS, missing)
    assert isinstance(found, Indicators)
    assert found.labelled.tolist() == [False, True, True, False, True]
    assert np.isnan(found.values[[0, 3]]).all()
    np.testing.assert_array_equal(found.values[found.labelled], SEVERAL[[1, 2, 4]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: read_step_labels([[[1, 0]] * 2, [[1, 0, 1]] * 3], OFFSETS),
            "y: sequence 1 has shape (3, 3), but 3 st",
        ),
        (
            lambda: read_step_labels([[[1, 0]] * 2, [1, 0, 1]], OFFSETS),
            "y: sequence 1 has shape (3,), but 3 steps in X",
        ),
        (lambda: read_step_labels([[1, 0], [[1, 0]] * 3], OFFSETS), "y: sequence 1 has shape (3, 2), but 3 steps in X"),
        (
            lambda: read_step_labels([[[1, 0]] * 2, [[1, 2]] * 3], OFFSETS),
            "several labels a step are 1 where a step has them, else 0, not 2",
        ),
        (
            lambda: read_step_labels([[["a", "b"]] * 2, [["a", "b"]] * 3], OFFSETS),
            "several labels a step are 1 where a step has them, else 0, not text",
        ),
        (
            lambda: read_step_labels([[[1, NAN]] * 2, [[1, 0]] * 3], OFFSETS),
            "y lacks some of a step's labels: a step is labelled wholly or not at all",
        ),
        (lambda: read_step_labels([[[NAN, NAN]] * 2] * 2, np.array([0, 2, 4])).classes(), "no step of y is labelled"),
        (
            lambda: read_step_labels(Ragged(SEVERAL, OFFSETS), OFFSETS).targets(np.arange(2), None),
            "y has 3 labels a step, which are not the classes [0, 1]",
        ),
        (
            lambda: read_step_labels(Ragged(SEVERAL, OFFSETS), OFFSETS).targets(np.arange(3), "balanced"),
            "class_weight is for steps of one label each, but those of y have several",
        ),
    ],
)
def test_what_are_not_several_labels(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        call()
