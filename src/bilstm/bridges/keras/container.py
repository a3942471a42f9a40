"""The files that Keras writes, opened with h5py alone: a description of layers, and arrays of weights.

Four layouts:

- `.keras`, of Keras 3 and of tf.keras from 2.12: a zip archive with `config.json`, `metadata.json` and
  `model.weights.h5`, whose groups are named after the layers' classes;
- `.h5` or `.hdf5`, of Keras 2 and of Keras 3's older saver: the description in the attribute `model_config`, the
  weights in the group `model_weights`, in which the attribute `weight_names` gives their order;
- weights alone, in either layout, with the description in a JSON file of its own (`model.to_json()`);
- SavedModel folders of tf.keras: see `savedmodel`.

Reading allocates no more than a small multiple of the file's size, follows no link to another file, and runs nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import mmap
import os
import re
import struct
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilstm.bridges.keras import savedmodel
from bilstm.bridges.refusals import RefusedError, saying_why
from bilstm.errors import UserError, shown
from bilstm.files import AnyPath, check_readable, reason
from bilstm.modelfile import MAXIMUM_HEADER, ModelFileError, parse_json

if TYPE_CHECKING:
    import h5py

ZIP, HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"  # how the files begin
_HEAP = b"GCOL\1"
_MOST_EXPANDED = 50  # how much larger than the archive its members may be
# The groups of a model's layers in model.weights.h5. In that of tf.keras 2.12 the numbers after the names have gaps.
_LAYERS, _LAYERS_OF_2_12 = "layers", "_layer_checkpoint_dependencies"


@dataclass(frozen=True)
class Container:
    """An open file of Keras's.

    Attributes:
        layout: "keras", "h5", "weights" or "savedmodel".
        version: of the Keras that wrote it, such as "2.15.0".
        config: {"class_name", "config"} of the model.
        weights: the group of HDF5 that holds the weights.
        named: whether the group has a group for each layer's name, as in h5 files, rather than for its class.
        taken: of a SavedModel, how many arrays each layer so far had.
    """

    layout: str
    version: str
    config: dict[str, Any]
    weights: h5py.Group
    named: bool
    taken: list[int] = field(default_factory=list)

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def datasets(
        self, name: str, class_name: str, index: int, paths: Sequence[str], kinds: Sequence[str], second: str = ""
    ) -> list[tuple[str, h5py.Dataset]]:
        """A layer's arrays with their names, in the order that Keras's `get_weights` has. Layers are asked for in turn.

        Args:
            name: the layer's.
            class_name: its class.
            index: how many layers of this class the model has before it.
            paths: where a .keras file keeps the arrays, below the layer.
            kinds: what the arrays are, such as "kernel" and "bias".
            second: the name of the layer inside that comes second, if there are two.

        Raises:
            RefusedError: the file has none for it.
        """
        if self.layout == "savedmodel":
            return self._by_order(kinds)
        if self.named:
            return self._by_name(name, second)
        group = self._by_class(class_name, index)
        datasets: list[tuple[str, h5py.Dataset]] = []
        for path in paths:
            own = descend(group, f"{path}/vars".lstrip("/"))
            datasets += [(f"{path}/{key}", descend(own, key)) for key in sorted(own, key=_number)]
        return datasets

    def _by_order(self, kinds: Sequence[str]) -> list[tuple[str, h5py.Dataset]]:
        """Of a SavedModel: an array that is deep within its layer has a number among all, another the layer's."""
        layer, first = f"layer_with_weights-{len(self.taken)}", sum(self.taken)
        self.taken.append(len(kinds))
        names = [f"{layer}/{kind}" for kind in kinds]
        names = [each if each in self.weights else f"variables/{first + i}" for i, each in enumerate(names)]
        return [(each, descend(self.weights, each)) for each in names]

    def _by_name(self, name: str, second: str) -> list[tuple[str, h5py.Dataset]]:
        group = descend(self.weights, name)
        names = [each for each in attribute_list(group, "weight_names") if "seed_generator" not in each]
        # Trainable weights come first: where only the second layer is trainable, its arrays stand before the first's.
        names.sort(key=lambda each: bool({second, f"backward_{second}"} & {*each.split("/")}))
        return [(each, descend(group, each)) for each in names]

    def _by_class(self, class_name: str, index: int) -> h5py.Group:
        stem = snake_case(class_name)
        name = f"{stem}_{index}" if index else stem
        if _LAYERS in self.weights:
            return descend(self.weights, f"{_LAYERS}/{name}")
        group = descend(self.weights, _LAYERS_OF_2_12)
        numbered = re.compile(rf"{re.escape(stem)}(?:_\d+)?")
        names = sorted((key for key in group if numbered.fullmatch(key)), key=_suffix)
        return descend(group, names[index] if index < len(names) else name)


