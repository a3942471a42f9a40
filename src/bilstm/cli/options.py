"""What several commands share: options, and opening what they name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from bilstm.errors import UserError, shown

if TYPE_CHECKING:
    from bilstm.classweights import ClassWeight
    from bilstm.columns import Columns
    from bilstm.tables import Table
    from bilstm.tagger import Tagger
    from bilstm.training import TrainingOptions

FRACTION = click.FloatRange(0, 1, max_open=True)
POSITIVE = click.FloatRange(0, min_open=True)
FROM_ZERO = click.FloatRange(0)
COUNT = click.IntRange(1)
DIRECTION = click.Choice(["both", "forward", "backward", "none"])
MERGE_MODE = click.Choice(["concat", "sum", "mul", "ave"])


class TrainingOption(click.Option):
    """An option that is one of `TrainingOptions`. Its default is looked up only when help is asked for."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from bilstm.training import TrainingOptions

        name, text = super().get_help_record(ctx) or ("", "")
        default = getattr(TrainingOptions, str(self.name))
        return name, text if default is None else f"{text}  [default: {default}]"


def training_option(name: str, kind: Any, text: str) -> Callable[[Any], Any]:
    return click.option(name, cls=TrainingOption, type=kind, help=text)


def column_option(name: str, text: str, **settings: Any) -> Callable[[Any], Any]:
    metavar = "COLUMNS" if settings.get("multiple") else "COLUMN"
    return click.option(name, metavar=metavar, help=text, **settings)


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


def training_options(given: dict[str, Any]) -> TrainingOptions:
    from bilstm.training import TrainingOptions

    names = {field.name for field in dataclasses.fields(TrainingOptions)}
    try:
        return TrainingOptions(**{name: value for name, value in given.items() if name in names and value is not None})
    except ValueError as error:  # such as an infinite learning rate, which click lets pass
        raise UserError(str(error)) from None


def open_model(model: str, table: str, names: dict[str, str | None]) -> tuple[Tagger, Columns, Table]:
    """A model, what it expects of this table, and the table."""
    from bilstm.tablefiles import read_table
    from bilstm.tagger import Tagger

    tagger = Tagger.load(model)
    known = tagger.columns
    columns = dataclasses.replace(
        known,
        sequence=names.get("sequence") or known.sequence,
        order=names.get("order") or known.order,
        label=names.get("label") or known.label,
    )
    return tagger, columns, read_table(table, conll_columns=columns.conll_columns)


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


def say(lines: list[str], quiet: bool) -> None:
    if not quiet:
        click.echo("\n".join(lines))
