"""Texts with spans that a model has found, in the forms that other programs and people read.

- "json": a JSON object per line, with the text, its tokens and its spans, as Prodigy has them
  (https://prodi.gy/docs/api-interfaces#ner_manual).
- "doccano": a JSON object per line, with the text and a list of [start, end, label], as Doccano imports them
  (https://doccano.github.io/doccano/tutorial/).
- "label-studio": a JSON array of tasks with predictions (https://labelstud.io/guide/predictions), for the tags
  `<Labels name="label" toName="text">` and `<Text name="text" value="$text"/>` of its template for named entities.
- "brackets": the text as it stands, with brackets around spans: [aspirin CHEMICAL].
- "colours": the same for a terminal, with a colour for each label.

Offsets count code points of the text.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bilstm.data.tokens import Bounds
from bilstm.errors import printable

FORMS = ("json", "doccano", "label-studio", "brackets", "colours")
UNTYPED = "_"  # the label of spans whose tags have no type
_COLOURS = ("30;46", "30;43", "30;42", "30;45", "97;44", "97;41", "30;47", "30;106")  # of SGR: text and background


@dataclasses.dataclass(frozen=True)
class TokenSpan:
    """A span of tokens.

    Attributes:
        first, last: its first and its last token, counted from 0.
        label: what it is.
        probability: how sure the model is.
    """

    first: int
    last: int
    label: str
    probability: float


@dataclasses.dataclass(frozen=True)
class MarkedText:
    """A text, its tokens, and the spans that a model has found in it.

    Attributes:
        text: the text.
        bounds: where its tokens start and end.
        spans: in the order of the text.
    """

    text: str
    bounds: Bounds
    spans: Sequence[TokenSpan] = ()

    def offsets(self, span: TokenSpan) -> tuple[int, int]:
        """The offsets of a span's first character, and of the one after its last."""
        return self.bounds[span.first][0], self.bounds[span.last][1]

    def described(self, *, probabilities: bool) -> list[dict[str, Any]]:
        """The spans as plain data: "start", "end", "label", "text" and, where asked for, "probability"."""
        found = []
        for span in self.spans:
            start, end = self.offsets(span)
            item = {"start": start, "end": end, "label": span.label, "text": self.text[start:end]}
            found.append(item | ({"probability": span.probability} if probabilities else {}))
        return found

    def tokens(self) -> list[dict[str, Any]]:
        """The tokens as Prodigy has them; "ws" says whether a blank follows."""
        return [
            {
                "text": self.text[start:end],
                "start": start,
                "end": end,
                "id": index,
                "ws": self.text[end : end + 1] == " ",
            }
            for index, (start, end) in enumerate(self.bounds)
        ]


def written(texts: Iterable[MarkedText], form: str, labels: Sequence[str], *, probabilities: bool) -> Iterator[str]:
    """The lines of a file, or of a terminal.

    Args:
        form: one of `FORMS`.
        labels: all that there are, which have colours.
        probabilities: whether spans have theirs.
    """
    if form == "label-studio":
        between = "[\n"
        for text in texts:
            yield between + _line(_task(text, probabilities=probabilities)).rstrip("\n")
            between = ",\n"
        yield "[]\n" if between == "[\n" else "\n]\n"
        return
    for text in texts:
        yield line_of(text, form, labels, probabilities=probabilities)


def line_of(text: MarkedText, form: str, labels: Sequence[str], *, probabilities: bool) -> str:
    """The line of one text: see `written`; all forms but "label-studio" have one."""
    if form == "doccano":
        return _line({"text": text.text, "label": [[*text.offsets(span), span.label] for span in text.spans]})
    if form == "json":
        spans = text.described(probabilities=probabilities)
        for item, span in zip(spans, text.spans, strict=True):
            item |= {"token_start": span.first, "token_end": span.last}
        return _line({"text": text.text, "tokens": text.tokens(), "spans": spans})
    colours = {label: _COLOURS[index % len(_COLOURS)] for index, label in enumerate(labels)}
    parts, place = [], 0
    for span in text.spans:
        start, end = text.offsets(span)
        label = printable(span.label) + (f" {span.probability:.2f}" if probabilities else "")
        inside = _shown(text.text[start:end])
        parts.append(_shown(text.text[place:start]))
        if form == "colours":
            parts.append(f"\x1b[{colours[span.label]}m {inside} \x1b[1m{label} \x1b[0m")
        else:
            parts.append(f"[{inside} {label}]")
        place = end
    return "".join([*parts, _shown(text.text[place:])]) + "\n"


def _task(text: MarkedText, *, probabilities: bool) -> dict[str, Any]:
    """A task of Label Studio's with a prediction."""
    results = []
    for number, item in enumerate(text.described(probabilities=True)):
        value = {"start": item["start"], "end": item["end"], "text": item["text"], "labels": [item["label"]]}
        result = {"id": str(number), "from_name": "label", "to_name": "text", "type": "labels", "value": value}
        results.append(result | ({"score": item["probability"]} if probabilities else {}))
    return {"data": {"text": text.text}, "predictions": [{"model_version": "bilstm", "result": results}]}


def _shown(text: str) -> str:
    """A text in which nothing but its line ends commands a terminal."""
    return "\n".join(map(printable, text.split("\n")))


def _line(item: dict[str, Any]) -> str:
    return f"{json.dumps(item, ensure_ascii=False)}\n"
