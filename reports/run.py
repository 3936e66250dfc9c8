"""The summary on a Prefect run page, as markdown, and its table of groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from reports.highlights import above_words, decisions, evidence, merged_words, top_groups
from reports.page import headline, news, totals
from reports.proposals import proposals
from reports.words import (
    counted,
    human_bytes,
    label_words,
    proof_words,
    reason_words,
    search_words,
    shown_key,
    text,
    tier_words,
)
from tasks.records import Receipt
from tasks.summary import Summary

_TOP, _MEMBERS = 10, 3
#: Longer texts are cut off in a table.
_LONG = 300


def summary_markdown(
    summary: Summary,
    receipts: Sequence[Receipt],
    refused: Sequence[str] = (),
    failed: Sequence[str] = (),
) -> str:
    """Headline, what is to be decided, groups, coverage, and where the documents are.

    Args:
        summary: the scan.
        receipts: where the documents are.
        refused: addresses that the mail server refused while it took the mail for others.
        failed: of each mail that nobody got, to whom it was and why it failed.
    """
    found = totals(summary)
    parts = [
        [f"## {headline(summary)}"],
        [f"**The mail was not sent:** {code(why)}" for why in failed],
        ["**The mail was refused for** " + ", ".join(map(code, refused))] if refused else [],
        [_about(summary)],
        [f"{one}." for one in proof_words(summary.counts)],
        [
            f"{counted(found['duplicates'], 'duplicate')}: "
            + text("tier.counted", exact=f"**{found['exact']:,}**", near=f"**{found['near']:,}**")
            + f". Since the last scan: **{news(summary)}**."
        ],
        _plan(summary),
        _groups(summary),
        _coverage(summary, found),
        alert_lines(summary),
        _provenance(summary),
        ["### Documents", "", *(f"- {_document(receipt)}" for receipt in receipts)],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def group_rows(summary: Summary, most: int) -> list[dict[str, Any]]:
    """The first groups as rows of a table artifact."""
    groups = summary.groups.head(most)
    said = evidence(summary, groups)
    first: dict[str, str] = {}
    for (keeper, _), words in said.items():
        first.setdefault(keeper, words)
    proposed = proposals(summary, groups["group_id"].to_list())
    return [
        {
            "group": row["group_id"],
            "state": row["state"],
            "kind": tier_words(row["tier"]),
            "assets": row["size"],
            "could be saved": human_bytes(row["savings"]),
            "score": row["score"],
            "stays": shown_key(row["keeper"]),
            "evidence": shown_key(first.get(row["keeper"], ""))[:_LONG],
            "proposed": shown_key(proposed[row["group_id"]].line)[:_LONG] if summary.plan else "",
        }
        for row in groups.iter_rows(named=True)
    ]


def code(text: str) -> str:
    """Text as inline code, which markdown leaves alone; a table cell must not end inside it."""
    return "`" + (shown_key(text).replace("`", "'").replace("|", "¦").strip() or " ") + "`"


def _about(summary: Summary) -> str:
    return (
        f"{summary.kind.value} scan of {code(summary.source)}"
        + (f" where {code(summary.where)}" if summary.where else "")
        + (f", only across to {code(summary.across)}" if summary.across else "")
        + (", **dry run**" if summary.dry_run else "")
    )


def _plan(summary: Summary) -> list[str]:
    """What waits for people; no signed link: the run page is for everybody."""
    plan, mine = summary.plan, decisions(summary)
    merged = [f"Before: {one}." for one in merged_words(summary)]
    if plan is None or not (mine["acting"] or mine["refused"]):
        return merged
    lines = [
        "### To decide",
        "",
        f"**{counted(mine['waiting'], 'group')} to decide**, {mine['asking']:,} with a question; "
        f"{mine['approved']:,} approved already; {mine['refused']:,} of which nothing may be "
        "done.",
        f"The plan would move {counted(mine['files'], 'file')}, {human_bytes(mine['bytes'])}.",
        *(f"**{one}.**" for one in above_words(summary)),
        *merged,
        f"Plan {code(plan.id)}, policy {code(plan.policy)}.",
    ]
    return [*lines, "", f"[Decide in this UI]({plan.form})"] if plan.form else lines


def _groups(summary: Summary) -> list[str]:
    rows = []
    for group in top_groups(summary, _TOP, _MEMBERS):
        keeper, *others = group["members"]
        first = others[0] if others else keeper
        rows.append(
            (
                f"{tier_words(group['tier'])}, {group['state']}",
                f"{group['size']:,}",
                human_bytes(group["savings"]),
                code(keeper["key"]),
                code(first["key"]),
                code(first["evidence"][:_LONG]) if first["evidence"] else "",
            )
        )
    names = ("group", "files", "could be saved", "stays", "first duplicate", "what differs")
    return ["### Groups", "", *table(names, rows)] if rows else []


def _coverage(summary: Summary, found: dict[str, int]) -> list[str]:
    coverage = summary.coverage
    lines = [
        "### Coverage",
        "",
        f"{counted(coverage.seen, 'object')} seen, {coverage.scanned:,} scanned, "
        f"{found['skipped']:,} skipped, {found['failed']:,} failed.",
        "",
    ]
    for outcome, reasons in (("failed", coverage.failed), ("skipped", coverage.skipped)):
        lines += [f"- {outcome}: {n:,} {reason_words(reason)}" for reason, n in reasons.items()]
    return lines


def alert_lines(summary: Summary) -> list[str]:
    """How many alerts there are, and the first of them."""
    if summary.alerts is None or summary.alerts.is_empty():
        return []
    new = summary.alerts.filter(state="new").height
    lines = ["### Alerts", "", f"{counted(summary.alerts.height, 'alert')}, {new:,} new:", ""]
    lines += [
        f"- {code(row['rule'])}: {code(row['left'])} against {code(row['right'])}: "
        f"{row['relation']}, {code(row['evidence'])}"
        for row in summary.alerts.head(_TOP).iter_rows(named=True)
    ]
    return lines


def _provenance(summary: Summary) -> list[str]:
    rows = [
        ("model", code(f"{summary.space.model} {summary.space.revision}")),
        ("threshold", f"{summary.threshold:g}"),
        ("calibration", label_words(summary.calibrated)),
        ("search", search_words(summary.search)),
        *((name, code(text)) for name, text in summary.versions.items()),
        ("took", f"{summary.seconds:,.1f} s"),
        *((f"- {name}", f"{seconds:,.1f} s") for name, seconds in summary.stages.items()),
    ]
    done = [f"{name} {n:,}" for name, n in summary.counts.items() if not name.startswith("ms_")]
    return ["### How it was made", "", *table(("", ""), rows), "", ", ".join(done)]


def _document(receipt: Receipt) -> str:
    if receipt.link and not set(receipt.link) & set(" ()<>\n"):
        return f"[{receipt.name}]({receipt.link}): {code(receipt.place)}"
    return code(receipt.place)


def table(names: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines of a markdown table; cells that are not ours have to be :func:`code`."""
    heads = list(names)
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    return [f"| {line} |" for line in [*lines, *(" | ".join(row) for row in rows)]]
