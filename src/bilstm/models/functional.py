"""Keras's functional style: `Model(inputs, outputs)` of layers that were called one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bilstm.layers import Input, Symbol
from bilstm.models.sequential import Sequential


class Model(Sequential):
    """The chain of layers from an `Input` to what calling the last layer returned; a `Sequential` in all else.

    Args:
        inputs: the `Input` that the chain begins with.
        outputs: what calling the last layer returned.
        seed, name: as of `Sequential`.

    Raises:
        ValueError: the layers are no chain, which has one input, one output, no branches, and each layer once.
    """

    def __init__(
        self,
        inputs: Any = None,
        outputs: Any = None,
        *,
        seed: int | None = None,
        name: str | None = None,
        **keywords: Any,
    ) -> None:
        inputs, outputs = _single("inputs", inputs), _single("outputs", outputs)
        if not isinstance(inputs, Input):
            raise ValueError(f"Model: inputs must be an Input, not {inputs!r}; a `call` of your own is not supported")
        if not isinstance(outputs, Symbol):
            raise ValueError(f"Model: outputs must be what calling a layer returned, not {outputs!r}")
        if outputs.chain[0] is not inputs:
            raise ValueError(f"Model: {outputs.chain[-1]!r} was not called on a chain that begins with these inputs")
        repeated = [layer for index, layer in enumerate(outputs.chain) if layer in outputs.chain[:index]]
        if repeated:
            raise ValueError(f"Model: {repeated[0]!r} occurs twice, but layers cannot share weights: make two of them")
        super().__init__(outputs.chain, seed=seed, name=name or "functional", **keywords)


def _single(name: str, tensors: Any) -> Any:
    if isinstance(tensors, dict):
        tensors = list(tensors.values())
    if not isinstance(tensors, (list, tuple)):
        return tensors
    if len(tensors) == 1:
        return tensors[0]
    chains = [each.chain for each in tensors if isinstance(each, (Input, Symbol))]
    where = ""
    if name == "outputs" and len(chains) == len(tensors) > 0:
        where = f"; this one branches after {_last_common(chains)!r}"
    raise ValueError(
        f"Model: {len(tensors)} {name}, but a model is one chain of layers with one input and output{where}"
    )


def _last_common(chains: Sequence[Sequence[Any]]) -> Any:
    """The last layer that all chains go through, or None."""
    last = None
    for layers in zip(*chains, strict=False):
        if any(layer is not layers[0] for layer in layers):
            break
        last = layers[0]
    return last
