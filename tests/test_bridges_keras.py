"""Keras files that are made here by hand: Keras 2's layout to the letter, what is refused, damage, the command line.

The layout is that of `keras/engine/saving.py` of Keras 2.2.4 and of `hdf5_format.py` of tf.keras: the root has the
attributes keras_version, backend and model_config (JSON, as bytes or as text); the group model_weights has layer_names,
and a group for each layer with weight_names, below which each array lies under its own name, slashes and all.
"""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import bilstm
from bilstm import layers
from bilstm.bridges.keras import load, read
from bilstm.cli import commands
from bilstm.errors import ModelFileError
from bilstm.ragged import Ragged

pytestmark = pytest.mark.fast

Array = np.ndarray[Any, Any]
Config = dict[str, Any]
FEATURES = 3


# --- Files by hand --------------------------------------------------------------------------------------------------


def random_arrays(model: bilstm.Sequential, seed: int = 0) -> list[Array]:
    generator = np.random.default_rng(seed)
    return [generator.normal(0, 0.5, array.shape).astype(np.float32) for array in model.get_weights()]


def layer(kind: str, name: str, **config: Any) -> Config:
    return {"class_name": kind, "config": {"name": name, "trainable": True, **config}}


def recurrent(kind: str, name: str, units: int, **config: Any) -> Config:
    """As Keras 2.2 describes one, with everything that changes nothing."""
    cudnn = kind.startswith("CuDNN")
    gates = {} if cudnn else {"activation": "tanh", "use_bias": True, "dropout": 0.0, "recurrent_dropout": 0.0}
    if kind in ("LSTM", "GRU"):
        gates |= {"recurrent_activation": "hard_sigmoid", "implementation": 1}
    if "LSTM" in kind:
        gates["unit_forget_bias"] = True
    initializer = {"class_name": "VarianceScaling", "config": {"scale": 1.0, "mode": "fan_avg", "seed": None}}
    common = {
        "return_sequences": True,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "kernel_initializer": initializer,
        "recurrent_initializer": {"class_name": "Orthogonal", "config": {"gain": 1.0, "seed": None}},
        "bias_initializer": {"class_name": "Zeros", "config": {}},
        "kernel_regularizer": {"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.01}},
        "recurrent_regularizer": None,
        "activity_regularizer": None,
        "kernel_constraint": None,
    }
    return layer(kind, name, **common | gates | ({} if cudnn else {"unroll": False}) | {"units": units} | config)


def dense(name: str, units: int, activation: str = "linear") -> Config:
    zeros = {"class_name": "Zeros", "config": {}}
    return layer("Dense", name, units=units, activation=activation, use_bias=True, bias_initializer=zeros)


def sequential(*described: Config, features: int | None = FEATURES) -> Config:
    first = copy.deepcopy(described[0])
    first["config"] = {
        "batch_input_shape": [None, None, *([features] if features else [])],
        "dtype": "float32",
        **first["config"],
    }
    return {"class_name": "Sequential", "config": {"name": "sequential_1", "layers": [first, *described[1:]]}}


def write_h5(
    path: Path,
    model: Config,
    weights: dict[str, list[tuple[str, Array]]],
    version: str = "2.2.4",
    *,
    as_bytes: bool = True,
) -> Path:
    """A whole-model file.

    Args:
        weights: of each layer the names and values of its arrays.
        as_bytes: whether texts are bytes, as earlier versions of h5py make them.
    """

    def text(value: str) -> Any:
        return value.encode() if as_bytes else value

    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = text(version), text("tensorflow")
        file.attrs["model_config"] = text(json.dumps(model))
        group = file.create_group("model_weights")
        group.attrs["keras_version"], group.attrs["backend"] = text(version), text("tensorflow")
        group.attrs["layer_names"] = [name.encode() for name in weights]
        for name, arrays in weights.items():
            own = group.create_group(name)
            own.attrs["weight_names"] = [each.encode() for each, _ in arrays]
            for each, values in arrays:
                own.create_dataset(each, data=values)
    return path


def named(prefix: str, arrays: Sequence[Array]) -> list[tuple[str, Array]]:
    kinds = ("kernel", "recurrent_kernel", "bias")
    return [(f"{prefix}/{kind}:0", values) for kind, values in zip(kinds, arrays, strict=False)]


def draw(seed: int = 1) -> Ragged:
    generator = np.random.default_rng(seed)
    return Ragged(generator.normal(size=(18, FEATURES)), [0, 5, 6, 18])


def same(first: bilstm.Sequential, second: bilstm.Sequential, x: Ragged) -> None:
    a, b = first.predict(x, verbose=0), second.predict(x, verbose=0)
    values = [each.values if isinstance(each, Ragged) else each for each in (a, b)]
    np.testing.assert_array_equal(*values)


# --- Keras 2 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_bytes", [True, False], ids=["bytes", "text"])
@pytest.mark.parametrize("cell", ["", "/lstm_cell_2"], ids=["Keras 2.2", "tf.keras"])
def test_a_model_of_keras_2(cell: str, as_bytes: bool, tmp_path: Path) -> None:
    """Masking, a Bidirectional of LSTMs with the gates of that time, an activation of its own; Dropout between."""
    ours = bilstm.Sequential(
        [
            layers.Masking(-1.0, input_shape=(None, FEATURES)),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True, recurrent_activation="hard_sigmoid_keras2")),
            layers.Dropout(0.5),
            layers.TimeDistributed(layers.Dense(2, activation="softmax")),
        ]
    )
    arrays = random_arrays(ours)
    ours.set_weights(arrays)
    inner = recurrent("LSTM", "lstm_1", 4, **({"time_major": False} if cell else {}))
    model = sequential(
        layer("Masking", "masking_1", mask_value=-1.0),
        layer("Bidirectional", "bidirectional_1", merge_mode="concat", layer=inner),
        layer("Dropout", "dropout_1", rate=0.5, noise_shape=None, seed=None),
        layer("TimeDistributed", "time_distributed_1", layer=dense("dense_1", 2)),
        layer("Activation", "activation_1", activation="softmax"),
    )
    weights: dict[str, list[tuple[str, Array]]] = {
        "masking_1": [],
        "bidirectional_1": named(f"bidirectional_1/forward_lstm_1{cell}", arrays[:3])
        + named(f"bidirectional_1/backward_lstm_1{cell}", arrays[3:6]),
        "dropout_1": [],
        "time_distributed_1": [("time_distributed_1/kernel:0", arrays[6]), ("time_distributed_1/bias:0", arrays[7])],
        "activation_1": [],
    }
    version = "2.4.0" if cell else "2.2.4"
    file = read(write_h5(tmp_path / "model.h5", model, weights, version, as_bytes=as_bytes))
    assert (file.version, file.agrees) == (version, True)
    same(file.model, ours, draw())


