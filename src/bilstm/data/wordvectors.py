"""The word vectors of a text feature: which words of a file are kept, and what a network begins with."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from bilstm.data.features import CategoricalColumn
from bilstm.data.spelling import VECTOR
from bilstm.data.vectorfiles import read_vectors
from bilstm.errors import UserError, listed
from bilstm.files import AnyPath
from bilstm.ragged import FloatArray

VectorFiles = AnyPath | Mapping[str, AnyPath]


def files_of_features(files: VectorFiles, texts: Sequence[str], words: Collection[str]) -> dict[str, AnyPath]:
    """The file of each feature that has vectors.

    Args:
        files: feature -> file, or one file, for the feature that is meant.
        texts: the features that are text.
        words: those of them that look like words.

    Raises:
        UserError: a feature is no text, or it is not clear which one is meant.
    """
    if isinstance(files, Mapping):
        for name in files:
            if name not in texts:
                raise UserError(
                    f"vectors are for features that are text, which {name!r} is not; features that are: {listed(texts)}"
                )
        return dict(files)
    candidates = [name for name in texts if name in words] if len(texts) > 1 else texts
    if len(candidates) != 1:
        why = f"which of the features {listed(texts)} has" if texts else "no feature is text, which could have"
        how = "? Name it, as in --vectors FEATURE=FILE (vectors={'feature': 'file'})" if texts else ""
        raise UserError(f"{why} the vectors of {files}{how}")
    return {candidates[0]: files}


def fit_vectors(
    name: str, words: Collection[str], path: AnyPath, *, everything: bool
) -> tuple[CategoricalColumn, FloatArray, tuple[str, ...]]:
    """Read the vectors of a feature's words.

    A word is looked up as it is, then in lower case. All values are multiplied with one power of two, with which their
    root mean square is about 1, like that of the columns next to them; a word without a vector has zeros.

    Args:
        words: the different words of the training rows.
        everything: whether words that are not among these are kept, too.

    Returns:
        A column of which a text's index is that of its vector; (size, dimensions) the vectors; and what a person should
        know about the file, one sentence each.

    Raises:
        UserError: the file is unfit, or has none of the words.
    """
    lowered = {word: word.lower() for word in words}
    vectors = read_vectors(path, None if everything else {*lowered, *lowered.values()})
    known = set(vectors.words)
    found = {
        word: word if word in known else lower for word, lower in lowered.items() if word in known or lower in known
    }
    if not found:
        raise UserError(
            f"{path} has none of the {len(words):,} different words in {name!r}, such as {listed(sorted(words)[:3])}: "
            f"is it of another language?"
        )
    needed = set(found.values())
    trained = np.array([word in needed for word in vectors.words])
    chosen = np.ones_like(trained) if everything else trained
    kept = tuple(word for word, keep in zip(vectors.words, chosen.tolist(), strict=True) if keep)
    values = np.zeros((1 + len(kept), vectors.values.shape[1]), np.float32)
    np.compress(chosen, vectors.values, axis=0, out=values[1:])
    values *= _power_of_two(vectors.values[trained], values)
    return CategoricalColumn(name, kept, len(found), VECTOR, vectors.values.shape[1]), values, vectors.notes


def _power_of_two(trained: FloatArray, kept: FloatArray) -> np.float32:
    """What makes the root mean square of the trained words' values about 1, and none of those kept too large."""
    square, largest = float(np.square(trained, dtype=np.float64).mean()), float(np.abs(kept).max())
    exponent = round(-math.log2(square) / 2) if square else 0
    return np.float32(math.ldexp(1.0, min(exponent, max(0, 126 - math.frexp(largest)[1]))))
