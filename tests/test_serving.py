"""The service: every answer is that of `bilstm predict` for the sequence alone, and every mistake is answered."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bilstm
from bilstm.model import TrainedModel
from bilstm.model.predictions import PredictionOptions
from bilstm.model.streaming import predict_stream
from bilstm.ragged import Ragged
from bilstm.serving import Settings, batches, store
from bilstm.serving.app import create_app
from bilstm.serving.guard import Guard
from oracles.models import bits

SMALL: dict[str, Any] = {"units": 3, "layers": 1, "epochs": 1, "baseline": False}
STEPS = ("steps", "numbers", "pairs", "sums")
ANSWER = {"steps", "tokens", "starts", "spans", "events", "sequence"}  # besides the columns of `bilstm predict`


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of every task, by their names."""
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    rows = {"id": np.repeat(range(12), 5), "t": np.tile(range(5), 12), "x": rng.normal(size=60)}
    rows |= {"word": rng.choice(["is", "was"], 60), "y": rng.choice(["p", "q"], 60), "a": rng.integers(0, 2, 60)}
    rows |= {"b": rng.integers(0, 2, 60), "level": rng.normal(size=60)}
    whole = {"sequence": "id", "order": "t", **SMALL}
    trained = {
        "steps": bilstm.train(rows, label="y", features=["x", "word"], **whole),
        "numbers": bilstm.train(rows, label="y", features=["x", "level"], **whole),
        "pairs": bilstm.train(rows, label=["a", "b"], features=["x"], task="step-labels", **whole),
        "sums": bilstm.train(rows, label=["level"], features=["x"], task="step-quantity", **whole),
    }
    rows["y"] = np.repeat(["p", "q"] * 6, 5)
    trained["whole"] = bilstm.train(rows, label="y", features=["x"], task="sequence-label", **whole)
    texts = {"text": ["good and fine", "bad, and worse"] * 8, "y": ["p", "q"] * 8}
    trained["texts"] = bilstm.train(texts, label="y", text="text", **SMALL)
    words, tags = ["Eva", "Lind", "met", "Bo", "."], ["B-PER", "I-PER", "O", "B-PER", "O"]
    lines = "\n".join("".join(f"{word} {tag}\n" for word, tag in zip(words, tags, strict=True)) for _ in range(30))
    (folder / "train.conll").write_text(lines)
    trained["tags"] = bilstm.train(folder / "train.conll", **SMALL | {"epochs": 12}, learning_rate=0.1)
    options = SMALL | {"characters": "lstm", "output": "crf"}
    trained["letters"] = bilstm.train(folder / "train.conll", **options)
    for name, model in trained.items():
        model.save(folder / name)
    return folder


@pytest.fixture(scope="module")
def service(folder: Path) -> Guard:
    names = (*STEPS, "whole", "texts", "tags", "letters")
    return create_app(Settings(models=tuple(str(folder / name) for name in names), watch=0, max_steps=1000, log=False))