def functional(*described: Config, features: int = FEATURES, kind: str = "Model") -> Config:
    """As Keras 2 writes one."""
    names = ["input_1", *(each["config"]["name"] for each in described)]
    first = layer("InputLayer", "input_1", batch_input_shape=[None, None, features], dtype="float32", sparse=False)
    del first["config"]["trainable"]
    calls = [[], *([[[before, 0, 0, {}]]] for before in names)]
    every = [
        {**each, "name": name, "inbound_nodes": call}
        for each, name, call in zip([first, *described], names, calls[: len(names)], strict=True)
    ]
    ends = {"input_layers": [["input_1", 0, 0]], "output_layers": [[names[-1], 0, 0]]}
    return {"class_name": kind, "config": {"name": "model_1", "layers": every, **ends}}


@pytest.mark.parametrize("kind", ["Model", "Functional"])
def test_a_functional_model_of_keras_2_and_gru_of_its_time(kind: str, tmp_path: Path) -> None:
    """A GRU without reset_after, as before Keras 2.1.3, resets before the product."""
    ours = bilstm.Sequential(
        [
            layers.GRU(4, reset_after=False, recurrent_activation="hard_sigmoid_keras2", input_shape=(None, FEATURES)),
            layers.Dense(2, activation="tanh"),
        ]
    )
    arrays = random_arrays(ours)
    ours.set_weights(arrays)
    model = functional(recurrent("GRU", "gru_1", 4, return_sequences=False), dense("dense_1", 2, "tanh"), kind=kind)
    of_dense = [("dense_1/kernel:0", arrays[3]), ("dense_1/bias:0", arrays[4])]
    weights = {"input_1": [], "gru_1": named("gru_1", arrays[:3]), "dense_1": of_dense}
    file = read(write_h5(tmp_path / "model.hdf5", model, weights))
    assert not file.agrees
    same(file.model, ours, draw())


