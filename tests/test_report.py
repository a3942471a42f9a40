"""The report of every task: its results, and a page that holds them all, needs nothing else and escapes everything."""

from __future__ import annotations

import json
import re
import sys
import tracemalloc
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bilstm
from bilstm.data.dataset import Dataset
from bilstm.errors import UserError
from bilstm.model.trained import TrainedModel
from bilstm.ragged import Ragged, offsets_of
from bilstm.report import charts, examine, importance, page, reach, render, write_report
from bilstm.report import findings as findings_module
from bilstm.report.charts import Scale, curve, line, round_values, runs, strips
from bilstm.report.examples import WorstSequences
from bilstm.report.reach import ContextReach
from bilstm.report.summary import confusion_matrix, span_results, span_summary
from bilstm.report.timelines import examples
from bilstm.report.totals import LabelTotals, Residuals
from bilstm.tasks import KINDS, LabelTask, Outputs, QuantityTask
from browser import EXECUTABLE, browser

SMALL: dict[str, Any] = {"units": 6, "layers": 1, "epochs": 3, "learning_rate": 0.05}
ALWAYS = {"summary", "scores", "learning", "worst", "speed", "data", "words"}
SECTIONS = {
    "step-label": {"confusion", "calibration", "context"},
    "sequence-label": {"confusion", "calibration"},
    "step-labels": {"calibration", "context"},
    "sequence-labels": {"calibration"},
    "step-quantity": {"residuals", "context"},
    "sequence-quantity": {"residuals"},
}
VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = "</style><script>alert('x')</script>\"&"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "MOST_STEPS", 3_000)
    monkeypatch.setattr(importance, "MOST_STEPS", 3_000)
    monkeypatch.setattr(findings_module, "_LONG_ENOUGH", 0.0)


