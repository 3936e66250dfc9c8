"""The groups of a report as the page's script reads them: short names, nothing twice.

Ten thousand groups have to fit into one file; ``templates/page_data.js`` gives the columns names
again, and says of every key and value what it may be shown as.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from reports.batches import BATCHES, batch_of
from reports.proposals import Proposal, proposals
from reports.review import can_decide
from reports.translated import translated, translated_question
from tasks.dedup.evidence import Evidence
from tasks.dedup.placement import Affine, inverse, placement
from tasks.merging.rules.plans import FieldMerge, PlannedGroup
from tasks.records import Role
from tasks.summary import Summary

#: Of one group: members, members all of whose pairs are told, fields; of one value: characters.
_MEMBERS, _ALL_PAIRS, _FIELDS, _LONG = 100, 12, 24, 300
_RELATED = 6
#: Pictures of one element: the page reads them element by element, when they are looked at.
PICTURES_PER_PART = 48
_STATES = {"new": 0, "changed": 1, "known": 2}
_TIERS = {"exact": 0, "near": 1, "similar": 2}
#: What the catalog knows of an asset beyond its pixels, and what it is called on the page.
_ROOMS = {"tags": "tag", "metadata": "metadata", "sidecar_xmp": "xmp", "xmp": "xmp", "exif": "exif"}
_EXIF = {"Copyright", "Artist", "DateTimeOriginal", "ImageDescription"}


def groups_data(summary: Summary, pictures: Pictures, reviewer: str = "") -> list[dict[str, Any]]:
    """Every group, in the summary's order.

    Args:
        summary: the scan.
        pictures: numbers the pictures, in the order in which groups need them.
        reviewer: who decides, where that is known.
    """
    plan = summary.planned
    planned = {group.group_id: group for group in plan.groups} if plan else {}
    proposed = proposals(summary)
    notes = summary.plan.groups if summary.plan else {}
    described = _described(summary)
    edges, related = _edges(summary)
    members = summary.members.partition_by("group_id", as_dict=True)
    found = []
    for group in summary.groups.iter_rows(named=True):
        name = group["group_id"]
        act = planned.get(name)
        everyone = members[(name,)].to_dicts()
        rows = everyone[:_MEMBERS]
        at = {row["key"]: number for number, row in enumerate(rows)}
        made: dict[str, Any] = {
            "i": name,
            "s": _STATES[group["state"]],
            "t": _TIERS[group["tier"]],
            "n": group["size"],
            "b": group["savings"],
            "q": group["score"],
            "m": [_member(row, pictures) for row in rows],
            "k": BATCHES.index(
                batch_of(edges.get(name, []), {row["key"]: row for row in everyone})
            ),
            "e": [_edge(pair, at, rows) for pair in _told(edges.get(name, []), at)],
        }
        fields = _fields([described.get(row["asset_id"], {}) for row in rows])
        if fields:
            made["f"] = fields
        if name in related:
            made["r"] = sorted(related[name])[:_RELATED]
        if act is not None:
            files = notes[name].files if name in notes else 0
            made["p"] = _planned(act, proposed[name], files, reviewer)
        found.append(made)
    return found


class Pictures:
    """The pictures of a page, each once, numbered as they are first asked for."""

    def __init__(self, large: Mapping[str, bytes], small: Mapping[str, bytes]) -> None:
        """Take pictures by content: JPEG as they are kept, and smaller WebP."""
        self._sources = {**small, **large}
        self._numbers: dict[str, int] = {}

    def number(self, content: str) -> int:
        """The number of a picture; -1 where there is none."""
        if content not in self._sources:
            return -1
        return self._numbers.setdefault(content, len(self._numbers))

    def parts(self) -> Iterator[list[str]]:
        """All that were asked for, as base64, some in each part."""
        names = list(self._numbers)
        for start in range(0, len(names), PICTURES_PER_PART):
            yield [
                base64.b64encode(self._sources[name]).decode()
                for name in names[start : start + PICTURES_PER_PART]
            ]


def _member(row: dict[str, Any], pictures: Pictures) -> list[Any]:
    when = row["last_modified"]
    return [
        row["key"],
        row["asset_id"],
        _TIERS[row["tier"]],
        row["score"],
        row["width"],
        row["height"],
        row["format"],
        row["size"],
        row.get("quality"),
        None if when is None else int(when.timestamp()),
        row["label"],
        list(row["flags"] or ()),
        pictures.number(row["content"]),
        int(row["role"] == Role.KEEPER.value),
    ]


# ---- pairs -----------------------------------------------------------------------------------


def _edges(summary: Summary) -> tuple[dict[str, list[dict[str, Any]]], dict[str, set[str]]]:
    """By group: the pairs inside it; the other groups that one of its members is close to."""
    home = summary.members.select("key", "group_id")
    inside: dict[str, list[dict[str, Any]]] = {}
    related: dict[str, set[str]] = {}
    rows = summary.pairs.join(home.rename({"key": "left", "group_id": "a"}), on="left").join(
        home.rename({"key": "right", "group_id": "b"}), on="right"
    )
    for row in rows.iter_rows(named=True):
        if row["a"] == row["b"]:
            inside.setdefault(row["a"], []).append(row)
        else:
            related.setdefault(row["a"], set()).add(row["b"])
            related.setdefault(row["b"], set()).add(row["a"])
    return inside, related


def _told(pairs: list[dict[str, Any]], at: Mapping[str, int]) -> list[dict[str, Any]]:
    """All pairs of a small group; of a large one those with the keeper."""
    told = [pair for pair in pairs if pair["left"] in at and pair["right"] in at]
    if len(at) <= _ALL_PAIRS:
        return told
    return [pair for pair in told if 0 in (at[pair["left"]], at[pair["right"]])]


def _edge(pair: dict[str, Any], at: Mapping[str, int], rows: list[dict[str, Any]]) -> list[Any]:
    """First, second, tier, score, changes, which is the original (0: either, 1, 2), reasons, map.

    The map leads from the first to the second picture, in shares of their width and height. Then
    what was added or covered, and what stands out: in which of the two, where, which share of it.
    """
    left, right = at[pair["left"]], at[pair["right"]]
    original = {"left": 1, "right": 2}.get(pair["original"], 0)
    affine: Affine | None = None
    covered: list[float] | None = None
    differs: list[float] | None = None
    evidence = _evidence(pair["evidence"])
    if evidence is not None:
        one, two = (right, left) if pair["flipped"] else (left, right)
        there = placement(evidence, _size(rows[one]), _size(rows[two]))
        affine = inverse(there) if pair["flipped"] else there
        side = 0 if two == left else 1
        if evidence.covered >= 0.004:
            covered = _place(side, evidence.covered_at, evidence.covered)
        if evidence.differs:
            differs = _place(side, evidence.differs_at, evidence.differs_share)
        elif evidence.proof in {"differs", "reads"}:
            # At full size, where the small pictures showed nothing.
            x0, y0, x1, y1 = evidence.proof_box
            differs = _place(side, ((x0 + x1) / 2, (y0 + y1) / 2), (x1 - x0) * (y1 - y0))
    return [
        left,
        right,
        _TIERS[pair["tier"]],
        pair["score"],
        translated(pair["changes"]),
        original,
        translated(pair["reasons"]),
        None if affine is None else [round(value, 4) for value in affine],
        covered,
        *([differs] if differs else []),
    ]


def _place(side: int, at: tuple[float, float], share: float) -> list[float]:
    return [side, *(round(one, 3) for one in at), round(share, 4)]


def _evidence(text: str | None) -> Evidence | None:
    if text is None:
        return None
    try:
        return Evidence.from_json(text)
    except (KeyError, TypeError, ValueError):  # of another release: the words remain
        return None


def _size(row: dict[str, Any]) -> tuple[int, int]:
    return row["width"], row["height"]


# ---- what is known of the members, and what is planned ---------------------------------------


def _described(summary: Summary) -> dict[str, dict[str, str]]:
    if summary.described is None:
        return {}
    found: dict[str, dict[str, str]] = {}
    for row in summary.described.iter_rows(named=True):
        said: dict[str, str] = {}
        for room, short in _ROOMS.items():
            for name, value in json.loads(row.get(room) or "{}").items():
                if value not in (None, "") and (room != "exif" or name in _EXIF):
                    said.setdefault(f"{short}.{name}"[:_LONG], _short(str(value)))
        found[row["asset_id"]] = said
    return found


def _fields(members: list[dict[str, str]]) -> dict[str, Any]:
    """Field to its values by member; to one value where all have the same. Differences first."""
    names = dict.fromkeys(name for said in members for name in sorted(said))
    values = {name: [said.get(name) for said in members] for name in names}
    ordered = sorted(values, key=lambda name: len(set(values[name])) == 1)
    return {
        name: values[name][0] if len(set(values[name])) == 1 else values[name]
        for name in ordered[:_FIELDS]
    }


def _planned(group: PlannedGroup, proposal: Proposal, files: int, reviewer: str) -> dict[str, Any]:
    may = not group.approvers or not reviewer or reviewer in group.approvers
    return {
        "keeper": group.keeper,
        "press": proposal.press,
        "line": proposal.line,
        "files": files,
        "action": group.action.value,
        "rule": group.rule,
        "why": [translated(one) for one in group.reasons],
        "fixed": any(one.startswith("may not be touched") for one in group.reasons),
        "fields": [_field(one) for one in group.fields if one.conflict or one.kept != one.had],
        "same": sum(1 for one in group.fields if not one.conflict and one.kept == one.had),
        "questions": [translated_question(one) for one in group.questions],
        "asks": list(proposal.asks),
        "rest": sum(1 for question in group.questions if not _by_value(question, group)),
        "refused": group.refused,
        "acts": bool(group.operations),
        "mine": may,
        "approvers": list(group.approvers),
        "open": can_decide(group, reviewer, {})
        if reviewer
        else bool(group.operations and not group.refused),
    }


def _by_value(question: str, group: PlannedGroup) -> bool:
    """Whether choosing a field's value answers a question: one of a field, an owner, a licence."""
    names = [one.field for one in group.fields if one.conflict]
    return any(question.startswith(f"{name}: ") for name in names) or (
        bool(names) and question.startswith(("owner differs: ", "licence differs: "))
    )


def _field(merged: FieldMerge) -> list[Any]:
    """Field, what the keeper had, what it gets, what the others have, rule, conflict."""
    others: dict[str, int] = {}
    for value in merged.others.values():
        others[_short(value)] = others.get(_short(value), 0) + 1
    return [
        merged.field,
        None if merged.had is None else _short(merged.had),
        None if merged.kept is None else _short(merged.kept),
        list(others.items())[:_RELATED],
        merged.rule,
        merged.conflict,
    ]


def _short(value: str) -> str:
    return value if len(value) <= _LONG else value[:_LONG] + "…"
