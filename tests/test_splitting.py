"""Which sequences are set aside for validation: a share, by class or by group, and always some to train on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.splitting import FEWEST_LABELS, default_share, split

pytestmark = pytest.mark.fast

SHARES = st.floats(0, 0.9)


@given(st.integers(0, 10**8), SHARES)
def test_by_itself_a_tenth_but_no_more_than_a_thousand(sequences: int, wanted: float) -> None:
    assert default_share(wanted, sequences) == wanted
    share = default_share(None, sequences)
    assert round(share * sequences) == min(round(0.1 * sequences), 1000)
    one_each = default_share(None, sequences, one_label_each=True)
    assert one_each == (0 if sequences < FEWEST_LABELS else share)
    assert default_share(wanted, sequences, one_label_each=True) == wanted


@given(st.lists(st.booleans(), min_size=1, max_size=30), SHARES, st.integers(0, 99), st.booleans())
def test_every_sequence_is_on_one_side_and_those_set_aside_are_labelled(
    labelled: list[bool], share: float, seed: int, by_class: bool
) -> None:
    marks = np.array(labelled)
    classes = np.where(marks, np.arange(len(marks)) % 3, -1).astype(np.int32) if by_class else None
    training, aside = split(marks, share, seed=seed, classes=classes)
    assert sorted([*training, *aside]) == list(range(len(marks)))
    assert marks[aside].all()
    if share and not by_class and marks.sum() > 1:
        assert len(aside) == min(max(1, round(share * marks.sum())), marks.sum() - 1)
        assert marks[training].any()
    if not share:
        assert not len(aside)
    again = split(marks, share, seed=seed, classes=classes)
    assert [part.tolist() for part in again] == [training.tolist(), aside.tolist()]


@pytest.mark.parametrize("seed", range(3))
def test_classes_are_set_aside_in_proportion(seed: int) -> None:
    classes = np.repeat([0, 1, 2], [60, 30, 10]).astype(np.int32)
    _, aside = split(np.ones(100, bool), 0.1, seed=seed, classes=classes)
    assert np.bincount(classes[aside]).tolist() == [6, 3, 1]


def test_the_only_sequence_of_a_class_is_trained_on() -> None:
    classes = np.array([0] * 9 + [1], np.int32)
    for seed in range(20):
        training, aside = split(np.ones(10, bool), 0.5, seed=seed, classes=classes)
        assert 9 in training
        assert len(aside) == 4


def test_the_seed_chooses() -> None:
    labelled = np.ones(40, bool)
    chosen = {tuple(split(labelled, 0.2, seed=seed)[1]) for seed in range(8)}
    assert len(chosen) == 8


@given(st.lists(st.integers(0, 4), min_size=2, max_size=30), SHARES, st.integers(0, 99))
def test_a_group_is_never_on_both_sides(groups: list[int], share: float, seed: int) -> None:
    if share and len(set(groups)) == 1:
        return
    names: Any = [f"patient {group}" for group in groups]
    training, aside = split(np.ones(len(groups), bool), share, seed=seed, groups=names)
    assert sorted([*training, *aside]) == list(range(len(groups)))
    sides = [{groups[i] for i in side} for side in (training, aside)]
    assert not sides[0] & sides[1]
    assert len(training)
    assert len(sides[1]) == (min(max(1, round(share * len(set(groups)))), len(set(groups)) - 1) if share else 0)


def test_one_group_only() -> None:
    training, aside = split(np.ones(3, bool), 0.1, seed=1, groups=["a", "a", "a"])
    assert (training.tolist(), aside.tolist()) == ([0, 1, 2], [])


def test_a_group_without_labels_is_not_set_aside() -> None:
    labelled = np.array([False, False, True, True, True, False])
    for seed in range(10):
        _, aside = split(labelled, 0.5, seed=seed, groups=list("aabbcc"))
        assert aside.tolist() in ([2, 3], [4, 5])