def test_a_sequential_model_is_a_list_until_keras_2_2_2(tmp_path: Path) -> None:
    ours = bilstm.Sequential([layers.SimpleRNN(4, activation="relu", input_shape=(None, FEATURES))])
    arrays = random_arrays(ours)
    ours.set_weights(arrays)
    model = sequential(recurrent("SimpleRNN", "rnn", 4, activation="relu", return_sequences=False))
    model["config"] = model["config"]["layers"]
    same(load(write_h5(tmp_path / "m", model, {"rnn": named("rnn", arrays)}, "2.0.8")), ours, draw())


@pytest.mark.parametrize("names", [["layer_names0", "weight_names0"], ["weight_names"]])
def test_names_that_are_divided_over_attributes(names: list[str], tmp_path: Path) -> None:
    path = one_lstm(tmp_path)
    with h5py.File(path, "r+") as file:
        own = file["model_weights/lstm"]
        all_names = own.attrs["weight_names"]
        if "weight_names0" in names:
            del own.attrs["weight_names"]
            own.attrs["weight_names0"], own.attrs["weight_names1"] = all_names[:2], all_names[2:]
    assert load(path).count_params() == 4 * 4 * (FEATURES + 4 + 1)


def to_cudnn(arrays: Sequence[Array], gates: int, generator: np.random.Generator) -> list[Array]:
    """A layer's arrays as CuDNNLSTM and CuDNNGRU have them: `_convert_rnn_weights` of Keras 2.3, from_cudnn=False."""
    kernel, recurrent_kernel, bias = arrays
    kernels = np.hstack([each.T.reshape(each.shape, order="C") for each in np.hsplit(kernel, gates)])
    recurrent_kernels = np.hstack([each.T for each in np.hsplit(recurrent_kernel, gates)])
    if gates == 3:
        return [kernels, recurrent_kernels, bias.reshape(-1)]
    part = generator.normal(size=bias.shape).astype(np.float32)
    return [kernels, recurrent_kernels, np.concatenate([part, bias - part])]


