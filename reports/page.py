"""The report a person opens: one self-contained HTML file, without a script."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2
import polars as pl

from reports import words
from tasks.records import Document, Role, Summary

#: Members drawn per group; the rest is counted (groups.json has them all).
_DRAWN_MEMBERS = 12


@cache
def environment() -> jinja2.Environment:
    """HTML templates escape every value: keys, tags and metadata come from strangers."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("reports"),
        autoescape=jinja2.select_autoescape(["html"], default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "bytes": words.human_bytes,
        "key": words.shown_key,
        "moment": words.moment,
        "reason": words.reason_words,
    }
    made.globals["counted"] = words.counted
    return made


def report_page(summary: Summary, drawn: int = 500) -> Document:
    """``report.html``: what was found, with thumbnails, and what was not looked at.

    Args:
        summary: the scan.
        drawn: how many groups are drawn; the others are counted and in groups.json.
    """
    body = (
        environment()
        .get_template("page.html")
        .render(
            summary=summary,
            headline=headline(summary),
            totals=totals(summary),
            groups=list(_drawn(summary, drawn)),
            hidden=max(0, summary.groups.height - drawn),
            outcomes=_outcomes(summary),
        )
    )
    return Document("report.html", "text/html; charset=utf-8", body.encode())


def totals(summary: Summary) -> dict[str, int]:
    """The numbers that every document shows, counted in one place.

    ``exact`` and ``near`` count duplicates, ``new`` and ``changed`` groups.
    """
    groups = summary.groups
    duplicates = summary.members.filter(pl.col("role") == Role.DUPLICATE.value)
    tiers = dict(duplicates.group_by("tier").len().iter_rows())
    states = dict(groups.group_by("state").len().iter_rows())
    return {
        "groups": groups.height,
        "duplicates": duplicates.height,
        "savings": int(groups["savings"].sum()),
        "exact": tiers.get("exact", 0),
        "near": tiers.get("near", 0),
        "new": states.get("new", 0),
        "changed": states.get("changed", 0),
        "failed": sum(summary.coverage.failed.values()),
        "skipped": sum(summary.coverage.skipped.values()),
    }


def headline(summary: Summary) -> str:
    """The result in one sentence."""
    found = totals(summary)
    coverage = summary.coverage
    if not coverage.scanned:
        where = " that pass the filter" if summary.where else ""
        return (
            f"No images{where} among {words.counted(coverage.seen, 'object')}: "
            f"{found['skipped']:,} skipped, {found['failed']:,} failed."
        )
    scanned = words.counted(coverage.scanned, "image")
    if not found["groups"]:
        return f"No duplicates {'across the filters, ' if summary.across else ''}among {scanned}."
    return (
        f"{words.counted(found['groups'], 'group')} with "
        f"{words.counted(found['duplicates'], 'duplicate')} among {scanned}; "
        f"{words.human_bytes(found['savings'])} could be saved."
    )


def news(summary: Summary) -> str:
    """What differs from the last scan of the same assets."""
    found = totals(summary)
    parts = [
        words.counted(found[state], f"{state} group")
        for state in ("new", "changed")
        if found[state]
    ]
    return " and ".join(parts) or "nothing new"


def _drawn(summary: Summary, drawn: int) -> list[dict[str, Any]]:
    shown = summary.groups.head(drawn)
    members = summary.members.join(shown.select("group_id"), on="group_id", how="semi")
    by_group = members.partition_by("group_id", as_dict=True)
    said = _evidence(summary, shown)
    groups = []
    for group in shown.iter_rows(named=True):
        rows = by_group[(group["group_id"],)]
        drawn_rows = [
            row
            | {
                "thumbnail": words.data_uri(summary.thumbnails.get(row["content"])),
                "evidence": said.get((group["keeper"], row["key"]), ""),
            }
            for row in rows.head(_DRAWN_MEMBERS).iter_rows(named=True)
        ]
        groups.append(group | {"members": drawn_rows, "more": rows.height - len(drawn_rows)})
    return groups


def _evidence(summary: Summary, groups: pl.DataFrame) -> dict[tuple[str, str], str]:
    """By (keeper, member): what was done to one to get the other."""
    keepers = groups.select("keeper").unique()
    found = {}
    for mine, theirs in (("left", "right"), ("right", "left")):
        rows = summary.pairs.join(keepers, left_on=mine, right_on="keeper", how="semi")
        for row in rows.iter_rows(named=True):
            found[row[mine], row[theirs]] = words.change_words(
                row["changes"], row["reasons"], keeper_is_original=row["original"] != theirs
            )
    return found


def _outcomes(summary: Summary) -> list[dict[str, Any]]:
    return (
        summary.coverage.outcomes.group_by("outcome", "reason")
        .agg(
            pl.len().alias("count"),
            pl.struct("key", "message").sort_by("key").head(20).alias("examples"),
        )
        .sort(pl.col("outcome") != "failed", "count", "reason", descending=[False, True, False])
        .to_dicts()
    )
