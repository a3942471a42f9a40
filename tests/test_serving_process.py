"""A running service: its processes and connections, models that change under load, and its end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from click.testing import CliRunner

import bilstm
from bilstm.cli import commands
from bilstm.model import TrainedModel

SMALL: dict[str, Any] = {"units": 3, "layers": 1, "epochs": 1, "baseline": False}
CELLS = {"x": [0.5, 1.5, -2.0]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a folder `states` of one version, and a second one, `2`, next to it."""
    folder = tmp_path_factory.mktemp("served")
    rng = np.random.default_rng(0)
    rows = {"id": np.repeat(range(10), 5), "x": rng.normal(size=50), "y": rng.choice(["p", "q"], 50)}
    (folder / "states").mkdir()
    for path, seed in (("states/1", 1), ("2", 2)):
        bilstm.train(rows, label="y", sequence="id", seed=seed, **SMALL).save(folder / path)
    return folder


@contextlib.contextmanager
def serving(*arguments: Any, environment: dict[str, str] | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service that runs, and its address; it must end well when it is asked to."""
    command = [sys.executable, "-m", "bilstm", "serve", *map(str, arguments), "--port", "0"]
    environment = {**os.environ, **(environment or {})}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        try:
            assert process.stdout
            line = process.stdout.readline()
            found = re.search(r"http://\S+:\d+", line)
            assert found, line
            yield process, found[0]
        finally:
            process.terminate()
            try:
                output, _ = process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        errors.seek(0)
        lines = errors.read()
    assert process.returncode == 0, lines
    assert output == ""
    assert all(line.startswith("{") for line in lines.splitlines()), lines


class Load:
    """Requests from several threads, until the block ends.

    Attributes:
        answers: (status, body) of each; no status where the connection was closed.
    """

    def __init__(self, address: str, threads: int = 4) -> None:
        self._address, self._stop = address, threading.Event()
        self.answers: list[tuple[int | None, Any]] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]

    def _ask(self) -> None:
        with httpx.Client(base_url=self._address, timeout=30) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post("/label", json={"columns": CELLS, "probabilities": True})
                except httpx.HTTPError:
                    self.answers.append((None, None))
                else:
                    self.answers.append((answer.status_code, answer.json()))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def expected(path: Path) -> list[float]:
    probabilities: list[float] = TrainedModel.load(path).predict_proba([CELLS])[0][:, 0].astype(float).round(6).tolist()
    return probabilities


def test_a_model_is_replaced_under_load_and_the_service_ends_without_losing_a_request(folder: Path) -> None:
    right = {"1": expected(folder / "states" / "1"), "2": expected(folder / "2")}
    with serving(folder / "states") as (process, address), Load(address) as load:
        host, port = address.removeprefix("http://").split(":")
        _break_connections(host, int(port))
        while not load.answers:
            time.sleep(0.01)
        (folder / "states" / "2").write_bytes((folder / "2").read_bytes())
        end = time.monotonic() + 10
        while load.answers[-1][1] is None or load.answers[-1][1]["version"] != "2":
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(0.1)
        before = len(load.answers)
        assert {status for status, _ in load.answers} == {200}
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
    statuses = [status for status, _ in load.answers]
    assert statuses[before:].count(None) > 0  # new connections are refused, and nothing else
    assert set(statuses) == {200, None}
    for status, answer in load.answers:
        if status:
            assert answer["sequences"][0]["probability_of_p"] == right[answer["version"]]


def _break_connections(host: str, port: int) -> None:
    """Close connections in the middle of a header, of a body, and before the answer."""
    head = f"POST /label HTTP/1.1\r\nHost: {host}\r\n"
    body = json.dumps({"columns": CELLS})
    for sent in (
        head[:20],
        f"{head}Content-Length: 100000\r\n\r\n{{",
        f"{head}Content-Length: {len(body)}\r\n\r\n{body}",
    ):
        with socket.create_connection((host, port)) as connection:
            connection.sendall(sent.encode())
    with socket.create_connection((host, port)) as connection:
        connection.sendall(b"\x16\x03\x01 not http\r\n\r\n")
        assert b"400" in connection.recv(100)


def test_a_stream_is_answered_while_it_comes_and_ends_with_the_service(folder: Path) -> None:
    """Through a socket, since clients in Python send all of a body before they read."""
    rows = b"".join(b'{"id": %d, "x": 1}\n' % sequence for sequence in (1, 1, 2))
    with serving(folder / "states") as (process, address):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            head = f"POST /stream HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head.encode() + b"%x\r\n%s\r\n" % (len(rows), rows))
            content = b""
            while content.count(b'"predicted"') < 2:
                content += connection.recv(1 << 16)
            assert b'"id": 2' not in content
            process.send_signal(signal.SIGTERM)
            while more := connection.recv(1 << 16):
                content += more
    assert content.endswith(b'connect again for more"}\n\r\n0\r\n\r\n')
    assert content.count(b'"predicted"') == 2


def test_the_key_of_a_file_and_of_the_environment(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file\n")
    with serving(folder / "states", "--api-key-file", tmp_path / "key", environment={"BILSTM_API_KEY": "other"}) as (
        _,
        address,
    ):
        assert httpx.post(f"{address}/label", json={"columns": CELLS}).status_code == 401
        headers = {"Authorization": "Bearer from-file"}
        assert httpx.post(f"{address}/label", json={"columns": CELLS}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/none"], "there is no model file"),
        (["{}/2", "--host", "no.such.host.example"], "cannot listen on no.such.host.example"),
        (["{}/2", "--port", "{port}"], "choose others with --host and --port"),
        (["{}/2", "--api-key-file", "{}/none"], "none"),
        (["{}/2", "--api-key-file", "{}/blank"], "is not a key"),
        (["{}/2", "--max-body", "0"], "0"),
    ],
)
def test_a_service_that_cannot_start(folder: Path, arguments: list[str], message: str) -> None:
    (folder / "blank").write_text("a b")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        typed = [each.replace("{port}", str(port)).replace("{}", str(folder)) for each in arguments]
        result = CliRunner().invoke(commands, ["serve", *typed])
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.mark.slow
def test_workers_share_a_port_and_one_that_is_killed_comes_back(folder: Path) -> None:
    with serving(folder / "2", "--workers", 2, "--threads", 1) as (process, address):
        end = time.monotonic() + 30
        while True:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"{address}/v2/health/ready").raise_for_status()
                break
            assert time.monotonic() < end
        with Load(address) as load:
            time.sleep(1)
            killed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
            workers = [int(pid) for pid in killed.stdout.split()]
            victim = max(workers)
            os.kill(victim, signal.SIGKILL)
            time.sleep(4)
        statuses = [status for status, _ in load.answers]
        assert statuses.count(None) <= len(load._threads)  # the connections that the worker had
        assert set(statuses[-20:]) == {200}
        text = httpx.get(f"{address}/metrics").text
        count = re.search(r'bilstm_requests_total\{route="/label",status="200"\} (\S+)', text)
        assert count
        assert abs(float(count[1]) - statuses.count(200)) <= len(load._threads)
