"""The addresses of a service, and what answers there."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response, WebSocket
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from bilstm._version import __version__
from bilstm.ragged import Extent
from bilstm.serving import descriptions
from bilstm.serving.answers import answers
from bilstm.serving.direct import Direct
from bilstm.serving.errors import ERRORS, answer_to, error_response
from bilstm.serving.guard import Guard, Places, read_body
from bilstm.serving.logs import log
from bilstm.serving.metrics import Metrics
from bilstm.serving.pages import read_page
from bilstm.serving.protocol import HEADER_LENGTH, metadata, read_inference, write_inference
from bilstm.serving.reading import parse_json, read_question
from bilstm.serving.refusals import Refusal, busy
from bilstm.serving.settings import Settings
from bilstm.serving.sockets import serve_lines
from bilstm.serving.store import Served, Store
from bilstm.serving.streams import LineResponse, Lines, read_options
from bilstm.tasks import LabelTask
from bilstm.utils import set_threads

PAGE = Path(__file__).with_name("page.html")
_Streaming = tuple[Lines, Settings, Places, asyncio.Event, Callable[[Extent], None]]
_LARGE = 1 << 16  # bytes of a body, from which on it is read in a thread, so that others need not wait for it


class Service:
    """What the addresses share: the models, the limits, and what is counted."""

    def __init__(self, settings: Settings) -> None:
        if settings.threads is not None:
            set_threads(settings.threads)
        self.settings, self.metrics = settings, Metrics()
        self.store = Store(settings, self._loaded, lambda name, n: self.metrics.of("batches", name).observe(n))
        self.places = Places(settings.queue, self.metrics)
        self.stopping = asyncio.Event()

    def _loaded(self, name: str, version: str | None, problem: str) -> None:
        result = "failed" if problem else "loaded"
        self.metrics.of("loads", name, result).inc()
        fields = {"problem": problem} if problem else {"version": version}
        log(f"model {result}", 40 if problem else 20, model=name, **fields)

    async def answered(self, request: Request, served: Served, answer: Callable[[bytes], Any]) -> Response:
        """The response to a request with a body, within the limits."""
        seconds, body = self.settings.timeout, None
        with self.places:
            try:
                async with asyncio.timeout(seconds):
                    body = await read_body(request, self.settings.max_body)
                    response: Response = await answer(body)
            except TimeoutError:
                if body is None:
                    headers = {"Connection": "close"}
                    raise Refusal(408, f"the body did not come within {seconds:g} s", headers) from None
                raise busy(f"there was no answer within {seconds:g} s") from None
            except MemoryError:
                raise busy("there is not enough memory") from None
        return response

    def count(self, request: HTTPConnection, served: Served, sequences: int, steps: int) -> None:
        self.metrics.of("sequences", served.name).inc(sequences)
        self.metrics.of("steps", served.name).inc(steps)
        request.scope["bilstm"] = {
            "model": served.name,
            "version": served.version,
            "sequences": sequences,
            "steps": steps,
        }

    async def label(self, request: Request, served: Served) -> Response:
        async def answer(body: bytes) -> Response:
            def read() -> Any:
                return read_question(served.model, parse_json(body), self.settings.max_steps)

            question = await _called(len(body) < _LARGE, read)
            values = question.data.values
            outputs = await served.batcher.outputs(values)
            alone = await served.baseline.outputs(values) if question.baseline and served.baseline else None

            def write() -> bytes:
                found = answers(served.model, question, outputs, alone)
                return orjson.dumps({"model": served.name, "version": served.version, "sequences": found})

            computes = question.options.paths or (isinstance(served.model.task, LabelTask) and served.model.task.spans)
            content = await _called(len(body) < _LARGE and not computes, write)
            self.count(request, served, len(values), values.total_steps)
            return Response(content, media_type="application/json")

        return await self.answered(request, served, answer)

    async def infer(self, request: Request, served: Served) -> Response:
        async def answer(body: bytes) -> Response:
            length = request.headers.get(HEADER_LENGTH)
            is_small = len(body) < _LARGE
            inference = await _called(
                is_small, lambda: read_inference(served.model, body, length, self.settings.max_steps)
            )
            values = inference.data.values
            outputs = await served.batcher.outputs(values)
            content, head = await _called(
                is_small, lambda: write_inference(served.name, served.version, served.model, inference, outputs)
            )
            self.count(request, served, len(values), values.total_steps)
            if head is None:
                return Response(content, media_type="application/json")
            return Response(content, media_type="application/octet-stream", headers={HEADER_LENGTH: str(head)})

        return await self.answered(request, served, answer)


async def _called(at_once: bool, function: Callable[[], Any]) -> Any:
    return function() if at_once else await asyncio.to_thread(function)


def create_app(settings: Settings) -> Guard:
    """The service as an ASGI application.

    Raises:
        UserError: a model cannot be loaded.
    """
    service = Service(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        _notice_end(service.stopping)
        watching = asyncio.create_task(service.store.watch()) if settings.watch else None
        yield
        if watching:
            watching.cancel()

    app = FastAPI(
        title="bilstm",
        version=__version__,
        description=descriptions.ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    _add_errors(app)
    _add_labelling(app, service)
    _add_protocol(app, service)
    _add_pages(app, service)
    names = tuple(service.store.names())
    guard = Guard(Direct(app, names), settings, service.metrics)
    guard.names = names
    return guard


def _notice_end(stopping: asyncio.Event) -> None:
    """Set the event when the server is asked to end, so that streams end, too."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.getsignal(number)

        def handle(received: int, frame: Any, before: Any = before) -> None:
            loop.call_soon_threadsafe(stopping.set)
            if callable(before):
                before(received, frame)

        signal.signal(number, handle)