def run(app: Guard, work: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    async def working() -> Any:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service", timeout=30) as client:
            return await work(client)

    return asyncio.run(working())


def post(app: Guard, path: str, content: Any, **more: Any) -> httpx.Response:
    body = content if isinstance(content, (bytes, str)) else json.dumps(content)
    answer: httpx.Response = run(app, lambda client: client.post(path, content=body, **more))
    return answer


def alone(path: Path, cells: dict[str, Any], **options: Any) -> dict[str, Any]:
    """What `bilstm predict` writes for a sequence, without what was there before."""
    written = io.BytesIO()
    model = TrainedModel.load(path)
    if model.schema.order is not None:
        cells = {model.schema.order: list(range(len(next(iter(cells.values()))))), **cells}
    predict_stream(io.BytesIO(json.dumps(cells).encode()), written.write, model, PredictionOptions(**options))
    return {name: cell for name, cell in json.loads(written.getvalue()).items() if name not in cells}


def columns(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in ANSWER}


# --- Answers ----------------------------------------------------------------------------------------------------------

numbers = st.floats(-9, 9, allow_nan=False) | st.integers(-9, 9) | st.none()
WORDS = st.sampled_from(["is", "was", "not", None])


@st.composite
def sequences(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    name, steps = draw(st.sampled_from([*STEPS, "whole"])), draw(st.integers(1, 12))
    features = {"steps": ["x", "word"], "numbers": ["x", "level"]}.get(name, ["x"])
    cells = {
        each: draw(st.lists(WORDS if each == "word" else numbers, min_size=steps, max_size=steps)) for each in features
    }
    return name, cells


@settings(max_examples=15, deadline=None)
@given(st.lists(sequences(), min_size=1, max_size=20), st.booleans())
def test_what_comes_together_is_answered_as_alone(
    folder: Path, service: Guard, asked: list[tuple[str, dict[str, Any]]], all_labels: bool
) -> None:
    def options(name: str) -> dict[str, Any]:
        return {"probabilities": True} if all_labels and name != "sums" else {}

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        questions = [(name, {"columns": cells} | options(name)) for name, cells in asked]
        return await asyncio.gather(*(client.post(f"/models/{name}/label", json=body) for name, body in questions))

    for (name, cells), answer in zip(asked, run(service, ask), strict=True):
        assert answer.status_code == 200, answer.text
        (found,) = answer.json()["sequences"]
        assert columns(found) == alone(folder / name, cells, **options(name))
        assert found["steps"] == len(cells["x"])


@pytest.mark.parametrize("at_once", [0, 1 << 12, 1 << 40])
@pytest.mark.parametrize("long", [1, 1 << 40])
@pytest.mark.parametrize("wait", [0.0, 0.01])
def test_threads_lanes_and_waiting_change_no_bit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, long: int, wait: float
) -> None:
    monkeypatch.setattr(batches, "AT_ONCE", at_once)
    monkeypatch.setattr(batches, "LONG", long)
    model = TrainedModel.load(folder / "numbers")
    rng = np.random.default_rng(1)
    parts = [Ragged.from_sequences([rng.normal(size=(n, 2)) for n in (steps, 3)]) for steps in (1, 40, 7, 300, 2)]
    sizes = list[int]()

    async def work() -> list[Any]:
        batcher = batches.Batcher(model, wait, sizes.append)
        return await asyncio.gather(*map(batcher.outputs, parts))

    for part, outputs in zip(parts, asyncio.run(work()), strict=True):
        assert bits(outputs.values) == bits(model.outputs(part).values)
    assert sum(sizes) == len(parts)
    if wait or not at_once:
        assert max(sizes) == len(parts)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=5), min_size=1, max_size=9))
