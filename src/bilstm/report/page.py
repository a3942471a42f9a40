"""The report: one HTML page that needs nothing else, neither a network nor a script."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bilstm._version import __version__
from bilstm.data.columns import Columns, Encoded
from bilstm.data.table import Table
from bilstm.errors import UserError, counted
from bilstm.files import AnyPath, check_writable, replacing
from bilstm.inspection import describe_network
from bilstm.report import pictures, summary
from bilstm.report.findings import examine
from bilstm.tagging.tagger import Tagger

if TYPE_CHECKING:
    from jinja2 import Environment

ENDINGS = (".html", ".htm")
_MOST_CLASSES = 12  # of the confusion matrix; of more, the commonest and a column for the others
_MOST_CONFUSIONS = 15
_MOST_ROWS = 60  # of other tables

# Each score's name, key, and what it says.
_SCORES = (
    ("accuracy", "accuracy", "share of steps with the right label"),
    ("balanced accuracy", "balanced_accuracy", "each label counts alike, however rare"),
    ("mean F1", "macro_f1", "each label’s F1 counts alike"),
    ("log loss", "log_loss", "how badly the probabilities fit; lower is better"),
    ("calibration error", "calibration_error", "how far off they are on average; lower is better"),
)


def check_report_path(path: AnyPath, *, inputs: Sequence[AnyPath] = ()) -> None:
    """Find out now whether a report can be written to `path`.

    Raises:
        UserError: it cannot, or the name does not end in .html.
    """
    _environment()  # needs a package that may be missing
    if Path(path).suffix.lower() not in ENDINGS:
        raise UserError(f"cannot write a report as {os.fspath(path)}: its name must end in .html")
    check_writable(path, inputs=inputs)


def write_report(
    path: AnyPath,
    tagger: Tagger,
    table: Table,
    *,
    columns: Columns | None = None,
    encoded: Encoded | None = None,
    tolerance: int | None = None,
    background: str | None = None,
    model: str = "",
) -> dict[str, Any]:
    """Try a tagger on a labelled table, and write what was found as a page that any browser shows.

    Args:
        path: the file to write, wholly or not at all; its name ends in .html.
        table: what `bilstm.data.reading.read_table` reads.
        columns: the tagger's, where the table has other names for the sequence, the order or the label.
        encoded: what they make of the table, where it is known already.
        tolerance, background: of events, see `evaluate_tagger`.
        model: the model's name or file, which the page tells along with the file's size.

    Returns:
        What was found: see `examine`.

    Raises:
        UserError: the table is not what the model expects, or the file cannot be written.
    """
    check_report_path(path)
    findings = examine(tagger, table, columns=columns, encoded=encoded, tolerance=tolerance, background=background)
    page = render(tagger, findings, model=model, table=str(table.path))
    with replacing(path) as unfinished:
        unfinished.write_bytes(page.encode("utf-8", "xmlcharrefreplace"))  # also what is half a character
    return findings


def render(tagger: Tagger, findings: dict[str, Any], *, model: str = "", table: str = "") -> str:
    """The page's HTML, of what `examine` found."""
    return (
        _environment()
        .get_template("page.html")
        .render(
            version=__version__,
            model=Path(model).name or "this model",
            table=Path(table).name or "this table",
            lead=summary.lead(tagger, findings),
            tiles=summary.tiles(tagger, findings),
            sentences=summary.sentences(tagger, findings),
            cautions=summary.cautions(tagger, findings),
            findings=findings,
            scores=findings["scores"],
            rows=score_rows(findings["scores"]),
            bars=pictures.score_bars(findings["scores"]),
            per_class=most(findings["scores"]["per_class"]),
            most_rows=_MOST_ROWS,
            detected=_detected(findings["scores"]),
            training=tagger.training,
            learning=pictures.learning(tagger),
            confusion=confusion(findings["scores"]),
            mistakes=summary.confusions(findings["scores"]["confusion"])[:_MOST_CONFUSIONS],
            calibration=pictures.calibration(findings["scores"]),
            examples=pictures.examples(findings),
            reach=pictures.reach(findings),
            looks=summary.looks,
            lengths=pictures.lengths(findings["data"]),
            labels=most({label["name"]: label for label in findings["data"]["labels"]}, "true"),
            network=describe_network(tagger.model),
            size=os.path.getsize(model) if model and os.path.exists(model) else None,
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": summary.percent, "counted": counted}
    return environment


class Row(NamedTuple):
    """A score and what it is to be compared with, as text."""

    name: str
    explained: str
    model: str
    interval: str
    baseline: str
    majority: str


def score_rows(scores: dict[str, Any]) -> list[Row]:
    """The table of scores."""
    baseline = scores["baseline"] or {}
    occurring = sum(bool(score["support"]) for score in scores["per_class"].values())
    share = scores["majority"]
    constant = {
        "accuracy": share,
        "balanced_accuracy": 1 / occurring,
        "macro_f1": 2 * share / (1 + share) / occurring,
    }
    rows = [
        Row(name, told, _number(scores, key), _interval(scores, key), _number(baseline, key), _number(constant, key))
        for name, key, told in _SCORES
    ]
    for key, name, explained in (
        ("spans", "F1 of spans", "whole spans, ends and type right"),
        ("events", "F1 of events", "runs of equal labels"),
    ):
        if found := scores[key]:
            if key == "events":
                explained += f", ends at most {counted(found['tolerance'], 'step')} off"
            others = baseline.get(key) or {}
            rows.append(Row(name, explained, _number(found, "f1"), _interval(found, "f1"), _number(others, "f1"), ""))
    return rows


def _number(scores: dict[str, Any], key: str) -> str:
    return f"{scores[key]:.4f}" if key in scores else ""


def _interval(scores: dict[str, Any], key: str) -> str:
    ends = (scores["intervals"] or {}).get(key)
    return f"{ends[0]:.3f}–{ends[1]:.3f}" if ends else ""


def _detected(scores: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Title, heading and scores by type, of spans and events."""
    parts = (("spans", "Spans", "type"), ("events", "Events", "label"))
    return [(title, heading, most(scores[key]["per_class"])) for key, title, heading in parts if scores[key]]


def most(rows: dict[str, dict[str, Any]], key: str = "support", count: int = _MOST_ROWS) -> dict[str, dict[str, Any]]:
    """Those with the largest numbers, in their own order."""
    kept = set(sorted(rows, key=lambda name: -rows[name][key])[:count])
    return {name: row for name, row in rows.items() if name in kept}


class Matrix(NamedTuple):
    """A confusion matrix: its columns; for each row its name, its steps, and its cells' shares and steps; and how many
    classes are counted together in the last column."""

    columns: list[str]
    rows: list[tuple[str, int, list[tuple[float, int]]]]
    others: int


def confusion(scores: dict[str, Any]) -> Matrix:
    """Of many classes, the commonest; what is left is one more column."""
    supports = {name: score["support"] for name, score in scores["per_class"].items()}
    kept = list(supports)
    if len(kept) > _MOST_CLASSES:
        kept = sorted(sorted(supports, key=lambda name: -supports[name])[: _MOST_CLASSES - 1])
    others = len(supports) - len(kept)
    rows = []
    for name in kept:
        row, steps = scores["confusion"][name], supports[name]
        counts = [row.get(other, 0) for other in kept]
        counts += [steps - sum(counts)] if others else []
        rows.append((name, steps, [(count / max(steps, 1), count) for count in counts]))
    return Matrix([*kept, *(["others"] if others else [])], rows, others)
