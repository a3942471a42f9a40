"""Characters, which are sequences within sequences: training steps and predictions beside PyTorch's, in turn.

python -m benchmarks.speed.characters    prints the table, a minute; --out FILE writes the page
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence, pad_sequence

from benchmarks.speed import machine
from benchmarks.speed.harness import OUTPUT_TOLERANCE
from benchmarks.speed.turns import in_turn
from bilstm import __version__, utils
from bilstm.layers import (
    LSTM,
    Bidirectional,
    Conv1D,
    Dense,
    Embedding,
    GlobalMaxPooling1D,
    TimeDistributed,
    WordEncoder,
)
from bilstm.layers.base import Layer
from bilstm.models import Sequential
from bilstm.ragged import Ragged

_ALPHABET, _CHARACTER, _VECTOR = 80, 25, 100  # characters, and the dimensions of one and of a word's vector
_UNITS, _LABELS = 128, 20
_ENCODERS = {"LSTM of 25 units each way": "lstm", "convolution, 50 filters of 3, and maximum": "convolution"}


class Peer(nn.Module):
    """What a PyTorch user writes: each distinct word once; packed sequences, of characters and of words."""

    def __init__(self, encoder: str) -> None:
        super().__init__()
        self.character = nn.Embedding(_ALPHABET + 1, _CHARACTER, padding_idx=0)
        self.convolves = encoder == "convolution"
        self.encoder: Any = (
            nn.Conv1d(_CHARACTER, 2 * _CHARACTER, 3, padding=1)
            if self.convolves
            else nn.LSTM(_CHARACTER, _CHARACTER, bidirectional=True, batch_first=True)
        )
        self.recurrent = nn.LSTM(2 * _CHARACTER + _VECTOR, _UNITS, bidirectional=True, batch_first=True)
        self.dense = nn.Linear(2 * _UNITS, _LABELS)

    def forward(self, batch: dict[str, Any]) -> torch.Tensor:
        """(rows, labels), of all steps in the order in which a PackedSequence has them."""
        rows = nn.functional.embedding(batch["words"], self._encoded(batch["spelled"], batch["letters"]))
        x = torch.cat([rows, batch["vectors"]], dim=2)
        packed = pack_padded_sequence(x, batch["lengths"], batch_first=True, enforce_sorted=False)
        scores: torch.Tensor = self.dense(self.recurrent(packed)[0].data)
        return scores

    def _encoded(self, spelled: torch.Tensor, letters: torch.Tensor) -> torch.Tensor:
        x = self.character(spelled)
        if self.convolves:
            convolved = self.encoder(x.transpose(1, 2))
            most: torch.Tensor = convolved.masked_fill((spelled == 0)[:, None], -torch.inf).amax(dim=2)
            return most
        packed = pack_padded_sequence(x, letters, batch_first=True, enforce_sorted=False)
        last = self.encoder(packed)[1][0]  # (2, words, units): each direction's last state
        return torch.cat([last[0], last[1]], dim=1)

    def copy(self, weights: list[np.ndarray]) -> None:
        """Weights in Keras's order. PyTorch has a row for padding, and two biases."""
        left = [torch.from_numpy(array) for array in weights]
        with torch.no_grad():
            self.character.weight[1:] = left.pop(0)
            if self.convolves:
                self.encoder.weight.copy_(left.pop(0).permute(2, 1, 0))
                self.encoder.bias.copy_(left.pop(0))
            for layer in (self.recurrent,) if self.convolves else (self.encoder, self.recurrent):
                for way in ("l0", "l0_reverse"):
                    for name, array in zip(("weight_ih", "weight_hh", "bias_ih"), left[:3], strict=True):
                        getattr(layer, f"{name}_{way}").copy_(array.t())
                    getattr(layer, f"bias_hh_{way}").zero_()
                    left = left[3:]
            self.dense.weight.copy_(left[0].T)
            self.dense.bias.copy_(left[1])


def network(encoder: str) -> Sequential:
    """The same of ours."""
    layers: dict[str, list[Layer]] = {
        "lstm": [Bidirectional(LSTM(_CHARACTER))],
        "convolution": [Conv1D(2 * _CHARACTER, 3, padding="same"), GlobalMaxPooling1D()],
    }
    model = Sequential(
        [
            WordEncoder([Embedding(_ALPHABET, _CHARACTER), *layers[encoder]]),
            Bidirectional(LSTM(_UNITS, return_sequences=True)),
            TimeDistributed(Dense(_LABELS, "softmax")),
        ],
        seed=1,
    )
    model.build((None, _VECTOR + 1))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def data() -> tuple[Ragged, np.ndarray, int]:
    """32 sentences of 4 to 60 words out of 5,000, frequent ones often; labels; the number of distinct words."""
    random = np.random.default_rng(1)
    words = [random.integers(0, _ALPHABET, (letters, 1)) for letters in random.integers(1, 15, 5000)]
    frequency = 1 / np.arange(1, 5001)
    lengths = random.integers(4, 61, 32)
    chosen = random.choice(5000, lengths.sum(), p=frequency / frequency.sum())
    vectors = random.standard_normal((len(chosen), _VECTOR))
    values = np.column_stack([vectors, chosen]).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    spelled = Ragged.from_sequences([word.astype(np.float32) for word in words])
    return Ragged(values, offsets, spelled), random.integers(0, _LABELS, len(chosen)), len(np.unique(chosen))