def test_words_of_several_requests_keep_their_characters(
    folder: Path, service: Guard, sentences: list[list[str]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "AT_ONCE", 0)  # so that all are computed together

        async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
            bodies = [{"columns": {"token": words}, "paths": 2} for words in sentences]
            return await asyncio.gather(*(client.post("/models/letters/label", json=body) for body in bodies))

        found = run(service, ask)
    for words, answer in zip(sentences, found, strict=True):
        assert columns(answer.json()["sequences"][0]) == alone(folder / "letters", {"token": words}, paths=2)


def test_a_batch_has_no_more_work_than_is_allowed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = TrainedModel.load(folder / "numbers")
    monkeypatch.setattr(batches, "AT_ONCE", 0)
    monkeypatch.setattr(batches, "BATCH", 10 * model.network.count_params())
    sizes = list[int]()

    async def work() -> None:
        batcher = batches.Batcher(model, 0.0, sizes.append)
        await asyncio.gather(*(batcher.outputs(Ragged.from_sequences([np.zeros((4, 2))])) for _ in range(5)))

    asyncio.run(work())
    assert sizes == [2, 2, 1]


def test_an_error_of_a_batch_reaches_all_who_wait(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(Settings(models=(str(folder / "numbers"),), watch=0))

    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(TrainedModel, "outputs", fail)

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        body = {"columns": {"x": [1], "level": [2]}}
        return await asyncio.gather(*(client.post("/label", json=body) for _ in range(3)))

    assert [(a.status_code, a.headers["retry-after"]) for a in run(app, ask)] == [(503, "1")] * 3
    monkeypatch.undo()
    assert post(app, "/label", {"columns": {"x": [1], "level": [2]}}).status_code == 200


@pytest.mark.fast
def test_all_forms_of_a_sequence_mean_the_same(folder: Path, service: Guard) -> None:
    cells = {"x": [0.5, None, 2], "level": [1, "2.5", "NA"]}
    rows = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    expected = alone(folder / "numbers", cells)
    bodies: list[Any] = [
        {"columns": cells},
        {"columns": {**cells, "other": 3}},
        {"rows": rows},
        {"sequences": [cells]},
        json.dumps({"columns": cells}).replace("null", "NaN"),  # as Python and NumPy write a missing number
        {"sequences": [rows]},
        {"sequences": [list(map(list, zip(*cells.values(), strict=True)))]},
        {"columns": {**{name: column[::-1] for name, column in cells.items()}, "t": [2, 1, 0]}},
        {"rows": [{**row, "t": t} for t, row in enumerate(rows)]},
    ]
    for body in bodies:
        (found,) = post(service, "/models/numbers/label", body).json()["sequences"]
        turned = isinstance(body, dict) and "t" in body.get("columns", {})
        assert {n: c[::-1] if turned else c for n, c in columns(found).items()} == expected


def test_rows_of_several_sequences(folder: Path, service: Guard) -> None:
    rows = [{"id": i, "t": -t, "x": i * t, "level": 1} for t in range(3) for i in (7, 8)]
    found = post(service, "/models/numbers/label", {"rows": rows}).json()["sequences"]
    assert [each["sequence"] for each in found] == [7, 8]
    for each in found:
        cells = {"x": [each["sequence"] * t for t in (2, 1, 0)], "level": [1] * 3}
        assert {n: c[::-1] for n, c in columns(each).items()} == alone(folder / "numbers", cells)


def test_events_and_further_labels(folder: Path, service: Guard) -> None:
    cells = {"x": [-3, -2, 0, 2, 3, -1], "level": [0] * 6}
    body = {"columns": cells, "top": 2, "events": True}
    (found,) = post(service, "/models/numbers/label", body).json()["sequences"]
    assert columns(found) == alone(folder / "numbers", cells, top=2)
    runs = [step for step in range(6) if step == 0 or found["predicted"][step] != found["predicted"][step - 1]]
    assert [event["first"] for event in found["events"]] == runs
    for event in found["events"]:
        steps = slice(event["first"], event["last"] + 1)
        assert set(found["predicted"][steps]) == {event["label"]}
        assert event["probability"] == pytest.approx(np.mean(found["probability"][steps]), abs=2e-6)
    body["background"] = found["events"][0]["label"]
    fewer = post(service, "/models/numbers/label", body).json()["sequences"][0]["events"]
    assert fewer == [event for event in found["events"] if event["label"] != body["background"]]


@pytest.mark.fast
def test_texts_are_divided_and_spans_have_places(folder: Path, service: Guard) -> None:
    text = "😀 Eva Lind  met\nBo."
    (found,) = post(service, "/models/tags/label", {"text": text}).json()["sequences"]
    assert found["tokens"] == ["😀", "Eva", "Lind", "met", "Bo", "."]
    assert columns(found) == alone(folder / "tags", {"token": found["tokens"]})
    for token, start in zip(found["tokens"], found["starts"], strict=True):
        assert text[start : start + len(token)] == token
    assert [(span["text"], span["label"]) for span in found["spans"]] == [("Eva Lind", "PER"), ("Bo", "PER")]
    model = TrainedModel.load(folder / "tags")
    model.warn = False
    (right,) = model.predict_spans([found["tokens"]])
    for span, expected in zip(found["spans"], right, strict=True):
        assert text[span["start"] : span["end"]] == span["text"]
        assert (span["first"], span["last"], span["label"]) == expected[:3]
        assert span["probability"] == round(expected.probability, 6)
    (whole,) = post(service, "/models/texts/label", {"text": "good, bad"}).json()["sequences"]
    assert whole["tokens"] == ["good", ",", "bad"]
    assert columns(whole) == alone(folder / "texts", {"text": "good, bad"})
    assert post(service, "/models/texts/label", {"columns": {"text": "good, bad"}}).json()["sequences"] == [whole]


# --- Mistakes ---------------------------------------------------------------------------------------------------------

WRONG: list[tuple[str, Any, int, str]] = [
    ("numbers", b"{", 400, "not JSON"),
    ("numbers", b"\xff", 400, "not JSON"),
    ("numbers", [], 422, "not a JSON object"),
    ("numbers", {}, 422, "there is no sequence"),
    ("numbers", {"rows": [], "text": ""}, 422, "both there"),
    ("numbers", {"column": {}}, 422, "Did you mean 'columns'"),
    ("numbers", {"columns": []}, 422, "an object with a list"),
    ("numbers", {"columns": {}}, 422, "no list of steps"),
    ("numbers", {"columns": {"x": [1]}}, 422, "there is no 'level'"),
    ("numbers", {"columns": {"x": [1], "level": [1, 2]}}, 422, "2 steps"),
    ("numbers", {"columns": {"x": [], "level": []}}, 422, "no steps"),
    ("numbers", {"columns": {"x": [1, "a"], "level": [1, 2]}}, 422, "the sequence, step 2: 'a' in column 'x'"),
    ("numbers", {"columns": {"x": [[1]], "level": [2]}}, 422, "a cell is one value"),
    ("numbers", '{"columns": {"x": [1e999], "level": [2]}}', 400, "infinity"),
    ("numbers", '{"columns": {"x": [NaN, Infinity], "level": [2, 3]}}', 400, "Infinity"),
    ("numbers", {"columns": {"x": [10**400], "level": [2]}}, 400, "infinity"),
    ("numbers", {"columns": {"x": [1e39], "level": [2]}}, 422, "too far"),
    ("numbers", {"rows": [{"x": 1, "level": 1}, {"x": 1}]}, 422, "step 2: there is no 'level'"),
    ("numbers", {"rows": [1]}, 422, "row 1 is '1'"),
    ("numbers", {"rows": []}, 422, "is empty"),
    ("numbers", {"rows": [{"id": 1, "x": 1, "level": 1}, {"x": 1, "level": 1}]}, 422, "row 2"),
    ("numbers", {"rows": [{"t": 1, "x": 1, "level": 1}, {"x": 1, "level": 1}]}, 422, "the order"),
    ("numbers", {"rows": [{"t": 1, "x": 1, "level": 1}] * 2}, 422, "a second time"),
    ("numbers", {"sequences": []}, 422, "at least one"),
    ("numbers", {"sequences": [[[1, 2]], [[1]]]}, 422, "sequence 2, step 1: there is 1 value"),
    ("numbers", {"sequences": [[]]}, 422, "no steps"),
    ("numbers", {"sequences": [3]}, 422, "the sequence is '3'"),
    ("numbers", {"sequences": [[[1, 2]], {"t": [1], "x": [1], "level": [1]}]}, 422, "sequence 2: some sequences"),
    ("numbers", {"text": "a b"}, 422, "columns: 'x', 'level'"),
    ("numbers", {"text": 3}, 422, "must be a text"),
    ("numbers", {"columns": {"x": [1], "level": [2]}, "top": 3}, 422, "no 3 likeliest"),
    ("numbers", {"columns": {"x": [1], "level": [2]}, "top": 0}, 422, "at least 1"),
    ("numbers", {"columns": {"x": [1], "level": [2]}, "top": True}, 422, "whole number"),
    ("numbers", {"columns": {"x": [1], "level": [2]}, "background": "p"}, 422, "needs"),
    ("numbers", {"columns": {"x": [1], "level": [2]}, "events": True, "background": "r"}, 422, "'p', 'q'"),
    ("numbers", {"columns": {"x": [0] * 1001, "level": [0] * 1001}}, 413, "1,000 time steps"),
    ("numbers", {"columns": {"x": [1], "level": [2]}, "paths": 2}, 422, "crf"),
    ("numbers", {"columns": {"x": [1], "level": [2]}, "baseline": True}, 422, "without one"),
    ("sums", {"columns": {"x": [1]}, "probabilities": True}, 422, "quantities"),
    ("sums", {"columns": {"x": [1]}, "events": True}, 422, "labels of time steps"),
    ("texts", {"columns": {"words": ["a"]}}, 422, "not a text"),
    ("texts", {"text": " \n"}, 422, "no steps"),
    ("texts", {"text": "a " * 1001}, 413, "1,000 time steps"),
    ("text", {"text": "a"}, 404, "Did you mean 'texts'"),
]


@pytest.mark.parametrize(("model", "body", "status", "message"), WRONG)
def test_mistakes_are_answered(service: Guard, model: str, body: Any, status: int, message: str) -> None:
    answer = post(service, f"/models/{model}/label", body)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]


def test_what_is_not_there(service: Guard) -> None:
    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.get("/nothing"), await client.get("/label"), await client.post("/models/none/stream")]

    assert [each.status_code for each in run(service, ask)] == [404, 405, 404]


