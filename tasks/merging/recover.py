"""Recover: what merges did, from the bucket alone, into a catalog that knows nothing of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from tasks.errors import MergeError
from tasks.merging.bucket_journal import KeptPlan, read_kept_plans
from tasks.merging.catch_up import add_rows
from tasks.merging.journal import save_plan
from tasks.merging.rules.plans import places_of
from tasks.session import open_catalog, open_store
from tasks.settings import Settings
from tasks.sources.places import note_places

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What came back.

    Attributes:
        plans: ids of the plans.
        events: how many rows of the journal they have.
        unreadable: what could not be read, in words.
    """

    plans: tuple[str, ...]
    events: int
    unreadable: tuple[str, ...]


def recover(settings: Settings, source: str) -> Recovered:
    """Rebuild plans, quarantine and undo from the journal in a bucket.

    What the catalog knows already stays as it is; the same again changes nothing. The bucket's list
    of quarantines is written anew where it lacks one: no scan may take a copy there for an asset.

    Args:
        settings: where the catalog is, which is made when it is missing.
        source: ``s3://bucket``.

    Raises:
        MergeError: when the source is no bucket.
        SourceError: when the bucket cannot be read, or its list of quarantines not be written.
    """
    store = open_store(source, settings)
    if store is None:
        raise MergeError(f"{source} is a folder; nothing was merged there")
    catalog = open_catalog(settings)
    plans, events, unreadable = [], 0, []
    for found in read_kept_plans(store):
        if not isinstance(found, KeptPlan):
            log.error("%s", found)
            unreadable.append(found)
            continue
        note_places(store.client, store.bucket, places_of(found.plan.groups))
        with catalog.writing(settings.catalog.busy_seconds):
            if catalog.read_keys("plans", ["plan_id"], [found.plan.id]).is_empty():
                save_plan(catalog, found.plan, made=found.made)
            add_rows(catalog, found.rows)
        plans.append(found.plan.id)
        events += len(found.rows)
    return Recovered(tuple(plans), events, tuple(unreadable))
