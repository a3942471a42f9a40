"""Grids of options."""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import Any

import pytest

from bilstm.compare.variants import VARIABLE, grid, nearest_units, read_values
from bilstm.errors import UserError
from bilstm.training.options import TrainingOptions

pytestmark = pytest.mark.fast

BASE = TrainingOptions(units=7, dropout=0.1)
VALUES: dict[str, list[Any]] = {
    "units": [3, 5],
    "layers": [1, 3],
    "merge_mode": ["concat", "ave"],
    "direction": ["none", "forward"],
    "cell": ["lstm", "gru"],
    "dropout": [0.0, 0.5],
    "variational_dropout": [True, False],
    "weight_decay": [0.0, 0.1],
    "embedding": [None, 4],
    "freeze_vectors": [True, False],
    "characters": ["lstm", "none"],
    "unknown_words": [0.0, 0.1],
    "epochs": [2, None],
    "batch_size": [8, 9],
    "learning_rate": [0.1, 0.01],
    "patience": [1, 2],
    "pooling": ["mean", "max"],
    "conv": [None, "4x3"],
    "output": ["softmax", "crf"],
    "scheme": [None, "IOB2"],
    "train_scheme": ["IOBES", "IOB2", None],
    "class_weight": [None, {"a": 2.0}],
    "calibrate": [True, False],
    "window": [None, 20],
    "stride": [5, 10],
}


@pytest.mark.parametrize("name", VARIABLE)
def test_every_option_can_vary(name: str) -> None:
    base = dataclasses.replace(BASE, window=20) if name == "stride" else BASE
    found = grid({name: VALUES[name]}, base)
    assert [getattr(variant.options, name) for variant in found] == VALUES[name]
    assert [variant.changes for variant in found] == [{name: value} for value in VALUES[name]]
    for variant in found:
        assert all(getattr(variant.options, other) == getattr(base, other) for other in VARIABLE if other != name)


def test_all_combinations_the_first_values_first() -> None:
    found = grid({"units": [3, 5], "layers": [1, 2], "dropout": [0.0, 0.2]}, BASE)
    pairs = [(each.options.units, each.options.layers, each.options.dropout) for each in found]
    assert pairs == list(itertools.product([3, 5], [1, 2], [0.0, 0.2]))
    assert found[-1].name == "units 5, layers 2, dropout 0.2"
    assert found[-1].named_against(found[0]) == found[-1].name
    assert found[1].named_against(found[0]) == "dropout 0.2"


def test_cells_are_called_by_their_layers_and_no_context_has_none() -> None:
    found = grid({"direction": ["none", "both"], "cell": ["lstm", "gru", "simple"]}, BASE)
    assert [each.name for each in found] == [
        "no context",
        "both directions, LSTM",
        "both directions, GRU",
        "both directions, SimpleRNN",
    ]
    found = grid({"direction": ["none", "forward"]}, TrainingOptions(cell="gru"))
    assert [each.options.cell for each in found] == ["lstm", "gru"]
    with pytest.raises(UserError, match="training: cell must be one of 'lstm', 'gru', 'simple', not 'rnn'"):
        grid({"cell": ["gru", "rnn"]}, BASE)


def test_one_direction_has_nothing_to_merge() -> None:
    found = grid({"direction": ["forward", "both", "none"], "merge_mode": ["sum", "mul"]}, BASE)
    assert [each.name for each in found] == [
        "forward only",
        "both directions, sum",
        "both directions, mul",
        "no context",
    ]
    assert found[2].named_against(found[1]) == "mul"
    assert found[2].named_against(found[0]) == "both directions, mul"
    assert found[0].named_against(found[2]) == "forward only"


def test_convolutions_have_names() -> None:
    found = grid({"conv": ["none", "4x3", "4x3+2x2"]}, BASE)
    assert [each.name for each in found] == ["no convolution", "convolution 4x3", "convolution 4x3+2x2"]
    assert [each.options.conv for each in found] == [None, "4x3", "4x3+2x2"]


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
        (
            {"conv": ["5"]},
            "training: conv must be filters x kernel size, such as '64x5', or several of them, …, not '5'",
        ),
        ({"conv": [None, "none"]}, "there is nothing to compare: 1 variant of the network"),
        ({"units": [2]}, "there is nothing to compare: 1 variant of the network"),
        ({}, "there is nothing to compare: 1 variant of the network"),
        ({"direction": ["forward"], "merge_mode": ["sum", "mul"]}, "there is nothing to compare: 1 variant of the …"),
    ],
)
def test_what_is_no_grid(vary: Any, message: str) -> None:
    with pytest.raises(UserError, match="^" + re.escape(message).replace("…", ".*") + "$"):
        grid(vary, BASE)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("units=32,64", [32, 64]),
        ("batch-size = 2, 3", [2, 3]),
        ("learning_rate=0.01,1e-3", [0.01, 0.001]),
        ("variational_dropout=true,false", [True, False]),
        ("pooling=mean,max,attention", ["mean", "max", "attention"]),
        ("direction=none,both", ["none", "both"]),
        ("conv=none,64x5,64x5+32x3", ["none", "64x5", "64x5+32x3"]),
        ("class_weight=none,balanced", [None, "balanced"]),
    ],
)
def test_what_is_typed(text: str, values: list[Any]) -> None:
    name = text.partition("=")[0].strip().replace("-", "_")
    found = read_values([text])
    assert found == {name: values}
    assert [type(value) for value in found[name]] == [type(value) for value in values]
    assert read_values([]) is None


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["unit=1,2"], "--vary unit=1,2: 'unit' cannot vary. Did you mean 'units'? What can: 'epochs', …"),
        (["seed=1,2"], "--vary seed=1,2: 'seed' cannot vary.…"),
        (["units"], "--vary units: say which values, as in --vary direction=forward,both"),
        (["units= "], "--vary units= : say which values, as in --vary direction=forward,both"),
        (["units=1,many"], "--vary units=1,many: units must be a whole number, not 'many'"),
        (["dropout=x"], "--vary dropout=x: dropout must be a number, not 'x'"),
        (["calibrate=maybe"], "--vary calibrate=maybe: calibrate must be true or false, not 'maybe'"),
        (["units=1", "units=2"], "--vary units=2: units varies already; give all of its values together"),
    ],
)
def test_what_cannot_be_typed(texts: list[str], message: str) -> None:
    with pytest.raises(UserError, match="^" + re.escape(message).replace("…", ".*") + "$"):
        read_values(texts)


@pytest.mark.parametrize("least", [1, 3, 40])
@pytest.mark.parametrize("size", [1, 100, 101, 10_000])
def test_the_units_of_the_nearest_size(size: int, least: int) -> None:
    units = nearest_units(lambda units: units * units, size, least)
    assert units >= least
    assert abs(units**2 - size) == min(abs(each**2 - size) for each in range(least, least + 200))