@pytest.mark.parametrize("announced", [True, False])
def test_a_large_body_is_refused(folder: Path, announced: bool) -> None:
    app = create_app(Settings(models=(str(folder / "numbers"),), watch=0, max_body=1000))
    sent = 0

    async def chunks() -> Any:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b" " * 500

    headers = {"Content-Length": "50000"} if announced else {}
    answer = run(app, lambda client: client.post("/label", content=chunks(), headers=headers))
    assert answer.status_code == 413
    assert "1,000 bytes" in answer.json()["error"]


def test_bodies_that_are_compressed_or_slow(folder: Path) -> None:
    app = create_app(Settings(models=(str(folder / "numbers"),), watch=0, timeout=0.05))

    async def chunks() -> Any:
        yield b"{"
        await asyncio.sleep(10)

    answer = post(app, "/label", b"x", headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415
    answer = run(app, lambda client: client.post("/label", content=chunks()))
    assert (answer.status_code, "0.05 s" in answer.json()["error"]) == (408, True)


def test_a_full_queue_and_a_late_answer_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(Settings(models=(str(folder / "numbers"),), watch=0, queue=2, timeout=0.2))
    body = {"columns": {"x": [1], "level": [2]}}

    async def never(*_: Any) -> None:
        await asyncio.sleep(10)

    monkeypatch.setattr(batches.Batcher, "outputs", never)

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        return await asyncio.gather(*(client.post("/label", json=body) for _ in range(3)))

    late, late_too, full = run(app, ask)
    assert [each.status_code for each in (late, late_too, full)] == [503] * 3
    assert "0.2 s" in late.json()["error"]
    assert "as it takes" in full.json()["error"]
    assert full.headers["retry-after"] == "1"
    monkeypatch.undo()
    assert post(app, "/label", body).status_code == 200  # there is room again


def test_a_defect_says_nothing_of_the_data(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(Settings(models=(str(folder / "numbers"),), watch=0))

    async def fail(*_: Any) -> None:
        raise RuntimeError("secret 123")

    monkeypatch.setattr(batches.Batcher, "outputs", fail)
    answer = post(app, "/label", {"columns": {"x": [1], "level": [2]}})
    assert answer.status_code == 500
    assert "RuntimeError" in answer.json()["error"]
    assert "secret" not in answer.text


# --- The key, metrics and logs ----------------------------------------------------------------------------------------


def test_a_key(folder: Path) -> None:
    app = create_app(Settings(models=(str(folder / "numbers"),), watch=0, api_key="k1"))
    body = {"columns": {"x": [1], "level": [2]}}
    assert post(app, "/label", body).status_code == 401
    assert post(app, "/label", body, headers={"Authorization": "Bearer k2"}).status_code == 401
    assert post(app, "/label", body, headers={"Authorization": "Bearer k1"}).status_code == 200

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.get(path) for path in ("/metrics", "/models", "/v2", "/v2/health/live", "/")]

    assert [each.status_code for each in run(app, ask)] == [401, 401, 401, 200, 200]
    assert "k1" not in repr(Settings(models=("a",), api_key="k1"))


def test_metrics_and_logs_count_and_keep_no_data(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import logging.config

    from bilstm.serving.logs import configuration

    # Those of other packages that this process has imported would close pytest's own files.
    monkeypatch.setattr(logging.config, "_clearExistingHandlers", lambda: None)
    logging.config.dictConfig(configuration(quiet=False))
    app = create_app(Settings(models=(str(folder / "numbers"), str(folder / "texts")), watch=0))
    post(app, "/label?x=secret", {"columns": {"x": [1, 2], "level": [4321, 1]}})
    post(app, "/models/texts/label", {"text": "secret word"})
    post(app, "/label", b"secret")
    post(app, "/secret", b"secret")
    text = run(app, lambda client: client.get("/metrics")).text
    for line in (
        'bilstm_requests_total{route="/label",status="200"} 1.0',
        'bilstm_requests_total{route="/label",status="400"} 1.0',
        'bilstm_requests_total{route="other",status="404"} 1.0',
        'bilstm_steps_total{model="numbers"} 2.0',
        'bilstm_sequences_total{model="texts"} 1.0',
        'bilstm_batch_requests_count{model="numbers"} 1.0',
        "bilstm_requests_open 0.0",
    ):
        assert line in text.splitlines()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["route"], line["status"]) for line in lines[:4]] == [
        ("/label", 200),
        ("/models/{model}/label", 200),
        ("/label", 400),
        ("other", 404),
    ]
    assert (lines[0]["sequences"], lines[0]["steps"], lines[0]["model"]) == (1, 2, "numbers")
    assert "secret" not in json.dumps(lines)
    assert "4321" not in json.dumps(lines)
    logging.getLogger("bilstm.serving").handlers.clear()


