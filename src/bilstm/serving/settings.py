"""The options of a service."""

from __future__ import annotations

import dataclasses

MIB = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a service answers. All limits are per worker.

    Attributes:
        models: the paths of model files, or of folders with versions of one; NAME=PATH gives one another name.
        host, port: where it listens; port 0 takes a free one.
        workers: processes that listen on the same port.
        threads: of each process for computing; None: one per CPU.
        precision: of the weights in predictions, "float32" or "bfloat16".
        max_body: bytes of a request, or of one line of a stream.
        max_steps: time steps of a request, or of one sequence of a stream.
        queue: requests that may be in work or waiting at a time.
        timeout: seconds within which a request must have come and must be answered.
        batch_wait: seconds that a request may wait for others, to be computed together with them.
        api_key: what requests must name; None: anyone may ask.
        watch: seconds between looks for new model files; 0: none.
        page: whether there is a page for people at `/`.
        examples: whether the sequences of validation sets that model files keep are shown.
        log: whether to log requests.
    """

    models: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    threads: int | None = None
    precision: str = "float32"
    max_body: int = 16 * MIB
    max_steps: int = 200_000
    queue: int = 512
    timeout: float = 30.0
    batch_wait: float = 0.0
    api_key: str | None = dataclasses.field(default=None, repr=False)
    watch: float = 1.0
    page: bool = True
    examples: bool = True
    log: bool = True
