"""The few groups that a mail and a run page show: those that matter most, with their evidence."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl

from reports import words
from reports.proposals import proposals
from reports.translated import change_words
from tasks.merging.rules.plan_note import GroupNote
from tasks.records import Role
from tasks.summary import Summary


def theirs(summary: Summary, person: str) -> list[str]:
    """The ids of the groups in a reviewer's part that the policy lets this person decide on."""
    notes = summary.plan.groups if summary.plan else {}
    return [
        name
        for name in summary.shares.get(person, ())
        if name not in notes or _may(notes[name], (person,))
    ]


def others(summary: Summary, people: Collection[str]) -> set[str]:
    """The ids of the groups that somebody else was asked about."""
    return {
        name
        for person in summary.shares
        if person not in people
        for name in theirs(summary, person)
    }


def narrow(summary: Summary, person: str) -> Summary:
    """A summary of the groups that are one reviewer's, and of nothing else."""
    return only(summary, theirs(summary, person))


def only(summary: Summary, ids: Collection[str]) -> Summary:
    """A summary of some groups, and of nothing else."""
    groups = summary.groups.filter(pl.col("group_id").is_in(list(ids)))
    members = summary.members.join(groups.select("group_id"), on="group_id", how="semi")
    keys = members.select("key")
    pairs = summary.pairs.join(keys, left_on="left", right_on="key", how="semi").join(
        keys, left_on="right", right_on="key", how="semi"
    )
    return replace(summary, groups=groups, members=members, pairs=pairs, links=summary.links[:0])


def top_groups(
    summary: Summary, number: int, members: int, people: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The first groups, what waits for a decision before the rest.

    Args:
        summary: the scan.
        number: how many groups.
        members: how many members of each.
        people: who reads: groups on which nobody else was asked come first.

    Returns:
        A group's columns, ``members``, ``more`` (not shown members), ``proposal``
        (:class:`~reports.proposals.Proposal`), ``questions`` and ``decidable``; a member's columns,
        ``is_keeper`` and ``evidence``.
    """
    chosen = _ordered(summary, people).head(number)
    said = evidence(summary, chosen)
    rows = summary.members.join(chosen.select("group_id"), on="group_id", how="semi")
    by_group = rows.partition_by("group_id", as_dict=True)
    notes = summary.plan.groups if summary.plan else {}
    proposed = proposals(summary, chosen["group_id"].to_list())
    found = []
    for group in chosen.iter_rows(named=True):
        mine = by_group[(group["group_id"],)]
        note = notes.get(group["group_id"])
        found.append(
            group
            | {
                "members": [
                    row
                    | {
                        "is_keeper": row["role"] == Role.KEEPER.value,
                        "evidence": said.get((group["keeper"], row["key"]), ""),
                    }
                    for row in mine.head(members).iter_rows(named=True)
                ],
                "more": max(0, mine.height - members),
                "proposal": proposed[group["group_id"]],
                "questions": note.questions if note else (),
                "decidable": bool(note and _open(note, people)),
            }
        )
    return found


def evidence(summary: Summary, groups: pl.DataFrame) -> dict[tuple[str, str], str]:
    """By (keeper, member): what was done to one to get the other."""
    keepers = groups.select("keeper").unique()
    found = {}
    for mine, theirs in (("left", "right"), ("right", "left")):
        rows = summary.pairs.join(keepers, left_on=mine, right_on="keeper", how="semi")
        for row in rows.iter_rows(named=True):
            found[row[mine], row[theirs]] = change_words(
                row["changes"], row["reasons"], keeper_is_original=row["original"] != theirs
            )
    return found


def decisions(
    summary: Summary, people: Collection[str] = (), decided: Collection[str] = ()
) -> dict[str, int]:
    """What of the plan concerns the groups of this summary.

    Args:
        summary: the scan.
        people: who reads; nobody: for anybody.
        decided: ids of the groups that a person has decided on.

    Returns:
        ``acting``, ``waiting`` (of these, for a person), ``asking`` (of these, with questions),
        ``approved``, ``refused``; ``files`` and ``bytes`` that would leave their place;
        ``open_files``, ``open_bytes`` (of these, of groups that wait for a person), and of the open
        ones how many would be ``removed`` instead of moved to quarantine.
    """
    notes = summary.plan.groups if summary.plan else {}
    ids = set(summary.groups["group_id"])
    mine = [note for name, note in notes.items() if name in ids]
    acting = [note for note in mine if note.acting and not note.refused]
    waiting = [
        note
        for name, note in notes.items()
        if name in ids and name not in decided and _open(note, people)
    ]
    return {
        "acting": len(acting),
        "waiting": len(waiting),
        "asking": sum(1 for note in waiting if note.questions),
        "approved": sum(1 for note in acting if note.approved),
        "refused": sum(1 for note in mine if note.refused),
        "files": sum(note.files for note in acting),
        "bytes": sum(note.bytes for note in acting),
        "open_files": sum(note.files for note in waiting),
        "open_bytes": sum(note.bytes for note in waiting),
        "removed": sum(note.files for note in waiting if note.action == "delete"),
    }


def openings(summary: Summary) -> tuple[int, datetime | None]:
    """How many groups only time speaks against, and when the first of them may be decided on."""
    times = [one.opens for one in proposals(summary).values() if one.opens]
    return len(times), min(times, default=None)


def merged_words(summary: Summary) -> list[str]:
    """Where the bytes of earlier merges are: in quarantine, kept as old versions, freed."""
    found, said = summary.merged, []
    if found.quarantined and found.until:
        size = words.human_bytes(found.quarantined)
        said.append(words.text("merged.quarantined", bytes=size, date=f"{found.until:%Y-%m-%d}"))
    elif found.quarantined:
        size = words.human_bytes(found.quarantined)
        said.append(words.text("merged.quarantined.open", bytes=size))
    if found.noncurrent:
        said.append(words.text("merged.noncurrent", bytes=words.human_bytes(found.noncurrent)))
    if found.freed:
        said.append(words.text("merged.freed", bytes=words.human_bytes(found.freed)))
    return said


def since_words(summary: Summary) -> str:
    """What merges did since the last mail or scan, in one line; nothing where they did nothing."""
    since, text = summary.since, words.text
    said = []
    if since.groups:
        groups, size = words.counted(since.groups, "group"), words.human_bytes(since.moved)
        said.append(text("since.merged", groups=groups, bytes=size))
    if since.undone:
        said.append(text("since.undone", groups=words.counted(since.undone, "group")))
    if since.freed:
        said.append(text("since.freed", bytes=words.human_bytes(since.freed)))
    return text("since.and").join(said)


def above_words(summary: Summary) -> list[str]:
    """The caps that one merge of the whole plan would be stopped by, as one sentence or none."""
    return words.cap_words("plan", summary.plan.above if summary.plan else {})


def _open(note: GroupNote, people: Collection[str]) -> bool:
    return note.acting and not note.refused and not note.approved and _may(note, people)


def _may(note: GroupNote, people: Collection[str]) -> bool:
    """Whether one of these may decide, as far as the policy says."""
    return not people or not note.approvers or bool(set(people) & set(note.approvers))


def _ordered(summary: Summary, people: Collection[str]) -> pl.DataFrame:
    notes = summary.plan.groups if summary.plan else {}
    waiting = [name for name, note in notes.items() if _open(note, people)]
    return summary.groups.sort(
        pl.col("group_id").is_in(sorted(others(summary, people)) if people else []),
        ~pl.col("group_id").is_in(waiting),
        maintain_order=True,
    )
