"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from bilstm.errors import shown

if TYPE_CHECKING:
    from bilstm.tasks.classweights import ClassWeight

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


model_columns = together(
    column_option("--sequence", "The column that identifies the sequences, if its name differs from training's."),
    column_option("--order", "The column that sorts the rows of a sequence, if its name differs from training's."),
    column_option("--features", "The features, in the order of training's, if their names differ.", multiple=True),
    reading_flags,
)
