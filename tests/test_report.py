"""The report: what it finds, that the page has all of it, needs nothing else, and lets nothing out of its quotes."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from bilstm.cli import commands
from bilstm.data.reading import read_table
from bilstm.errors import UserError
from bilstm.report import charts, examine, reach, render, write_report
from bilstm.report import findings as findings_module
from bilstm.report.charts import Scale, line, round_values, runs, strips
from bilstm.report.examples import worst_sequences
from bilstm.report.page import confusion
from bilstm.report.pictures import examples
from bilstm.tagging.tagger import Tagger
from browser import EXECUTABLE, browser

SMALL = ["--units", "4", "--layers", "1", "--epochs", "3", "--learning-rate", "0.05", "--quiet"]
SECTIONS = ["summary", "scores", "learning", "confusion", "calibration", "worst", "context", "speed", "data", "words"]
VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = "</style><script>alert('x')</script>\"&"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "MOST_STEPS", 3_000)
    monkeypatch.setattr(findings_module, "_LONG_ENOUGH", 0.0)


def bilstm(*arguments: Any, status: int = 0) -> Result:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


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
    """What holds of every report."""
    page = Page(content)
    for name in SECTIONS:
        assert len(page.words[name].split()) > 10, name
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


# --- Models and tables -----------------------------------------------------------------------------------------------


def movements(
    path: Path, sequences: int, seed: int, *, gaps: bool = False, names: Any = ("rest", "jump", "run")
) -> Path:
    """Runs of states and a noisy signal of them; with gaps, some steps have neither number nor label."""
    rng = np.random.default_rng(seed)
    rows = []
    for sequence in range(sequences):
        states = np.repeat(rng.integers(0, len(names), 8), rng.integers(2, 6, 8))
        for step, state in enumerate(states.tolist()):
            x = None if gaps and rng.random() < 0.1 else round(state - 1 + rng.normal(0, 0.7), 4)
            label = "" if gaps and rng.random() < 0.1 else names[state]
            rows.append({"id": f"s{sequence}", "t": step, "x": x, "state": label})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


COLUMNS = ["--sequence", "id", "--order", "t", "--label", "state"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a model of movements, `model`, and tables to score it by."""
    folder = tmp_path_factory.mktemp("report")
    options = [*COLUMNS, *SMALL, "--epochs", 12, "--batch-size", 4]
    bilstm("train", movements(folder / "train.ndjson", 40, 0), *options, "--out", folder / "model")
    movements(folder / "test.ndjson", 20, 1, gaps=True)
    movements(folder / "one.ndjson", 1, 2)
    return folder


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a model of names, `model`, and a table of others, `test.conll`."""
    folder = tmp_path_factory.mktemp("names")
    phrases = ["Ada\tB-PER\nByron\tI-PER\n", "Paris\tB-LOC\n", "in\tO\n", "met\tO\n", "New\tB-LOC\nYork\tI-LOC\n"]
    rng = np.random.default_rng(0)
    sentences = ["".join(phrases[i] for i in rng.integers(0, 5, rng.integers(1, 6))) for _ in range(60)]
    (folder / "train.conll").write_text("\n".join(sentences))
    (folder / "test.conll").write_text("\n".join(sentences[:30]) + "\nNew\tO\nByron\tB-LOC\nseen\tO\n")
    bilstm("train", folder / "train.conll", *SMALL, "--out", folder / "model")
    return folder


def found_in(folder: Path, table: str, **options: Any) -> tuple[Tagger, dict[str, Any]]:
    tagger = Tagger.load(folder / "model")
    return tagger, examine(tagger, read_table(folder / table, conll_columns=tagger.columns.conll_columns), **options)


# --- The page --------------------------------------------------------------------------------------------------------


def test_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    said = bilstm("evaluate", folder / "model", folder / "test.ndjson", "--report", out, "--events", 1).stdout
    assert said.endswith(f"\n{out}: the report\n")
    report = json.loads(bilstm("evaluate", folder / "model", folder / "test.ndjson", "--events", 1, "--json").stdout)
    again = bilstm("evaluate", folder / "model", folder / "test.ndjson", "--report", out, "--events", 1, "--json")
    assert json.loads(again.stdout) == report
    page = check(out.read_text())
    for name in ("accuracy", "macro_f1", "log_loss"):
        assert f"{report[name]:.4f}" in page.words["scores"]
        assert f"{report['baseline'][name]:.4f}" in page.words["scores"]
    assert f"{report['events']['f1']:.4f}" in page.words["scores"]
    assert f"{100 * report['accuracy']:.1f}" in page.words["summary"]
    assert f"{100 * report['majority']:.1f}" in page.words["summary"]
    missing = report["notes"][0].split()[1]
    assert f"{missing} missing" in page.words["data"]
    assert f"{missing} missing, filled with the mean" in page.words["summary"]
    assert "ended early" not in page.words["summary"]
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_of_text_and_spans(names: Path, tmp_path: Path) -> None:
    tagger = Tagger.load(names / "model")
    findings = write_report(tmp_path / "names.HTML", tagger, read_table(names / "test.conll", conll_columns=2))
    assert json.loads(json.dumps(findings, allow_nan=False)) == findings
    page = check((tmp_path / "names.HTML").read_text())
    assert "spans found, with the right ends and the right type" in page.words["summary"]
    assert "F1 of spans" in page.words["scores"]
    assert "seen" in page.words["worst"]
    assert "“seen” 1×" in page.words["data"]
    assert "✗" in page.words["worst"]


def test_a_label_that_training_never_saw(names: Path, tmp_path: Path) -> None:
    text = (names / "test.conll").read_text()
    (tmp_path / "test.conll").write_text(text + "\nNile\tB-RIVER\nNile\tB-RIVER\nNile\tI-RIVER\n")
    tagger = Tagger.load(names / "model")
    findings = write_report(tmp_path / "r.html", tagger, read_table(tmp_path / "test.conll", conll_columns=2))
    page = check((tmp_path / "r.html").read_text())
    assert "3 steps with a label that is unknown to the model (“B-RIVER”, “I-RIVER”), counted as wrong" in (
        page.words["summary"].replace("'B-RIVER', 'I-RIVER'", "“B-RIVER”, “I-RIVER”")
    )
    assert {"name": "B-RIVER", "true": 2, "predicted": 0} in findings["data"]["labels"]
    assert ["B-RIVER", "B-RIVER", "I-RIVER"] in [worst["truth"] for worst in findings["worst"]]
    assert "B-RIVER" in page.words["worst"]


def test_the_same_page_for_the_same_model_and_seed(folder: Path) -> None:
    pages, reaches = [], []
    for seed in (0, 0, 1):
        tagger, findings = found_in(folder, "test.ndjson", seed=seed)
        findings["speed"]["steps"] = 1000.0
        pages.append(render(tagger, findings))
        reaches.append(findings["reach"])
    assert pages[0] == pages[1]
    assert reaches[0] == reaches[1] != reaches[2]
    assert "this model" in pages[0]


def test_a_missing_package_is_found_out_before(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    said = bilstm("evaluate", folder / "model", folder / "nothing", "--report", tmp_path / "r.html", status=2).stderr
    assert said == "bilstm: this needs the package jinja2: pip install 'bilstm[cli]'\n"


def test_without_a_baseline_and_of_one_sequence(folder: Path) -> None:
    tagger = Tagger.load(folder / "model")
    tagger.baseline = None
    page = check(render(tagger, examine(tagger, read_table(folder / "one.ndjson"))))
    assert "no more than 1 sequence, so" in page.words["summary"]
    assert "this model was trained without one" in page.words["scores"]
    assert "probably" not in page.words["summary"]
    assert "from reading the steps around" not in page.words["summary"]


def test_where_all_is_right(tmp_path: Path) -> None:
    rows = [f"{i // 5},{i * 7 % 11},{'up' if i * 7 % 11 > 5 else 'down'}" for i in range(200)]
    (tmp_path / "train.csv").write_text("\n".join(["id,x,state", *rows]) + "\n")
    options = ["--sequence", "id", "--label", "state", "--epochs", "30", "--units", "8", "--layers", "1", "--quiet"]
    bilstm("train", tmp_path / "train.csv", *options, "--out", tmp_path / "model", "--learning-rate", 0.05)
    tagger, findings = found_in(tmp_path, "train.csv")
    assert findings["scores"]["accuracy"] == 1
    page = check(render(tagger, findings))
    assert "It made no mistake here." in page.words["summary"]
    assert "Every labelled step of every sequence is right." in page.words["worst"]


def test_sequences_of_one_step(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("id,x,state\n" + "".join(f"{i},{i % 3},{'ab'[i % 2]}\n" for i in range(60)))
    bilstm("train", tmp_path / "train.csv", "--sequence", "id", "--label", "state", *SMALL, "--out", tmp_path / "model")
    page = check(render(*found_in(tmp_path, "train.csv")))
    assert "there is no past or future to look at" in page.words["context"]


def test_nothing_gets_out_of_its_quotes(tmp_path: Path) -> None:
    """Labels, features, sequences and values may hold anything."""
    rows = []
    for i in range(240):
        word, odd = ("<b>", "&amp;", "'\"")[i % 3], i % 2
        rows.append({HOSTILE: f"{HOSTILE}{i // 6}", "<i>x": i % 5, "w": word, "y": [HOSTILE, "<!--"][odd]})
    path = tmp_path / "<b>.ndjson"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bilstm("train", path, "--sequence", HOSTILE, "--label", "y", *SMALL, "--out", tmp_path / "model")
    tagger, findings = found_in(tmp_path, "<b>.ndjson")
    findings["scores"]["notes"].append(HOSTILE)
    content = render(tagger, findings, model="</title>", table="<b>.ndjson")
    page = check(content)
    assert HOSTILE in page.words["scores"]
    assert "<i>x" in page.words["data"]
    assert "<script" not in content


def test_many_classes(tmp_path: Path) -> None:
    names = [f"c{number:02}" for number in range(30)]
    table = movements(tmp_path / "train.ndjson", 60, 0, names=names)
    bilstm("train", table, *COLUMNS, *SMALL, "--out", tmp_path / "model")
    tagger, findings = found_in(tmp_path, "train.ndjson")
    matrix = confusion(findings["scores"])
    assert len(matrix.columns) == 12
    assert (matrix.columns[-1], len(matrix.rows), matrix.others) == ("others", 11, 19)
    for name, steps, cells in matrix.rows:
        assert sum(count for _, count in cells) == steps == findings["scores"]["per_class"][name]["support"]
    page = check(render(tagger, findings))
    assert "19 more are counted together" in page.words["confusion"]


@pytest.mark.parametrize("dark", [False, True])
def test_colours_of_text_can_be_told_from_their_ground(dark: bool) -> None:
    """At least 4.5 to 1, as https://www.w3.org/TR/WCAG22/#contrast-minimum asks for."""
    css = Path(charts.__file__).with_name("page.css").read_text()
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
def test_in_a_browser(folder: Path, names: Path, tmp_path: Path) -> None:
    """No request but for the page itself, no complaint, and nothing wider than the screen."""
    pages = []
    for place, table in ((folder, "test.ndjson"), (names, "test.conll")):
        pages.append(tmp_path / f"{table}.html")
        pages[-1].write_text(render(*found_in(place, table), model="model", table=table))
    with browser() as chromium:
        for path, width, dark in zip((*pages, *pages), (390, 390, 1200, 1200), (False, True, True, False), strict=True):
            chromium.open(path, width=width, dark=dark)
            requests = [each["request"]["url"] for each in chromium.told("Network.requestWillBeSent")]
            assert requests == [path.as_uri()]
            assert not chromium.told("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
            assert chromium.evaluate("document.documentElement.scrollWidth") == width
            heights = f"{SECTIONS}.map(name => document.getElementById(name).offsetHeight)"
            assert min(chromium.evaluate(heights)) > 100


# --- What is found ---------------------------------------------------------------------------------------------------


def test_the_data_are_told(folder: Path) -> None:
    _, findings = found_in(folder, "test.ndjson")
    table = read_table(folder / "test.ndjson")
    data, labels = findings["data"], table.texts("state")
    lengths = list(Counter(table.texts("id")).values())
    assert data["steps"] == len(labels)
    assert data["unlabelled"] == sum(label is None for label in labels)
    told = {label["name"]: label["true"] for label in data["labels"]}
    assert told == {name: int((labels == name).sum()) for name in ("jump", "rest", "run")}
    assert sum(label["predicted"] for label in data["labels"]) == findings["scores"]["steps"]
    assert (data["lengths"]["shortest"], data["lengths"]["longest"]) == (min(lengths), max(lengths))
    assert data["lengths"]["median"] == np.median(lengths)
    for bar in data["lengths"]["bars"]:
        assert bar["sequences"] == sum(bar["from"] <= length <= bar["to"] for length in lengths)
    (feature,) = data["features"]
    numbers = table.numbers("x")
    assert feature["missing"] == np.isnan(numbers).sum() > 0
    assert feature["mean"] == pytest.approx(np.nanmean(numbers))
    assert feature["deviation"] == pytest.approx(np.nanstd(numbers))


def test_unknown_values_are_told(names: Path) -> None:
    _, findings = found_in(names, "test.conll")
    (feature,) = findings["data"]["features"]
    assert (feature["unknown"], feature["commonest_unknown"]) == (1, {"seen": 1})
    assert feature["different"] == feature["known"] + 1


def test_confidence(folder: Path) -> None:
    tagger, findings = found_in(folder, "test.ndjson")
    encoded = tagger.columns.encode(read_table(folder / "test.ndjson"), need_labels=True)
    probabilities = tagger.predict_proba(encoded.values)
    scored = encoded.labels >= 0
    sure = probabilities.max(axis=1) >= 0.9
    right = probabilities.argmax(axis=1) == encoded.labels
    assert findings["confidence"]["share"] == sure[scored].mean()
    assert findings["confidence"]["right"] == right[scored & sure].mean()
    assert findings["confidence"]["otherwise"] == right[scored & ~sure].mean()
    assert findings["speed"]["steps"] > 0


def test_rows_with_lists_are_sequences(folder: Path, tmp_path: Path) -> None:
    _, steps = found_in(folder, "test.ndjson")
    rows = [json.loads(line) for line in (folder / "test.ndjson").read_text().splitlines()]
    sequences = [[row for row in rows if row["id"] == f"s{number}"] for number in range(20)]
    lists = [{name: [row[name] or None for row in of] for name in ("x", "state")} for of in sequences]
    times = [{"t": list(range(len(of)))} for of in sequences]
    (tmp_path / "lists.ndjson").write_text(
        "".join(json.dumps(each | time) + "\n" for each, time in zip(lists, times, strict=True))
    )
    tagger = Tagger.load(folder / "model")
    table = read_table(tmp_path / "lists.ndjson", steps=[*tagger.columns.features, tagger.columns.label])
    found = examine(tagger, table)
    assert [each["name"] for each in found["worst"]] == [str(int(each["name"][1:]) + 1) for each in steps["worst"]]
    assert [each["place"] for each in found["worst"]] == [f"line {each['name']}, step 1" for each in found["worst"]]
    for name in ("scores", "data", "reach"):
        assert found[name] == steps[name]
    check(render(tagger, found))


def test_what_the_model_knows_is_not_told_as_unknown(tmp_path: Path) -> None:
    codes = [str(i % 3) for i in range(40)]
    lines = [f"{i // 4},{code},{'pq'[i % 2]}" for i, code in enumerate(codes)]
    (tmp_path / "train.csv").write_text("\n".join(["id,code,y", *lines]) + "\n")
    flags = ["--sequence", "id", "--label", "y", "--categorical", "code", *SMALL, "--epochs", 1]
    bilstm("train", tmp_path / "train.csv", *flags, "--out", tmp_path / "model")
    (tmp_path / "test.csv").write_text("id,code,y\na,1.0,p\na,2,q\na,2.5,q\n")
    (told,) = found_in(tmp_path, "test.csv")[1]["data"]["features"]
    assert told["commonest_unknown"] == {"2.5": 1}


@pytest.mark.parametrize("count", [1, 4])
def test_the_worst_sequences(folder: Path, count: int) -> None:
    tagger = Tagger.load(folder / "model")
    table = read_table(folder / "test.ndjson")
    encoded = tagger.columns.encode(table, need_labels=True)
    probabilities = tagger.predict_proba(encoded.values)
    worst = worst_sequences(tagger.columns, table, encoded, probabilities, count=count)
    predicted = np.array(tagger.columns.classes)[probabilities.argmax(axis=1)]
    shares = {}
    for sequence in range(20):
        steps = slice(encoded.values.offsets[sequence], encoded.values.offsets[sequence + 1])
        labels = table.texts("state")[encoded.rows[steps]]
        wrong = [guess != label for guess, label in zip(predicted[steps], labels, strict=True) if label is not None]
        shares[table.texts("id")[encoded.rows[steps]][0]] = sum(wrong) / (len(wrong) + 10)
    assert [found["wrong"] / (found["labelled"] + 10) for found in worst] == sorted(shares.values())[::-1][:count]
    for found in worst:
        rows = np.flatnonzero(table.texts("id") == found["name"])
        assert found["place"] == f"line {rows[0] + 1}"
        assert (found["start"], found["stop"], found["steps"]) == (0, len(rows), len(rows))
        assert found["truth"] == table.texts("state")[rows].tolist()
        np.testing.assert_array_equal(np.array(found["numbers"]["x"], float), table.numbers("x")[rows])
        assert found["wrong"] == sum(
            t not in (None, p) for t, p in zip(found["truth"], found["predicted"], strict=True)
        )
        assert found["texts"] == {}


def test_of_a_long_sequence_the_worst_stretch_is_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bilstm.report.examples.MOST_STEPS", 7)
    tagger, findings = found_in(folder, "test.ndjson")
    whole = {found["name"]: found for found in found_in_full(folder, monkeypatch)}
    for found in findings["worst"]:
        assert found["stop"] - found["start"] == len(found["truth"]) == len(found["numbers"]["x"]) == 7
        full = whole[found["name"]]
        wrong = [t not in (None, p) for t, p in zip(full["truth"], full["predicted"], strict=True)]
        most = max(sum(wrong[i : i + 7]) for i in range(len(wrong) - 6))
        assert sum(wrong[found["start"] : found["stop"]]) == most
        assert full["truth"][found["start"] : found["stop"]] == found["truth"]
    assert "where most are wrong" in check(render(tagger, findings)).words["worst"]


def found_in_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    monkeypatch.setattr("bilstm.report.examples.MOST_STEPS", 1000)
    worst: list[dict[str, Any]] = found_in(folder, "test.ndjson")[1]["worst"]
    return worst


def test_events_and_other_names(folder: Path) -> None:
    _, findings = found_in(folder, "test.ndjson", tolerance=2, background="rest")
    assert set(findings["scores"]["events"]["per_class"]) == {"jump", "run"}
    with pytest.raises(UserError, match="the background 'rset' is no label"):
        found_in(folder, "test.ndjson", tolerance=2, background="rset")


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


def test_labels_have_colours_of_their_own(folder: Path) -> None:
    _, findings = found_in(folder, "test.ndjson")
    legends = [dict(example.legend) for example in examples(findings)]
    commonest = max(findings["data"]["labels"], key=lambda label: label["true"])["name"]
    for legend in legends:
        assert len(set(legend.values())) == len(legend)
        assert legend.get(commonest, "c0") == "c0"
        assert all(legend[name] == other[name] for other in legends for name in legend if name in other)
    many = {**findings, "data": {"labels": [{"name": f"c{i}", "true": 1} for i in range(30)]}}
    worst = findings["worst"][0]
    steps = len(worst["truth"])
    many["worst"] = [{**worst, "truth": [f"c{i % 12}" for i in range(steps)], "predicted": ["c0"] * steps}]
    (example,) = examples(many)
    assert example.legend[0] == ("c0", "c0")
    assert example.legend[-1] == ("4 other labels", "c8")
    assert len(example.legend) == 9