# --- The Open Inference Protocol --------------------------------------------------------------------------------------


def tensor(name: str, values: Any, datatype: str) -> dict[str, Any]:
    array = np.asarray(values, object)
    return {"name": name, "datatype": datatype, "shape": [*array.shape], "data": array.tolist()}


def results(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {each["name"]: np.array(each["data"]).reshape(each["shape"]) for each in answer.json()["outputs"]}


@pytest.mark.fast
def test_ragged_and_equal_tensors(folder: Path, service: Guard) -> None:
    model = TrainedModel.load(folder / "numbers")
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(n, 2)).astype(np.float32) for n in (3, 1, 5)]
    body = {"inputs": [tensor("values", np.concatenate(arrays), "FP32"), tensor("offsets", [0, 3, 4, 9], "INT64")]}
    found = results(post(service, "/v2/models/numbers/infer", body))
    expected = np.concatenate([model.predict_proba([array])[0] for array in arrays])
    assert bits(found["probabilities"].astype(np.float32)) == bits(expected)
    assert found["label"].tolist() == np.concatenate(model.predict(arrays)).tolist()
    assert found["offsets"].tolist() == [0, 3, 4, 9]
    cube = rng.normal(size=(2, 4, 2))
    found = results(post(service, "/v2/models/numbers/infer", {"inputs": [tensor("values", cube, "FP64")]}))
    assert bits(found["probabilities"].astype(np.float32)) == bits(model.predict_proba(cube))
    assert found["label"].shape == (2, 4)
    each = {"inputs": [tensor("x", cube[:, :, 0], "FP64"), tensor("level", cube[:, :, 1], "FP64")]}
    assert results(post(service, "/v2/models/numbers/infer", each))["label"].tolist() == found["label"].tolist()


