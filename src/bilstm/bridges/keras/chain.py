"""The chain of layers that the description of a Keras model makes, and what each layer receives.

A functional model is a graph. Here it must be one path from its input to its output. Keras 3 writes how it computes
masks into the graph, as operations off the path; they must be those that the first layer implies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bilstm.bridges.refusals import RefusedError
from bilstm.bridges.source import IN_FLOAT32
from bilstm.errors import counted, shown

_MODELS = ("Sequential", "Functional", "Model")
_MASK_OPERATIONS = ("NotEqual", "Any")  # by which Keras 3 computes a mask
_MODULES = ("keras", "tf_keras", "tensorflow")
# What changes nothing: how weights began, were held and were trained, and how a result is computed.
_IGNORED_ENDS = ("_initializer", "_regularizer", "_constraint")
_IGNORED = (
    "name",
    "trainable",
    "batch_input_shape",
    "batch_shape",
    "input_shape",
    "input_dim",
    "input_length",
    "seed",
    "rng_type",
    "implementation",
    "unroll",
    "use_cudnn",
    "unit_forget_bias",
    "zero_output_for_mask",
    "autocast",
)
_NOTHING = ("lora_rank", "lora_alpha", "quantization_config", "num_constants", "gptq_unpacked_column_size")
_PRECISIONS = ("float32", "float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16")


@dataclass(frozen=True)
class SourceLayer:
    """A layer as the file describes it.

    Attributes:
        name, class_name, config: the file's.
        index: how many layers of this class the model lists before it.
    """

    name: str
    class_name: str
    config: dict[str, Any]
    index: int = 0

    @property
    def title(self) -> str:
        """For messages: `layer 'lstm_1' (LSTM)`."""
        return f"layer {shown(self.name)} ({shown(self.class_name)[1:-1]})"


def chain_of(model: Mapping[str, Any]) -> list[SourceLayer]:
    """The layers of a model, from its input to its output.

    Raises:
        RefusedError: it is no such chain; the message names the layer at which it ends or branches.
    """
    kind, config = model["class_name"], model["config"]
    if kind not in _MODELS or _is_foreign(model):
        raise RefusedError(f"its model is a {shown(kind)}: only Sequential and functional models describe their layers")
    described = config.get("layers") if isinstance(config, dict) else config  # a list until Keras 2.2.2
    if not isinstance(described, list) or not described:
        raise RefusedError("its model has no layers")
    layers = list(_layers(described))
    if kind == "Sequential":
        return layers
    return _Graph(layers, described, config).path()


def source_layer(data: Any, index: int = 0) -> SourceLayer:
    """A layer of its description, such as the one inside a Bidirectional.

    Raises:
        RefusedError: it is none, or not Keras's own.
    """
    if not isinstance(data, dict) or not isinstance(data.get("config"), dict):
        raise RefusedError(f"{shown(data)} describes no layer")
    config, class_name = data["config"], str(data.get("class_name"))
    layer = SourceLayer(str(config.get("name", data.get("name", ""))), class_name, config, index)
    if _is_foreign(data):
        raise RefusedError(f"{layer.title}: a class of one's own, which the file does not hold, is not supported")
    return layer


def _layers(described: Sequence[Any]) -> Iterator[SourceLayer]:
    seen: Counter[str] = Counter()
    for data in described:
        layer = source_layer(data, seen[str(data.get("class_name")) if isinstance(data, dict) else ""])
        seen[layer.class_name] += 1
        yield layer


def _is_foreign(data: Mapping[str, Any]) -> bool:
    """Whether a class is not Keras's own, but registered under a package's name or of another module."""
    module, registered = data.get("module"), data.get("registered_name")
    return ">" in str(registered) or str(module or "keras").split(".")[0] not in _MODULES


# --- Functional models ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Call:
    """How a layer was called: on what layers' outputs, on what else, and with what keyword arguments."""

    inputs: list[str]
    others: list[Any]
    keywords: dict[str, Any]


