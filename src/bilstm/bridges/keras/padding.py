"""Whether Keras read the padding of shorter sequences, which bilstm never does."""

from __future__ import annotations

from collections.abc import Sequence

from bilstm.bridges.keras.translation import Translated
from bilstm.bridges.source import Reach
from bilstm.layers import (
    AveragePooling1D,
    Bidirectional,
    Conv1D,
    Embedding,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Layer,
    Masking,
    MaxPooling1D,
    Recurrent,
)
from bilstm.models.structure import returns_reversed

_AGREE = "so that ragged batches give the same predictions in Keras and here"


def reach_of(layers: Sequence[Translated], *, ragged: bool) -> Reach:
    """Follow the mask through the layers, as Keras passes it on.

    Args:
        layers: the model's.
        ragged: whether its input is a RaggedTensor, which has no padding.
    """
    masked = had_mask = ragged
    lost = ""  # the layer that passed no mask on
    for translated in layers:
        for layer in translated.layers:
            title = translated.source.title
            if _makes_mask(layer):
                masked = had_mask = True
            if (what := _reads_padding(layer, masked)) and not ragged:
                warning = _warning(title, what, lost if had_mask else None)
                return Reach(agrees=False, masked=had_mask, sentence=warning)
            if masked and _loses_mask(layer) and not ragged:
                masked, lost = False, title
    if had_mask:
        return Reach(agrees=True, masked=True, sentence=f"masks: no layer reads padding, {_AGREE}")
    sentence = f"masks: none; no layer reads padding after a sequence's end, {_AGREE} if it stands there"
    return Reach(agrees=True, masked=False, sentence=sentence)


def _warning(title: str, what: str, lost: str | None) -> str:
    begin = f"masks: in Keras {title} {what}, so that its predictions for shorter sequences depended on their padding."
    if lost is None:
        return (
            f"{begin} Here each sequence is read alone, as Keras reads one without padding; for the predictions that "
            f"Keras made with padding, convert with --padded-like-the-source, or give the padded array"
        )
    why = f" {lost} passes no mask on." if lost and lost != title else ""
    return f"{begin}{why} Here masked steps are left out; predictions agree for sequences without any"


def _makes_mask(layer: Layer) -> bool:
    return isinstance(layer, Masking) or (isinstance(layer, Embedding) and layer.mask_zero)


def _loses_mask(layer: Layer) -> bool:
    """Whether Keras passes no mask on, or one that no longer lies over the right steps."""
    return isinstance(layer, (Conv1D, MaxPooling1D, AveragePooling1D)) or returns_reversed(layer)


def _reads_padding(layer: Layer, masked: bool) -> str:
    """How a layer lets padding into its output for a sequence's own steps, or nothing."""
    if isinstance(layer, GlobalMaxPooling1D):
        return "took the maximum over padding, too"
    if isinstance(layer, Conv1D) and layer.kernel_size > 1 and layer.padding == "same":
        return "read the padding next to a sequence's ends"
    if isinstance(layer, (MaxPooling1D, AveragePooling1D)):
        return "pooled padding, too"
    if masked:
        return ""
    if isinstance(layer, Bidirectional):
        return "had no mask and its backward direction began in the padding"
    if isinstance(layer, Recurrent) and layer.go_backwards:
        return "had no mask and began in the padding"
    if isinstance(layer, Recurrent) and not layer.return_sequences:
        return "had no mask and gave its state after the padding"
    return "had no mask and took the mean over padding, too" if isinstance(layer, GlobalAveragePooling1D) else ""
