"""The report: one HTML page that needs nothing else, neither a network nor a script."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilstm._version import __version__
from bilstm.data.memory import MemoryTable
from bilstm.errors import UserError, counted
from bilstm.files import AnyPath, check_replaceable, check_writable, replacing
from bilstm.inspection import describe_network
from bilstm.model.trained import TrainedModel
from bilstm.report import pictures, summary, timelines
from bilstm.report.findings import examine
from bilstm.tasks import LabelTask, QuantityTask
from bilstm.wording import reached

if TYPE_CHECKING:
    from jinja2 import Environment

ENDINGS = (".html", ".htm")
_HEAD = 4096  # bytes that hold the name of the program that wrote a page
_MOST_CONFUSIONS = 15
_MOST_DRAWN = 6  # quantities whose residuals are drawn
# Control characters and surrogates, which HTML does not allow, and marks that turn the direction of the text around.
_UNPRINTABLE = dict.fromkeys(
    {*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)} - {9, 10},
    "\N{REPLACEMENT CHARACTER}",
)


def check_report_path(path: AnyPath, *, inputs: Sequence[AnyPath] = (), force: bool = False) -> None:
    """Find out now whether a report can be written to `path` and replaces nothing but a report.

    Args:
        path: the file to write.
        inputs: files that it must not replace.
        force: replace an existing file of any content.

    Raises:
        UserError: it cannot be written, the name does not end in .html, or another program's page would be replaced.
    """
    _environment()  # needs a package that may be missing
    if Path(path).suffix.lower() not in ENDINGS:
        raise UserError(f"cannot write a report as {os.fspath(path)}: its name must end in .html")
    check_writable(path, inputs=inputs)
    if not force:
        check_replaceable(path, "a report that bilstm wrote", _is_report)


def _is_report(path: AnyPath) -> bool:
    with open(path, "rb") as file:
        return b'<meta name="generator" content="bilstm ' in file.read(_HEAD)


def write_report(
    path: AnyPath,
    model: TrainedModel,
    data: Any,
    *,
    labels: Any = None,
    group: str | None = None,
    tolerance: int | None = None,
    background: str | None = None,
    name: str = "",
    force: bool = False,
) -> dict[str, Any]:
    """Evaluate a model on labelled sequences, and write the results as a page that any browser shows.

    Args:
        path: the file to write, atomically; its name ends in .html.
        model: for any task.
        data: labelled sequences in any form that `TrainedModel` takes: a path, a data frame, arrays …
        labels: a table with one row per sequence that holds the true answers, where they are not among the data.
        group: the column that tells which sequences belong together, such as one patient's: intervals then draw whole
            groups.
        tolerance: for labels of time steps: score runs of equal labels as events, whose first and last steps may each
            be off by this number of steps.
        background: the label that is no event.
        name: the model's name or file, shown on the page along with the file's size.
        force: whether to replace a file that bilstm did not write.

    Returns:
        The results as plain data: see `examine`.

    Raises:
        UserError: the data are not like those of training, an option does not go with the task, or the file cannot be
            written.
    """
    check_report_path(path, force=force)
    table = model.open(data)
    findings = examine(model, table, labels=labels, group=group, tolerance=tolerance, background=background)
    of = "" if isinstance(table, MemoryTable) else table.label
    page = render(model, findings, name=name, table=of)
    with replacing(path) as unfinished:
        unfinished.write_bytes(page.encode())
    return findings


def render(model: TrainedModel, findings: dict[str, Any], *, name: str = "", table: str = "") -> str:
    """The page's HTML.

    Args:
        findings: what `examine` returned for the model.
        name: the model's name or file.
        table: the name or file of the data.
    """
    task, scores, reach = model.task, findings["scores"], findings["reach"] or {}
    of_labels, of_quantities = isinstance(task, LabelTask), isinstance(task, QuantityTask)
    key = {"label": "accuracy", "labels": "subset_accuracy", "quantity": "r2"}[task.what]
    constant = {"label": "majority class", "labels": "most frequent answers", "quantity": "training mean"}[task.what]
    per_label = scores.get("per_class") or scores.get("per_label") or {}
    mistakes = summary.confusions(scores["confusion"]) if of_labels else []
    measure = pictures.measure(task, scores)
    page: str = (
        _environment()
        .get_template("page.html")
        .render(
            version=__version__,
            model=Path(name).name or "this model",
            table=Path(table).name or "the data",
            task=task,
            unit=task.unit,
            several=task.what == "labels",
            findings=findings,
            scores=scores,
            labelled=summary.labelled_rows(scores),
            cautions=summary.cautions(model, scores),
            constant=constant,
            constants=summary.constant_scores(task, scores),
            bars=pictures.score_bars(scores, key, None if of_quantities else (constant, scores["majority"])),
            per_label=per_label,
            shown_labels=summary.most(per_label),
            most_rows=summary.MOST_ROWS,
            numeric=len(model.schema.numeric),
            training=model.training,
            learning=pictures.learning(model),
            reached=reached(model.training) if model.training["epochs"] == 1 else None,
            confusion=summary.confusion_matrix(scores) if of_labels else None,
            spans=summary.span_results(scores["spans"]) if of_labels and scores["spans"] else None,
            mistakes=mistakes[:_MOST_CONFUSIONS],
            wrong=sum(rows for _, _, rows in mistakes),
            excess=summary.overconfidence(scores) if of_labels else 0.0,
            calibration=None if of_quantities else pictures.calibration(findings, task.what == "labels"),
            residuals=[(each["name"], pictures.residuals(each)) for each in findings["residuals"] or []][:_MOST_DRAWN],
            examples=timelines.examples(task, findings),
            sides=[(where, reach[side]) for side, where in (("past", "back"), ("future", "ahead")) if reach.get(side)],
            reach=pictures.reach(measure, reach),
            measure=measure,
            step_range=timelines.step_range,
            lengths=pictures.lengths(findings["data"]),
            network=describe_network(model.network),
            size=os.path.getsize(name) if name and os.path.exists(name) else None,
        )
    )
    return page


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        finalize=lambda value: _printable(value) if isinstance(value, str) else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in (
        "percent",
        "number",
        "span",
        "figure",
        "quoted",
        "named",
        "distance",
        "most",
        "of_100",
        "span_summary",
    ):
        environment.filters[name] = getattr(summary, name)
    environment.filters["counted"] = counted
    return environment


def _printable(text: str) -> str:
    """The text without characters that could damage the page; what is escaped already stays so."""
    return type(text)(str.translate(text, _UNPRINTABLE))
