"""The CRF: training steps with and without it, and its gradient and Viterbi beside pytorch-crf's, in turn.

python -m benchmarks.speed.crf    prints the tables; --out FILE writes the page
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
import torch
import torchcrf
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.speed import machine
from benchmarks.speed.turns import in_turn
from bilstm import __version__, utils
from bilstm.layers import CRF, LSTM, Bidirectional, Dense, Input, TimeDistributed
from bilstm.models import Sequential
from bilstm.ragged import Ragged

_SHAPES = [(9, 64), (9, 128), (40, 128), (120, 128)]  # labels, units
_INPUTS = 64


class Peer(nn.Module):
    """What a PyTorch user writes: packed sequences, a BiLSTM, a linear layer, pytorch-crf."""

    def __init__(self, labels: int, units: int) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(_INPUTS, units, bidirectional=True, batch_first=True)
        self.dense = nn.Linear(2 * units, labels)
        self.crf = torchcrf.CRF(labels, batch_first=True)

    def emissions(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        scores: torch.Tensor = self.dense(pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)[0])
        return scores


def measure(labels: int, units: int) -> list[str]:
    """The cells of a shape's row."""
    random = np.random.default_rng(1)
    lengths = random.integers(4, 61, 32)
    x = [random.normal(size=(steps, _INPUTS)).astype(np.float32) for steps in lengths]
    y = [random.integers(0, labels, steps) for steps in lengths]
    data, truth = Ragged.from_sequences(x), np.concatenate(y)

    def model(crf: bool) -> Sequential:
        last = [TimeDistributed(Dense(labels)), CRF(labels)] if crf else [TimeDistributed(Dense(labels, "softmax"))]
        made = Sequential([Bidirectional(LSTM(units, return_sequences=True)), *last], seed=1)
        made.build((None, _INPUTS))
        made.compile("adam", "crf_likelihood" if crf else "sparse_categorical_crossentropy")
        return made

    ours, plain = model(crf=True), model(crf=False)
    theirs = Peer(labels, units)
    optimizer = torch.optim.Adam(theirs.parameters(), fused=True)
    padded = nn.utils.rnn.pad_sequence([torch.from_numpy(each) for each in x], batch_first=True)
    tags = nn.utils.rnn.pad_sequence([torch.from_numpy(each) for each in y], batch_first=True)
    counts = torch.from_numpy(lengths)
    mask = torch.arange(int(counts.max())) < counts[:, None]

    def step_of_theirs() -> None:
        optimizer.zero_grad()
        loss = -theirs.crf(theirs.emissions(padded, counts), tags, mask) / len(truth)
        loss.backward()
        optimizer.step()

    def prediction_of_theirs() -> None:
        with torch.inference_mode():
            theirs.crf.decode(theirs.emissions(padded, counts), mask)

    alone = Sequential([Input((None, labels)), CRF(labels)], seed=1)
    alone.compile("sgd", "crf_likelihood")
    scores = Ragged(random.normal(size=(len(truth), labels)).astype(np.float32), data.offsets)
    of_peer = nn.utils.rnn.pad_sequence([torch.from_numpy(each) for each in scores], batch_first=True).requires_grad_()

    def gradient_of_theirs() -> None:
        (-theirs.crf(of_peer, tags, mask)).backward()

    def viterbi_of_theirs() -> None:
        with torch.inference_mode():
            theirs.crf.decode(of_peer, mask)

    found = in_turn(
        lambda: plain.train_on_batch(data, truth),
        lambda: ours.train_on_batch(data, truth),
        step_of_theirs,
        lambda: ours.decode(data),
        prediction_of_theirs,
        lambda: alone.train_on_batch(scores, truth),
        gradient_of_theirs,
        lambda: alone.decode(scores),
        viterbi_of_theirs,
    )
    times = [statistics.median(each) * 1e3 for each in found]
    shown = [f"{time:.3g} ({min(each) * 1e3:.3g})" for time, each in zip(times, found, strict=True)]
    cost = f"{100 * (times[1] / times[0] - 1):.0f} %"
    ratios = [f"{times[other] / times[own]:.1f}×" for own, other in ((1, 2), (3, 4), (5, 6), (7, 8))]
    shape = f"{labels} labels, {units} units"
    return [
        f"| {shape} | {shown[0]} | {shown[1]} | {cost} | {shown[2]} | {ratios[0]} | {shown[3]} | {shown[4]} | "
        f"{ratios[1]} |",
        f"| {labels} labels | {shown[5]} | {shown[6]} | {ratios[2]} | {shown[7]} | {shown[8]} | {ratios[3]} |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.crf", description=__doc__)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    described = machine.describe()
    rows = []
    for labels, units in _SHAPES:
        rows.append(measure(labels, units))
        print(*rows[-1], sep="\n", flush=True)
    lines = [
        "# The CRF",
        "",
        f"{described['processor']}, {described['processors']} processors, {described['date']}, PyTorch "
        f"{torch.__version__}, pytorch-crf 0.7.2, bilstm {__version__} ({utils.target()}). Made by "
        "`python -m benchmarks.speed.crf`.",
        "",
        "32 sequences of 4 to 60 steps, 64 inputs, one bidirectional LSTM, a linear layer, and a CRF or a softmax. "
        "PyTorch's network packs its sequences and uses pytorch-crf and fused Adam. All in turn in one process, each "
        "with as many threads as there are processors. Medians, and the fastest in brackets; milliseconds.",
        "",
        "| network | a training step with softmax | with our CRF | costs | PyTorch's with pytorch-crf | | "
        "our prediction | PyTorch's | |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(row[0] for row in rows),
        "",
        "The CRF by itself, on given scores: a training step (likelihood, gradient and update), and Viterbi with "
        "probabilities. pytorch-crf has no update in it, and no probabilities.",
        "",
        "| CRF | our step | pytorch-crf's gradient | | our Viterbi and probabilities | pytorch-crf's Viterbi | |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(row[1] for row in rows),
        "",
    ]
    if arguments.out:
        arguments.out.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
