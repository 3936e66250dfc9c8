"""Audit and savings: who decided what, what was done, and what that is worth."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from tasks.dedup.plans import OperationKind
from tasks.errors import MergeError
from tasks.journal import DONE, PURGED, UNDONE, read_decisions, read_events, read_plan
from tasks.session import open_catalog, open_store
from tasks.settings import Settings
from tasks.verdict import read_verdicts

_COLUMNS = ["at", "what", "by", "door", "plan_id", "group_id", "number", "key", "detail"]


def read_audit(settings: Settings) -> pl.DataFrame:
    """Every decision, verdict and event, in order.

    Returns:
        at, what, by, door, plan_id, group_id, number, key, detail; all text but at and number.
    """
    catalog = open_catalog(settings)
    empty = pl.lit("", pl.String)
    decisions = read_decisions(catalog).select(
        "at", pl.col("decision").alias("what"), "by", "door", "plan_id", "group_id",
        pl.lit(None, pl.Int32).alias("number"), empty.alias("key"),
        pl.col("comment").alias("detail"), pl.lit(0, pl.Int64).alias("sequence"),
    )  # fmt: skip
    verdicts = read_verdicts(catalog).select(
        "at", pl.format("verdict {}", "verdict").alias("what"), "by", "door",
        empty.alias("plan_id"), empty.alias("group_id"), pl.lit(None, pl.Int32).alias("number"),
        pl.format("{} | {}", "left_key", "right_key").alias("key"),
        pl.col("comment").alias("detail"), "sequence",
    )  # fmt: skip
    events = read_events(catalog).select(
        "at", pl.format("{} {}", "event", "kind").alias("what"), "by", pl.lit("run").alias("door"),
        "plan_id", "group_id", pl.when(pl.col("number") >= 0).then("number").alias("number"),
        "key", "detail", "sequence",
    )  # fmt: skip
    every = pl.concat([decisions, verdicts, events], how="vertical_relaxed")
    return every.sort("at", "sequence").select(_COLUMNS)


def read_savings(settings: Settings) -> dict[str, Any]:
    """The ledger: bytes planned, moved to quarantine, hidden behind markers, and freed.

    A delete marker frees nothing as long as the version below it is kept, nor does a quarantine:
    these bytes are named apart and not counted as saved.

    Returns:
        One entry a plan and ``total``, each with planned, quarantined, noncurrent, freed (bytes)
        and monthly_cost (of what is planned and of what is freed, in the settings' currency).
    """
    catalog = open_catalog(settings)
    price = settings.merge.cost_per_gb_month
    plans = []
    for plan_id in catalog.read("plans", ["made", "plan_id"])["plan_id"]:
        plan = read_plan(catalog, plan_id)
        store = open_store(plan.source, settings)
        try:
            versioned = store is not None and store.versioned
        except MergeError:
            versioned = True
        events = read_events(catalog, plan).filter(pl.col("number") >= 0).sort("sequence")
        last = events.group_by("group_id", "number", maintain_order=True).last()
        done = last.filter(
            (pl.col("event") == DONE) & (pl.col("kind") == OperationKind.DELETE.value)
        )
        moved = last.filter(
            (pl.col("event") == DONE) & (pl.col("kind") == OperationKind.COPY.value)
        )
        gone = last.filter(pl.col("event") == PURGED)
        left = int(done["bytes"].sum())
        planned = sum(
            operation.before.size
            for group in plan.groups if not group.refused
            for operation in group.operations if operation.kind is OperationKind.DELETE
        )  # fmt: skip
        purged = int(gone["bytes"].sum())
        plans.append(
            {
                "plan": plan.id,
                "planned": planned,
                "left_view": left,
                "quarantined": int(moved["bytes"].sum()),
                "noncurrent": left if versioned else 0,
                "freed": purged if not versioned else 0,
                "undone": int(last.filter((pl.col("event") == UNDONE)
                                          & (pl.col("kind") == OperationKind.DELETE.value))
                              ["bytes"].sum()),
            }
        )  # fmt: skip
    names = ("planned", "left_view", "quarantined", "noncurrent", "freed", "undone")
    total = {name: sum(plan[name] for plan in plans) for name in names}
    cost = {name: round(total[name] / 1e9 * price, 2) for name in ("planned", "freed")}
    return {"plans": plans, "total": total, "monthly_cost": cost, "per_gb_month": price}


def event_detail(text: str) -> str:
    """An event's detail for people."""
    try:
        data = json.loads(text or "{}")
    except ValueError:
        return text
    return str(data.get("why") or "") if isinstance(data, dict) else text
