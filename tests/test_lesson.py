"""`bilstm demo --page`: the networks are those of the demonstration, and the page shows how they learn, in Chromium."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from bilstm.cli import commands
from bilstm.demo import PROBLEMS, Contender, _learning_curve
from bilstm.errors import UserError
from bilstm.lesson import app as lesson_app
from bilstm.lesson import run_page
from bilstm.lesson.app import PAGE, create_app
from bilstm.lesson.learning import DIRECTIONS, LABELS, Lesson
from browser import EXECUTABLE, Browser, browser, running

pytestmark = pytest.mark.fast

needs_chromium = pytest.mark.skipif(EXECUTABLE is None, reason="there is no Chromium")
SMALL: dict[str, Any] = {"steps": 6, "units": 3, "sequences": 40, "merge_mode": "concat", "seed": 5}
DONE = "state.history.length > 1 && state.history.at(-1).seen === state.lesson.sequences && !state.running"


# --- What is learned ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("steps", [2, 7])
def test_the_true_labels_are_those_of_the_problem(problem: str, steps: int) -> None:
    X, y = PROBLEMS[problem](200, steps, seed=1)
    np.testing.assert_array_equal(LABELS[problem](X[..., 0]), y[..., 0])
    lesson = Lesson(problem, **SMALL | {"steps": steps})
    for numbers, labels in zip(X[:3, :, 0], y[:3, :, 0], strict=True):
        assert lesson.truth(numbers) == labels.tolist()


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_networks_learn_as_in_the_demonstration(problem: str) -> None:
    """With its data, its seed and its order: the same accuracies."""
    lesson, index = Lesson(problem, **SMALL), list(PROBLEMS).index(problem)
    scores = [lesson.scores()]
    while lesson.done < lesson.total:
        scores.append(lesson.learn(15))
    assert [each.seen for each in scores] == [0, 15, 30, 40]
    assert lesson.learn(5) == lesson.scores()
    data, test = (PROBLEMS[problem](n, 6, seed=np.random.default_rng((5, index, k))) for n, k in ((40, 1), (500, 2)))
    for n, direction in enumerate(DIRECTIONS):
        network = Contender(direction, 3).build(6, 5)
        curve = _learning_curve(network, data, test, np.array([0, 15, 30, 40]))
        assert [each.accuracy[n] for each in scores] == curve
        assert lesson.contenders[n].direction == direction
        answers = lesson.answers(test[0][0, :, 0])[n]
        np.testing.assert_array_equal(np.float32(answers), network.predict(test[0][:1], verbose=0)[0, :, 0])


# --- The service ------------------------------------------------------------------------------------------------------


WEBSOCKETS = {"ws": "websockets-sansio", "ws_max_size": 1 << 16}  # as `run_page` has them


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running(create_app(6, 3, 40, "sum", 5), **WEBSOCKETS) as address:
        yield address


def heard(client: ClientConnection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(client.recv(timeout=20))
    return found


def test_learning_is_told_until_it_is_done(address: str) -> None:
    lesson = Lesson("cumulative sum", **SMALL | {"merge_mode": "sum"})
    with connect(f"ws{address[4:]}learn") as client:
        first = heard(client)
        assert first["lesson"]["networks"][2] == {
            **{"direction": "bidirectional", "units": 3, "merge_mode": "sum"},
            "parameters": lesson.contenders[2].parameters,
        }
        assert first["scores"] == {"seen": 0, "loss": None, "accuracy": lesson.scores().accuracy}
        assert first["answers"]["probabilities"] == lesson.answers(lesson.example)
        client.send(json.dumps({"pace": 300}))
        second, third = heard(client), heard(client)
        assert [each["scores"]["seen"] for each in (second, third)] == [30, 40]
        assert second["scores"]["accuracy"] == lesson.learn(30).accuracy
        last = lesson.learn(30)
        assert (third["scores"]["loss"], third["scores"]["accuracy"]) == (last.loss, last.accuracy)
        with pytest.raises(TimeoutError):
            client.recv(timeout=0.3)
        client.send(json.dumps({"problem": "echo(1)", "seed": 6, "pace": 0}))
        assert heard(client)["answers"]["numbers"] != first["answers"]["numbers"]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6), st.integers(0, 5), st.floats(0, 1, width=32))
def test_an_edit_changes_what_a_network_can_see_of_it(
    address: str, numbers: list[float], step: int, number: float
) -> None:
    """Forward nothing before it, backward nothing after it."""
    with connect(f"ws{address[4:]}learn") as client:
        heard(client)
        client.send(json.dumps({"sequence": numbers}))
        before = heard(client)["answers"]
        assert before["numbers"] == numbers
        client.send(json.dumps({"sequence": [*numbers[:step], number, *numbers[step + 1 :]]}))
        after = heard(client)
    forward, backward, _ = after["changed"]
    assert not any(forward[:step])
    assert not any(backward[step + 1 :])
    if number == numbers[step]:
        assert not any(map(any, after["changed"]))
    for old, new, flags in zip(
        before["probabilities"], after["answers"]["probabilities"], after["changed"], strict=True
    ):
        assert [a != b for a, b in zip(old, new, strict=True)] == flags


@pytest.mark.parametrize(
    "message",
    [
        "a",
        "[1]",
        b"\xff",
        "[" * 50_000,
        '{"pace": -1}',
        '{"pace": "fast"}',
        '{"pace": NaN}',
        '{"problem": "none"}',
        '{"problem": []}',
        '{"seed": -1, "problem": "echo(1)"}',
        '{"sequence": [1]}',
        '{"sequence": [0, 0, 0, 0, 0, 2]}',
        '{"sequence": [0, 0, 0, 0, 0, true]}',
        '{"sequence": 3}',
    ],
)
def test_messages_that_make_no_sense_end_the_connection(address: str, message: str | bytes) -> None:
    with connect(f"ws{address[4:]}learn") as client:
        heard(client)
        client.send(message)
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=20)
        assert client.close_code == 1008


def test_pages_of_other_origins_and_too_many_are_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidStatus), connect(f"ws{address[4:]}learn", origin="http://elsewhere"):  # type: ignore[arg-type]
        pass
    monkeypatch.setattr(lesson_app, "MOST_PAGES", 1)
    with connect(f"ws{address[4:]}learn") as client:
        heard(client)
        with connect(f"ws{address[4:]}learn") as other:
            with pytest.raises(ConnectionClosed):
                other.recv(timeout=20)
            assert other.close_code == 1013


# --- The command ------------------------------------------------------------------------------------------------------


def test_the_command_serves_the_page_and_ends_at_ctrl_c() -> None:
    command = [sys.executable, "-m", "bilstm", "demo", "--page", "--port", "0", "--steps", "5"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    found = re.fullmatch(r"open http://(127\.0\.0\.1:\d+) in a browser; Ctrl-C ends it\n", process.stdout.readline())
    assert found
    with connect(f"ws://{found[1]}/learn") as client:
        assert len(heard(client)["answers"]["numbers"]) == 5
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "1"], "--port is where --page is served"),
        (["--page", "--out", "a.png"], "leave one out"),
        (["--page", "--steps", "201"], "room for 200 steps"),
        (["--page", "--port", "70000"], "not in the range"),
    ],
)
def test_options_that_do_not_fit(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(commands, ["demo", *arguments])
    assert result.exit_code
    assert message in result.output + str(result.exception)


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="choose others with --port"):
        run_page(port=taken.getsockname()[1])


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bilstm.lesson.app", None)
    monkeypatch.delitem(sys.modules, "bilstm.lesson.app")
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    with pytest.raises((UserError, ModuleNotFoundError), match="starlette"):
        run_page()


# --- The page ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    with running(create_app(10, 4, 60, "concat", 1), **WEBSOCKETS) as address:
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as chromium:
        yield chromium


def without_complaint(chromium: Browser, address: str) -> bool:
    requests = [each["request"]["url"] for each in chromium.told("Network.requestWillBeSent")]
    assert all(url.startswith((address, "data:")) for url in requests), requests
    complaints = chromium.told("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    assert not complaints, complaints
    return True


def fast(chromium: Browser) -> None:
    chromium.wait_for("state.history.length")
    chromium.evaluate("$('pace').value = '1000'; $('pace').dispatchEvent(new Event('change'))")


@needs_chromium
@pytest.mark.parametrize(("width", "dark"), [(360, True), (1200, False)])
def test_each_problem_is_learned_before_the_readers_eyes(chromium: Browser, page: str, width: int, dark: bool) -> None:
    """Nothing is wider than the screen, all that can be used has a name, and figures are those of the service."""
    chromium.open(page, width=width, dark=dark)
    fast(chromium)
    for index, problem in enumerate(PROBLEMS):
        chromium.evaluate(f"document.querySelectorAll('#problems input')[{index}].click()")
        chromium.wait_for(f"{DONE} && chosen() === {json.dumps(problem)}")
        lesson = Lesson(problem, 10, 4, 60, "concat", 1)
        assert chromium.evaluate("state.history[0].accuracy") == lesson.scores().accuracy
        assert chromium.evaluate("state.answers.truth") == lesson.truth(lesson.example)
        assert chromium.evaluate("$('go').textContent") == "Done"
        assert chromium.evaluate("$('verdict').textContent").startswith("Done: forward is right at ")
        rows = chromium.evaluate("[...$('scores').tBodies[0].rows].map((row) => row.cells[3].textContent)")
        accuracy = chromium.evaluate("state.history.at(-1).accuracy")
        assert rows == [f"{100 * each:.1f} %" for each in accuracy]
        labels = chromium.evaluate("state.answers.probabilities.map((row) => row.map((p) => +(p > 0.5)))")
        wrong = sum(a != b for row in labels for a, b in zip(row, lesson.truth(lesson.example), strict=True))
        assert chromium.evaluate("document.querySelectorAll('.wrong').length") == wrong
        assert chromium.evaluate("document.documentElement.scrollWidth") == width
        for node in chromium.call("Accessibility.getFullAXTree")["nodes"]:
            used = {"button", "slider", "radio", "combobox", "image", "progressbar", "table"}
            if not node["ignored"] and node["role"]["value"] in used:
                assert node["name"]["value"].strip(), node
    assert without_complaint(chromium, page)


@needs_chromium
def test_bars_are_dragged_and_moved_by_the_keyboard(chromium: Browser, page: str) -> None:
    chromium.open(page, width=900, height=1200)
    chromium.wait_for("state.history.length")
    chromium.evaluate("$('go').click()")  # pauses
    left, top, width, height = chromium.evaluate(
        "(({left, top, width, height}) => [left, top, width, height])($('bars').getBoundingClientRect())"
    )
    seen = chromium.evaluate("state.history.length")
    chromium.drag([(left + width * 0.35, top + height * 0.9), (left + width * 0.35, top + height * 0.25)])
    chromium.wait_for("state.changed && state.answers.numbers[3] > 0.7")
    told = chromium.evaluate("$('changed').textContent")
    assert told.startswith("You have changed step 4. Other probabilities than before: forward, steps 4 to 10; backward")
    assert "backward, steps 1 to 4; both, all steps." in told
    marked = chromium.evaluate(
        "[...$('row0').querySelectorAll('.cell')].map((cell) => cell.classList.contains('changed'))"
    )
    assert marked == [step >= 3 for step in range(10)]
    number = chromium.evaluate("state.answers.numbers[2]")
    for key in ("ArrowLeft", "ArrowUp"):
        chromium.press(key)
    chromium.wait_for("$('changed').textContent.startsWith('You have changed step 3.')")
    assert chromium.evaluate("state.answers.numbers[2]") == pytest.approx(min(1, number + 0.05), abs=0.001)
    assert chromium.evaluate("$('bars').getAttribute('aria-valuetext')").startswith("step 3 of 10: ")
    assert chromium.evaluate("state.history.length") <= seen + 1  # it is paused
    chromium.evaluate("$('draw-again').click()")
    chromium.wait_for("$('changed').textContent.startsWith('You have changed steps 1, 2')")
    first = chromium.evaluate("state.seed")
    chromium.evaluate("$('again').click()")
    chromium.wait_for("state.seed !== null && state.running && !state.changed")
    assert first is None
    assert without_complaint(chromium, page)


@needs_chromium
def test_all_of_it_is_reached_by_the_keyboard(chromium: Browser, page: str) -> None:
    chromium.open(page, width=1000)
    chromium.wait_for("$('bars')")
    seen = []
    for _ in range(7):
        chromium.press("Tab")
        seen.append(chromium.evaluate("document.activeElement.id || document.activeElement.name"))
    assert seen[:4] == ["problem", "go", "again", "pace"]
    assert {"draw-again", "bars"} <= {*seen}
    chromium.evaluate("document.querySelector('#problems input').focus()")
    chromium.press("ArrowRight")
    chromium.wait_for("chosen() === 'half of total' && $('explained').textContent.includes('compared')")


@needs_chromium
def test_the_end_of_the_service_is_told(chromium: Browser) -> None:
    with running(create_app(60, 2, 30, "ave", 1), **WEBSOCKETS) as address:
        chromium.open(address, width=400)
        chromium.wait_for("state.history.length")
        assert chromium.evaluate("document.documentElement.scrollWidth") == 400
    chromium.wait_for("$('error').textContent.startsWith('The demonstration has ended')")
    assert chromium.evaluate("[...document.querySelectorAll('button')].every((button) => button.disabled)")


def test_the_page_needs_nothing_else() -> None:
    content = PAGE.read_text(encoding="utf-8")
    for outside in ("https:", "@import", "url(", "<img", "innerHTML"):
        assert outside not in content, outside
    assert content.count("http:") == content.count("http://www.w3.org/2000/svg")


@pytest.mark.slow
@needs_chromium
@pytest.mark.skipif(importlib.util.find_spec("axe_core_python") is None, reason="axe-core-python is not installed")
def test_axe_finds_nothing(chromium: Browser, page: str) -> None:
    """https://github.com/dequelabs/axe-core, all rules."""
    import axe_core_python

    axe = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text("utf-8")
    for dark, width in itertools.product([False, True], [390, 1100]):
        chromium.open(page, width=width, dark=dark)
        fast(chromium)
        chromium.wait_for(DONE)
        chromium.evaluate(axe)
        chromium.evaluate("axe.run().then((found) => { window.found = found.violations; })")
        chromium.wait_for("window.found")
        found = chromium.evaluate("found.map((each) => [each.id, each.nodes.map((node) => node.html.slice(0, 200))])")
        assert found == [], (width, dark)