def test_tensors_of_every_task(folder: Path, service: Guard) -> None:
    x = np.array([0.5, -1.0, 2.0])
    values, offsets = tensor("values", x[:, np.newaxis], "FP64"), tensor("offsets", [0, 1, 3], "INT64")
    ragged = [x[:1, np.newaxis], x[1:, np.newaxis]]
    for name, output in (("pairs", "labels"), ("sums", "quantities"), ("whole", "label")):
        model = TrainedModel.load(folder / name)
        version = run(service, lambda client, name=name: client.get(f"/v2/models/{name}")).json()["versions"][0]
        body = {"id": "7", "inputs": [values, offsets], "outputs": [{"name": output}]}
        answer = post(service, f"/v2/models/{name}/versions/{version}/infer", body)
        assert (answer.json()["id"], answer.json()["model_version"]) == ("7", version)
        found, expected = results(answer), model.predict(ragged)
        expected = expected if name == "whole" else np.concatenate(expected)
        assert found[output].ravel().tolist() == np.ravel(expected).tolist()
        assert list(found) == [output]
    mixed = {"inputs": [tensor("x", [1, 2], "INT8"), tensor("word", ["is", None], "BYTES")]}
    found = results(post(service, "/v2/models/steps/infer", mixed))
    assert found["label"].tolist() == alone(folder / "steps", {"x": [1, 2], "word": ["is", None]})["predicted"]
    found = results(post(service, "/v2/models/texts/infer", {"inputs": [tensor("text", ["good", "bad"], "BYTES")]}))
    assert found["label"].tolist() == [alone(folder / "texts", {"text": t})["predicted"] for t in ("good", "bad")]


