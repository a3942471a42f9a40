"""A conditional random field with pytorch-crf's interface."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bilstm import layers
from bilstm.engine import plans
from bilstm.engine.network import Network
from bilstm.engine.plans import Targets
from bilstm.ragged import FloatArray, IndexArray, Ragged
from bilstm.torch import chain
from bilstm.torch.compiling import outside_graphs, to_numpy
from bilstm.torch.forms import Rows
from bilstm.torch.running import array_of, engine_takes
from bilstm.torch.sequences import rows_of_any

_REDUCTIONS = ("none", "sum", "mean", "token_mean")


class CRF(nn.Module):
    """A linear-chain conditional random field (Lafferty, McCallum and Pereira 2001) with pytorch-crf's interface.

    Constructor, methods, parameters and `state_dict` are those of `torchcrf.CRF`. On the CPU in float32 likelihoods,
    gradients and Viterbi's algorithm run on bilstm's engine, which sums in float64; elsewhere, and for second
    derivatives, in PyTorch.

    Args:
        num_tags: how many labels there are.
        batch_first: whether batches are (sequences, steps, num_tags) rather than (steps, sequences, num_tags).
        forbidden: transitions that never happen, as of `bilstm.layers.CRF`: pairs (from, to), None for a sequence's
            beginning or end; or a (num_tags + 2, num_tags) array. They are no part of the `state_dict`.

    Attributes:
        start_transitions, end_transitions: (num_tags,) parameters.
        transitions: (num_tags, num_tags) parameters, from the row's label to the column's.

    Raises:
        ValueError: num_tags is not above 0, or a forbidden transition is of a label that there is not.
    """

    forbidden: Tensor | None  # (num_tags + 2, num_tags)
    _engine: _Engine | None = None

    def __init__(
        self,
        num_tags: int,
        batch_first: bool = False,
        *,
        forbidden: Iterable[tuple[int | None, int | None]] | npt.NDArray[Any] | None = None,
    ) -> None:
        if num_tags <= 0:
            raise ValueError(f"invalid number of tags: {num_tags}")
        super().__init__()
        self.num_tags = num_tags
        self.batch_first = batch_first
        self.start_transitions = nn.Parameter(torch.empty(num_tags))
        self.end_transitions = nn.Parameter(torch.empty(num_tags))
        self.transitions = nn.Parameter(torch.empty(num_tags, num_tags))
        table = layers.CRF(num_tags, forbidden).forbidden
        self.register_buffer("forbidden", None if table is None else torch.from_numpy(table), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters from a uniform distribution between -0.1 and 0.1."""
        for weights in (self.start_transitions, self.end_transitions, self.transitions):
            nn.init.uniform_(weights, -0.1, 0.1)

    def __getstate__(self) -> dict[str, Any]:
        """Without the engine's network, which is made again when it is needed."""
        return {name: value for name, value in vars(self).items() if name != "_engine"}

    def __repr__(self) -> str:
        forbidden = "" if self.forbidden is None else f", {int(self.forbidden.sum()):,} transitions forbidden"
        return f"{type(self).__name__}(num_tags={self.num_tags}{forbidden})"

    @outside_graphs
    def forward(self, emissions: Tensor, tags: Tensor, mask: Tensor | None = None, reduction: str = "sum") -> Tensor:
        """The logarithm of the probability of sequences of tags: the loss is minus that.

        Args:
            emissions: (steps, sequences, num_tags) scores, or (sequences, steps, num_tags) if `batch_first`.
            tags: (steps, sequences), or (sequences, steps), whole numbers; any number where there is no step.
            mask: of the shape of the tags, on for the first steps of each sequence, which are real; all if left out.
            reduction: "sum" (default) over sequences, "mean" of them, "token_mean", the sum divided by the number of
                real steps, or "none".

        Returns:
            (sequences,) with "none", else a scalar.

        Raises:
            ValueError: shapes contradict each other; a sequence has no step, a mask with gaps, a tag that there is
                not, or a transition that is forbidden.
        """
        if reduction not in _REDUCTIONS:
            raise ValueError(f"invalid reduction: {reduction}")
        rows = self._rows(emissions, mask)
        if tuple(tags.shape) != tuple(emissions.shape[:2]):
            raise ValueError(
                "the first two dimensions of emissions and tags must match, "
                f"got {tuple(emissions.shape[:2])} and {tuple(tags.shape)}"
            )
        labels = rows_of_any("CRF", tags.unsqueeze(2), batch_first=self.batch_first, mask=mask).values.squeeze(1)
        self._check_labels(labels, rows.offsets)
        likelihoods = self._log_likelihoods(rows.values, rows.offsets, labels.long())
        if reduction == "none":
            return likelihoods
        if reduction == "mean":
            return likelihoods.mean()
        return likelihoods.sum() if reduction == "sum" else likelihoods.sum() / len(labels)

    @outside_graphs
    def decode(self, emissions: Tensor, mask: Tensor | None = None) -> list[list[int]]:
        """The likeliest tags of each sequence as a whole, by Viterbi's algorithm.

        Args:
            emissions: (steps, sequences, num_tags) scores, or (sequences, steps, num_tags) if `batch_first`.
            mask: (steps, sequences), or (sequences, steps), on for the first steps of each sequence; all if left out.

        Returns:
            For each sequence its tags, one for each real step.

        Raises:
            ValueError: shapes contradict each other, or a sequence has no step or a mask with gaps.
        """
        rows = self._rows(emissions, mask)
        found = self._paths(rows.values.detach(), rows.offsets)
        return [part.tolist() for part in np.split(found, rows.offsets[1:-1])]

    @outside_graphs
    def marginals(self, emissions: Tensor, mask: Tensor | None = None) -> Tensor:
        """The probability of each tag at each step, given the whole sequence; pytorch-crf has no such method.

        Args:
            emissions: (steps, sequences, num_tags) scores, or (sequences, steps, num_tags) if `batch_first`.
            mask: (steps, sequences), or (sequences, steps), on for the first steps of each sequence; all if left out.

        Returns:
            The shape of the emissions; zeros where there is no step.

        Raises:
            ValueError: shapes contradict each other, or a sequence has no step or a mask with gaps.
        """
        rows = self._rows(emissions, mask)
        found: Tensor = rows.shaped_like_input(self.marginals_of_rows(rows.values, rows.offsets))
        return found

    # --- Of sequences one after the other: (total_steps, num_tags), and where each begins -----------------------------

    def marginals_of_rows(self, scores: Tensor, offsets: IndexArray) -> Tensor:
        """(total_steps, num_tags) probabilities, from scores of sequences that begin at `offsets`."""
        differentiable = torch.is_grad_enabled() and any(each.requires_grad for each in (scores, *self._weights()))
        if not differentiable and self._on_engine(scores):
            return torch.from_numpy(self._own_engine().decode(*self._weights(), scores, offsets)[0])
        return chain.marginals(self._pytorch_weights(offsets), scores, offsets)

    def _rows(self, emissions: Tensor, mask: Tensor | None) -> Rows:
        """The real steps.

        Raises:
            ValueError: see `forward`; pytorch-crf's messages where it has one.
        """
        if emissions.dim() != 3:
            raise ValueError(f"emissions must have dimension of 3, got {emissions.dim()}")
        if emissions.size(2) != self.num_tags:
            raise ValueError(f"expected last dimension of emissions is {self.num_tags}, got {emissions.size(2)}")
        if mask is not None:
            if mask.shape != emissions.shape[:2]:
                raise ValueError(
                    "the first two dimensions of emissions and mask must match, "
                    f"got {tuple(emissions.shape[:2])} and {tuple(mask.shape)}"
                )
            if not (mask[:, 0] if self.batch_first else mask[0]).all():
                raise ValueError("mask of the first timestep must all be on")
        rows: Rows = rows_of_any("CRF", emissions, batch_first=self.batch_first, mask=mask, prefix=True)
        return rows

    def _check_labels(self, labels: Tensor, offsets: IndexArray) -> None:
        if labels.is_floating_point() or labels.is_complex():
            raise ValueError(f"CRF: tags must be whole numbers, not {labels.dtype}")
        array = to_numpy(labels)
        wrong = (array < 0) | (array >= self.num_tags)
        at, what = int(wrong.argmax()), f"the tags are 0 to {self.num_tags - 1}"
        if not wrong.any() and self.forbidden is not None:
            table, count = self.forbidden.cpu().numpy(), self.num_tags
            before = np.concatenate([[count], array[:-1]])
            before[offsets[:-1]] = count
            wrong = table[before, array]
            wrong[offsets[1:] - 1] |= table[count + 1, array[offsets[1:] - 1]]
            at, what = int(wrong.argmax()), "a transition from, to or at the end of it is forbidden"
        if wrong.any():
            sequence = int(np.searchsorted(offsets, at, side="right")) - 1
            step = at - int(offsets[sequence])
            raise ValueError(f"CRF: tag {int(array[at])} at step {step} of sequence {sequence}: {what}")

    def _log_likelihoods(self, scores: Tensor, offsets: IndexArray, labels: Tensor) -> Tensor:
        if not self._on_engine(scores):
            return chain.log_likelihoods(self._pytorch_weights(offsets), scores, offsets, labels)
        found: Tensor = _Likelihood.apply(self, offsets, labels, scores, *self._weights())
        return found

    def _paths(self, scores: Tensor, offsets: IndexArray) -> npt.NDArray[np.integer]:
        """(total_steps,) labels."""
        if self._on_engine(scores):
            return self._own_engine().decode(*self._weights(), scores, offsets)[1]
        with torch.no_grad():
            found: npt.NDArray[np.integer] = chain.paths(self._pytorch_weights(offsets), scores, offsets).cpu().numpy()
        return found

    def _weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """As the engine has them."""
        return self.transitions, self.start_transitions, self.end_transitions

    def _pytorch_weights(self, offsets: IndexArray) -> chain.Weights:
        if self.forbidden is not None:
            chain.check_possible(self.forbidden.cpu().numpy(), offsets)
        return chain.Weights.of(*self._weights(), self.forbidden)

    def _on_engine(self, scores: Tensor) -> bool:
        return engine_takes(scores, *self._weights()) and bool(scores.isfinite().all())

    def _own_engine(self) -> _Engine:
        forbidden = None if self.forbidden is None else self.forbidden.cpu().numpy()
        if self._engine is None or not self._engine.fits(self.num_tags, forbidden):
            self._engine = _Engine(self.num_tags, forbidden)
        return self._engine


