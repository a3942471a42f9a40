"""The process of one tagger: reads commands, one JSON object a line, and answers each with one.

    python -m benchmarks.speed.taggers.worker PEER

Whatever the library itself prints goes to standard error.
"""

from __future__ import annotations

import gc
import importlib
import time
from pathlib import Path
from typing import Any

from benchmarks.speed.answering import Answering, answer_commands
from benchmarks.speed.taggers.base import Tagger

# Peer -> module, class, the constructor's arguments.
PEERS: dict[str, tuple[str, str, tuple[Any, ...]]] = {
    "bilstm": ("ours", "Ours", (False,)),
    "bilstm, from numbers": ("ours", "Ours", (True,)),
    "PyTorch": ("pytorch", "PyTorch", ()),
    "Flair": ("flair_tagger", "Flair", ()),
    "python-crfsuite": ("crfsuite", "Crfsuite", ()),
    "spaCy's NER": ("spacy_pipe", "Spacy", ("ner",)),
    "spaCy's tagger": ("spacy_pipe", "Spacy", ("tagger",)),
}


class Worker(Answering):
    """Holds the library."""

    def __init__(self, name: str) -> None:
        module, kind, arguments = PEERS[name]
        self.peer: Tagger = getattr(importlib.import_module(f"benchmarks.speed.taggers.{module}"), kind)(*arguments)

    def hello(self) -> dict[str, Any]:
        """Answers "versions"."""
        return {"versions": self.peer.versions()}

    def load(self, data: str, encoded: str) -> dict[str, Any]:
        """Read the data. Answers "train" and "predict", the names of settings of each."""
        self.peer.load(Path(data), Path(encoded))
        return {task: list(self.peer.settings(task)) for task in ("train", "predict")}

    def time(self, task: str, setting: str, count: int) -> dict[str, Any]:
        """Train on, or predict, so many sentences once. Answers "seconds" and how many "tokens" were read."""
        options = self.peer.settings(task)[setting]
        trains = task == "train"
        run = (self.peer.training if trains else self.peer.prediction)(count, options)
        gc.collect()
        started = time.perf_counter()
        run()
        seconds = time.perf_counter() - started
        sentences = (self.peer.train if trains else self.peer.test)[:count]
        tokens = sum(len(words) for words, _ in sentences) * (self.peer.passes if trains else 1)
        return {"seconds": seconds, "tokens": tokens}


if __name__ == "__main__":
    answer_commands(Worker)
