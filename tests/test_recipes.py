"""The recipes of docs/streams.md for live data: MQTT with a real broker, Kafka with a stand-in for its client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bilstm import SequenceTagger
from bilstm.model import TrainedModel
from test_docs import ROOT, blocks_of, run_python

PAGE = ROOT / "docs" / "streams.md"


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    """With the page's feature and another's labels."""
    draw = np.random.default_rng(0)
    pressures = [draw.normal(size=(40, 1)) for _ in range(20)]
    states = [np.where(own[:, 0] > 0, "knock", "quiet") for own in pressures]
    model = SequenceTagger(units=4, layers=1, epochs=3, random_state=0).fit(pressures, states).model_
    return model.adapted(features=["pressure"])


def recipe(name: str) -> Any:
    """A function that the page defines."""
    found = [(line, content) for line, _, content in blocks_of(PAGE) if f"def {name}(" in content]
    names: dict[str, Any] = {"json": json}
    run_python(PAGE, *found[0], names)
    return names[name]


def expected(model: TrainedModel, pressures: list[float]) -> list[dict[str, Any]]:
    """What is sent for the steps that are final."""
    answers = model.stream(look_ahead=4).push({"pressure": pressures})
    return [{"step": step, "state": state} for step, state in enumerate(answers.predicted.tolist())]


class Message:
    def __init__(self, key: str, value: str, problem: str | None = None) -> None:
        self._key, self._value, self._problem = key.encode(), value.encode(), problem

    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes:
        return self._value

    def error(self) -> str | None:
        return self._problem


class Consumer:
    """The part of `confluent_kafka.Consumer` that the page uses."""

    def __init__(self, messages: list[Message]) -> None:
        self._messages, self.commits = messages, 0

    def consume(self, most: int, timeout: float) -> list[Message]:
        taken, self._messages = self._messages[:7], self._messages[7:]
        return taken

    def commit(self, asynchronous: bool) -> None:
        self.commits += 1


class Producer:
    """The part of `confluent_kafka.Producer` that the page uses."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Any]] = []

    def produce(self, topic: str, *, key: str, value: str) -> None:
        self.sent.append((topic, key, json.loads(value)))

    def flush(self) -> None:
        pass


def test_kafka(model: TrainedModel) -> None:
    draw = np.random.default_rng(1)
    pressures = {pump: draw.normal(size=9).round(2).tolist() for pump in ("p1", "p2")}
    messages = [Message(pump, json.dumps({"pressure": own[i]})) for i in range(9) for pump, own in pressures.items()]
    messages.insert(4, Message("p1", "", "no partition"))
    consumer, producer = Consumer(messages), Producer()
    recipe("label_topic")(consumer, producer, model.stream(look_ahead=4))
    for pump, own in pressures.items():
        assert [value for topic, key, value in producer.sent if (topic, key) == ("states", pump)] == expected(
            model, own
        )
    assert consumer.commits == 3


# --- A broker ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def broker() -> Iterator[int]:
    """An MQTT broker in a thread; its port."""
    pytest.importorskip("amqtt")
    from amqtt.broker import Broker

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    loop, started = asyncio.new_event_loop(), threading.Event()

    async def serve(ended: asyncio.Event) -> None:
        server = Broker(config)
        await server.start()
        started.set()
        await ended.wait()
        await server.shutdown()

    ended = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(ended),))
    thread.start()
    assert started.wait(20)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(20)
        loop.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the broker's own
def test_mqtt_with_a_broker(model: TrainedModel, tmp_path: Path) -> None:
    mqtt = pytest.importorskip("paho.mqtt.client")
    draw = np.random.default_rng(2)
    pressures = {pump: draw.normal(size=12).round(2).tolist() for pump in ("p1", "p2", "p3")}
    wanted = {pump: expected(model, own) for pump, own in pressures.items()}
    found: dict[str, list[Any]] = {pump: [] for pump in pressures}
    ready, complete = [threading.Event(), threading.Event()], threading.Event()

    def on_connect(client: Any, *_: Any) -> None:
        client.subscribe("pumps/+/state", qos=1)

    def on_message(client: Any, userdata: Any, message: Any) -> None:
        found[message.topic.split("/")[1]].append(json.loads(message.payload))
        if sum(map(len, found.values())) == sum(map(len, wanted.values())):
            complete.set()

    with broker() as port:
        labelling = recipe("connect")(model.stream(look_ahead=4), "127.0.0.1", port)
        labelling.on_subscribe = lambda *_: ready[0].set()
        pumps = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        pumps.on_connect, pumps.on_message = on_connect, on_message
        pumps.on_subscribe = lambda *_: ready[1].set()
        pumps.connect("127.0.0.1", port)
        for client in (labelling, pumps):
            client.loop_start()
        try:
            assert all(each.wait(20) for each in ready)
            pumps.publish("pumps/p1/pressure", "not a number", qos=1)
            for step in range(12):
                for pump, own in pressures.items():
                    pumps.publish(f"pumps/{pump}/pressure", str(own[step]), qos=1)
            assert complete.wait(30)
        finally:
            for client in (labelling, pumps):
                client.disconnect()
                client.loop_stop()
    assert found == wanted