WRONG_TENSORS: list[tuple[dict[str, Any], str]] = [
    ({}, "list 'inputs'"),
    ({"inputs": [3]}, "inputs[0]"),
    ({"inputs": [{"name": "values", "datatype": "FP8", "shape": [1, 2]}]}, "FP8"),
    ({"inputs": [{"name": "values", "datatype": ["FP32"], "shape": [1, 2]}]}, "datatype"),
    ({"inputs": [{"name": "values", "datatype": "FP32", "shape": [-1, 2], "data": []}]}, "shape"),
    ({"inputs": [{"name": "values", "datatype": "FP32", "shape": [1, 2]}]}, "no list 'data'"),
    ({"inputs": [{"name": "values", "datatype": "FP32", "shape": [1, 2], "data": [1]}]}, "1 value"),
    ({"inputs": [{"name": "values", "datatype": "FP32", "shape": [1, 2], "data": [1, "a"]}]}, "other values"),
    ({"inputs": [{"name": "values", "datatype": "FP32", "shape": [2, 2], "data": [[1, 2], 3]}]}, "nested"),
    ({"inputs": [{"name": "values", "datatype": "INT8", "shape": [1, 2], "data": [1, 400]}]}, "too large"),
    ({"inputs": [{"name": "values", "datatype": "BYTES", "shape": [1, 2], "data": ["1", "2"]}]}, "is a number"),
    ({"inputs": [tensor("values", [[1, 2, 3]], "FP32")]}, "(all steps, 2)"),
    ({"inputs": [tensor("x", [1], "FP32")]}, "'level' is missing"),
    ({"inputs": [tensor("x", [1], "FP32"), tensor("level", [1, 2], "FP32")]}, "all have the shape"),
    ({"inputs": [tensor("x", [1], "FP32"), tensor("z", [1], "FP32")]}, "'level' is missing"),
    ({"inputs": [tensor("values", [[1, 2]], "FP32")] * 2}, "twice"),
    ({"inputs": [tensor("values", [[1, 2]], "FP32"), tensor("offsets", [0, 2], "INT64")]}, "rise from 0"),
    ({"inputs": [tensor("values", [[1, 2]], "FP32"), tensor("offsets", [0, 1, 1], "INT64")]}, "without steps"),
    ({"inputs": [tensor("values", [[[1, 2]]], "FP32"), tensor("offsets", [0, 1], "INT64")]}, "leave them out"),
    ({"inputs": [tensor("values", np.zeros((0, 2)), "FP32")]}, "without steps"),
    ({"inputs": [tensor("values", [[1, 2]], "FP32")], "outputs": [{"name": "labels"}]}, "Did you mean 'label'"),
    ({"inputs": [tensor("values", [[1, 2]], "FP32")], "id": 3}, "'id'"),
    (
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}]},
        "binary_data_size",
    ),
]


@pytest.mark.parametrize(("body", "message"), WRONG_TENSORS)
def test_wrong_tensors_are_answered(service: Guard, body: dict[str, Any], message: str) -> None:
    answer = post(service, "/v2/models/numbers/infer", body)
    assert (answer.status_code, message in answer.json()["error"]) == (422, True), answer.text


def test_binary_tensors(folder: Path, service: Guard) -> None:
    model = TrainedModel.load(folder / "numbers")
    cube = np.random.default_rng(0).normal(size=(2, 3, 2)).astype("<f4")
    described = {"name": "values", "datatype": "FP32", "shape": [2, 3, 2], "parameters": {"binary_data_size": 48}}
    head = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = post(service, "/v2/models/numbers/infer", head + cube.tobytes(), headers=headers)
    length = int(answer.headers["inference-header-content-length"])
    outputs, rest = json.loads(answer.content[:length])["outputs"], answer.content[length:]
    sizes = [each["parameters"]["binary_data_size"] for each in outputs]
    assert sum(sizes) == len(rest)
    probabilities = np.frombuffer(rest[sizes[0] : sizes[0] + sizes[1]], "<f4").reshape(2, 3, 2)
    assert bits(probabilities) == bits(model.predict_proba(cube))
    for wrong in ("x", "9999", "-1", "3"):
        headers = {"Inference-Header-Content-Length": wrong}
        answer = post(service, "/v2/models/numbers/infer", head + cube.tobytes(), headers=headers)
        assert answer.status_code == 400, answer.text


def test_metadata_and_health(service: Guard) -> None:
    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        paths = ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/steps", "/v2/models/steps/ready", "/models")
        return [await client.get(path) for path in (*paths, "/v2/models/steps/versions/0", "/v2/models/no")]

    *good, wrong_version, no_model = run(service, ask)
    assert [each.status_code for each in good] == [200] * 6
    assert [each["name"] for each in good[3].json()["inputs"]] == ["x", "word", "offsets"]
    assert [each["task"] for each in good[5].json()["models"]][:3] == ["step-label", "step-label", "step-labels"]
    assert (wrong_version.status_code, no_model.status_code) == (404, 404)


