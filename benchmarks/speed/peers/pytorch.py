"""PyTorch, eager: `torch.nn.LSTM` or `GRU` on padded and on packed batches, and on padded ones turned around by hand.

PyTorch has two biases for each gate. An LSTM's second is zero and stays so: under Adam two would move differently than
one. A GRU has two with Keras, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from benchmarks.speed.cases import EPSILON, LEARNING_RATE, WINDOW, Case
from benchmarks.speed.peers.base import NO_LOSS, Peer, Runner, Setting, directions, gates_to


class PyTorch(Peer):
    convolves = True

    def versions(self) -> dict[str, str]:
        return {"PyTorch": torch.__version__}

    def settings(self, case: Case) -> list[Setting]:
        """With padding, the backward direction of sequences of different lengths is exact only if turned by hand."""
        forms = ["packed", "reversed by hand", "padded"] if case.ragged else ["padded"]
        if case.trains and not case.ragged and case.units >= 64:
            forms.append("padded, bfloat16")
        return [
            Setting(
                f"{form}, {threads} thread{'s'[: threads - 1]}",
                exact="bfloat16" not in form and not (case.ragged and form == "padded"),
                options={"form": form.split(",")[0], "threads": threads, "bfloat16": "bfloat16" in form},
            )
            for form in forms
            for threads in sorted({1, os.cpu_count() or 1})
        ]

    def prepare(self, case: Case, setting: Setting) -> Runner:
        assert setting.options is not None
        form, threads = setting.options["form"], setting.options["threads"]
        tagger = (_ReversedByHand if form == "reversed by hand" else _Tagger)(case)
        convert = _packed if form == "packed" else _padded
        labels = [_rows(convert(case, batch.labels[:, :, np.newaxis])) for batch in case.data]
        batches = [(convert(case, batch.x), rows) for batch, rows in zip(case.data, labels, strict=True)]

        def outputs() -> npt.NDArray[np.float32]:
            torch.set_num_threads(threads)
            return _probabilities(case, tagger, batches[0][0])

        run = _train if case.trains else _predict
        return Runner(outputs, run(case, tagger, batches, threads, setting.options["bfloat16"]))


class _Tagger(nn.Module):
    """A convolution if there is one, bidirectional layers and a Dense layer.

    Takes (steps, sequences, inputs) or a PackedSequence, and returns logits of shape (rows, outputs).
    """

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.convolution = _convolution(case) if case.filters else None
        self.recurrent = _kind(case)(case.width, case.units, case.layers, bidirectional=True)
        for layer, direction, weights in directions(case):
            _set_weights(case, self.recurrent, f"l{layer}" + "_reverse" * direction, weights)
        self.dense = _dense(case)

    def forward(self, x: Any) -> torch.Tensor:
        if self.convolution:
            x = self.convolution(x.permute(1, 2, 0)).relu().permute(2, 0, 1)
        logits: torch.Tensor = self.dense(_rows(self.recurrent(x)[0]))
        return logits


class _ReversedByHand(nn.Module):
    """The same from one-directional layers: the backward ones read each sequence from its own last step."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for number, _, weights in directions(case):
            layer = _kind(case)(case.inputs if number == 0 else 2 * case.units, case.units)
            _set_weights(case, layer, "l0", weights)
            self.layers.append(layer)
        self.dense = _dense(case)
        rows = case.reversal.T * case.sequences + np.arange(case.sequences)
        self.reversal = torch.from_numpy(rows.ravel())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for forward, backward in zip(self.layers[::2], self.layers[1::2], strict=True):
            x = torch.cat([forward(x)[0], self._reversed(backward(self._reversed(x))[0])], dim=2)
        logits: torch.Tensor = self.dense(_rows(x))
        return logits

    def _reversed(self, x: torch.Tensor) -> torch.Tensor:
        return _rows(x).index_select(0, self.reversal).view(x.shape)


