"""Numbers to a Prometheus Pushgateway, from where Prometheus takes them.

A scan is a process that ends, so nobody can come and read its numbers. Source: Prometheus'
documentation, "When to use the Pushgateway".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import (
    basic_auth_handler,
    default_handler,
    pushadd_to_gateway,
)

from tasks.errors import DeliveryError
from tasks.settings import MetricsSettings


@dataclass(frozen=True, slots=True)
class Sample:
    """One number: ``name{labels} value``.

    Attributes:
        help: what it is, for who looks at the metrics; the same for every sample of a name.
    """

    name: str
    value: float
    help: str
    labels: dict[str, str] = field(default_factory=dict)


def push_samples(
    settings: MetricsSettings, samples: Iterable[Sample], group: Mapping[str, str]
) -> None:
    """Send numbers; those of other names in the same group stay as they were sent before.

    Args:
        settings: with the address.
        samples: at least one.
        group: labels of all of them, which also say whose earlier numbers are replaced.

    Raises:
        DeliveryError: when the Pushgateway did not take them.
    """
    registry = CollectorRegistry()
    gauges: dict[str, Gauge] = {}
    for sample in samples:
        if sample.name not in gauges:
            names = list(sample.labels)
            gauges[sample.name] = Gauge(sample.name, sample.help, names, registry=registry)
        gauge = gauges[sample.name]
        (gauge.labels(**sample.labels) if sample.labels else gauge).set(sample.value)
    try:
        pushadd_to_gateway(
            settings.pushgateway or "",
            job=settings.job,
            registry=registry,
            grouping_key=dict(group),
            timeout=settings.timeout_seconds,
            handler=_handler(settings),
        )
    except Exception as error:  # of urllib: it raises whatever the connection did
        raise DeliveryError(
            f"the Pushgateway {settings.pushgateway} did not take the scan's numbers: {error}; see "
            "DAM_DEDUP_METRICS__PUSHGATEWAY, __USERNAME and __PASSWORD"
        ) from error


def _handler(settings: MetricsSettings) -> Callable[..., Callable[[], None]]:
    if not settings.username:
        return default_handler
    password = settings.password.get_secret_value() if settings.password else ""
    login: dict[str, Any] = {"username": settings.username, "password": password}
    return partial(basic_auth_handler, **login)
