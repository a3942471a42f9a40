"""A Keras file as a `Sequential` model, and what there is to know about it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bilstm.bridges.keras.chain import SourceLayer, chain_of
from bilstm.bridges.keras.container import Container, open_container
from bilstm.bridges.keras.padding import reach_of
from bilstm.bridges.keras.translation import Translated, Translator
from bilstm.bridges.refusals import RefusedError
from bilstm.bridges.source import SourceFile
from bilstm.errors import shown
from bilstm.files import AnyPath
from bilstm.layers import WeightSpec, to_json
from bilstm.models import Sequential
from bilstm.ragged import FloatArray

if TYPE_CHECKING:
    import h5py

    from bilstm.bridges.checking import Check

_LAYOUTS = {
    "keras": ".keras file",
    "h5": ".h5 file",
    "weights": "weights of a .h5 file",
    "savedmodel": "SavedModel folder",
}
_SHAPES = ("batch_shape", "batch_input_shape")  # Keras 3's word, and Keras 2's
_KNOWN = (  # names of arrays
    *("kernel", "recurrent_kernel", "bias", "embeddings"),
    *("gamma", "beta", "moving_mean", "moving_variance"),
)


@dataclass(frozen=True, kw_only=True)
class KerasFile(SourceFile):
    """What a Keras file holds.

    Attributes:
        model: the model, not compiled.
        path: the file.
        layers: of each layer in the file its name, its class and what it became here.
        notes: what acts in training only and was left out, and similar remarks.
        agrees: whether ragged batches give the same predictions in Keras, where shorter sequences are padded.
        padding: a sentence about why.
        steps: the number of time steps that the file fixes for each sequence; None: any.
        layout: "keras", "h5", "weights" or "savedmodel".
        version: of the Keras that wrote it.
        architecture: the JSON file that describes the model, where the file holds weights alone.
    """

    layout: str
    version: str
    architecture: str | None = None

    @property
    def what(self) -> str:
        """Of what layout, and by what version."""
        return f"{_LAYOUTS[self.layout]} of Keras {shown(self.version)[1:-1]}"

    def check(self) -> Check:
        """Compare predictions with Keras's, in a process of its own, where the version that reads the file is
        installed: Keras 3 for its own, tf-keras (or an old Keras) for those of Keras 2.
        """
        from bilstm.bridges.keras.checking import check

        return check(self)


def read(path: Any, architecture: AnyPath | None = None) -> KerasFile:
    """Read a model of Keras's, and what there is to know about it. Needs neither Keras nor TensorFlow, only h5py.

    Args:
        path: a .keras or .h5 file of Keras 2 or 3, or one with weights alone; a SavedModel folder of tf.keras; or a
            live `keras.Model`.
        architecture: the JSON file that `model.to_json()` of Keras makes, where `path` holds weights alone.

    Raises:
        ModelFileError: the file is missing, damaged or no such file, or a layer or an argument of it is not supported;
            the message names it.
        MemoryError: there is too little memory for it.
    """
    if not isinstance(path, (str, os.PathLike)):
        return _read_live(path)
    with open_container(path, architecture) as container:
        sources = chain_of(container.config)
        given, sources = _input_of(container.config, sources)
        translator = Translator(container.major)
        translated = translator.translate(sources)
        weights = _weights(container, translated, given.features)
        return KerasFile(
            model=_model(container.config, given.features, translated, weights),
            path=os.fspath(path),
            layers=[(each.source.name, each.source.class_name, _became(each)) for each in translated],
            notes=translator.notes,
            reach=reach_of(translated, ragged=given.ragged),
            steps=given.steps,
            layout=container.layout,
            version=container.version,
            architecture=None if architecture is None else os.fspath(architecture),
        )


def _read_live(model: Any) -> KerasFile:
    """Read a live model, by way of a file."""
    if not (hasattr(model, "save") and hasattr(model, "get_weights") and hasattr(model, "layers")):
        raise TypeError(f"a path or a model of Keras's is needed, not {model!r:.100}")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        return replace(read(path), path=str(model.name))


def load(path: Any, architecture: AnyPath | None = None) -> Sequential:
    """The model in a file that Keras wrote, or a live `keras.Model`, not compiled. A file needs h5py only.

    The arguments and errors are those of `read`.
    """
    return read(path, architecture).model


def _model(
    config: dict[str, Any], features: int, translated: Sequence[Translated], weights: list[FloatArray]
) -> Sequential:
    name = config["config"].get("name") if isinstance(config["config"], dict) else None
    layers = [data for each in translated for data in _described(each)]
    try:
        model = Sequential.from_config(
            {"name": str(name or "sequential"), "features": features, "layers": layers}, draw=False
        )
        if not model.built:
            raise RefusedError("its model does nothing")
        model.set_weights(weights)
    except ValueError as error:
        raise RefusedError(str(error)) from None
    return model


def _became(translated: Translated) -> str:
    return ", ".join(map(repr, translated.layers)) or translated.otherwise


def _described(translated: Translated) -> list[dict[str, Any]]:
    """Our layers as data, the last, which has the weights, by the name in the file."""
    described = [to_json(layer) for layer in translated.layers]
    for data in described[-1:]:
        data["config"]["name"] = translated.source.name or None
    return described


# --- The input ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Input:
    """A model's input: the number of features, that of steps if it is fixed, and whether it is a RaggedTensor."""

    features: int
    steps: int | None
    ragged: bool