@pytest.mark.parametrize("both", [False, True], ids=["one", "both"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_layers_of_cudnn(kind: str, both: bool, tmp_path: Path) -> None:
    """Their kernels are rearranged; that the inputs are not as many as the units shows a wrong order."""
    own = getattr(layers, kind)(4, return_sequences=True)
    first: Any = layers.Bidirectional(own) if both else own
    ours = bilstm.Sequential([layers.Input((None, FEATURES)), first, layers.Dense(1)])
    arrays = random_arrays(ours)
    ours.set_weights(arrays)
    generator, gates = np.random.default_rng(2), 4 if kind == "LSTM" else 3
    described = recurrent(f"CuDNN{kind}", "cu_1", 4)
    stored = named("x/forward_cu_1", to_cudnn(arrays[:3], gates, generator))
    if both:
        described = layer("Bidirectional", "x", layer=described, merge_mode="concat")
        stored += named("x/backward_cu_1", to_cudnn(arrays[3:6], gates, generator))
    else:
        described["config"]["name"] = "x"
    weights = {"x": stored, "dense": [("dense/kernel:0", arrays[-2]), ("dense/bias:0", arrays[-1])]}
    read_back = load(write_h5(tmp_path / "m.h5", sequential(described, dense("dense", 1)), weights, "2.3.1"))
    for mine, other in zip(ours.get_weights(), read_back.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-6)


def test_a_ragged_input_of_tf_keras_has_no_padding(tmp_path: Path) -> None:
    described = functional(recurrent("LSTM", "lstm", 4, time_major=False))
    described["config"]["layers"][0]["config"]["ragged"] = True
    assert read(one_lstm(tmp_path, described)).agrees
    described["config"]["layers"][0]["config"]["ragged"] = False
    assert read(one_lstm(tmp_path, functional(recurrent("LSTM", "lstm", 4)))).agrees  # forward only
    assert not read(one_lstm(tmp_path, functional(recurrent("LSTM", "lstm", 4, go_backwards=True)))).agrees


# --- What is refused ------------------------------------------------------------------------------------------------


def one_lstm(folder: Path, model: Config | None = None, version: str = "2.2.4") -> Path:
    """A file with one LSTM of 4 units."""
    ours = bilstm.Sequential([layers.LSTM(4, input_shape=(None, FEATURES))])
    arrays = named("lstm", random_arrays(ours))
    model = sequential(recurrent("LSTM", "lstm", 4)) if model is None else model
    return write_h5(folder / "one.h5", model, {"lstm": arrays}, version)


LSTM_ARGUMENTS = [
    ({"activation": "relu"}, "activation='relu' is not supported (only 'tanh')"),
    ({"activation": {"class_name": "function", "config": "mine", "registered_name": "mine"}}, "activation='mine'"),
    ({"recurrent_activation": "softsign"}, "recurrent_activation='softsign' is not supported (only 'sigmoid' or"),
    ({"stateful": True}, "stateful=True is not supported (only False)"),
    ({"return_state": True}, "return_state=True"),
    ({"time_major": True}, "time_major=True"),
    ({"use_bias": 1}, "use_bias=1 is not supported (only true or false)"),
    ({"units": -3}, "units=-3"),
    ({"units": "4"}, "units='4'"),
    ({"dropout": 1.5}, "dropout=1.5"),
    ({"invented": 3}, "invented=3 is not supported"),
    ({"dtype": "int8"}, "dtype='int8'"),
    ({"dtype": {"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8"}}}, "dtype={'class_name': 'Quantized"),
]


@pytest.mark.parametrize(("changed", "message"), LSTM_ARGUMENTS, ids=[next(iter(each)) for each, _ in LSTM_ARGUMENTS])
def test_arguments_are_refused_by_layer_name_and_value(changed: Config, message: str, tmp_path: Path) -> None:
    described = recurrent("LSTM", "lstm", 4)
    described["config"] |= changed
    path = one_lstm(tmp_path, sequential(described))
    with pytest.raises(ModelFileError) as caught:
        load(path)
    assert f"layer 'lstm' (LSTM): {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


OTHERS = [
    (layer("LayerNormalization", "ln"), "layer 'ln' (LayerNormalization) is not supported"),
    (
        layer("BatchNormalization", "bn", axis=[1]),
        "layer 'bn' (BatchNormalization): axis=1 is not supported (only -1 or",
    ),
    (layer("BatchNormalization", "bn", renorm=True), "layer 'bn' (BatchNormalization): renorm=True is not supported"),
    (layer("BatchNormalization", "bn", virtual_batch_size=4), "(BatchNormalization): virtual_batch_size=4"),
    (layer("BatchNormalization", "bn", epsilon=0), "layer 'bn' (BatchNormalization): epsilon must be above 0, not 0"),
    (
        layer("BatchNormalization", "bn", momentum="a"),
        "(BatchNormalization): momentum must be a finite number, not 'a'",
    ),
    (layer("Lambda", "turn", function=["4wEAAAA", None, None]), "layer 'turn' (Lambda) is not supported: it holds"),
    (layer("CRF", "crf_1", units=3), "layer 'crf_1' (CRF) is not supported"),
    (layer("Attention", "att"), "layer 'att' (Attention) is not supported"),
    (layer("Activation", "act", activation="relu"), "layer 'act' (Activation): relu is supported only directly after"),
    (layer("Masking", "late", mask_value=0.0), "must be the first layer"),
    (layer("Conv1D", "conv", filters=2, kernel_size=[3], padding="valid"), "padding='valid' is not supported"),
    (layer("Conv1D", "conv", filters=2, kernel_size=[3], padding="same", strides=[2]), "(Conv1D): strides=2"),
    (layer("MaxPooling1D", "pool", pool_size=[2], data_format="channels_first"), "data_format='channels_first'"),
    (layer("GlobalMaxPooling1D", "pool", keepdims=True), "layer 'pool' (GlobalMaxPooling1D): keepdims=True"),
    (layer("TimeDistributed", "td", layer=layer("Flatten", "f")), "(TimeDistributed): layer (Flatten) is not"),
    (layer("Bidirectional", "bi", layer=layer("RNN", "r")), "layer 'bi' (Bidirectional): layer (RNN) is not supported"),
    (
        layer("Bidirectional", "bi", merge_mode="min", layer=recurrent("LSTM", "l", 2)),
        "layer 'bi' (Bidirectional): merge_mode='min' is not supported",
    ),
    (layer("Dropout", "drop", rate=-1), "layer 'drop' (Dropout): rate=-1"),
    ({**layer("LSTM", "mine"), "registered_name": "mine>LSTM"}, "layer 'mine' (LSTM): a class of one's own"),
    ({**layer("LSTM", "mine"), "module": "mine.layers"}, "layer 'mine' (LSTM): a class of one's own"),
]


@pytest.mark.parametrize(("other", "message"), OTHERS, ids=[each["config"]["name"] for each, _ in OTHERS])
def test_layers_are_refused_by_name(other: Config, message: str, tmp_path: Path) -> None:
    path = one_lstm(tmp_path, sequential(recurrent("LSTM", "lstm", 4), other))
    with pytest.raises(ModelFileError) as caught:
        load(path)
    assert message in str(caught.value)
    assert "damaged" not in str(caught.value)


def branching() -> Config:
    model = functional(recurrent("LSTM", "lstm", 4), layer("Add", "add"))
    model["config"]["layers"][2]["inbound_nodes"] = [[["lstm", 0, 0, {}], ["input_1", 0, 0, {}]]]
    return model


def called(**keywords: Any) -> Config:
    model = functional(recurrent("LSTM", "lstm", 4))
    model["config"]["layers"][1]["inbound_nodes"][0][0][3] = keywords
    return model


def shared() -> Config:
    model = functional(recurrent("LSTM", "lstm", 4))
    model["config"]["layers"][1]["inbound_nodes"] *= 2
    return model


def two_outputs() -> Config:
    model = functional(recurrent("LSTM", "lstm", 4), dense("dense", 2))
    model["config"]["output_layers"] = [["lstm", 0, 0], ["dense", 0, 0]]
    return model


def without(*names: str, model: Config | None = None) -> Config:
    model = model or functional(recurrent("LSTM", "lstm", 4))
    for name in names:
        del model["config"][name]
    return model


MODELS = [
    (branching(), "layer 'add' (Add) has 2 inputs: a model of bilstm is one chain"),
    (called(training=True), "was called with training='True'"),
    (called(initial_state=["x", 0, 0]), "was called with initial_state="),
    (called(mask=["x", 0, 0]), "was called with a mask of its own"),
    (shared(), "was called 2 times: layers that share weights"),
    (two_outputs(), "its model has 2 outputs"),
    (without("output_layers"), "its model's outputs are not described"),
    (without("layers"), "its model has no layers"),
    ({"class_name": "MyModel", "config": {}}, "its model is a 'MyModel'"),
    ({"class_name": "Sequential", "config": {"layers": [3]}}, "'3' describes no layer"),
    ([], "its description is not that of a model"),
    (sequential(recurrent("LSTM", "lstm", 4), features=None), "its input has the shape (None, None)"),
    (sequential(layer("Embedding", "e", input_dim=3, output_dim=2)), "its input has the shape (None, None, 3)"),
]


@pytest.mark.parametrize(("model", "message"), MODELS, ids=[message[:30] for _, message in MODELS])
def test_models_that_are_no_chain_are_refused(model: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        load(one_lstm(tmp_path, model))
    assert message in str(caught.value)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("1.2.2", "Keras 1.2.2 wrote it, but bilstm reads files of Keras 2 and 3: open it with Keras 2.2"),
        ("4.0.0", "Keras 4.0.0 wrote it"),
        ("new", "its version of Keras is 'new'"),
    ],
)
def test_versions(version: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=message):
        load(one_lstm(tmp_path, version=version))


