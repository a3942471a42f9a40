"""Streams over WebSocket: the answers of `bilstm predict MODEL -`, however lines are put into messages."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import bilstm
from bilstm.model import TrainedModel
from bilstm.model.predictions import PredictionOptions
from bilstm.model.streaming import predict_stream
from bilstm.serving import Settings
from bilstm.serving.app import create_app
from bilstm.serving.guard import Guard
from bilstm.serving.listening import listening

SMALL: dict[str, Any] = {"units": 3, "layers": 1, "epochs": 1, "baseline": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of steps, `states`, and of whole sequences, `whole`."""
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    rows = {"id": np.repeat(range(12), 5), "x": rng.normal(size=60), "y": rng.choice(["p", "q"], 60)}
    bilstm.train(rows, label="y", sequence="id", **SMALL).save(folder / "states")
    rows["y"] = np.repeat(["p", "q"] * 6, 5)
    bilstm.train(rows, label="y", sequence="id", task="sequence-label", **SMALL).save(folder / "whole")
    return folder


def settings_of(folder: Path, **options: Any) -> Settings:
    models = (str(folder / "states"), str(folder / "whole"))
    return Settings(models=models, watch=0, log=False, **options)


@pytest.fixture(scope="module")
def service(folder: Path) -> Guard:
    return create_app(settings_of(folder, max_steps=20, queue=1))


Ended = tuple[list[str], int | None, int]  # messages, code of the end, status of the beginning


def talk(app: Guard, messages: list[str | bytes], path: str = "/stream", query: str = "", **headers: str) -> Ended:
    """What a client receives that sends these messages and then waits."""

    async def talking() -> Ended:
        inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        received: list[str] = []
        end: dict[str, int | None] = {"code": None, "status": 101}
        inbox.put_nowait({"type": "websocket.connect"})
        for each in messages:
            inbox.put_nowait({"type": "websocket.receive", "text" if isinstance(each, str) else "bytes": each})
        inbox.put_nowait({"type": "websocket.disconnect", "code": 1001})

        async def send(message: Any) -> None:
            if message["type"] == "websocket.send":
                received.append(message["text"])
            elif message["type"] == "websocket.close":
                end["code"] = message["code"]
            elif message["type"] == "websocket.http.response.start":
                end["status"] = message["status"]
            elif message["type"] == "websocket.http.response.body":
                received.append(message["body"].decode())

        named = [(name.encode(), value.encode()) for name, value in {"host": "service", **headers}.items()]
        scope = {"type": "websocket", "path": path, "raw_path": path.encode(), "query_string": query.encode()}
        scope |= {"headers": named, "subprotocols": [], "extensions": {"websocket.http.response": {}}}
        await app(scope, inbox.get, send)
        assert end["status"] is not None
        return received, end["code"], end["status"]

    return asyncio.run(talking())


def predicted(path: Path, lines: list[str], **options: Any) -> list[str]:
    """What `bilstm predict PATH -` writes."""
    written = io.BytesIO()
    source = io.BytesIO("".join(f"{line}\n" for line in lines).encode())
    predict_stream(source, written.write, TrainedModel.load(path), PredictionOptions(), **options)
    return written.getvalue().decode().splitlines()


def rows_of(*lengths: int) -> list[str]:
    return [json.dumps({"id": f"s{i} é", "x": i - t}) for i, n in enumerate(lengths) for t in range(n)]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
    st.lists(st.booleans(), min_size=25, max_size=25),
    st.sampled_from([None, 0, 1, 3, "all"]),
    st.booleans(),
    st.booleans(),
)
def test_any_cut_of_messages(
    folder: Path, service: Guard, lengths: list[int], cuts: list[bool], ahead: Any, ended: bool, binary: bool
) -> None:
    """The answers are those of the command, bit for bit; with look-ahead, no later than it says."""
    lines = rows_of(*lengths)
    messages: list[str] = []
    for line, cut in zip(lines, cuts, strict=False):
        if messages and not cut:
            messages[-1] += ("" if messages[-1].endswith("\n") else "\n") + line
        else:
            messages.append(f"{line}\n" if ended else line)
    block = 2 if ahead == 1 else 1
    query = "" if ahead is None else f"look_ahead={ahead}&block={block}"
    sent: list[str | bytes] = [each.encode() if binary else each for each in (*messages, "")]
    answers, code, _ = talk(service, sent, query=query)
    assert (answers, code) == (predicted(folder / "states", lines, look_ahead=ahead, block=block), 1000)
    # Without the end, what is final already has come.
    answers, code, _ = talk(service, sent[:-1], query=query)
    whole = sum(lengths[:-1])  # which the last sequence has completed
    live = max(0, lengths[-1] - ahead) // block * block if isinstance(ahead, int) else 0
    assert code is None
    assert answers == predicted(folder / "states", lines, look_ahead=ahead, block=block)[: whole + live]


def test_whole_sequences_are_answered_at_once(folder: Path, service: Guard) -> None:
    lines = ['{"x": [1, 2]}', '{"x": [3]}']
    answers, code, _ = talk(service, list(lines), "/models/whole/stream")
    assert (answers, code) == (predicted(folder / "whole", lines), None)


