"""Audit: who decided what, and what was done."""

from __future__ import annotations

import json

import polars as pl

from tasks.merging.journal import DECIDED, read_decisions, read_events
from tasks.queries.verdicts import read_verdicts
from tasks.session import open_catalog
from tasks.settings import Settings

_COLUMNS = ["at", "what", "by", "channel", "plan_id", "group_id", "number", "key", "detail"]


def read_audit(settings: Settings) -> pl.DataFrame:
    """Every decision, verdict and event, in order.

    Returns:
        at, what, by, channel, plan_id, group_id, number, key, detail; all text but at and number.
    """
    catalog = open_catalog(settings)
    empty = pl.lit("", pl.String)
    journal = read_events(catalog)
    said = journal.filter(event=DECIDED).group_by("plan_id", "group_id").agg(pl.max("sequence"))
    # Decisions of older releases have no row; sequences were nanoseconds then.
    decided = read_decisions(catalog, withdrawn=True).join(
        said, on=["plan_id", "group_id"], how="left"
    )
    decisions = decided.select(
        "at",
        pl.col("decision").alias("what"),
        "by",
        "channel",
        "plan_id",
        "group_id",
        pl.lit(None, pl.Int32).alias("number"),
        empty.alias("key"),
        pl.col("comment").alias("detail"),
        pl.col("sequence").fill_null(pl.col("at").dt.timestamp("us") * 1000),
    )
    verdicts = read_verdicts(catalog).select(
        "at",
        pl.format("verdict {}", "verdict").alias("what"),
        "by",
        "channel",
        empty.alias("plan_id"),
        empty.alias("group_id"),
        pl.lit(None, pl.Int32).alias("number"),
        pl.format("{} | {}", "left_key", "right_key").alias("key"),
        pl.col("comment").alias("detail"),
        "sequence",
    )
    events = journal.filter(pl.col("event") != DECIDED).select(
        "at",
        pl.format("{} {}", "event", "kind").alias("what"),
        "by",
        pl.lit("run").alias("channel"),
        "plan_id",
        "group_id",
        pl.when(pl.col("number") >= 0).then("number").alias("number"),
        "key",
        "detail",
        "sequence",
    )
    every = pl.concat([decisions, verdicts, events], how="vertical_relaxed")
    return every.sort("sequence").select(_COLUMNS)


def event_detail(text: str) -> str:
    """An event's detail for people."""
    try:
        data = json.loads(text or "{}")
    except ValueError:
        return text
    return str(data.get("why") or "") if isinstance(data, dict) else text
