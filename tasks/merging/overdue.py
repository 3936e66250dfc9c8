"""Approved merges that nobody carried out: how many wait, and since when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from tasks.errors import MergeError
from tasks.merging.journal import (
    group_state,
    last_events,
    read_decisions,
    read_events,
    read_plan,
)
from tasks.records import now
from tasks.session import open_catalog
from tasks.settings import Settings


@dataclass(frozen=True, slots=True)
class Overdue:
    """Approved groups that are not merged.

    Attributes:
        groups: how many have waited for longer than was asked.
        since: when the first of them was approved; None where there is none.
        plans: the plans that they are of.
    """

    groups: int
    since: datetime | None
    plans: tuple[str, ...]


def overdue_merges(settings: Settings, days: float) -> Overdue:
    """Approved groups that have waited for more than so many days."""
    catalog = open_catalog(settings)
    old = read_decisions(catalog).filter(
        (pl.col("decision") == "approve") & (pl.col("at") < now() - timedelta(days=days))
    )
    groups, plans, since = 0, list[str](), list[datetime]()
    for plan_id in sorted(set(old["plan_id"])):
        try:
            plan = read_plan(catalog, plan_id)
        except MergeError:
            continue  # the merge run itself tells of a plan that cannot be read
        events = read_events(catalog, plan)
        approved = dict(old.filter(plan_id=plan_id).select("group_id", "at").iter_rows())
        waiting = [
            approved[group.group_id]
            for group in plan.groups
            if group.group_id in approved
            and group_state(group, last_events(events, group.group_id))
            in {"waiting", "interrupted"}
        ]
        if waiting:
            groups, since = groups + len(waiting), [*since, *waiting]
            plans.append(plan_id)
    return Overdue(groups, min(since, default=None), tuple(plans))
