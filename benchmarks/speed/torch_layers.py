"""A plain PyTorch training loop with `torch.nn.LSTM` and with `bilstm.torch.LSTM` in its place, in turn.

    python -m benchmarks.speed.torch_layers [CASE ...]    prints the table; --out FILE writes the page

Sequences of different lengths go through PackedSequence; PyTorch's other exact way, layers for each direction and
sequences turned around by hand, is in RESULTS.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import bilstm.torch
from benchmarks.speed import machine
from benchmarks.speed.cases import CASES, LEARNING_RATE, Case
from bilstm import __version__, utils

_NAMES = ("S1 fit", "N1", "N2", "N3", "X1", "N1 GRU", "N2 GRU", "N3 GRU")
_TURN = 0.5  # seconds for which one is timed in a round
_ROUNDS = 7
_SLOW = 5.0  # seconds of a step that is not timed again and again
_TOLERANCE = 1e-3  # relative, of losses after some steps


class Tagger(nn.Module):
    """What a user writes: a recurrent layer and a linear one."""

    def __init__(self, library: Any, case: Case) -> None:
        super().__init__()
        kind = library.GRU if case.cell == "gru" else library.LSTM
        self.recurrent = kind(case.inputs, case.units, case.layers, bidirectional=True)
        self.dense = nn.Linear(2 * case.units, case.outputs)

    def forward(self, x: Any) -> torch.Tensor:
        output = self.recurrent(x)[0]
        rows = output.data if isinstance(output, PackedSequence) else output.flatten(0, 1)
        logits: torch.Tensor = self.dense(rows)
        return logits


def trainer(library: Any, case: Case) -> Callable[[], float]:
    """A function that takes one training step and returns its loss."""
    torch.manual_seed(1)
    tagger = Tagger(library, case)
    optimizer = torch.optim.Adam(tagger.parameters(), LEARNING_RATE, fused=True)
    loss_of: nn.Module = nn.BCEWithLogitsLoss() if case.outputs == 1 else nn.CrossEntropyLoss()
    batch = case.data[0]
    x, labels = (torch.from_numpy(array).transpose(0, 1).contiguous() for array in (batch.x, batch.labels))
    data: Any = x
    if case.ragged:
        lengths = torch.tensor(case.lengths)
        data = pack_padded_sequence(x, lengths, enforce_sorted=False)
        labels = pack_padded_sequence(labels.unsqueeze(2), lengths, enforce_sorted=False).data
    wanted = labels.reshape(-1, 1).float() if case.outputs == 1 else labels.flatten().long()

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(tagger(data), wanted)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def measure(case: Case) -> tuple[list[float], list[float]]:
    """Seconds of a step, PyTorch's and ours, in each round.

    Raises:
        RuntimeError: they do not learn alike.
    """
    steps = trainer(torch.nn, case), trainer(bilstm.torch, case)
    first, times = [], []
    for step in steps:
        losses = [step()]
        started = time.perf_counter()
        losses.append(step())
        times.append(time.perf_counter() - started)
        first.append(losses)
    for theirs, ours in zip(*first, strict=True):
        if abs(ours - theirs) > _TOLERANCE * abs(theirs):
            raise RuntimeError(f"{case.name}: losses {theirs} and {ours}")
    if times[0] > _SLOW:
        return [times[0]], [_timed(steps[1], times[1]) for _ in range(_ROUNDS)]
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(_ROUNDS):
        for which in (0, 1) if number % 2 else (1, 0):
            found[which].append(_timed(steps[which], times[which]))
    return found


def _timed(step: Callable[[], float], estimate: float) -> float:
    count = max(1, round(_TURN / estimate))
    started = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - started) / count


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.torch_layers", description=__doc__)
    parser.add_argument("cases", nargs="*", default=_NAMES)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    described = machine.describe()
    lines = [
        "# A PyTorch training loop with our layers",
        "",
        f"{described['processor']}, {described['processors']} processors, {described['date']}, PyTorch "
        f"{torch.__version__}, bilstm {__version__} ({utils.target()}). Made by "
        "`python -m benchmarks.speed.torch_layers`.",
        "",
        "One training step (forward pass, loss, backward pass, fused Adam) of a recurrent layer and a linear one, with "
        "`torch.nn`'s layer and with `bilstm.torch`'s in its place, measured in turn in one process; both with as many "
        "threads as there are processors. Medians, and the fastest in brackets; milliseconds. Ragged batches are "
        "packed.",
        "",
        "| case | shape | torch.nn | bilstm.torch | times as fast |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for name in arguments.cases:
        case = CASES[name]
        theirs, ours = measure(case)
        ratio = statistics.median(theirs) / statistics.median(ours)
        cells = [f"{statistics.median(each) * 1e3:.3g} ({min(each) * 1e3:.3g})" for each in (theirs, ours)]
        lines.append(f"| **{name}** | {case.shape} | {cells[0]} | {cells[1]} | {ratio:.1f}× |")
        print(lines[-1], flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
