"""Model files: the same model comes back, and a file that describes none is refused with one clear line."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import bilstm
from bilstm.cli import commands
from bilstm.errors import ModelFileError, UserError
from bilstm.layers import GRU, LAYERS, LSTM, Dense, Dropout, Layer
from bilstm.modelfile import read_model, write_model
from bilstm.models import Sequential, load_model
from bilstm.optimizers import SGD, Adam, AdamW, Optimizer
from bilstm.optimizers.schedules import (
    CosineDecay,
    ExponentialDecay,
    LearningRateSchedule,
    PiecewiseConstantDecay,
)
from oracles.models import Case, bits, cases, numbers, tagger, weight_bits

# --- Laws ------------------------------------------------------------------------------------------------------------


@given(cases(crf=True))
@settings(max_examples=40)
def test_a_saved_model_is_the_same_to_the_last_bit(case: Case) -> None:
    model = case.model(Adam(0.02, beta_1=0.7, clipnorm=1.0))
    model.train_on_batch(case.data, case.y)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model.save(path)
        again = load_model(path)
        again.save(Path(folder) / "again")
        assert (Path(folder) / "again").read_bytes() == path.read_bytes()
    assert again.get_config() == model.get_config()
    assert weight_bits(again) == weight_bits(model)
    assert bits(again.predict_rows(case.data)) == bits(model.predict_rows(case.data))
    assert again.evaluate(case.data, case.y) == model.evaluate(case.data, case.y)


@pytest.mark.parametrize(
    "optimizer",
    [SGD(0.3, clipvalue=0.1), Adam(0.1, weight_decay=0.5), AdamW(0.1, 0.2)],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_a_loaded_model_can_be_trained_on(tmp_path: Path, optimizer: Optimizer) -> None:
    model = tagger()
    model.compile(optimizer, "binary_crossentropy", ["acc"])
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert type(again.optimizer) is type(optimizer)
    x, y = numbers(2, 3, 2), np.ones((2, 3))
    assert again.train_on_batch(x, y) == model.train_on_batch(x, y)
    assert weight_bits(again) == weight_bits(model)


def test_a_model_that_is_not_compiled_is_loaded_as_it_was(tmp_path: Path) -> None:
    tagger().save(tmp_path / "m")
    assert load_model(tmp_path / "m").loss is None
    assert bilstm.load_model is load_model


@pytest.mark.parametrize("overwrite", [True, False])
def test_overwriting(overwrite: bool, tmp_path: Path) -> None:
    path = tmp_path / "m"
    tagger(seed=1).save(path, overwrite=overwrite)
    other = tagger(seed=2)
    if overwrite:
        other.save(path, overwrite=True)
        assert weight_bits(load_model(path)) == weight_bits(other)
    else:
        with pytest.raises(ValueError, match=f"{path} exists already"):
            other.save(path, overwrite=False)
        assert weight_bits(load_model(path)) == weight_bits(tagger(seed=1))


@pytest.mark.parametrize(("argument", "value"), [("include_optimizer", True), ("save_format", "h5"), ("zipped", True)])
def test_ways_of_saving_there_are_not(argument: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"save: {argument}={value!r} is not supported"):
        tagger().save(tmp_path / "m", **{argument: value})
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_model_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("id,x\n")
    with pytest.raises(UserError, match="m exists and is not a bilstm model: give another name, or remove it first"):
        tagger().save(tmp_path / "m")
    assert (tmp_path / "m").read_text() == "id,x\n"


def test_too_little_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(*_: object, **__: object) -> None:
        raise MemoryError

    tagger().save(tmp_path / "m")
    monkeypatch.setattr(Sequential, "from_config", too_much)
    with pytest.raises(MemoryError):
        load_model(tmp_path / "m")
    result = CliRunner().invoke(commands, ["inspect", str(tmp_path / "m")])
    assert result.stderr == "bilstm: there is not enough memory\n"


def test_saving_what_has_no_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the model has no weights yet"):
        Sequential([LSTM(3)]).save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("model", "m holds a TrainedModel, not a Sequential model: open it with bilstm.load"),
        ("tagger", "m holds a TrainedModel, not a Sequential model: open it with bilstm.load"),  # of version 0.1
        ("checkpoint", "m holds a checkpoint, not a Sequential model"),
    ],
)
def test_another_kind_of_file_is_no_sequential_model(tmp_path: Path, kind: str, message: str) -> None:
    write_model(tmp_path / "m", {}, {"kind": kind})
    with pytest.raises(ModelFileError, match=message + "$"):
        load_model(tmp_path / "m")


def nested(depth: int) -> dict[str, Any]:
    layer: dict[str, Any] = {"class_name": "Dense", "config": {"units": 1}}
    for _ in range(depth):
        layer = {"class_name": "TimeDistributed", "config": {"layer": layer}}
    return layer


def dense(**config: Any) -> dict[str, Any]:
    return {"class_name": "Dense", "config": config}


COMPILED = {"loss": "mse", "metrics": [], "optimizer": {"kind": "adam"}}
HOSTILE: list[tuple[Any, str]] = [
    (None, "it describes no model"),
    ([], "it describes no model"),
    ({}, "its layers or features are missing"),
    ({"features": 2, "layers": {}}, "its layers or features are missing"),
    ({"features": "2", "layers": []}, "its layers or features are missing"),
    ({"features": True, "layers": []}, "its layers or features are missing"),
    ({"features": 2, "layers": [3]}, "a layer is described by its class_name and config, not by 3"),
    ({"features": 2, "layers": [dense(units=10**30)]}, "its layers need 3,000,000,000,"),
    ({"features": 10**30, "layers": [dense(units=1)]}, "its layers need 1,000,000,000,"),
    ({"features": 2, "layers": [dense(units=3)]}, "its layers need 9 weights, but it holds 3"),
    ({"features": -2, "layers": [dense(units=-1)]}, "Dense: units must be at least 1, not -1"),
    ({"features": 0, "layers": [dense(units=3)]}, "model: features must be at least 1, not 0"),
    ({"features": 2, "layers": [nested(60)]}, "TimeDistributed: only Dense and Dropout are supported"),
    ({"features": 2, "layers": [{"class_name": "os.system", "config": {}}]}, "unknown layer 'os.system'"),
    (
        {"features": 2, "layers": [dense(units=1), *[{"class_name": "Dropout", "config": {"rate": 0}}] * 1000]},
        "Sequential: a model has at most 1,000 layers",
    ),
    ({"features": 2, "layers": [dense(units=1)], "compile": {}}, "'optimizer'"),
    ({"features": 2, "layers": [dense(units=1)], "compile": 5}, "'int' object is not subscriptable"),
    (
        {"features": 2, "layers": [dense(units=1)], "compile": COMPILED | {"loss": "hinge"}},
        "compile: loss must be one of",
    ),
    ({"features": 2, "layers": [dense(units=1)], "compile": COMPILED | {"metrics": [[]]}}, ""),
    (
        {"features": 2, "layers": [dense(units=1)], "compile": COMPILED | {"optimizer": {"kind": "__init__"}}},
        "compile: optimizer must be one of 'adam', 'adamw', 'sgd'",
    ),
    (
        {"features": 2, "layers": [dense(units=1)], "compile": COMPILED | {"optimizer": {"kind": "adam", "lr": -1}}},
        "Adam: learning_rate must be a positive number, not -1",
    ),
    (
        {"features": 2, "layers": [dense(units=1)], "compile": COMPILED | {"optimizer": {"kind": []}}},
        "",
    ),
]


@pytest.mark.parametrize(
    ("config", "message"), HOSTILE, ids=[message[:40] or str(i) for i, (_, message) in enumerate(HOSTILE)]
)
def test_a_file_that_describes_no_model_is_refused(config: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m"
    write_model(
        path,
        {"layers.0.kernel": np.zeros((2, 1)), "layers.0.bias": np.zeros(1)},
        {"kind": "sequential", "model": config},
    )
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    assert str(caught.value).startswith(f"{path} is not a valid model: {message}")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"layers.0.kernel": np.zeros((1, 2)), "layers.0.bias": np.zeros(1)},
            "set_weights: layers.0.kernel has shape (2, 1), not (1, 2)",
        ),
        ({"layers.0.kernel": np.zeros((2, 1)), "layers.0.bia": np.zeros(1)}, "weights layers.0.bias are missing"),
        ({"all": np.zeros(3)}, "weights layers.0.kernel, layers.0.bias are missing"),
        ({}, "its layers need 3 weights, but it holds 0"),
    ],
)
def test_weights_that_do_not_belong_to_the_layers(tensors: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m"
    write_model(path, tensors, {"kind": "sequential", "model": {"features": 2, "layers": [dense(units=1)]}})
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    assert str(caught.value) == f"{path} is not a valid model: {message}"


@given(st.data())
@settings(max_examples=60)
def test_a_changed_description_is_a_model_or_refused(data: st.DataObject) -> None:
    model = tagger()
    model.compile(loss="mse")
    config = json.loads(json.dumps(model.get_config()))
    place: Any = config
    while isinstance(place, (dict, list)) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], (dict, list)) or data.draw(st.integers(0, 3)) == 0:
            values = st.sampled_from([None, -1, 0, 1, 2, 10**20, 1.5, "", "concat", [], {}, True, [1], {"units": 3}])
            place[key] = data.draw(values)
            break
        place = place[key]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m"
        write_model(path, model.tensors(), {"kind": "sequential", "model": config})
        message = ""
        try:
            loaded = load_model(path)
        except ModelFileError as error:
            message = str(error)
        if message:
            assert message.startswith(f"{path} is not a valid model: ")
        else:
            assert np.isfinite(loaded.predict(numbers(2, 3, 2))).all()


def test_the_file_holds_no_more_than_it_says(tmp_path: Path) -> None:
    model = tagger()
    model.save(tmp_path / "m")
    tensors, header = read_model(tmp_path / "m")
    assert list(header) == ["format", "versions", "kind", "model"]
    assert {name: array.shape for name, array in tensors.items()} == {n: a.shape for n, a in model.tensors().items()}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("fitted", [False, True])
def test_a_copy_predicts_and_trains_on_alike(copied: Any, fitted: bool) -> None:
    x = numbers(6, 5, 3)
    model = Sequential([LSTM(4, return_sequences=True), Dropout(0.5), Dense(2)], seed=1)
    model.compile("adam", "mse", recompute=True)
    assert not copied(model).built
    model.build((None, 3))
    y = numbers(6, 5, 2)
    if fitted:
        model.fit(x, y, epochs=2, verbose=0)
    other = copied(model)
    assert bits(other.predict(x)) == bits(model.predict(x))
    for each in (model, other):
        each.fit(x, y, epochs=2, verbose=0)
    assert weight_bits(other) == weight_bits(model)
    assert other.history.history == model.history.history


@pytest.mark.parametrize(
    "arguments",
    [
        {"optimizer": SGD(0.3, clipvalue=0.1), "loss": "mse", "metrics": ["mae", "acc"], "recompute": True},
        {"optimizer": AdamW(ExponentialDecay(0.1, 5, 0.5, staircase=True), 0.2), "loss": "categorical_crossentropy"},
        {"optimizer": Adam(CosineDecay(0.1, 5, 0.5), global_clipnorm=2.0), "loss": "binary_crossentropy"},
        {"optimizer": Adam(PiecewiseConstantDecay([1], [0.1, 0.2]), 0.5, 0.6, 1e-3, clipnorm=2.0), "loss": "mse"},
    ],
)
def test_every_argument_of_compile_comes_back(tmp_path: Path, arguments: Any) -> None:
    model = tagger()
    model.compile(**arguments)
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.get_config() == model.get_config()
    assert (again.loss, again.metrics, again.recompute) == (model.loss, model.metrics, model.recompute)
    assert again.recompute == arguments.get("recompute", False)
    assert repr(again.optimizer) == repr(model.optimizer) == repr(arguments["optimizer"])
    x, y = numbers(4, 3, 2), numbers(4, 3, 1)
    again.seed = model.seed
    again.fit(x, y, batch_size=1, epochs=2, shuffle=False, verbose=0)
    model.fit(x, y, batch_size=1, epochs=2, shuffle=False, verbose=0)
    assert weight_bits(again) == weight_bits(model)


def test_a_schedule_of_ones_own_cannot_be_saved(tmp_path: Path) -> None:
    class Half(LearningRateSchedule):
        def __call__(self, step: int) -> float:
            return 0.5**step

    model = tagger()
    model.compile(SGD(Half()), "mse")
    model.fit(numbers(3, 2, 2), numbers(3, 2, 1), verbose=0)
    with pytest.raises(ValueError, match=r"schedules of bilstm.optimizers.schedules can be saved, not Half\(\)"):
        model.save(tmp_path / "model")


def settings_of(cls: Any) -> list[str]:
    named = inspect.signature(cls).parameters.values()
    return [
        parameter.name
        for parameter in named
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD and parameter.name not in cls.takes
    ]


def test_every_argument_of_every_layer_comes_back(tmp_path: Path) -> None:
    """The settings that a layer takes, but for those with one value, are what it saves; none is at its default here."""
    for name, cls in LAYERS.items():
        assert sorted(settings_of(cls)) == sorted(make_layer(name).get_config()), name
    for name in LAYERS.keys() - {"Input", "Reverse"}:
        made = make_layer(name)
        for argument in settings_of(type(made)):
            parameter = inspect.signature(type(made)).parameters[argument]
            if parameter.default is not inspect.Parameter.empty:
                assert made.get_config()[argument] != parameter.default, f"{name}: {argument}"
        model = Sequential([made, Dense(1)] if name not in ("Bidirectional", "CRF") else [made])
        model.build((None, made.input_features or 3))
        model.save(tmp_path / "model")
        assert repr(load_model(tmp_path / "model").layers[0]) == repr(made)


def make_layer(name: str) -> Layer:
    recurrent: dict[str, Any] = {"units": 2, "return_sequences": True, "go_backwards": True, "use_bias": False}
    conv: dict[str, Any] = {"filters": 2, "kernel_size": 3, "padding": "causal", "dilation_rate": 2}
    settings: dict[str, Any] = {
        "LSTM": recurrent | {"unit_forget_bias": False, "recurrent_activation": "hard_sigmoid"},
        "GRU": recurrent | {"reset_after": False, "recurrent_activation": "hard_sigmoid_keras2"},
        "SimpleRNN": recurrent | {"activation": "relu"},
        "Bidirectional": {"layer": LSTM(2), "merge_mode": None, "backward_layer": GRU(3, go_backwards=True)},
        "Dense": {"units": 2, "activation": "relu", "use_bias": False},
        "Conv1D": conv | {"activation": "relu", "use_bias": False},
        "BatchNormalization": {
            **{"momentum": 0.5, "epsilon": 0.1, "center": False, "scale": False},
            **{"beta_initializer": "ones", "gamma_initializer": "zeros"},
            **{"moving_mean_initializer": "ones", "moving_variance_initializer": "zeros"},
        },
        "TimeDistributed": {"layer": Dense(2)},
        "Dropout": {"rate": 0.25},
        "SpatialDropout1D": {"rate": 0.25},
        "Masking": {"mask_value": 3.0},
        "Padding": {"steps": 3, "side": "pre", "value": 1.0},
        "Embedding": {"input_dim": 3, "output_dim": 2, "mask_zero": True},
        "ColumnEmbedding": {
            **{"numeric": 1, "vocabularies": [2], "dimensions": [3]},
            **{"frozen": [True], "unknown_rate": [0.25]},
        },
        "WordEncoder": {"layers": [LSTM(2)], "features": 3},
        "AveragePooling1D": {"pool_size": 3, "strides": 1, "padding": "same"},
        "MaxPooling1D": {"pool_size": 3, "strides": 1, "padding": "same"},
        "GlobalAttentionPooling1D": {"units": 2},
        "CRF": {"labels": 3, "forbidden": [(0, 1), (None, 2)]},
        "Input": {"shape": (None, 3)},
    }
    return LAYERS[name](**settings.get(name, {}), name="mine")


@pytest.mark.parametrize("force", [False, True])
def test_save_replaces_a_foreign_file_only_if_forced(force: bool, tmp_path: Path) -> None:
    path, model = tmp_path / "m", Sequential([Dense(1, input_shape=(None, 2))])
    path.write_text("somebody's")
    if force:
        model.save(path, force=True)
        assert load_model(path).count_params() == model.count_params()
    else:
        with pytest.raises(UserError, match="is not a bilstm model"):
            model.save(path)
