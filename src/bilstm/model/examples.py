"""Examples that a model file keeps: a few sequences of the validation set, to try the model on."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from bilstm.data.schema import Schema
from bilstm.data.table import Table
from bilstm.data.tokens import split
from bilstm.errors import UserError
from bilstm.ragged import IndexArray
from bilstm.tasks import LabelTask, QuantityTask

if TYPE_CHECKING:
    from bilstm.model.prepare import Prepared

MOST = 5  # examples
_BYTES = 12_000  # of each, as JSON
_LOOKED_AT = 500  # sequences
_FEWEST_STEPS = 8  # of a sequence that is cut


@dataclasses.dataclass(frozen=True)
class Example:
    """A sequence of the validation set, or its beginning.

    Attributes:
        cells: feature -> its raw cells, numbers or texts, one for each step; None where one is missing.
        truth: target -> its true values, one for each step, or one where the sequence has one answer; None where one is
            missing. Empty where the true answers are not known.
        steps: the steps of the whole sequence.
    """

    cells: dict[str, list[Any]]
    truth: dict[str, Any]
    steps: int

    def __len__(self) -> int:
        return len(next(iter(self.cells.values())))

    @property
    def whole(self) -> bool:
        """Whether these are all steps of the sequence."""
        return len(self) == self.steps

    def text(self, schema: Schema) -> str | None:
        """The text of a model of words or characters, in which it finds the steps; None if there is none."""
        try:
            column, rule = schema.token_column(), schema.text.tokens if schema.text else schema.token_rule
        except UserError:
            return None
        tokens = ["" if token is None else str(token) for token in self.cells[column]]
        glue = "" if rule == "characters" else " "
        plain = glue.join(tokens)
        written = re.sub(r"(?<=[([{]) | (?=[])}.,;:!?])", "", plain) if glue else plain
        return next((text for text in (written, plain) if split(text, rule) == tokens), None)


def find_examples(prepared: Prepared) -> list[dict[str, Any]]:
    """Choose sequences of the validation set that are not longer than most, and together have many of the labels.

    Which these are is a function of the data. Of sequences that are too long only the beginning is kept; where they
    have one answer, none of these.

    Returns:
        What `read_examples` takes: plain data, of 64 kB at most as JSON.
    """
    data = prepared.validation
    if data is None:
        return []
    lengths, offsets = data.values.lengths, data.row_offsets
    short = lengths <= np.sort(lengths)[(len(data) - 1) // 2]  # of longer ones, each would have most of the labels
    candidates = np.arange(len(data)) if data.per_sequence else np.flatnonzero(short)
    left = candidates[:: -(-len(candidates) // _LOOKED_AT)].tolist()
    answers = {i: _answers(data.known[offsets[i] : offsets[i + 1]]) for i in left}
    seen, found = set[Any](), list[dict[str, Any]]()
    while left and len(found) < MOST:
        best = max(left, key=lambda i: (len(answers[i] - seen), short[i], -i))
        left.remove(best)
        example = _described(prepared, best)
        if example is not None:
            found.append(example)
            seen |= answers[best]
    return found


def _answers(truth: Any) -> set[Any]:
    """Those of a sequence: of quantities, which are all different, none."""
    if truth.ndim == 1:
        return {*truth.tolist()} - {-1}
    known = truth[~np.isnan(truth).any(axis=1)]
    return {*map(tuple, known.tolist())} if ((known == 0) | (known == 1)).all() else set()


def _described(prepared: Prepared, index: int) -> dict[str, Any] | None:
    """A sequence of the validation set; None if it is too large."""
    data, task = prepared.validation, prepared.task
    assert data is not None
    table = prepared.table if prepared.valid_table is None else prepared.valid_table
    start, stop = data.values.offsets[index : index + 2].tolist()
    kept = min(stop - start, _BYTES)
    truth = {} if prepared.validated_by_targets else _truth(prepared, index)
    cells: dict[str, list[Any]] = {}
    while True:
        rows = data.rows[start : start + kept]
        cells = {name: each[:kept] for name, each in cells.items()} or _cells(prepared.schema, table, rows)
        answers = truth if task.per_sequence else {name: values[:kept] for name, values in truth.items()}
        example = {"steps": stop - start, "cells": cells, "truth": answers}
        size = len(json.dumps(example))
        if size <= _BYTES:
            break
        kept = min(kept - 1, kept * _BYTES // size)
        if task.per_sequence or kept < _FEWEST_STEPS:
            return None
    return None if task.per_sequence and kept < stop - start else example


def _cells(schema: Schema, table: Table, rows: IndexArray) -> dict[str, list[Any]]:
    """The raw cells of each feature."""
    cells: dict[str, list[Any]] = {}
    for column in schema.columns:
        if column.name in cells:
            continue
        if column in schema.numeric:
            numbers = table.numbers_at(column.name, rows).astype(np.float64).tolist()
            cells[column.name] = [None if math.isnan(number) else number for number in numbers]
        else:
            cells[column.name] = [text or None for text in table.values(column.name, rows)]
    return {name: cells[name] for name in schema.features}


def _truth(prepared: Prepared, index: int) -> dict[str, Any]:
    data, task = prepared.validation, prepared.task
    assert data is not None
    known = data.known[data.row_offsets[index] : data.row_offsets[index + 1]]
    if isinstance(task, LabelTask):
        columns = [[None if code < 0 else task.classes[code] for code in known.tolist()]]
    else:
        plain = float if isinstance(task, QuantityTask) else int
        columns = [[None if math.isnan(cell) else plain(cell) for cell in column] for column in known.T.tolist()]
    return {name: c[0] if task.per_sequence else c for name, c in zip(task.columns, columns, strict=True)}


def read_examples(record: dict[str, Any]) -> list[Example]:
    """The examples that the record of a training has."""
    return [Example(each["cells"], each["truth"], each["steps"]) for each in record.get("examples", [])]


def are_examples(record: Any, features: list[str], targets: tuple[str, ...]) -> bool:
    """Whether it is what `find_examples` returns, from an untrusted file."""
    return record is None or (isinstance(record, list) and all(_is_example(each, features, targets) for each in record))


def _is_example(record: Any, features: list[str], targets: tuple[str, ...]) -> bool:
    if not isinstance(record, dict) or type(record.get("steps")) is not int:
        return False
    cells, truth = record.get("cells"), record.get("truth")
    if not isinstance(cells, dict) or not isinstance(truth, dict) or not cells:
        return False
    lists = [*cells.values(), *(each for each in truth.values() if isinstance(each, list))]
    if not all(isinstance(each, list) for each in lists) or len({len(each) for each in lists}) != 1:
        return False
    plain = (str, int, float, bool, type(None))
    values = [*(cell for each in lists for cell in each), *(v for v in truth.values() if not isinstance(v, list))]
    return set(cells) == set(features) and set(truth) <= set(targets) and all(type(v) in plain for v in values)
