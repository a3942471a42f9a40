"""The data as numbers, for networks that are written by hand: as our schema encodes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.accuracy.tagger_twin import encode, sizes
from bilstm.data.sources import open_for
from bilstm.model.datasets import read_dataset
from bilstm.model.tagging import choose_output
from bilstm.model.training import column_options, prepare_data
from bilstm.tasks import LabelTask
from bilstm.training.options import TrainingOptions


def write(data: Path, folder: Path) -> None:
    """Write train.npz, test.npz and, for the network, sizes.json.

    Args:
        data: the folder of train.conll, dev.conll and test.conll.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options = TrainingOptions(seed=1)
    prepared = prepare_data(data / "train.conll", column_options(), options, valid=data / "dev.conll")
    schema, task = prepared.schema, choose_output(prepared, options).task
    assert isinstance(task, LabelTask)
    (folder / "sizes.json").write_text(json.dumps(sizes(schema, task, options)))
    test = read_dataset(schema, task, open_for(schema, data / "test.conll", label="test", steps=task.columns))
    for name, part in (("train", prepared.training), ("test", test)):
        encoded = encode(part.values, part.known)
        np.savez(folder / f"{name}.npz", **vars(encoded))
