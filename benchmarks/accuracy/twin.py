"""The networks of `bilstm train` written plainly in PyTorch.

Its layers, first weights, gradients and Adam are PyTorch's. What surrounds them, `bilstm.training.loop.train_model`, is
shared: the batches, their order, the learning rate in each, the average of the weights, the validation set, and which
epoch is the best.
"""

from __future__ import annotations

import copy
import os
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bilstm.model.network import depth, embedding_dimension
from bilstm.models.fitting import FitData
from bilstm.ragged import FloatArray, IndexArray, Ragged
from bilstm.training.options import TrainingOptions

_STEPS_AT_ONCE = 20_000  # in prediction, padding included
_TRIED = 5  # training steps, to find the best number of threads


class Twin(nn.Module):
    """Embeddings of categories, bidirectional LSTMs with dropout, mean pooling if `pooled`, logits of the classes.

    Sequences of different lengths are padded at their ends, and turned around for the backward direction by their own
    lengths: the same results as with PackedSequence, which takes several times as long in training on a processor.
    """

    def __init__(
        self, numeric: int, vocabularies: list[int], classes: int, options: TrainingOptions, *, pooled: bool = False
    ) -> None:
        super().__init__()
        self.numeric, self.pooled = numeric, pooled
        dimensions = [options.embedding or embedding_dimension(size) for size in vocabularies]
        self.embeddings = nn.ModuleList(nn.Embedding(*shape) for shape in zip(vocabularies, dimensions, strict=True))
        width = numeric + sum(dimensions)
        self.lstms = nn.ModuleList()
        for _ in range(depth(options, numeric, pooled)):
            self.lstms += [nn.LSTM(width, options.units), nn.LSTM(width, options.units)]
            width = 2 * options.units
        self.dropout = nn.Dropout(options.dropout)
        self.dense = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Logits of the (steps, sequences, features): (rows, classes), sequence by sequence, without padding."""
        steps = torch.arange(len(x))[:, None]
        there = steps < lengths
        turned = torch.where(there, lengths - 1 - steps, steps)
        embedded = [table(x[:, :, self.numeric + i].long()) for i, table in enumerate(self.embeddings)]
        x = torch.cat([x[:, :, : self.numeric], *embedded], dim=2)
        x = self.dropout(x) if embedded else x
        for forward, backward in zip(self.lstms[::2], self.lstms[1::2], strict=True):
            x = torch.cat([forward(x)[0], _turn(backward(_turn(x, turned))[0], turned)], dim=2)
            x = x if self.pooled and backward is self.lstms[-1] else self.dropout(x)
        if self.pooled:
            x = self.dropout((x * there[:, :, None]).sum(dim=0) / lengths[:, None])
        else:
            x = x.transpose(0, 1)[there.T]
        logits: torch.Tensor = self.dense(x)
        return logits


def _turn(x: torch.Tensor, turned: torch.Tensor) -> torch.Tensor:
    return x.gather(0, turned[:, :, None].expand(x.shape))


class TwinModel:
    """A twin, with what training and prediction ask of a `Sequential`.

    Attributes:
        network: itself: its weights are read and written here.
    """

    def __init__(self, twin: nn.Module, options: TrainingOptions) -> None:
        torch.manual_seed(options.seed)
        self.twin: Any = twin
        self.network = self
        self.layers: list[Any] = []  # none that `train_model` needs to know of
        self.one_row_each = getattr(twin, "pooled", False)
        self.iteration = 0
        self._averages = np.empty(0, np.float32)
        for module in twin.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        self.optimizer = _Adam(twin.parameters(), options.learning_rate, eps=1e-7, fused=True)

    def read(self, which: str = "weights") -> FloatArray:
        if which == "averages":
            return self._averages.copy()
        weights: FloatArray = nn.utils.parameters_to_vector(self.twin.parameters()).detach().numpy()
        return weights

    def write(self, values: FloatArray, which: str = "weights") -> None:
        if which == "averages":
            self._averages = values.copy()
            return
        with torch.no_grad():
            nn.utils.vector_to_parameters(torch.from_numpy(values.copy()), self.twin.parameters())

    def get_weights(self) -> list[FloatArray]:
        return [weight.detach().numpy().copy() for weight in self.twin.parameters()]

    def set_weights(self, weights: list[FloatArray]) -> None:
        with torch.no_grad():
            for parameter, weight in zip(self.twin.parameters(), weights, strict=True):
                parameter.copy_(torch.from_numpy(weight))

    def average(self, share: float) -> None:
        with torch.no_grad():
            averages = torch.from_numpy(self._averages)
            averages.lerp_(nn.utils.parameters_to_vector(self.twin.parameters()), share)

    def train_batches(self, data: FitData, batch: IndexArray, starts: IndexArray) -> npt.NDArray[np.float64]:
        """A training step on one batch; returns its sums as the engine does: of losses, of labelled rows."""
        if not self.iteration:
            self._choose_threads(data, batch)
        return self._step(data, batch)

    def _choose_threads(self, data: FitData, batch: IndexArray) -> None:
        """As many as train fastest: often one, since PyTorch's LSTM gains little by more."""

        def seconds(threads: int) -> float:
            torch.set_num_threads(threads)
            tried, trials = copy.deepcopy(self), []
            for _ in range(_TRIED):
                started = time.perf_counter()
                tried._step(data, batch)
                trials.append(time.perf_counter() - started)
            return min(trials)

        torch.set_num_threads(min((1, os.cpu_count() or 1), key=seconds))

    def _step(self, data: FitData, batch: IndexArray) -> npt.NDArray[np.float64]:
        part, targets = FitData(data.data, data.targets, batch).take(slice(None), self.one_row_each)
        labels = torch.from_numpy(np.asarray(targets.labels)).long()
        self.twin.train()
        self.optimizer.zero_grad()
        loss = cross_entropy(self._logits(part), labels, ignore_index=-1)
        loss.backward()
        nn.utils.clip_grad_norm_(self.twin.parameters(), 1.0)
        self.optimizer.step()
        self.iteration += 1
        rows = int((labels >= 0).sum())
        return np.array([[loss.item() * rows, rows, 0, 0, 0]])

    def score(self, validation: FitData) -> npt.NDArray[np.float64]:
        data, targets = validation.take(slice(None), self.one_row_each)
        labels = np.asarray(targets.labels)
        logarithms = np.log(np.maximum(self.predict_rows(data), 1e-30))[labels >= 0]
        known = labels[labels >= 0]
        loss = -logarithms[np.arange(len(known)), known].sum()
        return np.array([loss, len(known), (logarithms.argmax(axis=1) == known).sum(), 0, 0], np.float64)

    def logs_of(self, sums: npt.NDArray[np.float64]) -> dict[str, float]:
        return {"loss": sums[0] / sums[1], "accuracy": sums[2] / sums[1]}

    def predict_rows(self, data: Ragged, precision: str = "float32") -> FloatArray:
        """(rows, classes) probabilities: in batches of sequences of similar lengths, put back into their order."""
        self.twin.eval()
        order = np.argsort(data.lengths, kind="stable")
        at_once = max(1, _STEPS_AT_ONCE // max(1, int(data.lengths.max(initial=1))))
        rows: list[FloatArray] = [np.empty(0, np.float32)] * len(data)
        with torch.inference_mode():
            for start in range(0, len(order), at_once):
                chosen = order[start : start + at_once]
                found = self._logits(data[chosen]).softmax(dim=1).numpy()
                ends = np.cumsum(np.ones(len(chosen), int) if self.one_row_each else data.lengths[chosen])
                for sequence, part in zip(chosen, np.split(found, ends[:-1]), strict=True):
                    rows[sequence] = part
        return np.concatenate(rows)

    def _logits(self, data: Ragged) -> torch.Tensor:
        sequences = [torch.from_numpy(data[i]) for i in range(len(data))]
        logits: torch.Tensor = self.twin(nn.utils.rnn.pad_sequence(sequences), torch.from_numpy(data.lengths))
        return logits


class _Adam(torch.optim.Adam):
    """Its learning rate where `train_model` sets it."""

    @property
    def learning_rate(self) -> float:
        return float(self.param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self.param_groups[0]["lr"] = rate
