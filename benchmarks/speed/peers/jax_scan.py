"""JAX: an LSTM or GRU written with `jax.lax.scan`, its training step compiled, alone or a hundred in one call.

The inputs' products are taken out of the scan, and the backward direction turns each sequence around by its own length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from benchmarks.speed.cases import EPSILON, LEARNING_RATE, Case
from benchmarks.speed.peers.base import NO_LOSS, Peer, Runner, Setting

_AT_ONCE = 100  # training steps in one compiled call

Network = Callable[[Any, jax.Array], jax.Array]  # weights, (steps, sequences, inputs) -> logits (steps, sequences, …)


class Jax(Peer):
    def versions(self) -> dict[str, str]:
        return {"JAX": jax.__version__, "Optax": optax.__version__}

    def settings(self, case: Case) -> list[Setting]:
        unrolls = [1, 10] if case.longest <= 10 else [1]
        several = case.trains and not case.one_call and case.batches >= _AT_ONCE
        return [
            Setting(
                ("a scan over 100 training steps" if at_once > 1 else "a compiled call a batch")
                + (f", {unroll} steps unrolled" if unroll > 1 else ""),
                granule=at_once,
                options={"at_once": at_once, "unroll": unroll},
            )
            for at_once in ([1, _AT_ONCE] if several else [1])
            for unroll in unrolls
        ]

    def prepare(self, case: Case, setting: Setting) -> Runner:
        assert setting.options is not None
        weights = jax.tree.map(jnp.asarray, list(case.weights))
        network = _network(case, setting.options["unroll"])
        return make_runner(case, network, weights, setting.options["at_once"])


def _network(case: Case, unroll: int) -> Network:
    reversal = jnp.asarray(case.reversal.T[:, :, np.newaxis])

    def reverse(x: jax.Array) -> jax.Array:
        return jnp.take_along_axis(x, reversal, axis=0) if case.ragged else x[::-1]

    def lstm(x: jax.Array, kernel: jax.Array, recurrent: jax.Array, bias: jax.Array) -> jax.Array:
        def step(state: tuple[jax.Array, jax.Array], projected: jax.Array) -> tuple[Any, jax.Array]:
            h, c = state
            i, f, g, o = jnp.split(projected + h @ recurrent, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((case.sequences, case.units))
        return jax.lax.scan(step, (zeros, zeros), x @ kernel + bias, unroll=unroll)[1]

    def gru(x: jax.Array, kernel: jax.Array, recurrent: jax.Array, biases: jax.Array) -> jax.Array:
        def step(h: jax.Array, projected: jax.Array) -> tuple[jax.Array, jax.Array]:
            z, r, candidate = jnp.split(projected, 3, axis=1)
            own_z, own_r, own = jnp.split(h @ recurrent + biases[1], 3, axis=1)
            z = jax.nn.sigmoid(z + own_z)
            candidate = jnp.tanh(candidate + jax.nn.sigmoid(r + own_r) * own)
            h = z * h + (1 - z) * candidate
            return h, h

        return jax.lax.scan(step, jnp.zeros((case.sequences, case.units)), x @ kernel + biases[0], unroll=unroll)[1]

    cell = gru if case.cell == "gru" else lstm

    def network(weights: list[jax.Array], x: jax.Array) -> jax.Array:
        for layer in range(case.layers):
            forward, backward = weights[6 * layer : 6 * layer + 3], weights[6 * layer + 3 : 6 * layer + 6]
            x = jnp.concatenate([cell(x, *forward), reverse(cell(reverse(x), *backward))], axis=2)
        return x @ weights[-2] + weights[-1]

    return network


def make_runner(case: Case, network: Network, weights: Any, at_once: int) -> Runner:
    """Compile prediction, and a training step or a scan over several."""
    xs = [jnp.asarray(batch.x.swapaxes(0, 1)) for batch in case.data]

    @jax.jit
    def predict(weights: Any, x: jax.Array) -> jax.Array:
        logits = network(weights, x)
        return jax.nn.sigmoid(logits) if case.outputs == 1 else jax.nn.softmax(logits)

    if case.trains:
        return _training_runner(case, network, predict, weights, xs, at_once)

    def run(steps: int) -> float:
        for x in xs[:steps]:
            predict(weights, x).block_until_ready()
        return NO_LOSS

    return Runner(lambda: np.asarray(predict(weights, xs[0])).swapaxes(0, 1), run)


def _training_runner(
    case: Case, network: Network, predict: Any, weights: Any, xs: list[jax.Array], at_once: int
) -> Runner:
    labels = [jnp.asarray(batch.labels.T) for batch in case.data]
    optimizer = optax.adam(LEARNING_RATE, eps=EPSILON)
    mask = jnp.asarray(case.mask.T)

    def loss_of(weights: Any, x: jax.Array, labels: jax.Array) -> jax.Array:
        logits = network(weights, x)
        if case.outputs == 1:
            losses = optax.sigmoid_binary_cross_entropy(logits[:, :, 0], labels)
        else:
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
        return jnp.sum(losses * mask) / sum(case.lengths)

    def step(state: Any, batch: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        weights, moments = state
        loss, gradients = jax.value_and_grad(loss_of)(weights, *batch)
        updates, moments = optimizer.update(gradients, moments)
        return (optax.apply_updates(weights, updates), moments), loss

    one = jax.jit(step, donate_argnums=0)
    several = jax.jit(lambda state, batches: jax.lax.scan(step, state, batches), donate_argnums=0)
    state: Any = jax.tree.map(jnp.copy, (weights, optimizer.init(weights)))
    stacks: dict[int, tuple[jax.Array, jax.Array]] = {}

    def run(steps: int) -> float:
        nonlocal state
        losses = []
        if at_once == 1:
            for batch in zip(xs[:steps], labels[:steps], strict=True):
                state, loss = one(state, batch)
                losses.append(float(loss) if case.one_call else loss)
        else:
            size = min(steps, at_once)
            for start in range(0, steps, size):
                if (key := start * at_once + size) not in stacks:
                    part = slice(start, start + size)
                    stacks[key] = jnp.stack(xs[part]), jnp.stack(labels[part])
                state, loss = several(state, stacks[key])
                losses.append(loss)
        jax.block_until_ready(state)
        return float(np.mean(np.concatenate([np.ravel(loss) for loss in losses])))

    def outputs() -> npt.NDArray[Any]:
        return np.asarray(predict(state[0], xs[0])).swapaxes(0, 1)

    return Runner(outputs, run)
