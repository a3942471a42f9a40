"""Flair's SequenceTagger: learned embeddings of words, its own characters, LSTMs as large as ours, and its CRF.

Nothing is downloaded: words are embedded by `OneHotEmbeddings`, and the characters are those of the training set.
"""

from __future__ import annotations

import os
from pathlib import Path

import flair
import torch
from flair.data import Dictionary, Sentence
from flair.embeddings import CharacterEmbeddings, OneHotEmbeddings, StackedEmbeddings
from flair.models import SequenceTagger
from flair.training_utils import store_embeddings

from benchmarks.speed.taggers.base import BATCH, Options, Pass, Tagger

_UNITS, _LAYERS, _WORD = 128, 3, 128


class Flair(Tagger):
    def versions(self) -> dict[str, str]:
        return {"Flair": flair.__version__, "PyTorch": torch.__version__}

    def settings(self, task: str) -> dict[str, Options]:
        batches = (BATCH,) if task == "train" else (32, 128)
        return {
            f"{threads} thread{'s'[: threads - 1]}, batches of {batch}": {"threads": threads, "batch": batch}
            for threads in sorted({1, os.cpu_count() or 1})
            for batch in batches
        }

    def load(self, data: Path, encoded: Path) -> None:
        super().load(data, encoded)
        flair.device = torch.device("cpu")
        self.words, characters = Dictionary(), Dictionary()
        for words, _ in self.train:
            for word in words:
                self.words.add_item(word)
                for character in word:
                    characters.add_item(character)
        self.characters = encoded / "flair-characters"
        characters.save(self.characters)
        self.types = Dictionary(add_unk=False)
        self.types.span_labels = True
        for name in sorted({tag[2:] for _, tags in self.train for tag in tags if tag != "O"}):
            self.types.add_item(name)

    def training(self, count: int, options: Options) -> Pass:
        torch.set_num_threads(options["threads"])
        flair.set_seed(1)
        embeddings = StackedEmbeddings(
            [
                OneHotEmbeddings(self.words, embedding_length=_WORD),
                CharacterEmbeddings(str(self.characters)),
            ]
        )
        self.tagger = tagger = SequenceTagger(
            embeddings, self.types, "ner", tag_format="BIO", hidden_size=_UNITS, rnn_layers=_LAYERS
        )
        optimizer = torch.optim.Adam(tagger.parameters(), 0.004, fused=True)
        sentences = sorted((_sentence(words, tags) for words, tags in self.train[:count]), key=len)
        size = options["batch"]
        batches = [sentences[start : start + size] for start in range(0, len(sentences), size)]

        def run() -> None:
            tagger.train()
            for part in batches:
                optimizer.zero_grad()
                loss, tokens = tagger.forward_loss(part)
                (loss / tokens).backward()
                torch.nn.utils.clip_grad_norm_(tagger.parameters(), 5.0)
                optimizer.step()
                store_embeddings(part, "none")

        return run

    def prediction(self, count: int, options: Options) -> Pass:
        torch.set_num_threads(options["threads"])
        self.tagger.eval()

        def run() -> None:
            self.tagger.predict([Sentence(words) for words, _ in self.test[:count]], mini_batch_size=options["batch"])

        return run


def _sentence(words: list[str], tags: list[str]) -> Sentence:
    """With the spans that its tags mark."""
    sentence = Sentence(words)
    begin = 0
    for i, tag in enumerate([*tags, "O"]):
        before = tags[i - 1] if i else "O"
        if before != "O" and tag != f"I-{before[2:]}":
            sentence[begin:i].add_label("ner", before[2:])
        if tag != "O" and (before == "O" or tag != f"I-{before[2:]}"):
            begin = i
    return sentence
