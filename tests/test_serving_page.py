"""The page of a service, in Chromium: what is typed, drawn, edited and dropped is answered, for every kind of model."""

from __future__ import annotations

import importlib.util
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bilstm
from bilstm.serving import Settings
from bilstm.serving.app import PAGE, create_app
from browser import EXECUTABLE, Browser, browser, running

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="there is no Chromium")

SMALL: dict[str, Any] = {"units": 3, "layers": 1, "epochs": 1, "examples": False}
NAMES = ("numbers", "mixed", "pairs", "sums", "whole", "texts", "tags")
DIRECTIONS = ("forward", "backward", "both")
ANSWERED = "document.getElementById('status').textContent.includes('answered')"
LABELS = "document.querySelector('#answer svg').getAttribute('aria-label')"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    x = rng.normal(size=100)
    rows = {"id": np.repeat(range(10), 10), "x": x, "level": x + 1, "word": rng.choice(["is", "was"], 100)}
    rows |= {"y": np.where(x > 0, "high", "low"), "a": (x > 0).astype(int), "b": (x < 1).astype(int)}
    long: dict[str, Any] = {"sequence": "id", **SMALL}
    bilstm.train(rows, label="y", features=["x", "level"], **long | {"epochs": 20}).save(folder / "numbers")
    bilstm.train(rows, label="y", features=["x", "word"], **long).save(folder / "mixed")
    bilstm.train(rows, label=["a", "b"], features=["x"], task="step-labels", **long).save(folder / "pairs")
    bilstm.train(rows, label="level", features=["x"], task="step-quantity", **long).save(folder / "sums")
    rows["y"] = np.repeat(["p", "q"] * 5, 10)
    bilstm.train(rows, label="y", features=["x"], task="sequence-label", **long).save(folder / "whole")
    texts = {"text": ["good and fine", "bad, and worse"] * 8, "y": ["p", "q"] * 8}
    bilstm.train(texts, label="y", text="text", **SMALL).save(folder / "texts")
    (folder / "train.conll").write_text("Eva B-PER\nLind I-PER\nmet O\nBo B-PER\n. O\n\n" * 30)
    options = SMALL | {"epochs": 12, "learning_rate": 0.1, "baseline": False}
    bilstm.train(folder / "train.conll", **options).save(folder / "tags")
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with running(
        create_app(Settings(models=tuple(str(folder / name) for name in NAMES), watch=0, log=False))
    ) as address:
        yield address


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service of models that read the same: of directions, of words, of whole sequences, of quantities
    and of several labels; with examples."""
    folder, rng = tmp_path_factory.mktemp("beside"), np.random.default_rng(0)
    x = rng.normal(size=400).round(3)
    rows = {"id": np.repeat(range(40), 10), "x": x, "y": np.where(x > 0, "up", "down"), "next": np.append(x[1:], 0)}
    rows |= {"whole": np.repeat(["p", "q"] * 20, 10), "a": (x > 0).astype(int), "b": (x < 1).astype(int)}
    (folder / "train.conll").write_text("Eva B-PER\nmet O\n( O\nBo B-PER\n) O\n\nLis B-PER\nmet O\nAda B-PER\n\n" * 20)
    options: dict[str, Any] = {**SMALL, "examples": True, "baseline": False, "validation_split": 0.3, "sequence": "id"}
    paths = []
    for direction in DIRECTIONS:
        for name, data, more in (
            (direction, rows, {"label": "y", "epochs": 10}),
            (f"whole-{direction}", rows, {"label": "whole", "task": "sequence-label"}),
            (f"sums-{direction}", rows, {"label": "next", "task": "step-quantity"}),
            (f"pairs-{direction}", rows, {"label": ["a", "b"], "task": "step-labels"}),
            (f"words-{direction}", folder / "train.conll", {"sequence": None, "epochs": 8, "learning_rate": 0.1}),
        ):
            features = {} if name.startswith("words") else {"features": ["x"]}
            bilstm.train(data, **options | features | more, direction=direction).save(folder / name)
            paths.append(str(folder / name))
    with running(create_app(Settings(models=tuple(paths), watch=0, log=False))) as address:
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as chromium:
        yield chromium


def choose(chromium: Browser, name: str) -> None:
    chromium.wait_for("state.models.length")
    chromium.evaluate(
        f"$('status').textContent = ''; $('model').value = {json.dumps(name)}; "
        "$('model').dispatchEvent(new Event('change'))"
    )
    chromium.wait_for(ANSWERED)


def type_into(chromium: Browser, name: str, text: str) -> None:
    chromium.evaluate(
        f"$('status').textContent = ''; $('{name}').value = {json.dumps(text)}; "
        f"$('{name}').dispatchEvent(new Event('input'))"
    )


def without_complaint(chromium: Browser, address: str) -> bool:
    requests = [each["request"]["url"] for each in chromium.told("Network.requestWillBeSent")]
    assert all(url.startswith((address, "data:")) for url in requests), requests
    complaints = chromium.told("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    assert not complaints, complaints
    return True


@pytest.mark.parametrize(("width", "dark"), [(375, False), (1200, True)])
def test_every_kind_of_model(chromium: Browser, address: str, width: int, dark: bool) -> None:
    """Nothing is wider than the screen, and everything that can be used has a name."""
    chromium.open(address, width=width, dark=dark)
    for name in NAMES:
        choose(chromium, name)
        chromium.wait_for("$('same').textContent.startsWith('The same answer, digit for digit')")
        assert chromium.evaluate("document.documentElement.scrollWidth") == width, name
        assert chromium.evaluate("$('answer').textContent.length") > 5
        nodes = chromium.call("Accessibility.getFullAXTree")["nodes"]
        used = {"button", "slider", "textbox", "combobox", "link", "image", "spinbutton"}
        for node in nodes:
            if not node["ignored"] and node["role"]["value"] in used:
                assert node["name"]["value"].strip(), (name, node)
    assert without_complaint(chromium, address)


def test_a_signal_is_drawn_edited_and_typed(chromium: Browser, address: str) -> None:
    chromium.open(address, width=1000, height=1000)
    choose(chromium, "numbers")
    left, top, width, height = chromium.evaluate(
        "(({left, top, width, height}) => [left, top, width, height])($('draw').getBoundingClientRect())"
    )
    before = chromium.evaluate("JSON.stringify(state.columns.x)")
    chromium.drag([(left + width * part, top + height * 0.1) for part in (0.31, 0.51)])
    chromium.wait_for("document.querySelector('rect.edit')")
    edited = chromium.evaluate("state.columns.x.map((x, i) => x !== JSON.parse('" + before + "')[i])")
    assert edited == [12 <= step <= 20 for step in range(40)]
    assert chromium.evaluate("document.querySelectorAll('rect.edit').length") == 9
    assert "changed the answers of" in chromium.evaluate("$('answer').textContent")
    # By the keyboard
    chromium.evaluate("$('draw').focus()")
    value = chromium.evaluate("state.columns.x[19]")
    for key in ("ArrowLeft", "ArrowUp", "ArrowUp"):
        chromium.press(key)
    assert chromium.evaluate("state.columns.x[19]") > value
    assert chromium.evaluate("$('draw').getAttribute('aria-valuetext')").startswith("step 20 of 40: ")
    # As a table, whose first sequence is shown
    lines = ["id;level;x", *(f"1;{level};{level - 1}" for level in (4, 4, -4)), "2;1;1"]
    type_into(chromium, "csv", "\n".join(lines))
    chromium.wait_for(ANSWERED)
    assert chromium.evaluate("state.columns") == {"x": [3, 3, -5], "level": [4, 4, -4]}
    assert chromium.evaluate(LABELS) == "y: high from step 1 to 2, low from step 3 to 3"
    type_into(chromium, "csv", "x\n1")
    chromium.wait_for("$('error').textContent.includes('the table has no column level')")
    type_into(chromium, "csv", "x,level\n1,1\na,2")
    chromium.wait_for("$('error').textContent.includes(\"step 2: 'a' in column 'x' is not a number\")")
    complaints = chromium.told("Log.entryAdded")  # of the service's refusal alone
    assert [each["entry"]["networkRequestId"] != "" for each in complaints] == [True]


def test_the_length_is_changed_and_a_file_is_dropped(chromium: Browser, address: str) -> None:
    chromium.open(address, width=1000)
    choose(chromium, "numbers")
    type_into(chromium, "steps", "7")
    chromium.wait_for(f"{ANSWERED} && state.answer.steps === 7")
    type_into(chromium, "longer", "900")
    chromium.wait_for("$('same').textContent.includes('900 steps')")
    chromium.evaluate(
        "const files = new DataTransfer(); files.items.add(new File(['x,level\\n1,2\\n,4\\n'], 'a.csv')); "
        "$('input').dispatchEvent(new DragEvent('drop', {dataTransfer: files, cancelable: true}))"
    )
    chromium.wait_for("state.answer?.steps === 2")
    assert chromium.evaluate("state.columns.x") == [1, None]
    assert without_complaint(chromium, address)


@pytest.mark.parametrize("width", [375, 1000])
def test_examples_are_taken_and_models_answer_beside_each_other(chromium: Browser, beside: str, width: int) -> None:
    chromium.open(beside, width=width)
    described = "[...document.querySelectorAll('#answer svg')].map((each) => each.getAttribute('aria-label'))"
    choose(chromium, "both")
    chromium.wait_for("document.querySelectorAll('#answer svg').length === 5")
    labels = chromium.evaluate(described)
    assert [label.partition(":")[0] for label in labels] == [
        "both",
        "forward",
        "backward",
        "true",
        "probability at each time step",
    ]
    assert chromium.evaluate("JSON.stringify(state.columns) === JSON.stringify(state.model.examples[0].sequence)")
    truth = chromium.evaluate("runsOf(state.model.examples[0].truth.y).map((run) => run.label)")
    assert [part.split()[0] for part in labels[3].removeprefix("true: ").split(", ")] == truth
    # What an edit changes: of the forward model nothing before it, of the backward one nothing after it
    chromium.evaluate("state.cursor = 5; $('status').textContent = ''; $('draw').focus()")
    chromium.press("ArrowUp")
    chromium.wait_for(ANSWERED)
    chromium.wait_for("document.querySelectorAll('#answer rect.change').length")
    assert "true before the edit" in [label.partition(":")[0] for label in chromium.evaluate(described)]
    changed = chromium.evaluate(
        "Object.fromEntries(state.others.map(({model, answer, before}) => "
        "[model.name, answer.probability_of_up.map((p, i) => p !== before.probability_of_up[i])]))"
    )
    assert not any(changed["forward"][:5])
    assert not any(changed["backward"][6:])
    assert changed["forward"][5]
    assert changed["backward"][5]
    # Fewer models, and another input than the example
    chromium.evaluate("$('status').textContent = ''; document.querySelector('#beside-models input').click()")
    chromium.wait_for(f"{ANSWERED} && state.others.length === 1")
    chromium.evaluate("$('status').textContent = ''; document.querySelector('[data-fill=wave]').click()")
    chromium.wait_for(ANSWERED)
    assert not any(label.startswith("true") for label in chromium.evaluate(described))
    chromium.evaluate("$('status').textContent = ''; $('example-buttons').children[1].click()")
    chromium.wait_for(ANSWERED)
    assert chromium.evaluate("$('example-buttons').children[1].getAttribute('aria-pressed')") == "true"
    for name in ("whole-both", "sums-both", "pairs-both", "words-both"):
        choose(chromium, name)
        chromium.wait_for("state.others.length === 2")
        assert chromium.evaluate("document.documentElement.scrollWidth") == width, name
        assert "true" in chromium.evaluate("$('answer').innerHTML"), name
    assert chromium.evaluate("$('text').value") in ("Eva met (Bo)", "Lis met Ada")
    assert chromium.evaluate("document.querySelectorAll('#answer .words').length") == 3
    assert without_complaint(chromium, beside)


def test_examples_are_not_shown_where_the_service_is_not_to(chromium: Browser, beside: str, tmp_path: Path) -> None:
    rows = {"id": [i // 3 for i in range(60)], "x": [float(i % 7) for i in range(60)], "y": ["p", "q", "q"] * 20}
    bilstm.train(rows, sequence="id", label="y", **SMALL | {"examples": True}).save(tmp_path / "a")
    for shown in (True, False):
        with running(
            create_app(Settings(models=(str(tmp_path / "a"),), watch=0, log=False, examples=shown))
        ) as address:
            chromium.open(address, width=400)
            chromium.wait_for(ANSWERED)
            assert chromium.evaluate("$('examples').hidden") is not shown


def test_a_text_is_typed(chromium: Browser, address: str) -> None:
    chromium.open(address, width=500)
    choose(chromium, "tags")
    type_into(chromium, "text", "😀 Eva Lind\n<b>met</b> Bo.")
    chromium.wait_for(ANSWERED)
    marked = chromium.evaluate("[...document.querySelectorAll('.span')].map((each) => each.textContent)")
    assert [text.partition("PER ")[0] for text in marked][:1] == ["Eva Lind"]
    words = chromium.evaluate("[...document.querySelectorAll('.word')].map((each) => each.textContent)")
    assert words == ["😀", "Eva", "Lind", *"<", "b", ">", "met", *"</", "b", ">", "Bo", "."]
    chromium.evaluate("document.querySelector('.word').focus()")
    chromium.press("ArrowRight")
    assert chromium.evaluate("document.activeElement.textContent") == "Eva"
    assert chromium.evaluate("document.querySelector('#answer .said').textContent").startswith("Eva: B-PER")
    type_into(chromium, "text", " ")
    chromium.wait_for("$('status').textContent === 'Type or paste some text.'")
    assert without_complaint(chromium, address)


def test_a_browser_streams_as_docs_say(chromium: Browser, tmp_path: Path) -> None:
    rows = {"id": np.repeat(range(20), 5), "x": np.tile([0.0, 1.0, 1.0, 0.1, 0.9], 20)}
    rows["state"] = np.where(rows["x"] > 0.5, "move", "rest")
    model = bilstm.train(
        rows, sequence="id", label="state", **SMALL | {"epochs": 15, "units": 8, "learning_rate": 0.03}
    )
    model.save(tmp_path / "movement")
    page = (Path(__file__).parents[1] / "docs" / "serve.md").read_text("utf-8")
    script = page.partition("```javascript\n")[2].partition("```")[0]
    with running(create_app(Settings(models=(str(tmp_path / "movement"),), watch=0, log=False))) as address:
        chromium.open(address, width=400)
        chromium.wait_for(ANSWERED)
        chromium.evaluate(script.replace("127.0.0.1:8000", address.removeprefix("http://").rstrip("/")))
        chromium.wait_for("socket.readyState === 3")
        said = [each["args"][0]["value"] for each in chromium.told("Runtime.consoleAPICalled")]
    stream = model.stream(look_ahead=1)
    answers = stream.push({"x": [-0.1, 0.2, 1.2, 1.3]}), stream.finish()
    assert said == [label for part in answers for label in part.predicted]


def test_all_is_reached_by_the_keyboard(chromium: Browser, address: str) -> None:
    chromium.open(address, width=1000)
    choose(chromium, "mixed")
    seen = []
    for _ in range(14):
        chromium.press("Tab")
        seen.append(chromium.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    for name in ("model", "feature", "steps", "wave", "jumps", "noise", "draw", "longer", "curl", "openapi.json"):
        assert name in seen, seen


def test_a_key_is_asked_for(chromium: Browser, folder: Path) -> None:
    with running(create_app(Settings(models=(str(folder / "whole"),), watch=0, log=False, api_key="k"))) as address:
        chromium.open(address, width=400)
        chromium.wait_for("!$('locked').hidden")
        chromium.evaluate("$('key').value = 'k'; $('unlock').requestSubmit()")
        chromium.wait_for(ANSWERED)
        assert chromium.evaluate("$('locked').hidden")


def test_the_page_needs_nothing_else(folder: Path) -> None:
    content = PAGE.read_text(encoding="utf-8")
    for outside in ("https:", "@import", "url(", "<img", "innerHTML"):
        assert outside not in content, outside
    assert content.count("http:") == content.count("http://www.w3.org/2000/svg")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("axe_core_python") is None, reason="axe-core-python is not installed")
def test_axe_finds_nothing(chromium: Browser, address: str, beside: str) -> None:
    """https://github.com/dequelabs/axe-core, all rules."""
    import axe_core_python

    axe = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text("utf-8")
    served = [(address, name) for name in NAMES] + [(beside, name) for name in ("both", "whole-both", "words-both")]
    for dark, (place, name) in itertools.product([False, True], served):
        chromium.open(place, width=1000, dark=dark)
        chromium.evaluate(axe)
        choose(chromium, name)
        chromium.evaluate("axe.run().then((found) => { window.found = found.violations; })")
        chromium.wait_for("window.found")
        found = chromium.evaluate("found.map((each) => [each.id, each.nodes.map((node) => node.html.slice(0, 200))])")
        assert found == [], (name, dark)