def test_hard_sigmoid_means_what_it_meant_to_the_version(tmp_path: Path) -> None:
    for version, gates in (("2.2.4-tf", "hard_sigmoid_keras2"), ("3.15.1", "hard_sigmoid")):
        model = load(one_lstm(tmp_path, version=version))
        assert isinstance(model.layers[0], layers.LSTM)
        assert model.layers[0].recurrent_activation == gates


# --- Damage ---------------------------------------------------------------------------------------------------------


def replaced(group: Any, name: str, **settings: Any) -> None:
    del group[name]
    group.create_dataset(name, **settings)


def hurt(path: Path, how: str) -> None:
    with h5py.File(path, "r+") as file:
        group = file["model_weights/lstm/lstm"]
        if how == "shape":
            replaced(group, "kernel:0", data=np.zeros((FEATURES, 15), np.float32))
        elif how == "missing":
            del group["bias:0"]
        elif how == "group":
            del file["model_weights"]
        elif how == "names":
            del file["model_weights/lstm"].attrs["weight_names"]
        elif how == "order":
            names = file["model_weights/lstm"].attrs["weight_names"]
            file["model_weights/lstm"].attrs["weight_names"] = names[[1, 0, 2]]
        elif how == "fewer":
            file["model_weights/lstm"].attrs["weight_names"] = file["model_weights/lstm"].attrs["weight_names"][:2]
        elif how == "NaN":
            group["kernel:0"][0, 0] = np.nan
        elif how == "text":
            replaced(group, "kernel:0", data=np.full((FEATURES, 16), b"x"))
        elif how == "hollow":
            replaced(group, "kernel:0", shape=(FEATURES, 16), dtype="f4", chunks=(1, 16))
        elif how == "soft":
            del group["kernel:0"]
            group["kernel:0"] = h5py.SoftLink("/model_weights/lstm/lstm/bias:0")
        elif how == "external":
            del group["kernel:0"]
            group["kernel:0"] = h5py.ExternalLink("/etc/passwd", "/")
        elif how == "no JSON":
            file.attrs["model_config"] = "{"
        elif how == "no version":
            del file.attrs["keras_version"]
            del file["model_weights"].attrs["keras_version"]
        elif how == "config":
            del file.attrs["model_config"]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("shape", "layer 'lstm' (LSTM): its array 'lstm/kernel:0' has the shape (3, 15), not (3, 16)"),
        ("missing", "it holds no 'lstm/bias:0' in '/model_weights/lstm'"),
        ("group", "it holds no 'model_weights'"),
        ("names", "its group '/model_weights/lstm' has no weight_names"),
        ("order", "its array 'lstm/recurrent_kernel:0' stands where kernel should be"),
        ("fewer", "layer 'lstm' (LSTM) has 2 arrays of weights in the file, not 3"),
        ("NaN", "its array 'lstm/kernel:0' holds NaN or infinity"),
        ("text", "has the type |S1, not float32"),
        ("hollow", "is compressed or not wholly in the file"),
        ("soft", "is a link, which bilstm does not follow"),
        ("external", "is a link, which bilstm does not follow"),
        ("no JSON", "its description is not JSON"),
        ("no version", "it names no version of Keras"),
        ("config", "it holds neither a model of Keras's nor its weights"),
    ],
)
def test_damage_is_named(how: str, message: str, tmp_path: Path) -> None:
    path = one_lstm(tmp_path)
    hurt(path, how)
    with pytest.raises(ModelFileError) as caught:
        load(path)
    assert message in str(caught.value)


