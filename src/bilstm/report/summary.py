"""Numbers and names as the report's sentences show them, and the facts that need more than a look at the findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from bilstm.errors import counted
from bilstm.model.trained import TrainedModel
from bilstm.tasks import LabelTask, QuantityTask, Task

MOST_ROWS = 60
_MOST_CLASSES = 12  # of the confusion matrix; of more, the most frequent and a column for the others


def percent(share: float) -> str:
    """`93.6 %`."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%".replace("-", "−")


def number(value: float, form: str = ".4g") -> str:
    """`0.1234`, `−3.1`, or `+3.1` with the form "+.2g": with a minus sign rather than a hyphen."""
    return f"{value:{form}}".replace("-", "−")


def of_100(share: float) -> str:
    """`94 of 100`."""
    return f"{100 * share:.0f} of 100"


def span(ends: Sequence[float], factor: float = 1, form: str = ".3f") -> str:
    """`0.912 to 0.934`."""
    return " to ".join(number(factor * end, form) for end in ends)


def figure(value: float | None) -> str:
    """A score for a table: four decimals, or four digits where it is large; "" for None."""
    return "" if value is None else number(value, ".4f" if abs(value) < 100 else ".4g")


def quoted(name: str) -> str:
    """A label or a value as sentences quote it; what is too long is cut."""
    return f"“{name if len(name) <= 30 else name[:29] + '…'}”" if name else "the empty text"


