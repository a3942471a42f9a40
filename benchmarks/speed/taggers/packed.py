"""The network that is our default for words, as a PyTorch user writes it: packed sequences, pytorch-crf."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torchcrf
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

Indices = npt.NDArray[np.int64]
_CHARACTER, _FILTERS = 25, 50  # dimensions of a character and of what becomes of a word's characters


@dataclass(frozen=True)
class Encoded:
    """Sentences as numbers, one after the other.

    Attributes:
        columns: (tokens, columns) the index of each token's word, beginnings, ends and shape.
        words: (tokens,) which of the different words each token is.
        offsets: (sentences + 1,) where sentences begin and end.
        characters: those of the different words, one after the other, from 0.
        character_offsets: (different words + 1,) where these begin and end.
        labels: (tokens,) from 0; None where they are not known.
    """

    columns: Indices
    words: Indices
    offsets: Indices
    characters: Indices
    character_offsets: Indices
    labels: Indices | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True)
class Batch:
    """Padded sentences.

    Attributes:
        chosen: which sentences.
        columns: (sentences, longest, columns).
        words: (sentences, longest) rows of `spelled`.
        spelled: (different words, longest) each word's characters from 1; 0 is padding.
        lengths: (sentences,).
        mask: (sentences, longest) where there are tokens.
        labels: (sentences, longest).
    """

    chosen: list[int]
    columns: torch.Tensor
    words: torch.Tensor
    spelled: torch.Tensor
    lengths: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor


class Network(nn.Module):
    """Words, their beginnings, ends and shape as embeddings, characters by a convolution with maximum; LSTMs; a CRF.

    Args:
        alphabet: the number of characters.
        vocabularies, dimensions: of the columns.
        labels: their number.
    """

    def __init__(
        self,
        alphabet: int,
        vocabularies: Sequence[int],
        dimensions: Sequence[int],
        labels: int,
        *,
        units: int = 128,
        layers: int = 3,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.character = nn.Embedding(alphabet + 1, _CHARACTER, padding_idx=0)
        self.convolution = nn.Conv1d(_CHARACTER, _FILTERS, 3, padding=1)
        self.embeddings = nn.ModuleList(nn.Embedding(*shape) for shape in zip(vocabularies, dimensions, strict=True))
        width = _FILTERS + sum(dimensions)
        self.lstm = nn.LSTM(width, units, layers, bidirectional=True, batch_first=True, dropout=dropout)
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(2 * units, labels)
        self.crf = torchcrf.CRF(labels, batch_first=True)

    def emissions(self, batch: Batch) -> torch.Tensor:
        """(sentences, longest, labels)."""
        spelled = self.convolution(self.character(batch.spelled).transpose(1, 2))
        words = spelled.masked_fill((batch.spelled == 0)[:, None], -torch.inf).amax(dim=2)
        columns = [table(batch.columns[:, :, i]) for i, table in enumerate(self.embeddings)]
        x = self.dropout(torch.cat([nn.functional.embedding(batch.words, words), *columns], dim=2))
        packed = pack_padded_sequence(x, batch.lengths, batch_first=True, enforce_sorted=False)
        x = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0]
        scores: torch.Tensor = self.dense(self.dropout(x))
        return scores

    def loss(self, batch: Batch) -> torch.Tensor:
        """Minus the log-likelihood of the labels, per token."""
        likelihood: torch.Tensor = self.crf(self.emissions(batch), batch.labels, batch.mask, reduction="token_mean")
        return -likelihood


def collate(data: Encoded, chosen: Sequence[int] | Indices) -> Batch:
    """The chosen sentences."""
    parts = [slice(data.offsets[i], data.offsets[i + 1]) for i in chosen]
    lengths = torch.tensor([part.stop - part.start for part in parts])
    distinct, words = np.unique(np.concatenate([data.words[part] for part in parts]), return_inverse=True)
    starts, stops = data.character_offsets[distinct], data.character_offsets[distinct + 1]
    spelled = [torch.from_numpy(data.characters[a:b] + 1) for a, b in zip(starts, stops, strict=True)]
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    labels = torch.zeros(mask.shape, dtype=torch.long)
    if data.labels is not None:
        labels[mask] = torch.from_numpy(np.concatenate([data.labels[part] for part in parts]))
    return Batch(
        chosen=list(chosen),
        columns=_padded([torch.from_numpy(data.columns[part]) for part in parts]),
        words=_padded(list(torch.from_numpy(words).split(lengths.tolist()))),
        spelled=_padded(spelled),
        lengths=lengths,
        mask=mask,
        labels=labels,
    )


def train_step(network: Network, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    """One update. Returns the loss before it, per token."""
    network.train()
    optimizer.zero_grad()
    loss = network.loss(batch)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return float(loss.item())


def emissions_of(network: Network, data: Encoded, at_once: int) -> Iterator[tuple[Batch, torch.Tensor]]:
    """Sentences of similar lengths, so many at a time, with their scores of labels."""
    network.eval()
    order = np.argsort(np.diff(data.offsets), kind="stable")
    with torch.inference_mode():
        for start in range(0, len(order), at_once):
            batch = collate(data, order[start : start + at_once])
            yield batch, network.emissions(batch)


def decode(network: Network, data: Encoded, at_once: int) -> list[list[int]]:
    """The likeliest labels of each sentence."""
    found: list[list[int]] = [[]] * len(data)
    for batch, emissions in emissions_of(network, data, at_once):
        for sentence, path in zip(batch.chosen, network.crf.decode(emissions, batch.mask), strict=True):
            found[sentence] = path
    return found


def _padded(parts: list[torch.Tensor]) -> torch.Tensor:
    return pad_sequence(parts, batch_first=True)
