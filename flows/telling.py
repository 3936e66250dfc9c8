"""What runs tell the Prefect server beside their state: names for people, and events for alarms."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from prefect import runtime
from prefect.context import FlowRunContext
from prefect.events import emit_event

from tasks.settings import Settings, load_settings

#: A scan of the collection has finished.
SCANNED = "dam-dedup.scan.finished"
#: A scan could read a smaller share of the images than the settings ask for.
COVERAGE_LOW = "dam-dedup.scan.coverage-low"
#: A mail of a scan was sent to nobody.
MAIL_FAILED = "dam-dedup.mail.failed"
#: Approved merges have not been carried out for longer than the settings allow.
MERGE_WAITING = "dam-dedup.merge.waiting"


#: What the forms of Prefect's UIs fill in. The newer: ``Incredible-Bowfin``, one of 17 adjectives
#: and an animal. The older: ``nu4-jenner-anomaly``, a Greek letter with a number, and a place on
#: earth or in the sky; without a number people write such names too ("beta-test").
_FORM_NAME = re.compile(
    r"(?:Awesome|Rustic|Small|Gorgeous|Fantastic|Sleek|Intelligent|Unbranded|Refined|Licensed|Generic"
    r"|Practical|Ergonomic|Handcrafted|Tasty|Handmade|Incredible)-[A-Z].*"
    r"|(?:alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|omicron|pi|rho"
    r"|sigma|tau|upsilon|phi|chi|psi|omega)\d+-[a-z].*"
)


def resource_of(collection: str) -> str:
    """The name under which a collection's events are sent."""
    return f"dam-dedup.collection.{collection}"


def tell_server(event: str, settings: Settings, said: str = "") -> None:
    """Send an event of a collection, for the alarms that ``dam-dedup deploy`` makes.

    Args:
        event: one of those above.
        settings: of the collection.
        said: what the operator reads of it.
    """
    emit_event(
        event,
        resource={
            "prefect.resource.id": resource_of(settings.collection),
            "prefect.resource.name": settings.title,
        },
        payload={"said": said},
    )


def run_name() -> str:
    """``Photos · full · 26 Nov``: the collection, what the run does, and the day.

    A name that somebody gave by hand stays. Every other run begins with a name that Prefect made
    up: its server, or the form of one of its two UIs, which fills one in before anybody types.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is not None and not is_random(run.name):
        return str(run.name)
    parameters = (context.parameters if context else None) or {}
    words = _what(str(runtime.flow_run.flow_name or ""), parameters.get("request"))
    now = datetime.now(UTC).astimezone()
    return f"{load_settings().title} · {words} · {now.day} {now:%b}"


def _what(flow: str, request: Any) -> str:
    if flow == "merge-plan" and request is not None:
        return f"{request.decision.value} {request.plan_id}"
    if flow == "undo-merge" and request is not None:
        return f"undo {request.target}"
    if flow == "give-verdict" and request is not None:
        return str(request.verdict.value)
    return {
        "incremental-scan": "new files",
        "full-scan": "full",
        "check-keys": "uploaded keys",
        "check-asset": "check",
        "merge-approved": "merge",
        "empty-quarantine": "empty quarantine",
        "check-setup": "setup",
    }.get(flow, flow)


def is_random(name: str) -> bool:
    """Whether Prefect made up a run's name, rather than a person: server or form of a UI."""
    if _FORM_NAME.fullmatch(name):
        return True
    parts = name.split("-")
    if not re.fullmatch(r"[a-z]+-[a-z]+", name):
        return False
    words = _random_words()
    return not words or all(part in words for part in parts)


def _random_words() -> set[str]:
    """The words of which Prefect makes names; empty where its library keeps them elsewhere."""
    try:
        lists = import_module("coolname.data").config
    except (ImportError, AttributeError):
        return set()
    return {
        str(word).lower()
        for part in lists.values()
        for word in part.get("words", ())
        if isinstance(word, str)
    }
