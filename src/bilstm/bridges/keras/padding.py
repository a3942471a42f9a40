"""Whether Keras read the padding of shorter sequences, which bilstm never does."""

from __future__ import annotations

from collections.abc import Sequence

from bilstm.bridges.keras.translation import Translated
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

_AGREE = "so that ragged batches give the same predictions in Keras and here"


def describe_padding(layers: Sequence[Translated], *, ragged: bool) -> tuple[bool, str]:
    """Follow the mask through the layers, as Keras passes it on.

    Args:
        layers: the model's.
        ragged: whether its input is a RaggedTensor, which has no padding.

    Returns:
        Whether Keras and bilstm predict the same for every step of ragged batches, and a sentence about it.
    """
    masked = had_mask = ragged
    lost = ""  # the layer that passed no mask on
    for translated in layers:
        for layer in translated.layers:
            title = translated.source.title
            if _makes_mask(layer):
                masked = had_mask = True
            if (what := _reads_padding(layer, masked)) and not ragged:
                return False, _warning(title, what, lost if had_mask else None)
            if masked and _loses_mask(layer) and not ragged:
                masked, lost = False, title
    if had_mask:
        return True, f"masks: no layer reads padding, {_AGREE}"
    return True, f"masks: none; no layer reads padding after a sequence's end, {_AGREE} if it stands there"


def _warning(title: str, what: str, lost: str | None) -> str:
    begin = f"masks: in Keras {title} {what}, so that its predictions for shorter sequences depended on their padding."
    if lost is None:
        return (
            f"{begin} Here each sequence is read alone, as Keras reads one without padding; for the predictions that "
            f"Keras made with padding, give the padded array"
        )
    why = f" {lost} passes no mask on." if lost and lost != title else ""
    return f"{begin}{why} Here masked steps are left out; predictions agree for sequences without any"


def _makes_mask(layer: Layer) -> bool:
    return isinstance(layer, Masking) or (isinstance(layer, Embedding) and layer.mask_zero)


def _loses_mask(layer: Layer) -> bool:
    """Whether Keras passes no mask on, or one that no longer lies over the right steps."""
    if isinstance(layer, (Conv1D, MaxPooling1D, AveragePooling1D)):
        return True
    recurrent = layer.forward if isinstance(layer, Bidirectional) else layer
    return isinstance(recurrent, Recurrent) and recurrent.go_backwards and recurrent.return_sequences


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
