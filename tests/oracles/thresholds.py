"""Random networks and batches of about the sizes at which the engine goes to work another way, and any others.

The sizes are read from the engine's sources: multiply-adds that are worth waking threads for, weights up to which a
thread computes sequences of its own, and sequences that make a share of a batch or a piece of a prediction.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from bilstm.engine.losses import CRF_LIKELIHOOD, TABLE, Loss, TargetKind
from bilstm.engine.plans import ACTIVATIONS, MERGES
from bilstm.layers import (
    GRU,
    AveragePooling1D,
    BatchNormalization,
    Bidirectional,
    ColumnEmbedding,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    GlobalAttentionPooling1D,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Layer,
    MaxPooling1D,
    Reverse,
    SpatialDropout1D,
    TimeDistributed,
    WordEncoder,
    count_parameters,
    to_json,
)
from bilstm.ragged import Ragged, offsets_of
from oracles.models import CELLS, NATIVE, Case, crf_ending, random_labels, random_words, without_bias

Random = np.random.Generator

_SOURCES = "".join(path.read_text() for path in sorted(NATIVE.glob("*")))
RECURRENT = tuple(CELLS.values())
VOCABULARY = 7


def threshold(name: str) -> int:
    """A constant of the engine's sources."""
    (number,) = set(re.findall(rf"\b{name} = ([\d']+)[,;]", _SOURCES))
    return int(number.replace("'", ""))


WORTH_THREADS = threshold("kWorthThreads")
OWN_WEIGHTS = threshold("kOwnWeights"), threshold("kOwnWeightsToPredict")
SHARE_SEQUENCES = threshold("kShareSequences")
SEQUENCES = [most * n for most in (SHARE_SEQUENCES, threshold("kMostSequences")) for n in (1, 2, 3, 8)]
MOST_STEPS = 12_000  # so that a network takes milliseconds


def near(number: float, random: Random) -> float:
    """Within a twentieth, half of the time within a hundredth."""
    return number * (1 + random.uniform(-1, 1) * random.choice([0.01, 0.05]))


