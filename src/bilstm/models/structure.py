"""Which layers may follow which, and how a chain of them is described."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bilstm.engine.library import LayerStruct
from bilstm.engine.losses import CRF_LIKELIHOOD, LOSSES
from bilstm.layers import (
    CRF,
    AveragePooling1D,
    Bidirectional,
    Conv1D,
    Embedding,
    GlobalAttentionPooling1D,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Input,
    Layer,
    Masking,
    MaxPooling1D,
    Padding,
    Recurrent,
    Reverse,
    SpatialDropout1D,
    WeightSpec,
    WordEncoder,
)

if TYPE_CHECKING:
    from bilstm.models import Sequential

_MOST_LAYERS = 1000
_POOLINGS = (
    AveragePooling1D,
    MaxPooling1D,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    GlobalAttentionPooling1D,
)


def check_follows(layer: Layer, layers: Sequence[Layer]) -> None:
    """Refuse a layer that cannot come after these.

    Raises:
        TypeError: it is no layer.
        ValueError: it does not fit; the message says why.
    """
    if not isinstance(layer, Layer):
        raise TypeError(f"Sequential: a layer of bilstm.layers is needed, not {layer!r}")
    if len(layers) == _MOST_LAYERS:
        raise ValueError(f"Sequential: a model has at most {_MOST_LAYERS:,} layers")
    if layers and two_outputs(layers[-1]):
        raise ValueError("Sequential: no layer can follow Bidirectional(merge_mode=None), which has two outputs")
    if layers and isinstance(layers[-1], CRF):
        raise ValueError("Sequential: no layer can follow a CRF")
    if isinstance(layer, Reverse) and not (layers and _returns_sequences(layers[-1])):
        raise ValueError("Reverse must directly follow a recurrent layer with return_sequences=True")
    if isinstance(layer, WordEncoder) and not all(isinstance(other, Input) for other in layers):
        raise ValueError("Sequential: WordEncoder must come first, since it reads indices of words in the input")
    if layers and isinstance(layer, Input):
        raise ValueError("Sequential: Input must come first")
    if layers and isinstance(layer, Padding):
        raise ValueError(f"Sequential: {layer!r} must be the first layer, since it adds steps to the input")
    if layers and mask_value_of(layer) is not None:
        raise ValueError(f"Sequential: {layer!r} must be the first layer, since it leaves out steps of the input")
    summary = next((other for other in layers if not other.returns_rows_per_step()), None)
    if summary and isinstance(layer, (Recurrent, Bidirectional, Conv1D, SpatialDropout1D, CRF, *_POOLINGS)):
        advice = ": give that layer return_sequences=True" if isinstance(summary, (Recurrent, Bidirectional)) else ""
        raise ValueError(
            f"Sequential: {type(layer).__name__} needs sequences, but a layer before it returns one row for "
            f"each{advice}"
        )


def features_of(layer: Layer, before: Input | None, known: int | None) -> int | None:
    """The number of features of a model whose first layer, or Input, is `layer`.

    Args:
        before: the Input before it, if any. Before an Embedding it may give the steps alone, as in Keras.
        known: the number of features so far, or None.

    Raises:
        ValueError: the layer takes another number.
    """
    own = layer.input_features
    if own is None or known is None or (before and len(before.shape) == 1 and isinstance(layer, Embedding)):
        return known if own is None else own
    if own != known:
        raise ValueError(f"Sequential: {layer!r} takes {own} features, but the input has {known}")
    return own


def two_outputs(layer: Layer) -> bool:
    """Whether the layer is a Bidirectional with merge_mode=None."""
    return isinstance(layer, Bidirectional) and layer.merge_mode is None


def check_loss(layers: Sequence[Layer], loss: str) -> None:
    """Refuse a loss that does not go with the last layer.

    Raises:
        ValueError: only one of the two is a CRF's.
    """
    crf = isinstance(layers[-1], CRF)
    if crf and LOSSES[loss] is not CRF_LIKELIHOOD:
        raise ValueError(f"compile: a model that ends with a CRF is trained with loss='crf_likelihood', not {loss!r}")
    if not crf and LOSSES[loss] is CRF_LIKELIHOOD:
        raise ValueError(f"compile: loss={loss!r} needs a CRF as the model's last layer, which is {layers[-1]!r}")


def mask_value_of(layer: Layer) -> float | None:
    """The value of steps that the layer masks, or None if it masks none."""
    if isinstance(layer, Masking):
        return layer.mask_value
    return 0.0 if isinstance(layer, Embedding) and layer.mask_zero else None


def plan_layers(layers: Sequence[Layer], features: int) -> list[LayerStruct]:
    """The layers as the engine reads them, for inputs of this number of features."""
    plans, width = list[LayerStruct](), features
    for index, layer in enumerate(layers):
        if isinstance(layer, Reverse):
            reverse(plans[-1])
        elif plan := layer.plan(index, width):
            plans.append(plan)
        width = layer.output_features(width)
    return plans


def padding_of(layers: Sequence[Layer]) -> Padding | None:
    """The layer that extends sequences, if there is one.

    Raises:
        ValueError: it does not go with another layer; the message names both.
    """
    first, *others = layers
    if not isinstance(first, Padding):
        return None
    for layer in others:
        if returns_reversed(layer) or isinstance(layer, CRF):
            raise ValueError(f"Sequential: {layer!r} cannot follow {first!r}")
    return first


def returns_reversed(layer: Layer) -> bool:
    """Whether the layer returns its rows in the order of a backward reading, the last step's first."""
    inside = layer.forward if isinstance(layer, Bidirectional) else layer
    return isinstance(inside, Recurrent) and inside.go_backwards and inside.return_sequences


