"""One label for each time step or sequence."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from bilstm.data import scratch
from bilstm.data.dataset import Truth
from bilstm.data.features import Lookup, whole_number
from bilstm.data.fields import Fields
from bilstm.data.frames import read_cells
from bilstm.data.readingoptions import MISSING_LABELS
from bilstm.data.table import Table
from bilstm.engine.plans import Targets
from bilstm.errors import UserError, counted, listed, shown, suggestion
from bilstm.metrics.schemes import SCHEMES, detect_scheme, follows_scheme
from bilstm.ragged import IndexArray
from bilstm.tasks.base import Head, Task
from bilstm.tasks.classweights import row_weights
from bilstm.tasks.learnedtags import LearnedTags, tells_all
from bilstm.tasks.outputs import Outputs

if TYPE_CHECKING:
    from bilstm.metrics.classes import ClassScores

MOST_CLASSES = 10_000
_TYPES = {"text": str, "integer": int, "boolean": bool}


def label_text(text: str | None, missing: frozenset[str] = MISSING_LABELS) -> str | None:
    """A label without blanks around it, None where a cell holds no label, but one of those that mean a missing one."""
    text = "" if text is None else text.strip()
    return None if text in missing else text


def possible_labels(text: str | None, missing: frozenset[str], separator: str | None) -> list[str]:
    """The labels that a cell names, each once, of which one is right; none where it is a missing value."""
    label = label_text(text, missing)
    if label is None or separator is None:
        return [] if label is None else [label]
    parts = (label_text(part, missing) for part in label.split(separator))
    return list(dict.fromkeys(part for part in parts if part is not None))


def _are_numbers(texts: Iterable[str]) -> bool:
    """Whether all labels are whole numbers."""
    return all(re.fullmatch(r"-?[0-9]{1,18}([.]0+)?", text) for text in texts)


@dataclasses.dataclass(frozen=True)
class LabelTask(Task):
    """One label for each time step or sequence, learned by cross-entropy or, for steps, by the likelihood of a `CRF`.

    Truth is (rows,) int32: the index of the label, -1 where unlabelled; labels that the model has never seen come
    after its classes.

    Attributes:
        classes: the labels as text, sorted; as numbers if all are whole numbers.
        type: what the labels are in Python: "text", "integer" or "boolean".
        output: "softmax", or "crf" or "constrained" where the labels of a sequence are predicted together.
        scheme: the scheme of the labels, one of `bilstm.metrics.schemes.SCHEMES`, whose forbidden transitions are never
            predicted then; None: all transitions are possible.
        train_scheme: the scheme of the tags that the network learns instead of the labels; None: it learns these.
        separator: what is between labels in cells that name several, of which one is right, such as `A|B`. Only a CRF
            learns from these; as an answer to compare with they are unlabelled. None: each cell is one label.
    """

    what: ClassVar[str] = "label"
    classes: tuple[str, ...] = ()
    type: str = "text"
    output: str = "softmax"
    scheme: str | None = None
    train_scheme: str | None = None
    separator: str | None = None

    @classmethod
    def named(cls, column: str, labels: Sequence[str]) -> Self:
        """The task of predicting one of these labels for each time step, in a column that need not exist."""
        texts = list(labels)
        if {text.lower() for text in texts} == {"false", "true"}:
            return cls((column,), False, ("false", "true"), "boolean")
        numbers = _are_numbers(texts)
        classes = sorted({whole_number(text) for text in texts}, key=int) if numbers else sorted(texts)
        return cls((column,), False, tuple(classes), "integer" if numbers else "text")

    @classmethod
    def find(
        cls,
        table: Table,
        column: str,
        per_sequence: bool,
        classes: Iterable[Any] | None = None,
        separator: str | None = None,
    ) -> Self:
        """The task of predicting a column's labels.

        Args:
            classes: all labels that there are; None: those of the column.
            separator: what is between labels in cells that name several; None: each cell is one label.

        Raises:
            UserError: there are fewer than two, or so many that they are not classes.
        """
        kind, typed = table.kinds[column], table.format in ("memory", "parquet", "ndjson")
        if classes is None:
            everywhere = np.ones(table.rows, np.bool_)
            cells: Iterable[str | None] = (text for text, _ in table.counts(column, everywhere))
        else:
            known = read_cells(list(classes))
            kind, typed, cells = known.kind, True, known.texts()
        missing = table.missing_labels
        texts = list(dict.fromkeys(text for cell in cells for text in possible_labels(cell, missing, separator)))
        if not typed and {text.lower() for text in texts} == {"false", "true"}:
            kind, texts = "boolean", ["false", "true"]
        numbers = _are_numbers(texts)
        if numbers:
            texts = sorted({whole_number(text) for text in texts}, key=int)
        if len(texts) < 2:
            problem = f"one class, {shown(texts[0])}" if texts else "no label"
            raise UserError(
                f"{table.label} has {problem} in column {column!r}: labels of at least two classes are needed to learn "
                f"the difference"
            )
        if len(texts) > MOST_CLASSES:
            raise UserError(
                f"{table.label} has {len(texts):,} different labels in column {column!r}, more than {MOST_CLASSES:,}; "
                f"is it the column that you mean? Numbers can be predicted as quantities"
            )
        strings = kind == "text" and typed
        type_ = "boolean" if kind == "boolean" else "integer" if numbers and not strings else "text"
        classes = tuple(texts if numbers else sorted(texts))
        return cls((column,), per_sequence, classes, type_, separator=separator)

    @property
    def outputs(self) -> int:
        return len(self.classes)

    @cached_property
    def labels(self) -> npt.NDArray[Any]:
        """(n_classes,) the classes as strings, int64 or booleans."""
        if self.type == "boolean":
            return np.array([name == "true" for name in self.classes])
        return np.array(self.classes, np.int64 if self.type == "integer" else np.str_)

    @cached_property
    def learned_tags(self) -> LearnedTags | None:
        """What the network learns instead of the labels, if it does."""
        if self.train_scheme is None:
            return None
        assert self.scheme is not None
        return LearnedTags(self.classes, self.scheme, self.train_scheme)

    @property
    def learned(self) -> tuple[str, ...]:
        """The labels that the network has outputs for."""
        return self.learned_tags.names if self.learned_tags else self.classes

    @cached_property
    def spans(self) -> bool:
        """Whether the labels mark spans: tags such as B-X, I-X and O."""
        return not self.per_sequence and detect_scheme(self.classes) is not None

    def read(self, table: Table, *, most_unseen: float = 0.0) -> tuple[Truth, dict[str, int]]:
        (name,) = self.columns
        codes: npt.NDArray[np.int32] = scratch.empty(table.rows, np.int32)
        known = _Codes(self.classes, table.missing_labels, ignore_case=self.type == "boolean", separator=self.separator)
        counts, rows = np.zeros(0, np.int64), dict[str, int]()
        for start, stop in table.blocks():
            texts = table.texts(name, start, stop)
            codes[start:stop] = own = np.fromiter(map(known.__getitem__, texts), np.int32, stop - start)
            for index in np.flatnonzero(own >= len(self.classes) + len(rows)).tolist():  # the first of each
                rows.setdefault(str(label_text(texts[index], table.missing_labels)), start + index)
            own_counts = np.bincount(own + 1, minlength=len(known.unseen) + len(self.classes) + 1)
            counts = np.pad(counts, (0, len(own_counts) - len(counts))) + own_counts
        unseen = dict(zip(known.unseen, counts[len(self.classes) + 1 :].tolist(), strict=True))
        self._check_unseen(table, unseen, rows, most_unseen * counts[1:].sum(), most_unseen < 1)
        return codes, unseen

    def _check_unseen(
        self, table: Table, unseen: dict[str, int], rows: dict[str, int], allowed: float, limited: bool
    ) -> None:
        """Refuse unknown labels: where they are too many, or have another form than the classes."""
        wrong = list(unseen) if sum(unseen.values()) > allowed else []
        if not wrong and limited and detect_scheme(self.classes) is not None:
            wrong = [text for text in unseen if detect_scheme((*self.classes, text)) is None]
        if wrong:
            raise UserError(
                f"{table.place(rows[wrong[0]])}: the label {shown(wrong[0])} is unknown to the model: it is none of "
                f"the classes {listed(self.classes)}"
            )

    def labelled(self, truth: Truth) -> npt.NDArray[np.bool_]:
        return np.asarray(truth >= 0)

    def head(self, class_weight: Any = None) -> Head:
        # By accuracy, an epoch that forgets the rare classes could be the best.
        metrics = ("accuracy",) if class_weight is None else ()
        loss = "crf_likelihood" if self.output == "crf" else "sparse_categorical_crossentropy"
        return Head(len(self.learned), loss, metrics)

    def with_output(self, output: str, scheme: str | None = None, train_scheme: str | None = None) -> Self:
        return dataclasses.replace(self, output=output, scheme=scheme, train_scheme=train_scheme)

    @property
    def plain(self) -> bool:
        return self.output != "constrained" and self.train_scheme is None

    def restored(self, outputs: Outputs, offsets: IndexArray) -> Outputs:
        return self.learned_tags.restore(outputs, offsets) if self.learned_tags else outputs

    def targets(self, truth: Truth, class_weight: Any, counted: Truth) -> Targets:
        known = np.where(truth < len(self.classes), truth, np.int32(-1)).astype(np.int32)
        names = self.labels
        if isinstance(class_weight, dict) and any(isinstance(name, str) for name in class_weight):
            names = np.array(self.classes)
        return Targets(labels=known, weights=row_weights(class_weight, names, known, counted))

    def predicted(self, outputs: Outputs) -> npt.NDArray[Any]:
        labels: npt.NDArray[Any] = self.labels[outputs.labels]
        return labels

    def scorer(
        self, labelled: npt.NDArray[np.bool_], groups: IndexArray | None, unseen: Sequence[str] = ()
    ) -> ClassScores:
        from bilstm.metrics.classes import ClassScores

        classes = len(self.classes) + len(unseen)
        return ClassScores(labelled, classes, groups=groups, per_sequence=self.per_sequence)

    def add_scores(
        self, scorer: Any, truth: Truth, outputs: Outputs, offsets: IndexArray, unseen: Sequence[str] = ()
    ) -> None:
        # A label that the model has never seen has no probability.
        values = np.pad(outputs.values, ((0, 0), (0, len(unseen)))) if unseen else outputs.values
        scorer.add(truth, values, offsets, predicted=outputs.labels)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "columns": list(self.columns),
            "classes": list(self.classes),
            "type": self.type,
            **({} if self.output == "softmax" else {"output": self.output, "scheme": self.scheme}),
            **({} if self.train_scheme is None else {"scheme": self.scheme, "train_scheme": self.train_scheme}),
            **({} if self.separator is None else {"separator": self.separator}),
        }

    @classmethod
    def from_json(cls, field: Fields, columns: tuple[str, ...], per_sequence: bool) -> Task:
        output, scheme, learned = (field.get(name) for name in ("output", "scheme", "train_scheme"))
        if output not in (None, "crf", "constrained") or (output and per_sequence):
            raise field.wrong("output")
        if scheme is not None and (scheme not in SCHEMES or not (output or learned)):
            raise field.wrong("scheme")
        classes, type_ = field.distinct_texts("classes"), field.text("type")
        if learned is not None and (
            per_sequence
            or scheme is None
            or learned not in SCHEMES
            or not tells_all(learned, scheme)
            or not follows_scheme(classes, scheme)
        ):
            raise field.wrong("train_scheme")
        separator = None if field.get("separator") is None else field.text("separator")
        task = cls(columns, per_sequence, classes, type_, output or "softmax", scheme, learned, separator)
        if len(task.classes) < 2 or len(columns) != 1:
            raise field.wrong("classes")
        if task.type not in _TYPES or (task.type == "boolean" and task.classes != ("false", "true")):
            raise field.wrong("type")
        if task.type == "integer" and not all(re.fullmatch("-?[0-9]{1,18}", name) for name in task.classes):
            raise field.wrong("type")
        return task


class _Codes(dict[Any, int]):
    """Cells -> codes: -1 where there is no label or several are possible, unseen labels after the classes; each cell is
    looked up once."""

    def __init__(
        self, classes: Sequence[str], missing: frozenset[str], *, ignore_case: bool, separator: str | None
    ) -> None:
        self._lookup, self._classes, self._ignore_case = Lookup(classes), len(classes), ignore_case
        self._missing, self._separator = missing, separator
        self.unseen: dict[str, int] = {}

    def __missing__(self, cell: Any) -> int:
        labels = possible_labels(cell, self._missing, self._separator)
        text = labels[0] if len(labels) == 1 else None
        if text is not None and self._ignore_case:
            text = text.lower()
        code = -1 if text is None else self._lookup(text)
        if text is not None and code < 0:
            code = self.unseen.setdefault(text, self._classes + len(self.unseen))
        self[cell] = code
        return code


def majority(task: LabelTask, truth: Truth) -> tuple[str, float]:
    """The majority class among true answers, and its share of those that are labelled."""
    counts = np.bincount(truth[truth >= 0], minlength=len(task.classes))
    return task.classes[int(counts[: len(task.classes)].argmax())], float(counts.max() / max(1, counts.sum()))


def check_background(classes: Sequence[str], name: str | None) -> int | None:
    """The class that is not an event, by its name.

    Raises:
        UserError: no class has this name.
    """
    if name is None:
        return None
    if name not in classes:
        raise UserError(
            f"the background {shown(name)} is not one of the model's {counted(len(classes), 'label')}."
            f"{suggestion(name, classes)} They are {listed(classes)}"
        )
    return list(classes).index(name)
