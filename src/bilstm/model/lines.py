"""Lines of JSON objects as they come, and what each says about its sequence."""

from __future__ import annotations

import dataclasses
import json
import re
import select
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import IO, Any

from bilstm.data.documents import Document, Tagger, row_of
from bilstm.data.jsontext import check_json
from bilstm.data.readingoptions import PLAIN, ReadingOptions
from bilstm.data.schema import Schema, not_a_number
from bilstm.data.sources import token_columns
from bilstm.data.times import reader
from bilstm.data.tokens import Bounds
from bilstm.errors import UserError, shown, suggestion
from bilstm.model.trained import TrainedModel

NAME = "standard input"
_AT_ONCE = 1 << 22  # bytes that are read before what is complete in them is predicted
_EXAMPLE = 200  # characters of an object that a message shows
_PLAIN = frozenset({int, float, bool, type(None)})  # the types of cells with which nothing can be wrong
_MISSING = frozenset({"", "na", "n/a", "<na>", "nan", "-nan", "null", "none"})  # the spellings of no number


class Arrivals:
    """The lines of a source, as they come. A line may be of any length.

    Attributes:
        ended: whether the source has ended.
    """

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._rest: list[bytes] = []  # of the line whose end has not come
        self.ended = False

    def wait(self) -> bool:
        """Wait until there is something to read, where this can be told; whether it can.

        An exception that is raised meanwhile loses nothing.
        """
        return self._is_ready(None) is not None

    def lines(self) -> Iterator[bytes]:
        """The complete lines among what can be read now."""
        size = 0
        while size < _AT_ONCE:
            chunk = self._source.read1(_AT_ONCE)  # type: ignore[attr-defined]
            size += len(chunk)
            first, *others = chunk.split(b"\n")
            self._rest.append(first)
            for other in others:
                yield b"".join(self._rest)
                self._rest = [other]
            if not chunk:
                self.ended = True
                if rest := b"".join(self._rest):
                    yield rest
                return
            if not self._is_ready(0):
                return

    def _is_ready(self, seconds: float | None) -> bool | None:
        """Whether there is something to read after some seconds at most; None if this cannot be told."""
        try:
            return bool(select.select([self._source.fileno()], [], [], seconds)[0])
        except (OSError, ValueError):  # it is no pipe, or this is Windows
            return None


@dataclasses.dataclass
class Line:
    """A line with a JSON object.

    Attributes:
        number: counted from 1.
        name: what messages call it.
        text: without blanks around it.
        cells: what the object holds.
        key: the text of its sequence; None where it is a sequence of its own, or where a problem hides it.
        empty: whether it is a sequence of its own without steps.
        raw: the raw text that was divided into the steps, or None.
        bounds: where the steps are in it.
        problem: why it cannot be used, or None.
    """

    number: int
    name: str
    text: str = ""
    cells: dict[str, Any] = dataclasses.field(default_factory=dict)
    key: str | None = None
    empty: bool = False
    raw: str | None = None
    bounds: Bounds = dataclasses.field(default_factory=list)
    problem: UserError | None = None