class _Engine:
    """A network of the engine that is a CRF alone. Each call gives it its weights first."""

    def __init__(self, labels: int, forbidden: npt.NDArray[np.bool_] | None) -> None:
        self.labels, self.forbidden = labels, forbidden
        self.network = Network([plans.crf(0, labels, forbidden)], labels)
        self._lock = Lock()

    def fits(self, labels: int, forbidden: npt.NDArray[np.bool_] | None) -> bool:
        return self.labels == labels and np.array_equal(self.forbidden, forbidden)  # type: ignore[arg-type]

    def _write(self, weights: tuple[Tensor, ...]) -> None:
        self.network.write(np.concatenate([array_of(each).ravel() for each in weights]))

    def log_likelihoods(
        self, weights: tuple[Tensor, ...], scores: Tensor, offsets: IndexArray, labels: Tensor
    ) -> tuple[npt.NDArray[np.float64], FloatArray]:
        """Of each sequence, and the probabilities of labels."""
        probabilities = np.empty(tuple(scores.shape), np.float32)
        with self._lock:
            self._write(weights)
            data, targets = Ragged._checked(array_of(scores), offsets), Targets(labels=labels.numpy())
            return self.network.log_likelihoods(data, targets, output=probabilities), probabilities

    def decode(self, *given: Any) -> tuple[FloatArray, npt.NDArray[np.integer]]:
        """Probabilities of labels, and the likeliest labels of sequences."""
        *weights, scores, offsets = given
        with self._lock:
            self._write(tuple(weights))
            probabilities, found = self.network.decode(Ragged._checked(array_of(scores), offsets))
        return probabilities, found.labels[0]

    def gradients(
        self, weights: tuple[Tensor, ...], scores: Tensor, offsets: IndexArray, labels: Tensor, by_sequence: FloatArray
    ) -> list[Tensor]:
        """Of the weights, for the gradient of the loss by each sequence's likelihood."""
        data, lengths = Ragged._checked(array_of(scores), offsets), np.diff(offsets)
        flat = np.zeros(self.network.parameter_count, np.float32)
        with self._lock:
            self._write(weights)
            for sign in (-1, 1):  # the engine takes weights of sequences from 0 on
                shares = np.maximum(sign * by_sequence, 0)
                if not np.isfinite(shares).all():
                    flat[:] = np.nan
                elif shares.any():
                    targets = Targets(labels=labels.numpy(), weights=np.repeat(shares, lengths))
                    self.network.gradient(data, targets, "crf_likelihood")
                    # Its loss is minus the likelihood, and a mean over steps.
                    flat -= self.network.read("gradients") * np.float32(sign * len(labels))
        parts = torch.from_numpy(flat).split([each.numel() for each in weights])
        return [part.view(each.shape) for part, each in zip(parts, weights, strict=True)]


