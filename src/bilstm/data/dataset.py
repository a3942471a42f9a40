"""Sequences as a model takes them: encoded features, the true answers, and where each step stands in its table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.data.table import cut
from bilstm.errors import counted, listed
from bilstm.ragged import IndexArray, Ragged, offsets_of, steps_of

Truth = npt.NDArray[Any]
FAR = 3.0  # standard deviations from the training mean, on average: then a column is probably in other units


@dataclasses.dataclass
class Observations:
    """What was noticed while steps were encoded.

    Attributes:
        steps: how many steps there were.
        missing: how many values of a numeric feature are missing, by its name.
        unexpected: the features among these that had no missing value in training.
        unknown: how many values of a categorical feature are not in its vocabulary, by its name.
        distances: the sum of the distances of a numeric feature's values from the training mean, in standard
            deviations, by name.
    """

    steps: int = 0
    missing: dict[str, int] = dataclasses.field(default_factory=dict)
    unexpected: list[str] = dataclasses.field(default_factory=list)
    unknown: dict[str, int] = dataclasses.field(default_factory=dict)
    distances: dict[str, float] = dataclasses.field(default_factory=dict)

    def add(self, other: Observations) -> None:
        """Count what was noticed in further steps, too."""
        self.steps += other.steps
        for field in ("missing", "unknown", "distances"):
            mine = getattr(self, field)
            mine.update({name: mine.get(name, 0) + count for name, count in getattr(other, field).items()})
        self.unexpected += [name for name in other.unexpected if name not in self.unexpected]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about the data, one sentence each."""
        expected = (
            f"{name}: {counted(count, 'missing value')}, imputed with the mean of the training rows"
            for name, count in self.missing.items()
            if count and name not in self.unexpected
        )
        return (*expected, *self.surprises.values())

    @property
    def surprises(self) -> dict[tuple[str, str], str]:
        """What training data had nothing of, one sentence for each kind and feature."""
        found = {}
        for name in self.unexpected:
            missing = counted(self.missing[name], "missing value")
            found["missing", name] = f"{name}: {missing}, imputed with the mean of the training rows; training had none"
        for name, count in self.unknown.items():
            if count:
                share = f"{count / max(1, self.steps):.1%}".replace("%", " %")
                found["unknown", name] = (
                    f"{name}: {counted(count, 'value')} of {self.steps:,} ({share}) unknown to the model"
                )
        for name, total in self.distances.items():
            distance = total / max(1, self.steps - self.missing[name])
            if distance <= FAR:
                continue
            found["far", name] = (
                f"{name}: values lie {distance:.1f} standard deviations from the training mean on average; are the "
                f"units the same as in training?"
            )
        return found


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Encoded sequences.

    Attributes:
        values: the features of every step: numbers, standardised, each followed by a 0/1 column that flags missing
            values if training had any; then one column of vocabulary indices for each categorical column; then, if
            characters are read, one of indices of the texts that are in `values.words`.
        rows: (total_steps,) int64, the row of the table that each step is, counted from 0.
        truth: the true answers, a row for each step or each sequence, as `Task.read` gives them; None if not read.
        per_sequence: whether `truth` has a row for each sequence.
        groups: (n_sequences,) int64 codes of what belongs together, or None.
        observations: what was noticed while encoding.
        unseen: how many rows have a label that the model has never seen, by that label; they are classes of their own,
            after the model's.
        left_out: how many rows with such labels were made unlabelled.
        blocks: whether the sequences are blocks of time, cut from longer ones.
        remarks: how the true answers were read, one sentence each.
    """

    values: Ragged
    rows: IndexArray
    truth: Truth | None = None
    per_sequence: bool = False
    groups: IndexArray | None = None
    observations: Observations = dataclasses.field(default_factory=Observations)
    unseen: Mapping[str, int] = dataclasses.field(default_factory=dict)
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    blocks: bool = False
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def row_offsets(self) -> IndexArray:
        """(n_sequences + 1,) where the rows of `truth` of each sequence begin and end."""
        return np.arange(len(self) + 1) if self.per_sequence else self.values.offsets

    @property
    def known(self) -> Truth:
        """The true answers, where they have been read."""
        assert self.truth is not None
        return self.truth

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about the data, one sentence each."""
        found = self.observations.notes
        what = "sequence" if self.per_sequence else "step"
        for labels, fate in ((self.unseen, "counted as wrong"), (self.left_out, "left out")):
            if labels:
                rows = counted(sum(labels.values()), what)
                found = (*found, f"{rows} with a label that is unknown to the model ({listed(labels)}), {fate}")
        return (*found, *self.remarks)

    def take(self, chosen: npt.ArrayLike) -> Dataset:
        """The chosen sequences, by their indices; without observations, see `Schema.observed`."""
        indices = np.asarray(chosen, np.int64)
        steps = steps_of(self.values.offsets, indices)
        truth = self.truth if self.truth is None else self.truth[indices if self.per_sequence else steps]
        groups = None if self.groups is None else self.groups[indices]
        return dataclasses.replace(
            self,
            values=self.values[indices],
            rows=self.rows[steps],
            truth=truth,
            groups=groups,
            observations=Observations(),
        )

    def without_words(self) -> Dataset:
        """The sequences as a network takes them that reads no characters."""
        values = self.values
        return (
            self
            if values.words is None
            else dataclasses.replace(self, values=values.with_values(values.values[:, :-1]))
        )

    def cut(self, starts: IndexArray, stops: IndexArray) -> Dataset:
        """Blocks of time: the steps from each start up to its stop, counted through all sequences; without true
        answers, groups and observations."""
        values = Ragged(cut(self.values.values, starts, stops), offsets_of(stops - starts), self.values.words)
        return Dataset(values, cut(self.rows, starts, stops), blocks=True)

    def part(self, sequences: slice) -> Dataset:
        """The sequences from one index up to another, without a copy of their steps; without observations as well."""
        offsets = self.values.offsets[sequences.start : sequences.stop + 1]
        steps = slice(int(offsets[0]), int(offsets[-1]))
        truth = self.truth if self.truth is None else self.truth[sequences if self.per_sequence else steps]
        return dataclasses.replace(
            self,
            values=self.values.take_steps(steps, offsets - offsets[0]),
            rows=self.rows[steps],
            truth=truth,
            groups=None if self.groups is None else self.groups[sequences],
            observations=Observations(),
        )