class LineReader:
    """Reads lines one after the other, for a model.

    Args:
        source: what messages call that from which the lines come.
        ordered: whether the model's order column is needed; if not, steps without one are in order.

    Raises:
        UserError: lines are to be raw texts, but the model reads more than tokens.
    """

    def __init__(self, model: TrainedModel, source: str = NAME, *, ordered: bool = True) -> None:
        self._model, self._schema, self._source, self._ordered = model, model.schema, source, ordered
        self._lists = (*model.schema.features, *model.task.columns)  # one of them is a list where a line is a sequence
        self._numeric = [column.name for column in model.schema.numeric]
        self._read_moment = reader(model.schema.reading.time_format)
        self._targets, self._tagger = model.task.columns, Tagger("IOB2", "error", model.schema.token_rule)
        self._raw = model.schema.reading.format == "text"
        if self._raw:
            model.schema.token_column()
        self._number = 0

    @cached_property
    def _example(self) -> str:
        return example_for(self._model)

    def read(self, content: bytes) -> Line | None:
        """The next line; None if it is blank, and no raw text."""
        self._number += 1
        line = Line(self._number, f"{self._source}, line {self._number}")
        try:
            text = _decoded(line, content)
            if self._raw:
                self._read_raw(line, text.removesuffix("\r"))
                return line
            line.text = text.strip()
            if not line.text:
                return None
            line.cells = check_json(self._source, line.number, line.text, self._example)
            if (raw := self._raw_text(line.cells)) is None:
                self.check(line)
            else:
                self._read_raw(line, raw, line.cells)
        except UserError as error:
            line.problem = error
        return line

    def _read_raw(self, line: Line, text: str, cells: dict[str, Any] | None = None) -> None:
        """Fill in the tokens of a raw text, and an object that has them.

        Args:
            cells: the object that the text stands in, if it stands in one.
        """
        schema, column = self._schema, self._schema.token_column()
        if schema.text is not None:
            line.cells, line.empty = {column: text}, not schema.text.split(text)
            line.text = json.dumps(line.cells, ensure_ascii=False)
            return
        names = token_columns(schema, self._targets)
        row = row_of(Document(line.name, text), self._tagger, names)
        line.raw, line.bounds = text, list(zip(row[names.others[1]], row[names.others[2]], strict=True))
        line.cells, line.empty = {column: row[column]}, not line.bounds
        line.text = json.dumps((cells or {}) | row, ensure_ascii=False)

    def _raw_text(self, cells: dict[str, Any]) -> str | None:
        """The raw text in an object without a list of tokens, for a model that reads nothing but tokens."""
        schema = self._schema
        if schema.text is not None or len(schema.features) != 1 or schema.numeric or schema.features[0] in cells:
            return None
        return next((cells[name] for name in ("text", "data") if isinstance(cells.get(name), str)), None)

    def check(self, line: Line) -> None:
        """Find the sequence of a line with cells, before anything that may be wrong with the rest, and check them.

        Raises:
            UserError: it cannot be used; the message says why.
        """
        schema, cells = self._schema, line.cells
        own = schema.text is not None or any(isinstance(cells.get(name), list) for name in self._lists)
        roles: dict[str, str] = {}
        if not own:
            if schema.sequence is None and not schema.one_sequence:
                names = "" if schema.named else "; --features gives its features other names"
                raise UserError(
                    f"{line.name} has no list of steps: for this model, a line is a sequence such as {self._example}, "
                    f"or a time step whose sequence is in a column that --sequence names{names}"
                )
            if schema.sequence is None:
                line.key = ""  # of all lines
            else:
                roles[schema.sequence] = "the sequence of each row"
                key = cells.get(schema.sequence)
                line.key = None if key in (None, "") else key if isinstance(key, str) else json.dumps(key)
        roles |= dict.fromkeys(schema.features, "a feature of the model")
        order = order_columns(schema, cells)
        if self._ordered or any(name in cells for name in order):
            roles |= dict.fromkeys(order, "the order within a sequence")
        for name, role in roles.items():
            if name not in cells:  # in a file, other rows may have it; here, none may come
                raise UserError(
                    f"{line.name}: there is no {name!r} ({role}).{suggestion(name, cells)} Where its value is missing, "
                    f"give null"
                )
        if not own and line.key is None:
            raise UserError(f"{line.name}: {schema.sequence!r}, the row's sequence, is missing")
        if schema.text is None:
            self._check_cells(line, own, [name for name in roles if name != schema.sequence])

    def _check_cells(self, line: Line, own: bool, names: list[str]) -> None:
        """Refuse cells that are wrong whatever others there are, so that the message names the line."""
        lists = {name: cell for name in names if isinstance(cell := line.cells[name], list)}
        lengths = {name: len(cell) for name, cell in lists.items()}
        first = next(iter(lengths), "")
        for name, length in lengths.items():
            if length != lengths[first]:
                raise UserError(
                    f"{line.name}: {name!r} has {length:,} steps, but {first!r} has {lengths[first]:,}: the lists of "
                    f"one line are one sequence"
                )
        line.empty = own and bool(lists) and lengths[first] == 0
        for name in names:
            if not own:
                self._check_cell(line.name, name, line.cells[name])
            cells = lists.get(name, [])
            for step, cell in enumerate(() if _PLAIN.issuperset(map(type, cells)) else cells, 1):
                if isinstance(cell, (str, list, dict)):
                    self._check_cell(f"{line.name}, step {step}", name, cell)

    def _check_cell(self, where: str, name: str, cell: Any) -> None:
        schema = self._schema
        if isinstance(cell, (list, dict)):
            raise UserError(f"{where}: {name!r} holds a list or an object, but a cell is one value")
        if isinstance(cell, str) and name in self._numeric and isinstance(number(cell, schema.reading), str):
            raise not_a_number(where, name, cell)
        order = isinstance(cell, str) and name == schema.order
        if order and isinstance(number(cell, schema.reading), str) and self._read_moment(cell) is None:
            raise UserError(
                f"{where}: {shown(cell)} in column {name!r} cannot order rows: give a number, a date or a time"
            )


def text(cell: Any) -> Any:
    """A cell of text, as one is read from a file: numbers and truth values as they are written."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return repr(cell) if isinstance(cell, (int, float)) else cell or None


def number(cell: Any, reading: ReadingOptions = PLAIN) -> Any:
    """A cell of a number, as one is read from a file, where it may be written as text; other text is left as it is."""
    if not isinstance(cell, str):
        return cell
    written = reading.plain_number(cell.strip(" \t")).lower()
    if written in _MISSING if reading.missing is None else cell.strip(" \t") in ("", *reading.missing):
        return None
    if not written.isascii():  # Python reads the digits of other scripts, and passes over other blanks
        return cell
    if written in ("true", "false"):
        return written == "true"
    try:
        return cell if "_" in written else int(written) if re.fullmatch("[+-]?[0-9]+", written) else float(written)
    except ValueError:
        return cell


def order_columns(schema: Schema, cells: Mapping[str, Any]) -> list[str]:
    """The columns that sort the steps of a sequence: one of this name, or `a,b`."""
    if schema.order is None or schema.order in cells or "," not in schema.order:
        return [] if schema.order is None else [schema.order]
    return [name.strip() for name in schema.order.split(",") if name.strip()]


def example_for(model: TrainedModel) -> str:
    """An object that the model can take: a text, a sequence with lists, or a time step."""
    schema = model.schema
    if schema.text is not None:
        return json.dumps({schema.text.column: "Where is it?"})
    steps: dict[str, tuple[Any, Any]] = dict.fromkeys(order_columns(schema, {}), (1, 2))
    steps |= {column.name: (0.5, 1.5) for column in schema.numeric}
    steps |= {column.name: ("a", "b") for column in schema.categorical}
    if schema.conll_columns is not None or (schema.sequence is None and not schema.one_sequence):
        example = json.dumps({name: list(cells) for name, cells in steps.items()})
    else:
        key = {} if schema.sequence is None else {schema.sequence: 1}
        example = json.dumps({**key, **{name: first for name, (first, _) in steps.items()}})
    return example if len(example) <= _EXAMPLE else f"{example[:_EXAMPLE]} …}}"


def _decoded(line: Line, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig" if line.number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{line.name}: not UTF-8 text (byte 0x{content[error.start]:02x})") from None
