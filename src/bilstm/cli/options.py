"""What several commands share: options, and opening what they name."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from bilstm.console import echo
from bilstm.errors import UserError, shown

if TYPE_CHECKING:
    from bilstm.tables.columns import Columns
    from bilstm.tables.prepare import Roles
    from bilstm.tables.table import Table
    from bilstm.tagging.tagger import Tagger
    from bilstm.training.classweights import ClassWeight
    from bilstm.training.options import TrainingOptions

Decorator = Callable[[Any], Any]
FRACTION = click.FloatRange(0, 1, max_open=True)
POSITIVE = click.FloatRange(0, min_open=True)
FILE = click.Path()  # so that a shell completes names of files
FROM_ZERO = click.FloatRange(0)
COUNT = click.IntRange(1)
DIRECTION = click.Choice(["both", "forward", "backward", "none"])
MERGE_MODE = click.Choice(["concat", "sum", "mul", "ave"])
# Those of `TrainingOptions`: what values they take, and what help says.
TRAINING: dict[str, tuple[click.ParamType[Any], str]] = {
    "units": (COUNT, "LSTM units in each direction."),
    "layers": (COUNT, "LSTM layers. By itself: 3 where all features are text, else 2."),
    "direction": (DIRECTION, "Which way the sequences are read; none: each step by itself."),
    "merge_mode": (MERGE_MODE, "How the two directions are joined."),
    "embedding": (COUNT, "Numbers that stand for a text value. By itself: more for more values."),
    "dropout": (FRACTION, "Share of numbers left out at random in training."),
    "variational_dropout": (click.BOOL, "Leave out the same ones at all steps of a sequence."),
    "epochs": (COUNT, "Passes over the training sequences, at most."),
    "batch_size": (COUNT, "Sequences in a training step. By itself: fewer where they are long."),
    "learning_rate": (POSITIVE, "The highest that Adam reaches."),
    "weight_decay": (FROM_ZERO, "Share of each weight, times the rate, that a training step takes away."),
    "patience": (COUNT, "Epochs without a better score on the held-out part before training stops."),
    "validation_split": (FRACTION, "Share of the sequences held out. By itself: a tenth, but 1,000 sequences at most."),
    "seed": (click.IntRange(0, 2**32 - 1), "The same seed and data give the same model."),
    "time_limit": (POSITIVE, "Seconds after which training stops, with the best model until then."),
}


class TrainingOption(click.Option):
    """An option that is one of `TrainingOptions`. Its default is looked up only when help is asked for.

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
    """An option for each of TRAINING.

    Args:
        texts, defaults: what a command says otherwise, by name.
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
    help="Of the model's weights: bfloat16 is faster where they are many; probabilities change by some 1e-4.",
)

column_flags = together(
    column_option("--sequence", "Tells the sequences apart. CoNLL-style files need none: empty lines do."),
    column_option("--label", "What to predict; an empty cell is unlabelled. In CoNLL-style files, the last column."),
    column_option("--order", "Sorts the rows of a sequence. Without it, they stand in order."),
    column_option(
        "--features",
        "What to predict from, separated by commas. Without it, all other columns; of CoNLL-style files, the first.",
        multiple=True,
    ),
    column_option("--categorical", "Features that are codes, though they look like numbers.", multiple=True),
    click.option(
        "--spelling/--no-spelling",
        default=None,
        help="Learn from first and last letters and the shape of texts, too. By itself: where they look like words.",
    ),
    column_option("--group", "Whose sequences are held out together, such as a patient's. It is no feature."),
)


def named_columns(given: Mapping[str, Any]) -> list[str]:
    """The label and the features that these options name: columns whose lists are steps."""
    features = [*given["features"], *(name for text in given["features"] for name in text.split(","))]
    return features if given["label"] is None else [given["label"], *features]


def roles(source: Table, given: Mapping[str, Any]) -> Roles:
    """What the options of `column_flags` say about the columns of a table."""
    from bilstm.tables.prepare import Roles

    return Roles(
        sequence=given["sequence"],
        label=given["label"],
        order=given["order"],
        features=split_names(given["features"], source) if given["features"] else None,
        categorical=split_names(given["categorical"], source),
        spelling=given["spelling"],
        group=given["group"],
    )


def class_weights(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> ClassWeight:
    """`balanced`, or LABEL=NUMBER for some labels."""
    if not given or given == ("balanced",):
        return "balanced" if given else None
    weights: dict[str, float] = {}
    for text in given:
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


def training_options(given: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> TrainingOptions:
    """What the options of `training_flags` say; the defaults are those that are not the product's."""
    from bilstm.training.options import TrainingOptions

    names = {field.name for field in dataclasses.fields(TrainingOptions)}
    said = {name: value for name, value in given.items() if name in names and value is not None}
    try:
        return TrainingOptions(**{**(defaults or {}), **said})
    except ValueError as error:  # such as an infinite learning rate, which click lets pass
        raise UserError(str(error)) from None


def open_model(model: str, table: str, names: dict[str, str | None]) -> tuple[Tagger, Columns, Table]:
    """A model, what it expects of this table, and the table."""
    tagger, columns = known_columns(model, names)
    return tagger, columns, open_table(table, columns)


def known_columns(model: str, names: dict[str, str | None]) -> tuple[Tagger, Columns]:
    """A model, and what it expects of a table that has these names for its columns."""
    from bilstm.tagging.tagger import Tagger

    tagger = Tagger.load(model)
    known = tagger.columns
    columns = dataclasses.replace(
        known,
        sequence=names.get("sequence") or known.sequence,
        order=names.get("order") or known.order,
        label=names.get("label") or known.label,
    )
    return tagger, columns


def open_table(table: str, columns: Columns) -> Table:
    """The table of which a model expects these columns."""
    from bilstm.tables.reading import read_table

    return read_table(table, conll_columns=columns.conll_columns, steps=[*columns.features, columns.label])


def check_apart(paths: dict[str, str | None]) -> None:
    """Whatever is trained on, or chosen by, would be flattered by its own sequences."""
    seen: dict[str, str] = {}
    for what, path in paths.items():
        if path is not None and (other := seen.setdefault(os.path.realpath(path), what)) != what:
            raise UserError(f"{other} and {what} are the same file, {path}: give each its own sequences")


def use_threads(threads: int | None) -> None:
    if threads is not None:
        from bilstm.utils import set_threads

        set_threads(threads)


def split_names(given: tuple[str, ...], table: Table) -> list[str]:
    """`a,b` is two columns, unless one is called that."""
    names: list[str] = []
    for text in given:
        names += [text] if text in table.names else [name.strip() for name in text.split(",") if name.strip()]
    return names


def say(lines: list[str], quiet: bool, *, err: bool = False) -> None:
    """Print lines, on standard error where standard output is for data."""
    if not quiet:
        for line in lines:
            echo(line, err=err)
