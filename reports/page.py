"""The report a person decides from: one self-contained HTML file.

It loads nothing and sends nothing: pictures, groups, style and script are inside, and its policy
lets through exactly these. Served by the gate, it may speak to the gate alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from reports import overview, words
from reports.batches import BATCHES
from reports.environment import data_json, environment, hashed, part
from reports.highlights import above_words, decisions, merged_words
from reports.page_groups import PICTURES_PER_PART, Pictures, groups_data
from tasks.records import Document, Role
from tasks.summary import Summary

__all__ = ["Gate", "environment", "headline", "news", "page_policy", "report_page", "totals"]

#: Groups that are named where there is no script to show them.
_WITHOUT_SCRIPT = 100
_STYLES = ("page.css", "page_group.css", "page_table.css", "page_batches.css")
_SCRIPTS = (
    "page_data.js",
    "page_state.js",
    "page_choices.js",
    "page_export.js",
    "page_list.js",
    "page_group.js",
    "page_compare.js",
    "page_pictures.js",
    "page_lens.js",
    "page_table.js",
    "page_bulk.js",
    "page_batches.js",
    "page_criteria.js",
    "page_rules.js",
    "page_graph.js",
    "page_keys.js",
)


@dataclass(frozen=True, slots=True)
class Gate:
    """What a page needs to speak to the gate that serves it.

    Attributes:
        reviewer: who decides.
        until: when the link ends, in words.
        post: the address that takes decisions, relative to the page's.
        form: the address of the approval page.
        decided: group id to ``[decision, by, when, "open"]``, of what was decided before; the last
            is empty once it was begun to be carried out.
        keepers: whether another keeper can be planned.
        pictures: the address below which the gate serves larger pictures, by asset and size;
            empty: only the previews inside the page.
    """

    reviewer: str
    until: str
    post: str
    form: str
    decided: dict[str, list[str]] = field(default_factory=dict)
    keepers: bool = False
    pictures: str = ""


def report_page(
    summary: Summary, gate: Gate | None = None, language: str = words.ENGLISH
) -> Document:
    """``report.html``: what was found, to be decided on, and what was not looked at.

    Args:
        summary: the scan.
        gate: where decisions are sent, where a gate serves the page.
        language: of the page's words: the name of a file of ``texts/``.
    """
    with words.speaking(language):
        return _report_page(summary, gate)


def _report_page(summary: Summary, gate: Gate | None) -> Document:
    pictures = Pictures(summary.thumbnails, summary.small)
    groups = groups_data(summary, pictures, gate.reviewer if gate else "")
    plan = summary.planned
    data: dict[str, Any] = {
        "form": "dam-dedup report 1",
        "scan": summary.scan_id,
        "collection": summary.collection,
        "threshold": summary.threshold,
        "price": summary.cost_per_gb_month,
        "batches": BATCHES,
        "perPart": PICTURES_PER_PART,
        "words": _scripted(),
        "plan": {"id": plan.id, "hash": plan.hash, "policy": plan.policy} if plan else None,
        "gate": asdict(gate) if gate else None,
        "groups": groups,
    }
    style, script = part(*_STYLES), part(*_SCRIPTS)
    body = (
        environment()
        .get_template("page.html")
        .render(
            summary=summary,
            headline=headline(summary),
            news=news(summary),
            totals=totals(summary),
            money=overview.money(summary),
            decisions=decisions(
                summary, [gate.reviewer] if gate else [], gate.decided if gate else ()
            ),
            above=above_words(summary),
            merged=merged_words(summary),
            labels=words.label_words(summary.calibrated),
            search=words.search_words(summary.search),
            proofs=words.proof_words(summary.counts),
            outcomes=overview.outcomes(summary),
            charts=overview.draw_charts(summary),
            listed=summary.groups.head(_WITHOUT_SCRIPT).to_dicts(),
            plan=plan,
            gate=gate,
            data=data_json(data),
            parts=[data_json(one) for one in pictures.parts()],
            style=style,
            script=script,
            policy=page_policy(gate=gate is not None),
        )
    )
    return Document("report.html", "text/html; charset=utf-8", body.encode())


#: Texts that only documents without a script use, by the beginning of their names.
_NOT_SCRIPTED = (
    *("ask.", "chart.", "done.", "first.", "form.", "headline.", "labels.", "mail."),
    *("page.", "proof.", "reason.", "receipt.", "search.", "stays."),
)


def _scripted() -> dict[str, str]:
    """The texts that the page's script tells."""
    every = words.texts(words.spoken())
    return {name: said for name, said in every.items() if not name.startswith(_NOT_SCRIPTED)}


def page_policy(*, gate: bool = False) -> str:
    """The page's Content-Security-Policy: its own style and script, and at most its own gate."""
    connect = "'self'" if gate else "'none'"
    return (
        f"default-src 'none'; img-src data:; style-src {hashed(part(*_STYLES))}; "
        f"script-src {hashed(part(*_SCRIPTS))}; connect-src {connect}; base-uri 'none'; "
        "form-action 'none'"
    )


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
    """The result in one sentence, after what makes it worth less."""
    missing = summary.counts.get("missing", 0)
    images = words.counted(missing, "image")
    warning = words.text("headline.incomplete", images=images) if missing else ""
    return warning + _result(summary)


def _result(summary: Summary) -> str:
    found = totals(summary)
    coverage, text = summary.coverage, words.text
    if not coverage.scanned:
        return text(
            f"headline.nothing{'.where' if summary.where else ''}",
            objects=words.counted(coverage.seen, "object"),
            skipped=words.grouped(found["skipped"]),
            failed=words.grouped(found["failed"]),
        )
    scanned = words.counted(coverage.scanned, "image")
    if not found["groups"]:
        return text(f"headline.none{'.across' if summary.across else ''}", images=scanned)
    # What is refused saves nothing: then the bytes are not those of all groups.
    acting = summary.groups.filter(pl.col("savings") > 0).height
    return text(
        "headline.found.some" if 0 < acting < found["groups"] else "headline.found",
        groups=words.counted(found["groups"], "group"),
        duplicates=words.counted(found["duplicates"], "duplicate"),
        images=scanned,
        acting=words.grouped(acting),
        bytes=words.human_bytes(found["savings"]),
    )


def news(summary: Summary) -> str:
    """What differs from the last scan of the same assets."""
    found = totals(summary)
    parts = [
        words.counted(found[state], f"{state} group")
        for state in ("new", "changed")
        if found[state]
    ]
    if summary.now_decidable:
        groups = words.counted(summary.now_decidable, "group")
        parts.append(words.text("news.decidable", groups=groups))
    return words.text("news.and").join(parts) or words.text("news.none")
