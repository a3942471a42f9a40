"""How files are to be read: what a person says, or what was found out, about their text and their cells."""

from __future__ import annotations

import codecs
import dataclasses
import re
import shlex
from collections.abc import Collection, Mapping
from typing import Any

from bilstm.data.fields import Fields
from bilstm.data.tokens import RULES
from bilstm.errors import UserError, listed, shown, suggestion

# The spellings of a missing number that programs write; of a label, "none" and "na" are some that people use.
MISSING_NUMBERS = ("", "na", "n/a", "<na>", "nan", "-nan", "null", "none")  # in small letters
MISSING_LABELS = frozenset({"", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "NULL", "null"})
NAMED = {"tab": "\t", "\\t": "\t", "space": " ", "comma": ",", "semicolon": ";", "pipe": "|"}
GROUPS = {" ": " \u00a0\u202f\u2009", "'": "'\u2019"}  # characters that stand for these between groups of digits
ANNOTATIONS = ("doccano", "prodigy", "label-studio")  # whose exports are texts with spans
FORMATS = ("csv", "conll", "ndjson", "parquet", *ANNOTATIONS, "text")
MISALIGNED = ("error", "widen", "skip")
_OF_SPANS = ("span_scheme", "misaligned")
_TEXTS = (
    *("format", "delimiter", "decimal", "thousands", "encoding", "quote", "comment", "time_format", "tokens"),
    *_OF_SPANS,
)
_ONE_CHARACTER = ("delimiter", "decimal", "thousands", "quote")
_OF_TEXT = ("delimiter", "skip_rows", "encoding", "quote", "header", "comment", "columns")
_OF_CELLS = ("decimal", "thousands")
_OF_ORDER = ("time_format", "one_day")


