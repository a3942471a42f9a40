"""A trained tagger: what it expects of a table, and the network that labels its steps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.errors import ModelFileError
from bilstm.layers import ColumnEmbedding, TimeDistributed
from bilstm.modelfile import Tensors, read_model, write_model
from bilstm.models import Sequential, model_from_parts
from bilstm.ragged import FloatArray, Ragged, portions
from bilstm.tables import scratch
from bilstm.tables.columns import Columns

_PROBABILITIES = 1 << 24  # in memory at a time, unless one sequence has more

_COUNTS = ("epochs", "best_epoch", "sequences", "steps", "held_out_sequences")  # in the summary of a training
_BASELINE = "baseline."  # begins the names of the baseline's tensors in a model file


class Tagger:
    """Labels every step of a sequence.

    Attributes:
        columns: the table columns it reads, how they become numbers, and the classes.
        model: the network; its outputs are the probabilities of the classes.
        training: how it was trained, plain data: "epochs", "best_epoch", "history", "sequences", "steps" …
        baseline: the same without recurrence, which labels each step by itself, trained on the same sequences: what a
            score is to be compared with. None where there is none.
        precision: of the network's weights in predictions, "float32" or "bfloat16"; see `Sequential.evaluate`.
    """

    precision: str = "float32"

    def __init__(
        self, columns: Columns, model: Sequential, training: dict[str, Any], baseline: Tagger | None = None
    ) -> None:
        self.columns = columns
        self.model = model
        self.training = training
        self.baseline = baseline

    def predict_proba(self, values: Ragged) -> FloatArray:
        """(total_steps, n_classes) float32 probabilities of encoded sequences (`Columns.encode`)."""
        return self.model.predict_rows(values, precision=self.precision)

    def predict_portions(
        self, values: Ragged, *, width: int | None = None
    ) -> Iterator[tuple[slice, slice, FloatArray]]:
        """The same for some sequences at a time, where there may be more of them than memory could hold.

        Args:
            width: how many numbers a step becomes later, if more than there are classes.

        Yields:
            Which sequences, which steps these are, and their (steps, n_classes) probabilities.
        """
        most = _PROBABILITIES // (width or len(self.columns.classes))
        for group in portions(values.offsets, max(1, min(scratch.BLOCK, most))):
            offsets = values.offsets[group.start : group.stop + 1]
            steps = slice(int(offsets[0]), int(offsets[-1]))
            yield group, steps, self.predict_proba(Ragged(values.values[steps], offsets - offsets[0]))

    def predict(self, values: Ragged) -> npt.NDArray[np.int64]:
        """(total_steps,) the index of the likeliest class of each step."""
        classes: npt.NDArray[np.int64] = self.predict_proba(values).argmax(axis=1)
        return classes

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write everything needed for prediction to one file, wholly or not at all.

        Args:
            path: the file to write.
            force: replace an existing file that is not a bilstm model.

        Raises:
            UserError: the file cannot be written, or exists and is not a bilstm model.
        """
        header = {
            "kind": "tagger",
            "model": self.model.get_config(),
            "columns": self.columns.to_json(),
            "training": self.training,
        }
        tensors = self.model.tensors()
        if self.baseline:
            header["baseline"] = {"model": self.baseline.model.get_config(), "training": self.baseline.training}
            tensors |= {_BASELINE + name: tensor for name, tensor in self.baseline.model.tensors().items()}
        write_model(path, tensors, header, force=force)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Tagger:
        """Read what `save` wrote. Never runs code from the file.

        Raises:
            ModelFileError: the file is no tagger; the message says why.
        """
        tensors, header = read_model(path)
        name = os.fspath(path)
        if header.get("kind") == "checkpoint":
            raise ModelFileError(f"{name} holds an unfinished training, not a model: finish it with --resume first")
        if header.get("kind") != "tagger":
            raise ModelFileError(f"{name} holds a {header.get('kind')} model, not a tagger trained on a table")
        try:
            columns = Columns.from_json(header.get("columns"))
        except ModelFileError as error:
            raise ModelFileError(f"{name} is not a valid model: {error}") from None
        described = header.get("baseline")
        if described is None:
            return cls(columns, *_network(name, columns, tensors, header))
        if not isinstance(described, dict):
            raise ModelFileError(f"{name} is not a valid model: its baseline is not an object")
        own = {key: tensor for key, tensor in tensors.items() if not key.startswith(_BASELINE)}
        others = {key.removeprefix(_BASELINE): tensor for key, tensor in tensors.items() if key not in own}
        baseline = cls(columns, *_network(name, columns, others, described))
        return cls(columns, *_network(name, columns, own, header), baseline)


def _network(
    name: str, columns: Columns, tensors: Tensors, described: dict[str, Any]
) -> tuple[Sequential, dict[str, Any]]:
    """A network and the summary of its training, from a file that nobody vouches for."""
    training = described.get("training")
    if not isinstance(training, dict):
        raise ModelFileError(f"{name} is not a valid model: its training summary is missing")
    if not _is_summary(training):
        raise ModelFileError(f"{name} is not a valid model: its training summary is damaged")
    model = model_from_parts(name, tensors, described.get("model"))
    if not _fit(columns, model):
        raise ModelFileError(f"{name} is not a valid model: its network does not fit its columns")
    return model, training


def _is_summary(training: dict[str, Any]) -> bool:
    """Whether it has what `train_model` tells, as far as others are told of it."""
    counts: list[Any] = [training.get(name) for name in _COUNTS]
    history, stopped, options = (training.get(name) for name in ("history", "stopped", "options"))
    if not all(type(count) is int and 0 <= count < 2**53 for count in counts) or not isinstance(stopped, str):
        return False
    if not isinstance(history, dict) or not isinstance(options, dict) or not 0 < counts[1] <= counts[0]:
        return False
    if "loss" not in history or ("val_accuracy" in history and "val_loss" not in history):
        return False
    return all(
        isinstance(values, list) and len(values) == counts[0] and all(type(value) in (int, float) for value in values)
        for values in history.values()
    )


def _fit(columns: Columns, model: Sequential) -> bool:
    """Whether the network takes what the columns give, and gives a probability for each class at each step."""
    network, first = model.network, model.layers[0] if model.layers else None
    if network is None or network.one_row_each or network.outputs != len(columns.classes):
        return False
    taken: tuple[int, tuple[int, ...]] = (network.features, ())
    last = model.layers[-1]
    if getattr(last.layer if isinstance(last, TimeDistributed) else last, "activation", None) != "softmax":
        return False
    if isinstance(first, ColumnEmbedding):
        taken = (first.numeric, first.vocabularies)
    return taken == (columns.numeric_width, tuple(columns.vocabularies))
