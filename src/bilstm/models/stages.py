"""A network in two stages, for streams with bounded look-ahead: convolutions in front, then what carries states."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bilstm.engine.network import Network
from bilstm.layers import (
    CRF,
    AveragePooling1D,
    Bidirectional,
    Conv1D,
    Layer,
    MaxPooling1D,
    Padding,
    Recurrent,
    Reverse,
    WordEncoder,
    to_json,
)
from bilstm.models.structure import mask_value_of, two_outputs
from bilstm.ragged import FloatArray, IndexArray, Ragged, offsets_of, steps_between

if TYPE_CHECKING:
    from bilstm.models import Sequential


@dataclasses.dataclass(frozen=True)
class Stages:
    """A network's layers, with copies of its weights.

    Attributes:
        front: the layers up to the last convolution; None without one.
        rest: the layers after the front; None if there are none.
        before: how many steps before its own a row of the front depends on.
        after: how many steps after its own a row of the front depends on.
        features: dimensions of an input step.
        outputs: dimensions of an output row.
        backward: (state_width,) which states of the rest belong to directions that read backward.
        digest: (8,) uint8, of the layers and weights: equal for equal networks.
    """

    front: Network | None
    rest: Network | None
    before: int
    after: int
    features: int
    outputs: int
    backward: npt.NDArray[np.bool_]
    digest: npt.NDArray[np.uint8]

    @property
    def reads_backward(self) -> bool:
        """Whether a layer reads sequences from their last step."""
        return bool(self.backward.any())

    def run(
        self,
        windows: Ragged,
        states: FloatArray,
        lead: IndexArray,
        cut: IndexArray,
        leave_at: IndexArray,
        precision: str,
    ) -> tuple[Ragged, FloatArray]:
        """Outputs for windows of sequences.

        Args:
            windows: steps of each sequence.
            states: (windows, state_width) float32, after the steps before those that are not only `lead`.
            lead: (windows,) how many first steps of each are for the front alone.
            cut: (windows,) how many of the front's last rows of each are left out, which depend on steps to come.
            leave_at: (windows,) after how many steps, counted without the lead, the states are returned.
            precision: of the weights.

        Returns:
            Rows for the steps that are neither lead nor cut; (windows, state_width) the states, zeros for directions
            that read backward.
        """
        rows = windows
        if self.front is not None:
            outputs, _ = self.front.predict(windows, precision=precision)
            starts, stops = windows.offsets[:-1] + lead, windows.offsets[1:] - cut
            rows = Ragged(outputs[steps_between(starts, stops)], offsets_of(stops - starts))
        if self.rest is None:
            return rows, states
        outputs, after = self.rest.predict(
            rows, states, return_states=True, leave_at=np.minimum(leave_at, rows.lengths), precision=precision
        )
        assert after is not None
        after[:, self.backward] = 0
        return rows.with_values(outputs), after


def stages_of(model: Sequential) -> Stages:
    """The stages of a model that is built.

    Raises:
        ValueError: a layer needs its whole sequence for another reason than reading it backward; the message names it.
    """
    import hashlib

    check_layers(model.layers)
    split = 1 + max((index for index, layer in enumerate(model.layers) if _is_wide(layer)), default=-1)
    weights = model.get_weights()
    digest = hashlib.blake2b(repr([to_json(layer) for layer in model.layers]).encode(), digest_size=8)
    for array in weights:
        digest.update(array.tobytes())
    front, rest = divided(model, split)
    assert model.input_features is not None
    before, after = _reach(model.layers[:split])
    return Stages(
        front=front.network,
        rest=rest.network,
        before=before,
        after=after,
        features=model.input_features,
        outputs=model._built_network().outputs,
        backward=_backward_states(model.layers),
        digest=np.frombuffer(digest.digest(), np.uint8).copy(),
    )


def divided(model: Sequential, split: int) -> tuple[Sequential, Sequential]:
    """A model that is built as two, with copies of its weights: the layers up to an index, and the others.

    Either may have no layers, or none that do anything, and is then not built.
    """
    from bilstm.models.sequential import Sequential

    weights, width, parts = model.get_weights(), model.input_features, []
    for layers in (model.layers[:split], model.layers[split:]):
        part = Sequential.from_config({"features": width, "layers": [to_json(layer) for layer in layers]}, draw=False)
        if part.network is not None:
            count = len(part.get_weights())
            part.set_weights(weights[:count])
            weights, width = weights[count:], part.network.outputs
        parts.append(part)
    return parts[0], parts[1]


def check_layers(layers: Sequence[Layer]) -> None:
    """Refuse layers that bounded look-ahead is not enough for.

    Raises:
        ValueError: the message names the layer, and says why.
    """
    recurrent = False
    for index, layer in enumerate(layers):
        reason = _reason(layer, layers[index + 1] if index + 1 < len(layers) else None, recurrent)
        if reason:
            raise ValueError(f"stream: {layer!r} {reason}")
        recurrent = recurrent or isinstance(layer, (Recurrent, Bidirectional))


def _reason(layer: Layer, following: Layer | None, recurrent: bool) -> str | None:
    """Why a layer cannot work with bounded look-ahead, or None; `recurrent`: it follows a recurrent layer."""
    if isinstance(layer, Padding):
        return "extends sequences to a length that only their end tells"
    if mask_value_of(layer) is not None:
        return "leaves out masked steps: leave them out of the stream instead"
    if two_outputs(layer):
        return "has two outputs: merge them"
    if isinstance(layer, CRF):
        return "predicts the labels of a sequence together, which needs its end: a softmax predicts step by step"
    if isinstance(layer, (AveragePooling1D, MaxPooling1D)):
        return "changes the number of steps, so that there is no output for each"
    if not layer.returns_rows_per_step():
        return "returns one row for each sequence, which needs its end"
    if isinstance(layer, WordEncoder):
        return (
            "reads a table of words, which does not come with single steps: encode them first, as a trained model does"
        )
    if _is_wide(layer) and recurrent:
        return "reads several steps behind a recurrent layer: a stream can have convolutions in front only"
    backward = isinstance(layer, Recurrent) and layer.go_backwards
    if isinstance(layer, Bidirectional):
        backward = layer.forward.go_backwards
    if backward != isinstance(following, Reverse) and isinstance(layer, (Recurrent, Bidirectional)):
        return "returns a sequence's last step first, which needs its end"
    return None


def _is_wide(layer: Layer) -> bool:
    return isinstance(layer, Conv1D) and layer.kernel_size > 1


def _reach(layers: Sequence[Layer]) -> tuple[int, int]:
    """How many steps before and after its own a row behind these layers depends on."""
    before = after = 0
    for layer in layers:
        if isinstance(layer, Conv1D):
            others = (layer.kernel_size - 1) * layer.dilation_rate
            own = others if layer.padding == "causal" else others // 2
            before, after = before + own, after + others - own
    return before, after


def _backward_states(layers: Sequence[Layer]) -> npt.NDArray[np.bool_]:
    flags: list[bool] = []
    for layer in layers:
        directions = [layer] if isinstance(layer, Recurrent) else []
        if isinstance(layer, Bidirectional):
            directions = [layer.forward, layer.backward]
        for direction in directions:
            flags += [direction.go_backwards] * direction.units * (2 if direction.cell == "lstm" else 1)
    return np.array(flags, np.bool_)
