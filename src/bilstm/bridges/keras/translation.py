"""Keras's layers in bilstm's: each argument that changes the result is carried over or refused by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bilstm.bridges.keras.chain import Arguments, SourceLayer, source_layer
from bilstm.bridges.refusals import RefusedError, joined
from bilstm.engine.plans import ACTIVATIONS
from bilstm.errors import shown
from bilstm.layers import (
    GRU,
    LSTM,
    AveragePooling1D,
    BatchNormalization,
    Bidirectional,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Layer,
    Masking,
    MaxPooling1D,
    Recurrent,
    SimpleRNN,
    SpatialDropout1D,
    TimeDistributed,
    WeightSpec,
)
from bilstm.ragged import FloatArray

_CELLS = ("LSTM", "GRU", "SimpleRNN", "CuDNNLSTM", "CuDNNGRU")
_GATES = ("sigmoid", "hard_sigmoid")
_TRAINING_ONLY = ("GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization")
_INSTEAD = {
    "Lambda": "it holds Python code, which is not run",
    "RNN": "only LSTM, GRU and SimpleRNN are",
    "Flatten": "sequences have any length here",
    "Sequential": "put the layers of the inner model into the outer one",
    "Functional": "put the layers of the inner model into the outer one",
    "Model": "put the layers of the inner model into the outer one",
    "TextVectorization": "turn texts into numbers before the model",
    "StringLookup": "turn texts into numbers before the model",
}


@dataclass(frozen=True)
class Part:
    """Arrays that a Keras file keeps together: a layer's own, or those of one direction.

    Attributes:
        path: where a .keras file keeps them, below the layer.
        layer: ours, whose arrays they are.
        cudnn: whether they are arranged as cuDNN wants them.
    """

    path: str
    layer: Layer
    cudnn: bool = False

    def stored(self, features: int) -> list[WeightSpec]:
        """Names and shapes of the arrays in the file."""
        specs = self.layer.weight_specs(features)
        if not self.cudnn:
            return specs
        return [*specs[:2], WeightSpec("bias", (2 * specs[0].shape[1],))]

    def arranged(self, arrays: Sequence[FloatArray]) -> list[FloatArray]:
        """The arrays in the order and shapes of ours.

        cuDNN reads each gate's kernel as a (units, inputs) matrix, and has a bias of the inputs and one of the
        recurrent product for each gate.
        """
        if not self.cudnn:
            return list(arrays)
        assert isinstance(self.layer, Recurrent)
        kernel, recurrent_kernel, bias = arrays
        blocks = [np.split(kernels, self.layer.gates, axis=1) for kernels in (kernel, recurrent_kernel)]
        turned = [[block.reshape(block.shape[::-1]).T for block in gates] for gates in blocks]
        biases = bias.reshape(2, -1)
        ours = biases if isinstance(self.layer, GRU) else biases.sum(axis=0)
        return [*(np.concatenate(gates, axis=1) for gates in turned), ours]


@dataclass
class Translated:
    """What a layer of Keras's became.

    Attributes:
        source: the layer in the file.
        layers: ours, none where it acts in training only or was merged into the layer before.
        parts: its arrays; they are those of the last of `layers`.
        second: the file's name of the second layer inside it, if there are two.
        otherwise: what became of it where there are no layers.
    """

    source: SourceLayer
    layers: list[Layer]
    parts: list[Part] = field(default_factory=list)
    second: str = ""
    otherwise: str = "left out: it acts in training only"


class Translator:
    """Makes layers of bilstm of those in a file.

    Attributes:
        major: the major version of the Keras that wrote the file, which decides what some arguments mean.
        notes: what was left out because it acts in training only.
        columns: the axis of features in what the next layer reads: 2 of steps, 1 of one row for each sequence.
    """

    def __init__(self, major: int) -> None:
        self.major = major
        self.notes: list[str] = []
        self.columns = 2

    def translate(self, sources: Sequence[SourceLayer]) -> list[Translated]:
        """The layers after the input.

        Raises:
            RefusedError: a layer or an argument is not supported; the message names it.
        """
        done: list[Translated] = []
        for source in sources:
            arguments = Arguments(source, source.title, self.notes)
            if source.class_name in ("Activation", "Softmax", "ReLU"):
                self._fold(arguments, done)
                done.append(Translated(source, [], otherwise="merged into the layer before"))
            else:
                done.append(self._translate(source, arguments))
            arguments.finish()
            if not all(layer.returns_rows_per_step() for layer in done[-1].layers):
                self.columns = 1
        return done

    def _translate(self, source: SourceLayer, arguments: Arguments) -> Translated:
        if source.class_name in _TRAINING_ONLY:
            self.notes.append(f"{source.title} acts in training only, and is left out")
            arguments.ignore()
            return Translated(source, [])
        if source.class_name not in _BUILDERS:
            advice = _INSTEAD.get(source.class_name)
            raise RefusedError(f"{source.title} is not supported{f': {advice}' if advice else ''}")
        return _BUILDERS[source.class_name](self, source, arguments)

    def _fold(self, arguments: Arguments, done: Sequence[Translated]) -> None:
        """Put the activation into the Dense or Conv1D before, which must have none."""
        activation = _activation_of(arguments)
        before: Layer | None = next((each.layers[-1] for each in reversed(done[-1:]) if each.layers), None)
        target = before.layer if isinstance(before, TimeDistributed) else before
        if activation == "linear":
            return
        if not isinstance(target, (Dense, Conv1D)) or target.activation != "linear":
            raise RefusedError(
                f"{arguments.title}: {activation} is supported only directly after a Dense or Conv1D without activation"
            )
        target.activation = activation

    # --- Recurrent layers -----------------------------------------------------------------------------------------

    def recurrent(self, source: SourceLayer, arguments: Arguments) -> Translated:
        layer, rate = self._cell(source, arguments)
        return Translated(source, [*_dropouts(rate), layer], [_part_of(source, layer)])

    def bidirectional(self, source: SourceLayer, arguments: Arguments) -> Translated:
        merge_mode = arguments.choice("merge_mode", ("concat", "sum", "mul", "ave", None), "concat")
        first = source_layer(arguments.take("layer"))
        forward, rate = self._inner_cell(source, "layer", first)
        second, other = first, arguments.take("backward_layer")
        if other is None:
            layer = Bidirectional(forward, merge_mode)
        else:
            second = source_layer(other)
            backward, second_rate = self._inner_cell(source, "backward_layer", second)
            layer = _joined(forward, backward, merge_mode, arguments)
            rate = rate or second_rate
        parts = [
            _part_of(first, layer.forward, "forward_layer"),
            _part_of(second, layer.backward, "backward_layer"),
        ]
        return Translated(source, [*_dropouts(rate), layer], parts, second.name)

    def _inner_cell(self, source: SourceLayer, name: str, inner: SourceLayer) -> tuple[Recurrent, float]:
        title = f"{source.title}: {name} ({shown(inner.class_name)[1:-1]})"
        if inner.class_name not in _CELLS:
            raise RefusedError(f"{title} is not supported: only LSTM, GRU and SimpleRNN are")
        arguments = Arguments(inner, title, self.notes)
        layer, rate = self._cell(inner, arguments)
        arguments.finish()
        return layer, rate

    def _cell(self, source: SourceLayer, arguments: Arguments) -> tuple[Recurrent, float]:
        """The recurrent layer and the rate of dropout of its inputs."""
        for name in ("stateful", "return_state", "time_major"):
            arguments.choice(name, (False,), False)
        common: dict[str, Any] = {
            "units": arguments.number("units"),
            "return_sequences": arguments.flag("return_sequences"),
            "go_backwards": arguments.flag("go_backwards"),
        }
        if _is_cudnn(source):
            return (LSTM(**common) if source.class_name == "CuDNNLSTM" else GRU(**common, reset_after=True)), 0.0
        common["use_bias"] = arguments.flag("use_bias", True)
        rate = _rate(arguments, "dropout")
        if recurrent_rate := _rate(arguments, "recurrent_dropout"):
            self.notes.append(
                f"{arguments.title}: recurrent_dropout={recurrent_rate:g} acts in training only, and is left out"
            )
        if source.class_name == "SimpleRNN":
            return SimpleRNN(activation=arguments.activation("activation", ("tanh", "relu"), "tanh"), **common), rate
        arguments.activation("activation", ("tanh",), "tanh")
        gates = arguments.activation("recurrent_activation", _GATES, "sigmoid")
        if gates == "hard_sigmoid" and self.major < 3:
            gates = "hard_sigmoid_keras2"
        if source.class_name == "LSTM":
            return LSTM(recurrent_activation=gates, **common), rate
        # Files of Keras 2 before 2.1.3 do not say: there was only one way.
        reset_after = arguments.flag("reset_after", self.major >= 3)
        return GRU(recurrent_activation=gates, reset_after=reset_after, **common), rate

    # --- Others ---------------------------------------------------------------------------------------------------

    def dense(self, source: SourceLayer, arguments: Arguments) -> Translated:
        layer = Dense(
            arguments.number("units"),
            arguments.activation("activation", ACTIVATIONS, "linear"),
            arguments.flag("use_bias", True),
        )
        return Translated(source, [layer], [Part("", layer)])

    def time_distributed(self, source: SourceLayer, arguments: Arguments) -> Translated:
        inner = source_layer(arguments.take("layer"))
        own = Arguments(inner, f"{source.title}: layer ({shown(inner.class_name)[1:-1]})", self.notes)
        if inner.class_name == "Dense":
            layer: Layer = self.dense(inner, own).layers[0]
            parts = [Part("layer", layer)]
        elif inner.class_name == "Dropout":
            layer, parts = self.dropout(inner, own).layers[0], []
        else:
            raise RefusedError(f"{own.title} is not supported: only Dense and Dropout are")
        own.finish()
        return Translated(source, [TimeDistributed(layer)], parts)

    def dropout(self, source: SourceLayer, arguments: Arguments) -> Translated:
        if (shape := arguments.take("noise_shape")) is not None:
            self.notes.append(f"{arguments.title}: noise_shape={shape} acts in training only, and is left out")
        return Translated(source, [Dropout(_rate(arguments, "rate"))])

    def spatial_dropout(self, source: SourceLayer, arguments: Arguments) -> Translated:
        arguments.take("noise_shape")
        arguments.take("data_format")
        return Translated(source, [SpatialDropout1D(_rate(arguments, "rate"))])

    def masking(self, source: SourceLayer, arguments: Arguments) -> Translated:
        value = arguments.take("mask_value", 0.0)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise arguments.refusal("mask_value", value, "only a number")
        return Translated(source, [Masking(value)])

    def embedding(self, source: SourceLayer, arguments: Arguments) -> Translated:
        arguments.take("sparse")  # how gradients are held
        layer = Embedding(
            arguments.number("input_dim"), arguments.number("output_dim"), mask_zero=arguments.flag("mask_zero")
        )
        return Translated(source, [layer], [Part("", layer)])

    def batch_normalization(self, source: SourceLayer, arguments: Arguments) -> Translated:
        arguments.choice("axis", (-1, self.columns), -1)
        arguments.choice("renorm", (False,), False)
        arguments.choice("virtual_batch_size", (None,))
        # How it is computed, and settings of what is refused above.
        for name in ("fused", "synchronized", "renorm_clipping", "renorm_momentum"):
            arguments.take(name)
        try:
            layer = BatchNormalization(
                momentum=arguments.take("momentum", 0.99),
                epsilon=arguments.take("epsilon", 0.001),
                center=arguments.flag("center", True),
                scale=arguments.flag("scale", True),
            )
        except ValueError as error:
            raise RefusedError(f"{arguments.title}: {str(error).removeprefix('BatchNormalization: ')}") from None
        return Translated(source, [layer], [Part("", layer)])

    def convolution(self, source: SourceLayer, arguments: Arguments) -> Translated:
        _check_channels_last(arguments)
        arguments.choice("strides", (1,), 1)
        arguments.choice("groups", (1,), 1)
        layer = Conv1D(
            arguments.number("filters"),
            arguments.number("kernel_size"),
            padding=arguments.choice("padding", ("same", "causal"), "valid"),
            dilation_rate=arguments.number("dilation_rate", 1),
            activation=arguments.activation("activation", ACTIVATIONS, "linear"),
            use_bias=arguments.flag("use_bias", True),
        )
        return Translated(source, [layer], [Part("", layer)])

    def window_pooling(self, source: SourceLayer, arguments: Arguments) -> Translated:
        _check_channels_last(arguments)
        cls = MaxPooling1D if source.class_name == "MaxPooling1D" else AveragePooling1D
        size = arguments.number("pool_size")
        strides = size if source.config.get("strides") is None else arguments.number("strides")
        arguments.take("strides")
        return Translated(source, [cls(size, strides, arguments.choice("padding", ("valid", "same"), "valid"))])

    def global_pooling(self, source: SourceLayer, arguments: Arguments) -> Translated:
        _check_channels_last(arguments)
        arguments.choice("keepdims", (False,), False)
        cls = GlobalMaxPooling1D if source.class_name == "GlobalMaxPooling1D" else GlobalAveragePooling1D
        return Translated(source, [cls()])


def _is_cudnn(source: SourceLayer) -> bool:
    return source.class_name.startswith("CuDNN")


def _part_of(source: SourceLayer, layer: Recurrent, direction: str = "") -> Part:
    """The arrays of a recurrent layer, or of a direction."""
    cudnn = _is_cudnn(source)
    return Part("/".join(filter(None, (direction, "" if cudnn else "cell"))), layer, cudnn)


def _dropouts(rate: float) -> list[Layer]:
    """What a recurrent layer's dropout of its inputs, the same at all steps, is here."""
    return [SpatialDropout1D(rate)] if rate else []