def reverse(recurrent: LayerStruct) -> None:
    """Turn round the output of a recurrent layer that a Reverse follows."""
    for direction in range(recurrent.directions):
        recurrent.ways[direction].flip ^= 1


def tensor_names(specs: Sequence[Sequence[WeightSpec]]) -> list[str]:
    """Names of all weight arrays that are unique in a model, from those of each layer."""
    return [f"layers.{index}.{spec.name}" for index, layer in enumerate(specs) for spec in layer]


def summary_rows(model: Sequential) -> list[tuple[str, str, str]]:
    """The layer, its output shape and its number of parameters, for each layer, after a row of headings."""
    rows = [("Layer (type)", "Output shape", "Param #")]
    width, per_step = model.input_features or 0, True
    for layer in model.layers:
        parameters = sum(spec.size for spec in layer.weight_specs(width))
        width = layer.output_features(width)
        per_step = per_step and layer.returns_rows_per_step()
        shape = f"(None, None, {width})" if per_step else f"(None, {width})"
        rows.append((describe(layer), shape, f"{parameters:,}"))
    return rows


def summary_lines(model: Sequential) -> list[str]:
    """What `Sequential.summary` prints."""
    heading, *rows = summary_rows(model)
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    ruler = "=" * (sum(widths) + 4)
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in (heading, *rows)]
    total = model.count_params()
    end = f"Total params: {total:,} ({total * 4 / 1024:,.1f} KiB)"
    return [f'Model: "{model.name}"', lines[0], ruler, *lines[1:], ruler, end]


def summary_html(model: Sequential) -> str:
    """A summary of the model as an HTML table, for notebooks."""
    import html

    heading, *rows = summary_rows(model)
    cells = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in heading)
    return f"<p>{html.escape(repr(model))}</p><table><tr>{head}</tr>{cells}</table>"


def describe(layer: Layer) -> str:
    """Its class, with that of a layer inside."""
    inner = getattr(layer, "layer", None)
    return f"{type(layer).__name__}({type(inner).__name__})" if inner is not None else type(layer).__name__


def _returns_sequences(layer: Layer) -> bool:
    return isinstance(layer, (Recurrent, Bidirectional)) and layer.returns_rows_per_step()
