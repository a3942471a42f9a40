"""What several commands share: options, and opening what they name."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from bilstm.console import echo
from bilstm.errors import UserError, shown

if TYPE_CHECKING:
    from bilstm.data.readingoptions import ReadingOptions
    from bilstm.model.prepare import Prepared
    from bilstm.model.trained import TrainedModel
    from bilstm.tasks.classweights import ClassWeight
    from bilstm.training.options import TrainingOptions

Decorator = Callable[[Any], Any]


class WholeNumber(click.IntRange):
    """A whole number in a range; click's message calls a word "not a valid integer range"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(_converted(self, int, value, "a whole number", param, ctx), param, ctx)


class Number(click.FloatRange):
    """A number in a range; see `WholeNumber`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(_converted(self, float, value, "a number", param, ctx), param, ctx)


class LookAheadSteps(click.ParamType[Any]):
    """A number of steps from 0, or `all`."""

    name = "steps or all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "all" or isinstance(value, int):
            return value
        if not (value.isascii() and value.isdigit()):
            self.fail(f"{value!r} is neither a number of steps, from 0, nor 'all'.", param, ctx)
        return int(value)


class LookAheads(LookAheadSteps):
    """Several of them, separated by commas."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        return list(
            dict.fromkeys(super(LookAheads, self).convert(each.strip(), param, ctx) for each in value.split(","))
        )


class ShardOf(click.ParamType[Any]):
    """One of several shards, such as 2/8: which one, from 1, and how many there are."""

    name = "shard"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        number, _, count = value.partition("/")
        if not all(part.isascii() and part.isdigit() for part in (number, count)):
            self.fail(f"{value!r} is not a shard such as 2/8, the second of eight.", param, ctx)
        if not 1 <= int(number) <= int(count):
            self.fail(f"{value!r} is not one of the shards 1/{count} to {count}/{count}.", param, ctx)
        return int(number), int(count)


def _converted(kind: click.ParamType[Any], convert: Callable[[Any], Any], value: Any, name: str, *where: Any) -> Any:
    try:
        return convert(value)
    except ValueError:
        kind.fail(f"{value!r} is not {name}.", *where)


FRACTION = Number(0, 1, max_open=True)
POSITIVE = Number(0, min_open=True)
FILE = click.Path()  # so that a shell completes names of files
FROM_ZERO = Number(0)
TEXT = click.STRING
COUNT = WholeNumber(1)
DIRECTION = click.Choice(["both", "forward", "backward", "none"])
CELL = click.Choice(["lstm", "gru", "simple"])
MERGE_MODE = click.Choice(["concat", "sum", "mul", "ave"])
POOLING = click.Choice(["mean", "max", "attention", "last"])
CHARACTERS = click.Choice(["none", "lstm", "conv"])
OUTPUT = click.Choice(["softmax", "constrained", "crf"])
SCHEME = click.Choice(
    ["none", "IO", "IOB1", "IOB2", "BIO", "IOE1", "IOE2", "IOBES", "BIOES", "BILOU", "BMES"], case_sensitive=False
)
# The options of `TrainingOptions`: what values they take, and their help.
TRAINING: dict[str, tuple[click.ParamType[Any], str]] = {
    "units": (COUNT, "Recurrent units in each direction."),
    "layers": (COUNT, "Recurrent layers. Default: 3 for steps whose features are all text, otherwise 2."),
    "cell": (CELL, "The kind of recurrent layers."),
    "direction": (DIRECTION, "The direction in which sequences are read; none: no recurrence, each step alone."),
    "merge_mode": (MERGE_MODE, "How the outputs of the two directions are merged."),
    "pooling": (POOLING, "For one answer per sequence: how the outputs of its steps are pooled. Default: mean."),
    "conv": (
        TEXT,
        "Convolutions before the recurrent layers, as filters x kernel size: 64x5, or two, 64x5+64x3. Default: none.",
    ),
    "characters": (
        CHARACTERS,
        "Also read the characters of words, by a bidirectional LSTM or a convolution over each word. Default: conv "
        "if texts look like words.",
    ),
    "unknown_words": (
        FRACTION,
        "Share of words that training treats as unknown, to learn what to do with them.",
    ),
    "freeze_vectors": (
        click.BOOL,
        "Leave word vectors (--vectors) as they are in the file; otherwise training tunes them.",
    ),
    "output": (
        OUTPUT,
        "For one label per step: softmax predicts each step on its own, crf the labels of a sequence together; "
        "constrained is trained as softmax, and predicts the likeliest labels that their scheme allows. Default: crf "
        "for tags such as B-X and I-X, otherwise softmax.",
    ),
    "scheme": (
        SCHEME,
        "With --output crf or constrained: the scheme of labels such as B-X and I-X, whose forbidden transitions are "
        "never predicted. Default: detected.",
    ),
    "train_scheme": (
        SCHEME,
        "Learn tags of this scheme, such as IOBES, and predict tags of the labels' scheme. Default: learn the labels.",
    ),
    "embedding": (COUNT, "Dimensions of a text feature's embedding. Default: by its number of different values."),
    "dropout": (FRACTION, "Share of values dropped at random in training."),
    "variational_dropout": (click.BOOL, "Drop the same values at all steps of a sequence."),
    "epochs": (COUNT, "Maximum number of passes over the training set. Default: by the amount of data, 20 to 200."),
    "batch_size": (COUNT, "Sequences per training step. Default: by their length."),
    "window": (
        COUNT,
        "Train on windows of this number of steps. A table without --sequence is then one long recording, and blocks "
        "of time are set aside where whole sequences are too few. Default: windows of up to 300 steps, at random "
        "places.",
    ),
    "stride": (COUNT, "Steps from the beginning of a window to that of the next. Default: the window."),
    "learning_rate": (POSITIVE, "Peak learning rate of Adam; it rises at first, then falls to zero."),
    "weight_decay": (FROM_ZERO, "Weight decay of AdamW."),
    "patience": (COUNT, "Early stopping: epochs without a better validation score before training stops."),
    "validation_split": (
        FRACTION,
        "Share of the sequences for the validation set. Default: 0.1, but at most 1,000 sequences; none if there are "
        "fewer than 500 sequences with one label each.",
    ),
    "seed": (WholeNumber(0, 2**32 - 1), "Seed of the random numbers. The same seed and data give the same model."),
    "time_limit": (POSITIVE, "Seconds after which training stops and keeps the best model so far."),
}


