"""Grids of options."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from bilstm.compare.variants import VARIABLE, grid
from bilstm.errors import UserError
from bilstm.training.options import TrainingOptions

BASE = TrainingOptions(units=7, dropout=0.1)
VALUES: dict[str, list[Any]] = {
    "units": [3, 5],
    "layers": [1, 3],
    "merge_mode": ["concat", "ave"],
    "direction": ["none", "forward"],
    "dropout": [0.0, 0.5],
    "variational_dropout": [True, False],
    "weight_decay": [0.0, 0.1],
    "embedding": [None, 4],
    "epochs": [2, None],
    "batch_size": [8, 9],
    "learning_rate": [0.1, 0.01],
    "patience": [1, 2],
}


@pytest.mark.parametrize("name", VARIABLE)
def test_every_option_can_vary(name: str) -> None:
    found = grid({name: VALUES[name]}, BASE)
    assert [getattr(variant.options, name) for variant in found] == VALUES[name]
    assert [variant.changes for variant in found] == [{name: value} for value in VALUES[name]]
    for variant in found:
        assert all(getattr(variant.options, other) == getattr(BASE, other) for other in VARIABLE if other != name)


def test_all_combinations_the_first_values_first() -> None:
    found = grid({"units": [3, 5], "layers": [1, 2], "dropout": [0.0, 0.2]}, BASE)
    pairs = [(each.options.units, each.options.layers, each.options.dropout) for each in found]
    assert pairs == list(itertools.product([3, 5], [1, 2], [0.0, 0.2]))
    assert found[-1].name == "units 5, layers 2, dropout 0.2"
    assert found[-1].named_beside(found[0]) == found[-1].name
    assert found[1].named_beside(found[0]) == "dropout 0.2"


def test_one_direction_has_nothing_to_merge() -> None:
    found = grid({"direction": ["forward", "both", "none"], "merge_mode": ["sum", "mul"]}, BASE)
    assert [each.name for each in found] == [
        "forward only",
        "both directions, sum",
        "both directions, mul",
        "no context",
    ]
    assert found[2].named_beside(found[1]) == "mul"
    assert found[2].named_beside(found[0]) == "both directions, mul"
    assert found[0].named_beside(found[2]) == "forward only"


def test_the_same_value_twice_is_one_variant() -> None:
    assert [each.options.units for each in grid({"units": [3, 5, 3]}, BASE)] == [3, 5]


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ({"unit": [1, 2]}, "'unit' cannot vary. Did you mean 'units'? What can: 'epochs', …"),
        ({"seed": [1, 2]}, "'seed' cannot vary…"),
        ({"units": []}, "what 'units' is to be is a list of values, not []"),
        ({"direction": "both"}, "what 'direction' is to be is a list of values, not 'both'"),
        ({"units": [0, 2]}, "training: units must be at least 1, not 0"),
        ({"units": ["many", 2]}, "training: units must be a whole number, not 'many'"),
        ({"units": [2]}, "there is nothing to compare: 1 variant of the network"),
        ({}, "there is nothing to compare: 1 variant of the network"),
        ({"direction": ["forward"], "merge_mode": ["sum", "mul"]}, "there is nothing to compare: 1 variant of the …"),
    ],
)
def test_what_is_no_grid(vary: Any, message: str) -> None:
    with pytest.raises(UserError, match="^" + re.escape(message).replace("…", ".*") + "$"):
        grid(vary, BASE)