@dataclasses.dataclass(frozen=True)
class ReadingOptions:
    """How a file is read; None leaves it to the file.

    Attributes:
        format: "csv", "conll", "ndjson" or "parquet", whatever the file's name ends in; "doccano", "prodigy" or
            "label-studio": texts with spans, as these export them; "text": a text in each line. Default: by the name,
            and by what JSON holds.
        delimiter: what separates the cells of a line; "tab" and "space" are understood.
        decimal: the decimal sign, "." or ",". Default: ".".
        thousands: what separates groups of three digits, such as "," or " ". Default: nothing does.
        missing: the cells that mean a missing value, besides empty ones. Default: NA, NaN, null and similar; as
            labels, too, but as the text of a feature only empty cells.
        skip_rows: lines to skip before the header.
        encoding: of the text, by a name that Python knows: "latin-1", "utf-16". Default: UTF-8, or UTF-16 where the
            file begins with its byte order mark.
        quote: the character that encloses cells; "": none does, so that quotes are characters.
        header: whether the first line names the columns.
        comment: what lines begin with that are passed over.
        columns: the names of the columns, where no header gives them, or instead of those that it gives.
        time_format: how the texts of the order column are written, as `datetime.strptime` has it.
        one_day: whether times without a date are of one day, so that rows are sorted by them though they fall back.
        tokens: the rule by which texts are divided: "words", "compounds" or "characters", see `bilstm.data.tokens`.
            Default: the file's own tokens, or "words"; for a model trained on tokens, the rule that fits them best.
        span_scheme: the scheme of the tags that spans of characters become, such as "IOBES". Default: "IOB2".
        misaligned: how a span is read that begins or ends within a token: as an "error", "widen" (to whole tokens) or
            "skip" (its tokens are unlabelled). Default: "error".

    Raises:
        UserError: a value is impossible.
    """

    format: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    missing: tuple[str, ...] | None = None
    skip_rows: int | None = None
    encoding: str | None = None
    quote: str | None = None
    header: bool | None = None
    comment: str | None = None
    columns: tuple[str, ...] | None = None
    time_format: str | None = None
    one_day: bool | None = None
    tokens: str | None = None
    span_scheme: str | None = None
    misaligned: str | None = None

    def __post_init__(self) -> None:
        self._check_types()
        if self.delimiter is not None:
            object.__setattr__(self, "delimiter", NAMED.get(self.delimiter.lower(), self.delimiter))
        if self.format not in (None, *FORMATS):
            raise UserError(f"--format is one of {', '.join(FORMATS)}, and not {shown(self.format)}")
        for name in ("missing", "columns"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(str(each) for each in value))
        for name in _ONE_CHARACTER:
            value = getattr(self, name)
            if value is not None and (len(value) != 1 or value in "\r\n") and (name, value) != ("quote", ""):
                raise UserError(f"--{name} is one character, not {shown(value)}")
        if self.decimal not in (None, ".", ","):
            raise UserError(f"--decimal is . or , and not {shown(self.decimal)}")
        if self.thousands is not None and (self.thousands.isalnum() or self.thousands in "+-"):
            raise UserError(f"--thousands is a sign such as , or a space, and not {shown(self.thousands)}")
        if self.thousands is not None and self.thousands == (self.decimal or "."):
            raise UserError(
                f"--thousands and the decimal sign are both {shown(self.thousands)}: say what the decimal sign is "
                f"with --decimal"
            )
        if self.skip_rows is not None and self.skip_rows < 0:
            raise UserError(f"--skip-rows counts lines, so it cannot be {self.skip_rows}")
        if self.comment == "":
            raise UserError("--comment is what comment lines begin with, such as #, and cannot be empty")
        for one, other in (("delimiter", "quote"), ("delimiter", "comment"), ("quote", "comment")):
            if getattr(self, one) and getattr(self, one) == getattr(self, other):
                raise UserError(f"--{one} and --{other} are both {shown(getattr(self, one))}: they must differ")
        for name, known in (("tokens", RULES), ("misaligned", MISALIGNED)):
            if getattr(self, name) not in (None, *known):
                raise UserError(f"--{name} is one of {', '.join(known)}, and not {shown(getattr(self, name))}")
        if self.span_scheme is not None:
            object.__setattr__(self, "span_scheme", _scheme(self.span_scheme))
        if self.encoding is not None:
            _check_encoding(self.encoding)
        if self.columns is not None:
            _check_columns(self.columns)

    def _check_types(self) -> None:
        """Refuse values of a kind that the command line cannot give, but Python can."""
        kinds: dict[str, tuple[type | tuple[type, ...], str]] = dict.fromkeys(_TEXTS, (str, "a text"))
        kinds |= dict.fromkeys(("missing", "columns"), ((list, tuple), "a list of texts"))
        kinds |= dict.fromkeys(("header", "one_day"), (bool, "True or False"))
        kinds["skip_rows"] = int, "a number of lines"
        for name, (kind, what) in kinds.items():
            value = getattr(self, name)
            if value is not None and (not isinstance(value, kind) or (name == "skip_rows" and value is True)):
                raise UserError(f"{name} is {what}, not {shown(value)}")

    @classmethod
    def of(cls, options: ReadingOptions | Mapping[str, Any] | None) -> ReadingOptions:
        """Options from what a person passes: these, a dictionary of them, or None.

        Raises:
            UserError: there is no such option, or a value is impossible.
        """
        if isinstance(options, ReadingOptions):
            return options
        if options is not None and not isinstance(options, Mapping):
            raise UserError(f"reading is a dictionary of options or a ReadingOptions, not {shown(options)}")
        known = [field.name for field in dataclasses.fields(cls)]
        for name in options or ():
            if name not in known:
                raise UserError(f"there is no reading option {name!r}.{suggestion(name, known)} {listed(known)}")
        return cls(**dict(options or {}))

    def plain_number(self, text: str) -> str:
        """The text of a number with a decimal point and ungrouped digits; other text as it is, or "x" if it only looks
        like a number without these options."""
        if self.decimal is None and self.thousands is None:
            return text
        decimal = self.decimal or "."
        signs = GROUPS.get(self.thousands or "", re.escape(self.thousands or ""))
        digits = rf"([0-9]*|[0-9]{{1,3}}(?:[{signs}][0-9]{{3}})+)" if self.thousands else "([0-9]*)"
        match = re.fullmatch(rf"([+-]?){digits}(?:[{decimal}]([0-9]*))?([eE][+-]?[0-9]+)?", text)
        if not match:
            return "x" if is_number(text) else text
        whole = re.sub(rf"[{signs}]", "", match[2]) if self.thousands else match[2]
        return f"{match[1]}{whole}.{match[3] or ''}{match[4] or ''}"

    def over(self, other: ReadingOptions) -> ReadingOptions:
        """These options; where one is None, the other's value."""
        return ReadingOptions(**{**other.said, **self.said})

    @property
    def said(self) -> dict[str, Any]:
        """The options that are not None, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @property
    def typed(self) -> str:
        """The options as they are typed on the command line."""
        return " ".join(_typed(name, value) for name, value in self.said.items())

    def check_used(self, formats: Collection[str], what: str) -> None:
        """Refuse options that have no effect.

        Args:
            formats: of the tables that are read: those of `format`, or "memory".
            what: what messages call the tables.

        Raises:
            UserError: an option says nothing about tables of these formats.
        """
        for name in self.said:
            texts = {"csv", "conll", "text"} if name == "encoding" else {"csv", "conll"}
            of_text = name in _OF_TEXT and not texts & set(formats)
            of_cells = name in _OF_CELLS and not {"csv", "conll", "ndjson"} & set(formats)
            if name in _OF_SPANS and not {"ndjson", *ANNOTATIONS} & set(formats):
                option = f"--{name.replace('_', '-')} ({name})"
                raise UserError(
                    f"{option} says how annotated texts are read, and has no effect on {what}: leave it out"
                )
            if of_text or of_cells or (name == "format" and set(formats) == {"memory"}):
                option = f"--{name.replace('_', '-')} ({name})"
                raise UserError(f"{option} says how text files are read, and has no effect on {what}: leave it out")

    def check_order(self, order: str | None) -> None:
        """Refuse options for the order column where there is none.

        Raises:
            UserError: `order` is None, and an option has no effect without it.
        """
        for name in _OF_ORDER if order is None else ():
            if name in self.said:
                raise UserError(
                    f"--{name.replace('_', '-')} ({name}) says how the order column is read, and has no effect without "
                    "one: name it with --order (order='…')"
                )

    def to_json(self) -> dict[str, Any]:
        """The options as JSON-serialisable data."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.said.items()}

    @classmethod
    def from_json(cls, data: Any) -> ReadingOptions:
        """Rebuild from an untrusted file.

        Raises:
            ModelFileError: the data do not describe reading options.
        """
        field = Fields("reading options", data)
        options: dict[str, Any] = {}
        for name in data:
            if name in ("missing", "columns"):
                options[name] = field.distinct_texts(name)
            elif name == "skip_rows":
                options[name] = field.count(name)
            elif name in ("header", "one_day"):
                options[name] = field.flag(name, default=False)
            elif name in cls.__dataclass_fields__ and isinstance(data[name], str):
                options[name] = data[name]
            else:
                raise field.wrong(name)
        try:
            return cls(**options)
        except UserError as error:
            raise field.wrong(str(error)) from None


