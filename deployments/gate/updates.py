"""Updates: the policy decides whether an image comes in, and the caller is told why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deployments.gate.answers import finding_document
from deployments.gate.service import Service
from tasks.intake.alerts import Alert, save_alerts
from tasks.intake.blocklist import find_alerts, suspect_of
from tasks.intake.ingest import Admission, admit
from tasks.intake.update import ReadObject, enter_object, read_object, update_asset
from tasks.merging.rules.ingest_policy import Admit
from tasks.records import Analysis
from tasks.session import default_source, open_catalog, open_source
from tasks.sources.collection import is_collection

_CHANNEL = "gate"


@dataclass(frozen=True, slots=True)
class Update:
    """The id under which an image is to be entered, where, and with which facts."""

    key: str
    source: str = ""
    name: str = ""
    etag: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


async def update(service: Service, analysis: Analysis, wanted: Update) -> dict[str, Any]:
    """Check an image, and let the policy decide whether it comes in."""
    admission = await service.write(
        lambda: admit(
            service.settings,
            analysis,
            service.checker,
            wanted.key,
            source=wanted.source,
            policy=service.policy,
            tags=wanted.tags,
            metadata=wanted.metadata,
            name=wanted.name,
            etag=wanted.etag,
            channel=_CHANNEL,
            analyzer=service.analyzer,
        )
    )
    service.metrics.updates.labels(admission.decision).inc()
    return _document(admission)


async def enter(service: Service, analysis: Analysis, wanted: Update) -> dict[str, Any]:
    """Enter an image for a compatible client: as :func:`update`, but compared only under a policy.

    Such clients enter a whole collection first and ask later. The blocklist is looked at in any
    case.
    """
    if service.settings.merge.policy is not None:
        return await update(service, analysis, wanted)
    alerts = await service.write(lambda: _enter(service, analysis, wanted))
    service.metrics.updates.labels(Admit.ADD.value).inc()
    return {"decision": Admit.ADD.value, "alerts": [alert.as_text() for alert in alerts]}


def _enter(service: Service, analysis: Analysis, wanted: Update) -> tuple[Alert, ...]:
    settings = service.settings
    catalog = open_catalog(settings)
    source = wanted.source or default_source(catalog, settings)
    seen: ReadObject | None = None
    if not is_collection(source):  # what an object shows is read from the object
        seen = read_object(
            settings,
            open_source(source, settings),
            wanted.key,
            etag=wanted.etag,
            sha256=analysis.picture.sha256,
            analyzer=service.analyzer,
        )
        analysis = seen.analysis
    with catalog.writing(settings.catalog.busy_seconds):
        suspect = suspect_of(analysis, wanted.key, source)
        alerts = tuple(find_alerts(catalog, [suspect], analysis.space.id))
        save_alerts(catalog, alerts, channel=_CHANNEL)
        if seen:
            enter_object(settings, seen)
        else:
            update_asset(
                settings,
                analysis,
                wanted.key,
                source=source,
                tags=wanted.tags,
                metadata=wanted.metadata,
                name=wanted.name,
                analyzer=service.analyzer,
            )
    return alerts


def _document(said: Admission) -> dict[str, Any]:
    return {
        "decision": said.decision,
        "added": said.added,
        "id": said.key,
        "asset_id": said.asset_id or None,
        "admission": said.id,
        "rule": said.rule or None,
        "reason": said.reason,
        "match": finding_document(said.match) if said.match else None,
        "matches": said.checked.total,
        "alerts": [
            {
                "kind": alert.kind,
                "rule": alert.rule,
                "entry": alert.entry_id or None,
                "left": alert.left,
                "right": alert.right,
                "relation": alert.relation,
                "score": alert.score,
                "evidence": alert.evidence,
                "reason": alert.reason,
            }
            for alert in said.alerts
        ],
    }