def test_what_is_no_file_of_keras(tmp_path: Path) -> None:
    (tmp_path / "empty.h5").touch()
    (tmp_path / "text.keras").write_text("PK is how it begins")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    for name, message in {
        "empty.h5": "is empty",
        "text.keras": "it is neither a .keras nor a .h5 file",
        "nothing.h5": "there is no file",
        "saved": "it does not describe a model of Keras's",
        "other.zip": "it holds no config.json",
        ".": "is a folder, but no SavedModel of Keras's",
        "\0": "there is no file|cannot read",
    }.items():
        with pytest.raises(ModelFileError, match=message):
            load(f"{tmp_path}/{name}")


def as_archive(path: Path, h5: Path) -> Path:
    """A .keras file with the same LSTM."""
    model = sequential(recurrent("LSTM", "lstm", 4, recurrent_activation="sigmoid"))
    inside = path.with_suffix(".weights.h5")
    with h5py.File(h5) as source, h5py.File(inside, "w") as file:
        for index, kind in enumerate(("kernel", "recurrent_kernel", "bias")):
            file[f"layers/lstm/cell/vars/{index}"] = source[f"model_weights/lstm/lstm/{kind}:0"][()]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0"}))
        archive.writestr("config.json", json.dumps(model))
        archive.write(inside, "model.weights.h5")
    return path


