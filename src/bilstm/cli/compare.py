"""`bilstm compare`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from bilstm.cli.options import (
    COUNT,
    FILE,
    FRACTION,
    TRAINING,
    check_apart,
    column_flags,
    named_columns,
    roles,
    say,
    training_flags,
    training_options,
    use_threads,
)
from bilstm.console import Progress, echo_json, fail, saying_if_stopped, stop_status
from bilstm.errors import UserError, listed, suggestion

if TYPE_CHECKING:
    from bilstm.compare.variants import Variant
    from bilstm.data.columns import Encoded
    from bilstm.data.prepare import Prepared
    from bilstm.data.table import Table
    from bilstm.training.options import TrainingOptions


@click.command(short_help="Find out what a variant of the network gains.")
@click.argument("table", type=FILE)
@column_flags
@click.option("--test", metavar="TABLE", type=FILE, help="Sequences to score by, instead of a part held out.")
@click.option(
    "--valid", metavar="TABLE", type=FILE, help="Sequences to find the best epoch by, instead of a part held out."
)
@click.option(
    "--vary",
    metavar="OPTION=VALUES",
    multiple=True,
    help="What to compare, such as units=32,64; several give all combinations. The first of all is what the others are "
    "compared with.  [default: direction=forward,backward,both]",
)
@click.option("--seeds", type=COUNT, default=3, show_default=True, help="Trainings of each variant.")
@click.option("--same-size", is_flag=True, help="Give smaller variants more units, so that all have as many weights.")
@click.option("--test-split", type=FRACTION, help="Share of the sequences held out to score by.  [default: 0.2]")
@click.option("--out", metavar="FILE", type=FILE, help="Draw learning curves and differences: .png, .svg or .pdf.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@training_flags(
    texts={
        "layers": "LSTM layers.",
        "direction": "Which way the sequences are read, where that does not vary; none: each step by itself.",
        "epochs": "Passes over the training sequences.",
        "patience": "Stop after so many epochs without a better score. Without it, all train for all epochs.",
        "validation_split": "Share held out to find the best epoch by.",
        "seed": "The first. The same seed, options and table give the same figures.",
        "time_limit": "Seconds after which each training stops, with the best model until then.",
    },
    defaults={"units": 64, "layers": 2, "validation_split": 0.1, "patience": None},
)
@click.option("--threads", type=click.IntRange(1, 1024), help="Without it, one a processor. The figures are the same.")
@click.option("--quiet", is_flag=True, help="Print the result only.")
def compare(
    table: str,
    test: str | None,
    vary: tuple[str, ...],
    seeds: int,
    same_size: bool,
    out: str | None,
    as_json: bool,
    threads: int | None,
    quiet: bool,
    **given: Any,
) -> None:
    """Train several variants of the network on a TABLE of labelled sequences, and say what differs.

    Without further options: what does each direction, and what do both, know? Every variant is trained from the same
    seeds on the same sequences, and scored on the same others. Ctrl-C ends it with the figures until then.
    """
    from bilstm.compare.comparison import DEFAULTS, ComparisonInterrupted, compare_encoded, of_one_size
    from bilstm.compare.verdict import table as scores
    from bilstm.wording import before_training, to_score_by

    base = training_options(given, DEFAULTS)
    variants = _variants(vary, base, given)
    picture = None
    if out is not None:
        from bilstm import plots

        picture = plots.picture_path(out, "comparison")
    source, prepared, held_out, scored = _parts(table, test, base, given)
    if same_size:
        variants = of_one_size(variants, prepared.columns)
    lines = before_training(source, dataclasses.replace(prepared, validation=held_out)) + to_score_by(scored)
    lines.append(f"to compare: {', '.join(variant.name for variant in variants)}")
    say(lines, quiet or as_json)
    use_threads(threads)
    interrupt = None
    with saying_if_stopped("before there was a result"):
        try:
            with Progress(quiet=quiet) as progress:
                parts = (prepared.columns, prepared.training, held_out, scored)
                report = compare_encoded(*parts, variants, seeds=seeds, progress=progress)
        except ComparisonInterrupted as caught:
            interrupt, report = caught, caught.report
    if as_json:
        echo_json({"table": table, "test": test, **report})
    else:
        notes = [f"note: {note}" for note in report["notes"]]
        say([*scores(report), *notes, report["sentence"]], quiet=False)
    if picture is not None:
        plots.save(plots.comparison(report), picture)
        say([f"{picture}: learning curves and differences"], quiet or as_json)
    if interrupt:
        fail(str(interrupt), stop_status(interrupt))


def _parts(
    table: str, test: str | None, options: TrainingOptions, given: dict[str, Any]
) -> tuple[Table, Prepared, Encoded, Encoded]:
    """The table and what is made of it, the sequences to validate on, and those to score by."""
    from bilstm.compare.comparison import TEST_SPLIT, held_out_share, part
    from bilstm.data.prepare import prepare
    from bilstm.data.reading import read_table

    valid = given["valid"]
    for flag, path, other in (("--test", test, "test_split"), ("--valid", valid, "validation_split")):
        if path is not None and given[other] is not None:
            raise UserError(f"{flag} names the sequences, so --{other.replace('_', '-')} has no use: leave one out")
    test_share = None if test else TEST_SPLIT if given["test_split"] is None else given["test_split"]
    share = held_out_share(None if valid else options.validation_split, test_share)
    if given["group"] is not None and not share:
        raise UserError("--group says what is held out together, and with --valid and --test nothing is: leave it out")
    named = named_columns(given)
    source = read_table(table, steps=named)
    check_apart({"TABLE": table, "--valid": valid, "--test": test})
    tables = [
        None if path is None else read_table(path, conll_columns=source.conll_columns, steps=named)
        for path in (valid, test)
    ]
    prepared = prepare(source, roles(source, given), validation_split=share, seed=options.seed)
    columns = prepared.columns
    validation, scored = (other and columns.encode(other, need_labels=True, allow_unseen=True) for other in tables)
    validation = validation and validation.without_unseen(len(columns.classes))
    held_out = prepared.validation
    if share and held_out is None:
        raise UserError(f"only one sequence of {table} has labels: there are none to hold out")
    if held_out and test_share and not valid:
        validation, scored = part(held_out, test_share / share, seed=options.seed, groups=prepared.groups)
    validation, scored = validation or held_out, scored or held_out
    assert validation is not None
    assert scored is not None
    return source, prepared, validation, scored


def _variants(vary: tuple[str, ...], base: TrainingOptions, given: dict[str, Any]) -> list[Variant]:
    """What --vary says, or else the directions."""
    from bilstm.compare.variants import DIRECTIONS, VARIABLE, grid

    values: dict[str, Any] = {}
    for text in vary:
        option, equals, listing = text.partition("=")
        name = option.strip().replace("-", "_")
        if name not in VARIABLE:
            hint = suggestion(name, VARIABLE)
            raise UserError(f"--vary {text}: there is no option {option!r} to vary.{hint} There are {listed(VARIABLE)}")
        if not equals or not listing.strip():
            raise UserError(f"--vary {text}: say which values, as in --vary direction=forward,both")
        if name in values:
            raise UserError(f"--vary {text}: {name} is varied already; give all of its values together")
        values[name] = [_value(text, name, value.strip()) for value in listing.split(",")]
    values = values or dict(DIRECTIONS)
    for name in values:
        if given[name] is not None:
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"{flag} sets what is varied: leave it out, or vary something else with --vary")
    return grid(values, base)


def _value(text: str, name: str, value: str) -> Any:
    try:
        return TRAINING[name][0].convert(value, None, None)
    except click.BadParameter as error:
        raise UserError(f"--vary {text}: {error.message}") from None
