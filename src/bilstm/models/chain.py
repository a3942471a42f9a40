"""A chain of layers: its structure, its weights, and the plain data that describe it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from bilstm import utils
from bilstm.arguments import check_count
from bilstm.engine.network import Network
from bilstm.engine.plans import LayerPlan, RecurrentPlan
from bilstm.layers import (
    LSTM,
    Bidirectional,
    ColumnEmbedding,
    Embedding,
    GlobalAttentionPooling1D,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Input,
    Layer,
    Reverse,
    SpatialDropout1D,
    WeightSpec,
    from_json,
    to_json,
)
from bilstm.ragged import FloatArray, Ragged

_MOST_PARAMETERS = 1 << 33
_MOST_LAYERS = 1000


class Chain:
    """What `Sequential` is before it is compiled: layers with weights. Arguments: see there."""

    def __init__(
        self, layers: Iterable[Layer] | None = None, *, seed: int | None = None, name: str | None = None
    ) -> None:
        self.name = name or "sequential"
        self.seed = utils.new_seed() if seed is None else check_count("Sequential", "seed", seed, 0)
        self.random = np.random.default_rng(self.seed)
        self.layers: list[Layer] = []
        self.network: Network | None = None
        self.weights_per_step = 0  # by which the engine multiplies each step: all but embeddings
        self._specs: list[list[WeightSpec]] = []
        self.input_features: int | None = None
        for layer in layers or ():
            self._append(layer)
        self._build_if_known()

    # --- Structure -----------------------------------------------------------------------------------------------

    def add(self, layer: Layer) -> None:
        """Append a layer. With an input shape on the first, or known from data, the model is (re)built at once.

        Raises:
            ValueError: the layer does not fit after the ones before it.
        """
        keep, features = self.get_weights() if self.built else [], self.input_features
        if not self._append(layer):
            return
        try:
            self._build_if_known(keep)
        except Exception:
            self.layers.pop()
            self.input_features = features
            raise

    def _append(self, layer: Layer) -> bool:
        """Append a layer without building the model. Returns False for what is no layer of its own, an Input."""
        if not isinstance(layer, Layer):
            raise TypeError(f"Sequential: a layer of bilstm.layers is needed, not {layer!r}")
        if len(self.layers) == _MOST_LAYERS:
            raise ValueError(f"Sequential: a model has at most {_MOST_LAYERS:,} layers")
        if self.splits:
            raise ValueError("Sequential: no layer can follow Bidirectional(merge_mode=None), which has two outputs")
        if isinstance(layer, Reverse) and not (self.layers and _returns_sequences(self.layers[-1])):
            raise ValueError("Reverse must directly follow a recurrent layer with return_sequences=True")
        summary = next((other for other in self.layers if not other.returns_rows_per_step()), None)
        if summary and _needs_sequences(layer):
            advice = ": give that layer return_sequences=True" if isinstance(summary, (LSTM, Bidirectional)) else ""
            raise ValueError(
                f"Sequential: {type(layer).__name__} needs sequences, but a layer before it returns one row for "
                f"each{advice}"
            )
        if not self.layers and layer.input_features is not None:
            self.input_features = layer.input_features
        if isinstance(layer, Input):
            if self.layers:
                raise ValueError("Sequential: Input must come first")
            return False
        self.layers.append(layer)
        return True

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the weights for inputs of shape (…, features)."""
        self._build(check_count("build", "the number of features", input_shape[-1]))

    def _build_if_known(self, keep: Sequence[FloatArray] = (), *, draw: bool = True) -> None:
        if self.input_features is not None:
            self._build(self.input_features, keep, draw=draw)

    def _build(self, features: int, keep: Sequence[FloatArray] = (), *, draw: bool = True) -> None:
        plans: list[LayerPlan] = []
        specs: list[list[WeightSpec]] = []
        width = features
        initial: list[FloatArray] = []
        for index, layer in enumerate(self.layers):
            output = layer.output_features(width)
            specs.append(layer.weights(width))
            if sum(spec.size for spec in specs[-1]) > _MOST_PARAMETERS:
                raise ValueError(f"{type(layer).__name__} would have more than {_MOST_PARAMETERS:,} parameters")
            if len(initial) < len(keep):
                initial += keep[len(initial) : len(initial) + len(specs[-1])]
            elif draw:
                initial += layer.initial_weights(width, self.random)
            else:
                initial += [np.zeros(spec.shape, np.float32) for spec in specs[-1]]
            if isinstance(layer, Reverse):
                plans[-1] = _flipped(plans[-1])
            elif plan := layer.plan(index, width):
                plans.append(plan)
            width = output
        if not plans:
            return
        self.network = Network(plans, features)
        self._specs = specs
        self.weights_per_step = sum(
            spec.size
            for layer, own in zip(self.layers, specs, strict=True)
            if not isinstance(layer, (Embedding, ColumnEmbedding))
            for spec in own
        )
        self.input_features = features
        self.set_weights(initial)

    @property
    def built(self) -> bool:
        """Whether the weights exist, which the number of features decides."""
        return self.network is not None

    def _built_network(self, features: int | None = None) -> Network:
        if self.network is None:
            if not self.layers:
                raise ValueError("the model has no layers yet: add some")
            if features is None:
                raise ValueError("the model has no weights yet: give the first layer input_shape=(steps, features)")
            self._build(features)
        assert self.network is not None
        return self.network

    def _network_for(self, data: Ragged) -> Network:
        # Without sequences the number of features is not known either.
        return self._built_network(data.features if len(data) else None)

    @property
    def splits(self) -> bool:
        """Whether there are two outputs, as after Bidirectional(merge_mode=None)."""
        last = self.layers[-1] if self.layers else None
        return isinstance(last, Bidirectional) and last.merge_mode is None

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Print the layers, their output shapes and numbers of parameters."""
        self._built_network()
        rows = []
        width, per_step, total = self.input_features or 0, True, 0
        for layer, specs in zip(self.layers, self._specs, strict=True):
            width = layer.output_features(width)
            per_step = per_step and layer.returns_rows_per_step()
            count = sum(spec.size for spec in specs)
            total += count
            shape = f"(None, None, {width})" if per_step else f"(None, {width})"
            rows.append((_describe(layer), shape, f"{count:,}"))
        widths = [max(len(row[i]) for row in [*rows, ("Layer (type)", "Output shape", "Param #")]) for i in range(3)]
        line = "  ".join("{:<%d}" % w for w in widths[:2]) + "  {:>%d}" % widths[2]  # noqa: UP031
        print_fn(f'Model: "{self.name}"')
        print_fn(line.format("Layer (type)", "Output shape", "Param #"))
        print_fn("=" * (sum(widths) + 4))
        for row in rows:
            print_fn(line.format(*row))
        print_fn("=" * (sum(widths) + 4))
        print_fn(f"Total params: {total:,} ({total * 4 / 1024:,.1f} KiB)")

    def count_params(self) -> int:
        """How many numbers all weights have together."""
        return self._built_network().parameter_count

    # --- Weights -------------------------------------------------------------------------------------------------

    def get_weights(self) -> list[FloatArray]:
        """All weight arrays, layer by layer, in Keras's order (see each layer); float32 copies."""
        flat = self._built_network().read()
        return self._unflatten(flat)

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set all weight arrays, in the order of `get_weights`.

        Raises:
            ValueError: another number of arrays, another shape, or a value that is not finite.
        """
        network = self._built_network()
        specs = [spec for specs in self._specs for spec in specs]
        if len(weights) != len(specs):
            raise ValueError(f"set_weights: the model has {len(specs)} weight arrays, not {len(weights)}")
        arrays = [np.asarray(weight, np.float32) for weight in weights]
        for spec, array in zip(specs, arrays, strict=True):
            if array.shape != spec.shape:
                raise ValueError(f"set_weights: {spec.name} has shape {spec.shape}, not {array.shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"set_weights: {spec.name} holds NaN or infinity")
        network.write(np.concatenate([array.ravel() for array in arrays]) if arrays else np.empty(0, np.float32))

    def _unflatten(self, flat: FloatArray) -> list[FloatArray]:
        specs = [spec for specs in self._specs for spec in specs]
        bounds = np.cumsum([spec.size for spec in specs])[:-1]
        pieces = np.split(flat, bounds) if specs else []
        return [piece.reshape(spec.shape) for spec, piece in zip(specs, pieces, strict=True)]

    def tensors(self) -> dict[str, FloatArray]:
        """The weight arrays by names that are unique in the model."""
        return dict(zip(_tensor_names(self._specs), self.get_weights(), strict=True))

    def set_tensors(self, tensors: Mapping[str, Any]) -> None:
        """The reverse of `tensors`.

        Raises:
            ValueError: an array is missing, superfluous, or of another shape.
        """
        self._built_network()
        names = _tensor_names(self._specs)
        missing, extra = [n for n in names if n not in tensors], sorted(set(tensors).difference(names))
        if missing or extra:
            raise ValueError(
                f"weights {', '.join((missing or extra)[:3])} {'are missing' if missing else 'are unknown'}"
            )
        self.set_weights([tensors[name] for name in names])

    # --- Plain data ----------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Plain data from which `from_config` makes the same model, without its weights."""
        return {
            "name": self.name,
            "features": self.input_features,
            "layers": [to_json(layer) for layer in self.layers],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, seed: int | None = None, draw: bool = True) -> Self:
        """The model that `get_config` described.

        Args:
            seed: as for a new model.
            draw: whether to draw initial weights, rather than leave zeros where others will be set.

        Raises:
            ValueError: the data describes no model.
        """
        features, layers = config.get("features"), config.get("layers")
        if not isinstance(layers, list):
            raise ValueError("a model's layers must be a list")
        model = cls(seed=seed, name=str(config.get("name", "sequential")))
        if features is not None:
            model.add(Input((None, check_count("model", "features", features))))
        for layer in layers:
            model._append(from_json(layer))
        model._build_if_known(draw=draw)
        return model


def _tensor_names(specs: Sequence[Sequence[WeightSpec]]) -> list[str]:
    return [f"layers.{index}.{spec.name}" for index, layer in enumerate(specs) for spec in layer]


def _flipped(plan: Any) -> RecurrentPlan:
    assert isinstance(plan, RecurrentPlan)
    return replace(plan, directions=tuple(replace(d, flip=not d.flip) for d in plan.directions))


def _needs_sequences(layer: Layer) -> bool:
    pools = (GlobalAveragePooling1D, GlobalMaxPooling1D, GlobalAttentionPooling1D)
    return isinstance(layer, (LSTM, Bidirectional, SpatialDropout1D, *pools))


def _returns_sequences(layer: Layer) -> bool:
    return isinstance(layer, (LSTM, Bidirectional)) and layer.returns_rows_per_step()


def _describe(layer: Layer) -> str:
    inner = getattr(layer, "layer", None)
    return f"{type(layer).__name__}({type(inner).__name__})" if inner is not None else type(layer).__name__
