"""What a report says first: a few sentences and figures for a person who never heard of LSTMs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from bilstm.errors import counted
from bilstm.tagging.tagger import Tagger

_FEW = 10  # sequences, on which a score is shaky
_MOST_NOTES = 4  # on the data, said at once
_MARGIN = 0.02  # of confidence, within which it is called right


class Tile(NamedTuple):
    """A figure that catches the eye, what it is, and a sentence more."""

    figure: str
    what: str
    more: str


def percent(share: float) -> str:
    """`93.6 %`."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def points(difference: float) -> str:
    """`+27.7 points`."""
    return f"{'+' if difference >= 0 else ''}{signed(difference)} points"


def signed(difference: float) -> str:
    """`27.7`, `−3.1`: points, with a minus sign rather than a hyphen."""
    return f"{100 * difference:.1f}".replace("-", "−")


def span(ends: Sequence[float] | None) -> str:
    """`92.2 to 94.8 %`."""
    return "" if ends is None else f"{100 * ends[0]:.1f} to {percent(ends[1])}"


def of_100(share: float) -> str:
    """`94 of 100`."""
    return f"{100 * share:.0f} of 100"


def quoted(name: str) -> str:
    """A label or a value as the page's sentences quote it; what is too long is cut."""
    return f"“{name if len(name) <= 30 else name[:29] + '…'}”" if name else "the empty text"


