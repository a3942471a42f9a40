"""The network of our default for words in PyTorch; from numbers, since looking words up is left to its user."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.taggers.base import BATCH, Options, Pass, Tagger
from benchmarks.speed.taggers.packed import Encoded, Network, collate, decode, train_step


class PyTorch(Tagger):
    def versions(self) -> dict[str, str]:
        from importlib.metadata import version

        return {"PyTorch": torch.__version__, "pytorch-crf": version("pytorch-crf")}

    def settings(self, task: str) -> dict[str, Options]:
        batches = (BATCH,) if task == "train" else (BATCH, 128, 512)
        return {
            f"{threads} thread{'s'[: threads - 1]}, batches of {batch}": {"threads": threads, "batch": batch}
            for threads in sorted({1, os.cpu_count() or 1})
            for batch in batches
        }

    def load(self, data: Path, encoded: Path) -> None:
        super().load(data, encoded)
        self.sizes = json.loads((encoded / "sizes.json").read_text())
        self.encoded = {part: Encoded(**np.load(encoded / f"{part}.npz")) for part in ("train", "test")}

    def training(self, count: int, options: Options) -> Pass:
        torch.set_num_threads(options["threads"])
        torch.manual_seed(1)
        self.network = network = Network(**self.sizes)
        optimizer = torch.optim.Adam(network.parameters(), 0.004, eps=1e-7, fused=True)
        data = self.encoded["train"]
        batches = batches_by_length(np.diff(data.offsets[: count + 1]), options["batch"])

        def run() -> None:
            for chosen in batches:
                train_step(network, optimizer, collate(data, chosen))

        return run

    def prediction(self, count: int, options: Options) -> Pass:
        torch.set_num_threads(options["threads"])
        whole = self.encoded["test"]
        steps = whole.offsets[count] if count < len(whole) else whole.offsets[-1]
        data = Encoded(
            whole.columns[:steps],
            whole.words[:steps],
            whole.offsets[: count + 1],
            whole.characters,
            whole.character_offsets,
        )
        return lambda: decode(self.network, data, options["batch"])


def batches_by_length(lengths: Any, size: int) -> list[Any]:
    """Sentences of similar lengths together, as ours are: sorted within a pool of 16 batches."""
    order = np.random.default_rng(1).permutation(len(lengths))
    batches = []
    for start in range(0, len(order), size * 16):
        pool = order[start : start + size * 16]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + size] for i in range(0, len(pool), size)]
    return batches
