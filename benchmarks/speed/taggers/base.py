"""What the benchmark asks of a tagger."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.speed.taggers.sentences import sentences

TASKS = ("train", "predict")
BATCH = 35  # sentences in a training step: what ours chooses for this data
Pass = Callable[[], Any]
Options = dict[str, Any]


class Tagger(ABC):
    """A library in a process of its own, imported by the constructor.

    Attributes:
        train: the words and the tags of each sentence to train on.
        test: those of each sentence to predict.
        passes: how often what `training` returns goes over the sentences.
    """

    passes = 1
    train: list[tuple[list[str], list[str]]]
    test: list[tuple[list[str], list[str]]]

    def load(self, data: Path, encoded: Path) -> None:
        """Read the data, and make what does not depend on the number of sentences that are timed.

        Args:
            data: the folder of train.conll and test.conll.
            encoded: the folder of what `benchmarks.speed.taggers.encoded` wrote.
        """
        self.train, self.test = (list(sentences(data / f"{part}.conll")) for part in ("train", "test"))

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Packages and their versions."""

    @abstractmethod
    def settings(self, task: str) -> dict[str, Options]:
        """The options, by name, that may be the best for "train" or "predict"."""

    @abstractmethod
    def training(self, count: int, options: Options) -> Pass:
        """What trains a new tagger on the first sentences, once; it is kept for predictions."""

    @abstractmethod
    def prediction(self, count: int, options: Options) -> Pass:
        """What predicts the tags of the first test sentences by the tagger that was trained last."""
