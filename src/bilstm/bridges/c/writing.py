"""A model as a folder of source code: a C header, a C++ source that holds everything, and an example program."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from bilstm._version import __version__
from bilstm.bridges.c.amalgamation import engine_source
from bilstm.bridges.c.code import layer_code
from bilstm.bridges.c.parts import Parts
from bilstm.engine.library import LayerStruct
from bilstm.engine.plans import CELLS, GATES
from bilstm.errors import UserError, listed
from bilstm.files import AnyPath, check_replaceable, check_writable, reason, replacing
from bilstm.layers import CRF, Dropout, Padding, SpatialDropout1D, WordEncoder
from bilstm.model import TrainedModel
from bilstm.models import Sequential
from bilstm.models.structure import mask_value_of, plan_layers

Inputs = Literal["columns", "encoded"]
FLAGS = "-std=gnu++20 -O2 -ffp-contract=off -fno-math-errno -fno-trapping-math"
_MARK = "Written by bilstm"
_FACTORIES = {"lstm": "make_lstm", "gru": "make_gru", "gru_reset_before": "make_gru_reset_before"}
_ALL_FACTORIES = (*_FACTORIES.values(), "make_simple", "make_hard_gates")
_RECURRENT = 0
_KINDS = {  # the engine's classes of layers, by their number
    0: "Recurrent",
    1: "Dense",
    2: "Dropout",
    3: "Embedding",
    4: "Pooling",
    5: "SpatialDropout",
    6: "AttentionPooling",
    7: "Convolution",
    8: "WindowPooling",
    9: "BatchNormalization",
    10: "Crf",
    11: "WordEncoder",
}
_TAKEN = ("bilstm", "example")  # by the engine's functions, and by the example's file


def export(
    model: TrainedModel | Sequential,
    folder: AnyPath,
    *,
    name: str | None = None,
    inputs: Inputs = "columns",
    force: bool = False,
) -> list[Path]:
    """Write a model as C and C++ source code: NAME.h, NAME.cpp and example.cpp.

    Results have the bits of the engine's float32 predictions; NAME.h says how to build them.

    Args:
        model: the model.
        folder: where to write; made if it does not exist.
        name: what the files and functions are called; None: after the folder.
        inputs: of a trained model, "columns": raw numbers and words; "encoded": the network's inputs.
        force: whether to replace files that bilstm did not write.

    Returns:
        The files.

    Raises:
        UserError: a part of the model cannot be written as C, a file cannot be written, or another program's file would
            be replaced.
    """
    name = identifier(Path(folder).name if name is None else name)
    texts = sources(model, name, inputs)
    paths = check_folder(folder, name, force=force)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {reason(error)}") from None
    for path, text in zip(paths, texts, strict=True):
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return paths


def identifier(name: str) -> str:
    """A name that C allows, as near to this one as possible."""
    made = re.sub(r"[^a-z0-9_]", "_", name.lower()).strip("_") or "model"
    return f"model_{made}" if made[0].isdigit() or made in _TAKEN else made


def check_folder(folder: AnyPath, name: str, *, inputs: Iterable[AnyPath] = (), force: bool = False) -> list[Path]:
    """Find out now whether the files can be written and replace nothing but ours. Returns them.

    Raises:
        UserError: the folder is a file, or one of the files is another program's.
    """
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise UserError(f"cannot write the folder {os.fspath(folder)}: it is a file; give another name")
    paths = [Path(folder) / file for file in (f"{name}.h", f"{name}.cpp", "example.cpp")]
    for path in paths if os.path.isdir(folder) else ():
        check_writable(path, inputs=inputs)
        if not force:
            check_replaceable(path, "a file of an export by bilstm", _is_ours)
    return paths


def _is_ours(path: AnyPath) -> bool:
    with open(path, encoding="utf-8", errors="replace") as file:
        return _MARK in file.read(400)


def sources(model: TrainedModel | Sequential, name: str, inputs: Inputs = "columns") -> list[str]:
    """The texts of NAME.h, NAME.cpp and example.cpp."""
    if inputs not in ("columns", "encoded"):
        raise ValueError(f"inputs must be one of 'columns' and 'encoded', not {inputs!r}")
    network = model.network if isinstance(model, TrainedModel) else model
    if network.network is None or network.input_features is None:
        raise UserError("the model has no weights yet: give its first layer input_shape=(steps, features)")
    if isinstance(model, TrainedModel) and inputs == "columns":
        _check_features(model)
    _check_layers(network)
    layers = [layer for layer in network.layers if not isinstance(layer, (Dropout, SpatialDropout1D))]
    plans = plan_layers(layers, network.input_features)
    parts = Parts(model if isinstance(model, TrainedModel) and inputs == "columns" else None, network, name)
    includes, engine = engine_source(_unused(plans))
    more = ("cfloat", "cmath", "cstdint", "cstring", "exception", "iterator", "memory", "vector")
    includes = [*dict.fromkeys([*includes, *(f"#include <{header}>" for header in more)])]
    tables, code = layer_code(plans)
    values = {
        "title": f"{name}: {_title(model)}",
        "version": __version__,
        "flags": FLAGS,
        "name": name,
        "NAME": name.upper(),
        "includes": "\n".join(includes),
        "engine": engine,
        "layer_count": str(len(plans)),
        "layers": code,
        "data": tables + parts.data(),
    }
    values |= parts.texts()
    folder = Path(__file__).parent / "templates"
    files = [(folder / file).read_text(encoding="utf-8") for file in ("model.h", "model.cpp", "example.cpp")]
    mark = f"// {_MARK} {__version__}.\n"
    texts = [re.sub(r"@(\w+)@", lambda found: values[found[1]], text) for text in files]
    return [*texts[:2], mark + texts[2]]


def _check_features(model: TrainedModel) -> None:
    schema = model.schema
    spelled = schema.spelled or (schema.features if schema.characters else [])
    if spelled:
        raise UserError(
            f"cannot write the encoding of {listed(spelled)} as C: the spelling of words counts; train with "
            f"--no-spelling"
        )


def _check_layers(network: Sequential) -> None:
    for layer in network.layers:
        if isinstance(layer, CRF):
            raise UserError(
                f"cannot write {layer!r} as C: it predicts the labels of a sequence together, by an algorithm that is "
                f"not exported; train with --output softmax"
            )
        if isinstance(layer, (WordEncoder, Padding)):
            what = "read characters" if isinstance(layer, WordEncoder) else "extend sequences"
            raise UserError(f"cannot write {layer!r} as C: layers that {what} are not exported")
        if mask_value_of(layer) is not None:
            raise UserError(f"cannot write {layer!r} as C: leave masked steps out of the sequences instead")
    if network.splits:
        raise UserError("cannot write Bidirectional(merge_mode=None) as C: it has two outputs")


def _title(model: TrainedModel | Sequential) -> str:
    if isinstance(model, TrainedModel):
        return f"predicts {listed(model.task.columns)} ({model.task.kind})."
    return "a network."


def _unused(plans: Sequence[LayerStruct]) -> list[str]:
    """Functions of the engine that these layers do not call."""
    ways = [plan.ways[i] for plan in plans if plan.kind == _RECURRENT for i in range(plan.directions)]
    used = set()
    for way in ways:
        cell = CELLS[way.cell]
        hard = GATES[way.gates] != "sigmoid"
        used.add("make_simple" if cell not in _FACTORIES else "make_hard_gates" if hard else _FACTORIES[cell])
    kinds = {plan.kind for plan in plans}
    return [*(f"{_KINDS[kind]}::forward" for kind in _KINDS if kind not in kinds), *(set(_ALL_FACTORIES) - used)]
