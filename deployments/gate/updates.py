"""What an update does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deployments.gate.service import Service
from tasks.records import Analysis
from tasks.update import update_asset


@dataclass(frozen=True, slots=True)
class Update:
    """An image's place in a collection."""

    key: str
    source: str = ""
    name: str = ""
    etag: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


async def update(service: Service, analysis: Analysis, wanted: Update) -> dict[str, Any]:
    """Put an image where the caller wants it."""
    asset = await service.write(
        lambda: update_asset(
            service.settings,
            analysis,
            wanted.key,
            source=wanted.source,
            tags=wanted.tags,
            metadata=wanted.metadata,
            name=wanted.name,
            etag=wanted.etag,
        )
    )
    service.metrics.updates.labels("add").inc()
    return {"decision": "add", "id": wanted.key, "asset_id": asset}