class _Graph:
    """A functional model."""

    def __init__(self, layers: Sequence[SourceLayer], described: Sequence[Any], config: Mapping[str, Any]) -> None:
        self.layers = {layer.name: layer for layer in layers}
        if len(self.layers) != len(layers):
            raise RefusedError("two of its layers have the same name")
        self.calls = {
            layer.name: _call_of(layer, data.get("inbound_nodes"))
            for layer, data in zip(layers, described, strict=True)
        }
        self.start = _end("input", config.get("input_layers"))
        self.end = _end("output", config.get("output_layers"))

    def path(self) -> list[SourceLayer]:
        """The layers from the input to the output."""
        names = [self._known(self.end)]
        while names[-1] != self.start:
            layer, call = self.layers[names[-1]], self.calls[names[-1]]
            if len(call.inputs) != 1 or len(names) > len(self.layers):
                raise RefusedError(
                    f"{layer.title} has {counted(len(call.inputs), 'input')}: a model of bilstm is one chain of "
                    f"layers, which cannot branch or merge"
                )
            if call.others:
                raise RefusedError(f"{layer.title} was called on {shown(call.others[0])} too, which is not supported")
            names.append(self._known(call.inputs[0]))
        for name in self.layers.keys() - set(names):
            self._check_mask_operation(self.layers[name])
        for name in names:
            self._check_keywords(self.layers[name])
        return [self.layers[name] for name in reversed(names)]

    def _known(self, name: str) -> str:
        if name not in self.layers:
            raise RefusedError(f"it has no layer {shown(name)}, on which others depend")
        return name

    def _check_keywords(self, layer: SourceLayer) -> None:
        keywords = dict(self.calls[layer.name].keywords)
        mask = keywords.pop("mask", None)
        if mask is not None:
            operation = self.layers.get(str(_history(mask)))
            if operation is None or operation.class_name not in _MASK_OPERATIONS:
                raise RefusedError(f"{layer.title} was called with a mask of its own, which is not supported")
        for name, value in keywords.items():
            if value not in (None, False) or name not in ("training", "initial_state", "constants", "mask"):
                raise RefusedError(
                    f"{layer.title} was called with {shown(name)[1:-1]}={shown(value)}, which is not supported"
                )

    def _check_mask_operation(self, layer: SourceLayer) -> None:
        """Refuse a layer off the path that is not how Keras 3 computes the first layer's mask."""
        if layer.class_name not in _MASK_OPERATIONS:
            raise RefusedError(f"{layer.title} is not in the chain of layers from the model's input to its output")
        call = self.calls[layer.name]
        if layer.class_name == "Any":
            before = self.layers.get(call.inputs[0]) if call.inputs else None
            right = before is not None and before.class_name == "NotEqual" and layer.config.get("axis") == -1
        else:
            value = call.others[0] if len(call.others) == 1 else None
            right = call.inputs == [self.start] and value is not None and value == self._mask_value()
        if not right:
            raise RefusedError(f"{layer.title} makes a mask that is not the first layer's, which is not supported")

    def _mask_value(self) -> Any:
        for layer in self.layers.values():
            if layer.class_name == "Masking":
                return layer.config.get("mask_value", 0.0)
            if layer.class_name == "Embedding" and layer.config.get("mask_zero"):
                return 0.0
        return None


def _call_of(layer: SourceLayer, nodes: Any) -> _Call:
    """How a layer was called, in Keras 2's form or in Keras 3's."""
    if not isinstance(nodes, list) or len(nodes) > 1:
        times = f"{len(nodes)} times" if isinstance(nodes, list) else "in an unknown way"
        raise RefusedError(f"{layer.title} was called {times}: layers that share weights are not supported")
    if not nodes:
        return _Call([], [], {})
    node = nodes[0]
    if isinstance(node, dict):
        arguments, keywords = node.get("args"), node.get("kwargs")
        if not isinstance(arguments, list) or not isinstance(keywords, dict):
            raise RefusedError(f"{layer.title}: its call is not described")
        if len(arguments) == 1 and isinstance(arguments[0], list):
            arguments = arguments[0]
        inputs = [history for each in arguments if (history := _history(each)) is not None]
        return _Call(inputs, [each for each in arguments if _history(each) is None], keywords)
    if isinstance(node, list) and node and isinstance(node[0], str):  # tf.keras of a layer's single call
        node = [node]
    if not isinstance(node, list) or not all(isinstance(each, list) and len(each) in (3, 4) for each in node):
        raise RefusedError(f"{layer.title}: its call is not described")
    _check_first_output(layer, node)
    merged: dict[str, Any] = {}
    for each in node:
        merged |= each[3] if len(each) == 4 and isinstance(each[3], dict) else {}
    return _Call([str(each[0]) for each in node], [], merged)


def _check_first_output(layer: SourceLayer, node: Sequence[Any]) -> None:
    if any(each[1] != 0 or each[2] != 0 for each in node):
        raise RefusedError(f"{layer.title} takes another output than a layer's first, which is not supported")