class _Likelihood(torch.autograd.Function):
    """The logarithms of the probabilities of sequences' labels, from scores and weights, on the engine."""

    @staticmethod
    def forward(ctx: Any, crf: CRF, offsets: IndexArray, labels: Tensor, scores: Tensor, *weights: Tensor) -> Tensor:
        ctx.engine = crf._own_engine()
        found, probabilities = ctx.engine.log_likelihoods(weights, scores, offsets, labels)
        ctx.forbidden, ctx.offsets = crf.forbidden, offsets
        ctx.save_for_backward(labels, torch.from_numpy(probabilities), scores, *weights)
        return torch.from_numpy(found).float()

    @staticmethod
    def backward(ctx: Any, by_sequence: Tensor) -> tuple[Tensor | None, ...]:
        labels, probabilities, scores, *weights = ctx.saved_tensors
        if torch.is_grad_enabled():  # of the gradient, too
            transitions, start, end = weights
            own = chain.Weights.of(transitions, start, end, ctx.forbidden)
            likelihoods = chain.log_likelihoods(own, scores, ctx.offsets, labels)
            inputs = [tensor for tensor in (scores, *weights) if tensor.requires_grad]
            found = iter(torch.autograd.grad(likelihoods, inputs, by_sequence, create_graph=True))
            return None, None, None, *(next(found) if each.requires_grad else None for each in (scores, *weights))
        by_sequence = by_sequence.contiguous()
        of_scores = None
        if ctx.needs_input_grad[3]:
            lengths = torch.from_numpy(np.diff(ctx.offsets))
            of_scores = -probabilities
            of_scores[torch.arange(len(labels)), labels] += 1
            of_scores *= by_sequence.repeat_interleave(lengths).unsqueeze(1)
        of_weights: list[Tensor | None] = [None] * len(weights)
        if any(ctx.needs_input_grad[4:]):
            given = tuple(weights), scores, ctx.offsets, labels, by_sequence.numpy()
            of_weights = [*ctx.engine.gradients(*given)]
        return None, None, None, of_scores, *of_weights