def _input_of(model: dict[str, Any], sources: list[SourceLayer]) -> tuple[_Input, list[SourceLayer]]:
    """The input, and the layers after it."""
    first, config = sources[0], model["config"]
    is_input = first.class_name == "InputLayer"
    shape = next((first.config[name] for name in _SHAPES if first.config.get(name)), None)
    if shape is None and isinstance(config, dict):
        shape = config.get("build_input_shape")
    rest = sources[1:] if is_input else sources
    embedded = bool(rest) and rest[0].class_name == "Embedding"
    if not isinstance(shape, list) or not all(size is None or type(size) is int for size in shape):
        raise RefusedError(
            "it does not give the shape of the model's input: build the model in Keras and save it again"
        )
    if len(shape) == 2 and embedded:
        features = 1
    elif len(shape) == 3 and shape[2] is not None and shape[2] > 0 and not embedded:
        features = shape[2]
    else:
        sizes = "(batch, steps)" if embedded else "(batch, steps, features)"
        raise RefusedError(f"its input has the shape {shown(tuple(shape))[1:-1]}; bilstm reads sequences, {sizes}")
    if is_input and first.config.get("sparse"):
        raise RefusedError(f"{first.title}: sparse=True is not supported")
    return _Input(features, shape[1], is_input and first.config.get("ragged") is True), rest


# --- Weights --------------------------------------------------------------------------------------------------------


def _weights(container: Container, translated: Sequence[Translated], features: int) -> list[FloatArray]:
    """All arrays in the order of our `get_weights`. Shapes and sizes are compared before anything is read."""
    width, arrays = features, []
    for each in translated:
        if each.parts:
            arrays += _arrays(container, each, width)
        for layer in each.layers:
            width = layer.output_features(width)
    return arrays


def _arrays(container: Container, translated: Translated, width: int) -> list[FloatArray]:
    source = translated.source
    stored = [part.stored(width) for part in translated.parts]
    paths = [part.path for part in translated.parts]
    expected = [spec for specs in stored for spec in specs]
    kinds = [spec.name for spec in expected]
    arrays = container.datasets(source.name, source.class_name, source.index, paths, kinds, translated.second)
    if len(arrays) != len(expected):
        raise RefusedError(f"{source.title} has {len(arrays)} arrays of weights in the file, not {len(expected)}")
    pairs = [_check(source, *each, spec) for each, spec in zip(arrays, expected, strict=True)]
    values = iter([_values(source, *pair) for pair in pairs])
    arranged: list[FloatArray] = []
    for part, specs in zip(translated.parts, stored, strict=True):
        arranged += part.arranged([next(values) for _ in specs])
    return arranged


def _check(source: SourceLayer, name: str, dataset: Any, spec: WeightSpec) -> tuple[str, h5py.Dataset]:
    """Refuse an array that is not the expected one, or that would take more memory than the file has bytes."""
    import h5py

    where = f"{source.title}: its array {shown(name, 80)}"
    if not isinstance(dataset, h5py.Dataset):
        raise RefusedError(f"{where} is no array")
    kind = name.rsplit("/", 1)[-1].split(":")[0]
    if kind in _KNOWN and kind != spec.name:
        raise RefusedError(f"{where} stands where {spec.name} should be")
    if dataset.shape != spec.shape:
        raise RefusedError(f"{where} has the shape {dataset.shape}, not {spec.shape}")
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize not in (2, 4, 8) or "dtype" in dataset.attrs:
        raise RefusedError(f"{where} has the type {dataset.attrs.get('dtype', dataset.dtype)}, not float32")
    if dataset.is_virtual or dataset.external or dataset.id.get_storage_size() < dataset.nbytes:
        raise RefusedError(f"{where} is compressed or not wholly in the file")
    return where, dataset


def _values(source: SourceLayer, where: str, dataset: h5py.Dataset) -> FloatArray:
    with np.errstate(over="ignore"):
        values: FloatArray = np.asarray(dataset[()], np.float32)
    if not np.isfinite(values).all():
        raise RefusedError(f"{where} holds NaN or infinity")
    return values