def test_what_is_wrong_is_answered_and_ends_the_stream(service: Guard) -> None:
    good = rows_of(1)[0]
    answers, code, _ = talk(service, [good, '{"id": 2}', good], query="look_ahead=0")
    assert (len(answers), code) == (2, 1008)
    assert json.loads(answers[1])["error"].startswith("the stream, line 2: there is no 'x'")
    answers, code, _ = talk(service, [good, '{"id": 2}', good, ""], query="look_ahead=0&on_error=skip")
    assert (["error" in each for each in answers], code) == ([False, True, False], 1000)
    answers, code, _ = talk(service, ["\n".join(rows_of(21))])
    assert ("more than 20 time steps" in answers[-1], code) == (True, 1008)
    assert talk(service, ["\ud800"])[1] == 1008
    assert talk(service, [b"\xff"])[1] == 1008


@pytest.mark.parametrize(
    ("path", "query", "status", "message"),
    [
        ("/models/none/stream", "", 404, "no model 'none'"),
        ("/stream", "look_ahead=-1", 422, "whole number"),
        ("/stream", "look_ahed=1", 422, "look_ahead"),
        ("/models/whole/stream", "look_ahead=1", 422, "needs whole sequences"),
    ],
)
def test_refusals_before_the_stream(service: Guard, path: str, query: str, status: int, message: str) -> None:
    (answer,), code, found = talk(service, [], path, query)
    assert (message in json.loads(answer)["error"], code, found) == (True, None, status)


def test_pages_of_other_origins_and_clients_without_the_key_are_refused(folder: Path, service: Guard) -> None:
    for origin, status in (("http://elsewhere", 403), ("null", 403), ("http://service", 101), ("https://service", 101)):
        assert talk(service, [], origin=origin)[2] == status, origin
    app = create_app(settings_of(folder, api_key="k"))
    assert talk(app, [])[2] == 401
    assert talk(app, [], authorization="Bearer other")[2] == 401
    assert talk(app, [], authorization="Bearer k")[2] == 101


@contextlib.contextmanager
def running(app_settings: Settings) -> Iterator[tuple[str, threading.Thread, Any]]:
    """A service in a thread, as `bilstm serve` configures it: its address, the thread and the server."""
    import uvicorn

    from bilstm.serving import server

    app = create_app(app_settings)
    with listening("127.0.0.1", 0) as listener:
        running = uvicorn.Server(server._config(app_settings, app))
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        try:
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}", thread, running
        finally:
            running.should_exit = True
            thread.join()


def test_a_client_over_the_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers come as soon as they are final; there are limits on streams and sizes."""
    import logging.config

    monkeypatch.setattr(logging.config, "dictConfig", lambda _: None)
    lines = rows_of(3)
    with running(settings_of(folder, queue=1, max_body=200)) as (address, _, _):
        with connect(f"{address}/stream?look_ahead=1") as socket:
            socket.send(lines[0])
            with pytest.raises(TimeoutError):
                socket.recv(timeout=0.02)
            socket.send(lines[1])
            answers = [socket.recv(timeout=10)]
            with pytest.raises(InvalidStatus) as refused, connect(f"{address}/stream"):
                pass
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["Retry-After"] == "1"
            socket.send([lines[2][:5], lines[2][5:]])  # in two frames
            socket.send("")
            answers += list(socket)
        assert answers == predicted(folder / "states", lines, look_ahead=1)
        assert socket.close_code == 1000
        with connect(f"{address}/stream") as socket:
            socket.send("x" * 201)
            with pytest.raises(ConnectionClosed):
                socket.recv(timeout=10)
            assert socket.close_code == 1009
        with connect(f"{address}/stream"):  # the place is free again
            pass


def test_the_end_of_the_service_answers_what_has_come(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A computation that runs while the service is asked to end is finished, and its answer sent."""
    import logging.config

    from bilstm.model.livelines import LiveLines
    from bilstm.serving import app as module

    monkeypatch.setattr(logging.config, "dictConfig", lambda _: None)
    begun, stopping = threading.Event(), list[asyncio.Event]()
    take = LiveLines.take

    def slow(self: LiveLines, lines: Any) -> None:
        begun.set()
        time.sleep(0.3)
        take(self, lines)

    monkeypatch.setattr(LiveLines, "take", slow)
    monkeypatch.setattr(module, "_notice_end", stopping.append)
    lines = rows_of(2)
    with (
        running(settings_of(folder)) as (address, _, server),
        connect(f"{address}/stream?look_ahead=0") as socket,
    ):
        socket.send("\n".join(lines))
        begun.wait(10)
        server.handle_exit(signal.SIGTERM, None)
        stopping[0]._loop.call_soon_threadsafe(stopping[0].set)  # type: ignore[attr-defined]
        answers = [socket.recv(timeout=10) for _ in range(3)]
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)
        assert socket.close_code == 1012
    assert answers[:2] == predicted(folder / "states", lines, look_ahead=0)
    assert "the service ends" in json.loads(answers[2])["error"]
