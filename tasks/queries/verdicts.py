"""Verdicts: a person's word on a pair of assets, kept for all later scans."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.csv_cells import read_table, unescape_cell
from tasks.dedup.verdicts import VERDICTS, WITHDRAWN
from tasks.errors import MergeError
from tasks.queries.sequence import next_sequence
from tasks.records import digest, now
from tasks.requests import VerdictRequest
from tasks.session import open_catalog, pa_table
from tasks.settings import Settings

_COLUMNS = [
    "sequence",
    "source",
    "left_asset",
    "right_asset",
    "left_key",
    "right_key",
    "left",
    "right",
    "verdict",
    "by",
    "channel",
    "comment",
    "at",
]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One pair as a person names it, by keys or asset ids."""

    left: str
    right: str
    verdict: str
    comment: str = ""


def record_verdicts(
    settings: Settings, verdicts: Iterable[Verdict], *, by: str, channel: str = "cli"
) -> int:
    """Add verdicts; all of them or, when one is wrong, none.

    Raises:
        MergeError: naming every pair that is wrong.
    """
    if not by.strip():
        raise MergeError("say who says so (--by NAME): it is written into the audit")
    catalog = open_catalog(settings)
    wanted = list(verdicts)
    names = {name for verdict in wanted for name in (verdict.left, verdict.right)}
    known = _assets(catalog, names)
    complaints, rows = [], []
    for number, verdict in enumerate(wanted, 1):
        why, row = _row(verdict, known)
        if why:
            complaints.append(f"pair {number}: {why}")
        else:
            rows.append(
                row
                | {
                    "by": " ".join(by.split()),
                    "channel": channel,
                    "at": now(),
                }
            )
    if complaints:
        raise MergeError("no verdict was recorded:\n  " + "\n  ".join(complaints[:50]))
    with catalog.writing(settings.catalog.busy_seconds):
        for number, row in enumerate(rows, next_sequence(catalog)):
            row["sequence"] = number
            row["verdict_id"] = digest(
                str(row["left_asset"]), str(row["right_asset"]), str(row["sequence"])
            )
        catalog.upsert("verdicts", pa_table(rows, schema.VERDICTS))
    return len(rows)


def withdraw_verdicts(
    settings: Settings,
    assets: Collection[str],
    *,
    said_by: str,
    by: str,
    channel: str,
    after: int = 0,
) -> int:
    """Take back what one person said of pairs among some assets, where it is still the last word.

    The verdicts stay in the catalog, for the audit; a row after each says that it no longer holds.

    Args:
        settings: where the catalog is.
        assets: ids; of a pair, both must be among them.
        said_by: whose verdicts.
        by: who takes them back.
        channel: the channel that the verdicts came through, and that of the withdrawal.
        after: only verdicts of a higher sequence number.

    Returns:
        How many were taken back.
    """
    catalog = open_catalog(settings)
    inside = pl.col("left_asset").is_in(list(assets)) & pl.col("right_asset").is_in(list(assets))
    pair = ["left_asset", "right_asset", "left", "right"]
    with catalog.writing(settings.catalog.busy_seconds):
        last = read_verdicts(catalog).filter(inside).sort("sequence").unique(pair, keep="last")
        mine = last.filter(
            (pl.col("by") == said_by)
            & (pl.col("channel") == channel)
            & (pl.col("verdict") != WITHDRAWN)
            & (pl.col("sequence") > after)
        )
        rows = mine.sort("sequence").to_dicts()
        for number, row in enumerate(rows, next_sequence(catalog) if rows else 0):
            row |= {"sequence": number, "verdict": WITHDRAWN, "by": by, "at": now(), "comment": ""}
            row["verdict_id"] = digest(row["left_asset"], row["right_asset"], str(number))
        if rows:
            catalog.upsert("verdicts", pa_table(rows, schema.VERDICTS))
    return len(rows)


