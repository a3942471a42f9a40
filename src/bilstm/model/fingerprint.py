"""Recognises sequences that a model was trained on, without keeping them.

Of the hashes of all training sequences the smallest are kept: a bottom-k sketch (Cohen and Kaplan, "Summarizing data
using bottom-k sketches", 2007), from which the share of other sequences that were among them can be estimated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from bilstm.ragged import FloatArray, Ragged

_KEPT = 256
_BYTES = 6  # of a hash: whole numbers that every JSON reader keeps


def fingerprint(*datasets: Ragged, known: Iterable[int] = ()) -> list[int]:
    """The smallest hashes of sequences, ascending; `known` are those of further ones."""
    return sorted({*known, *(value for dataset in datasets for value in _hashes(dataset))})[:_KEPT]


def share_seen(kept: list[int], values: Ragged) -> float:
    """An estimate of the share of sequences that are among those of a fingerprint."""
    hashes = _hashes(values)
    if len(kept) == _KEPT:  # larger hashes were not kept
        hashes = [value for value in hashes if value <= kept[-1]]
    known = set(kept)
    return float(np.mean([value in known for value in hashes])) if hashes else 0.0


def _hashes(values: Ragged) -> list[int]:
    return [int.from_bytes(_digest(steps, values.words).digest()) for steps in values]


def _digest(steps: FloatArray, words: Ragged | None) -> hashlib.blake2b:
    """A hash of a sequence; of words it does not depend on their numbers in a table."""
    if words is None:
        return hashlib.blake2b(np.ascontiguousarray(steps).data, digest_size=_BYTES)
    digest = hashlib.blake2b(np.ascontiguousarray(steps[:, :-1]).data, digest_size=_BYTES)
    for word in steps[:, -1].astype(np.int64).tolist():
        digest.update(words[word].data)
    return digest