def damaged(content: bytes, generator: np.random.Generator, count: int) -> Iterator[bytes]:
    """Truncated, with bits turned over, with runs of zeros, and with a run from elsewhere in the file."""
    for index in range(count):
        data = bytearray(content)
        at, length = int(generator.integers(len(data))), int(generator.integers(1, 40))
        if index % 4 == 0:
            del data[at:]
        elif index % 4 == 1:
            for bit in generator.integers(0, 8 * len(data), 3):
                data[bit // 8] ^= 1 << (bit % 8)
        elif index % 4 == 2:
            data[at : at + length] = bytes(len(data[at : at + length]))
        else:
            start = int(generator.integers(len(data)))
            run = data[start : start + length]
            data[at : at + len(run)] = run
        yield bytes(data)


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_damaged_files_are_read_or_refused_in_one_line(ending: str, tmp_path: Path) -> None:
    whole = one_lstm(tmp_path)
    if ending == ".keras":
        whole = as_archive(tmp_path / "one.keras", whole)
    assert load(whole).count_params() == 4 * 4 * (FEATURES + 4 + 1)
    messages = []
    for content in damaged(whole.read_bytes(), np.random.default_rng(5), 200):
        path = tmp_path / f"damaged{ending}"
        path.write_bytes(content)
        try:
            model = load(path)
        except ModelFileError as error:
            messages.append(str(error))
        else:
            assert all(np.isfinite(array).all() for array in model.get_weights())
    assert len(messages) > 80
    assert all(str(path) in message and "\n" not in message for message in messages)


def test_a_heap_of_texts_without_end_is_refused(tmp_path: Path) -> None:
    """The HDF5 library looks for the next block of size 0 for ever."""
    path = one_lstm(tmp_path)
    content = bytearray(path.read_bytes())
    heap = content.find(b"GCOL")
    content[heap + 16 : heap + 32] = bytes(16)
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="its texts are damaged"):
        load(path)


# --- The command ----------------------------------------------------------------------------------------------------


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(commands, ["convert", *map(str, arguments)])


def test_convert(tmp_path: Path) -> None:
    described = recurrent("LSTM", "lstm", 4, recurrent_dropout=0.25)
    both = layer("Bidirectional", "both", layer=described, merge_mode="concat")
    inside = layers.LSTM(4, return_sequences=True)
    arrays = random_arrays(bilstm.Sequential([layers.Input((None, FEATURES)), layers.Bidirectional(inside)]))
    weights = {"both": named("both/forward_lstm", arrays[:3]) + named("both/backward_lstm", arrays[3:])}
    path = write_h5(tmp_path / "old.h5", sequential(both), weights)
    result = run(path, "--out", tmp_path / "new.safetensors")
    assert result.exit_code == 0, result.output
    printed = " ".join(result.stdout.split())
    assert "old.h5: .h5 file of Keras 2.2.4; 3 inputs, 256 parameters" in printed
    assert "LSTM(units=4, return_sequences=True, recurrent_activation='hard_sigmoid_keras2'))" in printed
    assert "layer (LSTM): recurrent_dropout=0.25 acts in training only" in printed
    assert "had no mask and its backward direction began in the padding" in printed
    same(bilstm.load_model(tmp_path / "new.safetensors"), load(path), draw())


def test_convert_replaces_its_own_files_only(tmp_path: Path) -> None:
    path, out = one_lstm(tmp_path), tmp_path / "out"
    out.write_text("somebody's")
    refused = run(path, "--out", out)
    assert refused.exit_code == 2
    assert "is not a bilstm model" in refused.stderr
    assert out.read_text() == "somebody's"
    assert run(path, "--out", out, "--force", "--quiet").stdout == ""
    assert run(path, "--out", out).exit_code == 0
    assert "it is being read" in run(path, "--out", path, "--force").stderr


def test_convert_says_in_one_line_what_is_not_supported(tmp_path: Path) -> None:
    path = one_lstm(tmp_path, sequential(recurrent("LSTM", "lstm", 4), layer("CRF", "crf_1")))
    result = run(path, "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert "layer 'crf_1' (CRF) is not supported" in result.stderr
    assert not (tmp_path / "out").exists()


def test_convert_of_weights_beside_a_description(tmp_path: Path) -> None:
    ours = bilstm.Sequential([layers.LSTM(4, input_shape=(None, FEATURES))])
    path, text = tmp_path / "weights.h5", tmp_path / "model.json"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"lstm"]
        arrays = named("lstm", random_arrays(ours))
        file.create_group("lstm").attrs["weight_names"] = [name.encode() for name, _ in arrays]
        for name, values in arrays:
            file[f"lstm/{name}"] = values
    text.write_text(json.dumps({**sequential(recurrent("LSTM", "lstm", 4)), "keras_version": "2.2.4"}))
    out = tmp_path / "out"
    assert "it holds weights alone: give the model's description, too" in run(path, "--out", out).stderr
    assert run(path, "--out", out, "--architecture", text).exit_code == 0
    assert "is not needed" in run(one_lstm(tmp_path), "--out", out, "--architecture", text).stderr
    assert "there is no file" in run(path, "--out", out, "--architecture", tmp_path / "none").stderr
    text.write_bytes(b"\xff")
    assert "is no text" in run(path, "--out", out, "--architecture", text).stderr