# --- Streams ----------------------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=6),
    st.integers(1, 60),
    st.booleans(),
    st.none() | st.integers(0, 3) | st.just("all"),
)
def test_a_stream_is_that_of_the_command(
    folder: Path, service: Guard, lengths: list[int], size: int, events: bool, ahead: Any
) -> None:
    rows = [{"id": i, "t": t, "x": i - t, "level": None} for i, n in enumerate(lengths) for t in range(n)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()

    async def chunks() -> Any:
        for start in range(0, len(content), size):
            yield content[start : start + size]

    events &= ahead is None
    block = 2 if isinstance(ahead, int) else 1
    query = {"events": "true"} if events else {} if ahead is None else {"look_ahead": str(ahead)}
    query |= {"block": "2"} if block == 2 else {}
    address = "/models/numbers/stream"
    answer = run(service, lambda client: client.post(address, params=query, content=chunks()))
    expected = io.BytesIO()
    model = TrainedModel.load(folder / "numbers")
    options = PredictionOptions(events=events)
    predict_stream(io.BytesIO(content), expected.write, model, options, look_ahead=ahead, block=block)
    assert answer.content == expected.getvalue()


def test_streams_that_are_wrong(folder: Path, service: Guard) -> None:
    good, bad = b'{"t": [1, 2], "x": [1, 2], "level": [0, 0]}\n', b'{"x": 3}\n'
    answer = post(service, "/models/numbers/stream", good + bad + good)
    assert [*map(set, map(json.loads, answer.text.splitlines()))][1:] == [{"error"}]
    answer = post(service, "/models/numbers/stream?on_error=skip", good + bad + good)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert sorted("error" in line for line in lines) == [False, False, True]
    for query in (
        "top=0",
        "top=3",
        "top=a",
        "other=1",
        "events=1",
        "on_error=x",
        "background=p",
        "events=true&top=2",
        "block=2",
        "look_ahead=-1",
        "look_ahead=2&events=true",
    ):
        assert post(service, f"/models/numbers/stream?{query}", good).status_code == 422, query
    rows = b"".join(b'{"id": 1, "t": %d, "x": 1, "level": 1}\n' % t for t in range(1100))
    assert "1,000 time steps" in post(service, "/models/numbers/stream", rows).text
    app = create_app(Settings(models=(str(folder / "numbers"),), watch=0, max_body=100))
    assert "100 bytes" in post(app, "/stream", b" " * 101).text
    assert "100 bytes" in post(app, "/stream", good + b" " * 101 + b"\n").text


# --- Model files ------------------------------------------------------------------------------------------------------


def test_the_newest_version_is_served_without_losing_a_request(folder: Path, tmp_path: Path) -> None:
    versions = tmp_path / "states"
    versions.mkdir()
    for version, name in (("9", "numbers"), ("10", "numbers")):
        (versions / f"{version}.safetensors").write_bytes((folder / name).read_bytes())
    events = list[tuple[str, str | None, str]]()
    models = store.Store(Settings(models=(str(versions),)), lambda *event: events.append(event))
    assert models.get("states").version == "10"
    old = models.get()
    asyncio.run(models.look())
    assert models.get() is old
    (versions / "11.safetensors").write_bytes((folder / "numbers").read_bytes()[:100])
    asyncio.run(models.look())
    asyncio.run(models.look())
    assert models.get() is old
    assert [(event[1], "not written completely" in event[2]) for event in events] == [(None, True)]
    (versions / "11.safetensors").write_bytes((folder / "whole").read_bytes())
    asyncio.run(models.look())
    assert (models.get().version, events[-1]) == ("11", ("states", "11", ""))
    assert old.model.task.kind == "step-label"  # whoever has it goes on with it


def test_a_file_that_is_replaced_is_another_version(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "one"
    TrainedModel.load(folder / "numbers").save(path)
    models = store.Store(Settings(models=(f"first={path}",)))
    before = models.get("first").version
    TrainedModel.load(folder / "whole").save(path)
    asyncio.run(models.look())
    assert models.get("first").version != before
    path.unlink()
    asyncio.run(models.look())
    assert models.get("first").model.task.kind == "sequence-label"


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["nothing"], "no model file"),
        (["train.conll"], "not a bilstm model"),
        (["steps", "steps"], "both have the name"),
        (["a b=steps"], "hard to write"),
        (["empty"], "without a model file"),
    ],
)
def test_models_that_cannot_be_served(
    folder: Path, monkeypatch: pytest.MonkeyPatch, models: list[str], message: str
) -> None:
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir(exist_ok=True)
    with pytest.raises(bilstm.errors.UserError, match=message):
        create_app(Settings(models=tuple(models)))