def _rate(arguments: Arguments, name: str) -> float:
    value = arguments.take(name, 0.0)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise arguments.refusal(name, value, "only a number of at least 0 and below 1")
    return float(value)


def _check_channels_last(arguments: Arguments) -> None:
    arguments.choice("data_format", (None, "channels_last"))


def _activation_of(arguments: Arguments) -> str:
    """The activation that a layer is, which is nothing else."""
    kind = arguments.layer.class_name
    if kind == "Activation":
        return arguments.activation("activation", ACTIVATIONS, "linear")
    if kind == "Softmax":
        arguments.choice("axis", (-1,), -1)
        return "softmax"
    arguments.choice("max_value", (None,))
    for name in ("negative_slope", "threshold"):
        arguments.choice(name, (0, 0.0, None), 0)
    return "relu"


def _joined(forward: Recurrent, backward: Recurrent, merge_mode: str | None, arguments: Arguments) -> Bidirectional:
    """Both directions; Keras 3 always describes the second."""
    try:
        return joined(forward, backward, merge_mode)
    except ValueError as error:
        raise RefusedError(f"{arguments.title}: {str(error).removeprefix('Bidirectional: ')}") from None


_Builder = Callable[[Translator, SourceLayer, Arguments], Translated]
_BUILDERS: dict[str, _Builder] = {
    **dict.fromkeys(_CELLS, Translator.recurrent),
    "Bidirectional": Translator.bidirectional,
    "Dense": Translator.dense,
    "TimeDistributed": Translator.time_distributed,
    "Dropout": Translator.dropout,
    "SpatialDropout1D": Translator.spatial_dropout,
    "Masking": Translator.masking,
    "Embedding": Translator.embedding,
    "Conv1D": Translator.convolution,
    "BatchNormalization": Translator.batch_normalization,
    **dict.fromkeys(("MaxPooling1D", "AveragePooling1D"), Translator.window_pooling),
    **dict.fromkeys(("GlobalMaxPooling1D", "GlobalAveragePooling1D"), Translator.global_pooling),
}
