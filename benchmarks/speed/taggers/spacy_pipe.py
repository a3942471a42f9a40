"""spaCy's NER and its tagger, each with the default tok2vec of its own, a convolution, on blank English."""

from __future__ import annotations

import os
from pathlib import Path

import spacy
from spacy.tokens import Doc
from spacy.training import Example, iob_to_biluo
from spacy.training.batchers import minibatch_by_words
from spacy.util import fix_random_seed

from benchmarks.speed.taggers.base import Options, Pass, Tagger

_WORDS = 1000  # in a training step: `spacy train`'s default


class Spacy(Tagger):
    """
    Args:
        pipe: "ner" or "tagger".
    """

    def __init__(self, pipe: str) -> None:
        self.pipe = pipe

    def versions(self) -> dict[str, str]:
        return {"spaCy": spacy.__version__}

    def settings(self, task: str) -> dict[str, Options]:
        if task == "train":
            return {f"batches of {_WORDS:,} words": {}}
        return {
            f"{processes} process{'es'[: 2 * processes - 2]}, batches of {batch}": {
                "processes": processes,
                "batch": batch,
            }
            for processes in sorted({1, os.cpu_count() or 1})
            for batch in (128, 512)
        }

    def load(self, data: Path, encoded: Path) -> None:
        super().load(data, encoded)
        vocabulary = spacy.blank("en").vocab
        self.examples = []
        for words, tags in self.train:
            given = {"tags": tags} if self.pipe == "tagger" else {"entities": iob_to_biluo(tags)}
            self.examples.append(Example.from_dict(Doc(vocabulary, words=words), given))

    def training(self, count: int, options: Options) -> Pass:
        fix_random_seed(1)
        self.model = model = spacy.blank("en")
        model.add_pipe(self.pipe)
        optimizer = model.initialize(lambda: self.examples[:count])
        batches = list(minibatch_by_words(self.examples[:count], _WORDS))

        def run() -> None:
            for batch in batches:
                model.update(batch, sgd=optimizer, drop=0.1)

        return run

    def prediction(self, count: int, options: Options) -> Pass:
        def run() -> None:
            docs = (Doc(self.model.vocab, words=words) for words, _ in self.test[:count])
            for _ in self.model.pipe(docs, batch_size=options["batch"], n_process=options["processes"]):
                pass

        return run