class Page(HTMLParser):
    """A page taken apart; raises where an element is not closed, or not where it was opened.

    Attributes:
        elements: (tag, attributes) of each.
        words: by the id of the section or header it stands in.
    """

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: dict[str, str] = {}
        self._open: list[tuple[str, str]] = []
        self.feed(content)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        assert len(attributes) == len(attrs), f"an attribute twice in {tag}"
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self._open.append((tag, attributes.get("id", "")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for tag, name in self._open:
            if tag in ("section", "header") and name:
                self.words[name] = self.words.get(name, "") + data

    def all(self, tag: str) -> Iterator[dict[str, str]]:
        return (attributes for name, attributes in self.elements if name == tag)


def check(content: str) -> Page:
    """What holds for every report."""
    page = Page(content)
    assert ALWAYS <= set(page.words)
    for name, words in page.words.items():
        assert len(words.split()) > 10, name
    for debris in ("None", "nan", "{{", "}}", "{%", "  %"):
        assert debris not in re.sub(r"\s+", " ", " ".join(page.words.values())).replace("“None”", ""), debris
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "iframe", "object", "embed", "img", "form", "base"}
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "action", "srcset"):
                assert value.startswith(("#", "data:")), (tag, value)
    assert "http:" not in content
    assert "https:" not in content
    assert "@import" not in content
    assert "url(" not in content
    policy = next(each["content"] for each in page.all("meta") if "http-equiv" in each)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(names)) == len(names)
    for link in page.all("a"):
        assert link["href"][1:] in names
    for _, attributes in page.elements:
        assert attributes.get("aria-labelledby", names[0]) in names
    assert next(page.all("html"))["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert max(np.diff(levels)) <= 1
    for drawing in page.all("svg"):
        assert drawing.get("aria-label") or "role" not in drawing
    for header in page.all("th"):
        assert header["scope"] in ("row", "col")
    for path in page.all("path"):
        assert re.fullmatch(r"[MLHVvhzZ0-9. -]*", path["d"]), path["d"][:80]
    return page


# --- Models and data --------------------------------------------------------------------------------------------------

TARGETS = {
    "step-label": ["state"],
    "step-labels": ["high", "moving"],
    "step-quantity": ["level", "speed"],
    "sequence-label": ["kind"],
    "sequence-labels": ["long", "restless"],
    "sequence-quantity": ["mean"],
}


def movements(sequences: int, seed: int, *, gaps: bool = False, names: Any = ("rest", "jump", "run")) -> pd.DataFrame:
    """Runs of states and a noisy signal of them, with targets for every task; with gaps, some steps have neither
    number nor target."""
    rng = np.random.default_rng(seed)
    rows = []
    for sequence in range(sequences):
        states = np.repeat(rng.integers(0, len(names), 8), rng.integers(2, 6, 8))
        signal = np.round(states - 1 + rng.normal(0, 0.7, len(states)), 4)
        whole = {
            "kind": "calm" if states.mean() < 1 else "wild",
            "long": int(len(states) > 28),
            "restless": int(np.abs(np.diff(states)).sum() > 5),
            "mean": states.mean(),
        }
        for step, state in enumerate(states.tolist()):
            row = {
                "id": f"s{sequence}",
                "who": f"p{sequence % 5}",
                "t": step,
                "x": signal[step],
                "state": names[state],
                "high": int(state == 2),
                "moving": int(state > 0),
                "level": float(state),
                "speed": 100.0 * state + rng.normal(),
            }
            if gaps and rng.random() < 0.1:
                row["x"] = None
            if gaps and rng.random() < 0.1:
                row |= dict.fromkeys(("state", "high", "moving", "level", "speed"))
            rows.append(row | whole)
    return pd.DataFrame(rows)


def trained(kind: str, data: pd.DataFrame | None = None, **options: Any) -> TrainedModel:
    columns = {"sequence": "id", "order": "t", "features": ["x"], "label": TARGETS[kind], "task": kind}
    return bilstm.train(movements(40, 0) if data is None else data, **columns, **(SMALL | options))


@pytest.fixture(scope="module")
def models() -> dict[str, TrainedModel]:
    return {kind: trained(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def test_set() -> pd.DataFrame:
    return movements(20, 1, gaps=True)


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedModel, Path]:
    """A model of names, and a file of others."""
    folder = tmp_path_factory.mktemp("names")
    phrases = ["Ada\tB-PER\nByron\tI-PER\n", "Paris\tB-LOC\n", "in\tO\n", "met\tO\n", "New\tB-LOC\nYork\tI-LOC\n"]
    rng = np.random.default_rng(0)
    sentences = ["".join(phrases[i] for i in rng.integers(0, 5, rng.integers(1, 6))) for _ in range(60)]
    (folder / "train.conll").write_text("\n".join(sentences))
    (folder / "test.conll").write_text("\n".join(sentences[:30]) + "\nNew\tO\nByron\tB-LOC\nseen\tO\n")
    return bilstm.train(folder / "train.conll", **SMALL), folder / "test.conll"


def quiet(model: TrainedModel) -> TrainedModel:
    """The model without warnings about data unlike those of training."""
    model = model.adapted()
    model.warn = False
    return model


# --- The page --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_task(kind: str, models: dict[str, TrainedModel], test_set: pd.DataFrame, tmp_path: Path) -> None:
    model = quiet(models[kind])
    findings = write_report(tmp_path / "r.html", model, test_set, name="model.safetensors")
    assert json.loads(json.dumps(findings, allow_nan=False)) == findings
    scores = model.evaluate(test_set)
    assert findings["scores"] == scores
    page = check((tmp_path / "r.html").read_text())
    assert set(page.words) - ALWAYS == SECTIONS[kind]
    for name in ("accuracy", "macro_f1", "macro_average_precision", "log_loss", "mae", "rmse", "r2"):
        if name in scores:
            assert f"{scores[name]:.4f}".replace("-", "−") in page.words["scores"], name
        if name in scores["baseline"]:
            assert f"{scores['baseline'][name]:.4f}".replace("-", "−") in page.words["scores"], name
    for name, score in scores.get("per_label", {}).items():
        assert name in page.words["scores"]
        assert f"{score['average_precision']:.4f}" in page.words["scores"]
    if "roc_auc" in scores:
        assert f"{scores['roc_auc']['macro']:.4f}" in page.words["scores"]
    for name, score in scores.get("mean_guess", {}).items():
        assert f"{score:.4f}".replace("-", "−") in page.words["scores"], name
    assert "drawing whole sequences" in page.words["scores"]
    assert "ended early" not in page.words["summary"]
    assert "imputed with the mean" in page.words["summary"]
    assert len(findings["worst"]) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


@pytest.mark.parametrize("kind", ["step-label", "sequence-quantity"])
def test_arrays_give_the_same_report_as_a_table(
    kind: str, test_set: pd.DataFrame, models: dict[str, TrainedModel]
) -> None:
    table = test_set.drop(columns=["who"])
    lists = [
        {name: group[name].tolist() for name in ("x", *TARGETS[kind])} for _, group in table.groupby("id", sort=False)
    ]
    model = quiet(models[kind])
    found, expected = examine(model, lists), examine(model, table)
    for name in ("scores", "reach", "residuals", "predicted", "confidence", "data"):
        assert found[name] == expected[name], name
    for one, other in zip(found["worst"], expected["worst"], strict=True):
        assert one["targets"] == other["targets"]
        assert one["numbers"] == other["numbers"]
        assert one["importance"] == other["importance"]
        assert one["name"] == other["name"].removeprefix("s")
    check(render(model, found))


def test_estimators_write_reports(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(steps, 2)) for steps in rng.integers(3, 20, 60)]
    options: dict[str, Any] = {"units": 4, "layers": 1, "epochs": 2, "random_state": 0}
    steps = [np.where(x[:, 0] > 0, "up", "down") for x in X]
    for estimator, y in (
        (bilstm.SequenceTagger(**options), steps),
        (bilstm.SequenceClassifier(**options), [int(x.sum() > 0) for x in X]),
        (bilstm.SequenceRegressor(**options), [x.cumsum(axis=0) for x in X]),
    ):
        findings = estimator.fit(X, y).report(tmp_path / "r.html", X, y)
        page = check((tmp_path / "r.html").read_text())
        assert "evaluated on the data" in page.words["summary"]
        assert findings["scores"] == estimator.report(tmp_path / "r.html", X, y)["scores"]
        score = "r2" if "r2" in findings["scores"] else "accuracy"
        expected = estimator.score(X, y)
        assert findings["scores"][score] == pytest.approx(expected)


def test_labels_in_a_table_of_their_own(
    test_set: pd.DataFrame, models: dict[str, TrainedModel], tmp_path: Path
) -> None:
    labels = test_set.groupby("id", sort=False)["kind"].first().reset_index()
    steps = test_set.drop(columns="kind")
    steps.to_csv(tmp_path / "steps.csv", index=False)
    labels.to_csv(tmp_path / "labels.csv", index=False)
    model = quiet(models["sequence-label"])
    expected = examine(model, test_set)["scores"]
    assert examine(model, steps, labels=labels)["scores"] == expected
    found = write_report(tmp_path / "r.html", model, tmp_path / "steps.csv", labels=tmp_path / "labels.csv")
    assert found["scores"] == expected
    assert "evaluated on steps.csv" in check((tmp_path / "r.html").read_text()).words["summary"]


def test_groups_and_few_of_them_are_named(test_set: pd.DataFrame, models: dict[str, TrainedModel]) -> None:
    model = quiet(models["step-label"])
    findings = examine(model, test_set, group="who")
    assert findings["data"]["groups"] == 5
    page = check(render(model, findings))
    caution = "The intervals rest on only 5 groups with labels"
    for section in ("summary", "scores", "context"):
        assert caution in page.words[section]
    assert "drawing whole groups (who)" in page.words["scores"]
    assert "over groups (who)" in page.words["context"]
    ungrouped = examine(model, test_set)
    widths = [np.ptp(found["reach"]["past"]["known"][0]["interval"]) for found in (findings, ungrouped)]
    assert widths[0] != widths[1]
    assert "groups" not in check(render(model, ungrouped)).words["scores"]


def test_of_text_and_spans(names: tuple[TrainedModel, Path], tmp_path: Path) -> None:
    file = tmp_path / "names.safetensors"
    names[0].save(file)
    findings = write_report(tmp_path / "names.HTML", *names, name=str(file))
    assert json.loads(json.dumps(findings, allow_nan=False)) == findings
    page = check((tmp_path / "names.HTML").read_text())
    assert "How good is names.safetensors?" in page.words["summary"]
    assert f"{-(-file.stat().st_size // 1000)} kB" in page.words["speed"]
    assert "spans found, with the right ends and the right type" in page.words["summary"]
    assert "F1 of spans" in page.words["scores"]
    assert "seen" in page.words["worst"]
    assert "“seen” 1×" in page.words["data"]
    assert "✗" in page.words["worst"]
    content = (tmp_path / "names.HTML").read_text()
    worst = content[content.index('<section id="worst"') :]
    assert worst.index('<ul class="legend"><li><i class="block c1">') < worst.index('<dl class="sides"')
    assert '<ol class="tokens"' not in worst
    assert set(page.words) - ALWAYS == SECTIONS["step-label"] | {"spans"}


SPAN_SCORES = {
    "per_class": {name: {"support": support} for name, support in (("LOC", 4), ("PER", 9), ("", 1))},
    "errors": {
        "true": {
            "LOC": {"right": 1, "type": 1, "boundary": 0, "both": 0, "missed": 2},
            "PER": {"right": 4, "type": 0, "boundary": 3, "both": 1, "missed": 1},
            "": {"right": 0, "type": 0, "boundary": 0, "both": 0, "missed": 1},
        },
        "predicted": {
            "LOC": {"right": 1, "type": 0, "boundary": 0, "both": 1, "invented": 3},
            "PER": {"right": 4, "type": 1, "boundary": 3, "both": 0, "invented": 0},
            "": {"right": 0, "type": 0, "boundary": 0, "both": 0, "invented": 0},
        },
        "confusion": {"LOC": {"LOC": 1, "PER": 1}, "PER": {"LOC": 1, "PER": 7}, "": {}},
    },
}


def test_what_became_of_spans() -> None:
    (outcomes, true), (_, predicted) = span_results(SPAN_SCORES).sides.values()
    assert outcomes == ["right", "another boundary", "another type", "both wrong", "missed"]
    assert [(name, count) for name, count, _ in true] == [("all types", 14), ("LOC", 4), ("PER", 9), ("any", 1)]
    assert [number for _, number in true[0][2]] == [5, 3, 1, 1, 4]
    assert true[1][2] == [(0.25, 1), (0, 0), (0.25, 1), (0, 0), (0.5, 2)]
    assert [(name, count) for name, count, _ in predicted] == [("all types", 13), ("LOC", 5), ("PER", 8), ("any", 0)]
    matrix = span_results(SPAN_SCORES).matrix
    assert matrix.columns == ["LOC", "PER", "any", "missed"]
    rows = {name: [number for _, number in cells] for name, _, cells in matrix.rows}
    assert rows == {"LOC": [1, 1, 0, 2], "PER": [1, 7, 0, 1], "any": [0, 0, 0, 1], "invented": [3, 0, 0]}


def test_many_types_are_counted_together() -> None:
    names = [f"T{number:02}" for number in range(30)]
    outcomes = ("right", "type", "boundary", "both")
    errors = {
        side: {name: {**dict.fromkeys(outcomes, 1), last: 2} for name in names}
        for side, last in (("true", "missed"), ("predicted", "invented"))
    }
    confusion = {name: dict.fromkeys(names, 1) for name in names}
    support = {name: {"support": 100 - number} for number, name in enumerate(names)}
    results = span_results({"per_class": support, "errors": {**errors, "confusion": confusion}})
    assert results.matrix.columns == [*names[:11], "others", "missed"]
    assert results.matrix.others == 19
    assert [number for _, number in results.matrix.rows[0][2]] == [1] * 11 + [19, 2]
    assert [number for _, number in results.matrix.rows[-1][2]] == [2] * 11 + [38]
    assert [count for _, count, _ in results.sides["true"][1]] == [180, *[6] * 11]


@pytest.mark.parametrize("characters", [False, True])
def test_worst_sentences_have_their_spans(characters: bool, tmp_path: Path) -> None:
    """Those with the most wrong spans first; each word once in both texts; colours by type."""
    rng = np.random.default_rng(3)
    words = {"B-PER": "Ada", "I-PER": "Lee", "B-LOC": "Paris", "I-LOC": "Ouest", "O": "or"}
    if characters:
        words = {tag: word[0] for tag, word in words.items()}
    patterns = [["B-PER", "I-PER"], ["B-LOC"], ["O"], ["B-LOC", "I-LOC"], ["O", "O"]]
    sentences = [[tag for i in rng.integers(0, 5, 6) for tag in patterns[i]] for _ in range(60)]
    (tmp_path / "train.conll").write_text(
        "\n".join("".join(f"{words[tag]}\t{tag}\n" for tag in tags) for tags in sentences)
    )
    wrong = [[tag if rng.random() < 0.7 else "O" for tag in tags] for tags in sentences[:20]]
    (tmp_path / "test.conll").write_text(
        "\n".join(
            "".join(f"{words[tag]}\t{other}\n" for tag, other in zip(tags, others, strict=True))
            for tags, others in zip(sentences, wrong, strict=False)
        )
    )
    model = bilstm.train(tmp_path / "train.conll", **SMALL | {"output": "crf", "epochs": 8})
    model.warn = False
    findings = examine(model, tmp_path / "test.conll")
    badness = []
    for worst in findings["worst"]:
        assert set(worst["spans"]) == {"true", "predicted"}
        chances = {(span.first, span.last, span.label): span.probability for span in _spans_of(model, worst)}
        for span in worst["spans"]["predicted"]:
            expected = chances[span["first"], span["last"], span["label"]]
            assert span["probability"] == pytest.approx(expected, abs=1e-4)
        spans = [span for side in worst["spans"].values() for span in side]
        badness.append(sum(span["outcome"] != "right" for span in spans) / (len(spans) + 10))
    assert badness == sorted(badness, reverse=True)
    assert badness[0] > 0
    drawn = examples(model.task, findings)
    for example, worst in zip(drawn, findings["worst"], strict=True):
        (tokens,) = worst["texts"].values()
        between = "" if characters else " "
        for side, parts in example.spans.items():
            assert between.join(part.text for part in parts) == between.join(tokens)
            marked = [(part.label, part.outcome) for part in parts if part.label is not None]
            assert marked == [(span["label"], span["outcome"]) for span in worst["spans"][side]]
        styles = {part.label: part.style for parts in example.spans.values() for part in parts if part.label}
        assert styles.items() <= dict(example.legend).items()
    page = check(render(model, findings))
    for _, attributes in page.elements:
        assert attributes.get("dir", "auto") == "auto"
    assert "with its true and with its predicted spans" in page.words["worst"]
    summary = span_summary(findings["worst"][0]["spans"])
    assert summary in page.words["worst"]
    assert re.match(r"\d true spans?: .*(missed|with another boundary).*; \d predicted spans?", summary)


def _spans_of(model: TrainedModel, worst: dict[str, Any]) -> list[Any]:
    (words,) = worst["texts"].values()
    return model.predict_spans([words])[0]


def test_texts_with_a_label_each(tmp_path: Path) -> None:
    """A word decides, and the most important window contains it."""
    rng = np.random.default_rng(0)

    def texts(count: int) -> pd.DataFrame:
        rows = []
        for _ in range(count):
            words = rng.choice(["the", "a", "film", "plot", "actor", "was", "is"], int(rng.integers(6, 20))).tolist()
            good = bool(rng.random() < 0.5)
            words[int(rng.integers(len(words)))] = "great" if good else "awful"
            rows.append({"text": " ".join(words), "mood": "kind" if good else "unkind"})
        return pd.DataFrame(rows)

    options = {"text": "text", "label": "mood", "units": 8, "layers": 1, "epochs": 8, "learning_rate": 0.02}
    model = bilstm.train(texts(200), pooling="max", **options)
    findings = write_report(tmp_path / "r.html", model, texts(60))
    assert findings["scores"]["accuracy"] > 0.9
    page = check((tmp_path / "r.html").read_text())
    assert "The darker, the more important" in page.words["worst"]
    hits = 0
    for found in findings["worst"]:
        window = found["importance"]["window"]
        hits += bool({"great", "awful"} & set(found["texts"]["text"][window["start"] : window["stop"]]))
    assert hits >= 5


def test_a_label_that_training_never_saw(names: tuple[TrainedModel, Path], tmp_path: Path) -> None:
    model, path = names
    (tmp_path / "test.conll").write_text(path.read_text() + "\nNile\tB-RIVER\nNile\tB-RIVER\nNile\tI-RIVER\n")
    findings = write_report(tmp_path / "r.html", model, tmp_path / "test.conll")
    page = check((tmp_path / "r.html").read_text())
    assert "3 steps with a label that is unknown to the model ('B-RIVER', 'I-RIVER'), counted" in page.words["summary"]
    assert findings["predicted"]["B-RIVER"] == 0
    assert ["B-RIVER", "B-RIVER", "I-RIVER"] in [worst["targets"]["truth"] for worst in findings["worst"]]
    assert "B-RIVER" in page.words["worst"]


def test_a_sequence_label_that_training_never_saw(test_set: pd.DataFrame, models: dict[str, TrainedModel]) -> None:
    data = test_set.copy()
    data.loc[data["id"] == "s3", "kind"] = "strange"
    model = quiet(models["sequence-label"])
    findings = examine(model, data)
    (found,) = [worst for worst in findings["worst"] if worst["name"] == "s3"]
    assert found["targets"]["truth"] == "strange"
    assert found["error"] == 1
    check(render(model, findings))


def test_the_same_page_for_the_same_model_and_seed(test_set: pd.DataFrame, models: dict[str, TrainedModel]) -> None:
    for kind in ("step-label", "sequence-label", "step-quantity"):
        model, found = quiet(models[kind]), []
        for seed in (0, 0, 1):
            found.append(examine(model, test_set, seed=seed))
            found[-1]["speed"]["steps"] = 1000.0
        assert render(model, found[0]) == render(model, found[1])
        by_chance = [(each["reach"], [worst["importance"] for worst in each["worst"]]) for each in found]
        assert by_chance[0] == by_chance[1] != by_chance[2]


def test_what_is_wrong_is_found_out_before(
    models: dict[str, TrainedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models["step-label"]
    with pytest.raises(UserError, match=r"its name must end in \.html"):
        write_report(tmp_path / "r.pdf", model, "nothing")
    with pytest.raises(UserError, match="background='rest' says which label is no event, but events are scored only"):
        examine(model, "nothing", background="rest")
    page._environment.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match="jinja2"):
        write_report(tmp_path / "r.html", model, "nothing")


def test_without_a_baseline_and_of_one_sequence(models: dict[str, TrainedModel]) -> None:
    for kind in KINDS:
        model = quiet(models[kind])
        model.baseline = None
        page = check(render(model, examine(model, movements(1, 2))))
        caution = "Only 1 sequence has labels, so no intervals are given"
        assert caution in page.words["summary"], kind
        assert caution in page.words["scores"], kind
        assert "trained without it" in page.words["scores"]
        assert "probably" not in page.words["summary"]
        assert "Without context, the same" not in page.words["summary"]


def test_where_all_is_right() -> None:
    x = np.arange(200) * 7 % 11
    data = {"id": np.arange(200) // 5, "x": x, "state": np.where(x > 5, "up", "down")}
    frame = pd.DataFrame(data)
    model = bilstm.train(frame, sequence="id", label="state", units=8, layers=1, epochs=30, learning_rate=0.05)
    findings = examine(model, frame)
    assert findings["scores"]["accuracy"] == 1
    page = check(render(model, findings))
    assert "It made no error here." in page.words["summary"]
    assert "Every labelled step of every sequence is right." in page.words["worst"]


def test_sequences_of_one_step() -> None:
    data = pd.DataFrame({"id": range(60), "x": np.arange(60) % 3, "state": ["a", "b"] * 30, "y": np.arange(60) / 7})
    columns = {"sequence": "id", "features": ["x"]}
    model = bilstm.train(data, label="state", task="step-label", **columns, **SMALL)
    assert "there is no past or future to look at" in check(render(model, examine(model, data))).words["context"]
    model = bilstm.train(data, label="y", task="sequence-quantity", **columns, **SMALL)
    assert "too short to find its important steps" in check(render(model, examine(model, data))).words["worst"]


@pytest.mark.parametrize("per_sequence", [False, True])
def test_nothing_gets_out_of_its_quotes(per_sequence: bool, tmp_path: Path) -> None:
    """Labels, features, sequences, groups and values may hold anything, the record of the training too."""
    strange = HOSTILE + "\x00\x1b[31m\x7f\u202e\ud800"
    rows = []
    for i in range(240):
        word, odd = ("<b>\x07", "&amp;", "'\"")[i % 3], (i // 6 if per_sequence else i) % 2
        rows.append({HOSTILE: f"{HOSTILE}{i // 6}", "<i>x": i % 5, "w": word, "y": [HOSTILE, "<!--"][odd]})
    data = pd.DataFrame(rows)
    model = bilstm.train(data, sequence=HOSTILE, label="y", **SMALL | {"epochs": 1, "learning_rate": 1e-4})
    assert model.task.per_sequence == per_sequence  # and it has learned so little that there are errors to show
    findings = examine(model, data, group=HOSTILE)
    findings["scores"]["notes"].append(strange)
    model.training |= {"stopped": strange}
    findings["worst"][0]["name"] = strange
    content = render(model, findings, name="</title>", table=strange)
    page = check(content)
    assert HOSTILE in page.words["scores"]
    assert "<i>x" in page.words["data"]
    assert "<script" not in content
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", content)
    content.encode()


def test_a_history_that_cannot_be_drawn(test_set: pd.DataFrame, models: dict[str, TrainedModel]) -> None:
    model = quiet(models["step-label"])
    findings = examine(model, test_set)
    for values in ([float("nan"), 1.0, 10**400], [float("inf")] * 3, [-3, -2, -1], [0, 0, 0]):
        model.training = model.training | {"history": dict.fromkeys(("loss", "val_loss", "val_accuracy"), values)}
        check(render(model, findings))


@pytest.mark.parametrize("epochs", [1, 2])
def test_one_epoch_makes_no_curve(test_set: pd.DataFrame, models: dict[str, TrainedModel], epochs: int) -> None:
    model = quiet(models["step-label"])
    history = {name: [0.5] * epochs for name in ("loss", "val_loss", "val_accuracy")}
    model.training = model.training | {"history": history, "epochs": epochs, "best_epoch": 1}
    content = render(model, examine(model, test_set))
    check(content)
    learning = content[content.index('<section id="learning"') :].partition("</section>")[0]
    assert ("<figure>" in learning) == (epochs > 1)
    assert ("an accuracy of 0.5000 and a loss of 0.5000" in learning) == (epochs == 1)


def test_many_classes() -> None:
    data = movements(60, 0, names=[f"c{number:02}" for number in range(30)])
    model = trained("step-label", data)
    findings = examine(model, data)
    matrix = confusion_matrix(findings["scores"])
    assert len(matrix.columns) == 12
    assert (matrix.columns[-1], len(matrix.rows), matrix.others) == ("others", 11, 19)
    for name, steps, cells in matrix.rows:
        assert sum(count for _, count in cells) == steps == findings["scores"]["per_class"][name]["support"]
    content = render(model, findings)
    assert "19 more are counted together" in check(content).words["confusion"]
    assert 'aria-label="Scores by label, part 2"' in content
    by_label = content[content.index("Label by label") : content.index('<section id="learning"')]
    assert all(by_label.count(f">c{number:02}</th>") == 1 for number in range(30))


def test_calibration_before_and_after(test_set: pd.DataFrame) -> None:
    model = quiet(trained("step-label", movements(60, 0), epochs=40, dropout=0.0, validation_split=0.3, calibrate=True))
    calibration = model.training["calibration"]
    assert calibration["temperature"] != 1
    findings = examine(model, test_set)
    page = check(render(model, findings))
    before, after = findings["uncalibrated"], findings["scores"]["calibration"]
    steps = findings["scores"]["steps"]
    for curve_, error in (
        (before, findings["scores"]["uncalibrated"]["calibration_error"]),
        (after, findings["scores"]["calibration_error"]),
    ):
        distances = (each["steps"] * abs(each["confidence"] - each["accuracy"]) for each in curve_)
        assert sum(distances) / steps == pytest.approx(error)
        assert f"{error:.4f}" in page.words["calibration"]
    assert f"{calibration['calibration_error_before']:.4f}" in page.words["calibration"]
    assert "before temperature scaling" in page.words["calibration"]
    assert f"temperature of {calibration['temperature']:.2f}" in page.words["summary"]


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_enough_contrast(dark: bool) -> None:
    """At least 4.5 to 1, as https://www.w3.org/TR/WCAG22/#contrast-minimum asks for."""
    css = (Path(charts.__file__).with_name("templates") / "page.css").read_text()
    scheme = css.split("prefers-color-scheme: dark")[1 if dark else 0]
    colours = dict(re.findall(r"--(\w+): #([0-9a-f]{6});", scheme))

    def luminance(name: str) -> float:
        parts = np.array([int(colours[name][i : i + 2], 16) for i in (0, 2, 4)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for text, grounds in {
        "ink": ["page", "card", "care"],
        "soft": ["page", "card"],
        "model": ["page", "card"],
        "wrong": ["card"],
    }.items():
        for ground in grounds:
            dim, bright = sorted([luminance(text), luminance(ground)])
            assert (bright + 0.05) / (dim + 0.05) >= 4.5, (text, ground)


@pytest.mark.skipif(EXECUTABLE is None, reason="there is no Chromium")
def test_in_a_browser(
    models: dict[str, TrainedModel], names: tuple[TrainedModel, Path], test_set: pd.DataFrame, tmp_path: Path
) -> None:
    """No request but for the page itself, no complaint, and nothing wider than the screen."""
    pages = []
    reports = [(names[0], names[1])] + [(quiet(model), test_set) for model in models.values()]
    for number, (model, data) in enumerate(reports):
        pages.append(tmp_path / f"{number}.html")
        write_report(pages[-1], model, data)
    with browser() as chromium:
        for place, path in enumerate([*pages, *pages]):
            width, dark = (390, 1200)[place // len(pages)], place % 2 == 1
            chromium.open(path, width=width, dark=dark)
            requests = [each["request"]["url"] for each in chromium.told("Network.requestWillBeSent")]
            assert requests == [path.as_uri()]
            assert not chromium.told("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
            assert chromium.evaluate("document.documentElement.scrollWidth") == width
            heights = "[...document.querySelectorAll('header, section')].map(each => each.offsetHeight)"
            assert min(chromium.evaluate(heights)) > 100


# --- What is found ---------------------------------------------------------------------------------------------------


def test_the_data_are_described(models: dict[str, TrainedModel], test_set: pd.DataFrame) -> None:
    findings = examine(quiet(models["step-label"]), test_set)
    data, lengths = findings["data"], test_set.groupby("id").size()
    assert data["steps"] == len(test_set)
    assert data["unlabelled"] == test_set["state"].isna().sum()
    assert sum(findings["predicted"].values()) == findings["scores"]["steps"]
    assert (data["lengths"]["shortest"], data["lengths"]["longest"]) == (lengths.min(), lengths.max())
    assert data["lengths"]["median"] == lengths.median()
    for bar in data["lengths"]["bars"]:
        assert bar["sequences"] == sum(bar["from"] <= length <= bar["to"] for length in lengths)
    (feature,) = data["features"]
    assert feature["missing"] == test_set["x"].isna().sum() > 0
    assert feature["mean"] == pytest.approx(test_set["x"].mean())
    assert feature["deviation"] == pytest.approx(test_set["x"].std(ddof=0))


def test_unknown_values_are_listed(names: tuple[TrainedModel, Path]) -> None:
    (feature,) = examine(*names)["data"]["features"]
    assert (feature["unknown"], feature["most_frequent_unknown"]) == (1, {"seen": 1})
    assert feature["different"] == feature["known"] + 1


def test_confidence(models: dict[str, TrainedModel], test_set: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bilstm.report.totals.SURE", 0.7)
    model = quiet(models["step-label"])
    data = model.read(test_set, with_truth=True)
    probabilities = model.outputs(data.values).values
    scored = data.known >= 0
    sure = probabilities.max(axis=1) >= 0.7
    right = probabilities.argmax(axis=1) == data.known
    found = examine(model, test_set)
    assert found["confidence"]["share"] == sure[scored].mean()
    assert found["confidence"]["right"] == right[scored & sure].mean()
    assert found["confidence"]["otherwise"] == right[scored & ~sure].mean()
    assert found["speed"]["steps"] > 0


def test_rows_with_lists_are_sequences(models: dict[str, TrainedModel], test_set: pd.DataFrame, tmp_path: Path) -> None:
    model = quiet(models["step-label"])
    steps = examine(model, test_set)
    lists = [
        {
            "x": [None if np.isnan(x) else x for x in of["x"]],
            "state": [s if isinstance(s, str) else None for s in of["state"]],
        }
        for _, of in test_set.groupby("id", sort=False)
    ]
    times = [{"t": list(range(len(of["x"])))} for of in lists]
    path = tmp_path / "lists.ndjson"
    path.write_text("".join(json.dumps(each | time) + "\n" for each, time in zip(lists, times, strict=True)))
    found = examine(model, path)
    assert [each["name"] for each in found["worst"]] == [str(int(each["name"][1:]) + 1) for each in steps["worst"]]
    assert [each["place"] for each in found["worst"]] == [f"line {each['name']}, step 1" for each in found["worst"]]
    for name in ("scores", "data", "reach"):
        assert found[name] == steps[name]
    check(render(model, found))


def test_known_values_are_not_listed_as_unknown(tmp_path: Path) -> None:
    codes = [str(i % 3) for i in range(40)]
    lines = [f"{i // 4},{code},{'pq'[i % 2]}" for i, code in enumerate(codes)]
    (tmp_path / "train.csv").write_text("\n".join(["id,code,y", *lines]) + "\n")
    model = bilstm.train(tmp_path / "train.csv", sequence="id", label="y", categorical=["code"], **SMALL)
    (tmp_path / "test.csv").write_text("id,code,y\na,1.0,p\na,2,q\na,2.5,q\n")
    (feature,) = examine(model, tmp_path / "test.csv")["data"]["features"]
    assert feature["most_frequent_unknown"] == {"2.5": 1}


def all_at_once(model: TrainedModel, data: Dataset, count: int) -> list[int]:
    worst = WorstSequences(model.task, data, count)
    worst.add(slice(0, len(data)), slice(0, len(data.known)), model.outputs(data.values))
    return worst.indices


@pytest.mark.parametrize("count", [1, 4])
def test_the_worst_sequences_of_step_labels(
    count: int, models: dict[str, TrainedModel], test_set: pd.DataFrame
) -> None:
    model = quiet(models["step-label"])
    data = model.read(test_set, with_truth=True)
    predicted = np.array(model.task.classes)[model.outputs(data.values).labels]  # type: ignore[attr-defined]
    frame = test_set.assign(wrong=(predicted != test_set["state"]) & test_set["state"].notna())
    by_id = frame.groupby("id", sort=False)
    shares = (by_id["wrong"].sum() / (by_id["state"].count() + 10)).to_numpy()
    assert shares[all_at_once(model, data, count)].tolist() == sorted(shares)[::-1][:count]
    for found in examine(model, test_set)["worst"]:
        rows = test_set[test_set["id"] == found["name"]]
        assert found["place"] == f"row {rows.index[0]} of X"
        assert (found["start"], found["stop"], found["steps"]) == (0, len(rows), len(rows))
        assert found["targets"]["truth"] == [s if isinstance(s, str) else None for s in rows["state"]]
        np.testing.assert_array_equal(np.array(found["numbers"]["x"], float), rows["x"])
        assert found["error"] == frame.loc[rows.index, "wrong"].sum()
        assert found["texts"] == {}


def test_the_worst_sequences_of_quantities_and_sequences(
    models: dict[str, TrainedModel], test_set: pd.DataFrame
) -> None:
    model = quiet(models["step-quantity"])
    predicted = model.predict(test_set)
    squares = ((predicted - test_set[["level", "speed"]]) / model.task.scale) ** 2  # type: ignore[attr-defined]
    by_id = squares.mean(axis=1).groupby(test_set["id"], sort=False)
    order = (by_id.sum() / (by_id.count() + 10)).sort_values(ascending=False).index
    worst = examine(model, test_set)["worst"]
    assert [found["name"] for found in worst] == list(order[:6])
    rows = (test_set["id"] == order[0]).to_numpy()
    assert worst[0]["targets"]["speed"]["predicted"] == predicted[rows, 1].tolist()

    model = quiet(models["sequence-label"])
    whole = test_set.groupby("id", sort=False)["kind"].first()
    lists = [{"x": of["x"].tolist()} for _, of in test_set.groupby("id", sort=False)]
    probabilities = model.predict_proba(lists)
    true = np.array([probabilities[i, model.task.classes.index(kind)] for i, kind in enumerate(whole)])  # type: ignore[attr-defined]
    wrong = model.predict(lists) != whole.to_numpy()
    expected = np.lexsort((true, ~wrong))[:6]
    assert [found["name"] for found in examine(model, test_set)["worst"]] == whole.index[expected].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_do_not_matter(kind: str, models: dict[str, TrainedModel], monkeypatch: pytest.MonkeyPatch) -> None:
    """A sequence at a time gives the same results as all at once, whichever are the worst."""
    data = movements(50, 5)
    model = quiet(models[kind])
    whole = examine(model, data)
    monkeypatch.setattr("bilstm.model.trained._PROBABILITIES", 1)
    parts = examine(model, data)
    for found in (whole, parts):
        del found["speed"]
    assert parts == whole


def test_of_a_long_sequence_the_worst_part_is_shown(
    models: dict[str, TrainedModel], test_set: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = quiet(models["step-label"])
    whole = {found["name"]: found["targets"] for found in examine(model, test_set)["worst"]}
    monkeypatch.setattr("bilstm.report.examples.MOST_STEPS", 7)
    findings = examine(model, test_set)
    for found in findings["worst"]:
        assert found["stop"] - found["start"] == len(found["targets"]["truth"]) == len(found["numbers"]["x"]) == 7
        full = whole[found["name"]]
        wrong = [t not in (None, p) for t, p in zip(full["truth"], full["predicted"], strict=True)]
        assert sum(wrong[found["start"] : found["stop"]]) == max(sum(wrong[i : i + 7]) for i in range(len(wrong) - 6))
        assert full["truth"][found["start"] : found["stop"]] == found["targets"]["truth"]
    assert ", the worst" in check(render(model, findings)).words["worst"]
    model = quiet(models["sequence-label"])
    findings = examine(model, test_set)
    for found in findings["worst"]:
        sums = np.convolve(found["importance"]["steps"], np.ones(7), "valid")
        assert sums[found["start"]] == pytest.approx(sums.max())
    assert ", the most important" in check(render(model, findings)).words["worst"]


def test_events(models: dict[str, TrainedModel], test_set: pd.DataFrame) -> None:
    model = quiet(models["step-label"])
    findings = examine(model, test_set, tolerance=2, background="rest")
    assert set(findings["scores"]["events"]["per_class"]) == {"jump", "run"}
    assert f"{findings['scores']['events']['f1']:.4f}" in check(render(model, findings)).words["scores"]
    with pytest.raises(UserError, match="the background 'rset' is not one of the model's 3 labels"):
        examine(model, test_set, tolerance=2, background="rset")
    with pytest.raises(UserError, match="events are runs of equal labels of time steps"):
        examine(quiet(models["step-quantity"]), test_set, tolerance=2)


# --- Figures of many rows --------------------------------------------------------------------------------------------


def test_residuals_are_counted_right() -> None:
    task = QuantityTask(("a", "b"), False, (1.0, -2.0), (2.0, 0.5))
    rng = np.random.default_rng(0)
    outputs = Outputs(rng.normal(size=(5000, 2)).astype(np.float32))
    predicted = task.predicted(outputs)
    truth = predicted + rng.normal(0.1, [1.0, 3.0], (5000, 2))
    truth[::7] = np.nan
    known = ~np.isnan(truth[:, 0])
    errors = (predicted - truth)[known]
    rmse = np.sqrt((errors**2).mean(axis=0))
    reports = []
    for size in (5000, 13):
        residuals = Residuals(task, rmse.tolist())
        for start in range(0, 5000, size):
            residuals.add(truth[start : start + size], outputs[start : start + size])
        reports.append(residuals.report()["residuals"])
    for place, (found, other) in enumerate(zip(*reports, strict=True)):
        assert other == found
        assert found["rows"] == known.sum() == sum(found["bars"])
        assert found["mean"] == pytest.approx(truth[known, place].mean())
        assert found["deviation"] == pytest.approx(truth[known, place].std())
        low, high = found["range"]
        assert (low, high) == pytest.approx((-4 * rmse[place], 4 * rmse[place]))
        expected, _ = np.histogram(errors[:, place].clip(low, high), bins=40, range=(low, high))
        assert np.abs(np.subtract(found["bars"], expected)).sum() <= 2  # rounding at the edges
        for name, share in (("half", 0.5), ("ninety", 0.9)):
            assert found[name] == pytest.approx(np.quantile(abs(errors[:, place]), share), abs=0.02 * rmse[place])
        pairs = set(zip(predicted[known, place].tolist(), truth[known, place].tolist(), strict=True))
        assert len(found["points"]) == 1000
        assert {(guess, true) for guess, true in found["points"]} <= pairs


@pytest.mark.parametrize("kind", ["label", "quantity"])
def test_memory_does_not_grow_with_the_number_of_sequences(kind: str) -> None:
    """What passes by is not kept."""
    rng = np.random.default_rng(0)
    length, at_once = 50, 40
    task = (
        LabelTask(("y",), False, ("a", "b", "c"), "text")
        if kind == "label"
        else QuantityTask(("y",), False, (0.0,), (1.0,))
    )

    def peak(sequences: int) -> int:
        noise = Ragged(rng.normal(size=(sequences * length, 1)), offsets_of([length] * sequences))
        truth = rng.integers(0, 3, len(noise.values)) if kind == "label" else rng.normal(size=(len(noise.values), 1))
        data = Dataset(noise, np.arange(len(noise.values)), truth)
        collectors = [WorstSequences(task, data), ContextReach(task, data)]
        totals = LabelTotals(task, 2.0) if isinstance(task, LabelTask) else Residuals(task, [1.0])
        tracemalloc.start()
        for start in range(0, sequences, at_once):
            rows = slice(start * length, (start + at_once) * length)
            values = rng.dirichlet([1, 1, 1], at_once * length) if kind == "label" else truth[rows] + 1
            outputs = Outputs(values.astype(np.float32))
            totals.add(truth[rows], outputs)
            for collector in collectors:
                collector.add(slice(start, start + at_once), rows, outputs)
        _, found = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return found

    assert peak(8_000) < 1.5 * peak(1_000)


# --- Charts ----------------------------------------------------------------------------------------------------------


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 8))
def test_round_values(low: float, width: float, count: int) -> None:
    high = low + width
    values = round_values(low, high, count)
    assert 1 <= len(values) <= 2 * count + 1
    assert all(low - 1e-6 * width <= value <= high + 1e-6 * width for value in values)
    assert values == sorted(set(values))


def test_few_values() -> None:
    assert round_values(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert round_values(1, 12, 6) == [2, 4, 6, 8, 10, 12]
    assert round_values(3, 3) == [3]


def test_lines_have_gaps_where_nothing_is_known() -> None:
    unit = Scale(0, 1)
    assert line([0, 0.5, 1], [0, 1, 0.5], unit, unit) == "M0 1000 L500 0 1000 500"
    assert line([0, 0.25, 0.5, 1], [0, None, 1, 0], unit, unit) == "M0 1000 M500 0 L1000 1000"


@given(st.lists(st.sampled_from(["a", "b", None]), max_size=20))
def test_strips_cover_every_label(labels: list[str | None]) -> None:
    drawn: list[str | None] = [None] * len(labels)
    for label, path in strips(labels).items():
        for start, width in re.findall(r"M(\d+) 0h(\d+)v1H\d+z", path):
            drawn[int(start) : int(start) + int(width)] = [label] * int(width)
    assert drawn == labels
    assert [label for start, stop, label in runs(labels) for _ in range(stop - start)] == labels


def test_curves_are_marked_where_points_are_few() -> None:
    unit = Scale(0, 1)
    assert curve("", "model", [0, 0.5, 1], [0, None, 1], unit, unit).dots == "M0 1000h0M1000 0h0"
    assert curve("", "model", [0, 1], [0, 1], unit, unit, most_dots=2).dots == ""


def test_labels_have_colours_of_their_own(models: dict[str, TrainedModel], test_set: pd.DataFrame) -> None:
    model = quiet(models["step-label"])
    findings = examine(model, test_set)
    legends = [dict(example.legend) for example in examples(model.task, findings)]
    frequent = test_set["state"].value_counts().index[0]
    for legend in legends:
        assert len(set(legend.values())) == len(legend)
        assert legend.get(frequent, "c0") == "c0"
        assert all(legend[name] == other[name] for other in legends for name in legend if name in other)
    worst = findings["worst"][0]
    steps = worst["steps"]
    targets = {**worst["targets"], "truth": [f"c{i % 12}" for i in range(steps)], "predicted": ["c0"] * steps}
    per_class = {f"c{i}": {"support": 30 - i} for i in range(30)}
    few = {"truth": ["c5"] * steps, "predicted": ["c29"] * steps}
    several = [{**worst, "targets": targets}, {**worst, "targets": {**targets, **few}}]
    many = {**findings, "scores": {"per_class": per_class}, "worst": several}
    example, other = examples(model.task, many)
    assert other.legend == [("c5", dict(example.legend)["c5"]), ("1 other label", "c8"), ("wrong", "wrong")]
    assert example.legend[0] == ("c0", "c0")
    assert example.legend[-2:] == [("4 other labels", "c8"), ("wrong", "wrong")]
    assert len(example.legend) == 10
