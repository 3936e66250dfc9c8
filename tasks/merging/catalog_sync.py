"""Tell the catalog at once what a merge or an undo changed, so that no report is out of date.

The next scan's listing has the last word; this only spares the time until then.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.merging.rules.plans import OperationKind, Plan, PlannedGroup
from tasks.records import asset_id, now
from tasks.session import open_source, pa_table
from tasks.settings import Settings

_TAGS = pa.schema([schema.ASSETS.field("asset_id"), schema.ASSETS.field("tags")])


def remember_objects(
    catalog: Catalog,
    settings: Settings,
    plan: Plan,
    group: PlannedGroup,
    numbers: Sequence[int],
    *,
    undone: bool,
) -> None:
    """Bring the catalog's assets up to date after some of a group's operations.

    Args:
        catalog: whose writer we are.
        settings: where the source is.
        plan: the plan.
        group: of it.
        numbers: the operations that were done, or undone.
        undone: which of the two.
    """
    source = open_source(plan.source, settings).id
    removed: list[dict[str, Any]] = []
    tagged: list[dict[str, Any]] = []
    for number in numbers:
        operation = group.operations[number]
        row = {"asset_id": asset_id(source, operation.key)}
        if operation.kind is OperationKind.DELETE:
            removed.append(row | {"removed_at": None if undone else now()})
        elif operation.tags is not None:
            tags = operation.before.tags if undone else operation.tags
            tagged.append(row | {"tags": json.dumps(tags)})
    known = catalog.read_keys(
        "assets", ["asset_id"], [row["asset_id"] for row in (*removed, *tagged)]
    )["asset_id"].to_list()
    for rows, kind in ((removed, schema.TOMBSTONE), (tagged, _TAGS)):
        kept = [row for row in rows if row["asset_id"] in known]
        if kept:
            catalog.upsert("assets", pa_table(kept, kind))
