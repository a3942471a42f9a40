"""Other programs against a running service: Triton's client, and requests that OpenAPI's description allows."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn

import bilstm
from bilstm.model import TrainedModel
from bilstm.serving import Settings
from bilstm.serving.app import create_app
from oracles.models import bits

pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {"units": 3, "layers": 1, "epochs": 1, "baseline": False}


def missing(*modules: str) -> bool:
    return any(importlib.util.find_spec(module) is None for module in modules)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    rows = {"id": np.repeat(range(10), 5), "x": rng.normal(size=50), "z": rng.normal(size=50)}
    bilstm.train({**rows, "y": rng.choice(["p", "q"], 50)}, label="y", sequence="id", **SMALL).save(folder / "numbers")
    texts = {"text": ["good and fine", "bad, and worse"] * 8, "y": ["p", "q"] * 8}
    bilstm.train(texts, label="y", text="text", **SMALL).save(folder / "texts")
    return folder


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[str]:
    """A service in a thread, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(settings), log_config=None))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    settings = Settings(models=(str(folder / "numbers"), str(folder / "texts")), log=False, max_body=2_000_000)
    with running(settings) as address:
        yield address


@pytest.mark.skipif(missing("tritonclient", "geventhttpclient"), reason="tritonclient[http] is not installed")
@pytest.mark.parametrize("binary", [False, True])
def test_tritons_client(folder: Path, address: str, binary: bool) -> None:
    from tritonclient import http

    client = http.InferenceServerClient(address.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("numbers")
    assert client.get_server_metadata()["name"] == "bilstm"
    assert [each["name"] for each in client.get_model_metadata("numbers")["inputs"]] == ["values", "offsets"]
    model = TrainedModel.load(folder / "numbers")
    values = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)

    def tensor(name: str, array: np.ndarray, kind: str) -> Any:
        made = http.InferInput(name, list(array.shape), kind)
        made.set_data_from_numpy(array, binary_data=binary)
        return made

    offsets = np.array([0, 4, 6])
    inputs = [tensor("values", values, "FP32"), tensor("offsets", offsets, "INT64")]
    names = ("probabilities", "label")
    outputs = [http.InferRequestedOutput(name, binary_data=binary) for name in names]
    result = client.infer("numbers", inputs, outputs=outputs, request_id="9")
    expected = np.concatenate([model.predict_proba([part])[0] for part in (values[:4], values[4:])])
    assert bits(result.as_numpy("probabilities")) == bits(expected)
    labels = [each.decode() if isinstance(each, bytes) else each for each in result.as_numpy("label").tolist()]
    assert labels == np.concatenate(model.predict([values[:4], values[4:]])).tolist()
    assert result.get_response()["id"] == "9"
    text = client.infer("texts", [tensor("text", np.array(["good, bad"], object), "BYTES")])
    assert text.as_numpy("probabilities").shape == (1, 2)
    with pytest.raises(Exception, match="is missing"):
        client.infer("numbers", [tensor("x", values[:, 0], "FP32")])


@pytest.mark.skipif(missing("schemathesis"), reason="schemathesis is not installed")
def test_what_openapi_allows_is_never_an_error_of_the_service(address: str) -> None:
    """Thousands of requests that its description allows, and such that it does not."""
    import schemathesis
    from hypothesis import HealthCheck, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    @schemathesis.serializer("application/x-ndjson")
    def lines(_: Any, value: Any) -> bytes:
        return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")

    checks = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    count = 0
    for operation in schema.get_all_operations():
        made = operation.ok()

        @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=made.as_strategy())
        def ask(case: Any) -> None:
            nonlocal count
            count += 1
            case.call_and_validate(base_url=address, checks=checks)

        ask()
    assert count > 1000


def test_large_and_broken_requests(address: str) -> None:
    """The service answers each, or closes the connection, and goes on."""
    rng = np.random.default_rng(0)
    deep = "[" * 100_000
    bodies: list[tuple[Any, int]] = [
        ("{" + " " * 1_900_000, 400),
        (json.dumps({"columns": {"x": [1] * 250_000, "z": [1] * 250_000}}), 413),
        (json.dumps({"columns": {"x": [0] * 1_000_000, "z": [0] * 1_000_000}}), 413),
        (b" " * 100_000_000, 413),
        (deep, 400),
        ('{"columns": {"x": NaN, "z": ' + deep, 400),
        (json.dumps({"columns": {"x": [1], "z": [1]}}), 200),
    ]
    with httpx.Client(base_url=address) as client:
        for _ in range(300):
            content = rng.integers(0, 256, rng.integers(0, 300)).astype(np.uint8).tobytes()
            for path in ("/label", "/stream", "/v2/models/numbers/infer"):
                assert client.post(path, content=content).status_code in (200, 400, 422)
        for content, status in bodies:
            with contextlib.suppress(httpx.WriteError):  # of a body that is refused before all is sent
                assert client.post("/label", content=content).status_code == status


def test_a_million_steps_do_not_hold_up_short_requests(folder: Path) -> None:
    settings = Settings(
        models=(str(folder / "numbers"),), log=False, max_steps=2_000_000, max_body=1 << 26, timeout=120
    )
    values = np.random.default_rng(0).normal(size=(1_000_000, 2)).round(3)
    long = json.dumps({"sequences": [values.tolist()]})
    with running(settings) as address:
        found: list[httpx.Response] = []
        thread = threading.Thread(
            target=lambda: found.append(httpx.post(f"{address}/label", content=long, timeout=120))
        )
        thread.start()
        times = []
        with httpx.Client(base_url=address, timeout=120) as client:
            while thread.is_alive():
                answer = client.post("/label", json={"columns": {"x": [1], "z": [1]}})
                assert answer.status_code == 200
                times.append(answer.elapsed.total_seconds())
        thread.join()
    (answer,) = found
    assert answer.status_code == 200, answer.text[:300]
    (sequence,) = answer.json()["sequences"]
    model = TrainedModel.load(folder / "numbers")
    assert sequence["predicted"] == model.predict([values])[0].tolist()
    assert len(times) > 3
    assert np.median(times) < 1