def named(names: Sequence[str], most: int = 6) -> str:
    """`“P”, “QRS” and “T”`; of many, the first and how many more."""
    shown = [quoted(name) for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def distance(side: dict[str, Any], where: str) -> str:
    """`about 64 steps back`, from what `ContextReach` found for a side."""
    if side["reach"] is None:
        return f"more than {counted(side['known'][-1]['from'], 'step')} {where}"
    about = "" if side["reach"] <= 2 else "about "
    return f"{about}{counted(side['reach'], 'step')} {where}"


def labelled_rows(scores: dict[str, Any]) -> int:
    """How many steps or sequences were scored."""
    count: int = scores["steps"] if "steps" in scores else scores["labelled_sequences"]
    return count


def cautions(model: TrainedModel, scores: dict[str, Any]) -> list[str]:
    """What limits the scores."""
    training, gain = model.training, ((scores["baseline"] or {}).get("intervals") or {}).get("gain")
    conditions = {
        scores["caution"]: scores["caution"],
        "It is not certain that context helps at all: the difference may be chance.": gain and gain[0] <= 0,
        "Always predicting the majority class would be right as often.": scores.get("accuracy", 1)
        <= scores.get("majority", 0),
        "Always predicting the mean would be as good.": scores.get("r2", 1) <= 0,
        f"Training ended early ({training['stopped']}) while the model was still improving: with more time it would "
        f"probably be better.": training["epochs"] == training["best_epoch"]
        and training["stopped"] != "all epochs done",
    }
    return [caution for caution, holds in conditions.items() if holds]


def constant_scores(task: Task, scores: dict[str, Any]) -> dict[str, float]:
    """The known scores of always predicting the majority class, the most frequent answers, or the training mean."""
    if isinstance(task, QuantityTask):
        guess: dict[str, float] = scores["mean_guess"]
        return guess
    share = scores["majority"]
    if not isinstance(task, LabelTask):
        return {"subset_accuracy": share}
    occurring = sum(bool(score["support"]) for score in scores["per_class"].values())
    return {"accuracy": share, "balanced_accuracy": 1 / occurring, "macro_f1": 2 * share / (1 + share) / occurring}


def overconfidence(scores: dict[str, Any]) -> float:
    """By how much the mean predicted probability exceeds the accuracy."""
    curve = scores["calibration"]
    excess = sum(group["steps"] * (group["confidence"] - group["accuracy"]) for group in curve)
    return float(excess / sum(group["steps"] for group in curve))


def confusions(confusion: dict[str, dict[str, int]]) -> list[tuple[str, str, int]]:
    """(true label, predicted label, rows) of each error, the most frequent first."""
    confusions = [
        (truth, guess, rows) for truth, row in confusion.items() for guess, rows in row.items() if truth != guess
    ]
    return sorted(confusions, key=lambda each: -each[2])


def most(rows: dict[str, dict[str, Any]], key: str = "support", count: int = MOST_ROWS) -> dict[str, dict[str, Any]]:
    """Those with the largest numbers, in their own order."""
    kept = set(sorted(rows, key=lambda name: -rows[name][key])[:count])
    return {name: row for name, row in rows.items() if name in kept}


Row = tuple[str, int, list[tuple[float, int]]]
_SPAN_OUTCOMES = {
    "right": "right",
    "boundary": "another boundary",
    "type": "another type",
    "both": "both wrong",
    "missed": "missed",
    "invented": "invented",
}


def span_summary(spans: dict[str, list[dict[str, Any]]]) -> str:
    """`3 true spans: 1 right, 2 with another type; 3 predicted spans: 1 right, 2 with another type`."""
    texts = []
    for side, things in (("true", "true span"), ("predicted", "predicted span")):
        outcomes = [span["outcome"] for span in spans[side]]
        found = (
            f"{outcomes.count(outcome)} {'with ' * (outcome in ('boundary', 'type', 'both'))}{words}"
            for outcome, words in _SPAN_OUTCOMES.items()
            if outcome in outcomes
        )
        texts.append(f"{counted(len(outcomes), things)}{': ' * bool(outcomes)}{', '.join(found)}")
    return "; ".join(texts)


class SpanResults(NamedTuple):
    """What became of true and of predicted spans.

    Attributes:
        sides: for "true" and "predicted" spans the names of the outcomes, and for each type its name, its spans, and
            the share and the number of each outcome; of all types together first, if there are several.
        matrix: the types of predicted spans by those of the true ones that they resemble most, with a last row for
            invented ones and a last column for missed ones.
    """

    sides: dict[str, tuple[list[str], list[Row]]]
    matrix: Matrix


def span_results(spans: dict[str, Any]) -> SpanResults:
    """What became of spans, of the most frequent types where there are many."""
    errors = spans["errors"]
    kept = list(most(spans["per_class"], count=_MOST_CLASSES - 1))
    return SpanResults({side: _outcomes(errors[side], kept) for side in ("true", "predicted")}, _types(errors, kept))


def _outcomes(counts: dict[str, dict[str, int]], kept: Sequence[str]) -> tuple[list[str], list[Row]]:
    """The names of the outcomes, and a row for each type, of all types together first if there are several."""
    order = [name for name in _SPAN_OUTCOMES if name in next(iter(counts.values()))]
    rows = [(name or "any", [counts[name][outcome] for outcome in order]) for name in kept]
    if len(counts) > 1:
        rows.insert(0, ("all types", [sum(row[outcome] for row in counts.values()) for outcome in order]))
    return [_SPAN_OUTCOMES[name] for name in order], [_row(*row) for row in rows]


def _types(errors: dict[str, Any], kept: Sequence[str]) -> Matrix:
    """True and predicted types; all but the kept ones are counted together."""
    rest = [name for name in errors["true"] if name not in kept]
    columns = [[name] for name in kept] + ([rest] if rest else [])
    rows = []
    for name in kept:
        row = errors["confusion"][name]
        counts = [sum(row.get(other, 0) for other in column) for column in columns]
        rows.append(_row(name or "any", [*counts, errors["true"][name]["missed"]]))
    invented = [sum(errors["predicted"][other]["invented"] for other in column) for column in columns]
    names = [*(name or "any" for name in kept), *(["others"] if rest else []), "missed"]
    return Matrix(names, [*rows, _row("invented", invented)], len(rest))


def _row(name: str, counts: Sequence[int]) -> Row:
    """The name, the sum, and the share and the number of each count."""
    total = sum(counts)
    return name, total, [(count / max(total, 1), count) for count in counts]


class Matrix(NamedTuple):
    """A confusion matrix.

    Attributes:
        columns: the predicted labels.
        rows: for each true label its name, its rows, and the share and number of each cell.
        others: how many labels are counted together in the last column.
    """

    columns: list[str]
    rows: list[Row]
    others: int


def confusion_matrix(scores: dict[str, Any]) -> Matrix:
    """The confusion matrix; of many classes, the most frequent, with one more column for the others."""
    supports = {name: score["support"] for name, score in scores["per_class"].items()}
    kept = list(supports)
    if len(kept) > _MOST_CLASSES:
        kept = sorted(sorted(supports, key=lambda name: -supports[name])[: _MOST_CLASSES - 1])
    others = len(supports) - len(kept)
    rows = []
    for name in kept:
        row, support = scores["confusion"][name], supports[name]
        counts = [row.get(other, 0) for other in kept]
        counts += [support - sum(counts)] if others else []
        rows.append((name, support, [(count / max(support, 1), count) for count in counts]))
    return Matrix([*kept, *(["others"] if others else [])], rows, others)
