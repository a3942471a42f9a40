"""A linear-chain CRF by PyTorch's own operations: on any device, in any type, with derivatives of any order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bilstm.ragged import IndexArray
from bilstm.torch.indices import as_index, padded, unpadded


class Weights(NamedTuple):
    """Scores of transitions (labels, labels), of beginnings and of ends (labels,); those forbidden are very low."""

    transitions: Tensor
    start: Tensor
    end: Tensor

    @classmethod
    def of(cls, transitions: Tensor, start: Tensor, end: Tensor, forbidden: Tensor | None) -> Weights:
        """Args:
        forbidden: (labels + 2, labels) which transitions, beginnings and ends are; None: none.
        """
        if forbidden is None:
            return cls(transitions, start, end)
        count = len(start)
        lowest = -(torch.finfo(start.dtype).max ** 0.75)  # many of them can be added up
        return cls(
            transitions.masked_fill(forbidden[:count], lowest),
            start.masked_fill(forbidden[count], lowest),
            end.masked_fill(forbidden[count + 1], lowest),
        )


def check_possible(forbidden: npt.NDArray[np.bool_], offsets: IndexArray) -> None:
    """Refuse sequences of which every labelling has a forbidden transition, as the engine does.

    Raises:
        ValueError: the message names the first.
    """
    lengths = np.diff(offsets)
    allowed, last = ~forbidden[:-2], ~forbidden[-1]
    reached, impossible = ~forbidden[-2], []
    for steps in range(1, int(lengths.max()) + 1):
        if not (reached & last).any():
            impossible.append(steps)
        reached = (reached[:, np.newaxis] & allowed).any(axis=0)
    wrong = np.isin(lengths, impossible)
    if wrong.any():
        at = int(wrong.argmax())
        raise ValueError(f"no labels of sequence {at}, {lengths[at]} steps, are without a forbidden transition")


def log_likelihoods(weights: Weights, scores: Tensor, offsets: IndexArray, labels: Tensor) -> Tensor:
    """(sequences,) the logarithm of the probability of each sequence's labels.

    Args:
        scores: (total_steps, labels) of the sequences that begin at `offsets`.
        labels: (total_steps,) int64.
    """
    known = scores.gather(1, labels.unsqueeze(1)).squeeze(1)
    starts, ends = (as_index(at, labels) for at in (offsets[:-1], offsets[1:] - 1))
    inner = torch.ones(len(labels), dtype=torch.bool, device=labels.device)
    inner[starts] = False
    before = torch.cat([labels[:1], labels[:-1]])
    steps = torch.where(inner, weights.transitions[before, labels], weights.start[labels]) + known
    lengths = as_index(np.diff(offsets), labels)
    sequence = torch.repeat_interleave(torch.arange(len(lengths), device=labels.device), lengths)
    paths = torch.zeros(len(lengths), dtype=steps.dtype, device=steps.device).index_add(0, sequence, steps)
    return paths + weights.end[labels[ends]] - totals(weights, scores, offsets)


def totals(weights: Weights, scores: Tensor, offsets: IndexArray) -> Tensor:
    """(sequences,) the logarithm of the sum of all label sequences' exponentials."""
    steps, within = _by_step(scores, offsets)
    alpha = weights.start + steps[0]
    for t in range(1, len(steps)):
        following = torch.logsumexp(alpha.unsqueeze(2) + weights.transitions, dim=1) + steps[t]
        alpha = torch.where(within[t], following, alpha)
    return torch.logsumexp(alpha + weights.end, dim=1)


def marginals(weights: Weights, scores: Tensor, offsets: IndexArray) -> Tensor:
    """(total_steps, labels) the probability of each label at each step: the gradient of the totals by the scores."""
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        scores = scores if differentiable and scores.requires_grad else scores.detach().requires_grad_()
        sums = totals(weights, scores, offsets).sum()
        (found,) = torch.autograd.grad(sums, scores, create_graph=differentiable)
    probabilities: Tensor = found if differentiable else found.detach()
    return probabilities


def paths(weights: Weights, scores: Tensor, offsets: IndexArray) -> Tensor:
    """(total_steps,) int64 the likeliest labels of each sequence as a whole, by Viterbi's algorithm."""
    steps, within = _by_step(scores, offsets)
    best, origins = weights.start + steps[0], []
    stay = torch.arange(scores.shape[1], device=scores.device)
    for t in range(1, len(steps)):
        following, origin = (best.unsqueeze(2) + weights.transitions).max(dim=1)
        best = torch.where(within[t], following + steps[t], best)
        origins.append(torch.where(within[t], origin, stay))
    label = (best + weights.end).argmax(dim=1)
    found = [label]
    for origin in reversed(origins):  # beyond a sequence's end the label stays the last step's
        label = origin.gather(1, label.unsqueeze(1)).squeeze(1)
        found.append(label)
    return unpadded(torch.stack(found[::-1], dim=1), offsets)


def _by_step(scores: Tensor, offsets: IndexArray) -> tuple[Tensor, Tensor]:
    """(steps, sequences, labels) and (steps, sequences, 1) whether a sequence has such a step."""
    steps = padded(scores, offsets).transpose(0, 1)
    lengths = as_index(np.diff(offsets), scores)
    within = torch.arange(len(steps), device=scores.device).unsqueeze(1) < lengths
    return steps, within.unsqueeze(2)