def named(names: Sequence[str], most: int = 6) -> str:
    """`“P”, “QRS” and “T”`; of many, the first and how many more."""
    shown = [quoted(name) for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def lead(tagger: Tagger, findings: dict[str, Any]) -> str:
    """What the model does, and what it was tried on."""
    classes, scores = tagger.columns.classes, findings["scores"]
    tried_on = f"{counted(scores['sequences'], 'sequence')} with {counted(scores['steps'], 'step')}"
    return (
        f"This model reads a sequence step by step and gives each step one of {len(classes)} labels: {named(classes)}. "
        f"Here it was tried on {tried_on} whose right labels are known."
    )


def tiles(tagger: Tagger, findings: dict[str, Any]) -> list[Tile]:
    """The score, what context adds to it, and what is got for nothing."""
    scores, baseline = findings["scores"], findings["scores"]["baseline"]
    intervals = scores["intervals"] or {}
    commonest = max(findings["data"]["labels"], key=lambda label: label["true"])["name"]
    found = []
    if spans := scores["spans"]:
        ends = (spans["intervals"] or {}).get("f1")
        right = f"Of 100 that it marks, {100 * spans['precision']:.0f} are right. F1 {spans['f1']:.3f}"
        found.append(
            Tile(
                of_100(spans["recall"]),
                "spans found, with the right ends and the right type",
                right + (f"; on other sequences like these, probably {ends[0]:.3f} to {ends[1]:.3f}." if ends else "."),
            )
        )
    probably = intervals.get("accuracy")
    more = (
        f"On other sequences like these, probably {span(probably)}."
        if probably
        else "One sequence tells nothing of others."
    )
    found.append(Tile(percent(scores["accuracy"]), "of the steps get the right label", more))
    if baseline:
        gained = (baseline["intervals"] or {}).get("gain")
        between = f"; the difference is probably {signed(gained[0])} to {signed(gained[1])} points" if gained else ""
        more = f"Looking at each step alone, the same network gets {percent(baseline['accuracy'])}{between}."
        if spans and baseline["spans"]:
            more = f"{more} Its F1 of spans is {baseline['spans']['f1']:.3f}."
        found.append(Tile(points(baseline["gain"]), "from reading the steps around", more))
    more = f"By always answering {quoted(commonest)}. A model is worth something if it is clearly better."
    return [*found, Tile(percent(scores["majority"]), "would be right without any model", more)]


def sentences(tagger: Tagger, findings: dict[str, Any]) -> list[str]:
    """What is good to know, the weightiest first."""
    scores = findings["scores"]
    told = [*_by_label(scores), *_mistakes(scores), _sureness(findings), *_context(findings)]
    return [sentence for sentence in told if sentence]


def cautions(tagger: Tagger, findings: dict[str, Any]) -> list[str]:
    """What takes something away from the figures."""
    scores, training = findings["scores"], tagger.training
    found = []
    if scores["sequences"] < _FEW:
        tried = counted(scores["sequences"], "sequence")
        found.append(f"It was tried on no more than {tried}, so on others the score may well differ.")
    gain = (scores["baseline"] or {}).get("intervals") or {}
    if "gain" in gain and gain["gain"][0] <= 0:
        found.append("It is not certain that reading the steps around helps at all: the difference may be chance.")
    if scores["accuracy"] <= scores["majority"]:
        found.append("Always giving the commonest label would be right as often.")
    epochs, best = training.get("epochs"), training.get("best_epoch")
    if epochs == best and training.get("stopped") != "all epochs done":
        found.append(
            f"Training ended early ({training.get('stopped')}) while the model was still getting better: more time "
            f"would probably give a better one."
        )
    notes = [f"In this table, {note}." for note in scores["notes"][:_MOST_NOTES]]
    if more := len(scores["notes"]) - len(notes):
        notes.append(f"There are {more} more notes of that kind below, under the data.")
    return found + notes


def _by_label(scores: dict[str, Any]) -> list[str]:
    occurring = {name: score for name, score in scores["per_class"].items() if score["support"]}
    if len(occurring) < 2:
        return []
    best = max(occurring, key=lambda name: occurring[name]["f1"])
    worst = min(occurring, key=lambda name: occurring[name]["f1"])
    if best == worst:
        return []
    least = occurring[worst]
    return [
        f"It is best at {quoted(best)}, of which it finds {of_100(occurring[best]['recall'])}. Hardest for it is "
        f"{quoted(worst)}: it finds {of_100(least['recall'])} such steps, and "
        + (f"{of_100(least['precision'])} that it calls so are." if least["precision"] else "is never right about it.")
    ]


def _mistakes(scores: dict[str, Any]) -> list[str]:
    wrong = confusions(scores["confusion"])
    if not wrong:
        return ["It made no mistake here."]
    truth, guess, steps = wrong[0]
    share = steps / sum(each[2] for each in wrong)
    return [
        f"Its most frequent mistake is to say {quoted(guess)} where {quoted(truth)} is right: "
        f"{100 * share:.0f} % of all its mistakes."
    ]


def confusions(confusion: dict[str, dict[str, int]]) -> list[tuple[str, str, int]]:
    """(true label, predicted label, steps) of each mistake, the most frequent first."""
    found = [
        (truth, guess, steps) for truth, row in confusion.items() for guess, steps in row.items() if truth != guess
    ]
    return sorted(found, key=lambda each: -each[2])


def _sureness(findings: dict[str, Any]) -> str:
    sure, scores = findings["confidence"], findings["scores"]
    if sure["right"] is None:
        told = f"It is never as much as {100 * sure['threshold']:.0f} % sure"
    else:
        told = (
            f"Where it says that it is at least {100 * sure['threshold']:.0f} % sure, which is "
            f"{percent(sure['share'])} of the steps, {of_100(sure['right'])} are right"
        )
    if sure["right"] is not None and sure["otherwise"] is not None:
        told += f"; elsewhere, {of_100(sure['otherwise'])}"
    bias = sum(found["steps"] * (found["confidence"] - found["accuracy"]) for found in scores["calibration"])
    bias /= scores["steps"]
    if abs(bias) > _MARGIN:
        return f"{told}. On the whole it is too {'sure' if bias > 0 else 'modest'}, by {100 * abs(bias):.0f} points."
    return f"{told}. On the whole it is as sure as it should be."


def _context(findings: dict[str, Any]) -> list[str]:
    reach = findings["reach"]
    sides = [(reach[side], where) for side, where in (("past", "back"), ("future", "ahead")) if reach[side]]
    used = [(side, where) for side, where in sides if side["reach"] != 0]
    told = f"It looks {' and '.join(_distance(*each) for each in used)}." if used else ""
    unused = [where for side, where in sides if side["reach"] == 0]
    if unused:
        told += f" Looking {' or '.join(unused)} makes no certain difference to it."
    return [told.strip()] if told else []


def looks(side: dict[str, Any], where: str) -> str:
    """`It looks about 64 steps back.`, of what `context_reach` tells of a side."""
    if side["reach"] == 0:
        return f"Looking {where} makes no certain difference to it."
    return f"It looks {_distance(side, where)}."


def _distance(side: dict[str, Any], where: str) -> str:
    if side["reach"] is None:
        return f"more than {counted(side['known'][-1]['from'], 'step')} {where}"
    about = "" if side["reach"] <= 2 else "about "
    return f"{about}{counted(side['reach'], 'step')} {where}"