@contextlib.contextmanager
def open_container(path: AnyPath, architecture: AnyPath | None = None) -> Iterator[Container]:
    """Open a file of Keras's for the block, whatever its name.

    Args:
        path: the .keras or .h5 file.
        architecture: the JSON file with the description, where `path` holds weights alone.

    Raises:
        ModelFileError: the file is missing, damaged or no file of Keras's, or the package h5py is missing.
        MemoryError: there is too little memory for it.
    """
    try:
        import h5py
    except ModuleNotFoundError:
        raise ModelFileError("files of Keras's need the package h5py: pip install 'bilstm[keras]'") from None
    start = _beginning(path)
    with contextlib.ExitStack() as stack, saying_why(path):
        if not start:
            container = _from_folder(stack, Path(path))
        elif start.startswith(ZIP):
            text, versions, content = _from_archive(path)
            check_heaps(content)
            file = stack.enter_context(h5py.File(io.BytesIO(content), "r"))
            container = Container("keras", _version(versions), _model(text), file, named=False)
        elif start.startswith(HDF5):
            with open(path, "rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                check_heaps(mapped)
            file = stack.enter_context(h5py.File(path, "r"))
            container = _from_hdf5(file, None if architecture is None else _text(architecture))
        else:
            raise RefusedError("it is neither a .keras nor a .h5 file")
        if architecture is not None and container.layout != "weights":
            raise RefusedError(
                f"it holds the model's description itself, so that {os.fspath(architecture)} is not needed"
            )
        yield container


def _beginning(path: AnyPath) -> bytes:
    """A file's first bytes; none of a SavedModel folder."""
    if os.path.isdir(path):
        if not os.path.exists(os.path.join(path, savedmodel.GRAPH)):
            raise ModelFileError(f"{os.fspath(path)} is a folder, but no SavedModel of Keras's")
        return b""
    try:
        check_readable(path)
        with open(path, "rb") as file:
            return file.read(8) or b"\0"
    except UserError as error:
        raise ModelFileError(str(error)) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        raise ModelFileError(f"cannot read {path}: {reason(error) if isinstance(error, OSError) else error}") from None


def _from_folder(stack: contextlib.ExitStack, folder: Path) -> Container:
    """A SavedModel; its arrays become a file of HDF5 in memory."""
    import h5py

    described = savedmodel.description(folder)
    config = _model(json.dumps(described))
    _check_both_trainable(config)
    file = stack.enter_context(h5py.File(io.BytesIO(), "w"))
    for name, array in savedmodel.arrays(folder).items():
        file[name] = array
    return Container("savedmodel", _version(described), config, file, named=False)


def _check_both_trainable(config: Any) -> None:
    """Refuse a Bidirectional of which one direction is frozen: a SavedModel does not tell which array is whose."""
    if isinstance(config, dict):
        pair = config.get("layer"), config.get("backward_layer")
        trainable = {each["config"].get("trainable") for each in pair if isinstance(each, dict) and "config" in each}
        if len(trainable) > 1:
            raise RefusedError("it is a SavedModel in which one direction is not trainable: save it as .h5 or .keras")
    for each in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        _check_both_trainable(each)


# --- .keras ---------------------------------------------------------------------------------------------------------


def _from_archive(path: AnyPath) -> tuple[str, dict[str, Any], bytes]:
    """The text of config.json, the content of metadata.json, and model.weights.h5."""
    with zipfile.ZipFile(path) as archive:
        size = os.path.getsize(path)
        config = _member(archive, "config.json", MAXIMUM_HEADER).decode()
        metadata = _json(_member(archive, "metadata.json", 1 << 20).decode(), "metadata.json")
        weights = _member(archive, "model.weights.h5", _MOST_EXPANDED * size)
    return config, metadata if isinstance(metadata, dict) else {}, weights


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    try:
        member = archive.getinfo(name)
    except KeyError:
        raise RefusedError(f"it holds no {name}") from None
    if member.file_size > most:
        raise RefusedError(f"its {name} claims to have {member.file_size:,} bytes")
    return archive.read(member)


def check_heaps(content: bytes | mmap.mmap) -> None:
    """Refuse a damaged heap of texts at which the HDF5 library would loop forever.

    A heap ("GCOL") is a chain of blocks: a number, 0 for free space, and a size, without which there is no next block.
    HDF5's file format specification, "Disk Format: Level 1E, Global Heap".
    """
    heap, blocks = content.find(_HEAP), 0
    while heap >= 0:
        size = struct.unpack("<Q", content[heap + 8 : heap + 16])[0] if heap + 16 <= len(content) else 0
        at, end = heap + 16, min(heap + size, len(content))
        while at + 16 <= end:
            number, length = struct.unpack("<H6xQ", content[at : at + 16])
            blocks += 1
            if (not number and not length) or blocks > len(content):  # such as heaps within heaps
                raise RefusedError("its texts are damaged")
            at += 16 + length + -length % 8 if number else length
        heap = content.find(_HEAP, heap + 1)


# --- .h5 ------------------------------------------------------------------------------------------------------------


def _from_hdf5(file: h5py.File, architecture: str | None) -> Container:
    if "model_config" in file.attrs:
        group = descend(file, "model_weights")
        version = attribute(file, "keras_version") or attribute(group, "keras_version")
        text = attribute(file, "model_config")
        return Container("h5", _version({"keras_version": version}), _model(text), group, named=True)
    named = "layer_names" in file.attrs or "layer_names0" in file.attrs
    if not named and _LAYERS not in file and _LAYERS_OF_2_12 not in file:
        raise RefusedError("it holds neither a model of Keras's nor its weights")
    if architecture is None:
        raise RefusedError(
            "it holds weights alone: give the model's description, too, which Keras's model.to_json() makes, as "
            "architecture= or --architecture"
        )
    model = _model(architecture)
    version = attribute(file, "keras_version") or model.get("keras_version")
    if version is None and "module" in model:  # Keras 3 writes none, and a module, which earlier ones do not
        version = "3.0"
    return Container("weights", _version({"keras_version": version}), model, file, named)


def attribute(group: h5py.Group, name: str) -> str | None:
    """A text attribute, or None."""
    if name not in group.attrs:
        return None
    value = _attribute(group, name)
    if isinstance(value, bytes):
        value = value.decode()
    if not isinstance(value, str):
        raise RefusedError(f"its attribute {name} is no text")
    return value


def attribute_list(group: h5py.Group, name: str) -> list[str]:
    """A list of texts, which Keras divides over attributes `name0`, `name1`, … where it is long."""
    chunks = [name] if name in group.attrs else []
    while not (chunks and chunks[0] == name) and f"{name}{len(chunks)}" in group.attrs:
        chunks.append(f"{name}{len(chunks)}")
    if not chunks:
        raise RefusedError(f"its group {shown(group.name)} has no {name}")
    values = [value for chunk in chunks for value in _attribute(group, chunk)]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _attribute(group: h5py.Group, name: str) -> Any:
    if group.attrs.get_id(name).get_storage_size() > MAXIMUM_HEADER:
        raise RefusedError(f"its attribute {name} is larger than {MAXIMUM_HEADER:,} bytes")
    return group.attrs[name]


def descend(group: h5py.Group, path: str) -> Any:
    """What a group holds under a path, without following links to elsewhere.

    Raises:
        RefusedError: nothing, or a link.
    """
    import h5py

    item: Any = group
    for part in path.split("/"):
        if not isinstance(item, h5py.Group) or part not in item:
            raise RefusedError(f"it holds no {shown(path, 80)} in {shown(group.name, 80)}")
        if not isinstance(item.get(part, getlink=True), h5py.HardLink):
            raise RefusedError(f"{shown(path, 80)} is a link, which bilstm does not follow")
        item = item[part]
    return item


# --- What both have -------------------------------------------------------------------------------------------------


def _model(text: str | None) -> dict[str, Any]:
    """The description of a model from its JSON, with tuples as lists."""
    model = _plain(_json(text or "", "description"))
    if not isinstance(model, dict) or "class_name" not in model or "config" not in model:
        raise RefusedError("its description is not that of a model")
    return model


def _json(text: str, what: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise RefusedError(f"its {what} is not JSON: {error}") from None


def _plain(value: Any) -> Any:
    """The data with a list in place of each tuple, which tf.keras marks as such."""
    if isinstance(value, dict):
        if value.get("class_name") in ("__tuple__", "TensorShape") and isinstance(value.get("items"), list):
            return [_plain(each) for each in value["items"]]
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _version(data: dict[str, Any]) -> str:
    version = data.get("keras_version")
    if version is None:
        raise RefusedError("it names no version of Keras, as files of Keras 1 do; bilstm reads those of Keras 2 and 3")
    if not isinstance(version, str) or not (match := re.match(r"(\d{1,4})\.", version)):
        raise RefusedError(f"its version of Keras is {shown(version)}")
    if match[1] not in ("2", "3"):
        advice = ": open it with Keras 2.2 and save it again" if match[1] in ("0", "1") else ""
        raise RefusedError(f"Keras {shown(version)[1:-1]} wrote it, but bilstm reads files of Keras 2 and 3{advice}")
    return version


def _text(path: AnyPath) -> str:
    try:
        check_readable(path)
        if os.path.getsize(path) > MAXIMUM_HEADER:
            raise ModelFileError(f"{os.fspath(path)} is no description of a model: it is too large")
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise ModelFileError(f"cannot read {os.fspath(path)}: {reason(error)}") from None
    except UnicodeDecodeError:
        raise ModelFileError(f"{os.fspath(path)} is no text") from None
    except UserError as error:
        raise ModelFileError(str(error)) from None


def snake_case(class_name: str) -> str:
    """The name that Keras makes of a class's: SimpleRNN -> simple_rnn."""
    words = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", class_name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def _suffix(name: str) -> int:
    number = name.rpartition("_")[2]
    return int(number) if number.isdecimal() and len(number) < 10 else 0


def _number(key: str) -> tuple[int, str]:
    return (int(key) if key.isdecimal() and len(key) < 10 else 0), key