def _kind(case: Case) -> type[nn.RNNBase]:
    kinds: dict[str, type[nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU}
    return kinds[case.cell]


def _set_weights(case: Case, layer: nn.RNNBase, suffix: str, weights: list[npt.NDArray[np.float32]]) -> None:
    order = "rzh" if case.cell == "gru" else "ifco"
    kernel, recurrent, bias = (torch.from_numpy(gates_to(case, array, order)) for array in weights)
    biases = bias if case.cell == "gru" else torch.stack([bias, torch.zeros_like(bias)])
    with torch.no_grad():
        getattr(layer, f"weight_ih_{suffix}").copy_(kernel.T)
        getattr(layer, f"weight_hh_{suffix}").copy_(recurrent.T)
        getattr(layer, f"bias_ih_{suffix}").copy_(biases[0])
        getattr(layer, f"bias_hh_{suffix}").copy_(biases[1])
    getattr(layer, f"bias_hh_{suffix}").requires_grad_(case.cell == "gru")


def _convolution(case: Case) -> nn.Conv1d:
    convolution = nn.Conv1d(case.inputs, case.filters, WINDOW, padding="same")
    with torch.no_grad():
        convolution.weight.copy_(torch.from_numpy(case.weights[0]).permute(2, 1, 0))
        convolution.bias.copy_(torch.from_numpy(case.weights[1]))
    return convolution


def _dense(case: Case) -> nn.Linear:
    dense = nn.Linear(2 * case.units, case.outputs)
    with torch.no_grad():
        dense.weight.copy_(torch.from_numpy(case.weights[-2].T))
        dense.bias.copy_(torch.from_numpy(case.weights[-1]))
    return dense


def _padded(case: Case, array: npt.NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(array).transpose(0, 1).contiguous()


def _packed(case: Case, array: npt.NDArray[Any]) -> PackedSequence:
    lengths = torch.tensor(case.lengths)
    return pack_padded_sequence(torch.from_numpy(array), lengths, batch_first=True, enforce_sorted=False)


def _rows(x: Any) -> torch.Tensor:
    """(rows, features) of all steps, in the order in which they lie in memory."""
    rows: torch.Tensor = x.data if isinstance(x, PackedSequence) else x.flatten(0, 1)
    return rows


def _probabilities(case: Case, tagger: nn.Module, x: Any) -> npt.NDArray[np.float32]:
    with torch.inference_mode():
        rows = _activate(case, tagger(x))
        if isinstance(x, PackedSequence):
            padded: torch.Tensor = pad_packed_sequence(x._replace(data=rows))[0]
        else:
            padded = rows.view(*x.shape[:2], -1)
        return np.asarray(padded.transpose(0, 1))


def _activate(case: Case, logits: torch.Tensor) -> torch.Tensor:
    return logits.sigmoid() if case.outputs == 1 else logits.softmax(1)


def _train(
    case: Case, tagger: nn.Module, batches: list[tuple[Any, torch.Tensor]], threads: int, bfloat16: bool
) -> Callable[[int], float]:
    optimizer = torch.optim.Adam(
        [weight for weight in tagger.parameters() if weight.requires_grad], LEARNING_RATE, eps=EPSILON, fused=True
    )
    if case.outputs == 1:
        loss_of: nn.Module = nn.BCEWithLogitsLoss()
        batches = [(x, labels.float()) for x, labels in batches]
    else:
        loss_of = nn.CrossEntropyLoss(ignore_index=-1)
        batches = [(x, labels.long().flatten()) for x, labels in batches]

    def step(x: Any, labels: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss: torch.Tensor = loss_of(tagger(x), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def run(steps: int) -> float:
        torch.set_num_threads(threads)
        if case.one_call:
            return float(np.mean([step(x, labels).item() for x, labels in batches[:steps]]))
        return float(torch.stack([step(x, labels) for x, labels in batches[:steps]]).mean())

    return run


def _predict(
    case: Case, tagger: nn.Module, batches: list[tuple[Any, torch.Tensor]], threads: int, bfloat16: bool
) -> Callable[[int], float]:
    tagger.eval()

    def run(steps: int) -> float:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            for x, _ in batches[:steps]:
                _activate(case, tagger(x))
        return NO_LOSS

    return run