PLAIN = ReadingOptions()


def is_number(text: str) -> bool:
    """Whether a text is a plain number."""
    return re.fullmatch(r"\s*[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{1,2})?\s*", text) is not None


def _typed(name: str, value: Any) -> str:
    option = f"--{name.replace('_', '-')}"
    if name == "quote" and not value:
        return "--no-quotes"
    if isinstance(value, bool):
        return option if value else f"--no-{name}"
    text = ",".join(value) if isinstance(value, tuple) else str(value)
    if name == "delimiter":
        text = {"\t": "tab", " ": "space"}.get(text, text)
    plain = re.fullmatch(r"[\w./:,+-]+", text)
    return f"{option} {text if plain else shlex.quote(text)}"


def _scheme(name: str) -> str:
    from bilstm.metrics.schemes import ALIASES, SCHEMES, scheme_name

    try:
        return scheme_name(name)
    except ValueError:
        schemes = ", ".join((*SCHEMES, *ALIASES))
        raise UserError(f"--span-scheme is one of {schemes}, and not {shown(name)}") from None


def _check_encoding(name: str) -> None:
    try:
        if codecs.lookup(name)._is_text_encoding:
            return
    except (LookupError, ValueError):
        pass
    raise UserError(f"there is no encoding {shown(name)}: give a name that Python knows, such as latin-1 or utf-16")


def _check_columns(names: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for name in names:
        if not name.strip():
            raise UserError("--columns names the columns, but a name is empty")
        if name.lower() in seen and name != "_":
            raise UserError(f"--columns names {name!r} twice: give each column a name of its own")
        seen.add(name.lower())
