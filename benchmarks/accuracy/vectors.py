"""Word vectors of a training text, by gensim's word2vec (skip-gram), which is in an environment of its own.

    python -m benchmarks.accuracy.vectors TEXT OUT SEED

TEXT has a word and its tag in each line, OUT becomes word2vec's text form.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.speed.taggers.environments import ROOT, python_of
from benchmarks.speed.taggers.sentences import sentences

DIMENSIONS = 100


def train_vectors(text: Path, seed: int) -> Path:
    """The file of a training text's vectors."""
    out = ROOT / "build" / f"text-{seed}.vec"
    command = [python_of("gensim"), "-m", "benchmarks.accuracy.vectors", str(text), str(out), str(seed)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    return out


def main() -> None:
    from gensim.models import Word2Vec

    text, out, seed = sys.argv[1:]
    words = [words for words, _ in sentences(Path(text))]
    # One worker: with several, the order of updates is chance.
    model = Word2Vec(words, vector_size=DIMENSIONS, sg=1, min_count=1, epochs=20, seed=int(seed), workers=1)
    model.wv.save_word2vec_format(out)


if __name__ == "__main__":
    main()