def draw(seed: int, *, small: bool = False) -> Case:
    """A model and a batch, the same for the same seed; small ones have sequences of a few steps, for many trainings."""
    random = np.random.default_rng(seed)
    loss = TABLE[random.integers(len(TABLE))]
    first, features = draw_first(random)
    between, ending = [draw_between(random) for _ in range(2)], draw_ending(random)
    outputs = int(random.choice([1, 2, 5, 17]))
    head = Dense(outputs, str(random.choice(activations_of(loss))))
    recurrent = draw_recurrent(random)
    last: list[Layer] = [head]
    if not ending and random.random() < 0.4:
        loss, last = CRF_LIKELIHOOD, crf_ending(outputs, random)

    def layers_of(units: int) -> list[Layer]:
        return [*first, *recurrent[0](units), *between[0], *recurrent[1](1 + units // 3), *between[1], *ending, *last]

    units = int(random.integers(1, 40))
    weights = 0 if small or random.random() < 0.5 else near(random.choice(OWN_WEIGHTS), random)
    while count_weights(layers_of(units), features) < weights:
        units += 1
    layers = layers_of(units)
    if random.random() < 0.2:
        layers = [*first, *between[0], *ending, *last]  # none that is recurrent
    if small:
        lengths = random.integers(1, 6, random.integers(1, 150)).tolist()
    else:
        lengths = draw_lengths(count_weights(layers, features), random)
    steps = sum(lengths)
    values = random.normal(size=(steps, features))
    words = None
    if isinstance(layers[0], (Embedding, ColumnEmbedding)):
        values[:, -1] = random.integers(VOCABULARY, size=steps)
    elif isinstance(layers[0], WordEncoder):
        count = int(random.choice([1, 7, 400]))
        values[:, -1], words = random.integers(count, size=steps), random_words(random, count, VOCABULARY)
    described = [to_json(layer) for layer in layers]
    described = [without_bias(layer) if random.random() < 0.2 else layer for layer in described]
    case = Case(described, Ragged(values, offsets_of(lengths), words), None, loss.name, seed)
    rows = len(lengths) if case.one_row_each else steps
    case.y = random_labels(loss.name, rows, outputs, random)
    return case


def activations_of(loss: Loss) -> tuple[str, ...]:
    """Those of a last layer whose outputs the loss takes."""
    return ACTIVATIONS if loss.targets is TargetKind.NUMBERS else ("sigmoid", "softmax")


def draw_first(random: Random) -> tuple[list[Layer], int]:
    """The first layers, and the columns that they take."""
    features = int(random.integers(1, 20))
    firsts: list[tuple[list[Layer], int]] = [
        ([], features),
        ([TimeDistributed(Dense(int(random.integers(1, 40)), str(random.choice(ACTIVATIONS))))], features),
        ([Embedding(VOCABULARY, features)], 1),
        ([ColumnEmbedding(features, [VOCABULARY], [3], unknown_rate=[0.2])], features + 1),
        ([WordEncoder([Embedding(VOCABULARY, 5), GRU(int(random.integers(1, 20)))])], features + 1),
    ]
    return firsts[random.integers(len(firsts))]


def draw_recurrent(random: Random) -> list[Any]:
    """Of one or two recurrent layers, what makes them with a number of units."""
    cells = [RECURRENT[random.integers(len(RECURRENT))] for _ in range(2)]
    merge_mode, same = str(random.choice(MERGES)), random.random() < 0.7

    def recurrent(cell: Any, kind: int, units: int) -> list[Layer]:
        forward = cell(units, return_sequences=True)
        backward = cell(units if same else 1 + units // 2, return_sequences=True, go_backwards=True)
        if kind == 0:
            return [forward]
        if kind == 1:
            return [backward, Reverse()]
        return [Bidirectional(forward, "concat" if not same else merge_mode, backward_layer=backward)]

    kinds = [int(kind) for kind in random.choice([0, 1, 2, 2], 2)]
    made: list[Any] = [lambda units, i=i: recurrent(cells[i], kinds[i], units) for i in range(2)]
    return made if random.random() < 0.5 else [made[0], lambda units: []]


def draw_between(random: Random) -> list[Layer]:
    choices: list[list[Layer]] = [
        [],
        [Dropout(0.4)],
        [SpatialDropout1D(0.3)],
        [Dense(9, str(random.choice(ACTIVATIONS)))],
        [Conv1D(9, int(random.integers(1, 6)), padding="same", activation=str(random.choice(ACTIVATIONS)))],
        [Conv1D(17, 3, padding="causal", dilation_rate=2)],
        [BatchNormalization(momentum=0.5, center=bool(random.random() < 0.7), scale=bool(random.random() < 0.7))],
    ]
    return choices[random.integers(len(choices))]


def draw_ending(random: Random) -> list[Layer]:
    """What makes a row of a sequence, or nothing."""
    units = int(random.integers(1, 40))
    cell = RECURRENT[random.integers(len(RECURRENT))]
    pools = [GlobalAveragePooling1D(), GlobalMaxPooling1D(), GlobalAttentionPooling1D(units)]
    choices: list[list[Layer]] = [[], [], [cell(units)], [Bidirectional(cell(units))], *([pool] for pool in pools)]
    ending = choices[random.integers(len(choices))]
    windows = MaxPooling1D(2, padding="same"), AveragePooling1D(3, 2, padding="same")
    return [windows[random.integers(2)], *ending] if ending and random.random() < 0.3 else ending


def count_weights(layers: list[Layer], features: int) -> int:
    """Those that each step is multiplied by: embeddings are not."""
    embedded = count_parameters(layers[:1], features) if isinstance(layers[0], (Embedding, ColumnEmbedding)) else 0
    return count_parameters(layers, features) - embedded


def draw_lengths(weights: int, random: Random) -> list[int]:
    """Of sequences, about as many as divide a batch, and with about as many steps as are worth threads."""
    count = int(random.choice(SEQUENCES)) + int(random.integers(-1, 2)) if random.random() < 0.7 else 1
    steps = min(int(near(WORTH_THREADS / weights, random)), MOST_STEPS) if random.random() < 0.8 else 0
    if steps < count:
        steps = count + int(random.integers(0, 200))
    if random.random() < 0.3:
        return [steps // count] * count  # as rows of an array
    divided = np.diff(np.sort(random.integers(0, steps - count + 1, count - 1)), prepend=0, append=steps - count)
    return [1 + int(length) for length in divided]
