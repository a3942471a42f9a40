"""What people ask in JSON -> sequences as a model takes them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import orjson

from bilstm.data.dataset import Dataset
from bilstm.data.jsontext import json_constant
from bilstm.errors import UserError, counted, listed, shown, suggestion
from bilstm.model import TrainedModel
from bilstm.model.lines import Line, LineReader, order_columns
from bilstm.model.linetables import read_lines
from bilstm.model.predictions import PredictionOptions
from bilstm.serving.refusals import Refusal, too_large
from bilstm.serving.texts import starts_of, text_column

FORMS = ("text", "columns", "rows", "sequences")
OPTIONS: dict[str, type] = {
    "probabilities": bool,
    "top": int,
    "events": bool,
    "background": str,
    "paths": int,
    "baseline": bool,
}
SOURCE = "the request"


@dataclasses.dataclass(frozen=True)
class Tokens:
    """The steps of a text.

    Attributes:
        text: the text.
        steps: its words or characters.
        starts: where each begins, in characters from 0.
    """

    text: str
    steps: list[str]
    starts: list[int]


@dataclasses.dataclass(frozen=True)
class Question:
    """Sequences, and what is asked of them.

    Attributes:
        data: the encoded sequences.
        options: what predictions consist of.
        events: whether runs of equal labels are asked for besides.
        baseline: whether what the model without recurrence predicts is asked for besides.
        tokens: for each sequence that was given as a text its steps, for others None.
        keys: for each sequence the identifier that its rows have, or None.
    """

    data: Dataset
    options: PredictionOptions
    events: bool
    baseline: bool
    tokens: list[Tokens | None]
    keys: list[Any]


def parse_json(body: bytes) -> Any:
    """What a body of JSON holds; NaN, as Python and NumPy write it, is a missing value.

    Raises:
        Refusal: it is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        problem = str(error)
    if b"NaN" in body:
        try:
            return json.loads(body, parse_constant=json_constant)
        except (ValueError, RecursionError) as error:
            problem = str(error)
    raise Refusal(400, f"the body is not JSON: {problem}")


def read_question(model: TrainedModel, asked: Any, most_steps: int) -> Question:
    """Understand what is asked, and encode it.

    Args:
        asked: an object with one of `FORMS`, and perhaps `OPTIONS`.
        most_steps: how many time steps there may be.

    Raises:
        UserError: it is not such an object, or a cell is not what the model expects; the message says where.
        Refusal: there are too many steps.
    """
    if not isinstance(asked, dict):
        raise UserError(f"the body is not a JSON object such as {example_of(model)}")
    for name in asked:
        if name not in FORMS and name not in OPTIONS:
            raise UserError(
                f"{shown(name)} is none of {listed([*FORMS, *OPTIONS])}.{suggestion(name, [*FORMS, *OPTIONS])}"
            )
    forms = [name for name in FORMS if name in asked]
    if len(forms) != 1:
        problem = f"{' and '.join(forms)} are both there" if forms else "there is no sequence"
        raise UserError(f"{problem}: give one of {', '.join(FORMS)}, as in {example_of(model)}")
    options = _options(model, asked)
    given = asked[forms[0]]
    sequences, keys = _divided(model, forms[0], given)
    lines, tokens, steps = [], list[Tokens | None](), 0
    reader = LineReader(model, SOURCE, ordered=False)
    for number, sequence in enumerate(sequences, 1):
        name = f"sequence {number}" if len(sequences) > 1 else "the sequence"
        cells, own = _cells(model, name, sequence)
        line = Line(number, name, cells=cells)
        reader.check(line)
        if line.empty or (own and not own.steps):
            raise UserError(f"{name} has no steps")
        lines.append(line)
        tokens.append(own)
        steps += (
            len(own.steps) if own else max((len(cell) for cell in cells.values() if isinstance(cell, list)), default=1)
        )
        if steps > most_steps:
            raise too_large(f"the request has more than {counted(most_steps, 'time step')}: send fewer at a time")
    _check_order(model, lines)
    _, data = read_lines(lines, model, SOURCE)
    events = asked.get("events", False)
    return Question(data, options, events, asked.get("baseline", False), tokens, keys)


def example_of(model: TrainedModel) -> str:
    """A body that the model can take."""
    return orjson.dumps(example_body(model)).decode()


def example_body(model: TrainedModel) -> dict[str, Any]:
    schema = model.schema
    try:
        text_column(schema)
        return {"text": "Where is it?"}
    except UserError:
        columns: dict[str, list[Any]] = {column.name: [0.5, 1.5] for column in schema.numeric}
        columns |= {column.name: ["a", "b"] for column in schema.categorical}
        return {"columns": columns}


def _options(model: TrainedModel, asked: Mapping[str, Any]) -> PredictionOptions:
    if len(asked) == 1:  # there are none
        return PredictionOptions()
    for name, kind in OPTIONS.items():
        value = asked.get(name)
        if name in asked and type(value) is not kind:
            words = {bool: "true or false", int: "a whole number", str: "a label"}[kind]
            raise UserError(f"{name!r} must be {words}, not {shown(value)}")
    top, paths = asked.get("top", 1), asked.get("paths", 0)
    for name in ("top", "paths"):
        if asked.get(name, 1) < 1:
            raise UserError(f"{name!r} must be at least 1, not {asked[name]}")
    options = PredictionOptions(probabilities=asked.get("probabilities", False), top=top, paths=paths)
    options.check(model.task)
    if "background" in asked and not asked.get("events"):
        raise UserError("'background' says which label is no event: it needs \"events\": true")
    if asked.get("baseline") and model.baseline is None:
        raise UserError("'baseline' asks for the model without recurrence, but this model was trained without one")
    events = PredictionOptions(events=asked.get("events", False), background=asked.get("background"))
    events.check(model.task)
    return dataclasses.replace(options, background=events.background)