class TrainingOption(click.Option):
    """An option of `TrainingOptions`. Its default is looked up only when help is asked for.

    Attributes:
        own_default: the command's, where it is not that of `TrainingOptions`; ... where it is.
    """

    def __init__(self, *arguments: Any, own_default: Any = ..., **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.own_default = own_default

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from bilstm.training.options import TrainingOptions

        name, text = super().get_help_record(ctx) or ("", "")
        default = getattr(TrainingOptions, str(self.name)) if self.own_default is ... else self.own_default
        return name, text if default is None or default is False else f"{text}  [default: {default}]"


def together(*options: Decorator) -> Decorator:
    """Several options as one decorator, in the order in which help lists them."""

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def training_flags(texts: Mapping[str, str] | None = None, defaults: Mapping[str, Any] | None = None) -> Decorator:
    """An option for each entry of TRAINING.

    Args:
        texts, defaults: help texts and defaults of this command that differ, by name.
    """
    texts, defaults = texts or {}, defaults or {}

    def flag(name: str, kind: click.ParamType[Any], text: str) -> Decorator:
        option, default = f"--{name.replace('_', '-')}", defaults.get(name, ...)
        settings: dict[str, Any] = {"is_flag": True, "default": None} if kind is click.BOOL else {"type": kind}
        return click.option(option, cls=TrainingOption, help=texts.get(name, text), own_default=default, **settings)

    return together(*(flag(name, *about) for name, about in TRAINING.items()))


def column_option(name: str, text: str, **settings: Any) -> Decorator:
    metavar = "COLUMNS" if settings.get("multiple") else "COLUMN"
    return click.option(name, metavar=metavar, help=text, **settings)


precision_option = click.option(
    "--precision",
    type=click.Choice(("float32", "bfloat16")),
    default="float32",
    help="Precision of the weights. bfloat16 makes large models faster and changes probabilities by about 0.0001.",
)

# Each is a file, a folder or a pattern. A pattern that is quoted is expanded by `table_files`.
TABLES = click.argument("tables", metavar="TABLE...", nargs=-1, required=True, type=FILE)
LABELS = click.option(
    "--labels",
    metavar="FILE",
    type=FILE,
    multiple=True,
    help="A table of labels, with one row per sequence. Repeat the option for further tables.",
)

VALID = together(
    click.option(
        "--valid",
        metavar="TABLE",
        type=FILE,
        multiple=True,
        help="The validation set, instead of a part of TABLE; repeat the option for several tables.",
    ),
    click.option(
        "--valid-labels",
        metavar="FILE",
        type=FILE,
        multiple=True,
        help="A table with the labels of --valid, one row per sequence.",
    ),
)

reading_flags = together(
    click.option(
        "--format",
        type=click.Choice(["csv", "conll", "ndjson", "parquet", "doccano", "prodigy", "label-studio", "text"]),
        help="The file format; text is a raw text per line. Default: by the ending of the file's name, and by what "
        "JSON holds.",
    ),
    click.option(
        "--delimiter", metavar="CHARACTER", help="The character between cells, or tab or space. Default: detected."
    ),
    click.option("--decimal", metavar="SIGN", help="The decimal sign, a point or a comma.  [default: .]"),
    click.option("--thousands", metavar="SIGN", help="The sign between groups of three digits. Default: none."),
    click.option(
        "--missing",
        metavar="TEXTS",
        multiple=True,
        help="Cells that are missing values, separated by commas; empty cells always are. Default: NA, NaN, null and "
        "similar.",
    ),
    click.option(
        "--skip-rows",
        metavar="LINES",
        type=WholeNumber(0),
        help="Lines to skip at the top of the file. Default: detected.",
    ),
    click.option(
        "--encoding",
        metavar="NAME",
        help="The encoding of text files, such as latin-1. Default: utf-8, or utf-16 if the file begins with its "
        "byte order mark.",
    ),
    click.option("--quote", metavar="CHARACTER", help='The character that encloses quoted cells.  [default: "]'),
    click.option("--no-quotes", is_flag=True, help="Read quotes as ordinary characters."),
    click.option(
        "--header/--no-header",
        default=None,
        help="Whether the first line is a header. Default: yes for CSV, detected in CoNLL-style files.",
    ),
    click.option("--comment", metavar="TEXT", help="Skip lines that begin with this text."),
    click.option(
        "--columns",
        metavar="NAMES",
        help="Names for all columns, separated by commas, for files without a header. They replace the header's names.",
    ),
    click.option(
        "--time-format",
        metavar="FORMAT",
        help="The format of times in the --order column, such as '%d.%m.%Y %H:%M:%S'.",
    ),
    click.option(
        "--tokens",
        type=click.Choice(["words", "compounds", "characters"]),
        help="How texts are divided into steps; compounds are words with their hyphens, apostrophes and points. "
        "Default: words.",
    ),
    click.option(
        "--span-scheme",
        metavar="SCHEME",
        help="The scheme of the tags that annotated spans become, such as IOBES.  [default: IOB2]",
    ),
    click.option(
        "--misaligned",
        type=click.Choice(["error", "widen", "skip"]),
        help="How a span is read that begins or ends within a token: as an error, as wide as its tokens, or not at "
        "all, so that its tokens are unlabelled.  [default: error]",
    ),
    click.option(
        "--one-day", is_flag=True, help="Times without a date in the --order column are of one day: sort by them."
    ),
)


def reading_options(options: Mapping[str, Any]) -> ReadingOptions:
    """What the options of `reading_flags` say."""
    from bilstm.data.readingoptions import ReadingOptions

    names = ("format", "delimiter", "decimal", "thousands", "skip_rows", "encoding", "quote", "header", "comment")
    reading = {name: options[name] for name in (*names, "time_format", "tokens", "span_scheme", "misaligned")}
    if options["no_quotes"]:
        if options["quote"] is not None:
            raise click.UsageError("--quote says what encloses cells, and --no-quotes that nothing does: leave one out")
        reading["quote"] = ""
    if options["missing"]:
        reading["missing"] = split_names(options["missing"], ())
    if options["columns"] is not None:
        reading["columns"] = [name.strip() for name in options["columns"].split(",")]
    return ReadingOptions(**reading, one_day=options["one_day"] or None)


column_flags = together(
    column_option(
        "--sequence",
        "The column that identifies the sequences. Not needed for CoNLL-style files, or if each file is a sequence.",
    ),
    column_option(
        "--label",
        "The column to predict; rows with an empty cell are unlabelled. Several columns, separated by commas: several "
        "labels (0 or 1) or quantities. Default: the last column of CoNLL-style files.",
        multiple=True,
    ),
    click.option(
        "--soft-targets",
        metavar="PREFIX",
        help="Learn from probabilities, in columns whose names begin with this and end with a label, instead of from "
        "one label. Where there is a --label too, the validation set compares with it.",
    ),
    click.option(
        "--label-separator",
        metavar="SIGN",
        help="With --output crf: what is between labels in cells of --label that name several, of which one is right.",
    ),
    LABELS,
    column_option(
        "--order",
        "The column that sorts the rows of a sequence, or several, such as date,time. Default: keep the file's order.",
    ),
    column_option(
        "--features",
        "Columns to predict from, separated by commas. Default: all other columns; in CoNLL-style files, the first.",
        multiple=True,
    ),
    column_option("--drop", "Columns to leave out of the features.", multiple=True),
    column_option("--categorical", "Features to treat as categories even if they look like numbers.", multiple=True),
    column_option("--text", "The column of texts, one sequence per row; the steps are its words."),
    click.option(
        "--task",
        type=click.Choice(
            [f"{unit}-{what}" for unit in ("step", "sequence") for what in ("label", "labels", "quantity")]
        ),
        help="What to predict. Default: detected if the table leaves no doubt.",
    ),
    click.option(
        "--spelling/--no-spelling",
        default=None,
        help="Also learn from the first and last letters and the shape of texts. Default: if they look like words.",
    ),
    click.option(
        "--vectors",
        metavar="FILE",
        type=FILE,
        multiple=True,
        help="A file of pretrained word vectors (word2vec, GloVe, fastText's .vec or safetensors) for the feature that "
        "is words, or FEATURE=FILE. Those of the training set's words are stored in the model.",
    ),
    click.option(
        "--all-vectors",
        is_flag=True,
        help="Store all words of the --vectors, so that words that training had not have their vectors.",
    ),
    click.option(
        "--standardize/--no-standardize",
        default=True,
        help="Scale numeric features to mean 0 and standard deviation 1.  [default: standardize]",
    ),
    column_option(
        "--group", "The column of groups, such as patients. A group is never split between training and validation set."
    ),
    reading_flags,
)


def column_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `bilstm.train` that the options of `column_flags` give."""
    names = ("label", "labels", "sequence", "order", "features", "drop", "categorical", "text", "task")
    arguments = {
        name: options[name]
        for name in (*names, "spelling", "all_vectors", "soft_targets", "label_separator", "standardize", "group")
    }
    arguments |= {"features": options["features"] or None, "labels": as_data(options["labels"])}
    arguments |= {"vectors": _vector_files(options["vectors"])}
    return arguments | {"reading": reading_options(options)}


def _vector_files(texts: Sequence[str]) -> str | dict[str, str] | None:
    """FILE, or FEATURE=FILE for each feature that has vectors."""
    files: dict[str, str] = {}
    for text in texts:
        feature, sign, path = text.partition("=")
        if not sign or not path or os.path.exists(text):
            if len(texts) > 1:
                raise UserError(
                    f"{text} is one of several files of vectors: say whose it is, as in --vectors FEATURE=FILE"
                )
            return text
        if feature in files:
            raise UserError(f"the feature {feature!r} has two files of vectors: leave one out")
        files[feature] = path
    return files or None


def one_or_several(paths: Sequence[Any]) -> Any:
    """A path, several as a list, or None."""
    return list(paths) if len(paths) > 1 else paths[0] if paths else None


def as_data(paths: Sequence[str]) -> Any:
    """Paths as functions take them that take texts, too: a `Path`, several as a list, or None."""
    from bilstm.data.stores import as_path

    return one_or_several([as_path(path) for path in paths])


def files_of(paths: Sequence[str], reading: Mapping[str, Any]) -> list[str]:
    """The files that paths, patterns and folders stand for."""
    from bilstm.data.paths import stands_for_files, table_files

    files = list[str]()
    for path in paths:
        several = stands_for_files(path)
        files += map(str, table_files(path, any_name=reading["format"] is not None)[0]) if several else [path]
    return files


def class_weights(ctx: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> ClassWeight:
    """`balanced`, or LABEL=NUMBER for some labels."""
    if not texts or texts == ("balanced",):
        return "balanced" if texts else None
    weights: dict[str, float] = {}
    for text in texts:
        label, _, number = text.rpartition("=")
        if "=" not in text or not _is_number(number):
            message = f"{shown(text)} is neither 'balanced', alone, nor a label and its weight, such as rare=3."
            raise click.BadParameter(message, ctx, option)
        if label in weights:
            raise click.BadParameter(f"the label {shown(label)} has two weights.", ctx, option)
        weights[label] = float(number)
    return weights


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


CLASS_WEIGHT = click.option(
    "--class-weight",
    metavar="WEIGHTS",
    multiple=True,
    callback=class_weights,
    help="balanced: weight each label inversely to its frequency; or LABEL=NUMBER for some labels, 1 for the others.",
)
CALIBRATE = click.option(
    "--calibrate/--no-calibrate",
    default=None,
    help="Scale probabilities by a temperature fitted to the validation set. Default: if it is large enough and its "
    "log loss improves by more than one standard error.",
)


def training_options(options: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> TrainingOptions:
    """What the options of `training_flags` say; the defaults are those that are not the product's."""
    from bilstm.training.options import TrainingOptions

    names = {field.name for field in dataclasses.fields(TrainingOptions)}
    stated = {name: value for name, value in options.items() if name in names and value is not None}
    try:
        return TrainingOptions(**{**(defaults or {}), **stated})
    except ValueError as error:  # such as an infinite learning rate, which click lets pass
        raise UserError(str(error)) from None


def open_model(
    path: str,
    sequence: str | None,
    order: str | None,
    label: tuple[str, ...] = (),
    features: tuple[str, ...] = (),
    reading: Mapping[str, Any] | None = None,
    tables: Sequence[str] = (),
) -> TrainedModel:
    """A model for tables whose columns have these names, and which are read as the options of `reading_flags` say."""
    from bilstm.data.paths import format_of
    from bilstm.data.readingoptions import PLAIN
    from bilstm.model.trained import TrainedModel

    model = TrainedModel.load(path)
    columns = split_names(label, model.task.columns)
    named = split_names(features, ()) if features else None
    read_as = reading_options(reading) if reading else PLAIN
    if read_as.said:
        files = ["-"] if "-" in tables else files_of(tables, reading or {})
        formats = {"ndjson" if table == "-" else read_as.format or format_of(table) for table in files}
        read_as.check_used(formats, " and ".join(tables))
    return model.adapted(sequence=sequence, order=order, label=columns, features=named, reading=read_as)


model_columns = together(
    column_option("--sequence", "The column that identifies the sequences, if its name differs from training's."),
    column_option("--order", "The column that sorts the rows of a sequence, if its name differs from training's."),
    column_option("--features", "The features, in the order of training's, if their names differ.", multiple=True),
    reading_flags,
)


def check_apart(named: Iterable[tuple[str, str]]) -> None:
    """Refuse tables that are the same file: a score on the training set would be too good.

    Args:
        named: what each file is, and its path.
    """
    from bilstm.data.stores import identity

    seen: dict[str, str] = {}
    for what, path in named:
        real = identity(path)
        if real in seen:
            both = f"one {what} and another" if seen[real] == what else f"{seen[real]} and {what}"
            raise UserError(f"{both} are the same file, {path}: give each its own sequences")
        seen[real] = what


def check_sets_apart(tables: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    """The files of the training and the validation set, none of which may be in both."""
    files = {name: files_of(paths, options) for name, paths in (("TABLE", tables), ("--valid", options["valid"]))}
    check_apart((name, path) for name, paths in files.items() for path in paths)
    return [*files["TABLE"], *files["--valid"]]


def prepare_tables(tables: Sequence[str], training: TrainingOptions, options: Mapping[str, Any]) -> Prepared:
    """The training and the validation set that TABLE and the options of `column_flags` and VALID name."""
    from bilstm.model.training import column_options, prepare_data

    columns = column_arguments(options)
    others = {name: as_data(options[name]) for name in ("valid", "valid_labels")}
    labels = columns.pop("labels")
    return prepare_data(as_data(tables), column_options(**columns), training, labels=labels, **others)


def use_threads(threads: int | None) -> None:
    if threads is not None:
        from bilstm.data import database
        from bilstm.utils import set_threads

        set_threads(threads)
        database.use_threads(threads)


def split_names(texts: Sequence[str], names: Sequence[str]) -> list[str]:
    """`a,b` is two columns, unless one has this name."""
    columns: list[str] = []
    for text in texts:
        columns += [text] if text in names else [name.strip() for name in text.split(",") if name.strip()]
    return columns


def say(lines: list[str], quiet: bool, *, err: bool = False) -> None:
    """Print lines, on standard error where standard output is for data."""
    if not quiet:
        for line in lines:
            echo(line, err=err)
