"""The data as numbers for the network in PyTorch, as our schema encodes them; and whether it is the same network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.tagger_twin import encode, sizes
from benchmarks.speed.taggers.packed import Encoded, Network, emissions_of
from bilstm.data.dataset import Dataset
from bilstm.data.sources import open_for
from bilstm.layers import from_json, to_json
from bilstm.model.datasets import read_dataset
from bilstm.model.network import build_network
from bilstm.model.opening import column_options, prepare_data
from bilstm.model.tagging import choose_output
from bilstm.models import Sequential
from bilstm.tasks import LabelTask
from bilstm.training.options import TrainingOptions

_COMPARED = 50  # sentences


def write(data: Path, folder: Path) -> float:
    """Write train.npz, test.npz and, for the network, sizes.json.

    Args:
        data: the folder of train.conll, dev.conll and test.conll.

    Returns:
        How much the two networks' scores of labels differ at most, from the same weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options = TrainingOptions(seed=1)
    prepared = prepare_data(data / "train.conll", column_options(), options, valid=data / "dev.conll")
    output = choose_output(prepared, options)
    schema, task = prepared.schema, output.task
    assert isinstance(task, LabelTask)
    of_network = sizes(schema, task, options)
    (folder / "sizes.json").write_text(json.dumps(of_network))
    test = read_dataset(schema, task, open_for(schema, data / "test.conll", label="test", steps=task.columns))
    for name, part in (("train", prepared.training), ("test", test)):
        np.savez(folder / f"{name}.npz", **vars(encode(part.values, part.known)))
    ours = build_network(output.learned.schema, output.learned.task, output.options, output.forbidden)
    return difference(ours, Network(**of_network), test.take(range(min(_COMPARED, len(test)))))


def difference(ours: Sequential, theirs: Network, data: Dataset) -> float:
    """How much the scores of labels differ at most, when the network in PyTorch has our weights."""
    weights = ours.get_weights()[:-3]  # but for the CRF's
    set_weights(theirs, [torch.from_numpy(array) for array in weights])
    layers = [from_json(to_json(layer)) for layer in ours.layers[:-1]]
    below = Sequential(layers, seed=1)
    below.build((None, ours.input_features))
    below.set_weights(weights)
    encoded: Encoded = encode(data.values)
    scores: list[Any] = [None] * len(encoded)
    for batch, emissions in emissions_of(theirs, encoded, 16):
        for sentence, length, rows in zip(batch.chosen, batch.lengths.tolist(), emissions.numpy(), strict=True):
            scores[sentence] = rows[:length]
    return float(np.abs(below.predict_rows(data.values) - np.concatenate(scores)).max())


def set_weights(network: Network, weights: list[torch.Tensor]) -> None:
    """Give the network in PyTorch our weights but for the CRF's; the second of its two biases is 0."""
    following = iter(weights)
    with torch.no_grad():
        network.character.weight[1:] = next(following)  # the first row is of padding
        network.convolution.weight.copy_(next(following).permute(2, 1, 0))
        network.convolution.bias.copy_(next(following))
        for table in network.embeddings:
            table.weight.copy_(next(following))
        for layer in range(network.lstm.num_layers):
            for direction in ("", "_reverse"):
                own = {
                    name: getattr(network.lstm, f"{name}_l{layer}{direction}")
                    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                }
                own["weight_ih"].copy_(next(following).T)
                own["weight_hh"].copy_(next(following).T)
                own["bias_ih"].copy_(next(following))
                own["bias_hh"].zero_()
        network.dense.weight.copy_(next(following).T)
        network.dense.bias.copy_(next(following))