def _divided(model: TrainedModel, form: str, given: Any) -> tuple[list[Any], list[Any]]:
    """The sequences, each as a text, columns, rows or a list of steps; and their identifiers."""
    if form == "sequences":
        if not isinstance(given, list) or not given:
            raise UserError("'sequences' must be a list of at least one sequence")
        return given, [None] * len(given)
    kinds: dict[str, tuple[Any, str]] = {
        "text": (str, "a text"),
        "columns": (dict, "an object with a list for each column"),
        "rows": (list, "a list"),
    }
    kind, words = kinds[form]
    if type(given) is not kind:
        raise UserError(f"{form!r} must be {words}, not {shown(given)}")
    return _divided_rows(model, given) if form == "rows" else ([given], [None])


def _divided_rows(model: TrainedModel, given: list[Any]) -> tuple[list[Any], list[Any]]:
    wrong = next((i for i, row in enumerate(given, 1) if not isinstance(row, dict)), None)
    if wrong or not given:
        problem = f"but row {wrong} is {shown(given[wrong - 1])}" if wrong else "but is empty"
        raise UserError(f"'rows' must be a list of objects, one for each time step, {problem}")
    name = model.schema.sequence
    if name is None or not any(name in row for row in given):
        return [given], [None]
    groups: dict[str, list[Any]] = {}
    for number, row in enumerate(given, 1):
        key = row.get(name)
        if key in (None, "") or not isinstance(key, (str, int, float)):
            raise UserError(f"row {number}: {name!r}, the row's sequence, must be a text or a number, as in other rows")
        groups.setdefault(key if isinstance(key, str) else json.dumps(key), []).append(row)
    return list(groups.values()), [rows[0][name] for rows in groups.values()]


def _cells(model: TrainedModel, name: str, sequence: Any) -> tuple[dict[str, Any], Tokens | None]:
    """A sequence as columns; and its steps, if it is a text."""
    schema = model.schema
    if isinstance(sequence, dict) and schema.text is not None and isinstance(sequence.get(schema.text.column), str):
        sequence = sequence[schema.text.column]
    if isinstance(sequence, str):
        column = text_column(schema)
        steps = column.split(sequence)
        tokens = Tokens(sequence, steps, starts_of(sequence, column.tokens))
        return {column.column: sequence if schema.text is not None else steps}, tokens
    if schema.text is not None:
        raise UserError(f"{name} is not a text, which this model reads, as in {example_of(model)}")
    if isinstance(sequence, dict):
        if not any(isinstance(sequence.get(column), list) for column in schema.features):
            raise UserError(f"{name} has no list of steps: it needs one for each of {listed(schema.features)}")
        return sequence, None
    if not isinstance(sequence, list):
        raise UserError(f"{name} is {shown(sequence)}, not columns, rows, a list of steps or a text")
    if not sequence:
        raise UserError(f"{name} has no steps")
    if all(isinstance(row, dict) for row in sequence):
        return _columns_of_rows(model, name, sequence), None
    return _columns_of_steps(model, name, sequence), None


def _columns_of_rows(model: TrainedModel, name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    features, order = model.schema.features, order_columns(model.schema, rows[0])
    names = [*features, *(each for each in order if each in rows[0])]
    for step, row in enumerate(rows, 1):
        for column in names:
            if column not in row:
                role = "a feature of the model" if column in features else "the order, which other rows have"
                raise UserError(
                    f"{name}, step {step}: there is no {column!r} ({role}).{suggestion(column, row)} Where its value "
                    f"is missing, give null"
                )
    return {column: [row[column] for row in rows] for column in names}


def _columns_of_steps(model: TrainedModel, name: str, steps: list[Any]) -> dict[str, Any]:
    """Columns of a list with a value, or a list of values, for each step, in the order of the features."""
    features = model.schema.features
    rows = [step if isinstance(step, list) else [step] for step in steps]
    wrong = next((i for i, row in enumerate(rows) if len(row) != len(features)), None)
    if wrong is not None:
        raise UserError(
            f"{name}, step {wrong + 1}: there {'is' if len(rows[wrong]) == 1 else 'are'} "
            f"{counted(len(rows[wrong]), 'value')}, but the model has {counted(len(features), 'feature')}: "
            f"{listed(features)}"
        )
    return dict(zip(features, map(list, zip(*rows, strict=True)), strict=True))


def _check_order(model: TrainedModel, lines: list[Line]) -> None:
    names = [{each for each in order_columns(model.schema, line.cells) if each in line.cells} for line in lines]
    for line, own in zip(lines, names, strict=True):
        if own != names[0]:
            raise UserError(
                f"{line.name}: some sequences have the order {model.schema.order!r}, and others do not: give it in "
                f"all, or leave it out where steps are in order"
            )
