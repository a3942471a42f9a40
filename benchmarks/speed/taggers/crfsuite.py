"""python-crfsuite with the usual features; a pass is an iteration of its L-BFGS, of which it makes 100."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path

import pycrfsuite

from benchmarks.speed.taggers.base import Options, Pass, Tagger
from benchmarks.speed.taggers.sentences import features

PARAMETERS = {"c1": 0.1, "c2": 0.01, "max_iterations": 100, "feature.possible_transitions": True}


class Crfsuite(Tagger):
    passes = 10

    def versions(self) -> dict[str, str]:
        return {"python-crfsuite": version("python-crfsuite")}

    def settings(self, task: str) -> dict[str, Options]:
        return {"1 thread, which is all it has": {}}

    def training(self, count: int, options: Options) -> Pass:
        trainer = pycrfsuite.Trainer(verbose=False)
        for words, tags in self.train[:count]:
            trainer.append(features(words), tags)
        trainer.set_params(PARAMETERS | {"max_iterations": self.passes})

        def run() -> None:
            with tempfile.TemporaryDirectory() as folder:
                path = str(Path(folder) / "model")
                trainer.train(path)
                self.content = Path(path).read_bytes()

        return run

    def prediction(self, count: int, options: Options) -> Pass:
        tagger = pycrfsuite.Tagger()
        tagger.open_inmemory(self.content)
        return lambda: [tagger.tag(features(words)) for words, _ in self.test[:count]]
