"""The summary on a Prefect run page, as markdown."""

from __future__ import annotations

from reports.page import headline, news, totals
from reports.words import counted, human_bytes, reason_words, shown_key
from tasks.records import Receipt, Summary

_TOP = 10


def summary_markdown(summary: Summary, receipts: list[Receipt]) -> str:
    """Headline, groups, coverage and where the documents are."""
    found = totals(summary)
    coverage = summary.coverage
    lines = [
        f"## {headline(summary)}",
        "",
        f"{summary.kind.value} scan of {code(summary.source)}"
        + (f" where {code(summary.where)}" if summary.where else "")
        + (", **dry run**" if summary.dry_run else ""),
        "",
        f"{counted(found['duplicates'], 'duplicate')}: **{found['exact']}** exact (only "
        f"encoded or scaled anew), **{found['near']}** near. "
        f"Since the last scan: **{news(summary)}**.",
        "",
        "| group | tier | assets | could be saved | keeper |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['group_id']} | {row['tier']} | {row['size']} | {human_bytes(row['savings'])} "
        f"| {code(row['keeper'])} |"
        for row in summary.groups.head(_TOP).iter_rows(named=True)
    ]
    lines += [
        "",
        "### Coverage",
        f"{counted(coverage.seen, 'object')} seen, {coverage.scanned:,} scanned, "
        f"{found['skipped']:,} skipped, {found['failed']:,} failed.",
        "",
    ]
    for outcome, reasons in (("failed", coverage.failed), ("skipped", coverage.skipped)):
        lines += [f"- {outcome}: {n:,} {reason_words(reason)}" for reason, n in reasons.items()]
    lines += alert_lines(summary)
    lines += ["", "### Work done", ", ".join(f"{k} {v:,}" for k, v in summary.counts.items()), ""]
    lines += ["### Documents", *(f"- {code(receipt.place)}" for receipt in receipts)]
    return "\n".join(lines)


def alert_lines(summary: Summary) -> list[str]:
    """How many alerts there are, and the first of them."""
    if summary.alerts is None or summary.alerts.is_empty():
        return []
    new = summary.alerts.filter(state="new").height
    lines = ["", "### Alerts", f"{counted(summary.alerts.height, 'alert')}, {new:,} new:"]
    lines += [
        f"- {code(row['rule'])}: {code(row['left'])} against {code(row['right'])}: "
        f"{row['relation']}, {code(row['evidence'])}"
        for row in summary.alerts.head(_TOP).iter_rows(named=True)
    ]
    return lines


def code(text: str) -> str:
    """Text as inline code, which markdown leaves alone; a table cell must not end inside it."""
    return "`" + shown_key(text).replace("`", "'").replace("|", "¦") + "`"