def _add_errors(app: FastAPI) -> None:
    for kind in ERRORS:

        @app.exception_handler(kind)
        async def failed(_: Request, error: Exception) -> Response:
            return answer_to(error)

    @app.exception_handler(HTTPException)
    async def not_found(request: Request, error: HTTPException) -> Response:
        message = f"there is nothing at {request.url.path}; GET / and /openapi.json say what there is"
        if error.status_code == 405:
            message = f"{request.method} is not possible here"
        return error_response(error.status_code, message, error.headers)


def _add_labelling(app: FastAPI, service: Service) -> None:
    store = service.store
    label = descriptions.label(store)
    stream = descriptions.stream(store)

    @app.post("/label", **label)
    async def label_by_first(request: Request) -> Response:
        return await service.label(request, store.get())

    @app.post("/models/{model}/label", **label)
    async def label_by(request: Request, model: str) -> Response:
        return await service.label(request, store.get(model))

    @app.get("/models", **descriptions.models(store))
    async def models() -> Response:
        found = [store.get(name).description for name in store.names()]
        return Response(orjson.dumps({"models": found}), media_type="application/json")

    @app.get("/models/{model}", **descriptions.model(store))
    async def model(model: str) -> Response:
        served = store.get(model)
        examples = served.examples if service.settings.examples else []
        return Response(orjson.dumps({**served.description, "examples": examples}), media_type="application/json")

    @app.post("/stream", **stream)
    async def stream_by_first(request: Request) -> Response:
        return _streamed(request, store.get())

    @app.post("/models/{model}/stream", **stream)
    async def stream_by(request: Request, model: str) -> Response:
        return _streamed(request, store.get(model))

    @app.websocket("/stream")
    async def socket_by_first(socket: WebSocket) -> None:
        await _connected(socket, store.get())

    @app.websocket("/models/{model}/stream")
    async def socket_by(socket: WebSocket, model: str) -> None:
        await _connected(socket, store.get(model))

    def _streamed(request: Request, served: Served) -> Response:
        return LineResponse(*_lines(request, served))

    async def _connected(socket: WebSocket, served: Served) -> None:
        lines, _, places, stopping, count = _lines(socket, served)
        with places:
            await serve_lines(socket, lines, stopping, count)

    def _lines(client: HTTPConnection, served: Served) -> _Streaming:
        options = read_options(served.model, client.query_params)
        lines = Lines(served.model, options, service.settings.max_steps)

        def count(extent: Extent) -> None:
            service.count(client, served, extent.sequences, extent.steps)

        return lines, service.settings, service.places, service.stopping, count


def _add_protocol(app: FastAPI, service: Service) -> None:
    store = service.store

    @app.get("/v2", **descriptions.SERVER)
    async def server() -> Response:
        about = {"name": "bilstm", "version": __version__, "extensions": ["binary_tensor_data"]}
        return Response(orjson.dumps(about), media_type="application/json")

    @app.get("/v2/health/live", **descriptions.LIVE)
    async def live() -> Response:
        return Response(b'{"live":true}', media_type="application/json")

    @app.get("/v2/health/ready", **descriptions.READY)
    async def ready() -> Response:
        return Response(b'{"ready":true}', media_type="application/json")

    async def model_ready(model: str, version: str | None = None) -> Response:
        served = store.get(model, version)
        return Response(orjson.dumps({"name": served.name, "ready": True}), media_type="application/json")

    async def model_metadata(model: str, version: str | None = None) -> Response:
        served = store.get(model, version)
        about = metadata(served.name, served.version, served.model)
        return Response(orjson.dumps(about), media_type="application/json")

    async def infer(request: Request, model: str, version: str | None = None) -> Response:
        return await service.infer(request, store.get(model, version))

    async def ready_version(model: str, version: str) -> Response:
        return await model_ready(model, version)

    async def metadata_version(model: str, version: str) -> Response:
        return await model_metadata(model, version)

    async def infer_version(request: Request, model: str, version: str) -> Response:
        return await infer(request, model, version)

    @app.get("/v2/models/{model}/ready", **descriptions.model_ready(store))
    async def ready_newest(model: str) -> Response:
        return await model_ready(model)

    @app.get("/v2/models/{model}", **descriptions.metadata_of(store))
    async def metadata_newest(model: str) -> Response:
        return await model_metadata(model)

    @app.post("/v2/models/{model}/infer", **descriptions.infer(store))
    async def infer_newest(request: Request, model: str) -> Response:
        return await infer(request, model)

    base = "/v2/models/{model}/versions/{version}"
    app.get(f"{base}/ready", **descriptions.model_ready(store))(ready_version)
    app.get(base, **descriptions.metadata_of(store))(metadata_version)
    app.post(f"{base}/infer", **descriptions.infer(store))(infer_version)


def _add_pages(app: FastAPI, service: Service) -> None:
    @app.get("/metrics", **descriptions.METRICS)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=service.metrics.content_type)

    if not service.settings.page:
        return
    content, headers = read_page(PAGE)

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(content, media_type="text/html", headers=headers)