def _history(value: Any) -> str | None:
    """The name of the layer whose output a tensor is, in Keras 3's form."""
    if not isinstance(value, dict) or value.get("class_name") != "__keras_tensor__":
        return None
    config = value.get("config")
    history = config.get("keras_history") if isinstance(config, dict) else None
    if not isinstance(history, list) or len(history) != 3 or history[1] != 0 or history[2] != 0:
        raise RefusedError(f"it takes another output than a layer's first ({shown(history)}), which is not supported")
    return str(history[0])


def _end(what: str, ends: Any) -> str:
    """The name of the one layer that a model begins or ends with."""
    while isinstance(ends, dict) and len(ends) == 1:
        ends = next(iter(ends.values()))
    if isinstance(ends, list) and ends and isinstance(ends[0], str):
        ends = [ends]
    if not isinstance(ends, list) or not ends or not all(isinstance(end, list) and len(end) == 3 for end in ends):
        raise RefusedError(f"its model's {what}s are not described")
    names = {str(end[0]) for end in ends}
    outputs = [end[2] for end in ends]
    if len(names) != 1 or (len(ends) > 1 and (what == "input" or outputs != list(range(len(ends))))):
        raise RefusedError(f"its model has {len(ends)} {what}s, but a model of bilstm is one chain of layers")
    return names.pop()


# --- What a layer receives ------------------------------------------------------------------------------------------


class Arguments:
    """A layer's arguments, each of which is taken or refused.

    Attributes:
        layer: whose they are.
        title: of the layer, for messages.
        notes: what was left out because it acts in training only.
    """

    def __init__(self, layer: SourceLayer, title: str, notes: list[str]) -> None:
        self.layer = layer
        self.title = title
        self.notes = notes
        self._rest = dict(layer.config)
        self._check_precision()

    def take(self, name: str, default: Any = None) -> Any:
        return self._rest.pop(name, default)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self._rest.pop(name, default)
        if not isinstance(value, bool):
            raise self.refusal(name, value, "only true or false")
        return value

    def number(self, name: str, default: int | None = None) -> int:
        value = only(self._rest.pop(name, default))
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.refusal(name, value, "only a whole number of at least 1")
        return value

    def choice(self, name: str, allowed: Sequence[Any], default: Any = None) -> Any:
        """One of some values of one type."""
        value = only(self._rest.pop(name, default))
        if not any(type(value) is type(each) and value == each for each in allowed):
            raise self.refusal(name, value, _only_these(allowed))
        return value

    def activation(self, name: str, allowed: Sequence[str], default: str) -> str:
        value = self._rest.pop(name, default)
        if isinstance(value, dict) and value.get("class_name") == "function" and not _is_foreign(value):
            value = value.get("config")
        value = "linear" if value is None else value
        if value not in allowed:
            raise self.refusal(name, value, _only_these(allowed))
        return str(value)

    def ignore(self) -> None:
        """Take all that are left."""
        self._rest.clear()

    def finish(self) -> None:
        """Refuse what is left and changes the result, or may."""
        for name, value in self._rest.items():
            if name in _IGNORED or name.endswith(_IGNORED_ENDS) or (name in _NOTHING and value is None):
                continue
            raise self.refusal(name, value)

    def refusal(self, name: str, value: Any, instead: str = "") -> RefusedError:
        code = repr(value) if isinstance(value, str) else str(value)
        text = f"{self.title}: {shown(name)[1:-1]}={code if len(code) <= 60 else code[:58] + '…'} is not supported"
        return RefusedError(f"{text} ({instead})" if instead else text)

    def _check_precision(self) -> None:
        value = self._rest.pop("dtype", None)
        policy = value
        if isinstance(value, dict) and value.get("class_name") in ("DTypePolicy", "Policy"):
            policy = value["config"].get("name") if isinstance(value.get("config"), dict) else value
        if policy is None or policy == "float32":
            return
        if policy not in _PRECISIONS:
            raise self.refusal("dtype", value)
        self.notes.append(f"{self.title}: Keras computed in {policy}; {IN_FLOAT32}")


def _only_these(allowed: Sequence[Any]) -> str:
    return f"only {', '.join(map(repr, allowed[:-1]))}{' or ' * (len(allowed) > 1)}{allowed[-1]!r}"


def only(value: Any) -> Any:
    """What Keras takes as a number or as a list of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