def verdicts_on_group(
    catalog: Catalog, name: str, verdict: str, comment: str = ""
) -> list[Verdict]:
    """The same verdict on every pair of a group, for no scan to propose any of them again.

    Said of the keeper and each of the others alone, the others would come back as a group of their
    own.

    Args:
        catalog: where the scans are.
        name: the group's id, or its first letters; of the last scan that has it.
        verdict: what is said.
        comment: why.

    Raises:
        MergeError: when there is no such group, or several that begin so.
    """
    wanted = f"starts_with(group_id, {quote(name.strip().lower())})"
    rows = catalog.read("groups", ["scan_id", "group_id", "asset_id"], wanted)
    ids = rows["group_id"].unique()
    if len(ids) != 1:
        raise MergeError(f"{len(ids) or 'no'} groups begin with {name!r}")
    order = catalog.read("scans", ["scan_id", "started"]).sort("started")
    last = order.join(rows, on="scan_id", how="semi")["scan_id"][-1]
    members = sorted(rows.filter(scan_id=last)["asset_id"])
    return [Verdict(*pair, verdict, comment) for pair in itertools.combinations(members, 2)]


def give_verdict(settings: Settings, request: VerdictRequest) -> int:
    """Record the verdict of a form of the Prefect UI."""
    one = Verdict(request.left, request.right, request.verdict.value, request.comment)
    return record_verdicts(settings, [one], by=request.given_by, channel="prefect")


def read_verdicts(catalog: Catalog, source: str = "") -> pl.DataFrame:
    """All verdicts ever given, in order; of one source, or of all."""
    return catalog.read("verdicts", _COLUMNS, f"source = {quote(source)}" if source else "")


def parse_verdicts(data: bytes | str) -> list[Verdict]:
    """Verdicts from CSV with the columns left, right, verdict and perhaps comment.

    The report's pairs.csv with a column ``verdict`` added is such a file, in whatever form a
    spreadsheet program saved it (``tasks.csv_cells.read_table``); rows without a verdict are left
    out. As in every CSV file of this program, one leading apostrophe of a cell is none of its text.

    Raises:
        MergeError: when a column is missing, or it is no text.
    """
    table = data.encode() if isinstance(data, str) else data
    try:
        return [
            Verdict(
                unescape_cell(row["left"] or ""),
                unescape_cell(row["right"] or ""),
                row["verdict"].strip().lower(),
                unescape_cell(row.get("comment") or ""),
            )
            for row in read_table(table, {"left", "right", "verdict"})
            if (row["verdict"] or "").strip()
        ]
    except (ValueError, csv.Error) as error:
        raise MergeError(f"the verdicts cannot be read: {error}") from error


def _assets(catalog: Catalog, names: set[str]) -> dict[str, list[tuple[str, str, str, str]]]:
    """From each name (key or asset id) to the assets that have it: id, source, key, content."""
    columns = ["asset_id", "source", "key", "content", "removed_at"]
    ordered = sorted(names)
    found: dict[str, list[tuple[str, str, str, str]]] = {}
    for start in range(0, len(ordered), 500):
        listed = ", ".join(quote(name) for name in ordered[start : start + 500])
        rows = catalog.read("assets", columns, f"key IN ({listed}) OR asset_id IN ({listed})")
        for row in rows.filter(pl.col("content").is_not_null()).iter_rows(named=True):
            for name in {row["key"], row["asset_id"]} & names:
                found.setdefault(name, []).append(
                    (row["asset_id"], row["source"], row["key"], row["content"])
                )
    return found


def _row(
    verdict: Verdict, known: dict[str, list[tuple[str, str, str, str]]]
) -> tuple[str, dict[str, object]]:
    if verdict.verdict not in VERDICTS:
        return f"{verdict.verdict!r} is none of {', '.join(VERDICTS)}", {}
    sides = []
    for name in (verdict.left, verdict.right):
        assets = known.get(name, [])
        if not assets:
            return f"the catalog knows no picture {name!r}", {}
        if len(assets) > 1:
            return f"{name!r} is in several sources: give its asset id", {}
        sides.append(assets[0])
    left, right = sorted(sides)
    if left[0] == right[0]:
        return f"{left[2]!r} is one asset, not two", {}
    if left[1] != right[1]:
        return "the two are in different sources", {}
    return "", {
        "source": left[1],
        "left_asset": left[0],
        "right_asset": right[0],
        "left_key": left[2],
        "right_key": right[2],
        "left": left[3],
        "right": right[3],
        "verdict": verdict.verdict,
        "comment": verdict.comment.strip()[:2000],
    }