def batch_of(data: Ragged) -> dict[str, Any]:
    """The same in PyTorch's form; finding the distinct words is not timed."""
    assert data.words is not None
    distinct, which = np.unique(data.values[:, -1].astype(np.int64), return_inverse=True)
    spelled = [torch.from_numpy(data.words[int(word)][:, 0].astype(np.int64)) + 1 for word in distinct]
    lengths = torch.from_numpy(np.diff(data.offsets))

    def padded(array: np.ndarray) -> torch.Tensor:
        return pad_sequence(list(torch.from_numpy(array).split(lengths.tolist())), batch_first=True)

    return {
        "words": padded(which),
        "vectors": padded(np.ascontiguousarray(data.values[:, :-1])),
        "lengths": lengths,
        "spelled": pad_sequence(spelled, batch_first=True),
        "letters": torch.tensor([len(word) for word in spelled]),
    }


def packed(rows: torch.Tensor, lengths: torch.Tensor) -> PackedSequence:
    """Rows of all steps, sentence by sentence, in a PackedSequence's order."""
    padded = pad_sequence(list(rows.split(lengths.tolist())), batch_first=True)
    return pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)


def measure(encoder: str) -> list[str]:
    """The cells of an encoder's row.

    Raises:
        RuntimeError: the two do not compute the same.
    """
    values, labels, _ = data()
    ours, theirs, batch = network(encoder), Peer(encoder), batch_of(values)
    theirs.copy(ours.get_weights())
    order = packed(torch.from_numpy(labels), batch["lengths"])
    with torch.inference_mode():
        rows = order._replace(data=theirs(batch).softmax(1))
        outputs = pad_packed_sequence(rows, batch_first=True)[0].numpy()
    error = np.abs(outputs - ours.predict(values).to_padded()).max()
    if not error <= OUTPUT_TOLERANCE:
        raise RuntimeError(f"{encoder}: outputs differ by up to {error:.2g}")
    optimizer = torch.optim.Adam(theirs.parameters(), fused=True)

    def step(threads: int) -> Callable[[], None]:
        def run() -> None:
            torch.set_num_threads(threads)
            optimizer.zero_grad()
            nn.functional.cross_entropy(theirs(batch), order.data).backward()
            optimizer.step()

        return run

    def prediction(threads: int) -> Callable[[], None]:
        def run() -> None:
            torch.set_num_threads(threads)
            with torch.inference_mode():
                theirs(batch).softmax(1)

        return run

    counts = sorted({1, os.cpu_count() or 1})
    cells = []
    for own, other in (
        (lambda: ours.train_on_batch(values, labels), step),
        (lambda: ours.predict(values), prediction),
    ):
        times = in_turn(own, *(other(threads) for threads in counts))
        best = min(range(1, len(times)), key=lambda which: statistics.median(times[which]))
        shown = [f"{statistics.median(each) * 1e3:.3g} ({min(each) * 1e3:.3g})" for each in (times[0], times[best])]
        ratio = statistics.median(times[best]) / statistics.median(times[0])
        threads = f", {counts[best - 1]} thread{'s'[: counts[best - 1] - 1]}"
        cells += [shown[0], shown[1] + threads, f"{ratio:.1f}×"]
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.characters", description=__doc__)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    described = machine.describe()
    values, _, distinct = data()
    lines = [
        "# Characters: sequences within sequences",
        "",
        f"{described['processor']}, {described['processors']} processors, {described['date']}, PyTorch "
        f"{torch.__version__}, bilstm {__version__} ({utils.target()}). Made by "
        "`python -m benchmarks.speed.characters`.",
        "",
        f"32 sentences of 4 to 60 words, {len(values.values):,} in all, {distinct} of them distinct, of 1 to 14 "
        f"characters. An encoder makes {2 * _CHARACTER} dimensions of a word's characters, to which a vector of "
        f"{_VECTOR} is added; one bidirectional LSTM of {_UNITS} units and a linear layer follow. Each distinct word "
        "is encoded once on both sides; PyTorch's are found beforehand. PyTorch packs sequences, of characters and of "
        "words, and uses fused Adam; with 1 thread or all, whichever is faster. All in turn in one process, from the "
        f"same weights, with outputs within {OUTPUT_TOLERANCE:g}. Medians, and the fastest in brackets; milliseconds.",
        "",
        "| encoder of characters | our training step | PyTorch's | | our prediction | PyTorch's | |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for label, encoder in _ENCODERS.items():
        lines.append(f"| {label} | {' | '.join(measure(encoder))} |")
        print(lines[-1], flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
