"""Flax: its own recurrent layers, `nn.Bidirectional(nn.RNN(nn.OptimizedLSTMCell))`, in JAX's compiled training step."""

from __future__ import annotations

from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from benchmarks.speed.cases import Case
from benchmarks.speed.peers.base import Peer, Runner, Setting, directions
from benchmarks.speed.peers.jax_scan import make_runner


class Flax(Peer):
    def versions(self) -> dict[str, str]:
        return {"Flax": flax.__version__, "JAX": jax.__version__}

    def settings(self, case: Case) -> list[Setting]:
        return [Setting("nn.RNN")] if case.cell == "lstm" else []  # its GRU has one bias less

    def prepare(self, case: Case, setting: Setting) -> Runner:
        return make_runner(case, _Tagger(case).apply, _weights(case), at_once=1)


class _Tagger(nn.Module):
    case: Case

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        lengths = jnp.asarray(self.case.lengths) if self.case.ragged else None
        for layer in range(self.case.layers):
            forward, backward = (
                nn.RNN(nn.OptimizedLSTMCell(self.case.units, name=f"{way}{layer}")) for way in ("forward", "backward")
            )
            x = nn.Bidirectional(forward, backward, time_major=True)(x, seq_lengths=lengths)
        return nn.Dense(self.case.outputs, name="dense")(x)


def _weights(case: Case) -> Any:
    parameters: dict[str, Any] = {"dense": {"kernel": case.weights[-2], "bias": case.weights[-1]}}
    for layer, direction, (kernel, recurrent, bias) in directions(case):
        cell: dict[str, Any] = {}
        gates = zip("ifgo", *(np.split(array, 4, axis=-1) for array in (kernel, recurrent, bias)), strict=True)
        for gate, gate_kernel, gate_recurrent, gate_bias in gates:
            cell[f"i{gate}"] = {"kernel": gate_kernel}
            cell[f"h{gate}"] = {"kernel": gate_recurrent, "bias": gate_bias}
        parameters[f"{('forward', 'backward')[direction]}{layer}"] = cell
    return jax.tree.map(jnp.asarray, {"params": parameters})
