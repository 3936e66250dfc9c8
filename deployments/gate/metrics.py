"""The gate's counters, in the form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one gate. Labels only take few values, whatever callers send."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "dam_dedup_requests",
            "Requests answered",
            ["route", "method", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "dam_dedup_request_seconds",
            "What a request took",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batches = Histogram(
            "dam_dedup_batch_images",
            "Images in one call of the model",
            buckets=_BATCHES,
            registry=self._registry,
        )
        self.analysis_seconds = Histogram(
            "dam_dedup_analysis_seconds",
            "What reading and embedding a batch took",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.verified = Counter(
            "dam_dedup_verified", "Candidates verified by checks", registry=self._registry
        )
        self.found = Counter("dam_dedup_found", "Matches found by checks", registry=self._registry)
        self.updates = Counter(
            "dam_dedup_updates",
            "Images offered to a collection",
            ["decision"],
            registry=self._registry,
        )

    def watch(self, name: str, words: str, value: Callable[[], float]) -> None:
        """Add a value that is read whenever the counters are shown."""
        Gauge(f"dam_dedup_{name}", words, registry=self._registry).set_function(value)

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All counters, in the form that Prometheus reads."""
        return generate_latest(self._registry)
