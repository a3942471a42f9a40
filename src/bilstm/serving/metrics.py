"""What a service counts, for Prometheus."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # where several workers add up what they count
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The counters of a worker."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self.requests = Counter("bilstm_requests", "Requests answered", ["route", "status"], registry=own)
        self.seconds = Histogram(
            "bilstm_request_seconds",
            "Time from a request's header to its answer",
            ["route"],
            buckets=_SECONDS,
            registry=own,
        )
        self.open = Gauge(
            "bilstm_requests_open", "Requests in work or waiting", multiprocess_mode="livesum", registry=own
        )
        self.sequences = Counter("bilstm_sequences", "Sequences answered", ["model"], registry=own)
        self.steps = Counter("bilstm_steps", "Time steps answered", ["model"], registry=own)
        self.batches = Histogram(
            "bilstm_batch_requests",
            "Requests computed together",
            ["model"],
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
            registry=own,
        )
        self.loads = Counter("bilstm_model_loads", "Model files read, by result", ["model", "result"], registry=own)

    @lru_cache(maxsize=10_000)  # noqa: B019 - there is one of these for a process
    def of(self, name: str, *labels: str) -> Any:
        """The counter of this name for these labels, found faster than the library finds it."""
        return getattr(self, name).labels(*labels)

    def text(self) -> bytes:
        """All counters, those of the other workers added, in the text format of Prometheus."""
        registry = self._registry
        if FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
