"""Tags that a network learns in another scheme than that of the data, and its predictions as tags of the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bilstm.metrics.conversion import convert_labels, convert_tags, tag_names
from bilstm.metrics.labels import sequence_of_steps
from bilstm.metrics.schemes import MARKS_BEGIN, MARKS_END, parse_tag, prefix_for, role_of
from bilstm.ragged import FloatArray, IndexArray
from bilstm.tasks.outputs import Outputs

Labels = npt.NDArray[np.integer]


def tells_all(scheme: str, of: str) -> bool:
    """Whether the tags of a scheme tell, each on its own, where the spans of another scheme's tags begin or end."""
    begins = of not in (*MARKS_BEGIN, "IOB1") or scheme in MARKS_BEGIN
    return begins and (of not in (*MARKS_END, "IOE1") or scheme in MARKS_END)


class LearnedTags:
    """The tags that are learned for those of the data.

    Args:
        classes: the tags of the data.
        scheme: their scheme.
        learned: the scheme that is learned, which `tells_all` of theirs.

    Attributes:
        names: the tags that are learned, sorted: all that mark spans for which the data have tags. Where no span of a
            type has two steps, none is learned to have.
    """

    def __init__(self, classes: Sequence[str], scheme: str, learned: str) -> None:
        self._classes, self._scheme, self._learned = list(classes), scheme, learned
        tags = [parse_tag(name) for name in classes]
        assert all(tags)
        self.names = tuple(sorted({"O"} & {*classes} | self._tags({tag[1] for tag in tags if tag and tag[0] != "O"})))
        self._code = {name: code for code, name in enumerate(classes)}
        self._roles = [(role_of(tag[0]), tag[1]) for tag in map(parse_tag, self.names) if tag]

    def _tags(self, types: set[str]) -> set[str]:
        learned = set[str]()
        for type_ in types:
            known = {name for name in self._classes if name in tag_names([type_], self._scheme, outside=False)}
            spelled = [_span(type_, steps, self._scheme) for steps in (1, 2, 3)]
            fitting = [steps for steps, names in enumerate(spelled, 1) if known.issuperset(names)]
            explained = {name for steps in fitting for name in spelled[steps - 1]}
            # Tags that break the scheme are read as conlleval does, and may make any span.
            if known - explained - {name for name in known if self._separates(name)}:
                fitting = [1, 2, 3]
            learned |= {name for steps in fitting for name in _span(type_, steps, self._learned)}
        return learned

    def _separates(self, name: str) -> bool:
        """Whether the tag only tells a span from one before or after it: B of IOB1, E of IOE1."""
        tag = parse_tag(name)
        return self._scheme in ("IOB1", "IOE1") and tag is not None and tag[0] != "I"

    def learn(self, labels: Labels, offsets: IndexArray) -> npt.NDArray[np.int32]:
        """(steps,) labels of the data as numbers of `names`; -1 where unlabelled, or where an unlabelled step next to
        it leaves open which it is.
        """
        codes, names = convert_labels(labels, offsets, self._classes, self._learned, scheme=self._scheme)
        number = {name: code for code, name in enumerate(self.names)}
        return np.array([*(number.get(name, -1) for name in names), -1], np.int32)[codes]

    def restore_labels(self, labels: Labels, offsets: IndexArray) -> npt.NDArray[np.int32]:
        """(steps,) numbers of `names` as those of the tags of the data; -1, where there is none, stays -1."""
        codes, names = convert_labels(labels, offsets, self.names, self._scheme)
        return np.array([*(self._known(name) for name in names), -1], np.int32)[codes]

    def restore(self, outputs: Outputs, offsets: IndexArray) -> Outputs:
        """Outputs for `names` as outputs for the tags of the data.

        A tag's probability is the sum of those of the learned tags that mean it. In IOB1 and IOE1, where that depends
        on the step before or after, it is as predicted there.
        """
        learned = outputs.labels
        path = self.restore_labels(learned, offsets)
        values = np.zeros((len(outputs), len(self._classes)), np.float32)
        for column, (role, type_) in zip(outputs.values.T, self._roles, strict=True):
            # One addition after the other: a product of matrices may depend on the rows next to it.
            values[:, self._code_of(role, type_)] += column
        if self._scheme in ("IOB1", "IOE1"):
            self._separate(values, outputs.values, learned, offsets)
        return Outputs(np.minimum(values, 1, out=values), path)  # sums may be off by a rounding

    def _separate(self, values: FloatArray, learned: FloatArray, labels: Labels, offsets: IndexArray) -> None:
        """Give the tags that tell a span from the one next to it their probabilities, where one is predicted there."""
        mark, roles = ("B", "BS") if self._scheme == "IOB1" else ("E", "ES")
        here, there = (slice(1, None), slice(None, -1))[:: 1 if mark == "B" else -1]
        sequences = sequence_of_steps(offsets)
        types = sorted({type_ for role, type_ in self._roles if role != "O"})
        kinds = np.array([-1 if role == "O" else types.index(type_) for role, type_ in self._roles])
        neighbours = np.full(len(labels), -1)  # the type of the span that is predicted there
        neighbours[here] = np.where(sequences[1:] == sequences[:-1], kinds[labels[there]], -1)
        for kind, type_ in enumerate(types):
            code, other = self._code.get(f"{mark}-{type_}" if type_ else mark), self._code_of("I", type_)
            if code is None or code == other:  # the data have one of them only
                continue
            rows = np.flatnonzero(neighbours == kind)
            values[rows, other] = 0
            for column, (role, _) in zip(learned.T[kinds == kind], np.array(self._roles)[kinds == kind], strict=True):
                values[rows, code if role in roles else other] += column[rows]

    def _code_of(self, role: str, type_: str) -> int:
        if role == "O":
            return self._code["O"]
        prefix = "I" if self._scheme in ("IOB1", "IOE1") else prefix_for(self._scheme, role)
        return self._known(f"{prefix}-{type_}" if type_ else prefix)

    def _known(self, name: str) -> int:
        """The number of a tag of the data; of one that they do not have, that of another of its type."""
        if name in self._code:
            return self._code[name]
        tag = parse_tag(name)
        assert tag is not None
        return next(
            code for other, code in self._code.items() if other != "O" and (parse_tag(other) or "?")[1] == tag[1]
        )


def _span(type_: str, steps: int, scheme: str) -> list[str]:
    """The tags of a span on its own."""
    first, more = (f"B-{type_}", f"I-{type_}") if type_ else ("B", "I")
    return convert_tags([[first, *[more] * (steps - 1)]], scheme)[0]
